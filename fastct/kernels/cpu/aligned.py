"""Resampling along the axes of the volume: rows are mapped once, slices kept for the next output."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastct.kernels.cpu.pointwise import map_row
from fastct.kernels.cpu.rounding import rounded_for, store_row
from fastct.kernels.maps import FRACTION_BITS

HALF_VOXEL = np.int64(1 << (FRACTION_BITS - 1))
FRACTION = np.int64((1 << FRACTION_BITS) - 1)
WEIGHT_SHIFT = np.int64(FRACTION_BITS - 24)  # a float32 holds 24 bits: weights are exact
WEIGHT_UNIT = np.float32(2.0**-24)
NONE = np.int64(-1)


class Taps(NamedTuple):
    """What the output voxels of an axis read: two neighbours, the second with a weight.

    Output voxels from `first` up to `stop` lie inside of the volume.
    """

    source: NDArray[np.int64]
    weight: NDArray[np.float32]
    first: int
    stop: int


@njit(nogil=True, cache=True)
def _taps(places, axis, n_in, n_out, settings):
    step, start, end = places[axis, axis], places[axis, 3], (n_in - 1) << FRACTION_BITS
    index, weight = np.empty(n_out, np.int64), np.empty(n_out, np.float32)
    first, stop = n_out, 0
    for o in range(n_out):
        place = start + o * step
        if -settings.margin <= place <= end + settings.margin:
            first, stop = min(first, o), o + 1
        place = min(max(place, 0), end)
        index[o] = place >> FRACTION_BITS
        weight[o] = np.float32((place & FRACTION) >> WEIGHT_SHIFT) * WEIGHT_UNIT
    return Taps(index, weight, min(first, stop), stop)


@njit(nogil=True, cache=True)
def _nearest_taps(places, axis, n_in, n_out, settings):
    """As `_taps`, but for the nearest neighbour alone; halfway goes up, as in ITK."""
    taps = _taps(places, axis, n_in, n_out, settings)
    for o in range(n_out):
        place = places[axis, 3] + o * places[axis, axis]
        taps.source[o] = min(max((place + HALF_VOXEL) >> FRACTION_BITS, 0), n_in - 1)
    return taps


@njit(nogil=True, cache=True)
def _is_run(index, weight):
    """Whether an axis only copies neighbours: whole indices, each one more than the last."""
    exceptions = 0
    for o in range(index.size):
        exceptions += index[o] != index[0] + o or weight[o] != 0
    return exceptions == 0


@njit(nogil=True, cache=True)
def linear(hu, out, places, settings):
    """Trilinear resampling along the axes; at most two resampled slices are held at a time."""
    z_taps = _taps(places, 0, hu.shape[0], out.shape[0], settings)
    y_taps = _taps(places, 1, hu.shape[1], out.shape[1], settings)
    x_taps = _taps(places, 2, hu.shape[2], out.shape[2], settings)
    outside = np.full((out.shape[1], out.shape[2]), settings.outside, np.float32)
    slices = np.full((2, out.shape[1], out.shape[2]), settings.outside, np.float32)
    held = np.array([NONE, NONE])  # which source slice lies in each buffer: even ones in 0, odd in 1
    for z in range(out.shape[0]):
        if not z_taps.first <= z < z_taps.stop:
            _write_slice(outside, outside, np.float32(0), out[z])
            continue
        near, weight = z_taps.source[z], z_taps.weight[z]
        for k in range(near, near + 1 + (weight > 0)):
            if held[k & 1] != k:
                _resample_slice(hu[k], slices[k & 1], y_taps, x_taps, settings.line)
                held[k & 1] = k
        _write_slice(slices[near & 1], slices[~near & 1], weight, out[z])


@njit(nogil=True, cache=True)
def _write_slice(near, far, weight, out):
    """Write an output slice from two resampled source slices."""
    row = np.empty(out.shape[1], np.float32)
    for y in range(out.shape[0]):
        if weight > 0:
            _blend_rows(near[y], far[y], weight, row)
            store_row(row, out[y])
        else:
            store_row(near[y], out[y])


@njit(nogil=True, cache=True)
def _resample_slice(hu, out, y_taps, x_taps, line):
    """Resample one slice to float32, where it lies inside; at most two mapped rows are held at a time."""
    left, right = x_taps.first, x_taps.stop
    if left == right:
        return
    index, weight = x_taps.source[left:right], x_taps.weight[left:right]
    first = min(index[0], index[-1])
    width = max(index[0], index[-1]) - first + 2
    columns, copies = (index - first).astype(np.uint64), _is_run(index, weight)
    rows, blended = np.empty((2, width), np.float32), np.empty(width, np.float32)
    held = np.array([NONE, NONE])
    for y in range(y_taps.first, y_taps.stop):
        near, y_weight = y_taps.source[y], y_taps.weight[y]
        for k in range(near, near + 1 + (y_weight > 0)):
            if held[k & 1] != k:
                map_row(hu[k], first, rows[k & 1], line)
                held[k & 1] = k
        row = rows[near & 1]
        if y_weight > 0:
            _blend_rows(row, rows[~near & 1], y_weight, blended)
            row = blended
        if copies:
            out[y, left:right] = row[: index.size]
        else:
            _resample_row(row, columns, weight, out[y, left:right])


@njit(nogil=True, cache=True)
def _blend_rows(near, far, weight, out):
    """near + weight * (far - near), each operation rounded to float32."""
    for x in range(out.size):
        out[x] = near[x] + weight * (far[x] - near[x])


@njit(nogil=True, cache=True)
def _resample_row(row, index, weight, out):
    for x in range(out.size):
        near = row[index[x]]
        out[x] = near + weight[x] * (row[index[x] + np.uint64(1)] - near)


@njit(nogil=True, cache=True)
def nearest(hu, out, places, settings):
    """Nearest-neighbour resampling along the axes."""
    z_taps = _nearest_taps(places, 0, hu.shape[0], out.shape[0], settings)
    y_taps = _nearest_taps(places, 1, hu.shape[1], out.shape[1], settings)
    x_taps = _nearest_taps(places, 2, hu.shape[2], out.shape[2], settings)
    left, right = x_taps.first, x_taps.stop
    outside = rounded_for(out, settings.outside)
    for z in range(out.shape[0]):
        if left == right or not z_taps.first <= z < z_taps.stop:
            out[z] = outside
            continue
        out[z, : y_taps.first] = out[z, y_taps.stop :] = outside
        rows = out[z, y_taps.first : y_taps.stop]
        rows[:, :left] = rows[:, right:] = outside
        _pick_rows(
            hu[z_taps.source[z]],
            rows[:, left:right],
            y_taps.source[y_taps.first : y_taps.stop],
            x_taps.source[left:right],
            settings.line,
        )


@njit(nogil=True, cache=True)
def _pick_rows(hu, out, rows, columns, line):
    """Write those rows and columns of a slice; each row is mapped once, and then picked from."""
    first, stop = min(columns[0], columns[-1]), max(columns[0], columns[-1]) + 1
    index = (columns - first).astype(np.uint64)  # unsigned, as Numba counts negative indices from the end
    is_run = _is_run(columns, np.zeros(columns.size, np.float32))
    mapped_row = np.empty(stop - first, out.dtype)
    for y in range(out.shape[0]):
        if y > 0 and rows[y] == rows[y - 1]:
            out[y] = out[y - 1]
        elif is_run:
            map_row(hu[rows[y]], first, out[y], line)
        else:
            map_row(hu[rows[y]], first, mapped_row, line)
            for x in range(index.size):
                out[y, x] = mapped_row[index[x]]
