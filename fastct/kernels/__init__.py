"""Voxel kernels: each face checks and documents once, then calls the twin where the array lies."""

import sys
from importlib import import_module
from types import ModuleType

import numpy as np

from fastct.errors import ArrayError, NotReadyError


def home(module: str, *arrays: object) -> ModuleType:
    """The twin of kernel `module` that lives where the arrays lie: `kernels.cpu` for NumPy."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return import_module(f"fastct.kernels.cpu.{module}")
    cupy = sys.modules.get("cupy")
    if cupy is not None and all(isinstance(array, cupy.ndarray) for array in arrays):
        raise NotReadyError("CuPy arrays", "the CUDA kernels wait for issue 4", "Use NumPy arrays until then")
    places = ", ".join(sorted({type(array).__module__ + "." + type(array).__name__ for array in arrays}))
    raise ArrayError("arrays", f"they are {places}", "Give NumPy arrays only, or CuPy arrays only")
