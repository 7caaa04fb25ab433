"""Arrays on a GPU: moving them there and back, and launching kernels; nothing else knows CuPy's insides."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import NotReadyError

# Products and sums are never fused, so that a GPU rounds as a CPU does.
COMPILER_OPTIONS = ("-std=c++17", "-fmad=false")
INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)


def to_gpu(array: NDArray[Any], number: int = 0) -> Any:
    """A copy of a NumPy array on a GPU, made on its current stream.

    Raises
    ------
    NotReadyError
        If CuPy is not installed, or there is no such GPU.
    """
    cupy = _cupy()
    if not 0 <= number < cupy.cuda.runtime.getDeviceCount():
        raise NotReadyError(f"cuda:{number}", "there is no such GPU", "Choose another, or use the CPU")
    with cupy.cuda.Device(number):
        return cupy.asarray(array)


def to_host(array: Any) -> NDArray[Any]:
    """A NumPy array of what a GPU's array holds, once its stream is done; a NumPy array as it is."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())


def address(array: Any) -> int:
    """Where the first voxel of a GPU's array lies."""
    return int(array.data.ptr)


def empty_beside(array: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array on the GPU of another."""
    with array.device:
        return _cupy().empty(shape, dtype)


def zeros_beside(array: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array of zeros on the GPU of another."""
    with array.device:
        return _cupy().zeros(shape, dtype)


def launch(
    module: str, kernel: str, blocks: int, threads: tuple[int, int], arguments: tuple[Any, ...], beside: Any
) -> None:
    """Launch a kernel of `kernels/gpu/<module>.cu` on the GPU of an array, on its current stream.

    NumPy arrays among the arguments (tables) are copied there first, through pinned memory, so that
    nobody waits; CuPy keeps that memory until the copy is done.
    """
    cupy = _cupy()
    with beside.device:
        on_gpu = tuple(cupy.asarray(item) if isinstance(item, np.ndarray) else item for item in arguments)
        _module(module).get_function(kernel)((blocks,), threads, on_gpu)


def source(module: str) -> str:
    """The text of `kernels/gpu/<module>.cu`, with its own headers in place.

    A single text lets CuPy's cache of compiled kernels notice every change of a header.
    """
    folder = files("fastct.kernels.gpu")
    text = INCLUDE.sub(
        lambda found: folder.joinpath(found[1]).read_text("utf-8"),
        folder.joinpath(f"{module}.cu").read_text("utf-8"),
    )
    return text.replace("#pragma once\n", "")


@cache
def _module(name: str) -> Any:
    return _cupy().RawModule(code=source(name), options=COMPILER_OPTIONS)


def _cupy() -> Any:
    try:
        import cupy
    except ImportError:
        raise NotReadyError(
            "CuPy", "it is not installed", 'Install it with: pip install "fastct[cuda13]" (or cuda12)'
        ) from None
    return cupy
