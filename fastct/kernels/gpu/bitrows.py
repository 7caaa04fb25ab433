"""Bit rows of a stack of studies on a GPU: a launch does all slices of all of them, and nothing comes to the host."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastct.errors import ArrayError
from fastct.kernels.gpu.stacks import THREADS, WORD_BITS, WORD_BYTES, Stack

WORDS_OF_A_BLOCK = 16 * THREADS[0]  # that `count` goes through
COLUMN_ROWS = 63  # that a thread of `column_counts` goes through
SHARE_ROWS = 32  # that a thread of `share_above` goes through
MEAN_BINS = 276
EXTENT_INTS, SPAN_INTS = 4, 4  # `Extent` and `Span` in contours.cu
MOST_CUT_COLUMNS = 2048  # their costs lie in the memory that the threads of a block share


def pack_below(stack: Stack, volumes: Sequence[Any], levels: Any) -> Any:
    """Bit masks (level, z, y, words) of where HU lie below each level; what pads a slice counts as air."""
    out = stack.zeros((len(levels), *stack.shape), np.uint64)
    table, blocks = stack.volumes(volumes, stack.shape[2] * WORD_BYTES)
    _, rows, words = stack.shape
    level_bytes = np.int64(stack.size * WORD_BYTES)
    stack.launch("masks", "pack_below", blocks, *table, levels, len(levels), rows, words, level_bytes, out)
    return out


def pack_label(stack: Stack, labels: Sequence[Any], label: int) -> Any:
    """Bit mask of where labels are `label`; for 0, where they are not 0."""
    out = stack.empty()
    _label(stack, "pack_label", labels, label, out)
    return out


def unpack_label(stack: Stack, mask: Any, label: int, outs: Sequence[Any]) -> None:
    """Write `label` where the mask is set."""
    _label(stack, "unpack_label", outs, label, mask)


def _label(stack: Stack, kernel: str, labels: Sequence[Any], label: int, mask: Any) -> None:
    table, blocks = stack.volumes(labels, stack.shape[2] * WORD_BYTES)
    stack.launch("masks", kernel, blocks, *table, label, *stack.shape[1:], mask)


def dilate(stack: Stack, mask: Any, shapes: Any) -> Any:
    """Each slice grown by its study's shape, a row of `shapes`: half widths, none where they are negative."""
    return _border_moved(stack, "dilate", mask, shapes)


def erode(stack: Stack, mask: Any, shapes: Any) -> Any:
    """Each slice shrunk by its study's shape; beyond the frame is empty."""
    return _border_moved(stack, "erode", mask, shapes)


def _border_moved(stack: Stack, kernel: str, mask: Any, shapes: Any) -> Any:
    out = stack.empty()
    stack.over_words("masks", kernel, stack, mask, shapes, shapes.shape[1], out)
    return out


def open_slices(stack: Stack, mask: Any, shapes: Any) -> Any:
    """What of each slice holds the whole shape."""
    return dilate(stack, erode(stack, mask, shapes), shapes)


def close_slices(stack: Stack, mask: Any, shapes: Any) -> Any:
    """The mask with gaps and notches that do not hold the shape."""
    return mask | erode(stack, dilate(stack, mask, shapes), shapes)


