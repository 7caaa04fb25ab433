"""Bit-row masks on the CPU: allocate, then run the compiled loops."""

import numpy as np
from numpy.typing import NDArray

from fastct._ext import masks as loops
from fastct._ext import windows

Bits = NDArray[np.uint64]
WORD_BITS = 64
COLUMNS = 7  # of the table that `measure` fills
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


def find_runs(mask: Bits) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    spans = np.empty((max(loops.count_runs(mask), 1), 2), np.int32)
    starts = np.empty(mask.shape[0] * mask.shape[1] + 1, np.int32)
    loops.find_runs(mask, spans, starts)
    return spans, starts


def label(
    spans: NDArray[np.int32], starts: NDArray[np.int32], slices: int, through: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    piece = np.empty(len(spans), np.int32)
    table = np.empty((loops.label(spans, starts, slices, through, piece), COLUMNS), np.int64)
    loops.measure(spans, starts, piece, slices, table)
    return piece, table


def paint(
    spans: NDArray[np.int32],
    starts: NDArray[np.int32],
    piece: NDArray[np.int32],
    chosen: NDArray[np.uint8],
    shape: tuple[int, int, int],
) -> Bits:
    out = np.zeros(shape, np.uint64)
    if len(chosen):
        loops.paint(spans, starts, piece, chosen, out)
    return out


def count_inside(
    spans: NDArray[np.int32], starts: NDArray[np.int32], piece: NDArray[np.int32], mask: Bits, pieces: int
) -> NDArray[np.int64]:
    counts = np.zeros(max(pieces, 1), np.int64)
    loops.count_inside(spans, starts, piece, mask, counts)
    return counts[:pieces]


def histograms(
    hu: NDArray[np.int16],
    spans: NDArray[np.int32],
    starts: NDArray[np.int32],
    piece: NDArray[np.int32],
    pieces: int,
) -> NDArray[np.int32]:
    counts = np.zeros((max(pieces, 1), BINS), np.int32)
    loops.histograms(hu, spans, starts, piece, counts)
    return counts[:pieces]


def overlaps(
    spans: NDArray[np.int32], starts: NDArray[np.int32], piece: NDArray[np.int32], slices: int
) -> NDArray[np.int64]:
    return np.array(loops.overlaps(spans, starts, piece, slices), np.int64).reshape(-1, 3)


def hull(right: Bits, left: Bits) -> tuple[Bits, Bits]:
    inside, chords = np.zeros_like(right), np.zeros_like(right)
    loops.hull(right, left, inside, chords)
    return inside, chords & inside  # chords are drawn as connected steps, half of them outside


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


def mask_counts(lungs: NDArray[np.uint8], lesion: NDArray[np.uint8]) -> NDArray[np.int64]:
    counts = np.empty(6, np.int64)
    windows.count_masks(lungs.ravel(), lesion.ravel(), counts)
    return counts.reshape(3, 2)
