"""The CUDA kernels compiled by g++, and a stand-in for fastct.device that runs them on NumPy arrays."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastct import device

HERE = Path(__file__).parent
# No fused products, as for the GPU; undefined behaviour aborts with a message.
FLAGS = ("-O1", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-w")
SANITIZERS = ("-fsanitize=undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=undefined")


class CompiledModule:
    """The kernels of one `.cu` file."""

    def __init__(self, module: str, folder: Path) -> None:
        own = device.source(module)
        self.waits = "__syncthreads" in own or "_sync(" in own
        text = f'#include "cuda_on_cpu.h"\n#line 1 "{module}.cu"\n{own}'
        source, library = folder / f"{module}.cpp", folder / f"{module}.so"
        source.write_text(text, "utf-8")
        if not library.exists():  # else another module of tests has compiled it
            command = ["g++", *FLAGS, *SANITIZERS, f"-I{HERE}", "-o", str(library), str(source)]
            subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(library))

    def run(self, kernel, blocks, threads, arguments, from_the_last):
        """Run a launch; arrays pass as their addresses."""
        words = (ctypes.c_uint64 * 12)(*(_address(item) for item in arguments))
        entry = ctypes.cast(getattr(self.library, kernel), ctypes.c_void_p)
        shape = (ctypes.c_uint * 3)(blocks, *threads)
        self.library.run_kernel(entry, shape, words, int(self.waits), int(from_the_last))


def _address(item):
    item = getattr(item, "own", item)  # what a stand-in for CuPy's array holds
    return item.ctypes.data if isinstance(item, np.ndarray) else int(item)


class DeviceOnCpu:
    """What fastct.device does, with NumPy arrays for a GPU's; notes the launches."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.modules, self.launches = folder, {}, []
        self.from_the_last = False
        self.taken_bytes = self.table_bytes = 0  # by arrays of its own, and by the tables of launches

    def address(self, array):
        return array.ctypes.data

    def empty_beside(self, _, shape, dtype):
        return self.zeros_beside(_, shape, dtype)

    def copy_beside(self, _, host):
        return host.copy()

    def zeros_beside(self, _, shape, dtype):
        array = np.zeros(shape, dtype)
        self.taken_bytes += array.nbytes
        return array

    def fetch(self, array):
        return lambda: array.copy()

    def launch(self, module, kernel, blocks, threads, arguments, beside):
        if module not in self.modules:
            self.modules[module] = CompiledModule(module, self.folder)
        self.launches.append(kernel)
        self.table_bytes += sum(item.nbytes for item in arguments if isinstance(item, np.ndarray))
        self.modules[module].run(kernel, blocks, threads, arguments, self.from_the_last)


def cupy_on_cpu(folder: Path):
    """A stand-in for CuPy, whose kernels g++ compiles, for as long as the generator lives."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA kernels with")
    spec = importlib.util.spec_from_file_location("cupy_on_cpu", HERE / "cupy_on_cpu.py")
    cupy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cupy)
    stand_in = DeviceOnCpu(folder)
    stand_in.waits = cupy.waits
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", cupy.module())
        patch.setitem(sys.modules, "cupyx", cupy.extras())
        patch.setattr(device, "launch", stand_in.launch)
        yield stand_in


def device_on_cpu(folder: Path):
    """A DeviceOnCpu in place of fastct.device's functions, for as long as the generator lives."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA kernels with")
    stand_in = DeviceOnCpu(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("address", "empty_beside", "copy_beside", "zeros_beside", "fetch", "launch"):
            patch.setattr(device, name, getattr(stand_in, name))
        yield stand_in
