"""Resume by record, readers beside writers, and two writers: on a disk and on objects, by the same tests."""

import json
import os
import threading
import uuid

import numpy as np
import pytest
from small_chests import small_chest, tree, write_study

import fastct
from fastct.errors import StoreError
from fastct.shards import SHARD
from fastct.storage import CLAIMS, STAGING, open_storage
from fastct.storage.processes import machine
from fastct.store import study_folder

IDS = tuple(f"study_000{n}" for n in range(1, 5))
SHARD_OF_2 = f"{study_folder('study_0002')}/0/{SHARD}"


@pytest.fixture(params=["disk", "memory"])
def place(request, tmp_path, chests):
    """Source and store, the source filled with the four small studies."""
    if request.param == "memory":
        pytest.importorskip("fsspec")
    base = str(tmp_path) if request.param == "disk" else f"memory://{uuid.uuid4().hex}"
    source = open_storage(f"{base}/source")
    for key, payload in tree(chests).items():
        source.write(key, payload)
    return source, open_storage(f"{base}/store")


def convert(place, **options):
    source, store = place
    return fastct.convert(source.place.url, store.place.url, workers=1, **options)


def score(place, **options):
    return fastct.score(place[1].place.url, workers=1, **options)


def contents(storage):
    return {key: storage.read(key) for key in storage.keys("")}


def path_of(source, study_id):
    return next(key for key in source.keys("studies") if study_id in key)


def test_only_changed_sources_are_done_again(place):
    source, _ = place
    assert convert(place).done == IDS
    before = contents(place[1])
    touched, changed = path_of(source, "study_0001"), path_of(source, "study_0003")
    source.write(touched, source.read(touched))
    assert convert(place).done == ()
    assert contents(place[1]) == before
    source.write(changed, source.read(path_of(source, "study_0004")))
    mask = "masks/study_0002_mask.nii.gz"
    payload = bytearray(source.read(mask))
    payload[4] ^= 1  # the time in the gzip header: another file of the same size, with the same voxels
    source.write(mask, bytes(payload))
    assert convert(place).done == ("study_0002", "study_0003")
    source.write("masks/study_0004_mask.nii.gz", source.read(mask))
    assert convert(place).done == ("study_0004",)
    source.remove("masks/study_0004_mask.nii.gz")
    assert convert(place).done == ("study_0004",)


def test_a_pair_whose_image_changes_is_done_again(tmp_path, chests):
    from fastct.nifti import read_nifti

    volume = read_nifti(next(chests.rglob("study_0001.nii.gz")))
    source, pair = tmp_path / "source", tmp_path / "source" / "ct"
    source.mkdir()
    import nibabel as nib

    nib.save(nib.Nifti1Pair(volume.hu.T, volume.geometry.affine), pair.with_suffix(".img"))
    place = open_storage(source), open_storage(tmp_path / "store")
    assert convert(place).done == ("ct",)
    assert convert(place).done == ()
    image = pair.with_suffix(".img")
    image.write_bytes(bytes(2) + image.read_bytes()[2:])
    os.utime(image, ns=(1, 1 + 10**18))
    assert convert(place).done == ("ct",)


def test_changed_settings_redo_every_study(place):
    convert(place)
    assert convert(place, codec="zstd").done == IDS
    assert convert(place, codec="zstd").done == ()


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_key_that_is_not_as_recorded_redoes_its_study(place, damage):
    convert(place)
    _, store = place
    before = contents(store)
    payload = store.read(SHARD_OF_2)
    if damage == "missing":
        store.remove(SHARD_OF_2)
    else:
        store.write(SHARD_OF_2, payload[:-1])
    assert convert(place).done == ("study_0002",)
    assert contents(store) == before


def test_who_opened_a_study_before_it_was_replaced_is_told(place):
    source, store = place
    convert(place)
    opened = fastct.open(store.place.url)["study_0001"]
    assert opened.geometry.shape == (10, 96, 96)
    assert opened.metadata
    source.write(path_of(source, "study_0001"), source.read(path_of(source, "study_0004")))
    convert(place)
    with pytest.raises(StoreError, match="it was replaced while it was read"):
        opened.read(slice(2), slice(2), slice(2))
    again = fastct.open(store.place.url)
    np.testing.assert_array_equal(again["study_0001"].hu, again["study_0004"].hu)


def test_scoring_disturbs_no_reader_of_voxels(place):
    _, store = place
    convert(place)
    early = fastct.open(store.place.url)["study_0001"]
    assert early.metadata
    score(place)
    late = fastct.open(store.place.url)["study_0001"]
    np.testing.assert_array_equal(early.hu, late.hu)
    labels = late.lungs
    score(place, overwrite=True)
    np.testing.assert_array_equal(late.hu, early.hu)
    np.testing.assert_array_equal(fastct.open(store.place.url)["study_0001"].lungs, labels)


