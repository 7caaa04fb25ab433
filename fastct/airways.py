"""Trachea and main bronchi: compact columns of pure air, walled by tissue, followed downwards."""

import numpy as np
from numpy.typing import NDArray

from fastct.kernels import masks
from fastct.kernels.masks import Bits, Pieces

Spacing = tuple[float, float, float]

LUMEN_HU = -900  # tracheal air; lung parenchyma seldom reaches it in pieces of this size
WALL_HU = -600  # between lung and soft tissue: what lies around an airway must be denser
WALL_SHARE = 0.6  # of the ring around a lumen; inside the lung an airway has lung around it
WALL_RING_MM = (1.0, 4.0)  # the ring: beyond partial volume, within the wall and its surroundings
LUMEN_MM2 = (15.0, 900.0)  # a main bronchus at its narrowest; a carina at its widest
START_MM2 = (40.0, 700.0)  # a trachea: 13 to 27 mm wide (Breatnach, AJR 1984;142:903), and some slack
START_BOX_MM = (45.0, 35.0)  # front to back, right to left
START_FILL = 0.5  # of its box: a trachea is compact
START_SIDE_MM = 30.0  # from the midline
SIDE_MM = 70.0  # main bronchi end within this distance from the midline
REACH_MM = 6.0  # sideways from slice to slice
REACHED_SHARE = 0.25  # of a lumen that must lie within that reach
WALL_MM = 2.0  # thickness of the wall, taken out with the lumen


def find_airways(lumen: Bits, wall: Bits, middle: int, spacing_mm: Spacing) -> Bits:
    """Bit mask of trachea and main bronchi with their walls.

    `lumen` is air below LUMEN_HU inside the body, `wall` all above WALL_HU, `middle` the midline's column.
    The longest downward chain of lumina is taken; it ends where the bronchi enter the lung.
    """
    tubes = _tubes(lumen, middle, spacing_mm)
    chosen = np.zeros(len(tubes), bool)
    best: list[NDArray[np.int64]] = []
    for start in np.flatnonzero(_may_start(tubes, middle, spacing_mm))[::-1]:
        if chosen[start]:
            continue
        chain = _follow(tubes, int(start), wall, spacing_mm)
        chosen[np.concatenate(chain)] = True  # a lower start of the same chain is no new one
        if len(chain) > len(best):
            best = chain
    chosen[:] = False
    if best:
        chosen[np.concatenate(best)] = True
    return masks.dilate(tubes.paint(chosen), masks.disc(WALL_MM, spacing_mm))


def _from_middle_mm(pieces: Pieces, middle: int, pixel_mm: float) -> NDArray[np.float64]:
    distance: NDArray[np.float64] = np.abs(pieces.box[:, 2:].mean(axis=1) - middle) * pixel_mm
    return distance


def _tubes(lumen: Bits, middle: int, spacing_mm: Spacing) -> Pieces:
    """The pieces of air that may be airway by size and place."""
    pieces = masks.find_pieces(lumen)
    area_mm2 = pieces.area * spacing_mm[1] * spacing_mm[2]
    chosen = (area_mm2 > LUMEN_MM2[0]) & (area_mm2 < LUMEN_MM2[1])
    chosen &= _from_middle_mm(pieces, middle, spacing_mm[2]) < SIDE_MM
    return masks.find_pieces(pieces.paint(chosen))


def _may_start(tubes: Pieces, middle: int, spacing_mm: Spacing) -> NDArray[np.bool_]:
    area_mm2 = tubes.area * spacing_mm[1] * spacing_mm[2]
    depth_mm = (tubes.box[:, 1] - tubes.box[:, 0]) * spacing_mm[1]
    width_mm = (tubes.box[:, 3] - tubes.box[:, 2]) * spacing_mm[2]
    fits = (area_mm2 > START_MM2[0]) & (area_mm2 < START_MM2[1])
    fits &= (depth_mm < START_BOX_MM[0]) & (width_mm < START_BOX_MM[1])
    fits &= area_mm2 > START_FILL * depth_mm * width_mm
    near: NDArray[np.bool_] = fits & (_from_middle_mm(tubes, middle, spacing_mm[2]) < START_SIDE_MM)
    return near


def _follow(tubes: Pieces, start: int, wall: Bits, spacing_mm: Spacing) -> list[NDArray[np.int64]]:
    """Chain of lumina from a start downwards, a list of pieces a slice."""
    reach = masks.disc(REACH_MM, spacing_mm)
    most = 1.3 * LUMEN_MM2[1] / (spacing_mm[1] * spacing_mm[2])  # both bronchi together
    chain = [np.array([start])]
    for z in range(int(tubes.slice_index[start]) - 1, -1, -1):
        here = np.flatnonzero(tubes.slice_index == z)
        near = np.zeros(tubes.shape, np.uint64)
        near[z] = masks.dilate(_paint_slice(tubes, chain[-1], z + 1), reach)[0]
        reached = tubes.count_inside(near)
        here = here[reached[here] > REACHED_SHARE * tubes.area[here]]
        here = np.array([tube for tube in here if _is_walled(tubes, int(tube), wall, spacing_mm)], np.int64)
        if not len(here) or tubes.area[here].sum() > most:
            break
        chain.append(here)
    return chain


def _paint_slice(pieces: Pieces, which: NDArray[np.int64] | int, z: int) -> Bits:
    chosen = np.zeros(len(pieces), bool)
    chosen[which] = True
    return pieces.paint(chosen)[z : z + 1]


def _is_walled(tubes: Pieces, tube: int, wall: Bits, spacing_mm: Spacing) -> bool:
    z = int(tubes.slice_index[tube])
    lumen = _paint_slice(tubes, tube, z)
    inner, outer = (masks.disc(size_mm, spacing_mm) for size_mm in WALL_RING_MM)
    ring = masks.dilate(lumen, outer) & ~masks.dilate(lumen, inner)
    return bool(masks.count(ring & wall[z : z + 1])[0] > WALL_SHARE * masks.count(ring)[0])
