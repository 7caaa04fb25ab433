"""Verify finds each kind of damage, and names the study and the key."""

import json
import random
import shutil

import pytest

import fastct
from fastct.errors import FastctError
from fastct.verification import verify

STUDY = "studies/study_0002.nii.zarr"


@pytest.fixture
def store(scored, tmp_path):
    shutil.copytree(scored, tmp_path / "store")
    return tmp_path / "store"


def flip(path, bit):
    changed = bytearray(path.read_bytes())
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)


def test_a_sound_store_has_no_faults(scored):
    assert verify(scored) == []


@pytest.mark.parametrize("array", ["0", "labels/lung/0", "labels/lesion/0"])
def test_each_flipped_bit_of_a_shard_is_found_and_never_read(store, array):
    path = store / STUDY / array / "c/0/0/0"
    sound = path.read_bytes()
    names = {"0": "hu", "labels/lung/0": "lungs", "labels/lesion/0": "lesion"}
    for bit in random.Random(5).sample(range(8 * len(sound)), 40):
        flip(path, bit)
        assert [fault.key for fault in verify(store)] == [f"{STUDY}/{array}/c/0/0/0"]
        with pytest.raises(FastctError, match="study_0002"):
            getattr(fastct.open(store)["study_0002"], names[array])
        path.write_bytes(sound)
    assert verify(store) == []


@pytest.mark.parametrize(
    "key",
    [
        f"{STUDY}/zarr.json",
        f"{STUDY}/0/zarr.json",
        f"{STUDY}/labels/lung/zarr.json",
        f"{STUDY}/nifti/c/0",
        "studies/zarr.json",
        "studies.csv",
        ".fastct/records/study_0002.json",
    ],
)
def test_each_flipped_bit_beside_the_voxels_is_found(store, key):
    sound = (store / key).read_bytes()
    for bit in random.Random(6).sample(range(8 * len(sound)), 10):
        flip(store / key, bit)
        assert verify(store), f"bit {bit} of {key}"
        (store / key).write_bytes(sound)


def damage(store, kind):
    study, other = store / STUDY, store / "studies/study_0003.nii.zarr"
    shard = study / "0/c/0/0/0"
    if kind == "missing shard":
        shard.unlink()
    elif kind == "truncated shard":
        shard.write_bytes(shard.read_bytes()[:-7])
    elif kind == "foreign shard":
        shutil.copy(other / "0/c/0/0/0", shard)
    elif kind == "foreign file":
        (study / "0/c/0/0/1").write_bytes(b"what")
    elif kind == "missing study":
        shutil.rmtree(study)
    elif kind == "swapped studies":
        study.rename(store / "aside")
        other.rename(study)
        (store / "aside").rename(other)
    elif kind == "study without record":
        (store / ".fastct/records/study_0002.json").unlink()
    elif kind == "stray file":
        (store / "notes.txt").write_text("mine")
    elif kind == "missing table":
        (store / "studies.csv").unlink()
    elif kind == "missing pictures":
        (store / ".fastct/pictures/study_0002.json").unlink()


@pytest.mark.parametrize(
    "kind",
    [
        "missing shard",
        "truncated shard",
        "foreign shard",
        "foreign file",
        "missing study",
        "swapped studies",
        "study without record",
        "stray file",
        "missing table",
        "missing pictures",
    ],
)
def test_each_kind_of_damage_is_named(store, kind):
    damage(store, kind)
    faults = verify(store)
    assert faults
    if kind not in ("stray file", "missing table"):
        assert {"study_0002"} <= {fault.study_id for fault in faults}, faults


def test_a_damaged_study_is_made_anew(store, chests):
    damage(store, "missing shard")
    assert fastct.convert(chests, store, workers=1).done == ("study_0002",)
    assert fastct.score(store, workers=1).done == ("study_0002",)
    assert verify(store) == []


def test_a_metadata_document_that_was_changed_on_purpose_is_found(store):
    path = store / STUDY / "labels/lung/0/zarr.json"
    document = json.loads(path.read_text())
    document["shape"][0] += 1
    path.write_text(json.dumps(document))
    assert [fault.key for fault in verify(store)] == [f"{STUDY}/labels/lung/0/zarr.json"]
