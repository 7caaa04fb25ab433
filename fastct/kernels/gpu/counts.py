"""Counting voxels in masks on a GPU: one launch for the whole batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastct import device

# A row of the table that a launch works through: `Study` in counts.cu.
STUDY = np.dtype(
    [
        ("volume", np.uint64),
        ("mask", np.uint64),
        ("counts", np.uint64),
        ("voxels", np.int64),
        ("first_block", np.int64),
    ]
)
THREADS = (256, 1)
VOXELS_OF_A_BLOCK = 2**16


def count_lungs(lungs: Sequence[Any], lesions: Sequence[Any]) -> Any:
    """As the face of the same name."""
    return _counted("count_lungs", lungs, lesions, 5, ())


def histogram(volumes: Sequence[Any], masks: Sequence[Any], low_hu: int, bin_hu: int, bins: int) -> Any:
    """As the face of the same name."""
    options = (np.int32(low_hu), np.int32(bin_hu), np.int32(bins))
    return _counted("histogram", volumes, masks, bins, options)


def _counted(kernel: str, volumes: Sequence[Any], masks: Sequence[Any], columns: int, options: tuple[Any, ...]) -> Any:
    """Launch a kernel that adds to a row of int64 counts for each study."""
    counts = device.zeros_beside(volumes[0], (len(volumes), columns), np.int64)
    studies = np.zeros(len(volumes), STUDY)
    blocks = 0
    laid_out = [(volume.reshape(-1), mask.reshape(-1)) for volume, mask in zip(volumes, masks, strict=True)]
    for study, (volume, mask), row in zip(studies, laid_out, counts, strict=True):
        study["volume"], study["mask"] = device.address(volume), device.address(mask)
        study["counts"], study["voxels"] = device.address(row), volume.size
        study["first_block"] = blocks
        blocks += -(-volume.size // VOXELS_OF_A_BLOCK)
    arguments = (studies.view(np.uint8), np.int32(len(studies)), *options)
    device.launch("counts", kernel, blocks, THREADS, arguments, beside=counts)
    return counts
