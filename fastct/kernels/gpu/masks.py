"""Bit-row masks on a GPU: a launch does all slices; small tables of counts come back to the host."""

from typing import Any

import numpy as np

from fastct import device
from fastct.errors import ArrayError
from fastct.kernels.gpu.pieces import (
    count_rings,
    counts_inside,
    fill_holes,
    find_pieces,
    histograms,
    overlaps,
    paint,
    reach_down,
)
from fastct.kernels.gpu.stacks import THREADS, WORD_BITS, check_size, over_words, volume_table

__all__ = [
    "count_rings",
    "counts_inside",
    "fill_holes",
    "find_pieces",
    "histograms",
    "overlaps",
    "paint",
    "reach_down",
]

WORDS_OF_A_BLOCK = 16 * THREADS[0]  # that `count` goes through
COLUMN_ROWS = 63  # that a thread of `column_counts` goes through
SHARE_ROWS = 32  # that a thread of `share_above` goes through
MEAN_BINS = 276
WORD_BYTES = WORD_BITS // 8
EXTENT_INTS, SPAN_INTS = 4, 4  # `Extent` and `Span` in contours.cu
MOST_CUT_COLUMNS = 2048  # their costs lie in the memory that the threads of a block share

# A cut to be made: `Cut` in cut.cu.
CUT = np.dtype(
    [
        ("hu", np.uint64),
        ("mask", np.uint64),
        ("strides", np.int64, 2),
        ("rows", np.int32, 2),
        ("first_column", np.int32),
        ("columns", np.int32),
    ]
)


