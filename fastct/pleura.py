"""Disease at the pleura: what thresholds lose of a sick lung, told apart from diaphragm and mediastinum."""

import numpy as np
from numpy.typing import NDArray

from fastct.kernels import masks
from fastct.kernels.masks import Bits, Pieces
from fastct.sides import beside, outside_ellipse

Spacing = tuple[float, float, float]

BRIDGE_CORE_MM = 5.0  # half thickness that tells a lesion from a vessel
BRIDGE_FROM_MM = 70.0  # from the midline: a lesion has a core here, beyond all hilar vessels
HEART_MM = 30.0  # the heart reaches this far back from the middle of the lungs ...
HEART_TOP = 0.6  # ... and fills no more than this lower part of it
HEART_BRIDGE_MM = 36.0  # lesions beside the heart are bridged only from lung this near: a heart is taller
HILA_MM = (70.0, 50.0)  # half axes, front to back and sideways, of the ellipse that no bridge enters
CLOSE_MM = 2.5  # vessels and notches of the border that belong to the lung
POCKET_MM2 = (15.0, 6000.0)  # of the gaps between lung and hull: less is nothing, more is heart or liver
SMALL_MM2 = 400.0  # a hole up to this size is lung wherever it lies
DOME_TOP = 0.5  # diaphragm is looked for in this lower part of the lungs
UNSUPPORTED = 0.6  # share without lung in the slice below that makes a gap a diaphragm's dome
TAPER_MM, DOME_MM = 40.0, 18.0  # a dome shrinks to 1 / e within so many mm upwards, and is no higher than that


def bridge_slices(side: Bits, room: Bits, middle: int, spacing_mm: Spacing) -> Bits:
    """Fill lesions, within `room`, that have lung of the same side both below and above them.

    The hila have that too. They are told from lesions by place: a lesion is thick somewhere beyond them.
    From there it is followed to the slices above and below.
    """
    below, above = (np.bitwise_or.accumulate(side[::step], axis=0)[::step] for step in (1, -1))
    gaps = below & above & ~side & room
    cores = masks.erode(gaps, masks.disc(BRIDGE_CORE_MM, spacing_mm))
    far = BRIDGE_FROM_MM / spacing_mm[2]
    beyond = cores & (beside(side.shape, middle - far, left=False) | beside(side.shape, middle + far, left=True))
    if not masks.count(beyond).any():
        return side
    held = np.flatnonzero(masks.count(cores))
    part = slice(held[0], held[-1] + 1)
    pieces = masks.find_pieces(gaps[part])
    thick, lesion = (pieces.count_inside(where[part]) > 0 for where in (cores, beyond))
    out = side.copy()
    out[part] |= pieces.paint(_follow(lesion, thick, pieces))
    return out


def _follow(lesion: NDArray[np.bool_], thick: NDArray[np.bool_], pieces: Pieces) -> NDArray[np.bool_]:
    """The lesion pieces and all thick ones that lie over or under them for the better part."""
    pairs = pieces.overlaps()
    upper, lower, pixels = pairs[thick[pairs[:, 0]] & thick[pairs[:, 1]]].T
    joined = 2 * pixels > np.minimum(pieces.area[upper], pieces.area[lower])
    found, before = lesion.copy(), 0
    while found.sum() > before:
        before = int(found.sum())
        found[upper[joined & found[lower]]] = True
        found[lower[joined & found[upper]]] = True
    return found


def outside_hila(lung: Bits, middle: int, spacing_mm: Spacing) -> Bits:
    """Bit mask (y, words) of where lesions may be bridged."""
    return outside_ellipse(lung, middle, HILA_MM, spacing_mm)


def heart_zone(left: Bits, middle: int, spacing_mm: Spacing) -> Bits:
    """Where tissue between lung below and lung above may be the heart, not a lesion.

    A heart that reaches far to the left has lung below and above it, but not as near as a lesion has.
    """
    zone = np.zeros_like(left)
    held = np.flatnonzero(masks.count(left))
    if not len(held):
        return zone
    top = held[0] + int(HEART_TOP * (held[-1] - held[0])) + 1
    back = max(int((left.shape[1] - 1) / 2 - HEART_MM / spacing_mm[1]), 0)
    below, above = left[:top].copy(), left[:top].copy()
    for step in range(1, min(round(HEART_BRIDGE_MM / spacing_mm[0]), len(left) - 1) + 1):
        below[step:] |= left[: max(top - step, 0)]
        above[: len(left) - step] |= left[step : top + step]
    zone[:top] = beside(below.shape, middle, left=True) & ~(below & above)
    zone[:, :back] = 0
    return zone


