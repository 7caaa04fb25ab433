# Patches out of shards of ctpack chunks; see fastct/patches.py for the face.
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext import BytesLike

_Triple = tuple[int, int, int]
_Flags = tuple[bool, bool, bool]
_Settings = tuple[tuple[float, ...], int, float, int]  # line, margin, what lies outside, order

def read_patch(
    shard: BytesLike,
    index: NDArray[np.uint64],
    layout: tuple[_Triple, _Triple, int],
    box: tuple[_Triple, _Flags],
    values: tuple[float, ...],
    out: NDArray[Any],
    portable: bool = False,
) -> tuple[int, str] | None: ...
def turn_volume(
    hu: NDArray[Any],
    places: NDArray[np.int64],
    settings: _Settings,
    out: NDArray[Any],
    portable: bool = False,
) -> None: ...
def turn_patch(
    shard: BytesLike,
    index: NDArray[np.uint64],
    layout: tuple[_Triple, _Triple, int, int],
    grid: tuple[NDArray[np.int64], _Settings],
    room: NDArray[np.uint8],
    out: NDArray[Any],
    portable: bool = False,
) -> tuple[int, str] | int | None: ...
