"""Connected pieces of a stack's bit rows on a GPU: their labels, measures and counts stay there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastct import device
from fastct.kernels.gpu.stacks import THREADS, Stack

SLOTS = 32  # of a word: places where runs may start
MEASURES = 7  # of a piece
BINS = 128
BLOCKS = 2048  # that go through pieces when nobody on the host knows how many there are

# `Pieces` in pieces.h.
PIECES = np.dtype([("tables", np.uint64, 4), ("places", np.int32), ("unused", np.int32)])
# `Pairs` in pairs.h.
PAIRS = np.dtype([("tables", np.uint64, 2), ("places", np.int32), ("unused", np.int32)])


class PiecesOfStack:
    """The pieces of a stack's mask, numbered in the order of their first pixels: a table of `places` rows.

    Where there are more, those beyond are lost, and their study is marked in `faults` (studies,).
    """

    def __init__(self, stack: Stack, mask: Any, places: int, faults: Any, through: bool = False) -> None:
        slices, rows, words = stack.shape
        self.stack, self.mask, self.places, self.faults = stack, mask, places, faults
        self._labels, counts = join_runs(stack, mask, through)
        self._ends = counts.cumsum(dtype=np.int32)
        self.measures = device.empty_beside(mask, (places + 1, MEASURES), np.int64)
        own = np.zeros(1, PIECES)
        own["tables"] = [device.address(table) for table in (mask, self._labels, self.measures, self._ends)]
        own["places"] = places
        self.table = device.copy_beside(mask, own.view(np.uint8))
        numbered = (mask, words, slices * rows, counts, self._ends, self._labels, places, self.measures)
        stack.launch("pieces", "pieces_number", -(-slices * rows // THREADS[0]), *numbered)
        stack.over_words("pieces", "pieces_measure", stack, self.table, faults)

    @property
    def areas(self) -> Any:
        """Pixels of each piece; nothing where the table has no piece."""
        return self.measures[:-1, 1]

    def over_pieces(self, module: str, kernel: str, *arguments: Any) -> None:
        """Launch a thread for every place of the table."""
        self.stack.launch(module, kernel, -(-self.places // THREADS[0]), self.stack, self, *arguments)

    def per_piece(self, dtype: Any, columns: int = 1) -> Any:
        """Zeros, one or more for each piece."""
        return self.stack.zeros((self.places, columns) if columns > 1 else (self.places,), dtype)

    def paint(self, chosen: Any) -> Any:
        """The mask of the chosen pieces, uint8."""
        out = self.stack.empty()
        self.stack.over_words("pieces", "pieces_paint", self.stack, self, chosen, out)
        return out

    def count_inside(self, other: Any) -> Any:
        """How many pixels of each piece are set in another mask."""
        counts = self.per_piece(np.int64)
        self.stack.over_words("pieces", "pieces_count_inside", self.stack, self, other, counts)
        return counts

    def histograms(self, volumes: Sequence[Any]) -> Any:
        """HU histograms (places, 128) of every other row and pixel."""
        counts = self.per_piece(np.int32, BINS)
        table, blocks = self.stack.volumes(volumes, self.stack.shape[2])
        self.stack.launch("pieces", "pieces_histograms", blocks, *table, self.stack, self, counts)
        return counts

    def overlaps(self, places: int) -> "Pairs":
        """Pieces of slices over each other, and the pixels that they share."""
        pairs = Pairs(self.stack, places)
        self.stack.over_words("pairs", "pairs_overlaps", self.stack, self, pairs, self.faults)
        return pairs

    def count_rings(self, wanted: Any, inner: Any, outer: Any, other: Any) -> Any:
        """Around each wanted piece, between two shapes of its study: pixels, and those set in another mask."""
        counts = self.per_piece(np.int64, 2)
        shapes = (inner, inner.shape[1], outer, outer.shape[1])
        blocks = min(self.places, BLOCKS)
        self.stack.launch("pairs", "pairs_rings", blocks, self.stack, self, wanted, *shapes, other, counts)
        return counts

    def reach_down(self, wanted: Any, shapes: Any, places: int) -> "Pairs":
        """Wanted pieces over each other when the upper is grown by its study's shape, and the pixels."""
        pairs = Pairs(self.stack, places)
        arguments = (self.stack, self, wanted, shapes, shapes.shape[1], pairs, self.faults)
        self.stack.launch("pairs", "pairs_below", min(self.places, BLOCKS), *arguments)
        return pairs


class Pairs:
    """Pairs of pieces: for each slice an open table of `places` keys, made of the upper and the lower, and pixels."""

    def __init__(self, stack: Stack, places: int) -> None:
        self.keys = stack.zeros((stack.shape[0], places), np.uint64)
        self.pixels = stack.zeros((stack.shape[0], places), np.int32)
        own = np.zeros(1, PAIRS)
        own["tables"], own["places"] = [device.address(self.keys), device.address(self.pixels)], places
        self.table = device.copy_beside(stack.beside, own.view(np.uint8))


def join_runs(stack: Stack, mask: Any, through: bool) -> tuple[Any, Any]:
    """A label for each run, that of its piece's first one, and how many of these each row has."""
    slices, rows, words = stack.shape
    labels = device.empty_beside(mask, (stack.size, SLOTS), np.int32)
    counts = stack.zeros((slices * rows,), np.int32)
    stack.over_words("pieces", "pieces_start", mask, words, stack.size, labels)
    stack.over_words("pieces", "pieces_join", stack, mask, int(through), labels)
    stack.over_words("pieces", "pieces_settle", mask, words, stack.size, labels, counts)
    return labels, counts


def fill_holes(stack: Stack, mask: Any) -> Any:
    """Each slice with what it encloses: background (4-connected) that does not reach its frame."""
    gaps, out = stack.empty(), stack.empty()
    stack.over_words("pieces", "holes_gaps", stack, mask, gaps)
    labels, _ = join_runs(stack, gaps, through=False)
    stack.over_words("pieces", "holes_mark", stack, gaps, labels)
    stack.over_words("pieces", "holes_fill", stack, gaps, labels, out)
    return out