def test_a_label_is_out_of_the_root_while_it_is_replaced(place):
    _, store = place
    convert(place)
    score(place)
    before = contents(store)
    reader = fastct.open(store.place.url)["study_0001"]
    assert reader.labels == ("lung", "lesion")
    root, label = f"{reader.folder}/zarr.json", f"{reader.folder}/labels/lung/0/{SHARD}"
    seen = []
    write_all = store.write_all

    def look(files):
        if label in files:
            named = json.loads(store.read(root))["attributes"]["fastct"]["shards"]
            seen.append(sorted(named))
            with pytest.raises(StoreError, match="it was replaced while it was read"):
                _ = reader.lungs
        write_all(files)

    from fastct.publish import label_files, store_labels

    store.write_all = look
    study = fastct.open(store.place.url)["study_0001"]
    voxels = {"lung": study.lungs, "lesion": study.lesion}
    store_labels(store, study, label_files(study, voxels, {"lung": "fastct", "lesion": "threshold"}))
    assert seen == [["0"]]
    assert contents(store) == before


def test_two_runs_at_once_share_the_studies(place):
    convert(place)
    score(place)
    alone = contents(place[1])
    place = place[0], open_storage(f"{place[1].place.url}-of-two")
    begin, summaries = threading.Barrier(2), []

    def run():
        begin.wait()
        summaries.extend([convert(place), score(place)])

    runs = [threading.Thread(target=run) for _ in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    for stage in ("convert", "score"):
        both = [summary for summary in summaries if summary.stage == stage]
        assert sorted(name for summary in both for name in summary.done) == list(IDS), "each once"
        assert all(set(summary.done) | set(summary.skipped) == set(IDS) for summary in both)
    assert contents(place[1]) == alone


def test_what_a_dying_worker_leaves_during_a_run_is_swept(place):
    dead = 2**22 + 1  # beyond any process number of Linux
    _, store = place
    left = f"{STAGING}/staged-{dead:032x}/part"

    def leave(event):
        if store.is_local:
            store.write(left, b"half")
        else:
            owner = {"machine": machine(), "process": dead, "started": "1"}
            store.write(f"{CLAIMS}/studies/gone", json.dumps({"owner": owner}).encode())

    fastct.convert(place[0].place.url, store.place.url, workers=1, on_event=leave)
    assert not [key for key in store.keys(".fastct") if key.startswith((STAGING, CLAIMS))]


def test_a_study_whose_owner_fails_is_done_by_the_one_who_waited(place, monkeypatch):
    from fastct import pipeline

    _, store = place
    claim = store.claim("studies/study_0002")
    seen = []
    waiting = pipeline.sleep

    def give_up(seconds):
        seen.append(seconds)
        claim.release()
        waiting(0)

    monkeypatch.setattr(pipeline, "sleep", give_up)
    assert convert(place).done == IDS
    assert len(seen) == 1


def test_a_study_that_another_never_gives_back_fails_and_the_others_are_done(place):
    """As where its worker was stopped, and neither works nor dies."""
    _, store = place
    with store.claim("studies/study_0002"):
        summary = convert(place, study_limit_s=2)
    assert summary.failed == ("study_0002",)
    assert summary.done == tuple(name for name in IDS if name != "study_0002")
    assert "has had it for 2 s" in fastct.open(store.place.url).table[1]["error"]
    assert convert(place).done == ("study_0002",)
    with store.claim("studies.csv"), pytest.raises(StoreError, match="has had it for 2 s"):
        score(place, study_limit_s=2)
    assert score(place).failed == ()


def test_a_study_is_read_as_it_was_or_as_it_is_while_it_is_replaced(tmp_path):
    """A reader beside a writer that replaces a study again and again: the old voxels, the new ones, or an error."""
    source, store = tmp_path / "source", tmp_path / "store"
    volumes = []
    for seed in (1, 2):
        hu, _, affine = small_chest(seed, (4 + seed, 64, 64))
        write_study(source / f"{seed}" / "ct.nii.gz", hu, affine)
        volumes.append(hu)
    fastct.convert(source / "1", store, workers=1)
    ended = threading.Event()
    told = []

    def replace():
        told.extend(fastct.convert(source / f"{1 + number % 2}", store, workers=1).failed for number in range(12))
        ended.set()

    writer = threading.Thread(target=replace)
    writer.start()
    read = replaced = 0
    while not ended.is_set():
        study = fastct.open(store)["ct"]
        shape = study.geometry.shape
        try:
            np.testing.assert_array_equal(study.hu, volumes[shape[0] - 5])
            read += 1
        except StoreError as error:
            assert "replaced" in error.finding  # noqa: PT017
            replaced += 1
    writer.join()
    assert read > 0
    assert not any(told)


@pytest.mark.parametrize("year", [1970, 2106])
def test_clocks_that_jump_change_nothing(place, monkeypatch, year):
    """Files from the past and the future, and a clock that stands there while the job runs."""
    source, store = place
    convert(place)
    score(place)
    before = {key: payload for key, payload in contents(store).items() if "records" not in key}
    moment = (year - 1970) * 31_556_952
    if source.is_local:
        for path in source.root.rglob("*.nii.gz"):
            os.utime(path, (moment, moment))
    monkeypatch.setattr("time.time", lambda: float(moment))
    assert convert(place).done == ()
    assert score(place).done == ()
    assert convert(place, overwrite=True).done == IDS
    assert score(place).done == IDS
    assert {key: payload for key, payload in contents(store).items() if "records" not in key} == before
    assert fastct.verify(store.place.url) == []
