"""Shared fixtures: where real CTs lie; small chests, and a store made of them; a stand-in for a GPU."""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from s3_server import Server, serve
from small_chests import small_chest, write_study

import fastct
from fastct.reporting import write_report
from fastct.store import Store

# On a busy machine drawing an example may take long, and is no fault of a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real CTs, or a skip where there is none."""
    folder = os.environ.get("FASTCT_REAL_DATA")
    if not folder:
        pytest.skip("FASTCT_REAL_DATA names no folder of real CTs")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"FASTCT_REAL_DATA={folder} is not a folder")
    return path.resolve()


@pytest.fixture(scope="session")
def chests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small studies in MosMedData's folders, the second with an expert's mask. Not to be changed."""
    root = tmp_path_factory.mktemp("chests")
    for number, category in enumerate(("CT-0", "CT-1", "CT-1", "CT-2"), 1):
        hu, lesion, affine = small_chest(number)
        write_study(root / "studies" / category / f"study_{number:04d}.nii.gz", hu, affine)
        if number == 2:
            write_study(root / "masks" / "study_0002_mask.nii.gz", lesion, affine)
    return root


@pytest.fixture
def broken_chests(chests: Path, tmp_path: Path) -> Path:
    """A copy of the four studies, the third cut off in the middle."""
    root = tmp_path / "broken"
    shutil.copytree(chests, root)
    broken = root / "studies" / "CT-1" / "study_0003.nii.gz"
    broken.write_bytes(broken.read_bytes()[:-5000])
    return root


@pytest.fixture(scope="session")
def scored(chests: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of the four small studies, scored, with its report. Not to be changed."""
    store = tmp_path_factory.mktemp("scored") / "store"
    fastct.convert(chests, store, workers=1)
    fastct.score(store, workers=1)
    write_report(store)
    return store


@pytest.fixture(scope="session")
def store(scored: Path) -> Store:
    """The same store, opened."""
    return fastct.open(scored)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running S3 server, or a skip where moto is not installed."""
    pytest.importorskip("moto")
    with serve(tmp_path_factory.mktemp("s3") / "server.log") as server:
        yield server


@pytest.fixture(scope="session")
def cuda_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The module of stand-ins for a GPU, and the folder where the CUDA kernels lie that g++ compiled for them."""
    path = Path(__file__).parent / "cuda_on_cpu" / "shim.py"
    spec = importlib.util.spec_from_file_location("cuda_on_cpu_shim", path)
    assert spec is not None
    assert spec.loader is not None
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)
    return shim, tmp_path_factory.mktemp("cuda")


@pytest.fixture(scope="module")
def gpu(cuda_on_cpu: tuple[Any, Path]) -> Iterator[Any]:
    """A stand-in for a GPU, which takes NumPy arrays for its own."""
    shim, folder = cuda_on_cpu
    yield from shim.device_on_cpu(folder)


@pytest.fixture(scope="module")
def cupy(cuda_on_cpu: tuple[Any, Path]) -> Iterator[Any]:
    """A stand-in for CuPy, with arrays of its own."""
    shim, folder = cuda_on_cpu
    yield from shim.cupy_on_cpu(folder)
