"""Resampling on any affine grid: rotations, and all that runs askew of the volume's axes."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import numpy as np
from numba import njit

from fastct.kernels.cpu.aligned import FRACTION, HALF_VOXEL, WEIGHT_SHIFT, WEIGHT_UNIT
from fastct.kernels.cpu.pointwise import map_row, mapped
from fastct.kernels.cpu.rounding import store_row
from fastct.kernels.maps import FRACTION_BITS

# Output voxels along (z, y, x) that are read together: the part of the volume that they need is mapped once,
# and stays in the caches. Long rows pay; shapes from (1, 64, 128) to (8, 32, 64) took up to half as long again.
TILE = (4, 64, 512)


@njit(nogil=True, cache=True)
def _end(n):
    """Place of the last of n voxels."""
    return (n - 1) << FRACTION_BITS


@njit(nogil=True, cache=True)
def _place(places, z, y, x):
    """Where an output voxel reads, along each source axis."""
    return (
        places[0, 3] + z * places[0, 0] + y * places[0, 1] + x * places[0, 2],
        places[1, 3] + z * places[1, 0] + y * places[1, 1] + x * places[1, 2],
        places[2, 3] + z * places[2, 0] + y * places[2, 1] + x * places[2, 2],
    )


@njit(nogil=True, cache=True)
def _row_step(places):
    """How far each next voxel of a row reads, along each source axis."""
    return places[0, 2], places[1, 2], places[2, 2]


@njit(nogil=True, cache=True)
def _run(start, step, low, high, n):
    """The voxels of a row, from the first up to a stop, whose places lie in [low, high]."""
    if step == 0:
        return (0, n) if low <= start <= high else (0, 0)
    if step > 0:
        first, last = -((start - low) // step), (high - start) // step
    else:
        first, last = -((high - start) // -step), (start - low) // -step
    first = min(max(first, 0), n)
    return first, min(max(last + 1, first), n)


@njit(nogil=True, cache=True)
def _inside(start, step, margin, shape, n):
    """The voxels of a row that lie inside of the volume, or up to a margin beyond it."""
    first, stop = 0, n
    for axis in range(3):
        axis_first, axis_stop = _run(start[axis], step[axis], -margin, _end(shape[axis]) + margin, n)
        first, stop = max(first, axis_first), min(stop, axis_stop)
    return first, max(first, stop)


@njit(nogil=True, cache=True)
def linear(hu, out, places, settings):
    """Trilinear resampling: along y, then x, then z, as along the axes.

    Each voxel is read by about eight others. So the part of the volume that a tile of the output needs is
    mapped to float32 first, and read from there.
    """
    scratch = np.empty(0, np.float32)
    for z in range(0, out.shape[0], TILE[0]):
        for y in range(0, out.shape[1], TILE[1]):
            for x in range(0, out.shape[2], TILE[2]):
                tile = out[z : z + TILE[0], y : y + TILE[1], x : x + TILE[2]]
                origin, shape = _needed(_place(places, z, y, x), places, tile.shape, hu.shape)
                size = shape[0] * shape[1] * shape[2]
                if scratch.size < size:
                    scratch = np.empty(size, np.float32)
                part = scratch[:size].reshape(shape)
                _map_part(hu, origin, part, settings.line)
                _read_part(part, origin, hu.shape, tile, (z, y, x), places, settings)


@njit(nogil=True, cache=True)
def _needed(start, places, tile_shape, shape):
    """The part of a volume that a tile reads: index of its first voxel, and its shape.

    One more voxel on each far side, repeated beyond the edge, lets every voxel be blended with a next one.
    """
    (z_first, z_size) = _needed_along(start[0], places[0], tile_shape, shape[0])
    (y_first, y_size) = _needed_along(start[1], places[1], tile_shape, shape[1])
    (x_first, x_size) = _needed_along(start[2], places[2], tile_shape, shape[2])
    return (z_first, y_first, x_first), (z_size, y_size, x_size)


@njit(nogil=True, cache=True)
def _needed_along(start, steps, tile_shape, n):
    low = high = start
    for axis in range(3):
        reach = (tile_shape[axis] - 1) * steps[axis]
        low, high = low + min(reach, 0), high + max(reach, 0)
    first = min(max(low >> FRACTION_BITS, 0), n - 1)
    return first, min(max(high >> FRACTION_BITS, 0), n - 1) - first + 2


@njit(nogil=True, cache=True)
def _map_part(hu, origin, part, line):
    for k in range(part.shape[0]):
        for j in range(part.shape[1]):
            z, y = min(origin[0] + k, hu.shape[0] - 1), min(origin[1] + j, hu.shape[1] - 1)
            map_row(hu[z, y], origin[2], part[k, j], line)


@njit(nogil=True, cache=True)
def _read_part(part, origin, shape, out, corner, places, settings):
    """Write a tile that begins at an output voxel, from the part of a volume of that shape that it needs."""
    strides = (part.shape[1] * part.shape[2], part.shape[2], 1)
    flat = part.reshape(part.size)
    step = _row_step(places)
    row, index = np.empty(out.shape[2], np.float32), np.empty(out.shape[2], np.int64)
    weights = np.empty((3, out.shape[2]), np.float32)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            start = _place(places, corner[0] + z, corner[1] + y, corner[2])
            first, stop = _inside(start, step, settings.margin, shape, row.size)
            index[first:stop] = 0
            for axis in range(3):
                place, end = start[axis] + first * step[axis], _end(shape[axis])
                own_weights = weights[axis, first:stop]
                _add_taps(index[first:stop], own_weights, place, step[axis], end, origin[axis], strides[axis])
            row[:] = settings.outside
            _read_row(flat, index[first:stop], weights[:, first:stop], strides, row[first:stop])
            store_row(row, out[z, y])


@njit(nogil=True, cache=True)
def _add_taps(index, weights, start, step, end, origin, stride):
    """Add what an axis contributes to the index of each voxel read, and note the weight of the next."""
    for x in range(index.size):
        place = min(max(start + x * step, 0), end)
        index[x] += ((place >> FRACTION_BITS) - origin) * stride
        weights[x] = np.float32(np.int32((place & FRACTION) >> WEIGHT_SHIFT)) * WEIGHT_UNIT


@njit(nogil=True, cache=True)
def _blend(near, far, weight):
    return near + weight * (far - near)


@njit(nogil=True, cache=True)
def _read_row(flat, index, weights, strides, row):
    """Blend the voxels from each index on: along y, then x, then z."""
    z_weights, y_weights, x_weights = weights[0], weights[1], weights[2]
    z_stride, y_stride = np.uint64(strides[0]), np.uint64(strides[1])
    one = np.uint64(1)
    for x in range(row.size):
        # Unsigned, as Numba counts negative indices from the end.
        near, below = np.uint64(index[x]), np.uint64(index[x]) + y_stride
        left = _blend(flat[near], flat[below], y_weights[x])
        right = _blend(flat[near + one], flat[below + one], y_weights[x])
        value = _blend(left, right, x_weights[x])
        if z_weights[x] > 0:
            near, below = near + z_stride, below + z_stride
            left = _blend(flat[near], flat[below], y_weights[x])
            right = _blend(flat[near + one], flat[below + one], y_weights[x])
            value = _blend(value, _blend(left, right, x_weights[x]), z_weights[x])
        row[x] = value


@njit(nogil=True, cache=True)
def nearest(hu, out, places, settings):
    """Nearest-neighbour resampling; halfway goes up, as in ITK."""
    step = _row_step(places)
    row, index = np.empty(out.shape[2], np.float32), np.empty((3, out.shape[2]), np.uint64)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            start = _place(places, z, y, 0)
            first, stop = _inside(start, step, settings.margin, hu.shape, row.size)
            for axis in range(3):
                place = start[axis] + first * step[axis]
                _note_nearest(index[axis, first:stop], place, step[axis], hu.shape[axis])
            row[:] = settings.outside
            _read_nearest(hu, index[:, first:stop], row[first:stop], settings.line)
            store_row(row, out[z, y])


@njit(nogil=True, cache=True)
def _note_nearest(index, start, step, n):
    for x in range(index.size):
        index[x] = min(max((start + x * step + HALF_VOXEL) >> FRACTION_BITS, 0), n - 1)


@njit(nogil=True, cache=True)
def _read_nearest(hu, index, row, line):
    for x in range(row.size):
        row[x] = mapped(hu[index[0, x], index[1, x], index[2, x]], line)
