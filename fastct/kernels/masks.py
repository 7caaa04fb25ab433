"""Masks as bit rows: thresholds, discs, holes, pieces, hulls and counts, 64 pixels at a time.

A bit mask is uint64 (z, y, words): pixel x is bit x % 64 of word x // 64, and pixels beyond x count as
empty. Masks combine with &, | and ^ as arrays do, and are cut along z, y and words by slicing.
"""

from dataclasses import dataclass
from functools import cached_property
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import ArrayError, OptionError
from fastct.kernels import home

Bits = NDArray[np.uint64]
WORD_BITS = 64
MAX_REACH = WORD_BITS - 1  # pixels that a shape may reach to each side
BIN_FLOOR_HU, BIN_HU = -1024, 8  # bins of the histograms of pieces: 128 of 8 HU
MEAN_REACH = 2  # pixels that the window of a mean may reach to each side: its sums have 16 bits
MEAN_FLOOR_HU, MEAN_BIN_HU = -1000, 4  # bins of the histograms of window means: 276 of 4 HU


@dataclass(frozen=True, eq=False)
class Pieces:
    """The connected pieces of a bit mask, numbered in the order of their first pixels.

    `parts` are what the twin that found them knows them by, and lie where the mask lies; `table` has a row a
    piece and lies on the host, as all tables of counts do: there it is decided what becomes of the pieces.
    """

    shape: tuple[int, int, int]
    parts: tuple[NDArray[Any], ...]
    table: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def slice_index(self) -> NDArray[np.int64]:
        """(First) slice of each piece."""
        return self.table[:, 0]

    @property
    def area(self) -> NDArray[np.int64]:
        """Pixels (or voxels) of each piece."""
        return self.table[:, 1]

    @property
    def box(self) -> NDArray[np.int64]:
        """(y0, y1, x0, x1) of each piece, y1 and x1 excluded."""
        return self.table[:, 2:6]

    @cached_property
    def middle_x(self) -> NDArray[np.float64]:
        """Column of each piece's centre of mass."""
        return self.table[:, 6] / (2.0 * self.area)

    def paint(self, chosen: NDArray[np.bool_]) -> Bits:
        """The mask of the chosen pieces; `chosen` is (pieces,) bool."""
        bits: Bits = home("masks", self.parts[0]).paint(self, _flags(chosen))
        return bits

    def count_inside(self, mask: Bits) -> NDArray[np.int64]:
        """How many pixels of each piece are set in `mask`, a bit mask of the same shape."""
        counts: NDArray[np.int64] = self.counts_inside((mask,))[0]
        return counts

    def counts_inside(self, others: tuple[Bits, ...]) -> NDArray[np.int64]:
        """The same for several masks, (masks, pieces): a GPU is waited for once."""
        twin = home("masks", self.parts[0], *others)
        counts: NDArray[np.int64] = twin.counts_inside(self, [_plain(other) for other in others])
        return counts

    def histograms(self, hu: NDArray[np.int16]) -> NDArray[np.int32]:
        """HU histograms (pieces, 128) of every other row and pixel: bin b starts at -1024 + 8 b HU.

        Two pixels at both ends of each run are left out: they hold partial volume.
        """
        counts: NDArray[np.int32] = home("masks", self.parts[0], hu).histograms(self, hu)
        return counts

    def overlaps(self) -> NDArray[np.int64]:
        """Rows (upper piece, lower piece, pixels), in order, for pieces of adjacent slices over each other."""
        pairs: NDArray[np.int64] = home("masks", self.parts[0]).overlaps(self)
        return pairs

    def count_rings(
        self, wanted: NDArray[np.bool_], inner: NDArray[np.int32], outer: NDArray[np.int32], mask: Bits
    ) -> NDArray[np.int64]:
        """Around each wanted piece, between two shapes: (pieces, 2) pixels, and those set in `mask`."""
        twin = home("masks", self.parts[0], mask)
        counts: NDArray[np.int64] = twin.count_rings(self, _flags(wanted), (inner, outer), _plain(mask))
        return counts

    def reach_down(self, wanted: NDArray[np.bool_], half_width: NDArray[np.int32]) -> NDArray[np.int64]:
        """Rows (upper piece, lower piece, pixels of the lower that the upper, grown by a shape, covers), in order.

        Only of wanted pieces, of adjacent slices.
        """
        pairs: NDArray[np.int64] = home("masks", self.parts[0]).reach_down(self, _flags(wanted), half_width)
        return pairs


