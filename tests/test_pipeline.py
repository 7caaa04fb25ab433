"""The chain: what is converted and scored, what is left out, what happens to a broken study."""

import csv
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from small_chests import tree, write_study

import fastct
from fastct import conversion
from fastct.batches import do_batch
from fastct.conversion import ConvertTask, convert_study
from fastct.errors import DataSetError, DeviceError, OptionError, StoreError
from fastct.exporting import export_study
from fastct.mosmed import find_studies
from fastct.options import ConvertOptions
from fastct.pipeline import CONVERT, settle
from fastct.publish import create_store
from fastct.records import COLUMNS, read_record
from fastct.reporting import write_report
from fastct.scoring import picture_key
from fastct.storage import as_place, open_storage


def table(store):
    with (store / "studies.csv").open(newline="") as file:
        return {row["study_id"]: row for row in csv.DictReader(file)}


def test_every_study_is_scored(scored, chests):
    rows = table(scored)
    assert list(next(iter(rows.values()))) == list(COLUMNS)
    assert {name: row["status"] for name, row in rows.items()} == {f"study_000{n}": "done" for n in range(1, 5)}
    assert [row["category"] for row in rows.values()] == ["CT-0", "CT-1", "CT-1", "CT-2"]
    assert rows["study_0001"]["source"] == "studies/CT-0/study_0001.nii.gz"
    assert [rows[name]["lesion_source"] for name in sorted(rows)] == ["threshold", "mask", "threshold", "threshold"]
    for row in rows.values():
        right, left, both = (float(row[f"lung_{side}ml"]) for side in ("right_", "left_", ""))
        assert right > 500
        assert left > 500
        assert right + left == pytest.approx(both, abs=0.01)


def test_voxels_and_masks_come_back(scored, chests):
    store = fastct.open(scored)
    assert list(store) == [f"study_000{n}" for n in range(1, 5)]
    for study_id in store:
        source = nib.load(next(chests.rglob(f"{study_id}.nii.gz")))
        study = store[study_id]
        np.testing.assert_array_equal(study.hu, np.asarray(source.dataobj).T)
        np.testing.assert_array_equal(study.geometry.affine, source.affine)
        np.testing.assert_array_equal(study.read(slice(2, 5), slice(30, 70), slice(1, 90)), study.hu[2:5, 30:70, 1:90])
        assert set(np.unique(study.lungs)) == {0, 1, 2}
    expert = np.asarray(nib.load(chests / "masks" / "study_0002_mask.nii.gz").dataobj).T
    np.testing.assert_array_equal(store["study_0002"].lesion, expert)
    assert not (store["study_0002"].lungs[expert > 0] == 0).any(), "an expert's lesion is lung"


def test_expert_percent_is_the_share_of_the_lung(scored):
    row, study = table(scored)["study_0002"], fastct.open(scored)["study_0002"]
    percent = 100 * (study.lesion > 0).sum() / (study.lungs > 0).sum()
    assert float(row["lesion_percent"]) == pytest.approx(percent, abs=1e-3)
    assert float(row["opacity_percent"]) == pytest.approx(percent, abs=1.5)
    assert row["severity"] == fastct.severity(percent)


def test_of_a_study_without_lungs_nothing_is_said(tmp_path):
    affine = np.diag([-4.0, 4.0, 8.0, 1.0])
    write_study(tmp_path / "ct" / "water.nii.gz", np.full((9, 64, 64), 40, np.int16), affine)
    write_study(tmp_path / "ct" / "rounded.nii.gz", np.full((9, 64, 64), 40.25, np.float32), affine)
    fastct.convert(tmp_path / "ct", tmp_path / "store", workers=1)
    fastct.score(tmp_path / "store", workers=1)
    rows = table(tmp_path / "store")
    assert "lung_empty" in rows["water"]["flags"].split(";")
    empty = [name for name, value in rows["water"].items() if value == ""]
    assert {"lesion_percent", "lesion_percent_max", "opacity_percent", "severity"} <= set(empty)
    assert (rows["water"]["status"], rows["water"]["lung_ml"], rows["water"]["notes"]) == ("done", "0.000", "")
    assert rows["rounded"]["notes"] == "float32 rounded to int16"
    assert fastct.verify(tmp_path / "store") == []


def test_a_broken_study_never_stops_the_others(broken_chests, tmp_path):
    store = tmp_path / "store"
    summary = fastct.convert(broken_chests, store, workers=1)
    assert summary.failed == ("study_0003",)
    assert len(fastct.score(store, workers=1).done) == 3
    rows = table(store)
    assert [rows[name]["status"] for name in sorted(rows)] == ["done", "done", "failed", "done"]
    assert "study_0003.nii.gz" in rows["study_0003"]["error"]
    assert list(fastct.open(store)) == ["study_0001", "study_0002", "study_0004"]


