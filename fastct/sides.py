"""Which lung is which: the midline, the cut where the lungs touch, and the walk from slice to slice."""

import numpy as np
from numpy.typing import NDArray

from fastct.geometry import Spacing
from fastct.kernels import masks
from fastct.kernels.masks import Bits, Pieces

Neighbours = dict[int, list[tuple[int, int]]]  # a piece's neighbours, each with the pixels they share

PROFILE_MM = 15.0  # smoothing of the column profile of air
VALLEY_MM = 40.0  # the midline is looked for this far from the middle of the body
CENTRE_WEIGHT = 0.25  # of the profile's peak: what a midline at that distance pays
SPLIT_MM = 45.0  # half width of the corridor in which touching lungs are cut apart
SPAN_MM2 = 600.0  # area on both sides of the midline that asks for a cut
SPAN_SHARE = 0.05  # of the piece that must lie on its smaller side
DRIFT_HU_PER_MM = 0.5  # what the cut pays in each row for its distance from the midline
OVERLAP = 0.3  # share of a piece, or of the lung already found, that must lie over (or under) the other
SURE_MM = 30.0  # a piece centred this far from the midline is of that side, whatever it overlaps
START_MM2 = 500.0  # smallest piece of the slice from which the walk starts


def find_midline(air: Bits, body: Bits, spacing_mm: Spacing) -> int:
    """Column of the mediastinum: the valley of the column profile of air, near the middle of the body."""
    profile, trunk = masks.column_counts(air), masks.column_counts(body)
    columns = np.arange(len(profile))
    width = max(int(PROFILE_MM / spacing_mm[2]), 1)
    sums = np.pad(profile, width).cumsum()
    ends = columns + width // 2
    smooth = (sums[ends + width] - sums[ends]) / width  # of whole numbers, so that every machine finds the same
    off_centre = np.abs(columns - (trunk * columns).sum() / trunk.sum()) * spacing_mm[2]
    cost = smooth + smooth.max() * CENTRE_WEIGHT * off_centre / VALLEY_MM
    return int(np.where(off_centre <= VALLEY_MM + spacing_mm[2], cost, np.inf).argmin())


def beside(mask: Bits, column: float, left: bool) -> Bits:
    """One row of a mask's words: all columns to the patient's right of `column`, or from it on to the left."""
    x = np.arange(mask.shape[-1] * masks.WORD_BITS)
    side = x >= column if left else x < column
    return masks.place(np.packbits(side, bitorder="little").view(np.uint64), mask)


def outside_ellipse(lung: Bits, middle: float, half_axes_mm: tuple[float, float], spacing_mm: Spacing) -> Bits:
    """Bit mask (y, words) of all outside an ellipse half-way from the frame's back to its front.

    Its half axes are front to back and sideways; the frame is the box around the lungs.
    """
    _, rows, words = lung.shape
    dy = (np.arange(rows) - (rows - 1) / 2) * spacing_mm[1] / half_axes_mm[0]
    dx = (np.arange(words * masks.WORD_BITS) - middle) * spacing_mm[2] / half_axes_mm[1]
    outside = np.add.outer(dy**2, dx**2) > 1.0
    return masks.place(np.packbits(outside, axis=1, bitorder="little").view(np.uint64), lung)


def cut_apart(hu: NDArray[np.int16], lung: Bits, middle: int, spacing_mm: Spacing) -> tuple[Bits, float]:
    """Cut pieces that span both sides along the densest front-to-back path near the midline.

    Also says how far the longest of these cuts runs through lung, in mm.
    """
    pieces = masks.find_pieces(lung)
    right = pieces.count_inside(lung & beside(lung, middle, left=False))
    smaller = np.minimum(right, pieces.area - right)
    spans = smaller * spacing_mm[1] * spacing_mm[2] > SPAN_MM2
    spans &= smaller > SPAN_SHARE * pieces.area
    reach = int(SPLIT_MM / spacing_mm[2])
    columns = np.arange(max(middle - reach, 0), min(middle + reach + 1, hu.shape[2]))
    drift = drift_hu(columns - middle, spacing_mm)
    parted = lung.copy()
    for piece in np.flatnonzero(spans):
        z, (y0, y1) = pieces.slice_index[piece], pieces.box[piece, :2]
        masks.cut(hu[z : z + 1], parted[z : z + 1], (int(y0), int(y1)), int(columns[0]), drift)
    cleared = masks.count(lung & ~parted)
    return parted, float(cleared.max()) * spacing_mm[1]


def drift_hu(columns: NDArray[np.int64], spacing_mm: Spacing) -> NDArray[np.int32]:
    """What a cut pays so many columns beside the midline."""
    return (np.abs(columns) * spacing_mm[2] * DRIFT_HU_PER_MM).astype(np.int32)


def walk_sides(pieces: Pieces, wanted: NDArray[np.bool_], middle: int, spacing_mm: Spacing) -> NDArray[np.int8]:
    """Side of each piece: 0 no lung, 1 right, 2 left.

    The walk starts in the slice that holds most, where the midline tells the sides, and goes up and down, twice,
    by overlap with what it has found; where a piece lies near the midline, that tells its side, too. Above the start,
    where no bowel lies, a piece surely aside may be so much larger than the lung below that it covers only that.
    """
    side = [0] * len(pieces)
    aside_mm = (pieces.middle_x - middle) * spacing_mm[2]
    sure = np.select([aside_mm < -SURE_MM, aside_mm > SURE_MM], [1, 2], 0).tolist()
    if not wanted.any():
        return np.array(side, np.int8)
    slices, at, area = pieces.shape[0], pieces.slice_index, pieces.area.tolist()
    held = np.bincount(at[wanted], weights=pieces.area[wanted], minlength=slices)
    start = int(np.convolve(np.pad(held, 1, mode="edge"), np.ones(3), "valid").argmax())
    large = pieces.area * spacing_mm[1] * spacing_mm[2] > START_MM2
    for piece in np.flatnonzero(wanted & large & (at == start)):
        side[piece] = 1 if pieces.middle_x[piece] < middle else 2
    wide = ((at > start) & (np.array(sure) > 0)).tolist()
    # For each piece its neighbours in the slice before, by direction of the walk.
    pairs = pieces.overlaps()
    before: tuple[Neighbours, Neighbours] = ({}, {})
    for upper, lower, pixels in pairs[wanted[pairs[:, 0]] & wanted[pairs[:, 1]]].tolist():
        before[0].setdefault(upper, []).append((lower, pixels))
        before[1].setdefault(lower, []).append((upper, pixels))
    of_slice = [found.tolist() for found in np.split(np.arange(len(side)), np.searchsorted(at, np.arange(1, slices)))]
    # The second round takes what only the slices walked later lead to: lung behind a lesion.
    for first, last in ((start, start), (-1, slices)):
        for steps, neighbours in zip((range(first + 1, slices), range(last - 1, -1, -1)), before, strict=True):
            for piece in (piece for z in steps for piece in of_slice[z] if not side[piece]):
                over, found = [0, 0, 0], 0
                for other, pixels in neighbours.get(piece, ()):
                    over[side[other]] += pixels
                    found += area[other] if side[other] else 0
                if over[1] + over[2] > OVERLAP * (min(area[piece], found) if wide[piece] else area[piece]):
                    side[piece] = sure[piece] or (1 if over[1] >= over[2] else 2)
    return np.array(side, np.int8)
