"""The whole of fastct on a real S3 server: jobs, resume, kills, two writers, and what is asked of the server."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from s3_server import KEY, SECRET, counted, serve_folder
from small_chests import tree

import fastct
from fastct.describe import describe
from fastct.exporting import export_study
from fastct.records import read_record
from fastct.storage import open_storage

pytest.importorskip("obstore")
IDS = tuple(f"study_000{n}" for n in range(1, 5))
OWN = (".fastct/records/", ".fastct/listing.json", "report.html")  # what differs with the place: where it lies


def call(*arguments, options):
    command = [sys.executable, "-m", "fastct", *map(str, arguments), "--storage-options", json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def contents(url, options, leave_out=()):
    storage = open_storage(url, options)
    return {key: storage.read(key) for key in storage.keys("") if not key.startswith(leave_out)}


@pytest.fixture(scope="module")
def bucket(s3, chests):
    """A bucket that holds the four small studies in data/."""
    url = s3.make_bucket("chests")
    data = open_storage(f"{url}/data", s3.options)
    for key, payload in tree(chests).items():
        data.write(key, payload)
    return url


@pytest.fixture(scope="module")
def job(s3, bucket):
    """The main job, from bucket to bucket, by two processes: what the command line said, and the store's URL."""
    url = f"{bucket}/done"
    process = call("run", f"{bucket}/data", url, "-j2", "--json", options=s3.options)
    said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said, url


def test_the_main_job_makes_the_same_store_as_on_a_disk(job, s3, scored):
    found = contents(job[1], s3.options, OWN)
    assert found == {key: payload for key, payload in tree(scored).items() if not key.startswith(OWN)}
    assert fastct.verify(job[1], s3.options) == []


def test_no_secret_is_kept_or_told(job, s3):
    said, url = job
    for text in (*said, *(payload.decode("latin1") for payload in contents(url, s3.options).values())):
        assert SECRET not in text
        assert KEY not in text


def test_records_say_what_the_source_was(job, s3, chests):
    record = read_record(open_storage(job[1], s3.options), "study_0002")
    assert record.source_files.keys() == {"volume", "mask"}
    for role, path in (("volume", "studies/CT-1/study_0002.nii.gz"), ("mask", "masks/study_0002_mask.nii.gz")):
        assert record.source_files[role]["size_bytes"] == (chests / path).stat().st_size
        assert {"etag", "sha256"} <= record.source_files[role].keys()


def test_info_and_export_of_what_lies_in_a_bucket(job, bucket, s3, chests, tmp_path):
    assert describe(job[1], s3.options)["status"] == {"done": 4}
    assert describe(f"{bucket}/data", s3.options)["masks"] == 1
    source = chests / "studies/CT-0/study_0001.nii.gz"
    assert describe(f"{bucket}/data/studies/CT-0/study_0001.nii.gz", s3.options)["shape"] == (10, 96, 96)
    export_study(fastct.open(job[1], s3.options)["study_0001"], tmp_path / "back.nii.gz")
    np.testing.assert_array_equal(nib.load(tmp_path / "back.nii.gz").dataobj, nib.load(source).dataobj)
    volume = fastct.read_nifti(f"{bucket}/data/studies/CT-0/study_0001.nii.gz", storage_options=s3.options)
    np.testing.assert_array_equal(volume.hu, fastct.read_nifti(source).hu)


