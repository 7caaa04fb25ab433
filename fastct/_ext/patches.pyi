# Patches out of shards of ctpack chunks; see fastct/patches.py for the face.
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext import BytesLike

_Triple = tuple[int, int, int]
_Flags = tuple[bool, bool, bool]

def read_patch(
    shard: BytesLike,
    index: NDArray[np.uint64],
    layout: tuple[_Triple, _Triple, int],
    box: tuple[_Triple, _Flags],
    values: tuple[float, ...],
    out: NDArray[Any],
    portable: bool = False,
) -> tuple[int, str] | None: ...
def turn_patch(
    room: NDArray[np.float32],
    shape: _Triple,
    places: NDArray[np.int64],
    edges: tuple[int, float],
    out: NDArray[Any],
    portable: bool = False,
) -> None: ...
