"""Disease at the pleura: what thresholds lose of a sick lung, told apart from diaphragm and mediastinum."""

from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from fastct.geometry import Spacing
from fastct.kernels import masks
from fastct.kernels.masks import Bits, Pieces
from fastct.sides import beside, outside_ellipse
from fastct.wall import raised_hull

Lungs = tuple[Bits, Bits]  # right, left

BRIDGE_CORE_MM = 5.0  # half thickness that tells a lesion from a vessel
HEART_MM = 30.0  # the heart reaches this far back from the middle of the lungs ...
HEART_TOP = 0.6  # ... and fills no more than this lower part of it
HEART_BRIDGE_MM = 36.0  # lesions beside the heart are bridged only from lung this near: a heart is taller
HILA_MM = (70.0, 50.0)  # half axes, front to back and sideways, of the ellipse that no bridge enters
CLOSE_MM = 2.5  # vessels and notches of the border that belong to the lung
POCKET_MM2 = (15.0, 6000.0)  # of the gaps between lung and hull: less is nothing, more is heart or liver
ROOM_SHARE = 0.9  # of a gap that holds neither airway nor bowel gas
ACROSS_MM = 20.0  # what reaches farther than this to both sides of the midline is mediastinum
CRESCENT_MM = 20.0  # between a lesion's chord and the wall that it hides lies no more than this
SMALL_MM2 = 400.0  # a hole up to this size is lung wherever it lies
DOME_TOP = 0.5  # diaphragm is looked for in this lower part of the lungs
UNSUPPORTED = 0.6  # share without lung in the slice below that makes a gap a diaphragm's dome
TAPER_MM = 40.0  # a dome shrinks to 1 / e within so many mm upwards ...
DOME_MM, POCKET_DOME_MM = 18.0, 45.0  # ... and is no higher than that: amid the lung, and at the chest wall
LESION_CORE_MM = 3.0  # half thickness of what counts as lesion, not as vessel or notch
# Share of the lungs drawn in: healthy lungs stay below the first; from the second on, disease is everywhere.
LITTLE, MUCH = 0.02, 0.08


@dataclass(frozen=True)
class Limits:
    """How near to the midline a lesion is still told from the mediastinum.

    Parameters
    ----------
    bridge_mm : a lesion with lung below and above has a core at least this far from the midline.
    aside_mm : what lies between lung and hull this far from the midline is no mediastinum.
    base_mm : half width of what is closed there in the lower lungs: a dome of the diaphragm is rounder.
    """

    bridge_mm: float
    aside_mm: float
    base_mm: float


CAUTIOUS = Limits(bridge_mm=70.0, aside_mm=60.0, base_mm=2.5)  # beyond all vessels of healthy hila
GENEROUS = Limits(bridge_mm=45.0, aside_mm=50.0, base_mm=24.0)  # within the healthy hila's reach


def draw_in_lesions(lungs: Lungs, room: Bits, middle: int, spacing_mm: Spacing) -> Lungs:
    """Right and left lung with the consolidation at their borders, within `room`.

    Where that is more than a little, it is looked for once more, nearer to the mediastinum.
    """
    aerated = lungs[0] | lungs[1]
    lungs = _draw_in(lungs, aerated, room, middle, spacing_mm, CAUTIOUS)
    drawn = lungs[0] | lungs[1]
    lesions = masks.open_slices(drawn & ~aerated, masks.disc(LESION_CORE_MM, spacing_mm))
    share = float(masks.count(lesions).sum() / max(masks.count(drawn).sum(), 1))
    if share > LITTLE:
        lungs = _draw_in(lungs, aerated, room, middle, spacing_mm, _limits(share))
    return lungs


def _limits(share: float) -> Limits:
    """The sicker the lungs, the rather is a gap a lesion, not anatomy."""
    weight = min((share - LITTLE) / (MUCH - LITTLE), 1.0)
    return Limits(
        *(
            (1 - weight) * cautious + weight * generous
            for cautious, generous in zip(astuple(CAUTIOUS), astuple(GENEROUS), strict=True)
        )
    )


def fill_vessels(lungs: Lungs, spacing_mm: Spacing) -> Lungs:
    """Right and left lung with notches closed and holes of vessels filled, consolidation left out."""
    right, left = close_notches(lungs, spacing_mm)
    holes = masks.find_pieces((masks.fill_holes(right) | masks.fill_holes(left)) & ~(right | left))
    small = holes.area * spacing_mm[1] * spacing_mm[2] <= SMALL_MM2
    return _share_out(holes, small, (right, left))


