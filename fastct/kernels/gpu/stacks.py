"""Stacks of slices on a GPU: the tables and sizes of launches over the words of their masks."""

from typing import Any

import numpy as np

from fastct import device
from fastct.errors import ArrayError

THREADS = (256, 1)
WORD_BITS = 64
MOST_WORDS = 2**26  # of a mask, so that an int numbers them all, and their 32 slots each

# A volume of voxels at any strides: `Volume` in bitrows.h.
VOLUME = np.dtype(
    [
        ("voxels", np.uint64),
        ("strides", np.int64, 3),
        ("first_block", np.int64),
        ("first_slice", np.int32),
        ("shape", np.int32, 3),
    ]
)


def volume_table(voxels: Any, units_of_a_row: int) -> tuple[tuple[Any, Any], int]:
    """The table of a launch over a volume (and how many rows it has), and its blocks, a thread a unit."""
    table = np.zeros(1, VOLUME)
    table["voxels"], table["shape"] = device.address(voxels), voxels.shape
    table["strides"] = [stride // voxels.itemsize for stride in voxels.strides]
    blocks = -(-voxels.shape[0] * voxels.shape[1] * units_of_a_row // THREADS[0])
    return (table.view(np.uint8), np.int32(1)), blocks


def over_words(module: str, kernel: str, mask: Any, arguments: tuple[Any, ...]) -> None:
    """Launch a thread for every word of a mask."""
    device.launch(module, kernel, -(-mask.size // THREADS[0]), THREADS, arguments, beside=mask)


def check_size(mask: Any) -> None:
    """Refuse masks that kernels cannot number."""
    if mask.size > MOST_WORDS:
        finding = f"its masks take {mask.size} words, more than {MOST_WORDS}"
        raise ArrayError("volume", finding, "Score it on the CPU, or cut it in parts")
