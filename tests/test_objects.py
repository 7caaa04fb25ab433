"""Storage on object stores: the same laws for S3 through obstore, S3 through s3fs, and fsspec's memory://."""

import pickle
import threading
import time
import uuid

import pytest

from fastct.conversion import ConvertTask
from fastct.errors import FastctError, OptionError, StoreError
from fastct.mosmed import Study
from fastct.options import ConvertOptions, RunOptions
from fastct.scoring import ScoreTask
from fastct.storage import CLAIMS, Place, as_place, open_storage, opening

KINDS = ("obstore", "s3fs", "memory")


@pytest.fixture(params=KINDS)
def storage(request, monkeypatch):
    if request.param == "memory":
        pytest.importorskip("fsspec")
        return open_storage(f"memory://{uuid.uuid4().hex}/store")
    server = request.getfixturevalue("s3")
    pytest.importorskip(request.param)
    url = server.make_bucket(uuid.uuid4().hex)
    if request.param == "s3fs":
        found = opening.find_spec
        monkeypatch.setattr(opening, "find_spec", lambda name: None if name == "obstore" else found(name))
    opened = open_storage(f"{url}/store", server.options)
    assert type(opened.bucket).__name__ == ("FsspecBucket" if request.param == "s3fs" else "ObstoreBucket")
    return opened


def test_objects_come_back(storage):
    assert not storage.exists("a")
    assert list(storage.names("")) == []
    assert storage.sizes("a") == {}
    storage.write("a/b.json", b"old")
    storage.write("a/b.json", b"newer")
    storage.write("a/c d/é.bin", bytes(range(256)))
    storage.write("empty", b"")
    assert storage.read("a/b.json") == b"newer"
    assert bytes(storage.view("a/c d/é.bin")) == bytes(range(256))
    assert storage.read("empty") == b""
    assert storage.size_bytes("a/b.json") == 5
    assert sorted(storage.names("")) == ["a", "empty"]
    assert sorted(storage.names("a")) == ["b.json", "c d"]
    assert storage.sizes("a") == {"a/b.json": 5, "a/c d/é.bin": 256}
    assert storage.find("a/b.json") == b"newer"
    assert storage.exists("a/b.json")
    for key in ("a", "a/b", "nowhere"):
        assert not storage.exists(key)
        assert storage.find(key) is None
    storage.remove("a")
    storage.remove("nowhere")
    assert list(storage.keys("")) == ["empty"]


def test_missing_objects_are_named(storage):
    for ask in (storage.read, storage.view, storage.status):
        with pytest.raises(StoreError, match=r"nowhere.*no such object"):
            ask("nowhere")


def test_ranges_are_of_the_very_object(storage):
    storage.write("a", b"12345678")
    part, tag = storage.read_range("a", 6, 8)
    assert bytes(part) == b"78"
    assert tag == storage.status("a").tag
    assert [bytes(part) for part in storage.read_ranges("a", [(0, 2), (4, 5)], tag)] == [b"12", b"5"]
    storage.write("a", b"87654321")
    with pytest.raises(StoreError, match="it was replaced while it was read"):
        storage.read_ranges("a", [(0, 2), (4, 5)], tag)


