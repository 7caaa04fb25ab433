"""What is done to every voxel by itself: the map of intensities, and windows without resampling."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import numpy as np
from numba import njit

from fastct.kernels.cpu.rounding import rounded_for


@njit(nogil=True, cache=True)
def mapped(value, line):
    """A voxel on a Line, each operation rounded to float32."""
    anchor, slope, offset, floor, ceiling = line
    return min(max((np.float32(value) - anchor) * slope + offset, floor), ceiling)


@njit(nogil=True, cache=True)
def map_row(hu, first, row, line):
    """Map the voxels from `first` on; the last is repeated where the row runs over the volume's edge."""
    within = hu[first : first + row.size]  # a view: `hu[first + x]` could be negative, so is no vector load
    for x in range(within.size):
        row[x] = rounded_for(row, mapped(within[x], line))
    row[within.size :] = row[within.size - 1]


@njit(nogil=True, cache=True)
def map_volume(hu, out, line):
    """Map every voxel into an output of the same shape."""
    for z in range(hu.shape[0]):
        for y in range(hu.shape[1]):
            source, target = hu[z, y], out[z, y]
            for x in range(source.size):
                target[x] = rounded_for(out, mapped(source[x], line))