def _draw_in(lungs: Lungs, aerated: Bits, room: Bits, middle: int, spacing_mm: Spacing, limits: Limits) -> Lungs:
    right, left = lungs
    heart = heart_zone(left, middle, spacing_mm)
    open_room = room & outside_ellipse(right, middle, HILA_MM, spacing_mm)
    far = limits.bridge_mm / spacing_mm[2]
    beyond = _aside(right, middle, far)
    right = bridge_slices(right, open_room, beyond, spacing_mm)
    left = bridge_slices(left, open_room & ~heart, beyond, spacing_mm)
    lungs = close_notches((right, left), spacing_mm)
    aside = _aside(right, middle, limits.aside_mm / spacing_mm[2])
    if limits.base_mm > CAUTIOUS.base_mm:
        lungs = close_bases(lungs, room & aside, limits.base_mm, spacing_mm)
    aside = aside & ~heart
    filled = fill_gaps(lungs, room, aside, middle, spacing_mm)
    return add_crescents(filled, aerated, room & ~heart, middle, spacing_mm)


def _aside(mask: Bits, middle: int, pixels: float) -> Bits:
    """One row of words: all columns farther than so many pixels from the midline."""
    return beside(mask, middle - pixels, left=False) | beside(mask, middle + pixels, left=True)


def _back_rows(lung: Bits, spacing_mm: Spacing) -> int:
    """Rows of the frame, the box around the lungs, that lie behind the heart."""
    return max(int((lung.shape[1] - 1) / 2 - HEART_MM / spacing_mm[1]), 0)


def bridge_slices(side: Bits, room: Bits, beyond: Bits, spacing_mm: Spacing) -> Bits:
    """Fill lesions, within `room`, that have lung of the same side both below and above them.

    The hila have that too. They are told from lesions by place: a lesion is thick somewhere in `beyond`.
    From there it is followed to the slices above and below.
    """
    below, above = (masks.accumulate(side, downwards) for downwards in (False, True))
    gaps = below
    gaps &= above
    gaps &= ~side & room
    cores = masks.erode(gaps, masks.disc(BRIDGE_CORE_MM, spacing_mm))
    if not masks.count(cores & beyond).any():
        return side
    held = np.flatnonzero(masks.count(cores))
    part = slice(int(held[0]), int(held[-1]) + 1)
    pieces = masks.find_pieces(gaps[part])
    thick, lesion = pieces.counts_inside((cores[part], (cores & beyond)[part])) > 0
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


def heart_zone(left: Bits, middle: int, spacing_mm: Spacing) -> Bits:
    """Where tissue between lung below and lung above may be the heart, not a lesion.

    A heart that reaches far to the left has lung below and above it, but not as near as a lesion has.
    """
    zone = np.zeros_like(left)
    held = np.flatnonzero(masks.count(left))
    if not len(held):
        return zone
    top = held[0] + int(HEART_TOP * (held[-1] - held[0])) + 1
    back = _back_rows(left, spacing_mm)
    below, above = left[:top].copy(), left[:top].copy()
    for step in range(1, min(round(HEART_BRIDGE_MM / spacing_mm[0]), len(left) - 1) + 1):
        below[step:] |= left[: max(top - step, 0)]
        above[: len(left) - step] |= left[step : top + step]
    zone[:top] = beside(below, middle, left=True) & ~(below & above)
    zone[:, :back] = 0
    return zone


def close_notches(lungs: Lungs, spacing_mm: Spacing) -> Lungs:
    """Close gaps narrower than CLOSE_MM in each slice, never into the other lung."""
    right, left = lungs
    shape = masks.disc(CLOSE_MM, spacing_mm)
    right_closed = masks.close_slices(right, shape) & ~left
    return right_closed, masks.close_slices(left, shape) & ~right_closed


def close_bases(lungs: Lungs, room: Bits, base_mm: float, spacing_mm: Spacing) -> Lungs:
    """Close the rings of lung around the diaphragm, within `room`, where a lesion of up to twice `base_mm` parts them.

    Lesion and diaphragm are one piece there, of one density. Closing tells them apart by shape: what it fills
    is as thick as the lung at both ends of the lesion, and a dome is too wide and too round for it.
    """
    right, left = lungs
    held = np.flatnonzero(masks.count(right | left))
    part = slice(int(held[0]), int(held[0] + DOME_TOP * (held[-1] - held[0])) + 1)
    wide, core = masks.disc(base_mm, spacing_mm), masks.disc(LESION_CORE_MM, spacing_mm)
    room = room[part] & ~(right | left)[part]
    closed = [masks.open_slices(_close_wide(side[part], wide) & room, core) for side in lungs]
    right, left = right.copy(), left.copy()
    right[part] |= closed[0]
    left[part] |= closed[1] & ~right[part]
    return right, left


def _close_wide(mask: Bits, shape: NDArray[np.int32]) -> Bits:
    """Close by a shape that reaches beyond the frame."""
    slices, rows, words = mask.shape
    margin = len(shape)
    wider = np.zeros_like(mask, shape=(slices, rows + 2 * margin, words + 2))
    wider[:, margin:-margin, 1:-1] = mask
    return masks.close_slices(wider, shape)[:, margin:-margin, 1:-1]


