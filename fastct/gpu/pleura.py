"""Disease at the pleura, for a batch on a GPU: what thresholds lose of sick lungs."""

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import device, pleura, wall
from fastct.geometry import Spacing
from fastct.gpu.sides import find_centres, outside, outside_ellipse, right_of
from fastct.gpu.studies import Studies
from fastct.kernels.gpu import bitrows
from fastct.kernels.gpu.pieces import PiecesOfStack, fill_holes
from fastct.kernels.gpu.stacks import THREADS, WORD_BITS, Stack

Lungs = tuple[Any, Any]  # right, left


@dataclass(frozen=True, eq=False)
class Limits:
    """How near to the midline lesions are looked for in each study: tables of distances in pixels.

    Parameters
    ----------
    bridges, aside : as `fastct.gpu.sides.outside` takes them; see `fastct.pleura.Limits`.
    bases : discs by which bases are closed; None where they are not.
    """

    bridges: Any
    aside: Any
    bases: Any = None


DIAMOND = np.array([2, 1, 0], np.int32)
PLUS = np.ones(2, np.int32)


def draw_in_lesions(studies: Studies, lungs: Lungs, room: Any, middles: Any) -> Lungs:
    """Right and left lungs with the consolidation at their borders, within `room`.

    Studies where that is more than a little are looked at once more, nearer to the mediastinum.
    """
    stack = studies.stack
    centres = find_centres(studies, middles)
    aerated = lungs[0] | lungs[1]
    cautious = Limits(_offsets(studies, pleura.CAUTIOUS.bridge_mm), _offsets(studies, pleura.CAUTIOUS.aside_mm))
    lungs = _draw_in(studies, lungs, aerated, room, centres, cautious)
    drawn = lungs[0] | lungs[1]
    lesions = bitrows.open_slices(stack, drawn & ~aerated, studies.discs(pleura.LESION_CORE_MM))
    frames = stack.zeros((len(stack), 4), np.int32)
    bridges, aside = (stack.zeros((len(stack), 2), np.float64) for _ in range(2))
    bases_mm = stack.zeros((len(stack),), np.float64)
    counts = (bitrows.count(stack, lesions), bitrows.count(stack, drawn))
    blocks = -(-len(stack) // THREADS[0])
    found = (frames, bridges, aside, bases_mm)
    stack.launch("pleura", "second_look", blocks, stack, *counts, studies.terms(_limit_terms), *found)
    again = studies.within(stack.within(frames))
    limits = Limits(bridges, aside, _base_discs(again, bases_mm))
    seconds = _draw_in(again, lungs, aerated, room, find_centres(again, middles), limits)
    right, left = (_second(again, one, other) for one, other in zip(lungs, seconds, strict=True))
    return right, left


def _offsets(studies: Studies, far_mm: float) -> NDArray[np.float64]:
    """So far to both sides of the midline, in pixels of each study."""
    return studies.terms(lambda spacing_mm: (-(far_mm / spacing_mm[2]), far_mm / spacing_mm[2]))


def _limit_terms(spacing_mm: Spacing) -> tuple[float, ...]:
    span = (pleura.LITTLE, pleura.MUCH - pleura.LITTLE)
    return (spacing_mm[2], *span, *astuple(pleura.CAUTIOUS), *astuple(pleura.GENEROUS))


def _base_discs(studies: Studies, bases_mm: Any) -> Any:
    """Discs that only the GPU knows the size of."""
    largest = studies.discs(pleura.GENEROUS.base_mm)
    shapes = studies.stack.zeros(largest.shape, np.int32)
    terms = studies.terms(lambda spacing_mm: spacing_mm[1:])
    arguments = (bases_mm, terms, *largest.shape, shapes)
    studies.stack.launch("pleura", "make_discs", -(-largest.size // THREADS[0]), *arguments)
    return shapes


def _second(again: Studies, first: Any, second: Any) -> Any:
    """The second mask where a study was looked at again."""
    out = again.stack.empty()
    again.stack.over_words("pleura", "choose_second", again.stack, first, second, out)
    return out


def fill_vessels(studies: Studies, lungs: Lungs) -> Lungs:
    """Right and left lungs with notches closed and holes of vessels filled."""
    right, left = close_notches(studies, lungs)
    stack = studies.stack
    enclosed = fill_holes(stack, right) | fill_holes(stack, left)
    holes = studies.find_pieces(enclosed & ~(right | left))
    small = choose_sizes(holes, studies.terms(lambda mm: (*mm[1:], 0.0, pleura.SMALL_MM2)))
    return _share_out(studies, holes, small, (right, left))


def choose_sizes(pieces: PiecesOfStack, terms: Any) -> Any:
    """Pieces whose pixels, times two lengths, lie between two sizes; `terms` has these four for each study."""
    chosen = pieces.per_piece(np.uint8)
    pieces.over_pieces("pleura", "tell_sizes", terms, chosen)
    return chosen


def _draw_in(studies: Studies, lungs: Lungs, aerated: Any, room: Any, centres: Any, limits: Limits) -> Lungs:
    right, left = lungs
    heart = heart_zone(studies, left, centres)
    open_room = room & outside_ellipse(studies, centres, pleura.HILA_MM)
    beyond = outside(studies, centres, limits.bridges)
    right = bridge_slices(studies, right, open_room, beyond)
    left = bridge_slices(studies, left, open_room & ~heart, beyond)
    lungs = close_notches(studies, (right, left))
    aside = outside(studies, centres, limits.aside)
    if limits.bases is not None:
        lungs = close_bases(studies, lungs, room & aside, limits.bases)
    aside = aside & ~heart
    filled = fill_gaps(studies, lungs, room, aside, centres)
    return add_crescents(studies, filled, aerated, room & ~heart, centres)


def _ends(studies: Studies, counts: Any) -> Any:
    """First and last slice of each study that hold pixels."""
    stack = studies.stack
    ends = stack.zeros((len(stack), 2), np.int32)
    stack.launch("pleura", "slice_ends", -(-len(stack) // THREADS[0]), stack, counts, ends)
    return ends


def bridge_slices(studies: Studies, side: Any, room: Any, beyond: Any) -> Any:
    """Fill lesions, within `room`, that have lung of the same side both below and above them."""
    stack = studies.stack
    below, above = (bitrows.accumulate(stack, side, downwards) for downwards in (False, True))
    gaps = below & above & ~side & room
    cores = bitrows.erode(stack, gaps, studies.discs(pleura.BRIDGE_CORE_MM))
    pieces = studies.find_pieces(gaps)
    thick, lesion = pieces.count_inside(cores), pieces.count_inside(cores & beyond)
    found, pairs = lesion > 0, studies.overlaps(pieces)
    stack.over_studies("pleura", "follow_lesions", stack, pieces, pairs, thick, found)
    return side | pieces.paint(found)


def heart_zone(studies: Studies, left: Any, centres: Any) -> Any:
    """Where tissue between lung below and lung above may be the heart, not a lesion."""
    stack = studies.stack
    zone = stack.empty()
    ends = _ends(studies, bitrows.count(stack, left))
    stack.over_words("pleura", "draw_heart_zone", stack, left, ends, centres, studies.terms(_heart_terms), zone)
    return zone


def _heart_terms(spacing_mm: Spacing) -> tuple[float, ...]:
    bridge = round(pleura.HEART_BRIDGE_MM / spacing_mm[0])
    return spacing_mm[1], pleura.HEART_MM, pleura.HEART_TOP, bridge


def close_notches(studies: Studies, lungs: Lungs) -> Lungs:
    """Close gaps narrower than CLOSE_MM in each slice, never into the other lung."""
    right, left = lungs
    shapes = studies.discs(pleura.CLOSE_MM)
    right_closed = bitrows.close_slices(studies.stack, right, shapes) & ~left
    return right_closed, bitrows.close_slices(studies.stack, left, shapes) & ~right_closed


def close_bases(studies: Studies, lungs: Lungs, room: Any, shapes: Any) -> Lungs:
    """Close the rings of lung around the diaphragm, within `room`, where lesions narrower than the shapes part them."""
    stack = studies.stack
    right, left = lungs
    ends = _ends(studies, bitrows.count(stack, right | left))
    shares = studies.terms(lambda _: (pleura.DOME_TOP,))
    lower = stack.empty()
    stack.over_words("pleura", "keep_lower", stack, room & ~(right | left), ends, shares, lower)
    core = studies.discs(pleura.LESION_CORE_MM)
    right, left = (
        side | bitrows.open_slices(stack, _close_wide(studies, side, shapes) & lower, core) for side in lungs
    )
    return right, lungs[1] | (left & ~right)


def _close_wide(studies: Studies, mask: Any, shapes: Any) -> Any:
    """Close by shapes that reach beyond the frame."""
    margin, (_, rows, words) = shapes.shape[1], studies.stack.shape
    frame = (rows + 2 * margin, (words + 2) * WORD_BITS)
    wide = Stack([(int(slices), *frame) for slices in studies.stack.studies["slices"]], mask)
    wider = wide.zeros(wide.shape, np.uint64)
    wider[:, margin:-margin, 1:-1] = mask
    return bitrows.close_slices(wide, wider, shapes)[:, margin:-margin, 1:-1]


def fill_gaps(studies: Studies, lungs: Lungs, room: Any, aside: Any, centres: Any) -> Lungs:
    """Fill holes, and pockets between a lung and the hull of both, that are vessel or lesion."""
    stack = studies.stack
    hull, chords = bitrows.hull(stack, *lungs)
    drawn = lungs[0] | lungs[1]
    inside = hull & ~drawn
    near_chords = bitrows.dilate(stack, chords & ~aside, studies.shapes(lambda _: PLUS))
    medial = stack.empty()
    stack.over_words("pleura", "clear_behind", stack, near_chords, aside, studies.terms(_heart_terms), medial)
    enclosed = (fill_holes(stack, lungs[0]) | fill_holes(stack, lungs[1])) & inside
    filled = lungs
    for empty in (inside & ~aside, inside & aside):
        gaps = studies.find_pieces(empty)
        wanted, holes = (gaps.per_piece(np.uint8) for _ in range(2))
        counts = (gaps.count_inside(mask) for mask in (medial, enclosed, room))
        gaps.over_pieces("pleura", "judge_gaps", centres, *counts, studies.terms(_gap_terms), wanted, holes)
        lesion = _without_domes(studies, gaps, wanted, holes, drawn)
        filled = _share_out(studies, gaps, lesion, filled)
    return filled


def _gap_terms(spacing_mm: Spacing) -> tuple[float, ...]:
    across = pleura.ACROSS_MM / spacing_mm[2]
    return (*spacing_mm[1:], across, pleura.ROOM_SHARE, *pleura.POCKET_MM2)


def _share_out(studies: Studies, gaps: PiecesOfStack, chosen: Any, lungs: Lungs) -> Lungs:
    """The lungs with the chosen gaps, each added to the lung that adjoins more of it."""
    near = studies.shapes(lambda _: DIAMOND)
    at_right, at_left = (gaps.count_inside(bitrows.dilate(studies.stack, side, near)) for side in lungs)
    right_side = at_right >= at_left
    right, left = lungs
    return right | gaps.paint(chosen & right_side), left | gaps.paint(chosen & ~right_side)


def _without_domes(studies: Studies, gaps: PiecesOfStack, wanted: Any, holes: Any, lung: Any) -> Any:
    """The wanted gaps less domes of the diaphragm."""
    stack = studies.stack
    lesion, below, held = wanted.copy(), stack.empty(), bitrows.count(stack, lung)
    stack.over_words("pleura", "move_up", stack, lung, below)
    flags = np.array([device.address(wanted), device.address(holes)], np.uint64)
    known = (flags, gaps.count_inside(below), held, _ends(studies, held), studies.terms(_dome_terms))
    tables = (stack, gaps, studies.overlaps(gaps))
    worked = (gaps.per_piece(dtype) for dtype in (np.int64, np.int32, np.float64))
    stack.over_studies("pleura", "take_out_domes", *tables, *known, *worked, lesion)
    return lesion


def _dome_terms(spacing_mm: Spacing) -> tuple[float, ...]:
    taper = float(np.exp(-spacing_mm[0] / pleura.TAPER_MM))
    shares = (pleura.DOME_TOP, 1 - pleura.UNSUPPORTED, taper)
    return (*spacing_mm, pleura.SMALL_MM2, *shares, pleura.DOME_MM, pleura.POCKET_DOME_MM)


def add_crescents(studies: Studies, lungs: Lungs, aerated: Any, room: Any, centres: Any) -> Lungs:
    """The lungs with what lies between the lesions that were drawn in and the chest wall, within `room`."""
    stack = studies.stack
    right, left = lungs
    pockets = bitrows.open_slices(stack, (right | left) & ~aerated, studies.discs(pleura.LESION_CORE_MM))
    near = bitrows.dilate(stack, pockets, studies.discs(pleura.CRESCENT_MM)) & room
    crescents = raised_hull(studies, right | left) & near & ~bitrows.hull(stack, right, left)[0]
    of_right = right_of(studies, centres)
    return right | (crescents & of_right), left | (crescents & ~of_right)


def raised_hull(studies: Studies, lung: Any) -> Any:
    """Convex outline of the lungs in each slice, raised to where lines lead from slices below to slices above."""
    stack = studies.stack
    directions = np.stack([wall.directions_of(spacing_mm) for spacing_mm in studies.spacings_mm])
    reaches = np.array([wall.steps_of(spacing_mm[0]) for spacing_mm in studies.spacings_mm], np.int32)
    raised = bitrows.raised(stack, bitrows.heights(stack, lung, directions), reaches)
    return bitrows.draw_convex(stack, raised, directions)
