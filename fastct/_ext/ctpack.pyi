# ctpack chunks, one at a time; see fastct/codecs.py for the face.
import numpy as np
from numpy.typing import NDArray

from fastct._ext import BytesLike

def has_avx2() -> bool: ...
def bound(shape: tuple[int, ...], voxel_bytes: int) -> int: ...
def encode(
    voxels: BytesLike,
    shape: tuple[int, ...],
    voxel_bytes: int,
    out: NDArray[np.uint8],
    portable: bool = False,
) -> int: ...
def inspect(chunk: BytesLike) -> str | tuple[int, tuple[int, ...]]: ...
def decode(chunk: BytesLike, out: NDArray[np.uint8], voxel_bytes: int, portable: bool = False) -> str | None: ...