def close_notches(right: Bits, left: Bits, spacing_mm: Spacing) -> tuple[Bits, Bits]:
    """Close gaps narrower than CLOSE_MM in each slice, never into the other lung."""
    shape = masks.disc(CLOSE_MM, spacing_mm)
    right_closed = masks.close_slices(right, shape) & ~left
    return right_closed, masks.close_slices(left, shape) & ~right_closed


def fill_gaps(right: Bits, left: Bits, spacing_mm: Spacing, keep_consolidation: bool = True) -> tuple[Bits, Bits]:
    """Fill holes, and pockets between a lung and the hull of both, that are vessel or lesion.

    Without `keep_consolidation` only holes up to SMALL_MM2, which are vessels. Gaps at a chord of the hull
    that leads from one lung to the other are mediastinum. Large gaps over tissue in the lower lungs are
    diaphragm.
    """
    inside, chords = masks.hull(right, left)
    gaps = masks.find_pieces(inside & ~(right | left))
    if not len(gaps):
        return right, left
    cross = np.ones(2, np.int32)
    mediastinal = gaps.count_inside(masks.dilate(chords, cross)) > 0
    hole = gaps.count_inside(masks.fill_holes(right) | masks.fill_holes(left)) == gaps.area
    area_mm2 = gaps.area * spacing_mm[1] * spacing_mm[2]
    sized = (area_mm2 >= POCKET_MM2[0]) & (area_mm2 <= POCKET_MM2[1])
    wanted = hole | sized if keep_consolidation else hole & (area_mm2 <= SMALL_MM2)
    lesion = _without_domes(gaps, wanted & ~mediastinal, hole, right | left, spacing_mm)
    near = np.array([2, 1, 0], np.int32)  # a diamond: who adjoins more of the gap
    right_side = gaps.count_inside(masks.dilate(right, near)) >= gaps.count_inside(masks.dilate(left, near))
    return right | gaps.paint(lesion & right_side), left | gaps.paint(lesion & ~right_side)


def _without_domes(
    gaps: Pieces, wanted: NDArray[np.bool_], hole: NDArray[np.bool_], lung: Bits, spacing_mm: Spacing
) -> NDArray[np.bool_]:
    """The wanted gaps less domes of the diaphragm: large gaps of the lower lungs that rest on no lung.

    From below upwards. Above a dome lies a dome again if it shrinks (a hole), or in any case (a pocket).
    """
    lesion = wanted.copy()
    area_mm2 = gaps.area * spacing_mm[1] * spacing_mm[2]
    held = masks.count(lung)
    filled = np.flatnonzero(held)
    top = filled[0] + DOME_TOP * (filled[-1] - filled[0])
    below = np.zeros_like(lung)
    below[1:] = lung[:-1]
    rests = gaps.count_inside(below)
    upper, lower, pixels = gaps.overlaps().T
    height_mm, taper = np.zeros(len(gaps)), np.exp(-spacing_mm[0] / TAPER_MM)
    for gap in np.flatnonzero(wanted & (area_mm2 > SMALL_MM2) & (gaps.slice_index < top)):
        under, shared = lower[upper == gap], pixels[upper == gap]
        z, supported = gaps.slice_index[gap], rests[gap] + shared[lesion[under]].sum()
        if z and held[z - 1] and supported >= (1 - UNSUPPORTED) * gaps.area[gap]:
            continue
        domes = under[(height_mm[under] > 0) & (shared > 0.5 * gaps.area[gap])]
        height = spacing_mm[0] + (height_mm[domes[0]] if len(domes) else 0.0)
        ends = len(domes) and (area_mm2[gap] >= taper * area_mm2[domes[0]] or height > DOME_MM)
        if not (hole[gap] and ends):
            height_mm[gap], lesion[gap] = height, False
    return lesion
