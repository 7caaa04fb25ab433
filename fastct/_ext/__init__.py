"""Compiled byte work: built from src_ext/ by setup.py."""

from mmap import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

BytesLike = bytes | bytearray | memoryview | mmap | NDArray[Any]  # contiguous


def as_bytes(buffer: BytesLike) -> NDArray[np.uint8]:
    """A view of any contiguous buffer as bytes, as the modules here read it."""
    return np.asarray(memoryview(buffer).cast("B"))  # type: ignore[arg-type]  # numpy has no __buffer__ in 3.11