def pack_below(hu: Any, levels: Any) -> Any:
    """As the CPU's twin."""
    slices, rows, columns = hu.shape
    words = -(-columns // WORD_BITS)
    out = device.empty_beside(hu, (len(levels), slices, rows, words), np.uint64)
    check_size(out)
    table, blocks = volume_table(hu, words * WORD_BYTES)
    level_bytes = np.int64(slices * rows * words * WORD_BYTES)
    arguments = (*table, levels, np.int32(len(levels)), np.int32(words), level_bytes, out)
    device.launch("masks", "pack_below", blocks, THREADS, arguments, beside=hu)
    return out


def pack_label(labels: Any, label: int) -> Any:
    """As the CPU's twin."""
    slices, rows, columns = labels.shape
    out = device.empty_beside(labels, (slices, rows, -(-columns // WORD_BITS)), np.uint64)
    check_size(out)
    _label("pack_label", labels, label, out)
    return out


def place(bits: Any, beside: Any) -> Any:
    """As the CPU's twin."""
    return device.copy_beside(beside, bits)


def unpack_label(mask: Any, label: int, out: Any) -> None:
    """As the CPU's twin."""
    _label("unpack_label", out, label, mask)


def _label(kernel: str, labels: Any, label: int, mask: Any) -> None:
    words = mask.shape[2]
    table, blocks = volume_table(labels, words * WORD_BYTES)
    arguments = (*table, np.int32(label), np.int32(words), mask)
    device.launch("masks", kernel, blocks, THREADS, arguments, beside=labels)


def dilate(mask: Any, half_width: Any) -> Any:
    """As the CPU's twin."""
    return _border_moved("dilate", mask, half_width)


def erode(mask: Any, half_width: Any) -> Any:
    """As the CPU's twin."""
    return _border_moved("erode", mask, half_width)


def _border_moved(kernel: str, mask: Any, half_width: Any) -> Any:
    """A shape for all slices."""
    _, rows, words = mask.shape
    out = device.empty_beside(mask, mask.shape, np.uint64)
    shape = (half_width, np.int32(len(half_width)), np.int32(0))
    over_words("masks", kernel, mask, (mask, *shape, np.int32(rows), np.int32(words), np.int32(mask.size), out))
    return out


def count(mask: Any) -> Any:
    """As the CPU's twin."""
    slices, rows, words = mask.shape
    counts = device.zeros_beside(mask, (slices,), np.int64)
    parts = -(-rows * words // WORDS_OF_A_BLOCK)
    arguments = (mask, np.int32(rows * words), np.int32(parts), counts)
    device.launch("masks", "count", slices * parts, THREADS, arguments, beside=mask)
    return device.to_host(counts)


def column_counts(mask: Any) -> Any:
    """As the CPU's twin."""
    slices, rows, words = mask.shape
    counts = device.zeros_beside(mask, (words * WORD_BITS,), np.int64)
    blocks = -(-(-(-slices * rows // COLUMN_ROWS) * words) // THREADS[0])
    arguments = (mask, np.int32(slices * rows), np.int32(words), counts)
    device.launch("masks", "column_counts", blocks, THREADS, arguments, beside=mask)
    return device.to_host(counts)


def occupied(mask: Any) -> tuple[Any, Any]:
    """As the CPU's twin."""
    _, rows, words = mask.shape
    marks = device.zeros_beside(mask, (rows + words,), np.uint8)
    over_words("masks", "occupied", mask, (mask, np.int32(rows), np.int32(words), np.int32(mask.size), marks))
    found = device.to_host(marks) > 0
    return found[:rows], found[rows:]


def accumulate(mask: Any, downwards: bool) -> Any:
    """As the CPU's twin."""
    slices, rows, words = mask.shape
    out = device.empty_beside(mask, mask.shape, np.uint64)
    blocks = -(-rows * words // THREADS[0])
    arguments = (mask, np.int32(slices), np.int32(rows * words), np.int32(downwards), out)
    device.launch("masks", "accumulate", blocks, THREADS, arguments, beside=mask)
    return out


def hull(right: Any, left: Any) -> tuple[Any, Any]:
    """As the CPU's twin."""
    slices, rows, words = right.shape
    inside, chords = (device.empty_beside(right, right.shape, np.uint64) for _ in range(2))
    extents = _extents(right, left)
    spans = device.empty_beside(right, (slices * rows, SPAN_INTS), np.int32)
    chains = device.empty_beside(right, (2 * slices, rows), np.int32)
    ends = device.empty_beside(right, (slices, 2), np.int32)
    size = (np.int32(rows), np.int32(words))
    drawn = (extents, right, np.int32(slices), *size, chains, spans, ends)
    device.launch("contours", "hull_sides", -(-2 * slices // THREADS[0]), THREADS, drawn, beside=right)
    over_words("contours", "hull_draw", right, (spans, ends, right, *size, np.int32(right.size), inside, chords))
    return inside, chords


def _extents(right: Any, left: Any) -> Any:
    """First and last pixel of each row of either mask, and which of them it holds: `Extent` in contours.cu."""
    slices, rows, words = right.shape
    extents = device.empty_beside(right, (slices * rows, EXTENT_INTS), np.int32)
    arguments = (right, left, np.int32(words), np.int32(slices * rows), extents)
    device.launch("contours", "hull_extents", -(-slices * rows // THREADS[0]), THREADS, arguments, beside=right)
    return extents


def heights(mask: Any, directions: Any) -> Any:
    """As the CPU's twin."""
    slices, rows, _ = mask.shape
    found = device.empty_beside(mask, (slices, len(directions)), np.int64)
    sizes = (np.int32(slices), np.int32(rows), directions, np.int32(len(directions)))
    blocks = -(-slices * len(directions) // THREADS[0])
    device.launch("contours", "outline_heights", blocks, THREADS, (_extents(mask, mask), *sizes, found), beside=mask)
    return device.to_host(found)


def draw_convex(heights: Any, directions: Any, mask: Any) -> Any:
    """As the CPU's twin."""
    slices, rows, words = mask.shape
    out = device.empty_beside(mask, mask.shape, np.uint64)
    sizes = map(np.int32, (slices * rows, rows, words))
    arguments = (heights, *sizes, directions, np.int32(len(directions)), out)
    device.launch("contours", "outline_draw", -(-slices * rows // THREADS[0]), THREADS, arguments, beside=mask)
    return out


def cut(hu: Any, mask: Any, rows: tuple[int, int], first_column: int, drift: Any) -> None:
    """As the CPU's twin."""
    columns, height = len(drift), rows[1] - rows[0]
    if columns > MOST_CUT_COLUMNS:
        finding = f"the cut looks at {columns} columns, more than {MOST_CUT_COLUMNS}"
        raise ArrayError("hu", finding, "Score volumes with pixels this small on the CPU")
    own = np.zeros(1, CUT)
    own["hu"], own["mask"] = device.address(hu), device.address(mask)
    own["strides"] = [stride // hu.itemsize for stride in hu.strides[1:]]
    own["rows"], own["first_column"], own["columns"] = rows, first_column, columns
    steps = device.empty_beside(mask, (height, columns), np.int8)
    arguments = (own.view(np.uint8), drift, np.int32(mask.shape[2]), np.int64(height * columns), steps)
    device.launch("cut", "cut_slices", 1, THREADS, arguments, beside=mask)


def mean_histograms(hu: Any, mask: Any, reach: tuple[int, int]) -> Any:
    """As the CPU's twin."""
    counts = device.zeros_beside(mask, (mask.shape[1], MEAN_BINS), np.int32)
    table, blocks = volume_table(hu, mask.shape[2] * WORD_BYTES)
    arguments = (*table, mask, np.int32(mask.shape[2]), *map(np.int32, reach), counts)
    device.launch("windows", "means_histograms", blocks, THREADS, arguments, beside=mask)
    return device.to_host(counts)


def means_above(hu: Any, mask: Any, reach: tuple[int, int], levels: Any) -> Any:
    """As the CPU's twin."""
    out = device.empty_beside(mask, (len(levels), *mask.shape), np.uint64)
    table, blocks = volume_table(hu, mask.shape[2] * WORD_BYTES)
    sizes = (np.int32(mask.shape[2]), *map(np.int32, reach))
    arguments = (*table, mask, *sizes, levels, np.int32(len(levels)), np.int64(mask.nbytes), out)
    device.launch("windows", "means_above", blocks, THREADS, arguments, beside=mask)
    return out


def share(part: Any, whole: Any, tenths: int, reach: tuple[int, int]) -> Any:
    """As the CPU's twin."""
    slices, rows, words = part.shape
    out = device.empty_beside(part, part.shape, np.uint64)
    blocks = -(-slices * -(-rows // SHARE_ROWS) * words * WORD_BYTES // THREADS[0])
    arguments = (part, whole, *map(np.int32, (*part.shape, tenths, *reach)), out)
    device.launch("windows", "share_above", blocks, THREADS, arguments, beside=part)
    return out
