"""What the benchmarks work on: phantoms of MosMedData's size, made once a process."""

import atexit
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastct
from fastct.device import to_gpu
from fastct.errors import FastctError
from fastct.geometry import Geometry
from fastct.nifti import read_nifti, write_nifti
from fastct.phantom import Phantom, draw_study

SEED = 7
WINDOW_HU = (-1000, 400)
WINDOW_WIDTH = 1e-5  # how far windowed results may lie apart, the window being 1
PATCH = (32, 128, 128)
RATE_S = 0.5
SHAPE: tuple[int, int, int] | None = None  # as MosMedData has them; the test suite takes a small one


@cache
def phantom(category: str = "CT-2") -> Phantom:
    """A full-size synthetic chest with disease."""
    return draw_study(0, SEED, category=category, shape=SHAPE)


@cache
def _folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="fastct-bench-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def fresh_folder() -> Path:
    """An empty folder that lasts as long as the process."""
    return Path(tempfile.mkdtemp(dir=_folder()))


@cache
def nifti_file() -> Path:
    """The phantom as .nii.gz."""
    drawn, path = phantom(), fresh_folder() / "study.nii.gz"
    write_nifti(path, drawn.hu, drawn.geometry)
    return path


@cache
def store_of(path: Path) -> Path:
    """A store of the CT in a file."""
    store = fresh_folder() / "store"
    fastct.convert(path, store, workers=1)
    return store


@dataclass(frozen=True)
class Subject:
    """A CT that fastct and its peers work on, and the file that it lies in."""

    path: Path
    hu: NDArray[np.int16]
    geometry: Geometry


def subject(ct: Path | None = None) -> Subject:
    """The CT of a file, or a phantom."""
    path = nifti_file() if ct is None else ct
    volume = read_nifti(path)
    return Subject(path, volume.hu, volume.geometry)


def per_second(work: Callable[[], object], amount: float) -> float:
    """How much of what `work` does `amount` of gets done in a second: the median over half a second or more."""
    work()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < RATE_S:
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return amount / median(seconds)


def boxes_in(shape: Sequence[int], size: Sequence[int], count: int) -> list[tuple[slice, ...]]:
    """Places of so many boxes in a volume, drawn at random; a box is cut to the volume where it is larger."""
    rng = np.random.default_rng(1)
    size = [min(n, m) for n, m in zip(size, shape, strict=True)]
    starts = [[int(rng.integers(0, n - s + 1)) for n, s in zip(shape, size, strict=True)] for _ in range(count)]
    return [tuple(slice(b, b + s) for b, s in zip(start, size, strict=True)) for start in starts]


def placed(array: NDArray[Any], place: str) -> Any:
    """An array on the "cpu", or a copy on the "gpu"; asv takes NotImplementedError for "not applicable"."""
    if place == "cpu":
        return array
    try:
        return to_gpu(array)
    except FastctError as error:
        raise NotImplementedError from error


def wait_for(array: Any) -> None:
    """Wait until the GPU that an array lies on is done with it."""
    if not isinstance(array, np.ndarray):
        array.device.synchronize()


def processor() -> str:
    """What the machine calls its processor, and how many of them it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.machine()