def test_a_study_is_published_root_last_and_replaced_whole(storage):
    puts = []
    put, create = storage.bucket.put, storage.bucket.create
    storage.bucket.put = lambda key, payload: (puts.append(key), put(key, payload))[1]
    storage.bucket.create = lambda key, payload: (puts.append(key), create(key, payload))[1]
    first = {"0/c/0": b"one", "labels/c": b"two", "0/zarr.json": b"1", "labels/zarr.json": b"1", "zarr.json": b"1"}
    storage.publish("studies/a", first)
    assert puts[:2] in (["studies/a/0/c/0", "studies/a/labels/c"], ["studies/a/labels/c", "studies/a/0/c/0"])
    assert puts[-1] == "studies/a/zarr.json"
    assert list(storage.groups("studies")) == ["a"]
    storage.publish("studies/a", {"0/c/0": b"three", "zarr.json": b"2"})
    assert storage.sizes("studies") == {"studies/a/0/c/0": 5, "studies/a/zarr.json": 1}


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_study_whose_writer_dies_is_not_seen(storage, nth):
    files = {"0/c/0": b"shard", "0/zarr.json": b"array", "zarr.json": b"root"}
    storage.publish("studies/a", files)
    calls = []

    def die_at(name):
        original = getattr(storage.bucket, name)

        def call(*arguments):
            calls.append(name)
            if len(calls) == nth:
                raise KeyboardInterrupt
            return original(*arguments)

        setattr(storage.bucket, name, call)

    for name in ("put", "create", "delete"):
        die_at(name)
    with pytest.raises(KeyboardInterrupt):
        storage.publish("studies/a", {key: value + b"!" for key, value in files.items()})
    opened = open_storage(storage.place)
    if list(opened.groups("studies")):
        assert nth == 1, "once the first request was made, the old root is gone"
        assert {opened.read(f"studies/a/{key}") for key in files} == set(files.values())
    opened.publish("studies/a", files)
    assert list(opened.groups("studies")) == ["a"]


def test_nothing_is_on_its_way_any_more_when_many_requests_fail(storage):
    """A put that is late must not come after those of a second try."""
    put, begun, late = storage.bucket.put, threading.Event(), []

    def put_late_or_fail(key, payload):
        if key.endswith("late"):
            begun.set()
            time.sleep(0.2)
            late.append(key)
            return put(key, payload)
        begun.wait(5 if storage.bucket.is_shared else 0)
        raise ConnectionError

    storage.bucket.put = put_late_or_fail
    with pytest.raises(StoreError):
        storage.publish("studies/a", {"0/c/0": b"1", "0/c/late": b"2", "zarr.json": b"{}"})
    assert late == (["studies/a/0/c/late"] if storage.bucket.is_shared else [])


def test_a_claim_is_one_owners_until_he_gives_it_back(storage):
    with storage.claim("study"):
        assert storage.claim("study") is None
        assert open_storage(storage.place).claim("study") is None
        with storage.claim("other"):
            pass
    assert list(storage.keys("")) == []
    storage.claim("study").release()


def claimed_by(storage, process, started, machine=None):
    """A claim of another process of this machine, or of another machine."""
    from fastct.storage.object_claims import _bytes, _owner

    owner = {**_owner(), "process": process, "started": started}
    storage.write(f"{CLAIMS}/study", _bytes({"owner": owner | ({"machine": machine} if machine else {}), "id": "x"}))


def test_a_dead_owners_claim_is_taken_over_and_swept(storage):
    claimed_by(storage, 2**22 + 1, "1")
    with storage.claim("study"):
        assert storage.claim("study") is None
    claimed_by(storage, 2**22 + 1, "1")
    storage.sweep()
    assert list(storage.keys("")) == []


def test_another_machines_claim_lasts_as_long_as_it_changes(storage, monkeypatch):
    from fastct.storage import object_claims

    now = [1000.0]
    monkeypatch.setattr(object_claims, "monotonic", lambda: now[0])
    claimed_by(storage, 1, "1", "elsewhere")
    assert storage.claim("study") is None
    now[0] += object_claims.SILENT_S - 1
    assert storage.claim("study") is None
    claimed_by(storage, 1, "2", "elsewhere")  # its owner lives
    now[0] += 2
    assert storage.claim("study") is None
    now[0] += object_claims.SILENT_S + 1
    with storage.claim("study"):
        pass


def test_an_owner_keeps_his_claim_fresh_until_it_is_taken_over(storage, monkeypatch):
    from fastct.storage import object_claims

    monkeypatch.setattr(object_claims, "BEAT_S", 0.01)
    with storage.claim("study") as claim:
        tag = storage.status(f"{CLAIMS}/study").tag
        while storage.status(f"{CLAIMS}/study").tag == tag:
            pass
        while claim._beat.is_alive():
            claimed_by(storage, 1, "1", "elsewhere")
            claim._beat.join(timeout=0.2)
        assert not claim.is_held
    assert b"elsewhere" in storage.read(f"{CLAIMS}/study"), "it is not ours to take away"