def test_patches_ask_for_the_bytes_of_their_chunks_only(job, s3):
    with counted(s3) as (server, count):
        study = fastct.open(job[1], server.options)["study_0001"]
        whole = fastct.open(job[1], s3.options)["study_0001"].hu  # chunks of 8 x 64 x 64, two along each axis
        index = 2**3 * 16 + 4
        shard = open_storage(job[1], s3.options).size_bytes(f"{study.folder}/0/c/0/0/0")

        def asked(*region):
            count.requests.clear()
            np.testing.assert_array_equal(study.read(*region), whole[region])
            return count.gets("/0/c/0/0/0")

        (index_range, index_bytes), (_, chunk_bytes) = asked(slice(8), slice(64), slice(64))
        assert (index_range, index_bytes) == (f"bytes={shard - index}-{shard - 1}", index)
        assert 0 < chunk_bytes < shard / 2
        assert asked(slice(8), slice(64), slice(64)) == [(f"bytes=0-{chunk_bytes - 1}", chunk_bytes)]
        assert len(asked(slice(8), slice(0, 96), slice(0, 96))) == 1, "neighbours in one request"
        apart = asked(slice(10), slice(64), slice(64))
        assert len(apart) == 2, "one range in each layer of chunks"
        assert sum(n for _, n in apart) < shard - index
        assert asked(slice(10), slice(96), slice(96)) == [(f"bytes=0-{shard - index - 1}", shard - index)]


def test_a_second_run_asks_little_and_writes_no_study(job, bucket, s3):
    with counted(s3) as (server, count):
        assert fastct.convert(f"{bucket}/data", job[1], workers=1, storage_options=server.options).skipped == IDS
        assert fastct.score(job[1], workers=1, storage_options=server.options).skipped == IDS
    written = [path for method, path, *_ in count.requests if method == "PUT"]
    assert not [path for path in written if "/studies/study_" in path]
    assert not [path for method, path, *_ in count.requests if method == "GET" and path.endswith(".nii.gz")]


@pytest.mark.parametrize("studies", [0, 2])
def test_a_killed_run_shows_no_half_study_and_is_gone_on_with(bucket, s3, job, studies):
    url = f"{bucket}/{uuid.uuid4().hex}"
    storage = open_storage(url, s3.options)
    process = call("convert", f"{bucket}/data", url, "-j1", options=s3.options)
    while len([key for key in storage.keys("studies") if key.endswith("/c/0/0/0")]) <= studies:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    store = fastct.open(url, s3.options)
    for study_id in store:
        np.testing.assert_array_equal(store[study_id].hu, fastct.open(job[1], s3.options)[study_id].hu)
    summary = fastct.convert(f"{bucket}/data", url, workers=1, storage_options=s3.options)
    assert {*summary.done, *summary.skipped} == set(IDS)
    assert len(summary.skipped) < 4
    fastct.score(url, workers=1, storage_options=s3.options)
    assert contents(url, s3.options, OWN) == contents(job[1], s3.options, OWN)
    assert fastct.verify(url, s3.options) == []


SHARD, LESION = (f"studies/study_0002.nii.zarr/{key}/c/0/0/0" for key in ("0", "labels/lesion/0"))
RECORD = ".fastct/records/study_0002.json"
LOST = (SHARD, LESION, RECORD, "fastct.json", ".fastct/listing.json", ".fastct/pictures/study_0002.json")
FLIPPED = (*LOST, "studies.csv", "report.html", ".fastct/tables.json", ".fastct/foreground/lung/study_0002.bin")


@pytest.fixture
def copied(s3, bucket, job):
    """A store in the bucket that a test may damage."""
    storage = open_storage(f"{bucket}/{uuid.uuid4().hex}", s3.options)
    for key, payload in contents(job[1], s3.options).items():
        storage.write(key, payload)
    return storage


