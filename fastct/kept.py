"""Memory that each thread keeps from one study to the next: fresh memory costs a page fault for every 4 KiB."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from fastct._ext import arena

MOST_KEPT_BYTES = 64 << 20  # of one buffer: thrice a CT of MosMedData; what a giant took is given back after it


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, NDArray[np.uint8]] = {}
        self.arena = arena.new()


_KEPT = _Kept()


def kept_bytes(use: str, size_bytes: int) -> NDArray[np.uint8]:
    """The first bytes of this thread's buffer for that use, with whatever they hold; its next call takes them back.

    Examples
    --------
    >>> first = kept_bytes("example", 1000)
    >>> kept_bytes("example", 10).base is first.base
    True
    """
    if size_bytes > MOST_KEPT_BYTES:
        return np.empty(size_bytes, np.uint8)
    known = _KEPT.buffers.get(use)
    if known is None or known.size < size_bytes:
        _KEPT.buffers.pop(use, None)
        known = _KEPT.buffers[use] = np.empty(size_bytes, np.uint8)
    return known[:size_bytes]


@contextmanager
def work_memory() -> Iterator[None]:
    """Have NumPy make this thread's arrays in memory that is used again, as `Arena` in src_ext/arena.h hands it out.

    An array that lives on keeps its part of that memory; results are better made outside.

    Examples
    --------
    >>> def place():
    ...     with work_memory():
    ...         return np.empty(1 << 16).__array_interface__["data"][0]
    >>> place() == place()
    True
    """
    before = arena.use(_KEPT.arena)
    try:
        yield
    finally:
        arena.use(before)
