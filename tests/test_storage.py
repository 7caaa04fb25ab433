"""Local storage: whole or not at all, also when a write fails; claims that die with their owners."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from fastct.errors import StoreError
from fastct.storage import CLAIMS, STAGING, local, open_storage


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
    assert list(storage.keys(STAGING)) == []


def test_publish_replaces_a_whole_folder(storage):
    storage.publish("study", {"0/c/0": b"one", "zarr.json": b"{}"})
    mapped = storage.view("study/0/c/0")
    storage.publish("study", {"zarr.json": b"[]"})
    assert sorted(storage.keys("study")) == ["study/zarr.json"]
    assert bytes(mapped) == b"one", "a reader keeps what it has open"
    assert list(storage.keys(STAGING)) == []


def test_a_folder_is_there_at_every_moment_of_its_replacement(storage):
    sizes = (1, 2)
    storage.publish("study", {"part": b"x", "zarr.json": b"{}"})
    ended = threading.Event()

    def replace_again_and_again():
        for number in range(60):
            size = sizes[number % 2]
            storage.publish("study", {"part": b"x" * size, "zarr.json": b"{}"})
        ended.set()

    writer = threading.Thread(target=replace_again_and_again)
    writer.start()
    looks = 0
    while not ended.is_set():
        assert storage.path("study").exists()
        looks += 1
    writer.join()
    assert looks > 0


def test_without_exchange_a_folder_moves_out_before_the_other_moves_in(storage, monkeypatch):
    monkeypatch.setattr(local, "_exchange", lambda one, other: False)
    storage.publish("study", {"old": b"", "zarr.json": b"{}"})
    storage.publish("study", {"zarr.json": b"[]"})
    assert sorted(storage.keys("")) == ["study/zarr.json"]
    assert storage.read("study/zarr.json") == b"[]"


def test_tags_tell_one_file_from_the_next(storage):
    storage.write("a", b"12345678")
    text, tag = storage.read_tagged("a")
    assert (text, storage.status("a").tag) == (b"12345678", tag)
    assert storage.read_ranges("a", [(0, 2), (4, 5)], tag) == [b"12", b"5"]
    assert storage.read_range("a", 6, 8) == (b"78", tag)
    storage.write("a", b"12345678")
    assert storage.status("a").tag != tag
    with pytest.raises(StoreError, match="it was replaced while it was read"):
        storage.read_ranges("a", [(0, 2)], tag)


def test_a_claim_is_one_owners_until_he_gives_it_back(storage):
    with storage.claim("study"):
        assert storage.claim("study") is None
        assert open_storage(storage.root).claim("study") is None
        with storage.claim("other"):
            pass
    assert list(storage.keys("")) == []
    storage.claim("study").release()


def test_a_claim_dies_with_its_owner(storage):
    code = f"""
import os, sys, time
from fastct.storage import open_storage
claim = open_storage({str(storage.root)!r}).claim("study")
sys.stdout.write("claimed" if claim else "not claimed")
sys.stdout.flush()
time.sleep(60)"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout.read(7) == b"claimed"
        assert storage.claim("study") is None
        owner.send_signal(signal.SIGKILL)
    assert list(storage.keys("")) == [f"{CLAIMS}/study"]
    storage.sweep()
    assert list(storage.keys("")) == []
    storage.claim("study").release()


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
    assert list(storage.keys(STAGING)) == []


def test_missing_keys_are_named(storage):
    with pytest.raises(StoreError, match=r"nowhere.*No such file"):
        storage.read("nowhere")
    with pytest.raises(StoreError, match="nowhere"):
        storage.view("nowhere")
    assert list(storage.names("nowhere")) == []
    assert storage.find("nowhere") is None
    assert not storage.exists("nowhere")
    storage.remove("nowhere")


def test_empty_file_can_be_viewed(storage):
    storage.write("empty", b"")
    assert bytes(storage.view("empty")) == b""


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
    assert {name: storage.exists(f"{STAGING}/{name}/part") for name in left} == left
