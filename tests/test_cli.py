"""The command line as a user meets it: exit codes, what is said where, and kills at any moment."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small_chests import tree

import fastct

FASTCT = [sys.executable, "-m", "fastct"]


def call(*arguments, **more):
    return subprocess.run([*FASTCT, *map(str, arguments)], capture_output=True, text=True, check=False, **more)


def test_run_does_the_main_job(chests, tmp_path, scored):
    done = call("run", chests, tmp_path / "store", "-j1")
    assert done.returncode == 0, done.stderr
    assert "4 done" in done.stderr
    assert done.stdout == ""
    found = tree(tmp_path / "store")
    assert b"study_0004" in found["report.html"]
    assert found == tree(scored)
    assert call("verify", tmp_path / "store").returncode == 0


def test_failures_are_named_and_exit_is_1(broken_chests, tmp_path):
    done = call("run", broken_chests, tmp_path / "store", "-j1", "--json", "-q")
    assert done.returncode == 1
    assert "study_0003" in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["status"] for event in events if event.get("study_id") == "study_0003"] == ["failed"]
    assert {event["event"] for event in events} >= {"study", "stage", "report"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["convert"], 2, "Missing argument"),
        (["convert", "{chests}", "{new}", "--codec", "gzip"], 2, "gzip"),
        (["convert", "{chests}", "{new}", "--device", "tpu"], 2, "Choose auto, cpu"),
        (["convert", "{chests}", "{new}", "--device", "cuda:99"], 1, "--device cpu"),
        (["convert", "{chests}", "{new}", "--storage-options", "[]"], 2, "no JSON object"),
        (["convert", "{chests}", "nonsense://bucket/store"], 2, "nonsense"),
        (["convert", "{new}", "{new}2"], 1, "{new}"),
        (["score", "{chests}"], 1, "no fastct.json"),
        (["info", "{new}"], 1, "{new}"),
        (["export", "{scored}", "nothing", "{new}.nii.gz"], 1, "no study 'nothing'"),
        (["export", "{scored}", "study_0001", "{new}.txt"], 2, ".nii.gz"),
        (["export", "{scored}", "study_02", "{new}.nii.gz"], 1, "such as study_0002"),
        (["export", "{scored}", "study_0001", "{new}/a.nii.gz"], 1, "Make the folder {new} first"),
        (["convert", "{chests}", "{file}"], 1, "A file is where a folder should be"),
        (["convert", "{chests}", "{file}/store"], 1, "A file is where a folder should be"),
        (["convert", "{chests}", "{new}", "--scheduler", "nowhere"], 2, "is no address"),
        (["convert", "ftp://localhost:1/ct", "{new}"], 2, "cannot open it"),
        (
            ["convert", "{chests}", "{new}", "-j", "100000"],
            2,
            "Give 64 or fewer" if os.cpu_count() <= 8 else "or fewer",
        ),
        (["demo", "{file}"], 1, "it cannot be written (Not a directory)"),
        (["phantom", "{file}/set"], 1, "it cannot be written (Not a directory)"),
        (["verify", "{scored}", "--source", "{chests}"], 2, "Give --repair as well"),
    ],
)
def test_errors_say_what_to_do(chests, scored, tmp_path, arguments, code, said):
    places = {"chests": chests, "scored": scored, "new": tmp_path / "new", "file": tmp_path / "file"}
    places["file"].write_text("mine")
    done = call(*(argument.format(**places) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert said.format(**places) in done.stderr
    assert "Traceback" not in done.stderr


def test_info_of_each_kind(chests, scored):
    assert "done 4" in call("info", scored).stdout
    assert "CT-1 2" in call("info", chests).stdout
    facts = json.loads(call("info", "--json", chests / "studies/CT-0/study_0001.nii.gz").stdout)
    assert (facts["shape"], facts["spacing_mm"]) == ([10, 96, 96], [8.0, 4.0, 4.0])
    facts = json.loads(call("info", "--json", scored).stdout)
    assert (facts["studies"], facts["status"], facts["settings"]["codec"]) == (4, {"done": 4}, "ctpack")
    assert facts["size_bytes"] > 1000


def test_compare_tells_a_program_numbers(scored, tmp_path):
    shutil.copytree(scored, tmp_path / "store")
    done = call("compare", tmp_path / "store", "study_0001", "study_0002", "--json", "-q")
    facts, page = map(json.loads, done.stdout.splitlines())
    rows = {row["study_id"]: row for row in fastct.open(scored).table}
    assert facts["lung_ml"] == [rows["study_0001"]["lung_ml"], rows["study_0002"]["lung_ml"]]
    assert page["path"].endswith("study_0001_study_0002.html")


def test_phantom_says_what_it_writes(tmp_path):
    done = call("phantom", tmp_path / "set", "--studies", "1", "--json", "-q")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["study", "phantom"]
    assert (tmp_path / "set" / "truth.csv").exists()


def test_progress_is_shown_on_a_terminal(broken_chests, tmp_path):
    """On a terminal: who works and where to watch, how far it is, how fast, what failed, what is left."""
    ours, theirs = os.openpty()
    command = [*FASTCT, "convert", str(broken_chests), str(tmp_path / "store"), "-j2", "--json"]
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=terminal) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # where nobody holds the other end any more
            while more := os.read(ours, 65536):
                shown += more
        events = [json.loads(line) for line in process.stdout]
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert process.returncode == 1, text
    (who,) = (event for event in events if event["event"] == "workers")
    assert (who["workers"], who["kind"]) == (2, "processes")
    watch = rf", dashboard at {re.escape(who['dashboard'])}" if who["dashboard"] else ""
    assert bool(who["dashboard"]) == bool(importlib.util.find_spec("bokeh"))
    assert re.search(rf"workers: 2 \(processes\){watch}", text)
    assert re.search(r"convert\s+\S+ 4/4 \d+ MB/s, 1 failed 0:00:00", text)
    assert re.search(r"convert\s+\S+ [0-3]/[4?]", text), "it is there before the end"
    assert re.search(r"failed: study_0003: ", text)
    studies = [event for event in events if event["event"] == "study"]
    assert sorted(event["study_id"] for event in studies) == [f"study_000{n}" for n in (1, 2, 3, 4)]
    assert [(event["done"], event["total"]) for event in studies] == [(n, 4) for n in (1, 2, 3, 4)]


def test_export_and_dry_run(scored, chests, tmp_path):
    assert call("export", scored, "study_0002", tmp_path / "a.nii.gz", "--label", "lesion").returncode == 0
    assert fastct.read_nifti(tmp_path / "a.nii.gz").hu.max() == 1
    planned = call("run", chests, tmp_path / "store", "--dry-run")
    assert planned.returncode == 0
    assert "would do study_0001" in planned.stderr
    assert not (tmp_path / "store").exists()


def started(store, *arguments):
    """A run in a process of its own, once it has begun to write."""
    process = subprocess.Popen(
        [*FASTCT, *map(str, arguments)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not (store / ".fastct").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    return process


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_leaves_with_130_and_the_same_command_goes_on(chests, tmp_path, scored, workers):
    store = tmp_path / "store"
    process = started(store, "run", chests, store, "-j", workers)
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert call("run", chests, store, "-j1").returncode == 0
    assert {k: v for k, v in tree(store).items() if "staging" not in k and k != "report.html"} == {
        k: v for k, v in tree(scored).items() if k != "report.html"
    }


@pytest.mark.parametrize("delay_s", [0.0, 0.01, 0.02, 0.04, 0.08, 0.16])
def test_a_kill_at_any_moment_leaves_a_store_that_opens(chests, tmp_path, scored, delay_s):
    store = tmp_path / "store"
    process = started(store, "run", chests, store, "-j1")
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    if (store / "fastct.json").exists():
        for study_id in (opened := fastct.open(store)):
            assert opened[study_id].hu.shape == (10, 96, 96)
    assert call("run", chests, store, "-j1").returncode == 0
    assert {k: v for k, v in tree(store).items() if k != "report.html"} == {
        k: v for k, v in tree(scored).items() if k != "report.html"
    }


def test_python_dash_m_and_version():
    assert fastct.__version__ in call("--version").stdout
    assert call().returncode in (0, 2)


def test_an_interrupt_in_the_midst_of_an_import_ends_as_any_other(tmp_path):
    """Data classes are made by `exec`: of an interrupt there `python -m` dies in the end, though it was caught."""
    (tmp_path / "interrupted.py").write_text(
        "from fastct import __main__, cli\n"
        "def interrupted():\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        raise SystemExit(cli.EXIT_INTERRUPTED) from None\n"
        "cli.main = interrupted\n"
        "__main__.main()\n"
    )
    assert subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, check=False).returncode == 130