def count(stack: Stack, mask: Any) -> Any:
    """Set pixels of each slice."""
    slices, rows, words = stack.shape
    counts = stack.zeros((slices,), np.int64)
    parts = -(-rows * words // WORDS_OF_A_BLOCK)
    stack.launch("masks", "count", slices * parts, mask, rows * words, parts, counts)
    return counts


def column_counts(stack: Stack, mask: Any) -> Any:
    """Set pixels of each column of each study, (studies, columns)."""
    slices, rows, words = stack.shape
    counts = stack.zeros((len(stack), words * WORD_BITS), np.int64)
    parts = -(-rows // COLUMN_ROWS)
    blocks = -(-slices * parts * words // THREADS[0])
    stack.launch("masks", "column_counts", blocks, stack, mask, parts, counts)
    return counts


def occupied(stack: Stack, mask: Any) -> Any:
    """Marks (studies, rows + words) of the rows, and the words of a row, that hold a pixel in any slice."""
    _, rows, words = stack.shape
    marks = stack.zeros((len(stack), rows + words), np.uint8)
    stack.over_words("masks", "occupied", stack, mask, marks)
    return marks


def bounds(stack: Stack, mask: Any) -> Stack:
    """The stack within frames that hold all of the mask, each nothing where its study is empty."""
    frames = stack.zeros((len(stack), 4), np.int32)
    blocks = -(-len(stack) // THREADS[0])
    stack.launch("masks", "bounds", blocks, stack, occupied(stack, mask), frames)
    return stack.within(frames)


def within_frames(stack: Stack, mask: Any) -> Any:
    """What of a mask lies in the frames."""
    out = stack.empty()
    stack.over_words("masks", "within_frames", stack, mask, out)
    return out


def accumulate(stack: Stack, mask: Any, downwards: bool) -> Any:
    """What is set in each slice of a study or in any below it; if `downwards`, in any above it."""
    _, rows, words = stack.shape
    out = stack.empty()
    parts = -(-rows * words // THREADS[0])
    stack.launch("masks", "accumulate", len(stack) * parts, stack, mask, parts, int(downwards), out)
    return out


def hull(stack: Stack, right: Any, left: Any) -> tuple[Any, Any]:
    """Convex hull of both lungs in each slice, and those of its chords that face the mediastinum."""
    slices, rows, words = stack.shape
    inside, chords = stack.empty(), stack.empty()
    extents = _extents(stack, right, left)
    spans = stack.zeros((slices * rows, SPAN_INTS), np.int32)
    chains = stack.zeros((2 * slices, rows), np.int32)
    ends = stack.zeros((slices, 2), np.int32)
    sides = -(-2 * slices // THREADS[0])
    stack.launch("contours", "hull_sides", sides, extents, right, slices, rows, words, chains, spans, ends)
    stack.over_words("contours", "hull_draw", spans, ends, right, rows, words, stack.size, inside, chords)
    return inside, chords


def _extents(stack: Stack, right: Any, left: Any) -> Any:
    """First and last pixel of each row of either mask, and which of them it holds: `Extent` in contours.cu."""
    slices, rows, words = stack.shape
    extents = stack.zeros((slices * rows, EXTENT_INTS), np.int32)
    blocks = -(-slices * rows // THREADS[0])
    stack.launch("contours", "hull_extents", blocks, right, left, words, slices * rows, extents)
    return extents


def heights(stack: Stack, mask: Any, directions: Any) -> Any:
    """How far each slice reaches in each direction; `directions` are (studies, directions, 2)."""
    found = stack.zeros((stack.shape[0], directions.shape[1]), np.int64)
    extents = _extents(stack, mask, mask)
    blocks = -(-found.size // THREADS[0])
    stack.launch("contours", "outline_heights", blocks, stack, extents, directions, directions.shape[1], found)
    return found


def raised(stack: Stack, heights: Any, reaches: Any) -> Any:
    """Heights, none below the line between any two slices; `reaches` are (studies, 2): step and most."""
    out = stack.zeros(heights.shape, np.int64)
    blocks = -(-out.size // THREADS[0])
    stack.launch("contours", "outline_raise", blocks, stack, heights, heights.shape[1], reaches, out)
    return out


def draw_convex(stack: Stack, heights: Any, directions: Any) -> Any:
    """The pixels no higher than `heights` in any direction."""
    out = stack.empty()
    blocks = -(-stack.shape[0] * stack.shape[1] // THREADS[0])
    stack.launch("contours", "outline_draw", blocks, stack, heights, directions, directions.shape[1], out)
    return out


def check_cut(columns: int) -> None:
    """Refuse cuts that look at more columns than fit."""
    if columns > MOST_CUT_COLUMNS:
        finding = f"the cut looks at {columns} columns, more than {MOST_CUT_COLUMNS}"
        raise ArrayError("hu", finding, "Score volumes with pixels this small on the CPU")


def mean_histograms(stack: Stack, volumes: Sequence[Any], mask: Any, reaches: Any) -> Any:
    """Histograms (studies, y, 276) of window means; `reaches` are (studies, 2) pixels to each side."""
    counts = stack.zeros((len(stack), stack.shape[1], MEAN_BINS), np.int32)
    (table, _), blocks = stack.volumes(volumes, stack.shape[2] * WORD_BYTES)
    stack.launch("windows", "means_histograms", blocks, table, stack, mask, reaches, counts)
    return counts


def means_above(stack: Stack, volumes: Sequence[Any], mask: Any, reaches: Any, levels: Any) -> Any:
    """Bit masks (level, z, y, words) of where window means exceed `levels` (studies, level, y)."""
    _, n_levels, _ = levels.shape
    out = stack.zeros((n_levels, *stack.shape), np.uint64)
    (table, _), blocks = stack.volumes(volumes, stack.shape[2] * WORD_BYTES)
    level_bytes = np.int64(stack.size * WORD_BYTES)
    arguments = (table, stack, mask, reaches, levels, n_levels, level_bytes, out)
    stack.launch("windows", "means_above", blocks, *arguments)
    return out


def share_above(stack: Stack, part: Any, whole: Any, tenths: int, reaches: Any) -> Any:
    """Where `part` exceeds tenths / 10 of `whole` in its study's window."""
    slices, rows, words = stack.shape
    out = stack.empty()
    blocks = -(-slices * -(-rows // SHARE_ROWS) * words * WORD_BYTES // THREADS[0])
    stack.launch("windows", "share_above", blocks, stack, part, whole, tenths, reaches, out)
    return out
