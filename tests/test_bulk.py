"""Bulk scoring end to end: machines that share only an S3 server, and workers that are killed at their work."""

import contextlib
import csv
import io
import os
import signal
import subprocess
import sys

import pytest
from machines import Machines

import fastct
from fastct.options import RunOptions
from fastct.schedule import Crew
from fastct.storage import open_storage


def table(storage):
    text = storage.read("studies.csv").decode()
    return {row["study_id"]: row for row in csv.DictReader(io.StringIO(text))}


def test_two_machines_that_share_only_an_s3_server_write_the_same_table(chests, scored, s3, tmp_path):
    pytest.importorskip("obstore")
    bucket = open_storage(s3.make_bucket("two-machines"), s3.options)
    for file in sorted(chests.rglob("*.nii.gz")):
        bucket.write(f"set/{file.relative_to(chests).as_posix()}", file.read_bytes())
    src, store = "s3://two-machines/set", "s3://two-machines/store"
    with contextlib.closing(Machines(tmp_path)) as machines:
        for name in ("one", "two"):
            machines.worker(name)
        machines.wait_for(2)
        how = {"scheduler": machines.address, "storage_options": s3.options}
        assert len(fastct.convert(src, store, **how).done) == 4
        assert len(fastct.score(store, **how).done) == 4
        assert fastct.score(store, **how).done == ()
        said = "".join((tmp_path / name / "said").read_text() for name in ("scheduler", "one", "two"))
    assert open_storage(store, s3.options).read("studies.csv") == (scored / "studies.csv").read_bytes()
    assert s3.options["secret"] not in said
    files = {path.name for name in ("scheduler", "one", "two") for path in (tmp_path / name).rglob("*.json")}
    assert not {name for name in files if name.startswith("study")}, "nothing of the store lies on the machines"


def test_secrets_are_in_no_error_of_a_cluster(chests, s3, tmp_path):
    pytest.importorskip("obstore")
    wrong = {**s3.options, "endpoint": "http://127.0.0.1:9", "endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(fastct.errors.FastctError) as caught:
        fastct.convert(chests, "s3://nobucket/store", workers=1, storage_options=wrong)
    assert s3.options["secret"] not in str(caught.value)


def test_workers_killed_while_they_score_cost_nothing(chests, scored, tmp_path):
    """Each worker process is killed once, while the work goes on."""
    store, killed = tmp_path / "store", []
    options = RunOptions(workers=2)
    with Crew(options) as crew:
        fastct.convert(chests, store, workers=2, crew=crew)

        def kill_one(event):
            if len(killed) < 2:
                pid = next(iter(set(_pids(crew)) - set(killed)), None)
                if pid:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        summary = fastct.score(store, workers=2, crew=crew, on_event=kill_one)
    assert len(killed) == 2
    # A study whose worker was killed when it was through is found done by the next.
    assert (len(summary.done + summary.skipped), summary.failed) == (4, ())
    assert (store / "studies.csv").read_bytes() == (scored / "studies.csv").read_bytes()
    assert fastct.verify(store) == []


def test_a_script_without_its_guard_is_told(chests, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"import fastct\nfastct.convert({str(chests)!r}, {str(tmp_path / 'store')!r}, workers=2)\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert 'Call fastct under `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


def _pids(crew):
    return crew._pool.client.run(os.getpid, on_error="ignore").values()
