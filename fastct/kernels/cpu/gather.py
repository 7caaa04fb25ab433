"""Reading volumes on a CPU: picks the loop that fits each grid."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext.patches import turn_volume
from fastct.kernels.cpu import aligned
from fastct.kernels.cpu.noise import add_noise
from fastct.kernels.cpu.pointwise import map_volume
from fastct.kernels.cpu.streaming import LARGE_BYTES, map_large
from fastct.kernels.maps import Reading

Volume = NDArray[Any]


def gather(volumes: Sequence[Volume], outs: Sequence[Volume], readings: Sequence[Reading]) -> None:
    """Write what each reading takes from its volume into its output."""
    for hu, out, reading in zip(volumes, outs, readings, strict=True):
        if reading.noise_sigma == 0:
            _read(read_only(hu), _target(out), reading)
        else:
            _read_with_noise(read_only(hu), out, reading)


def empty_beside(_: Volume, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Volume:
    """An output in host memory, where the volume is."""
    return np.empty(shape, dtype)


def _read(hu: Volume, out: Volume, reading: Reading) -> None:
    grid, settings = reading.grid, reading.settings
    if grid.copies(hu.shape):
        _map(hu, out, settings.line)
        return
    if grid.source_axes is None:
        turn_volume(hu, *reading.turn, out)
        return
    axes = grid.source_axes
    kernel = aligned.linear if reading.order == 1 and not grid.is_whole else aligned.nearest
    kernel(hu.transpose(axes), out, grid.places[list(axes)], settings)


def _map(hu: Volume, out: Volume, line: tuple[np.float32, ...]) -> None:
    """Map voxel for voxel."""
    if not hu.flags.c_contiguous:
        map_volume(hu, out, line)
    elif out.nbytes < LARGE_BYTES:
        map_volume(hu.reshape(1, 1, -1), out.reshape(1, 1, -1), line)
    else:
        map_large(hu.reshape(-1), out.reshape(-1), out.reshape(-1).view(np.uint8), line)


def _read_with_noise(hu: Volume, out: Volume, reading: Reading) -> None:
    """Noise is added before rounding to the type of the output, so that one is read in float32 first."""
    finished = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
    _read(hu, finished, reading)
    sigma, key = np.float32(reading.noise_sigma), np.uint64(reading.noise_key)
    add_noise(finished.reshape(-1), _target(out).reshape(-1), sigma, key)


def read_only(hu: Volume) -> Volume:
    """A read-only view: Numba compiles read-only and writable arrays apart, and one is enough."""
    view = hu.view()
    view.flags.writeable = False
    return view


def _target(out: Volume) -> Volume:
    """Numba on a CPU knows no float16: kernels write its bits."""
    return out.view(np.uint16) if out.dtype == np.float16 else out
