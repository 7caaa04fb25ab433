"""Verify finds each kind of damage, and names the study and the key."""

import os
import random
import shutil
from dataclasses import replace
from functools import partial

import pytest
from flip_bits import flip, not_found
from small_chests import small_chest, tree, write_study

import fastct
from fastct._ext.shard import crc32c
from fastct.cli import main
from fastct.comparison import write_comparison
from fastct.errors import FastctError, StoreError
from fastct.records import read_record, read_records, write_record
from fastct.storage import LocalStorage, open_storage
from fastct.store import study_folder
from fastct.tables import write_tables
from fastct.verification import verify

STUDY = "studies/study_0002.nii.zarr"


@pytest.fixture
def store(scored, tmp_path):
    shutil.copytree(scored, tmp_path / "store")
    return tmp_path / "store"


def test_a_sound_store_has_no_faults(scored):
    assert verify(scored) == []


def test_an_empty_folder_that_a_full_disk_left_is_no_fault(store):
    shutil.rmtree(store / ".fastct/foreground/lung")
    (store / ".fastct/foreground/lung").mkdir()
    assert verify(store) == []


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


def test_each_flipped_bit_of_every_file_is_found(store):
    write_comparison(store, "study_0001", "study_0002")
    files = [path for path in store.rglob("*") if path.is_file()]
    assert not_found(store, 2 * len(files), seed=6) == []
    assert verify(store) == []


def other_study(store):
    return store / study_folder("study_0003")


def swap(one, other):
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def change(store, study_id, **fields):
    """A record that says something else, sealed as if fastct had written it; and a table that says so too."""
    storage = open_storage(store)
    record = read_record(storage, study_id)
    write_record(storage, replace(record, row={**record.row, **fields}))
    write_tables(storage, read_records(storage))


def rewrite(store, key, old, new):
    """A document of study_0002 changed, with a record that knows the new bytes."""
    storage = open_storage(store)
    record = read_record(storage, "study_0002")
    payload = storage.read(f"{STUDY}/{key}")
    assert old in payload
    storage.write(f"{STUDY}/{key}", payload := payload.replace(old, new))
    write_record(storage, replace(record, keys={**record.keys, key: (len(payload), crc32c(payload))}))


def lose(store, key):
    """A file that cannot be read, as on a damaged disk."""
    (store / key).unlink()
    (store / key).symlink_to((store / key).name)


def block(store, key):
    """A pipe that nobody writes to, in the place of a file: who opens it waits for ever."""
    (store / key).unlink()
    os.mkfifo(store / key)


SHARD = f"{STUDY}/0/c/0/0/0"
LESION = f"{STUDY}/labels/lesion/0/c/0/0/0"
RECORD = ".fastct/records/study_0002.json"
PICTURES = ".fastct/pictures/study_0002.json"
DAMAGE = {  # what is done to a store, and a file that verify must name
    "missing shard": (lambda s: (s / SHARD).unlink(), SHARD),
    "truncated shard": (lambda s: (s / SHARD).write_bytes((s / SHARD).read_bytes()[:-7]), SHARD),
    "foreign shard": (lambda s: shutil.copy(other_study(s) / "0/c/0/0/0", s / SHARD), SHARD),
    "foreign chunk": (lambda s: (s / STUDY / "0/c/0/0/1").write_bytes(b"what"), f"{STUDY}/0/c/0/0/1"),
    "missing study": (lambda s: shutil.rmtree(s / STUDY), STUDY),
    "swapped studies": (lambda s: swap(s / STUDY, other_study(s)), f"{STUDY}/zarr.json"),
    "swapped labels": (lambda s: swap(s / LESION, other_study(s) / "labels/lesion/0/c/0/0/0"), LESION),
    "expert's mask lost": (
        lambda s: shutil.rmtree(s / STUDY / "labels/lesion/0/c"),
        f"{STUDY}/labels/lesion/0/c/0/0/0",
    ),
    "swapped records": (lambda s: swap(s / RECORD, s / ".fastct/records/study_0003.json"), RECORD),
    "swapped pictures": (lambda s: swap(s / PICTURES, s / ".fastct/pictures/study_0003.json"), PICTURES),
    "study without record": (lambda s: (s / RECORD).unlink(), STUDY),
    "missing pictures": (lambda s: (s / PICTURES).unlink(), PICTURES),
    "foreign foreground": (
        lambda s: shutil.copy(
            s / ".fastct/foreground/lesion/study_0001.bin", s / ".fastct/foreground/lesion/study_0002.bin"
        ),
        ".fastct/foreground/lesion/study_0002.bin",
    ),
    "record disagrees": (lambda s: change(s, "study_0002", lesion_percent=99.0), RECORD),
    "record of another shape": (lambda s: change(s, "study_0002", shape_y=97), RECORD),
    "wrong unit": (lambda s: rewrite(s, "zarr.json", b'"millimeter"', b'"micrometer"'), f"{STUDY}/zarr.json"),
    "wrong unit of voxels": (lambda s: rewrite(s, "zarr.json", b'"HU"', b'"MU"'), f"{STUDY}/zarr.json"),
    "wrong spacing": (lambda s: rewrite(s, "zarr.json", b"8.0", b"9.0"), f"{STUDY}/nifti/c/0"),
    "label of another shape": (
        lambda s: rewrite(s, "labels/lung/0/zarr.json", b"10", b"11"),
        f"{STUDY}/labels/lung/0/zarr.json",
    ),
    "missing table": (lambda s: (s / "studies.csv").unlink(), "studies.csv"),
    "table disagrees": (
        lambda s: (s / "studies.csv").write_text((s / "studies.csv").read_text().replace("CT-1", "CT-2")),
        "studies.csv",
    ),
    "missing checksums": (lambda s: (s / ".fastct/tables.json").unlink(), ".fastct/tables.json"),
    "cut report": (lambda s: (s / "report.html").write_bytes((s / "report.html").read_bytes()[:-100]), "report.html"),
    "changed settings": (lambda s: flip(s / "fastct.json", 777), "fastct.json"),
    "missing listing": (lambda s: (s / ".fastct/listing.json").unlink(), ".fastct/listing.json"),
    "changed group": (lambda s: (s / "studies/zarr.json").write_text("{}"), "studies/zarr.json"),
    "shard larger than memory": (lambda s: os.truncate(s / SHARD, 1 << 40), SHARD),
}
UNREADABLE = (SHARD, RECORD, PICTURES, "fastct.json", "studies.csv", "studies/zarr.json", "report.html")
UNREADABLE += (".fastct/tables.json", ".fastct/listing.json", ".fastct/foreground/lung/study_0002.bin")
DAMAGE |= {f"unreadable {key}": (partial(lose, key=key), key) for key in UNREADABLE}
DAMAGE |= {f"pipe for {key}": (partial(block, key=key), key) for key in (*UNREADABLE, f"{STUDY}/zarr.json")}


