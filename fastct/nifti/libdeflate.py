"""libdeflate's C functions, which the package `deflate` carries: they inflate into memory that the caller gives.

The package itself only inflates into fresh memory, and the page faults of that cost a third of the inflating.
Where its library shows no C functions, what it inflates is copied.
"""

import ctypes
from functools import cache
from importlib.util import find_spec
from typing import Any

import deflate
import numpy as np
from numpy.typing import NDArray

_MOST_BYTES_OF_PACKAGE = (1 << 32) - 1  # the package takes 32-bit sizes, and wraps larger ones in silence


def inflate_member(raw: NDArray[np.uint8], out: NDArray[np.uint8]) -> int | None:
    """Inflate the gzip member that `raw` begins with into `out`: its size, or None if it is damaged or does not fit.

    Its checksum and the size in its trailer are compared.

    Raises
    ------
    MemoryError
        If libdeflate finds no memory for its tables.

    Examples
    --------
    >>> import gzip
    >>> out = np.empty(9, np.uint8)
    >>> inflate_member(np.frombuffer(gzip.compress(b"voxels"), np.uint8), out)
    6
    >>> bytes(out[:6])
    b'voxels'
    """
    library = _library()
    return _by_package(raw, out) if library is None else _in_place(library, raw, out)


def _in_place(library: Any, raw: NDArray[np.uint8], out: NDArray[np.uint8]) -> int | None:
    filled = ctypes.c_size_t()
    decompressor = library.libdeflate_alloc_decompressor()
    if not decompressor:
        raise MemoryError
    try:
        fault = library.libdeflate_gzip_decompress(
            decompressor, raw.ctypes.data, raw.size, out.ctypes.data, out.size, ctypes.byref(filled)
        )
    finally:
        library.libdeflate_free_decompressor(decompressor)
    return None if fault else filled.value


def _by_package(raw: NDArray[np.uint8], out: NDArray[np.uint8]) -> int | None:
    if not 0 < out.size <= _MOST_BYTES_OF_PACKAGE:
        return None
    try:
        whole = deflate.gzip_decompress(raw, out.size)
    except deflate.DeflateError:
        return None
    out[: len(whole)] = np.frombuffer(whole, np.uint8)
    return len(whole)


@cache
def _library() -> Any:
    """The C functions with their types, by libdeflate.h; None where they are not to be had."""
    found = find_spec("deflate._deflate")
    try:
        library = ctypes.CDLL(found.origin if found else None)
        library.libdeflate_alloc_decompressor.restype = ctypes.c_void_p
        library.libdeflate_free_decompressor.argtypes = [ctypes.c_void_p]
        library.libdeflate_free_decompressor.restype = None
        library.libdeflate_gzip_decompress.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.POINTER(ctypes.c_size_t),
        ]
        library.libdeflate_gzip_decompress.restype = ctypes.c_int
    except (OSError, AttributeError):
        return None
    return library
