"""The house: imports go down, Dask is imported in one place, heavy packages only when they are used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastct

PACKAGE = Path(fastct.__file__).parent
FLOORS = (
    ("errors", "geometry", "options"),
    ("_ext", "device", "kept"),
    ("shard_layout", "archive", "shards", "codecs", "kernels", "storage", "ome"),
    ("nifti", "phantom"),
    ("sealed", "mosmed", "records", "foreground", "store", "publish", "tables"),
    ("flags", "sides", "airways", "wall", "pleura", "lungs", "opacity", "lesions", "gpu"),
    ("draws", "frame", "steps", "transforms", "montage", "pictures", "agreement"),
    ("shelf", "carrier", "sampling", "patches", "dataset", "adapters"),
    ("conversion", "gpu_scoring", "scoring", "exporting"),
    ("batches", "schedule", "pipeline", "readahead", "gpu_loading", "loader"),
    ("pages", "report", "reporting", "comparison", "integrity", "repairing", "verification", "describe", "progress"),
    ("cli", "__main__", "__init__"),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
CODE = {".py", ".pyx", ".pxd", ".pyi", ".h", ".cu", ".cpp", ".html", ".css", ".js"}
HEAVY = ("cupy", "torch", "numba", "dask", "distributed", "zarr", "nibabel", "scipy")


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "_ext")


def imported(path):
    """Names of fastct's modules, and of other packages, that a file imports; inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            own = node.module == "fastct"
            yield from (f"fastct.{alias.name}" for alias in node.names) if own else [node.module]


def floor_of(path):
    return FLOOR_OF[path.relative_to(PACKAGE).parts[0].removesuffix(".py")]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    for name in imported(path):
        if name.startswith("fastct.") and name.split(".")[1] in FLOOR_OF:
            assert FLOOR_OF[name.split(".")[1]] <= floor_of(path), f"{path.name} imports {name} from a floor above"


def test_only_the_schedule_imports_dask():
    users = {path.name for path in modules() if {"dask", "distributed"} & {n.split(".")[0] for n in imported(path)}}
    assert users <= {"schedule.py"}


def test_twins_are_only_reached_through_home():
    for path in modules():
        if path.parent.name in ("cpu", "gpu"):
            continue
        twins = [name for name in imported(path) if name.startswith(("fastct.kernels.cpu", "fastct.kernels.gpu"))]
        assert not twins, f"{path.name} imports {twins}"


def test_import_is_light():
    code = f"import sys, fastct; print([name for name in {HEAVY!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_every_promised_name_is_there():
    for name in fastct.__all__:
        assert getattr(fastct, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fastct.nonsense  # noqa: B018


def test_files_are_short():
    root = PACKAGE.parent
    folders = [root / name for name in ("fastct", "src_ext", "tests", "benchmarks") if (root / name).is_dir()]
    for path in (path for folder in folders for path in folder.rglob("*") if path.suffix in CODE):
        assert path.read_text().count("\n") <= 400, f"{path} is too long"


def test_functions_are_short():
    for path in modules():
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                doc = (ast.get_docstring(node) or "").count("\n")
                assert node.end_lineno - node.lineno - doc <= 60, f"{path}:{node.name} is too long"
