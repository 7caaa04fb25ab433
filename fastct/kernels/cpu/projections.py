"""Projections on a CPU: rows are gathered along z and y, and reduced along x."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastct.kernels.cpu.gather import empty_beside, read_only
from fastct.kernels.projections import Slabs

__all__ = ["empty_beside", "project"]

Volume = NDArray[Any]

VOXELS_AT_A_TIME = 2**13  # of a row: their sums stay in the nearest cache
MOST_IN_32_BITS = 2**16  # int16 voxels whose sum 32 bits hold


def project(volumes: Sequence[Volume], outs: Sequence[Volume], kind: str, axis: int, slabs: Sequence[Slabs]) -> None:
    """Write the projections of each volume."""
    for volume, out, own in zip(volumes, outs, slabs, strict=True):
        hu = read_only(volume)
        if axis == 0 and hu.flags.c_contiguous:  # then slices are rows too
            hu, out = hu.reshape(1, len(hu), -1), out.reshape(1, len(out), -1)
        elif axis == 0:
            hu, out = hu.transpose(1, 0, 2), out.transpose(1, 0, 2)
        if kind == "mean":
            sums = np.empty(VOXELS_AT_A_TIME, np.int32 if own.voxels <= MOST_IN_32_BITS else np.int64)
            (_mean_along_x if axis == 2 else _mean_of_rows)(hu, out, own.voxels, own.step, sums)
        else:
            (_extreme_along_x if axis == 2 else _extreme_of_rows)(hu, out, own.voxels, own.step, kind == "max")


@njit(nogil=True, cache=True)
def _extreme_of_rows(hu, out, voxels, step, is_max):
    """Maximum or minimum over the second axis."""
    for z in range(out.shape[0]):
        for k in range(out.shape[1]):
            for x in range(0, hu.shape[2], VOXELS_AT_A_TIME):
                row = out[z, k, x : x + VOXELS_AT_A_TIME]
                row[:] = hu[z, k * step, x : x + row.size]
                for y in range(k * step + 1, min(k * step + voxels, hu.shape[1])):
                    _keep_extremes(row, hu[z, y, x : x + row.size], is_max)


@njit(nogil=True, cache=True)
def _keep_extremes(row, other, is_max):
    # No max() and min(): Numba would widen the voxels to 64 bits.
    if is_max:
        for x in range(row.size):
            row[x] = other[x] if other[x] > row[x] else row[x]
    else:
        for x in range(row.size):
            row[x] = other[x] if other[x] < row[x] else row[x]


@njit(nogil=True, cache=True)
def _extreme_along_x(hu, out, voxels, step, is_max):
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for k in range(out.shape[2]):
                row = hu[z, y, k * step : k * step + voxels]
                out[z, y, k] = _extreme(row, is_max)


@njit(nogil=True, cache=True)
def _extreme(row, is_max):
    kept = row[0]
    if is_max:
        for x in range(row.size):
            kept = row[x] if row[x] > kept else kept
    else:
        for x in range(row.size):
            kept = row[x] if row[x] < kept else kept
    return kept


@njit(nogil=True, cache=True)
def _mean_of_rows(hu, out, voxels, step, sums):
    """Mean over the second axis: sums are whole numbers, so that their order does not matter."""
    for z in range(out.shape[0]):
        for k in range(out.shape[1]):
            stop = min(k * step + voxels, hu.shape[1])
            for x in range(0, hu.shape[2], VOXELS_AT_A_TIME):
                row = out[z, k, x : x + VOXELS_AT_A_TIME]
                sums[: row.size] = 0
                for y in range(k * step, stop):
                    _add_row(sums, hu[z, y, x : x + row.size])
                _divide_row(sums, stop - k * step, row)


@njit(nogil=True, cache=True)
def _add_row(sums, row):
    for x in range(row.size):
        sums[x] += row[x]


@njit(nogil=True, cache=True, error_model="numpy")
def _divide_row(sums, count, out):
    for x in range(out.size):
        out[x] = np.float32(np.float64(sums[x]) / np.float64(count))


@njit(nogil=True, cache=True)
def _mean_along_x(hu, out, voxels, step, sums):
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for k in range(out.shape[2]):
                row = hu[z, y, k * step : k * step + voxels]
                sums[0] = 0
                for x in range(row.size):
                    sums[0] += row[x]
                _divide_row(sums, row.size, out[z, y, k : k + 1])
