"""Decoding boxes out of chunks on a CPU: on a line, through scratch memory of one layer of chunks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext import shard as ext
from fastct.geometry import Shape
from fastct.kernels.chunks import ChunkBox, Fault
from fastct.kernels.cpu.gather import gather
from fastct.kernels.maps import Reading, identity_grid

Bytes = NDArray[np.uint8]
Voxels = NDArray[Any]


def decode_chunks(source: Bytes, boxes: Sequence[ChunkBox], outs: Sequence[Voxels]) -> Callable[[], Fault | None]:
    """As the face of the same name; the answer tells the first fault."""
    fault = None
    for number, (box, out) in enumerate(zip(boxes, outs, strict=True)):
        as_stored = out.dtype == box.layout.dtype
        found = _decode(source, box, box.begin, out) if as_stored else _decode_on_line(source, box, out)
        if found is not None:
            z, y, x = (int(n) for n in np.unravel_index(found[0], box.layout.grid))
            fault = Fault(number, (z, y, x), found[1])
            break
    return lambda: fault


def _decode(source: Bytes, box: ChunkBox, begin: Shape, out: Voxels) -> tuple[int, str] | None:
    """Decode voxels as they are stored, from `begin` on; the first fault: the chunk's number, and a sentence."""
    box.layout.fill_missing(box.index, begin, out)
    return ext.decode_region(source, box.index, box.layout.chunk_shape, begin, out)


def _decode_on_line(source: Bytes, box: ChunkBox, out: Voxels) -> tuple[int, str] | None:
    """Decode voxels a layer at a time, and map them while they are in a cache."""
    depth = box.layout.chunk_shape[0]
    layer = np.empty((depth, *box.shape[1:]), box.layout.dtype)
    z, y, x = box.begin
    first = z
    while first < z + box.shape[0]:
        stop = min(first - first % depth + depth, z + box.shape[0])
        voxels = layer[: stop - first]
        fault = _decode(source, box, (first, y, x), voxels)
        if fault is not None:
            return fault
        gather([voxels], [out[first - z : stop - z]], [Reading(identity_grid(voxels.shape), box.line)])
        first = stop
    return None
