"""Which lung is which, for a batch on a GPU: midlines, cuts where lungs touch, and the walk from slice to slice."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import sides
from fastct.geometry import Spacing
from fastct.gpu.studies import Studies
from fastct.kernels.gpu import bitrows
from fastct.kernels.gpu.pieces import PiecesOfStack
from fastct.kernels.gpu.stacks import THREADS

RIGHT, LEFT = (-np.inf, 0.0), (0.0, np.inf)  # what lies outside of them is left of the midline, or right of it


def find_midlines(studies: Studies, air: Any, body: Any) -> Any:
    """Column of each study's mediastinum."""
    terms = studies.terms(
        lambda spacing_mm: (
            spacing_mm[2],
            max(int(sides.PROFILE_MM / spacing_mm[2]), 1),
            sides.CENTRE_WEIGHT,
            sides.VALLEY_MM,
            sides.VALLEY_MM + spacing_mm[2],
        )
    )
    stack = studies.stack
    profiles = (bitrows.column_counts(stack, mask) for mask in (air, body))
    middles = stack.zeros((len(stack),), np.int32)
    stack.over_studies("sides", "find_midline", stack, *profiles, terms, middles)
    return middles


def find_centres(studies: Studies, middles: Any) -> Any:
    """The midlines as columns of the frames, as numbers with a fraction."""
    stack = studies.stack
    centres = stack.zeros((len(stack),), np.float64)
    stack.launch("sides", "centres_of", -(-len(stack) // THREADS[0]), stack, middles, centres)
    return centres


def find_centres_of_mass(studies: Studies, mask: Any) -> Any:
    """Column half-way between the lungs, by their centre of mass."""
    stack = studies.stack
    centres = stack.zeros((len(stack),), np.float64)
    counts = bitrows.column_counts(stack, mask)
    stack.launch("sides", "centres_of_mass", -(-len(stack) // THREADS[0]), stack, counts, centres)
    return centres


def outside(studies: Studies, centres: Any, offsets: Any) -> Any:
    """All columns before the first or from the second of two distances from the midline on, (studies, 2) pixels."""
    out = studies.stack.empty()
    studies.stack.over_words("sides", "draw_aside", studies.stack, centres, offsets, out)
    return out


def same_offsets(studies: Studies, offsets: tuple[float, float]) -> NDArray[np.float64]:
    """The same distances for all studies."""
    return np.tile(np.array(offsets, np.float64), (len(studies.stack), 1))


def right_of(studies: Studies, centres: Any) -> Any:
    """All columns to the patient's right of the midline."""
    return outside(studies, centres, same_offsets(studies, LEFT))


def outside_ellipse(studies: Studies, centres: Any, half_axes_mm: tuple[float, float]) -> Any:
    """All outside an ellipse half-way from each frame's back to its front."""
    out = studies.stack.empty()
    terms = studies.terms(lambda spacing_mm: (*spacing_mm[1:], *half_axes_mm))
    studies.stack.over_words("sides", "draw_outside_ellipse", studies.stack, centres, terms, out)
    return out


def cut_apart(studies: Studies, lung: Any, middles: Any) -> tuple[Any, Any]:
    """Lungs cut apart where pieces span both sides, and the pixels of each slice that were cut."""
    stack = studies.stack
    pieces = studies.find_pieces(lung)
    right = pieces.count_inside(lung & right_of(studies, find_centres(studies, middles)))
    spans = pieces.per_piece(np.uint8)
    terms = studies.terms(lambda spacing_mm: (*spacing_mm[1:], sides.SPAN_MM2, sides.SPAN_SHARE))
    pieces.over_pieces("sides", "tell_spans", right, terms, spans)
    parted = lung.copy()
    _cut(studies, pieces, spans, middles, parted)
    return parted, bitrows.count(stack, lung & ~parted)


def _cut(studies: Studies, pieces: PiecesOfStack, spans: Any, middles: Any, mask: Any) -> None:
    """Cut pieces in place."""
    stack = studies.stack
    reaches = np.array([int(sides.SPLIT_MM / spacing_mm[2]) for spacing_mm in studies.spacings_mm], np.int32)
    most = 2 * int(reaches.max()) + 1
    bitrows.check_cut(most)
    drifts = np.zeros((len(stack), most), np.int32)
    for drift, reach, spacing_mm in zip(drifts, reaches, studies.spacings_mm, strict=True):
        drift[: 2 * reach + 1] = sides.drift_hu(np.arange(-reach, reach + 1), spacing_mm)
    (table, _), _ = stack.volumes(studies.volumes, 1)
    steps = stack.zeros((stack.shape[0], stack.shape[1], most), np.int8)
    arguments = (table, stack, pieces, spans, middles, reaches, drifts, most, mask, steps)
    stack.launch("cut", "cut_pieces", stack.shape[0], *arguments)


def walk_sides(studies: Studies, pieces: PiecesOfStack, wanted: Any, centres: Any) -> Any:
    """Side of each piece: 0 no lung, 1 right, 2 left."""
    stack = studies.stack

    def of_study(spacing_mm: Spacing) -> tuple[float, ...]:
        return (*spacing_mm[1:], sides.SURE_MM, sides.OVERLAP, sides.START_MM2)

    side = pieces.per_piece(np.uint8)
    held, over = stack.zeros((stack.shape[0],), np.int64), pieces.per_piece(np.int32, 3)
    pairs = studies.overlaps(pieces)
    arguments = (stack, pieces, pairs, wanted, centres, studies.terms(of_study), held, over, side)
    stack.over_studies("sides", "walk_sides", *arguments)
    return side
