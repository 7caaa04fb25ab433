"""What fastct does with what is not its own: no code out of data, no open doors, no secrets told."""

import ast
import gc
import json
import os
import shutil
import stat
import threading
import traceback
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from deadly_jobs import Square, where
from small_chests import small_chest

import fastct
from fastct.cli import main
from fastct.conversion import ConvertTask
from fastct.errors import FastctError
from fastct.mosmed import find_studies
from fastct.nifti import write_nifti
from fastct.options import ConvertOptions, RunOptions
from fastct.schedule import Crew
from fastct.storage import STAGING, open_storage

PACKAGE = Path(fastct.__file__).parent
RUNS_DATA = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "subprocess", "pty", "yaml"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__", "system", "popen", "execv", "execvp", "spawnv", "literal_eval"}


def uses(tree):
    """Modules that a file imports, and functions that it calls, by their last name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif isinstance(node, ast.Call):
            yield getattr(node.func, "id", "") or _method_of_module(node.func)
        elif isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle"):
            yield node.arg


def _method_of_module(function):
    """The name of `os.system` and the like; methods of other things (a pattern's `compile`) are not meant."""
    owner = getattr(getattr(function, "value", None), "id", "")
    return function.attr if owner in ("os", "builtins", "ast") else ""


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_what_data_say(path):
    forbidden = RUNS_DATA | RUNS_TEXT | {"shell", "allow_pickle"}
    assert not forbidden & set(uses(ast.parse(path.read_text())))


def test_the_scan_sees_what_it_looks_for():
    seen = set(uses(ast.parse("import pickle, os\nos.system('x')\neval('x')\nnp.load(f, allow_pickle=True)")))
    assert {"pickle", "system", "eval", "allow_pickle"} <= seen


def listening(processes):
    """Addresses, in hexadecimal, that these processes listen on."""
    found = set()
    for process in processes:
        links = [link for link in Path(f"/proc/{process}/fd").iterdir() if link.exists()]
        sockets = {os.readlink(link)[8:-1] for link in links if os.readlink(link).startswith("socket:[")}  # noqa: PTH115
        for family in ("tcp", "tcp6"):
            for line in Path(f"/proc/{process}/net/{family}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in sockets:
                    found.add(fields[1].partition(":")[0])
    return found


def test_workers_listen_on_loopback_only():
    with Crew(RunOptions(workers=2)) as crew:
        list(crew.work_through(where, [Square("a", 1), Square("b", 2)]))
        client = crew._pool.client
        workers = client.run(os.getpid)
        nannies = {int(Path(f"/proc/{pid}/stat").read_text().split()[3]) for pid in workers.values()}
        addresses = listening({os.getpid(), *workers.values(), *nannies})
        assert client.scheduler_info()["address"].startswith("tcp://127.0.0.1:")
    assert addresses == {"0100007F"}, "127.0.0.1, and nothing else"


MARKER = "MARK3Rsecretvalue"
OPTIONS = {
    "aws_access_key_id": f"{MARKER}1",
    "aws_secret_access_key": f"{MARKER}2",
    "token": f"{MARKER}3",
    "endpoint": "http://127.0.0.1:9",
    "region": "us-east-1",
    "retry_config": {"max_retries": 0},
    "client_options": {"allow_http": True},
}
URLS = ("s3://bucket/store", f"https://user:{MARKER}4@127.0.0.1:9/store?X-Amz-Signature={MARKER}5")
COMMANDS = {
    "run": ["{chests}", "{url}", "-j1"],
    "convert": ["{chests}", "{url}", "-j1", "-v"],
    "convert from": ["{url}", "{new}", "-j1", "-v"],
    "score": ["{url}", "-j1", "--json"],
    "report": ["{url}"],
    "compare": ["{url}", "a", "b"],
    "verify": ["{url}", "-v"],
    "verify repair": ["{url}", "--repair", "--source", "{url}"],
    "info": ["{url}", "--json"],
    "export": ["{url}", "a", "{new}.nii.gz"],
}


@pytest.mark.parametrize(("command", "url"), list(product(COMMANDS, URLS)))
def test_no_command_tells_a_secret(command, url, chests, tmp_path, monkeypatch, capfd, caplog):
    pytest.importorskip("obstore")
    caplog.set_level("DEBUG")
    places = {"url": url, "chests": chests, "new": tmp_path / "new"}
    arguments = [argument.format(**places) for argument in COMMANDS[command]]
    told = ["--storage-options", json.dumps(OPTIONS if url.startswith("s3") else {"client_options": {}})]
    monkeypatch.setattr("sys.argv", ["fastct", command.split()[0], *arguments, *told])
    with pytest.raises(SystemExit) as left:
        main()
    said = capfd.readouterr()
    assert left.value.code in (1, 2)
    assert "bucket/store" in said.err or "127.0.0.1:9/store" in said.err, said.err
    for text in (said.out, said.err, caplog.text, *(path.read_text("latin1") for path in files(tmp_path))):
        assert MARKER not in text


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_no_object_and_no_traceback_shows_a_secret(chests):
    pytest.importorskip("obstore")
    storage = open_storage(URLS[0], OPTIONS)
    source = find_studies(chests).studies[0]
    task = ConvertTask(source, storage.place, ConvertOptions())
    for thing in (storage, storage.place, task, RunOptions(storage_options=OPTIONS), storage.place / "key"):
        assert MARKER not in f"{thing} {thing!r}"
    for work in (lambda: fastct.open(URLS[0], OPTIONS), lambda: storage.write("key", b""), lambda: storage.read("key")):
        with pytest.raises(FastctError) as caught:
            work()
        assert MARKER not in "".join(traceback.format_exception(caught.value))


def test_what_is_staged_is_nobody_elses(tmp_path):
    storage, seen = open_storage(tmp_path / "store"), []

    def pieces():
        yield "zarr.json", b"{}"
        seen.extend(path for path in (tmp_path / "store" / STAGING).iterdir())
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in seen[:1])
        yield "c", b"1"

    storage.stage("studies/a", pieces())()
    assert seen[1] == 0o700
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "store/studies/a/zarr.json").stat().st_mode) == 0o666 & ~umask


def test_what_an_export_writes_is_nobody_elses_until_it_is_there(tmp_path, monkeypatch):
    hu, _, affine = small_chest(1, (2, 8, 8))
    modes, sync = [], os.fsync

    def look(descriptor):
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path.is_dir())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    write_nifti(tmp_path / "a.nii", hu, fastct.Geometry(hu.shape, affine))
    assert modes[0] == 0o700
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii"]


def test_two_exports_to_one_file_leave_one_of_them_whole(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    geometry = fastct.Geometry((2, 64, 64), np.eye(4))
    volumes = [np.full(geometry.shape, number, np.int16) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda volume: write_nifti(tmp_path / "a.nii.gz", volume, geometry), volumes * 10))
    assert np.ptp(fastct.read_nifti(tmp_path / "a.nii.gz").hu) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


def test_an_epoch_that_fails_leaves_no_file_open(scored, tmp_path):
    store = shutil.copytree(scored, tmp_path / "store")
    shard = store / "studies/study_0002.nii.zarr/0/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"!")

    def fail():
        data = fastct.Dataset(store, patch=(4, 16, 16), samples_per_study=2, balance="lung")
        with pytest.raises(FastctError, match="study_0002"):
            list(fastct.Loader(data, batch_size=2, threads=2))

    def opened():
        for thread in threading.enumerate():  # each ends after the sample that it reads
            if thread.name.startswith("fastct-reader"):
                thread.join(10)
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    fail()
    before = opened()
    for _ in range(5):
        fail()
    assert opened() == before
