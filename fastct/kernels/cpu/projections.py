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


def project(volumes: Sequence[Volume], outs: Sequence[Volume], kind: str, axis: int, slabs: Sequence[Slabs]) -> None:
    """Write the projections of each volume."""
    for volume, out, own in zip(volumes, outs, slabs, strict=True):
        hu = read_only(volume)
        if axis == 1:
            hu, out = hu.transpose(1, 0, 2), out.transpose(1, 0, 2)
        if kind == "mean":
            (_mean_along_x if axis == 2 else _mean_of_rows)(hu, out, own.voxels, own.step)
        else:
            (_extreme_along_x if axis == 2 else _extreme_of_rows)(hu, out, own.voxels, own.step, kind == "max")


@njit(nogil=True, cache=True)
def _extreme_of_rows(hu, out, voxels, step, is_max):
    """Maximum or minimum over the first axis."""
    for k in range(out.shape[0]):
        for y in range(hu.shape[1]):
            row = out[k, y]
            row[:] = hu[k * step, y]
            for z in range(k * step + 1, min(k * step + voxels, hu.shape[0])):
                _keep_extremes(row, hu[z, y], is_max)


@njit(nogil=True, cache=True)
def _keep_extremes(row, other, is_max):
    if is_max:
        for x in range(row.size):
            row[x] = max(row[x], other[x])
    else:
        for x in range(row.size):
            row[x] = min(row[x], other[x])


@njit(nogil=True, cache=True)
def _extreme_along_x(hu, out, voxels, step, is_max):
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for k in range(out.shape[2]):
                row = hu[z, y, k * step : k * step + voxels]
                out[z, y, k] = row.max() if is_max else row.min()


@njit(nogil=True, cache=True)
def _mean_of_rows(hu, out, voxels, step):
    """Mean over the first axis: sums are whole numbers, so that their order does not matter."""
    sums = np.empty(hu.shape[2], np.int64)
    for k in range(out.shape[0]):
        stop = min(k * step + voxels, hu.shape[0])
        for y in range(hu.shape[1]):
            sums[:] = 0
            for z in range(k * step, stop):
                _add_row(sums, hu[z, y])
            _divide_row(sums, stop - k * step, out[k, y])


@njit(nogil=True, cache=True)
def _add_row(sums, row):
    for x in range(row.size):
        sums[x] += row[x]


@njit(nogil=True, cache=True, error_model="numpy")
def _divide_row(sums, count, out):
    for x in range(out.size):
        out[x] = np.float32(np.float64(sums[x]) / np.float64(count))


@njit(nogil=True, cache=True)
def _mean_along_x(hu, out, voxels, step):
    sums = np.empty(1, np.int64)
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for k in range(out.shape[2]):
                row = hu[z, y, k * step : k * step + voxels]
                sums[0] = 0
                for x in range(row.size):
                    sums[0] += row[x]
                _divide_row(sums, row.size, out[z, y, k : k + 1])
