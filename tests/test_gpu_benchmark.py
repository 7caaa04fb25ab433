"""The one call that builds, checks and times on a GPU works here without one, and tells what failed."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def call(*words):
    command = [sys.executable, "-m", "benchmarks.gpu", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)


def test_all_of_it_runs_without_a_gpu(tmp_path):
    if not (ROOT / "fastct").exists():
        pytest.skip("an installed package is not built again")
    done = call(tmp_path / "out", "--cpu", "--tests", "places and stand-in")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{stage}.log" for stage in ("build", "tests", "timings")),
        "gpu.json",
        "gpu.md",
    }
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    own = [row for row in found["rows"] if row["who"] == "fastct"]
    assert len(own) >= 20
    assert found["left_out"] == 0
    for row in own:
        assert row["fault"] == ""
        assert row["median_s"] > 0
        assert row["moved_bytes"] > 0
        assert f"| {row['name']} " in done.stdout


@pytest.fixture
def stage(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.gpu").Stage


def test_a_stage_tells_what_failed(stage, tmp_path, capsys):
    says, fails, sleeps = (
        ("python", "-c", code) for code in ("print('hello')", "raise SystemExit('no')", "import time; time.sleep(60)")
    )
    assert stage("good", (says, says), 60).run(tmp_path, os.environ)
    assert not stage("bad", (says, fails, sleeps), 60).run(tmp_path, os.environ)
    assert not stage("slow", (says, sleeps), 2).run(tmp_path, os.environ)
    shown = capsys.readouterr().out
    assert "good: done" in shown
    assert "bad: FAILED" in shown
    assert "slow: FAILED" in shown
    assert (tmp_path / "bad.log").read_text() == "hello\nno\n"


def test_a_case_that_fails_is_a_row_and_the_others_are_timed(stage):
    timings = importlib.import_module("benchmarks.gpu_timings")

    def broken():
        raise ValueError("no such kernel")

    peers = {"absent": broken, "slower": lambda: lambda: sum(range(10**5))}
    rows = timings.rows_of(lambda: timings.Case("adding", 10, lambda: 1, peers), timings.Clock())
    rows += timings.rows_of(broken, timings.Clock())
    assert [row.fault for row in rows] == ["", "ValueError", "", "ValueError: no such kernel"]
    shown = timings.table(rows, "heading")
    assert "| adding | absent | | ValueError | | | |" in shown
    assert rows[2].median_s > rows[0].median_s > 0
