"""Counting voxels in masks on a CPU."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastct.kernels.cpu.gather import read_only

Volume = NDArray[Any]

HU_ZERO = 2**15  # half the values of int16
VOXELS_AT_A_TIME = 2**14  # are counted in 16 bits


def count_lungs(lungs: Sequence[Volume], lesions: Sequence[Volume]) -> NDArray[np.int64]:
    """As the face of the same name."""
    counts = np.zeros((len(lungs), 5), np.int64)
    for row, own_lungs, lesion in zip(counts, lungs, lesions, strict=True):
        _count_lungs(read_only(own_lungs).reshape(-1), read_only(lesion).reshape(-1), row)
    return counts


def histogram(
    volumes: Sequence[Volume], masks: Sequence[Volume], low_hu: int, bin_hu: int, bins: int
) -> NDArray[np.int64]:
    """As the face of the same name."""
    bin_of = (np.arange(-HU_ZERO, HU_ZERO) - low_hu) // bin_hu
    bin_of[(bin_of < 0) | (bin_of >= bins)] = bins  # a bin more, for what is left out
    counts = np.zeros((len(volumes), bins + 1), np.int64)
    for row, hu, mask in zip(counts, volumes, masks, strict=True):
        _histogram(read_only(hu).reshape(-1), read_only(mask).reshape(-1), bin_of.astype(np.uint16), row)
    return counts[:, :bins].copy()


@njit(nogil=True, cache=True)
def _count_lungs(lungs, lesion, counts):
    for first in range(0, lungs.size, VOXELS_AT_A_TIME):
        stop = first + VOXELS_AT_A_TIME
        _add_counts(lungs[first:stop], lesion[first:stop], counts)


@njit(nogil=True, cache=True)
def _add_counts(lungs, lesion, counts):
    """Add the counts of a few voxels: sums of 16 bits let twice as many be added at once as those of 32."""
    right = left = found = found_right = found_left = np.uint16(0)
    for voxel in range(lungs.size):
        is_right, is_left = np.uint16(lungs[voxel] == 1), np.uint16(lungs[voxel] == 2)
        is_lesion = np.uint16(lesion[voxel] != 0)
        right, left = np.uint16(right + is_right), np.uint16(left + is_left)
        found = np.uint16(found + is_lesion)
        found_right = np.uint16(found_right + (is_right & is_lesion))
        found_left = np.uint16(found_left + (is_left & is_lesion))
    for column, count in enumerate((right, left, found, found_right, found_left)):
        counts[column] += count


@njit(nogil=True, cache=True)
def _histogram(hu, mask, bin_of, counts):
    for voxel in range(hu.size):
        if mask[voxel] != 0:
            counts[bin_of[np.int64(hu[voxel]) + HU_ZERO]] += 1
