"""Local storage: whole or not at all, also when a write fails."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from fastct.errors import NotReadyError, StoreError
from fastct.storage import STAGING, open_storage


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path / "store")


def test_write_then_read_and_replace(storage):
    storage.write("a/b.json", b"old")
    storage.write("a/b.json", b"newer")
    assert storage.read("a/b.json") == b"newer"
    assert bytes(storage.view("a/b.json")) == b"newer"
    assert storage.size_bytes("a/b.json") == 5
    assert list(storage.keys("a")) == ["a/b.json"]
    assert list(storage.names(STAGING)) == []


def test_publish_replaces_a_whole_folder(storage):
    storage.publish("study", {"0/c/0": b"one", "zarr.json": b"{}"})
    mapped = storage.view("study/0/c/0")
    storage.publish("study", {"zarr.json": b"[]"})
    assert sorted(storage.keys("study")) == ["study/zarr.json"]
    assert bytes(mapped) == b"one", "a reader keeps what it has open"
    assert list(storage.names(STAGING)) == []


@pytest.mark.parametrize("nth", range(1, 4))
def test_a_full_disk_leaves_what_was_there(storage, monkeypatch, nth):
    storage.publish("study", {"0": b"old", "1": b"old", "zarr.json": b"old"})
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == nth:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*Make room"):
        storage.publish("study", {"0": b"new", "1": b"new", "zarr.json": b"new"})
    assert {storage.read(key) for key in storage.keys("study")} == {b"old"}
    assert list(storage.names(STAGING)) == []


def test_missing_keys_are_named(storage):
    with pytest.raises(StoreError, match=r"nowhere.*No such file"):
        storage.read("nowhere")
    with pytest.raises(StoreError, match="nowhere"):
        storage.view("nowhere")
    assert list(storage.names("nowhere")) == []
    storage.remove("nowhere")


def test_empty_file_can_be_viewed(storage):
    storage.write("empty", b"")
    assert bytes(storage.view("empty")) == b""


def test_object_stores_wait_for_their_issue():
    with pytest.raises(NotReadyError, match="issue 3"):
        open_storage("s3://bucket/store")
    with pytest.raises(NotReadyError, match="issue 3"):
        open_storage("store", {"key": "x"})


def test_what_the_dead_had_staged_is_swept_away(storage, tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host = socket.gethostname()
    left = {
        f"{host}~{int(dead.stdout)}-00": False,
        f"{host}~{os.getpid()}-00": True,
        f"elsewhere~{int(dead.stdout)}-00": True,
    }
    for name in left:
        storage.write(f"{STAGING}/{name}/part", b"half")
    storage.sweep()
    assert {name: storage.exists(f"{STAGING}/{name}") for name in left} == left
