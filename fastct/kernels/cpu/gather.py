"""Window and resample on a CPU: each source row is read once, slices are kept for the next output."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# Kernels are typed by what they are called with; only the functions that others call are annotated.

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastct.kernels.cpu.rounding import rounded_for
from fastct.kernels.maps import FRACTION_BITS, Grid, Line

Volume = NDArray[np.generic]
Volumes = Sequence[Volume]

HALF_VOXEL = np.int64(1 << (FRACTION_BITS - 1))
FRACTION = np.int64((1 << FRACTION_BITS) - 1)
WEIGHT_SHIFT = np.int64(FRACTION_BITS - 24)  # a float32 holds 24 bits: weights are exact
WEIGHT_UNIT = np.float32(2.0**-24)
NONE = np.int64(-1)


def window(volumes: Volumes, outs: Volumes, line: Line) -> None:
    """Write the mapped voxels of each volume into its output of the same shape."""
    for hu, out in zip(volumes, outs, strict=True):
        shape = (1, 1, hu.size) if hu.flags.c_contiguous else hu.shape
        _window(_source(hu).reshape(shape), _target(out).reshape(shape), line.scalars)


def resample(volumes: Volumes, outs: Volumes, grids: Sequence[Grid], line: Line, order: int) -> None:
    """Write what each grid reads from its volume: mapped first, then interpolated (order 0 or 1)."""
    kernel = (_nearest, _linear)[order]
    for hu, out, grid in zip(volumes, outs, grids, strict=True):
        kernel(_source(hu), _target(out), grid.places, line.scalars)


def empty(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Volume:
    """An output in host memory."""
    return np.empty(shape, dtype)


def _source(hu: Volume) -> Volume:
    """A read-only view: Numba compiles read-only and writable arrays apart, and one is enough."""
    view = hu.view()
    view.flags.writeable = False
    return view


def _target(out: Volume) -> Volume:
    """Numba on a CPU knows no float16: kernels write its bits."""
    return out.view(np.uint16) if out.dtype == np.float16 else out


@njit(nogil=True, cache=True)
def _mapped(value, line):
    anchor, slope, offset, floor, ceiling = line
    return min(max((np.float32(value) - anchor) * slope + offset, floor), ceiling)


@njit(nogil=True, cache=True)
def _window(hu, out, line):
    for z in range(hu.shape[0]):
        for y in range(hu.shape[1]):
            source, target = hu[z, y], out[z, y]
            for x in range(source.size):
                target[x] = rounded_for(out, _mapped(source[x], line))


@njit(nogil=True, cache=True)
def _taps(places, axis, n_in, n_out):
    """Source index at or below each output voxel of an axis, and the weight of the next one."""
    step, start = places[axis, axis], places[axis, 3]
    index, weight = np.empty(n_out, np.int64), np.empty(n_out, np.float32)
    for o in range(n_out):
        place = min(max(start + o * step, 0), (n_in - 1) << FRACTION_BITS)
        index[o] = place >> FRACTION_BITS
        weight[o] = np.float32((place & FRACTION) >> WEIGHT_SHIFT) * WEIGHT_UNIT
    return index, weight


@njit(nogil=True, cache=True)
def _is_run(index, weight):
    """Whether an axis only copies neighbours: whole indices, each one more than the last."""
    return (weight == 0).all() and (np.diff(index) == 1).all()


@njit(nogil=True, cache=True)
def _linear(hu, out, places, line):
    """Axis-aligned trilinear resampling; at most two resampled slices are held at a time."""
    z_index, z_weight = _taps(places, 0, hu.shape[0], out.shape[0])
    y_taps = _taps(places, 1, hu.shape[1], out.shape[1])
    x_taps = _taps(places, 2, hu.shape[2], out.shape[2])
    slices = np.empty((2, out.shape[1], out.shape[2]), np.float32)
    held = np.array([NONE, NONE])  # which source slice lies in each buffer: even ones in 0, odd in 1
    for z in range(out.shape[0]):
        near, weight = z_index[z], z_weight[z]
        for k in range(near, near + 1 + (weight > 0)):
            if held[k & 1] != k:
                _resample_slice(hu[k], slices[k & 1], y_taps, x_taps, line)
                held[k & 1] = k
        _blend_slices(slices[near & 1], slices[~near & 1], weight, out[z])


@njit(nogil=True, cache=True)
def _blend_slices(near, far, weight, out):
    for y in range(out.shape[0]):
        if weight > 0:
            for x in range(out.shape[1]):
                value = near[y, x] + weight * (far[y, x] - near[y, x])
                out[y, x] = rounded_for(out, value)
        else:
            for x in range(out.shape[1]):
                out[y, x] = rounded_for(out, near[y, x])


@njit(nogil=True, cache=True)
def _resample_slice(hu, out, y_taps, x_taps, line):
    """Resample one slice to float32; at most two mapped rows are held at a time."""
    (y_index, y_weight), (x_index, x_weight) = y_taps, x_taps
    first, last = x_index.min(), x_index.max()
    columns = x_index - first
    copies = _is_run(x_index, x_weight)
    rows = np.empty((2, last - first + 2), np.float32)
    blended = np.empty(last - first + 2, np.float32)
    held = np.array([NONE, NONE])
    for y in range(out.shape[0]):
        near, weight = y_index[y], y_weight[y]
        for k in range(near, near + 1 + (weight > 0)):
            if held[k & 1] != k:
                _map_row(hu[k], first, rows[k & 1], line)
                held[k & 1] = k
        row = rows[near & 1]
        if weight > 0:
            _blend_rows(row, rows[~near & 1], weight, blended)
            row = blended
        if copies:
            out[y] = row[: out.shape[1]]
        else:
            _resample_row(row, columns, x_weight, out[y])


@njit(nogil=True, cache=True)
def _map_row(hu, first, row, line):
    """Map the voxels from `first` on; the last is repeated where the row runs over the volume's edge."""
    within = hu[first : first + row.size]  # a view: `hu[first + x]` could be negative, so is no vector load
    for x in range(within.size):
        row[x] = _mapped(within[x], line)
    row[within.size :] = row[within.size - 1]


@njit(nogil=True, cache=True)
def _blend_rows(near, far, weight, out):
    for x in range(out.size):
        out[x] = near[x] + weight * (far[x] - near[x])


@njit(nogil=True, cache=True)
def _resample_row(row, index, weight, out):
    for x in range(out.size):
        near = row[index[x]]
        out[x] = near + weight[x] * (row[index[x] + 1] - near)


@njit(nogil=True, cache=True)
def _nearest_index(places, axis, n_in, n_out):
    """Nearest source index of each output voxel of an axis; halfway goes up, as in ITK."""
    step, start = places[axis, axis], places[axis, 3]
    index = np.empty(n_out, np.int64)
    for o in range(n_out):
        index[o] = min(max((start + o * step + HALF_VOXEL) >> FRACTION_BITS, 0), n_in - 1)
    return index


@njit(nogil=True, cache=True)
def _nearest(hu, out, places, line):
    """Axis-aligned nearest-neighbour resampling."""
    z_index = _nearest_index(places, 0, hu.shape[0], out.shape[0])
    y_index = _nearest_index(places, 1, hu.shape[1], out.shape[1])
    x_index = _nearest_index(places, 2, hu.shape[2], out.shape[2])
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            source, target = hu[z_index[z], y_index[y]], out[z, y]
            for x in range(target.size):
                target[x] = rounded_for(out, _mapped(source[x_index[x]], line))
