"""Every benchmark runs, on a small phantom."""

import importlib
import inspect
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fastct import Geometry

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL = (12, 96, 96)


@pytest.fixture(scope="module", autouse=True)
def found():
    """The benchmarks can be imported."""
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(BENCHMARKS.parent)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def small_phantom(found):
    patch = pytest.MonkeyPatch()
    common = importlib.import_module("benchmarks.common")
    patch.setattr(common, "SHAPE", SMALL)
    patch.setattr(common, "RATE_S", 0)
    yield
    patch.undo()
    common.phantom.cache_clear()
    common.nifti_file.cache_clear()


@pytest.mark.filterwarnings("ignore")  # of other packages: what they warn of is no fault of ours
@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("peers_*.py")))
def test_each_peer_agrees(small_phantom, name):
    comparing = importlib.import_module("benchmarks.comparing")
    subject = importlib.import_module("benchmarks.common").subject()
    fine = Geometry(subject.hu.shape, np.diag([-0.75, 0.75, 8.0, 1.0]))  # a chest as small as that would be coarse
    subject = replace(subject, geometry=fine)
    for case in importlib.import_module(f"benchmarks.{name}").cases(subject):
        rows = list(comparing.compare(case, budget_s=0, turn_s=0))
        assert rows[0].name == case.by
        assert all(row.agrees for row in rows), comparing.table(rows)
        assert case.work in comparing.table(rows)


def test_a_peer_that_differs_is_seen(small_phantom):
    comparing = importlib.import_module("benchmarks.comparing")

    def missing():
        raise ModuleNotFoundError

    rivals = [
        comparing.Rival("one off", lambda: lambda: [1, 3], tolerance=0.5),
        comparing.Rival("other shape", lambda: lambda: [1], tolerance=0.5),
        comparing.Rival("not installed", missing),
        comparing.Rival("slower", lambda: lambda: sum(range(10**5)), wanted=1e9),
    ]
    case = comparing.Case("count", lambda: [1, 2], rivals)
    rows = list(comparing.compare(case, budget_s=0, turn_s=0))
    assert [row.agrees for row in rows] == [True, False, False, True]
    assert [row.difference for row in rows] == [None, 1, float("inf"), None]
    assert "**1**" in comparing.table(rows)
    assert all(len(row.seconds) == comparing.FEWEST_ROUNDS for row in rows)
    assert rows[-1].cells()[3].startswith("**")


@pytest.mark.parametrize("name", ["threads", "chunks", "patches"])
def test_each_curve_is_measured_and_drawn(small_phantom, name):
    pytest.importorskip("tensorstore") if name == "patches" else None
    curves, plots = (importlib.import_module(f"benchmarks.{module}") for module in ("curves", "plots"))
    subject = importlib.import_module("benchmarks.common").subject()
    curve = curves.CURVES[name](subject, 0)
    assert plots.Curve.from_json(curve.to_json()).ticks == curve.ticks
    for line in curve.lines:
        assert len(line.values) == len(curve.ticks)
        assert all(low <= value <= high for low, value, high in zip(line.low, line.values, line.high, strict=True))
    drawing = ElementTree.fromstring(plots.draw(curve))  # noqa: S314 (our own text)
    dots = list(drawing.iter("{http://www.w3.org/2000/svg}circle"))
    assert len(dots) == len(curve.ticks) * len(curve.lines)
    assert all(0 < float(dot.get("cy")) < plots.HEIGHT for dot in dots)


def test_the_plots_that_the_readme_shows_are_drawn_from_their_figures():
    plots = importlib.import_module("benchmarks.plots")
    results = BENCHMARKS / "results"
    for name, stored in json.loads((results / "curves.json").read_text()).items():
        assert (results / f"{name}.svg").read_text() == plots.draw(plots.Curve.from_json(stored))
        assert f"benchmarks/results/{name}.svg" in (BENCHMARKS.parent / "README.md").read_text()


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("bench_*.py")))
def test_each_benchmark_runs(small_phantom, name):
    module = importlib.import_module(f"benchmarks.{name}")
    classes = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == module.__name__]
    assert classes
    for cls in classes:
        for values in combinations(cls):
            instance = cls()
            tear_down = getattr(instance, "teardown", lambda *_: None)
            try:
                instance.setup(*values)
            except NotImplementedError:  # how asv is told that there is no GPU; it tears down all the same
                assert "gpu" in values
                tear_down(*values)
                continue
            for method, call in inspect.getmembers(instance, inspect.ismethod):
                if method.startswith(("time_", "peakmem_", "track_")):
                    call(*values)
            tear_down(*values)


def test_nothing_but_benchmarks_is_named_as_one():
    """What asv would run, by its name, lies in a bench_*.py."""
    for path in BENCHMARKS.glob("*.py"):
        if not path.stem.startswith("bench_"):
            assert not re.findall(r"^ *(?:async )?def ((?:time|timeraw|mem|peakmem|track)_\w+)", path.read_text(), re.M)


def combinations(cls):
    """The parameters that asv would call a benchmark with."""
    params = getattr(cls, "params", [])
    several = bool(params) and isinstance(params[0], list)
    return itertools.product(*(params if several else [params] if params else []))


def test_scale_has_sets_of_its_own(monkeypatch, tmp_path):
    pytest.importorskip("psutil")
    scale, asked = importlib.import_module("benchmarks.scale"), []
    monkeypatch.setattr(scale, "stages", lambda _, studies, *more: asked.append(studies) or iter(()))
    monkeypatch.setattr("sys.argv", ["scale", str(tmp_path), "--keep"])
    scale.main()
    assert asked == list(scale.STUDIES)
