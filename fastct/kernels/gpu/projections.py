"""Projections on a GPU: a launch for each dtype of voxels works through the whole batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastct import device
from fastct.device import empty_beside
from fastct.kernels.projections import Slabs

__all__ = ["empty_beside", "project"]

# A row of the table that a launch works through: `Projection` in projections.cu.
PROJECTION = np.dtype(
    [
        ("source", np.uint64),
        ("out", np.uint64),
        ("strides", np.int64, 3),
        ("out_strides", np.int64, 3),
        ("first_block", np.int64),
        ("shape", np.int32, 3),
        ("slab", np.int32),
        ("step", np.int32),
        ("slabs", np.int32),
    ]
)
THREADS, WARP = 256, 32


def project(volumes: Sequence[Any], outs: Sequence[Any], kind: str, axis: int, slabs: Sequence[Slabs]) -> None:
    """Write the projections of each volume."""
    threads_of_a_pixel = WARP if axis == 2 else 1
    name = f"project_{kind}_along_x" if axis == 2 else f"project_{kind}"
    for dtype in sorted({volume.dtype.name for volume in volumes}):
        numbers = [number for number, volume in enumerate(volumes) if volume.dtype.name == dtype]
        table = np.zeros(len(numbers), PROJECTION)
        blocks = 0
        for row, number in zip(table, numbers, strict=True):
            _describe(row, volumes[number], outs[number], axis, slabs[number])
            row["first_block"] = blocks
            blocks += -(-outs[number].size * threads_of_a_pixel // THREADS)
        arguments = (table.view(np.uint8), np.int32(len(table)))
        launched = outs[numbers[0]]
        device.launch("projections", f"{name}_{dtype}", blocks, (THREADS, 1), arguments, beside=launched)


def _describe(row: Any, volume: Any, out: Any, axis: int, slabs: Slabs) -> None:
    """Fill in a row of the table, the axis that is projected along first."""
    axes = [axis, *(other for other in range(3) if other != axis)]
    row["source"], row["out"] = device.address(volume), device.address(out)
    row["strides"] = [volume.strides[a] // volume.itemsize for a in axes]
    row["out_strides"] = [out.strides[a] // out.itemsize for a in axes]
    row["shape"] = [volume.shape[a] for a in axes]
    row["slab"], row["step"], row["slabs"] = (min(n, volume.shape[axis]) for n in slabs)
