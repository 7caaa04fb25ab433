"""Trachea and main bronchi: compact columns of pure air, walled by tissue, followed downwards."""

import numpy as np
from numpy.typing import NDArray

from fastct.geometry import Spacing
from fastct.kernels import masks
from fastct.kernels.masks import Bits, Pieces

LUMEN_HU = -900  # tracheal air; lung parenchyma seldom reaches it in pieces of this size
SPECK = np.array([1, 0], np.int32)  # a cross of 5 pixels: lung is full of noise below LUMEN_HU
WALL_HU = -600  # between lung and soft tissue: what lies around an airway must be denser
WALL_SHARE = 0.6  # of the ring around a lumen; inside the lung an airway has lung around it
WALL_RING_MM = (1.0, 4.0)  # the ring: beyond partial volume, within the wall and its surroundings
LUMEN_MM2 = (15.0, 900.0)  # a main bronchus at its narrowest; a carina at its widest
BOTH_MM2 = 1200.0  # both main bronchi together, at most
START_MM2 = (40.0, 700.0)  # a trachea: 13 to 27 mm wide (Breatnach, AJR 1984;142:903), and some slack
START_BOX_MM = (45.0, 35.0)  # front to back, right to left
START_FILL = 0.5  # of its box: a trachea is compact
START_SIDE_MM = 30.0  # from the midline
MARGIN_MM = 10.0  # beyond the last tube, for its walls
SIDE_MM = 70.0  # main bronchi end within this distance from the midline
REACH_MM = 6.0  # sideways from slice to slice
REACHED_SHARE = 0.25  # of a lumen that must lie within that reach
WALL_MM = 2.0  # thickness of the wall, taken out with the lumen


def find_airways(hu: NDArray[np.int16], body: Bits, middle: int, spacing_mm: Spacing) -> Bits:
    """Bit mask of trachea and main bronchi with their walls, `middle` being the midline's column.

    The longest downward chain of lumina is taken; it ends where the bronchi enter the lung.
    """
    out = np.zeros_like(body)
    words = _corridor(middle, spacing_mm[2], body.shape[2])
    lumen, soft = masks.pack_below(hu[:, :, masks.columns_of(words, hu.shape[2])], (LUMEN_HU, WALL_HU))
    pieces = masks.find_pieces(masks.open_slices(lumen & body[:, :, words], SPECK))
    tubes, starts = _judge(pieces, middle - words.start * masks.WORD_BITS, spacing_mm)
    inner, outer = (masks.disc(size_mm, spacing_mm) for size_mm in WALL_RING_MM)
    ring, solid = pieces.count_rings(tubes, inner, outer, ~soft).T
    tubes &= solid > WALL_SHARE * ring
    chosen = np.zeros(len(pieces), bool)
    chosen[_longest_chain(pieces, tubes, starts & tubes, spacing_mm)] = True
    out[:, :, words] = masks.dilate(pieces.paint(chosen), masks.disc(WALL_MM, spacing_mm))
    return out


def _corridor(middle: int, pixel_mm: float, words: int) -> slice:
    """The words in which airways are looked for."""
    reach = int((SIDE_MM + MARGIN_MM) / pixel_mm)
    first, last = max(middle - reach, 0) // masks.WORD_BITS, (middle + reach) // masks.WORD_BITS
    return slice(first, min(last + 1, words))


def _judge(pieces: Pieces, middle: int, spacing_mm: Spacing) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pieces of air may be airway, and which a trachea, by size, shape and place."""
    area_mm2 = pieces.area * spacing_mm[1] * spacing_mm[2]
    depth_mm = (pieces.box[:, 1] - pieces.box[:, 0]) * spacing_mm[1]
    width_mm = (pieces.box[:, 3] - pieces.box[:, 2]) * spacing_mm[2]
    aside_mm = np.abs(pieces.box[:, 2:].mean(axis=1) - middle) * spacing_mm[2]
    tubes = (area_mm2 > LUMEN_MM2[0]) & (area_mm2 < LUMEN_MM2[1]) & (aside_mm < SIDE_MM)
    starts = (area_mm2 > START_MM2[0]) & (area_mm2 < START_MM2[1]) & (aside_mm < START_SIDE_MM)
    starts &= (depth_mm < START_BOX_MM[0]) & (width_mm < START_BOX_MM[1])
    starts &= area_mm2 > START_FILL * depth_mm * width_mm
    return tubes, starts


def _longest_chain(
    pieces: Pieces, tubes: NDArray[np.bool_], starts: NDArray[np.bool_], spacing_mm: Spacing
) -> list[int]:
    """The tubes of the chain that leads through most slices downwards, over a gap of one slice at most."""
    below: dict[int, list[tuple[int, int]]] = {}
    for upper, lower, pixels in pieces.reach_down(tubes, masks.disc(REACH_MM, spacing_mm)).tolist():
        below.setdefault(upper, []).append((lower, pixels))
    area, most = pieces.area.tolist(), BOTH_MM2 / (spacing_mm[1] * spacing_mm[2])
    chains: list[list[list[int]]] = []
    met: set[int] = set()
    for start in np.flatnonzero(starts)[::-1].tolist():
        chain, now = [], [] if start in met else [start]  # a lower start of the same chain is no new one
        while now and sum(area[tube] for tube in now) <= most:
            chain.append(now)
            reached: dict[int, int] = {}
            for lower, pixels in (pair for tube in now for pair in below.get(tube, [])):
                reached[lower] = reached.get(lower, 0) + pixels
            now = [tube for tube, pixels in reached.items() if pixels > REACHED_SHARE * area[tube]]
        met.update(tube for level in chain for tube in level)
        chains += [chain] if chain else []
    best = max(chains, default=[], key=len)
    if best:  # a thick slice may blur the carina: what begins one slice farther down goes on from there
        resumed = pieces.slice_index[best[-1][0]] - 2
        best = best + [level for chain in chains if pieces.slice_index[chain[0][0]] == resumed for level in chain]
    return [tube for level in best for tube in level]
