"""Arrays on a GPU: moving them there and back, and launching kernels; nothing else knows CuPy's insides."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import DeviceError
from fastct.kept import work_memory

# Products and sums are never fused, so that a GPU rounds as a CPU does.
COMPILER_OPTIONS = ("-std=c++17", "-fmad=false")
ALIGNMENT_BYTES = 16  # of arrays that share memory
INCLUDE = re.compile(r'^#include "(\w+\.h)"$', re.MULTILINE)


def to_gpu(array: NDArray[Any], number: int = 0) -> Any:
    """A copy of a NumPy array on a GPU, made on its current stream.

    Raises
    ------
    DeviceError
        If CuPy is not installed, or there is no such GPU.
    """
    cupy = _cupy()
    _check_number(number)
    with cupy.cuda.Device(number):
        return cupy.asarray(array)


def _check_number(number: int) -> None:
    if not 0 <= number < gpu_count():
        found = f"there is no such GPU: this machine has {gpu_count() or 'none'}"
        raise DeviceError(f"cuda:{number}", found, "Choose another, or use the CPU: --device cpu")


def gpu_count() -> int:
    """How many GPUs there are; 0 where no driver answers.

    Raises
    ------
    DeviceError
        If CuPy is not installed.
    """
    runtime = _cupy().cuda.runtime
    try:
        return int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError:
        return 0


def find_gpus(wanted: str) -> tuple[int, ...]:
    """The numbers of the GPUs that "cuda" (all) or "cuda:N" (one) names; none for "cpu".

    "auto" names all GPUs, too, and none where there is none or no CuPy.

    Raises
    ------
    DeviceError
        If there is no such GPU, or CuPy is not installed.
    """
    kind, _, number = wanted.partition(":")
    if kind == "auto":
        with suppress(DeviceError):
            return tuple(range(gpu_count()))
        return ()
    if kind != "cuda":
        return ()
    there = tuple(range(gpu_count()))
    found = tuple(gpu for gpu in there if not number or gpu == int(number))
    if not found:
        finding = f"there is no such GPU: this machine has {len(there) or 'none'}"
        raise DeviceError(
            f"device {wanted}", finding, "Choose another, see what nvidia-smi says, or use the CPU: --device cpu"
        )
    return found


def to_host(array: Any) -> NDArray[Any]:
    """A NumPy array of what a GPU's array holds, once its stream is done; a NumPy array as it is."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())


def to_host_together(*arrays: Any) -> list[NDArray[Any]]:
    """NumPy arrays of what a GPU's arrays hold, in memory that they share; it is waited for once."""
    places = np.cumsum([0, *(-(-array.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES for array in arrays)]).tolist()
    joined = empty_beside(arrays[0], (places[-1],), np.uint8)
    for array, place in zip(arrays, places, strict=False):
        joined[place : place + array.nbytes] = array.reshape(-1).view(np.uint8)
    host = fetch(joined)()
    return [
        host[place : place + array.nbytes].view(array.dtype).reshape(array.shape)
        for array, place in zip(arrays, places, strict=False)
    ]


def working_beside(array: Any) -> AbstractContextManager[Any]:
    """Where arrays made from this one are made: on its GPU, as CuPy's own operators want it, or in work memory."""
    return work_memory() if isinstance(array, np.ndarray) else array.device


def labels_beside(array: Any) -> Any:
    """Labels for an array's voxels, uint8 and all 0, where that one lies; they are results, not work memory."""
    if isinstance(array, np.ndarray):
        return np.zeros(array.shape, np.uint8)  # of pages that come as they are written
    return zeros_beside(array, array.shape, np.uint8)


def address(array: Any) -> int:
    """Where the first voxel of a GPU's array lies."""
    return int(array.data.ptr)


def fetch(array: Any) -> Callable[[], NDArray[Any]]:
    """Begin to copy a GPU's array to the host, on its current stream; the answer waits for it alone."""
    cupy = _cupy()
    from cupyx import empty_pinned

    host: NDArray[Any] = empty_pinned(array.shape, array.dtype)
    with array.device:
        array.get(out=host, blocking=False)
        copied = cupy.cuda.Event(disable_timing=True)
        copied.record()

    def wait() -> NDArray[Any]:
        copied.synchronize()
        return host

    return wait


def span(array: Any) -> tuple[int, int]:
    """The address of an array's first byte, and that behind its last; on a CPU or a GPU, at any strides."""
    start = stop = array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else address(array)
    for n, stride in zip(array.shape, array.strides, strict=True):
        reach = (n - 1) * stride
        start, stop = start + min(reach, 0), stop + max(reach, 0)
    return start, stop + array.itemsize


class SideStream:
    """A stream of a GPU beside the one in use, with page-locked memory whose bytes travel on it."""

    def __init__(self, number: int = 0) -> None:
        self._cupy = _cupy()
        _check_number(number)
        self._device = self._cupy.cuda.Device(number)
        with self._device:
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
            self._sent = self._cupy.cuda.Event(disable_timing=True)
            self._done = self._cupy.cuda.Event(disable_timing=True)
        self._host: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._there: Any = None

    def room(self, n_bytes: int) -> NDArray[np.uint8]:
        """Memory for that many bytes, once those of the last time are sent."""
        from cupyx import empty_pinned

        self._sent.synchronize()
        if self._host.size < n_bytes:
            with self._device:
                self._host = empty_pinned(_spacious(n_bytes), np.uint8)
        return self._host[:n_bytes]

    def empty_on_current_stream(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array for whoever uses the current stream, with which its memory is given back."""
        with self._device:
            return self._cupy.empty(shape, dtype)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work on this stream, after all that was queued on the current one."""
        with self._device:
            queued = self._cupy.cuda.Event(disable_timing=True)
            queued.record()
            self._stream.wait_event(queued)
            try:
                with self._stream:
                    yield
            except BaseException:
                self._stream.synchronize()  # what was queued may still write to arrays that are now let go
                raise
            self._done.record(self._stream)

    def wait(self) -> None:
        """Wait until all is done that was queued where the stream was entered last."""
        self._done.synchronize()

    def send(self, n_bytes: int) -> Any:
        """Begin to copy the first bytes of the memory to the GPU; called where the stream is entered."""
        if self._there is None or self._there.size < n_bytes:
            self._there = self._cupy.empty(_spacious(n_bytes), np.uint8)
        there = self._there[:n_bytes]
        if n_bytes:
            there.set(self._host[:n_bytes], stream=self._stream)
        self._sent.record(self._stream)
        return there


def _spacious(n_bytes: int) -> int:
    """Room for a batch that is somewhat larger, so that memory seldom has to grow."""
    return n_bytes + n_bytes // 2


def empty_beside(array: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """An array on the GPU of another."""
    with array.device:
        return _cupy().empty(shape, dtype)


def copy_beside(array: Any, host: NDArray[Any]) -> Any:
    """A copy of a NumPy array on the GPU of another, made on its current stream."""
    with array.device:
        return _cupy().asarray(host)


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
        from cupy import cuda  # noqa: F401  a folder of that name, or the rest of an installation, has none
    except ImportError:
        raise DeviceError(
            "CuPy",
            "it is not installed",
            'In the clone: pip install -e ".[cuda13]" (or cuda12); or use the CPU: --device cpu',
        ) from None
    return cupy
