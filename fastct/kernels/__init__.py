"""Voxel kernels: each face checks and documents once, then calls the twin where the array lies."""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from fastct.errors import ArrayError, DeviceError


def home(module: str, *arrays: object) -> ModuleType:
    """The twin of kernel `module` that lives where the arrays lie: a CPU for NumPy, a GPU for CuPy."""
    if not lie_on_gpu(*arrays):
        return import_module(f"fastct.kernels.cpu.{module}")
    if find_spec(f"fastct.kernels.gpu.{module}") is None:
        raise DeviceError(f"kernel {module}", "it works on the CPU only", "Give NumPy arrays")
    return import_module(f"fastct.kernels.gpu.{module}")


def lie_on_gpu(*arrays: object) -> bool:
    """Whether arrays are CuPy's, all of one GPU; or NumPy's, all of them. ArrayError if they are neither."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return False
    cupy = sys.modules.get("cupy")
    if cupy is not None and all(isinstance(array, cupy.ndarray) for array in arrays):
        if len({array.device.id for array in arrays}) > 1:  # type: ignore[attr-defined]
            raise ArrayError("arrays", "they lie on several GPUs", "Give arrays of one GPU at a time")
        return True
    places = ", ".join(sorted({type(array).__module__ + "." + type(array).__name__ for array in arrays}))
    raise ArrayError("arrays", f"they are {places}", "Give NumPy arrays only, or CuPy arrays only")


def side_by_side(**lists: Any) -> list[tuple[Any, ...]]:
    """What belongs to each volume, from lists of one length, by their names. ArrayError if they are none."""
    found = {name: len(one) if isinstance(one, (list, tuple)) else type(one).__name__ for name, one in lists.items()}
    if len(set(found.values())) > 1 or not all(isinstance(length, int) for length in found.values()):
        said = ", ".join(f"{name} is {'a list of ' * isinstance(one, int)}{one}" for name, one in found.items())
        raise ArrayError("volumes", said, "Give one of each, or lists of one length, an item for each volume")
    return list(zip(*lists.values(), strict=True))


def dtype_and_shape(array: Any) -> str:
    """How errors call an array, or whatever came in its place."""
    return f"{array.dtype} {array.shape}" if hasattr(array, "dtype") else type(array).__name__
