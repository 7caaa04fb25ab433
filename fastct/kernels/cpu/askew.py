"""Resampling on any affine grid: rotations, and all that runs askew of the volume's axes."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import numpy as np
from numba import njit

from fastct.kernels.cpu.aligned import FRACTION, HALF_VOXEL, WEIGHT_SHIFT, WEIGHT_UNIT
from fastct.kernels.cpu.pointwise import mapped
from fastct.kernels.cpu.rounding import store_row
from fastct.kernels.maps import FRACTION_BITS


@njit(nogil=True, cache=True)
def _ends(hu):
    """Places of the last voxel along each axis."""
    return (
        (hu.shape[0] - 1) << FRACTION_BITS,
        (hu.shape[1] - 1) << FRACTION_BITS,
        (hu.shape[2] - 1) << FRACTION_BITS,
    )


@njit(nogil=True, cache=True)
def _row_start(places, z, y):
    """Where the first voxel of an output row reads, along each source axis."""
    return (
        places[0, 3] + z * places[0, 0] + y * places[0, 1],
        places[1, 3] + z * places[1, 0] + y * places[1, 1],
        places[2, 3] + z * places[2, 0] + y * places[2, 1],
    )


@njit(nogil=True, cache=True)
def _step(places):
    """How far each next voxel of a row reads, along each source axis."""
    return places[0, 2], places[1, 2], places[2, 2]


@njit(nogil=True, cache=True)
def _moved(start, step, x):
    return start[0] + x * step[0], start[1] + x * step[1], start[2] + x * step[2]


@njit(nogil=True, cache=True)
def _is_inside(place, ends, margin):
    return (
        -margin <= place[0] <= ends[0] + margin
        and -margin <= place[1] <= ends[1] + margin
        and -margin <= place[2] <= ends[2] + margin
    )


@njit(nogil=True, cache=True)
def _tap(place, end):
    """Index at or below a place, index of the next voxel if it counts, and its weight."""
    place = min(max(place, 0), end)
    index = place >> FRACTION_BITS
    weight = np.float32((place & FRACTION) >> WEIGHT_SHIFT) * WEIGHT_UNIT
    return index, index + (weight > 0), weight


@njit(nogil=True, cache=True)
def _blend(near, far, weight):
    return near + weight * (far - near)


@njit(nogil=True, cache=True)
def _read_slice(hu, y, x, line):
    """Blend four voxels of a slice: along y, then along x."""
    (y_near, y_far, y_weight), (x_near, x_far, x_weight) = y, x
    near = _blend(mapped(hu[y_near, x_near], line), mapped(hu[y_far, x_near], line), y_weight)
    far = _blend(mapped(hu[y_near, x_far], line), mapped(hu[y_far, x_far], line), y_weight)
    return _blend(near, far, x_weight)


@njit(nogil=True, cache=True)
def linear(hu, out, places, settings):
    """Trilinear resampling: along y, then x, then z, as along the axes."""
    row = np.empty(out.shape[2], np.float32)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            _linear_row(hu, row, _row_start(places, z, y), _step(places), settings)
            store_row(row, out[z, y])


@njit(nogil=True, cache=True)
def _linear_row(hu, row, start, step, settings):
    ends = _ends(hu)
    for x in range(row.size):
        place = _moved(start, step, x)
        row[x] = settings.outside
        if _is_inside(place, ends, settings.margin):
            z_near, z_far, z_weight = _tap(place[0], ends[0])
            y_tap, x_tap = _tap(place[1], ends[1]), _tap(place[2], ends[2])
            value = _read_slice(hu[z_near], y_tap, x_tap, settings.line)
            if z_weight > 0:
                far = _read_slice(hu[z_far], y_tap, x_tap, settings.line)
                value = _blend(value, far, z_weight)
            row[x] = value


@njit(nogil=True, cache=True)
def nearest(hu, out, places, settings):
    """Nearest-neighbour resampling; halfway goes up, as in ITK."""
    row = np.empty(out.shape[2], np.float32)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            _nearest_row(hu, row, _row_start(places, z, y), _step(places), settings)
            store_row(row, out[z, y])


@njit(nogil=True, cache=True)
def _nearest_row(hu, row, start, step, settings):
    ends = _ends(hu)
    for x in range(row.size):
        place = _moved(start, step, x)
        row[x] = settings.outside
        if _is_inside(place, ends, settings.margin):
            z = min(max((place[0] + HALF_VOXEL) >> FRACTION_BITS, 0), hu.shape[0] - 1)
            y = min(max((place[1] + HALF_VOXEL) >> FRACTION_BITS, 0), hu.shape[1] - 1)
            x_near = min(max((place[2] + HALF_VOXEL) >> FRACTION_BITS, 0), hu.shape[2] - 1)
            row[x] = mapped(hu[z, y, x_near], settings.line)
