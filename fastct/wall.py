"""The chest wall where a sick lung does not show it: drawn from the slices below and above."""

import numpy as np
from numpy.typing import NDArray

from fastct.geometry import Spacing
from fastct.kernels import masks
from fastct.kernels.masks import Bits

DIRECTIONS = 32  # a polygon of so many sides leaves a chest's outline by no more than 1 mm
UNITS_PER_MM = 1024  # heights are whole numbers, so that every machine draws the same outline
REACH_MM = 45.0  # slices this far below and above tell where the wall runs between them
EVERY = slice(None)
STEP_MM = 8.0  # thin slices are looked at in steps of this


def raised_hull(lung: Bits, spacing_mm: Spacing, slices: slice = EVERY) -> Bits:
    """Convex outline of the lungs in each slice, raised to where lines lead from slices below to slices above.

    A lesion at the wall makes the outline of its slices a chord; the chest is an arch there, which the slices
    without that lesion still show. Only `slices` are drawn.
    """
    directions = directions_of(spacing_mm)
    heights = masks.heights(lung, directions)
    return masks.draw_convex(_raise(heights, spacing_mm[0])[slices], directions, lung[slices])


def directions_of(spacing_mm: Spacing) -> NDArray[np.int32]:
    """(directions, 2): what a pixel along y, and along x, adds to the height in each direction."""
    angle = (np.arange(DIRECTIONS) + 0.5) * (2 * np.pi / DIRECTIONS)
    steps_mm = np.stack([np.sin(angle) * spacing_mm[1], np.cos(angle) * spacing_mm[2]], axis=1)
    directions: NDArray[np.int32] = np.rint(UNITS_PER_MM * steps_mm).astype(np.int32)
    return directions


def _raise(heights: NDArray[np.int64], slice_mm: float) -> NDArray[np.int64]:
    """Heights (z, directions), none below the line between any two slices on both sides of it."""
    raised = heights.copy()
    step, most = steps_of(slice_mm)
    reach = range(step, most + 1, step)
    for below, above in ((below, above) for below in reach for above in reach if below + above < len(heights)):
        line = (heights[: -below - above] * above + heights[below + above :] * below) // (below + above)
        np.maximum(raised[below:-above], line, out=raised[below:-above])
    return raised


def steps_of(slice_mm: float) -> tuple[int, int]:
    """In what steps slices below and above are looked at, and how many at most."""
    step = max(round(STEP_MM / slice_mm), 1)
    return step, max(int(REACH_MM / slice_mm), step)