def _flags(chosen: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(chosen, dtype=bool).view(np.uint8)


def _plain(mask: Bits) -> Bits:
    """The mask in C order."""
    return mask if mask.flags.c_contiguous else mask.copy()


def disc(radius_mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.int32]:
    """Half widths in pixels (at most 63) of the rows 0, 1, ... of a disc, counted from its middle row.

    >>> disc(2.0, (8.0, 0.8, 0.8)).tolist()
    [2, 2, 1]
    """
    _, row_mm, pixel_mm = spacing_mm
    most = radius_mm * radius_mm + 0.01 * pixel_mm * pixel_mm  # a pixel on the circle counts, whatever the rounding
    rises_mm = [dy * row_mm for dy in range(floor(np.sqrt(most) / row_mm) + 1)]
    half = [floor(np.sqrt(max(most - rise_mm * rise_mm, 0.0)) / pixel_mm) for rise_mm in rises_mm]
    return np.minimum(half, MAX_REACH).astype(np.int32)


def pack_below(hu: NDArray[np.int16], levels_hu: tuple[int, ...]) -> Bits:
    """Bit masks (level, z, y, words) of where `hu`, int16 (z, y, x), lies below each level."""
    if hu.dtype != np.int16 or hu.ndim != 3:
        raise ArrayError("hu", f"it is {hu.dtype} with {hu.ndim} axes", "Give int16 (z, y, x)")
    bits: Bits = home("masks", hu).pack_below(hu, np.array(levels_hu, np.int16))
    return bits


def pack_label(labels: NDArray[np.uint8], label: int = 0) -> Bits:
    """Bit mask of where `labels`, uint8 (z, y, x), are `label`; for 0, where they are not 0."""
    if labels.dtype != np.uint8 or labels.ndim != 3:
        raise ArrayError("labels", f"they are {labels.dtype} with {labels.ndim} axes", "Give uint8 (z, y, x)")
    bits: Bits = home("masks", labels).pack_label(labels, label)
    return bits


def place(bits: Bits, beside: Bits) -> Bits:
    """A bit mask that was made on the host, put where another mask lies."""
    placed: Bits = home("masks", beside).place(bits, beside)
    return placed


def unpack_label(mask: Bits, label: int, out: NDArray[np.uint8]) -> None:
    """Write `label` into `out`, uint8 (z, y, x) at any strides, where the mask is set."""
    home("masks", mask, out).unpack_label(_plain(mask), label, out)


def dilate(mask: Bits, half_width: NDArray[np.int32]) -> Bits:
    """Grow each slice by a shape such as `disc` makes."""
    bits: Bits = home("masks", mask).dilate(_plain(mask), half_width)
    return bits


def erode(mask: Bits, half_width: NDArray[np.int32]) -> Bits:
    """Shrink each slice by a shape such as `disc` makes; beyond the frame is empty."""
    bits: Bits = home("masks", mask).erode(_plain(mask), half_width)
    return bits


def open_slices(mask: Bits, half_width: NDArray[np.int32]) -> Bits:
    """Keep of each slice only what holds the whole shape."""
    return dilate(erode(mask, half_width), half_width)


def close_slices(mask: Bits, half_width: NDArray[np.int32]) -> Bits:
    """Fill gaps and notches of each slice that do not hold the shape."""
    return mask | erode(dilate(mask, half_width), half_width)


def count(mask: Bits) -> NDArray[np.int64]:
    """Set pixels of each slice."""
    counts: NDArray[np.int64] = home("masks", mask).count(_plain(mask))
    return counts


def bounds(mask: Bits) -> tuple[slice, slice] | None:
    """Slices (y, words) of the frame that hold all of the mask; None where it is empty."""
    rows, words = (np.flatnonzero(marks) for marks in home("masks", mask).occupied(_plain(mask)))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(words[0]), int(words[-1]) + 1)


def columns_of(words: slice, columns: int) -> slice:
    """The columns of an array that lie in a slice of words.

    >>> columns_of(slice(2, 8), 500)
    slice(128, 500, None)
    """
    return slice(words.start * WORD_BITS, min(words.stop * WORD_BITS, columns))


def accumulate(mask: Bits, downwards: bool = False) -> Bits:
    """What is set in each slice or in any below it; if `downwards`, in any above it."""
    bits: Bits = home("masks", mask).accumulate(_plain(mask), downwards)
    return bits


def fill_holes(mask: Bits) -> Bits:
    """Fill what each slice encloses: background (4-connected) that does not reach the frame."""
    bits: Bits = home("masks", mask).fill_holes(_plain(mask))
    return bits