@pytest.mark.parametrize("answers", ["another tag", "an error"])
def test_a_claim_whose_beat_was_not_answered_is_still_its_owners(storage, monkeypatch, answers):
    """The server has put the beat, and its answer is lost: the client tried again, or gave up."""
    from fastct.storage import object_claims

    replace, lost = storage.bucket.replace, []

    def replace_and_lose(key, payload, tag):
        done = replace(key, payload, tag)
        lost.append(payload)
        if len(lost) > 1:
            return done
        if answers == "an error":
            raise TimeoutError
        return ""

    monkeypatch.setattr(object_claims, "BEAT_S", 0.01)
    monkeypatch.setattr(storage.bucket, "replace", replace_and_lose)
    with storage.claim("study") as claim:
        while len(lost) < 4:
            assert claim._beat.is_alive()
        assert claim.is_held
    assert list(storage.keys("")) == []


def test_a_claim_that_its_owner_forgot_is_taken_over_on_his_own_machine(storage, monkeypatch):
    from fastct.storage import object_claims

    now = [1000.0]
    monkeypatch.setattr(object_claims, "monotonic", lambda: now[0])
    forgotten = storage.claim("study")
    forgotten._released.set()  # as when the server was gone just as it was given back
    assert storage.claim("study") is None
    now[0] += object_claims.SILENT_S + 1
    storage.sweep()
    assert list(storage.keys("")) == []


def test_storage_travels_to_other_processes(storage):
    if storage.is_shared:
        storage.write("a", b"1")
        assert pickle.loads(pickle.dumps(storage)).read("a") == b"1"  # noqa: S301


SECRETS = {"secret": "topsecret", "client_kwargs": {"aws_session_token": "tokentoken"}, "token": "tokentoken"}


def test_no_text_of_a_place_tells_its_secrets():
    place = as_place("s3://me:pass@password@bucket/store?X-Amz-Signature=abc", SECRETS)
    for text in (str(place), repr(place), f"{place / 'key'}"):
        assert "bucket/store" in text
        for secret in ("topsecret", "tokentoken", "password", "abc"):
            assert secret not in text


def test_no_task_tells_its_secrets():
    run = RunOptions(storage_options=SECRETS)
    place = as_place("s3://bucket/store", SECRETS)
    source = Study("ct", "", place / "ct.nii.gz", None, "ct.nii.gz", 1)
    for thing in (run, ConvertTask(source, place, ConvertOptions()), ScoreTask("ct", place, 1)):
        assert "bucket" in repr(thing) or thing is run
        assert "topsecret" not in repr(thing)
        assert "tokentoken" not in repr(thing)


def test_no_error_tells_secrets(s3):
    options = {**s3.options, "secret": "topsecret", "key": "nobodyknowsme"}
    for url, more in (
        ("s3://no-such-bucket/store", {}),
        ("s3://bucket/store", {"topsecretoption": "topsecretvalue"}),
        ("s3://bucket/store", {"endpoint_url": "http://me:topsecret@127.0.0.1:1", "retry_config": {"max_retries": 0}}),
    ):
        with pytest.raises(FastctError) as caught:
            open_storage(url, options | more).write("a", b"1")
        told = "".join(map(str, (caught.value, caught.value.__cause__)))
        for secret in ("topsecret@", "topsecretvalue", "nobodyknowsme", "'topsecret'"):
            assert secret not in told
        assert caught.value.__suppress_context__


def test_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(StoreError, match=r"obstore, or fsspec.*pip install -e '\.\[s3\]'"):
        open_storage("s3://bucket/store")
    with pytest.raises(StoreError, match=r"not installed: fsspec\. .*pip install -e '\.\[s3\]'"):
        open_storage("memory://store")


def test_what_no_package_knows_is_refused():
    with pytest.raises(OptionError, match="nonsense"):
        open_storage("nonsense://bucket/store")
    assert open_storage("file:///tmp/x", {"key": "ignored"}).place == Place("/tmp/x")  # noqa: S108
