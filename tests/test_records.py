"""Records and the table made from them."""

import csv
import io
import json
from dataclasses import replace

import pytest

from fastct.errors import StoreError
from fastct.records import (
    COLUMNS,
    Record,
    read_record,
    read_records,
    record_ids,
    record_key,
    write_record,
)
from fastct.storage import open_storage
from fastct.tables import table_text, write_tables

RECORD = Record(
    study_id="study_0001",
    category="CT-1",
    status="done",
    source="studies/CT-1/study_0001.nii.gz",
    source_files={"volume": {"size_bytes": 3, "mtime_ns": 5, "sha256": "00"}},
    converted="abc",
    keys={"zarr.json": (12, 34)},
    notes=("float32 rounded to int16",),
    row={"shape_z": 40, "lung_ml": 1234.56789, "lesion_percent": 12.345678, "flags": "lung_cut"},
)


@pytest.fixture
def storage(tmp_path):
    return open_storage(tmp_path)


def test_a_record_comes_back_as_it_went(storage):
    write_record(storage, RECORD)
    assert read_record(storage, "study_0001") == RECORD
    assert read_record(storage, "study_0002") is None
    assert record_ids(storage) == ["study_0001"]


@pytest.mark.parametrize("old", [b'"CT-1"', b"1234.56789", b'"schema": 2', b'"status"', b"{"])
def test_a_changed_record_is_refused(storage, old):
    write_record(storage, RECORD)
    key = record_key("study_0001")
    storage.write(key, storage.read(key).replace(old, old[:-1] + b"7", 1))
    with pytest.raises(StoreError, match="this is no record"):
        read_record(storage, "study_0001")


def test_a_record_of_another_study_is_refused(storage):
    write_record(storage, RECORD)
    storage.write(record_key("study_0002"), storage.read(record_key("study_0001")))
    with pytest.raises(StoreError, match="it is of study study_0001"):
        read_record(storage, "study_0002")


def test_table_has_the_promised_columns_and_fixed_decimals(storage):
    write_record(storage, RECORD)
    write_record(storage, replace(RECORD, study_id='odd, "name"\n').failed("convert", "a, b"))
    write_tables(storage, read_records(storage))
    text = storage.read("studies.csv").decode()
    assert text == table_text(read_records(storage))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    by_id = {row["study_id"]: row for row in rows}
    assert by_id["study_0001"]["lung_ml"] == "1234.568"
    assert by_id["study_0001"]["lesion_percent"] == "12.3457"
    assert by_id['odd, "name"\n']["status"] == "failed"
    assert by_id['odd, "name"\n']["error"] == "a, b"


def test_parquet_holds_the_same_with_types(storage):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_record(storage, RECORD)
    write_record(storage, replace(RECORD, study_id="caf\udce9", row={}).failed("convert", "gone"))
    write_tables(storage, read_records(storage))
    table = parquet.read_table(storage.root / "studies.parquet")
    assert tuple(table.column_names) == COLUMNS
    first, second = sorted(table.to_pylist(), key=lambda row: row["status"] == "failed")
    assert (first["lung_ml"], first["shape_z"], first["hu_min"]) == (1234.56789, 40, None)
    assert (second["study_id"], second["error"], second["lesion_percent"]) == ("caf\\udce9", "gone", None)


def test_without_pyarrow_no_old_parquet_stays(storage, monkeypatch):
    write_record(storage, RECORD)
    storage.write("studies.parquet", b"old")
    monkeypatch.setattr("fastct.tables.find_spec", lambda name: None)
    write_tables(storage, read_records(storage))
    assert set(storage.names("")) == {".fastct", "studies.csv"}


def test_records_are_read_as_they_are_asked_for(storage, monkeypatch):
    monkeypatch.setattr("fastct.records.READ_AT_ONCE", 2)
    for number in range(7):
        write_record(storage, replace(RECORD, study_id=f"study_{number}"))
    records = read_records(storage)
    first = next(records)
    for number in range(2, 7):
        storage.remove(record_key(f"study_{number}"))
    assert [record.study_id for record in (first, *records)] == ["study_0", "study_1"]


def test_records_hold_plain_json(storage):
    write_record(storage, RECORD)
    assert json.loads(storage.read(record_key("study_0001")))["row"] == RECORD.row
