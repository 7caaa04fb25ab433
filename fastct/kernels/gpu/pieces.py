"""Connected pieces of bit rows on a GPU: labels stay there, tables of measures and counts come to the host."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastct import device
from fastct.kernels.gpu.stacks import THREADS, over_words, volume_table

if TYPE_CHECKING:
    from fastct.kernels.masks import Pieces

SLOTS = 32  # of a word: places where runs may start
MEASURES = 7  # of a piece
BINS = 128
USUAL_PIECES = 2048  # of a mask; where there are more, their table is made a second time
PLACES = 4  # of a table of pairs, for each piece, to begin with


def fill_holes(mask: Any) -> Any:
    """As the CPU's twin."""
    gaps, out = ~mask, device.empty_beside(mask, mask.shape, np.uint64)
    labels, _ = _join_runs(gaps, through=False)
    _, rows, words = map(np.int32, mask.shape)
    over_words("pieces", "holes_mark", mask, (gaps, rows, words, np.int32(mask.size), labels))
    over_words("pieces", "holes_fill", mask, (gaps, words, np.int32(mask.size), labels, out))
    return out


def find_pieces(mask: Any, through: bool) -> tuple[tuple[Any, Any, Any], Any]:
    """As the CPU's twin; what is kept are the mask, a label for each of its runs, and the table on the GPU."""
    slices, rows, words = mask.shape
    labels, counts = _join_runs(mask, through)
    ends = counts.cumsum(dtype=np.int32)
    places = USUAL_PIECES
    while True:
        table = device.empty_beside(mask, (places + 1, MEASURES), np.int64)
        arguments = (mask, np.int32(words), np.int32(slices * rows), counts, ends, labels, np.int32(places), table)
        device.launch("pieces", "pieces_number", -(-slices * rows // THREADS[0]), THREADS, arguments, beside=mask)
        sizes = (np.int32(rows), np.int32(words), np.int32(mask.size))
        over_words("pieces", "pieces_measure", mask, (mask, *sizes, labels, np.int32(places), table))
        found = device.to_host(table)
        pieces = int(found[-1, 0])
        if pieces <= places:
            return (mask, labels, table), found[:pieces]
        places = pieces


def _join_runs(mask: Any, through: bool) -> tuple[Any, Any]:
    """A label for each run, that of its piece's first one, and how many of these each row has."""
    slices, rows, words = mask.shape
    n = np.int32(mask.size)
    labels = device.empty_beside(mask, (mask.size, SLOTS), np.int32)
    counts = device.zeros_beside(mask, (slices * rows,), np.int32)
    over_words("pieces", "pieces_start", mask, (mask, np.int32(words), n, labels))
    over_words("pieces", "pieces_join", mask, (mask, np.int32(rows), np.int32(words), n, np.int32(through), labels))
    over_words("pieces", "pieces_settle", mask, (mask, np.int32(words), n, labels, counts))
    return labels, counts


def paint(pieces: "Pieces", chosen: Any) -> Any:
    """As the CPU's twin."""
    mask, labels, _ = pieces.parts
    out = device.empty_beside(mask, mask.shape, np.uint64)
    over_words(
        "pieces", "pieces_paint", mask, (mask, np.int32(mask.shape[2]), np.int32(mask.size), labels, chosen, out)
    )
    return out


def counts_inside(pieces: "Pieces", others: Sequence[Any]) -> Any:
    """As the CPU's twin."""
    mask, labels, _ = pieces.parts
    counts = device.zeros_beside(mask, (len(others), len(pieces)), np.int64)
    for other, row in zip(others, counts, strict=True):
        arguments = (mask, np.int32(mask.shape[2]), np.int32(mask.size), labels, other, row)
        over_words("pieces", "pieces_count_inside", mask, arguments)
    return device.to_host(counts)


def histograms(pieces: "Pieces", hu: Any) -> Any:
    """As the CPU's twin."""
    mask, labels, _ = pieces.parts
    counts = device.zeros_beside(mask, (len(pieces), BINS), np.int32)
    table, blocks = volume_table(hu, mask.shape[2])
    arguments = (*table, mask, np.int32(mask.shape[2]), labels, counts)
    device.launch("pieces", "pieces_histograms", blocks, THREADS, arguments, beside=mask)
    return device.to_host(counts)


def overlaps(pieces: "Pieces") -> Any:
    """As the CPU's twin."""
    mask, labels, _ = pieces.parts
    plane, n = np.int32(mask.shape[1] * mask.shape[2]), np.int32(mask.size)

    def find(table: tuple[Any, ...]) -> None:
        arguments = (mask, plane, np.int32(mask.shape[2]), n, labels, *table)
        over_words("pairs", "pairs_overlaps", mask, arguments)

    return _pairs(mask, len(pieces), find)


def count_rings(pieces: "Pieces", wanted: Any, shapes: tuple[Any, Any], other: Any) -> Any:
    """As the CPU's twin."""
    mask, labels, table = pieces.parts
    counts = device.zeros_beside(mask, (len(pieces), 2), np.int64)
    chosen = np.flatnonzero(wanted).astype(np.int32)
    sizes = [(shape, np.int32(len(shape))) for shape in shapes]
    arguments = (mask, *map(np.int32, mask.shape[1:]), labels, table, chosen, *sizes[0], *sizes[1], other, counts)
    if len(chosen):
        device.launch("pairs", "pairs_rings", len(chosen), THREADS, arguments, beside=mask)
    return device.to_host(counts)


def reach_down(pieces: "Pieces", wanted: Any, half_width: Any) -> Any:
    """As the CPU's twin."""
    mask, labels, table = pieces.parts
    chosen = np.flatnonzero(wanted).astype(np.int32)

    def find(places: tuple[Any, ...]) -> None:
        own = (mask, *map(np.int32, mask.shape[1:]), labels, table, chosen, wanted)
        if len(chosen):
            arguments = (*own, half_width, np.int32(len(half_width)), *places)
            device.launch("pairs", "pairs_below", len(chosen), THREADS, arguments, beside=mask)

    return _pairs(mask, len(chosen), find)


def _pairs(mask: Any, pieces: int, find: Any) -> Any:
    """Rows (upper piece, lower piece, pixels) in their order, from an open table that is made larger until they fit."""
    places = 1 << (PLACES * pieces + 1).bit_length()
    while True:
        table = device.zeros_beside(mask, (2, places + 1), np.int64)  # keys, then pixels
        find((table[0], table[1], np.int64(places)))
        keys, pixels = device.to_host(table)
        if not keys[-1]:
            used = np.flatnonzero(keys)
            used = used[np.argsort(keys[used])]
            upper, lower = np.divmod(keys[used] - 1, 1 << 32)
            return np.stack([upper, lower, pixels[used]], axis=1)
        places *= 4