def test_an_unforeseen_error_is_a_failure_too(chests, tmp_path, monkeypatch):
    def boom(*args):
        raise ZeroDivisionError("unforeseen")

    monkeypatch.setattr("fastct.conversion.study_files", boom)
    summary = fastct.convert(chests, tmp_path / "store", workers=1)
    assert len(summary.failed) == 4
    assert {row["error"] for row in table(tmp_path / "store").values()} == {"ZeroDivisionError: unforeseen"}


def test_a_second_run_does_only_what_is_left(broken_chests, chests, tmp_path):
    store = tmp_path / "store"
    fastct.convert(broken_chests, store, workers=1)
    again = fastct.convert(broken_chests, store, workers=1)
    assert again.skipped == ("study_0001", "study_0002", "study_0004")
    assert again.failed == ("study_0003",)
    shutil.copy(chests / "studies/CT-1/study_0003.nii.gz", broken_chests / "studies/CT-1/study_0003.nii.gz")
    assert fastct.convert(broken_chests, store, workers=1).done == ("study_0003",)
    assert fastct.convert(broken_chests, store, workers=1).done == ()


def test_changed_sources_and_settings_redo_exactly_what_they_concern(chests, tmp_path):
    root, store = tmp_path / "root", tmp_path / "store"
    shutil.copytree(chests, root)
    fastct.convert(root, store, workers=1)
    fastct.score(store, workers=1)
    os.utime(root / "studies/CT-0/study_0001.nii.gz", (1, 1))  # touched, not changed
    assert fastct.convert(root, store, workers=1).done == ()
    first, last = root / "studies/CT-0/study_0001.nii.gz", root / "studies/CT-2/study_0004.nii.gz"
    shutil.copy(last, first)
    assert fastct.convert(root, store, workers=1).done == ("study_0001",)
    assert fastct.score(store, workers=1).done == ("study_0001",)
    assert len(fastct.convert(root, store, workers=1, codec="zstd").done) == 4
    assert len(fastct.convert(root, store, workers=1, codec="zstd", overwrite=True).done) == 4


def test_what_cannot_be_looked_at_in_one_study_stops_no_other(chests, tmp_path):
    """A loop of links in a study's folder: the study is done again, and verify names it and repairs it."""
    store = tmp_path / "store"
    fastct.convert(chests, store, workers=1)
    sound = tree(store)
    loop = store / "studies/study_0002.nii.zarr/loop"
    loop.symlink_to("loop")
    assert [fault.study_id for fault in fastct.verify(store)] == ["study_0002"]
    assert fastct.verify(store, repair=True) == []
    loop.symlink_to("loop")
    assert fastct.convert(chests, store, workers=1).done == ("study_0002",)
    assert tree(store) == sound


def test_a_worker_that_does_not_find_the_store_makes_none_of_its_own(chests, tmp_path):
    """As on a machine of a cluster that lacks the folder: its studies fail, instead of lying there."""
    source = find_studies(chests).studies[0]
    task = ConvertTask(source, as_place(tmp_path / "nowhere"), ConvertOptions())
    with pytest.raises(StoreError, match="finds no store there"):
        settle(CONVERT, True, 10, task)
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_ends_after_its_time_writes_no_record(chests, tmp_path):
    """Its failure was told and recorded by those who waited; a later record would belie the table."""
    ended, go_on = threading.Event(), threading.Event()

    def work(task):
        go_on.wait()
        return convert_study(task)

    def settle_slowly(task):
        try:
            return settle(replace(CONVERT, work=work), True, 0.1, task)
        finally:
            ended.set()

    store = open_storage(tmp_path / "store")
    create_store(store, {})
    task = ConvertTask(find_studies(chests).studies[0], store.place, ConvertOptions())
    (outcome,) = do_batch(settle_slowly, [task], 0.2)
    assert "not done within" in str(outcome)
    go_on.set()
    assert ended.wait(60)
    assert read_record(store, "study_0001") is None


def test_the_report_shows_no_picture_of_what_a_study_was(scored, chests, tmp_path):
    store = Path(shutil.copytree(scored, tmp_path / "store"))
    montage = json.loads((store / picture_key("study_0001")).read_text())["montage"]
    assert montage in Path(write_report(store)).read_text()
    fastct.convert(chests, store, workers=1, codec="zstd")
    assert montage not in Path(write_report(store)).read_text()


def test_a_file_that_is_never_served_fails_and_the_others_are_done(chests, tmp_path, monkeypatch):
    """A pipe that nobody writes to stands for a file server that does not answer: the read never ends."""
    pipe, served = tmp_path / "pipe", conversion.load_source
    os.mkfifo(pipe)

    def load_late(path, **options):
        if path.name == "study_0003.nii.gz":
            pipe.read_bytes()
        return served(path, **options)

    monkeypatch.setattr(conversion, "load_source", load_late)
    summary = fastct.convert(chests, tmp_path / "store", workers=1, study_limit_s=1.5)
    assert (summary.done, summary.failed) == (("study_0001", "study_0002", "study_0004"), ("study_0003",))
    assert "not done within 1.5 s" in table(tmp_path / "store")["study_0003"]["error"]
    monkeypatch.undo()
    assert fastct.convert(chests, tmp_path / "store", workers=1).done == ("study_0003",)


