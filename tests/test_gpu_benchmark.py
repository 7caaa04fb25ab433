"""The one call that builds, checks and times on a GPU works here without one, and tells what failed."""

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
    if not (ROOT / "setup.py").exists():
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


def test_what_fails_is_told(tmp_path):
    done = call(tmp_path / "out", "--cpu", "--tests", "no test has such a name", "--budget", "60")
    assert done.returncode == 1
    assert "tests: FAILED" in done.stdout
    assert "timings: done" in done.stdout