@pytest.mark.parametrize("kind", DAMAGE)
def test_each_kind_of_damage_is_named_and_repaired(store, kind):
    sound, times = tree(store), {path: path.stat().st_mtime_ns for path in (store / "studies").rglob("0/c/0/0/0")}
    spoil, key = DAMAGE[kind]
    spoil(store)
    faults = verify(store)
    assert key in {fault.key for fault in faults}, [str(fault) for fault in faults]
    assert verify(store, repair=True) == []
    assert tree(store) == sound
    concerned = {fault.study_id for fault in faults}
    for path, mtime_ns in times.items():
        if not any(study_id and study_id in str(path) for study_id in concerned):
            assert path.stat().st_mtime_ns == mtime_ns, f"{path} was written again"


def test_labels_outlive_a_repair_whose_record_the_disk_took_with_an_error(store, monkeypatch):
    """The new record lies there, and the folder's sync failed: the study counts as failed, and is repaired again."""
    sound, write, failed = tree(store), LocalStorage.write, []

    def write_and_fail_once(storage, key, payload):
        write(storage, key, payload)
        if key == RECORD and not failed:
            failed.append(key)
            raise StoreError(key, "cannot be written (Input/output error)", "Look at the disk")

    (store / SHARD).unlink()
    monkeypatch.setattr(LocalStorage, "write", write_and_fail_once)
    assert verify(store, repair=True) != []
    assert verify(store, repair=True) == []
    assert tree(store) == sound


def test_what_is_no_part_of_a_store_is_named_and_left(store):
    keys = ["notes.txt", ".fastct/odd", ".fastct/pictures/gone.json", "studies/mine", f"{STUDY}/mine/zarr.json"]
    for key in keys:
        (store / key).parent.mkdir(exist_ok=True)
        (store / key).write_text("mine")
    assert sorted(fault.key for fault in verify(store)) == sorted(keys)
    assert sorted(fault.key for fault in verify(store, repair=True)) == sorted(keys)
    assert all((store / key).read_text() == "mine" for key in keys)


@pytest.fixture
def own(chests, tmp_path):
    """A data set of one study, and a store of it."""
    source = tmp_path / "source"
    shutil.copytree(chests / "studies/CT-0", source)
    fastct.convert(source, tmp_path / "own", workers=1)
    assert verify(tmp_path / "own") == []
    return source, tmp_path / "own"


@pytest.mark.parametrize("lost", ["gone", "changed"])
def test_a_source_that_is_no_more_what_it_was_is_told(own, lost, capsys, monkeypatch):
    source, store = own
    shard = store / study_folder("study_0001") / "0/c/0/0/0"
    flip(shard, 1000)
    damaged = tree(store)
    volume = source / "study_0001.nii.gz"
    if lost == "gone":
        shutil.rmtree(source)
    else:
        hu, _, affine = small_chest(9)
        write_study(volume, hu, affine)
    monkeypatch.setattr("sys.argv", ["fastct", "verify", str(store), "--repair"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert "its bytes changed" in said
    assert f"its source {'cannot be read' if lost == 'gone' else 'has changed'}" in said
    assert tree(store) == damaged, "nothing was touched"


def test_a_source_that_moved_is_named_by_hand(own, tmp_path):
    source, store = own
    sound = tree(store)
    flip(store / study_folder("study_0001") / "0/c/0/0/0", 1000)
    source.rename(tmp_path / "elsewhere")
    assert verify(store, repair=True)
    assert verify(store, repair=True, source=tmp_path / "elsewhere") == []
    assert tree(store).keys() == sound.keys()
    assert fastct.verify(store) == []


def test_a_store_that_lost_all_its_documents_comes_back(store):
    sound = tree(store)
    for path in [store / "fastct.json", *(store / ".fastct").rglob("*.json")]:
        if path.name != "listing.json":
            path.write_bytes(b"{}")
    assert verify(store, repair=True) == []
    assert tree(store) == sound
