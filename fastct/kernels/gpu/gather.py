"""Reading volumes on a GPU: a launch for each kind of reading works through the whole batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastct import device
from fastct.device import empty_beside
from fastct.kernels.maps import Reading

__all__ = ["empty_beside", "gather"]

# A row of the table that a launch works through: `Job` in reading.h.
JOB = np.dtype(
    [
        ("source", np.uint64),
        ("out", np.uint64),
        ("strides", np.int64, 3),
        ("places", np.int64, (3, 4)),
        ("margin", np.int64),
        ("first_block", np.int64),
        ("noise_key", np.uint64),
        ("shape", np.int32, 3),
        ("out_shape", np.int32, 3),
        ("line", np.float32, 5),
        ("outside", np.float32),
        ("noise_sigma", np.float32),
        ("unused", np.int32),
    ]
)
# What a block writes, and its threads: see gather.cu.
TILE = (16, 8, 32)
THREADS = (32, 8)
VOXELS_OF_A_BLOCK, THREADS_IN_A_ROW = 4096, (256, 1)


def gather(volumes: Sequence[Any], outs: Sequence[Any], readings: Sequence[Reading]) -> None:
    """Write what each reading takes from its volume into its output."""
    kinds: dict[str, list[int]] = {}
    for number, (hu, out, reading) in enumerate(zip(volumes, outs, readings, strict=True)):
        kinds.setdefault(_kernel(hu, out, reading), []).append(number)
    for kernel, numbers in kinds.items():
        jobs = np.zeros(len(numbers), JOB)
        blocks = 0
        for job, number in zip(jobs, numbers, strict=True):
            _describe(job, volumes[number], outs[number], readings[number])
            job["first_block"] = blocks
            blocks += _blocks(kernel, readings[number].grid.shape)
        threads = THREADS_IN_A_ROW if kernel.startswith("map") else THREADS
        arguments = (jobs.view(np.uint8), np.int32(len(jobs)))
        device.launch("gather", kernel, blocks, threads, arguments, beside=outs[numbers[0]])


def _kernel(hu: Any, out: Any, reading: Reading) -> str:
    """The kernel that fits: voxel for voxel, nearest, along the axes or askew of them."""
    grid = reading.grid
    if grid.copies(hu.shape) and hu.flags.c_contiguous and reading.noise_sigma == 0:
        reader = "map_volume"
    elif reading.order == 0 or grid.is_whole:
        reader = "read_nearest"
    else:
        reader = "read_askew" if grid.source_axes is None else "read_aligned"
    return f"{reader}_{hu.dtype.name}_{out.dtype.name}"


def _blocks(kernel: str, shape: tuple[int, int, int]) -> int:
    """Blocks that write an output."""
    if kernel.startswith("map"):
        return -(-shape[0] * shape[1] * shape[2] // VOXELS_OF_A_BLOCK)
    z, y, x = (-(-n // tile) for n, tile in zip(shape, TILE, strict=True))
    return z * y * x


def _describe(job: Any, hu: Any, out: Any, reading: Reading) -> None:
    """Fill in a row of the table; source axes go in the order of the output's where both run along."""
    axes = list(reading.grid.source_axes or (0, 1, 2))
    source, settings = hu.transpose(axes), reading.settings
    job["source"], job["out"] = device.address(source), device.address(out)
    job["strides"] = [stride // source.itemsize for stride in source.strides]
    job["places"] = reading.grid.places[axes]
    job["shape"], job["out_shape"] = source.shape, out.shape
    job["line"], job["margin"], job["outside"] = settings.line, settings.margin, settings.outside
    job["noise_sigma"], job["noise_key"] = reading.noise_sigma, reading.noise_key
