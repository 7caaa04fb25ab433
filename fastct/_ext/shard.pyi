# Zarr v3 shards of ctpack chunks; see fastct/shards.py for the face.
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext import BytesLike

_Triple = tuple[int, int, int]

def crc32c(chunk: BytesLike, portable: bool = False, before: int = 0) -> int: ...
def bound(count: _Triple, chunk_shape: _Triple, voxel_bytes: int) -> int: ...
def encode_volume(
    voxels: NDArray[Any],
    chunk_shape: _Triple,
    fill: int,
    omit_fill: bool,
    out: NDArray[np.uint8],
    portable: bool = False,
) -> int: ...
def decode_region(
    shard: BytesLike,
    index: NDArray[np.uint64],
    chunk_shape: _Triple,
    begin: _Triple,
    out: NDArray[Any],
    portable: bool = False,
) -> tuple[int, str] | None: ...