def column_counts(mask: Bits) -> NDArray[np.int64]:
    """Set pixels of each column of the frame, over all slices."""
    counts: NDArray[np.int64] = home("masks", mask).column_counts(_plain(mask))
    return counts


def find_pieces(mask: Bits, through_slices: bool = False) -> Pieces:
    """Connected pieces of each slice for itself (4-connected), or through all slices (26-connected)."""
    parts, table = home("masks", mask).find_pieces(_plain(mask), through_slices)
    slices, rows, words = mask.shape
    return Pieces((slices, rows, words), parts, table)


def hull(right: Bits, left: Bits) -> tuple[Bits, Bits]:
    """Convex hull of both lungs in each slice, and those of its chords that face the mediastinum.

    These lead from one lung to the other. Where a slice holds one lung only, they are all on its inner side:
    to large x from the right lung, to small x from the left.
    """
    inside, chords = home("masks", right, left).hull(_plain(right), _plain(left))
    return inside, chords


def heights(mask: Bits, directions: NDArray[np.int32]) -> NDArray[np.int64]:
    """How far each slice reaches in each direction, (z, directions): the most of y * dy + x * dx.

    `directions` has a row (dy, dx) each. A slice without pixels has -2 ** 40.
    """
    reached: NDArray[np.int64] = home("masks", mask).heights(_plain(mask), directions)
    return reached


def draw_convex(heights: NDArray[np.int64], directions: NDArray[np.int32], mask: Bits) -> Bits:
    """Of the frame of a mask, and where it lies: the pixels no higher than `heights` in any direction.

    Of the heights of a mask it makes a convex outline about each slice of it.
    """
    bits: Bits = home("masks", mask).draw_convex(np.ascontiguousarray(heights), directions, mask)
    return bits


def cut(hu: NDArray[np.int16], mask: Bits, rows: tuple[int, int], first_column: int, drift: NDArray[np.int32]) -> None:
    """Clear the cheapest path through the given rows of one slice, so that what it parts is not connected.

    `hu` (1, y, x) and `mask` (1, y, words) are one slice. A set pixel costs what it lies below 76 HU, `drift`
    (columns from `first_column` on) is added in each row, a step to the side costs 20 a pixel, two at most.
    """
    home("masks", hu, mask).cut(hu, mask, rows, first_column, drift)


def reach(size_mm: float, spacing_mm: tuple[float, float, float], most: int) -> tuple[int, int]:
    """Pixels (y, x) to each side that a window reaching `size_mm` takes, at most `most`.

    >>> reach(4.5, (8.0, 0.8, 0.8), 12)
    (6, 6)
    """
    _, rows, columns = (min(floor(size_mm / step + 0.5), most) for step in spacing_mm)
    return rows, columns


def square(size_mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.int32]:
    """A rectangle reaching `size_mm` to each side, as a shape for `dilate` and `erode`."""
    rows, columns = reach(size_mm, spacing_mm, MAX_REACH)
    return np.full(rows + 1, columns, np.int32)


def mean_histograms(hu: NDArray[np.int16], mask: Bits, window: tuple[int, int]) -> NDArray[np.int32]:
    """Histograms (y, 276) of the mean HU around pixels of the mask, every other one of every other row.

    The mean is over the mask's pixels within `window` (y, x) pixels to each side, at most 2, in the slice,
    of HU held to -1000 .. 100; bin b starts at -1000 + 4 b HU.
    """
    _check_mean_window(window)
    counts: NDArray[np.int32] = home("masks", hu, mask).mean_histograms(hu, _plain(mask), window)
    return counts


def means_above(hu: NDArray[np.int16], mask: Bits, window: tuple[int, int], levels_hu: NDArray[np.int16]) -> Bits:
    """Bit masks (level, z, y, words) of where that mean exceeds a level; `levels_hu` is (level, y)."""
    _check_mean_window(window)
    bits: Bits = home("masks", hu, mask).means_above(hu, _plain(mask), window, levels_hu)
    return bits


def _check_mean_window(window: tuple[int, int]) -> None:
    if not 0 <= min(window) <= max(window) <= MEAN_REACH:
        raise OptionError("window", f"it reaches {window} pixels to each side", f"Give 0 to {MEAN_REACH}")


def share_above(part: Bits, whole: Bits, tenths: int, window: tuple[int, int]) -> Bits:
    """Where `part` exceeds tenths / 10 of `whole` within `window` (y, x) pixels to each side.

    The neighbour slices count too, with weights 1 : 8 : 1. Only pixels of `whole` are set.
    """
    twin = home("masks", part, whole)
    bits: Bits = twin.share(_plain(part), _plain(whole), tenths, window)
    return bits