@pytest.mark.parametrize(("damage", "key"), [*(("lost", k) for k in LOST), *(("flipped", k) for k in FLIPPED)])
def test_damage_in_a_bucket_is_named_and_repaired(s3, job, copied, damage, key):
    if damage == "lost":
        copied.remove(key)
    else:
        payload = bytearray(copied.read(key))
        payload[len(payload) // 2] ^= 4
        copied.write(key, bytes(payload))
    faults = fastct.verify(copied.place.url, s3.options)
    named = "studies/study_0002.nii.zarr" if (damage, key) == ("lost", RECORD) else key
    assert named in {fault.key for fault in faults}, [str(fault) for fault in faults]
    assert fastct.verify(copied.place.url, s3.options, repair=True) == []
    assert contents(copied.place.url, s3.options, OWN) == contents(job[1], s3.options, OWN)
    assert fastct.verify(copied.place.url, s3.options) == []


def test_two_runs_at_once_share_the_work(bucket, s3, job):
    url = f"{bucket}/{uuid.uuid4().hex}"
    with counted(s3) as (server, count):
        runs = [call("run", f"{bucket}/data", url, "-j1", "--json", options=server.options) for _ in range(2)]
        said = [run.communicate(timeout=200) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    shards = Counter(path for method, path, *_ in count.requests if method == "PUT" and path.endswith("/c/0/0/0"))
    assert set(shards.values()) == {1}, "each was made and put once"
    done = [json.loads(line) for out, _ in said for line in out.splitlines() if '"event": "stage"' in line]
    assert sorted(name for event in done if event["stage"] == "convert" for name in event["done"]) == list(IDS)
    assert contents(url, s3.options, OWN) == contents(job[1], s3.options, OWN)
    assert fastct.verify(url, s3.options) == []


def test_a_store_is_read_over_plain_http(scored):
    with serve_folder(scored) as url:
        study = fastct.open(url)["study_0003"]
        expected = fastct.open(scored)["study_0003"]
        box = (slice(3, 9), slice(50, 80), slice(60, 70))
        np.testing.assert_array_equal(study.read(*box), expected.hu[box])
        np.testing.assert_array_equal(study.lungs, expected.lungs)


def test_what_a_server_never_answers_costs_its_study_alone(bucket, s3, job):
    """Every answer is late; one study is never read, another never written. A second run does what is left."""
    silent = ("GET", "data/studies/CT-1/study_0003.nii.gz"), ("PUT", "study_0001.nii.zarr/0/")

    def stalls(method, path):
        return any(method == verb and part in path for verb, part in silent)

    url, arguments = f"{bucket}/late", ("run", f"{bucket}/data", f"{bucket}/late", "-j2", "--json", "-q")
    with counted(s3, stalls, late_s=0.02) as (proxy, _):
        process = call(*arguments, "--study-limit", 12, options=proxy.options)
        said, failures = process.communicate(timeout=200)
    assert process.returncode == 1, failures
    studies = [event for event in map(json.loads, said.splitlines()) if event["event"] == "study"]
    assert {event["study_id"] for event in studies if event["status"] == "done"} == {"study_0002", "study_0004"}
    for study_id in ("study_0001", "study_0003"):
        assert f"failed: {study_id}: {study_id}: it was not done within 12 s" in failures
    process = call(*arguments, options=s3.options)
    said, failures = process.communicate(timeout=200)
    assert process.returncode == 0, failures
    studies = [event for event in map(json.loads, said.splitlines()) if event["event"] == "study"]
    assert {event["study_id"] for event in studies} == {"study_0001", "study_0003"}, "no other is done again"
    assert contents(url, s3.options, OWN) == contents(job[1], s3.options, OWN)


def test_nobody_waits_at_the_end_for_what_a_server_never_answers(bucket, s3, job):
    with counted(s3, lambda method, path: method == "PUT" and "study_0001.nii.zarr/0/" in path) as (proxy, _):
        patient = {**proxy.options, "client_options": {"timeout": "600s"}}
        arguments = ("convert", f"{bucket}/data", f"{bucket}/never", "-j1", "-q", "--study-limit", 8)
        process = call(*arguments, options=patient)
        _, failures = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "failed: study_0001: study_0001: it was not done within 8 s" in failures


def test_a_server_that_is_gone_is_named(s3):
    options = {**s3.options, "endpoint_url": "http://127.0.0.1:9", "retry_config": {"max_retries": 0}}
    with pytest.raises(fastct.errors.StoreError, match=r"s3://bucket/store.*Check the address"):
        fastct.open("s3://bucket/store", options)
