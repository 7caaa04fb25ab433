"""Every benchmark runs, on a small phantom."""

import importlib
import inspect
import itertools
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL = (12, 96, 96)


@pytest.fixture(scope="module")
def small_phantom():
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(BENCHMARKS.parent)
    common = importlib.import_module("benchmarks.common")
    patch.setattr(common, "SHAPE", SMALL)
    yield
    patch.undo()
    common.phantom.cache_clear()
    common.nifti_file.cache_clear()


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("bench_*.py")))
def test_each_benchmark_runs(small_phantom, name):
    module = importlib.import_module(f"benchmarks.{name}")
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]
    assert classes
    for cls in classes:
        for values in itertools.product(getattr(cls, "params", [])) if hasattr(cls, "params") else [()]:
            instance = cls()
            instance.setup(*values)
            for method, call in inspect.getmembers(instance, inspect.ismethod):
                if method.startswith(("time_", "peakmem_", "track_")):
                    call(*values)
            if hasattr(instance, "teardown"):
                instance.teardown(*values)
