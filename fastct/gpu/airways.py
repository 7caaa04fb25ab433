"""Trachea and main bronchi, for a batch on a GPU."""

from typing import Any

import numpy as np

from fastct import airways
from fastct.geometry import Spacing
from fastct.gpu.studies import PAIRS_OF_A_SLICE, Studies
from fastct.kernels.gpu import bitrows
from fastct.kernels.gpu.pieces import Pairs, PiecesOfStack
from fastct.kernels.gpu.stacks import THREADS, Stack


def find_airways(studies: Studies, body: Any, middles: Any, centres: Any) -> Any:
    """Trachea and main bronchi with their walls."""
    studies = studies.within(_corridors(studies, centres))
    stack = studies.stack
    levels = np.array([airways.LUMEN_HU, airways.WALL_HU], np.int16)
    lumen, soft = bitrows.pack_below(stack, studies.volumes, levels)
    inside = bitrows.within_frames(stack, lumen & body)
    speck = studies.shapes(lambda _: airways.SPECK)
    pieces = studies.find_pieces(bitrows.open_slices(stack, inside, speck))
    tubes, starts = _judge(studies, pieces, middles)
    inner, outer = (studies.discs(size_mm) for size_mm in airways.WALL_RING_MM)
    rings = pieces.count_rings(tubes, inner, outer, ~soft)
    terms = studies.terms(_chain_terms)
    pieces.over_pieces("airways", "airway_walls", rings, terms, tubes, starts)
    pairs = pieces.reach_down(tubes, studies.discs(airways.REACH_MM), PAIRS_OF_A_SLICE)
    chosen = _longest_chain(pieces, pairs, starts, terms)
    return bitrows.dilate(stack, pieces.paint(chosen), studies.discs(airways.WALL_MM))


def _corridors(studies: Studies, centres: Any) -> Stack:
    """The frames in which airways are looked for."""
    stack = studies.stack
    reaches = [int((airways.SIDE_MM + airways.MARGIN_MM) / spacing_mm[2]) for spacing_mm in studies.spacings_mm]
    frames = stack.zeros((len(stack), 4), np.int32)
    blocks = -(-len(stack) // THREADS[0])
    arguments = (stack, centres, np.array(reaches, np.int32), frames)
    stack.launch("airways", "airway_corridors", blocks, *arguments)
    return stack.within(frames)


def _judge(studies: Studies, pieces: PiecesOfStack, middles: Any) -> tuple[Any, Any]:
    """Which pieces of air may be airway, and which a trachea."""

    def of_study(spacing_mm: Spacing) -> tuple[float, ...]:
        of_any = (*airways.LUMEN_MM2, airways.SIDE_MM)
        of_start = (*airways.START_MM2, airways.START_SIDE_MM, *airways.START_BOX_MM, airways.START_FILL)
        return (*spacing_mm[1:], *of_any, *of_start)

    tubes, starts = pieces.per_piece(np.uint8), pieces.per_piece(np.uint8)
    pieces.over_pieces("airways", "airway_judge", middles, studies.terms(of_study), tubes, starts)
    return tubes, starts


def _chain_terms(spacing_mm: Spacing) -> tuple[float, ...]:
    return airways.WALL_SHARE, airways.BOTH_MM2 / (spacing_mm[1] * spacing_mm[2]), airways.REACHED_SHARE


def _longest_chain(pieces: PiecesOfStack, pairs: Pairs, starts: Any, terms: Any) -> Any:
    """The tubes of the chain that leads through most slices downwards."""
    tags, reached, levels = (pieces.per_piece(np.int32) for _ in range(3))
    met, chosen = pieces.per_piece(np.uint8), pieces.per_piece(np.uint8)
    stack = pieces.stack
    tables = (stack, pieces, pairs)
    stack.over_studies("airways", "airway_chain", *tables, starts, terms, tags, reached, levels, met, chosen)
    return chosen