def fill_gaps(lungs: Lungs, room: Bits, aside: Bits, middle: int, spacing_mm: Spacing) -> Lungs:
    """Fill holes, and pockets between a lung and the hull of both, that are vessel or lesion.

    Gaps at a chord of the hull that leads from one lung to the other are mediastinum, but for their parts
    within `aside`. What reaches across the midline, or does not lie in `room`, is no lung either. Large gaps
    over tissue in the lower lungs are diaphragm.
    """
    inside, chords = masks.hull(*lungs)
    drawn = lungs[0] | lungs[1]
    inside &= ~drawn
    medial = masks.dilate(chords & ~aside, np.ones(2, np.int32))
    back = _back_rows(drawn, spacing_mm)
    medial[:, :back] &= ~aside[:, :back]  # in front, the part aside of a dome must not be taken for a lesion
    enclosed = (masks.fill_holes(lungs[0]) | masks.fill_holes(lungs[1])) & inside
    across = ACROSS_MM / spacing_mm[2]
    filled = lungs
    for empty in (inside & ~aside, inside & aside):
        gaps = masks.find_pieces(empty)
        if not len(gaps):
            continue
        x_from, x_to = gaps.box[:, 2:].T
        mediastinal = (x_from < middle - across) & (x_to > middle + across)
        at_chords, in_holes, in_room = gaps.counts_inside((medial, enclosed, room))
        mediastinal |= (at_chords > 0) | (in_room < ROOM_SHARE * gaps.area)
        hole = in_holes == gaps.area
        area_mm2 = gaps.area * spacing_mm[1] * spacing_mm[2]
        sized = (area_mm2 >= POCKET_MM2[0]) & (area_mm2 <= POCKET_MM2[1])
        lesion = _without_domes(gaps, (hole | sized) & ~mediastinal, hole, drawn, spacing_mm)
        filled = _share_out(gaps, lesion, filled)
    return filled


def _share_out(gaps: Pieces, chosen: NDArray[np.bool_], lungs: Lungs) -> Lungs:
    """The lungs with the chosen gaps, each added to the lung that adjoins more of it."""
    right, left = lungs
    near = np.array([2, 1, 0], np.int32)  # a diamond
    at_right, at_left = gaps.counts_inside((masks.dilate(right, near), masks.dilate(left, near)))
    right_side = at_right >= at_left
    return right | gaps.paint(chosen & right_side), left | gaps.paint(chosen & ~right_side)


def add_crescents(lungs: Lungs, aerated: Bits, room: Bits, middle: int, spacing_mm: Spacing) -> Lungs:
    """The lungs with what lies between the lesions that were drawn in and the chest wall, within `room`."""
    right, left = lungs
    pockets = masks.open_slices((right | left) & ~aerated, masks.disc(LESION_CORE_MM, spacing_mm))
    held = np.flatnonzero(masks.count(pockets))
    if not len(held):
        return lungs
    part = slice(int(held[0]), int(held[-1]) + 1)
    near = masks.dilate(pockets[part], masks.disc(CRESCENT_MM, spacing_mm)) & room[part]
    crescents = raised_hull(right | left, spacing_mm, part) & near
    crescents &= ~masks.hull(right[part], left[part])[0]
    of_right = beside(right, middle, left=False)
    right[part] |= crescents & of_right
    left[part] |= crescents & ~of_right
    return right, left


def _without_domes(
    gaps: Pieces, wanted: NDArray[np.bool_], hole: NDArray[np.bool_], lung: Bits, spacing_mm: Spacing
) -> NDArray[np.bool_]:
    """The wanted gaps less domes of the diaphragm: gaps of the lower lungs that rest on no lung, but for small holes.

    From below upwards. Above a dome lies a dome again up to its height, a hole only while it shrinks.
    """
    lesion = wanted.copy()
    area_mm2 = gaps.area * spacing_mm[1] * spacing_mm[2]
    held = masks.count(lung)
    filled = np.flatnonzero(held)
    top = filled[0] + DOME_TOP * (filled[-1] - filled[0])
    looked_at = np.flatnonzero(wanted & (~hole | (area_mm2 > SMALL_MM2)) & (gaps.slice_index < top))
    if not len(looked_at):
        return lesion
    below = np.zeros_like(lung)
    below[1:] = lung[:-1]
    rests = gaps.count_inside(below)
    upper, lower, pixels = gaps.overlaps().T
    height_mm, taper = np.zeros(len(gaps)), np.exp(-spacing_mm[0] / TAPER_MM)
    for gap in looked_at:
        under, shared = lower[upper == gap], pixels[upper == gap]
        z, supported = gaps.slice_index[gap], rests[gap] + shared[lesion[under]].sum()
        if z and held[z - 1] and supported >= (1 - UNSUPPORTED) * gaps.area[gap]:
            continue
        domes = under[(height_mm[under] > 0) & (shared > 0.5 * gaps.area[gap])]
        height = spacing_mm[0] + (height_mm[domes[0]] if len(domes) else 0.0)
        most_mm = DOME_MM if hole[gap] else POCKET_DOME_MM
        ends = len(domes) and (height > most_mm or (hole[gap] and area_mm2[gap] >= taper * area_mm2[domes[0]]))
        if not ends:
            height_mm[gap], lesion[gap] = height, False
    return lesion
