"""Bit-row masks on the CPU: allocate, then run the compiled loops."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastct._ext import masks as loops
from fastct._ext import windows

if TYPE_CHECKING:
    from fastct.kernels.masks import Pieces

Bits = NDArray[np.uint64]
WORD_BITS = 64
MEASURES = 7  # of a piece
BINS = 128
MEAN_BINS = 276


def pack_below(hu: NDArray[np.int16], levels: NDArray[np.int16]) -> Bits:
    slices, rows, columns = hu.shape
    out = np.empty((len(levels), slices, rows, -(-columns // WORD_BITS)), np.uint64)
    loops.pack_below(hu, levels, out)
    return out


def pack_label(labels: NDArray[np.uint8], label: int) -> Bits:
    slices, rows, columns = labels.shape
    out = np.empty((slices, rows, -(-columns // WORD_BITS)), np.uint64)
    loops.pack_label(labels, label, out)
    return out


def place(bits: Bits, beside: Bits) -> Bits:  # noqa: ARG001  a GPU's twin looks there
    return bits


def unpack_label(mask: Bits, label: int, out: NDArray[np.uint8]) -> None:
    loops.unpack_label(mask, label, out)


def dilate(mask: Bits, half_width: NDArray[np.int32]) -> Bits:
    out = np.empty_like(mask)
    loops.dilate(mask, half_width, out)
    return out


def erode(mask: Bits, half_width: NDArray[np.int32]) -> Bits:
    out = np.empty_like(mask)
    loops.erode(mask, half_width, out)
    return out


def count(mask: Bits) -> NDArray[np.int64]:
    out = np.empty(len(mask), np.int64)
    loops.count(mask, out)
    return out


def fill_holes(mask: Bits) -> Bits:
    out = mask.copy()
    loops.fill_holes(out)
    return out


def column_counts(mask: Bits) -> NDArray[np.int64]:
    out = np.empty(mask.shape[2] * WORD_BITS, np.int64)
    loops.column_counts(mask, out)
    return out


def occupied(mask: Bits) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    flat = np.bitwise_or.reduce(mask, axis=0)
    return flat.any(axis=1), flat.any(axis=0)


def accumulate(mask: Bits, downwards: bool) -> Bits:
    step = -1 if downwards else 1
    bits: Bits = np.bitwise_or.accumulate(mask[::step], axis=0)[::step]
    return bits


def find_pieces(mask: Bits, through: bool) -> tuple[tuple[NDArray[np.int32], NDArray[np.int32]], NDArray[np.int64]]:
    """The pieces' runs, a row (from, to, piece) each, the first run of each row of the mask, and the table."""
    slices, rows, _ = mask.shape
    runs = np.empty((loops.count_runs(mask), 3), np.int32)
    starts = np.empty(slices * rows + 1, np.int32)
    loops.find_runs(mask, runs, starts)
    table = np.empty((loops.label(runs, starts, slices, through), MEASURES), np.int64)
    loops.measure(runs, starts, slices, table)
    return (runs, starts), table


def _runs(pieces: "Pieces") -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    runs, starts = pieces.parts
    return runs, starts


def paint(pieces: "Pieces", chosen: NDArray[np.uint8]) -> Bits:
    out = np.zeros(pieces.shape, np.uint64)
    loops.paint(*_runs(pieces), chosen, out)
    return out


def counts_inside(pieces: "Pieces", others: Sequence[Bits]) -> NDArray[np.int64]:
    counts = np.zeros((len(others), len(pieces)), np.int64)
    for other, row in zip(others, counts, strict=True):
        loops.count_inside(*_runs(pieces), other, row)
    return counts


def histograms(pieces: "Pieces", hu: NDArray[np.int16]) -> NDArray[np.int32]:
    counts = np.zeros((len(pieces), BINS), np.int32)
    loops.histograms(*_runs(pieces), hu, counts)
    return counts


def overlaps(pieces: "Pieces") -> NDArray[np.int64]:
    return _triples(loops.overlaps(*_runs(pieces), pieces.shape[0]))


def count_rings(
    pieces: "Pieces",
    wanted: NDArray[np.uint8],
    shapes: tuple[NDArray[np.int32], NDArray[np.int32]],
    mask: Bits,
) -> NDArray[np.int64]:
    counts = np.zeros((len(pieces), 2), np.int64)
    loops.count_rings((*_runs(pieces), pieces.table), wanted, shapes, mask, counts)
    return counts


def reach_down(pieces: "Pieces", wanted: NDArray[np.uint8], half_width: NDArray[np.int32]) -> NDArray[np.int64]:
    slices, _, words = pieces.shape
    return _triples(loops.reach_down((*_runs(pieces), pieces.table), wanted, half_width, slices, words))


def _triples(overlaps: bytes) -> NDArray[np.int64]:
    """Rows (upper, lower, pixels) of overlaps, which C++ lays out as it meets them, in order."""
    found = np.frombuffer(overlaps, [("upper", "i4"), ("lower", "i4"), ("pixels", "i8")])
    found = found[np.lexsort((found["lower"], found["upper"]))]
    return np.stack([found["upper"], found["lower"], found["pixels"]], axis=1).astype(np.int64)


def hull(right: Bits, left: Bits) -> tuple[Bits, Bits]:
    inside, chords = np.zeros_like(right), np.zeros_like(right)
    loops.hull(right, left, inside, chords)
    return inside, chords & inside  # chords are drawn as connected steps, half of them outside


def heights(mask: Bits, directions: NDArray[np.int32]) -> NDArray[np.int64]:
    out = np.empty((len(mask), len(directions)), np.int64)
    loops.heights(mask, directions, out)
    return out


def draw_convex(heights: NDArray[np.int64], directions: NDArray[np.int32], mask: Bits) -> Bits:
    out = np.empty(mask.shape, np.uint64)
    loops.draw_convex(heights, directions, out)
    return out


def cut(hu: NDArray[np.int16], mask: Bits, rows: tuple[int, int], first_column: int, drift: NDArray[np.int32]) -> None:
    loops.cut(hu, mask, *rows, first_column, drift)


def mean_histograms(hu: NDArray[np.int16], mask: Bits, reach: tuple[int, int]) -> NDArray[np.int32]:
    counts = np.zeros((mask.shape[1], MEAN_BINS), np.int32)
    windows.mean_histograms(hu, mask, *reach, counts)
    return counts


def means_above(hu: NDArray[np.int16], mask: Bits, reach: tuple[int, int], levels: NDArray[np.int16]) -> Bits:
    out = np.empty((len(levels), *mask.shape), np.uint64)
    windows.means_above(hu, mask, *reach, levels, out)
    return out


def share(part: Bits, whole: Bits, tenths: int, reach: tuple[int, int]) -> Bits:
    out = np.empty_like(part)
    windows.share(part, whole, tenths, *reach, out)
    return out
