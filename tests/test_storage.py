"""Local storage: whole or not at all, also when a write fails; claims that die with their owners."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from fastct.errors import StoreError
from fastct.storage import CLAIMS, STAGING, WORK, local, open_storage


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


@pytest.mark.parametrize("ask", ["read", "find", "read_tagged", "view"])
def test_a_pipe_in_the_place_of_a_file_blocks_nobody(storage, ask):
    storage.write("file", b"")
    os.mkfifo(storage.path("pipe"))
    with pytest.raises(StoreError, match=r"pipe: cannot be read .*pipe or a device"):
        getattr(storage, ask)("pipe")


def test_empty_file_can_be_viewed(storage):
    storage.write("empty", b"")
    assert bytes(storage.view("empty")) == b""


STAGE = """
import sys
from fastct.storage import open_storage

def pieces():
    yield "0", b"half"
    print("staged", flush=True)
    sys.stdin.read()
    yield "zarr.json", b"{}"

open_storage(sys.argv[1]).stage("study", pieces())()
"""


@contextlib.contextmanager
def staging(storage, *command):
    """A process that stages a study, and publishes it once its input ends."""
    whole = [*command, sys.executable, "-c", STAGE, str(storage.root)]
    with subprocess.Popen(whole, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"staged\n"
        yield process


def test_what_the_dead_had_staged_is_swept_away(storage):
    storage.write("study/other", b"1")
    with staging(storage) as writer:
        storage.sweep()
        assert list(storage.keys(STAGING)), "its writer lives"
        writer.kill()
    assert list(storage.keys(STAGING))
    storage.sweep()
    assert list(storage.names(STAGING)) == []


def test_a_writer_in_another_container_is_left_alone(storage):
    """His host has the name of ours, and his process the number of one that is no more here."""
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    numbered = f'echo {int(dead.stdout) - 1} > /proc/sys/kernel/ns_last_pid && "$@"; exit $?'
    apart = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
    apart = (*apart, "sh", "-c", numbered, "sh")
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets us make no such space")
    with staging(storage, *apart) as writer:
        storage.sweep()
        writer.stdin.close()
        assert writer.wait() == 0
    assert sorted(storage.keys("")) == ["study/0", "study/zarr.json"]


def test_a_sweep_and_writers_do_not_disturb_each_other(storage):
    ended = threading.Event()

    def sweep_again_and_again():
        while not ended.is_set():
            storage.sweep()

    sweepers = [threading.Thread(target=sweep_again_and_again) for _ in range(2)]
    for thread in sweepers:
        thread.start()
    for number in range(40):
        storage.write("a", b"%d" % number)
        storage.publish("study", {"zarr.json": b"%d" % number})
        assert (storage.read("a"), storage.read("study/zarr.json")) == (b"%d" % number,) * 2
    ended.set()
    for thread in sweepers:
        thread.join()
    storage.sweep()
    assert list(storage.names(STAGING)) == []


@pytest.mark.parametrize("link", [STAGING, CLAIMS, WORK])
def test_nothing_behind_a_link_is_swept(storage, tmp_path, link):
    """A store that another made may lead to files of ours."""
    for name in ("letter", "studies/letter", f"staged-{0:032x}/letter", "claims/letter", f"staging/staged-{0:032x}/a"):
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).touch()
    before = sorted(tmp_path.rglob("*"))
    storage.path(link).parent.mkdir(parents=True)
    storage.path(link).symlink_to(tmp_path / "home")
    storage.sweep()
    assert [path for path in sorted(tmp_path.rglob("*")) if "store" not in path.parts] == before


def test_a_file_that_is_no_claim_is_not_taken_away(storage):
    storage.write(f"{CLAIMS}/study", b"a letter")
    storage.sweep()
    with pytest.raises(StoreError, match="a file lies there that is no claim"):
        storage.claim("study")
    assert storage.read(f"{CLAIMS}/study") == b"a letter"


def test_what_cannot_be_looked_at_is_told(storage):
    storage.write("study/zarr.json", b"{}")
    with pytest.raises(StoreError, match="File name too long"):
        storage.exists("n" * 300)
    storage.path("study/loop").symlink_to("loop")
    with pytest.raises(StoreError, match=r"study/loop: cannot be read"):
        storage.sizes("study")
    storage.remove("study/loop")
    assert storage.sizes("study") == {"study/zarr.json": 2}