@pytest.mark.parametrize("codec", ["ctpack", "blosc", "zstd"])
def test_zarr_python_reads_the_same_voxels(chests, tmp_path, codec):
    zarr = pytest.importorskip("zarr")
    fastct.convert(chests / "studies" / "CT-0", tmp_path / "store", codec=codec, workers=1)
    group = zarr.open_group(tmp_path / "store" / "studies" / "study_0001.nii.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][:], fastct.open(tmp_path / "store")["study_0001"].hu)
    header = nib.Nifti1Header(bytes(group["nifti"][:].tobytes()))
    assert header.get_data_shape() == group["0"].shape[::-1]
    np.testing.assert_allclose(header.get_best_affine(), fastct.open(tmp_path / "store")["study_0001"].geometry.affine)


def test_export_gives_the_source_back(scored, chests, tmp_path):
    for study_id in fastct.open(scored):
        export_study(fastct.open(scored)[study_id], tmp_path / f"{study_id}.nii.gz")
        source, back = nib.load(next(chests.rglob(f"{study_id}.nii.gz"))), nib.load(tmp_path / f"{study_id}.nii.gz")
        assert back.header == source.header
        np.testing.assert_array_equal(np.asarray(back.dataobj), np.asarray(source.dataobj))
    export_study(fastct.open(scored)["study_0002"], tmp_path / "lung.nii", label="lung")
    lungs = np.asarray(nib.load(tmp_path / "lung.nii").dataobj).T
    np.testing.assert_array_equal(lungs, fastct.open(scored)["study_0002"].lungs)
    with pytest.raises(OptionError, match="it is there already"):
        export_study(fastct.open(scored)["study_0002"], tmp_path / "lung.nii", label="lung")


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_two_workers_write_the_same_bytes(scored, chests, tmp_path, pool):
    store = tmp_path / "store"
    fastct.convert(chests, store, workers=2, pool=pool)
    fastct.score(store, workers=2, pool=pool)
    expected = tree(scored)
    del expected["report.html"]
    assert tree(store) == expected


def test_dry_run_writes_nothing(chests, tmp_path):
    summary = fastct.convert(chests, tmp_path / "store", workers=1, dry_run=True)
    assert len(summary.planned) == 4
    assert not (tmp_path / "store").exists()


def test_refusals(chests, tmp_path):
    with pytest.raises(OptionError, match="there is no such option"):
        fastct.convert(chests, tmp_path / "store", worker=3)
    with pytest.raises(OptionError, match="Choose one of ctpack"):
        fastct.convert(chests, tmp_path / "store", codec="gzip")
    with pytest.raises(DeviceError, match="--device cpu"):
        fastct.score(tmp_path, device="cuda:99")
    with pytest.raises(StoreError, match="not empty"):
        fastct.convert(chests, chests)
    with pytest.raises(DataSetError):
        fastct.convert(tmp_path, tmp_path / "store")
    with pytest.raises(StoreError, match=r"no fastct\.json"):
        fastct.score(tmp_path)
    with pytest.raises(StoreError, match="no study 'nothing'"):
        fastct.open(_empty(chests, tmp_path))["nothing"]


def _empty(chests: Path, tmp_path: Path) -> Path:
    fastct.convert(chests / "studies" / "CT-0", tmp_path / "one", workers=1)
    return tmp_path / "one"


def test_a_record_that_cannot_be_read_stops_no_other_study(scored, chests, tmp_path):
    store = tmp_path / "store"
    shutil.copytree(scored, store)
    record = store / ".fastct/records/study_0002.json"
    whole = tree(store)
    record.write_bytes(record.read_bytes()[:-40])
    summary = fastct.score(store, workers=1)
    assert summary.failed == ("study_0002",)
    rows = {row["study_id"]: row for row in fastct.open(store).table}
    assert "no record" in rows["study_0002"]["error"]
    assert [rows[study_id]["status"] for study_id in sorted(rows)] == ["done", "failed", "done", "done"]
    assert fastct.convert(chests, store, workers=1).done == ("study_0002",)
    assert fastct.score(store, workers=1).done == ("study_0002",)
    del whole["report.html"]
    assert {key: contents for key, contents in tree(store).items() if key in whole} == whole


def test_a_store_copied_without_its_hidden_folder_keeps_its_table(scored, chests, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(scored, copy, ignore=shutil.ignore_patterns(".fastct"))
    before = tree(copy)
    for work in (fastct.score, write_report):
        with pytest.raises(StoreError, match=r"no records of them.*Copy \.fastct as well"):
            work(copy)
    assert tree(copy) == before
    fastct.convert(chests, copy, workers=1)
    fastct.score(copy, workers=1)
    assert fastct.verify(copy) == []
