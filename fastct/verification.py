"""Whether a store is what its records say: every chunk's checksum, every label's shape, every record, the table."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastct import ome, shards
from fastct._ext.shard import crc32c
from fastct.errors import FastctError, StoreError
from fastct.foreground import check_foreground, foreground_key
from fastct.geometry import Geometry
from fastct.publish import as_json
from fastct.records import RECORDS, Record, read_record, read_records, record_ids
from fastct.scoring import picture_key
from fastct.storage import WORK, Storage, open_storage
from fastct.store import ENDING, IMAGE, MANIFEST, SHARD, STUDIES, Store, study_folder
from fastct.store import open as open_store
from fastct.tables import PARQUET, TABLE, table_text

TOP = {MANIFEST, TABLE, STUDIES, WORK, PARQUET, "report.html", "comparisons"}


@dataclass(frozen=True)
class Fault:
    """Something in a store that is not as it was written: the study (empty: the store), the key, the finding."""

    study_id: str
    key: str
    finding: str

    def __str__(self) -> str:
        return f"{self.study_id or 'store'}: {self.key}: {self.finding}"


def verify(store: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> list[Fault]:
    """Check every byte of a store.

    Parameters
    ----------
    store : folder or URL of the store.
    storage_options : what opening a URL takes.

    Returns
    -------
    list of Fault
        Empty when all is well.

    Raises
    ------
    StoreError
        If there is no fastct store to check.
    """
    opened = open_store(store, storage_options)
    storage = open_storage(store, storage_options)
    faults = list(_check_top(storage, opened))
    for study_id in sorted({*opened, *record_ids(storage)}):
        faults += check_study(storage, study_id)
    return faults


def check_study(storage: Storage, study_id: str) -> Iterator[Fault]:
    """The faults of one study: its record, its files, its arrays."""
    try:
        record = read_record(storage, study_id)
    except StoreError as error:
        yield Fault(study_id, f"{RECORDS}/{study_id}.json", error.finding)
        return
    folder = study_folder(study_id)
    there = set(storage.keys(folder))
    if record is None:
        yield Fault(study_id, folder, "it has no record: the run that wrote it did not end")
        return
    for key in sorted(there - {f"{folder}/{name}" for name in record.keys}):
        yield Fault(study_id, key, "no record knows this file")
    whole = True
    for name, (size, crc) in sorted(record.keys.items()):
        for finding in _check_file(storage, f"{folder}/{name}", size, crc):
            whole = False
            yield Fault(study_id, f"{folder}/{name}", finding)
    if record.keys and whole:
        yield from _check_arrays(storage, record)


def _check_file(storage: Storage, key: str, size: int, crc: int) -> Iterator[str]:
    try:
        payload = storage.read(key)
    except StoreError as error:
        yield error.finding
        return
    if len(payload) != size:
        yield f"it has {len(payload)} bytes, its record says {size}"
    elif crc32c(payload) != crc:
        yield "its bytes changed: the checksum is not the record's"


def _check_arrays(storage: Storage, record: Record) -> Iterator[Fault]:
    folder = study_folder(record.study_id)
    try:
        root = json.loads(storage.read(f"{folder}/zarr.json"))
        attributes = root["attributes"]["fastct"]
        members = root["consolidated_metadata"]["metadata"]
        geometry = Geometry(members[IMAGE]["shape"], attributes["affine_ras"])
    except (ValueError, KeyError, TypeError) as error:
        yield Fault(record.study_id, f"{folder}/zarr.json", f"its metadata are damaged ({error})")
        return
    if attributes["study"] != record.study_id:
        yield Fault(record.study_id, f"{folder}/zarr.json", f"it is study {attributes['study']}")
    for axis, size in zip("zyx", geometry.shape, strict=True):
        if record.row.get(f"shape_{axis}") != size:
            yield Fault(record.study_id, folder, f"its record says shape_{axis} {record.row.get(f'shape_{axis}')}")
    arrays = [path for path in members if path == IMAGE or path.endswith(f"/{IMAGE}")]
    if record.status == "done":
        arrays += [path for path in ("labels/lung/0", "labels/lesion/0") if path not in members]
    for path in arrays:
        yield from _check_array(storage, record.study_id, path, members, geometry)


def _check_array(
    storage: Storage, study_id: str, path: str, members: Mapping[str, Any], geometry: Geometry
) -> Iterator[Fault]:
    key = f"{study_folder(study_id)}/{path}"
    if path not in members:
        yield Fault(study_id, key, "the label is not there, though its record says done")
        return
    document = members[path]
    own = json.loads(storage.read(f"{key}/zarr.json"))
    if own != document:
        yield Fault(study_id, f"{key}/zarr.json", "it differs from the copy in the study's root")
    if tuple(document["shape"]) != geometry.shape:
        yield Fault(study_id, key, f"its shape is {document['shape']}, the image's is {list(geometry.shape)}")
    try:
        shard = storage.view(f"{key}/{SHARD}")
        shards.check_shard(shard, document)
    except (FastctError, ValueError) as error:
        yield Fault(study_id, f"{key}/{SHARD}", str(error))
        return
    label = path.removeprefix("labels/").removesuffix(f"/{IMAGE}")
    finding = check_foreground(storage, study_id, label, shard) if path != IMAGE else ""
    if finding:
        yield Fault(study_id, foreground_key(label, study_id), finding)


def _check_top(storage: Storage, store: Store) -> Iterator[Fault]:
    for name in sorted(set(storage.names("")) - TOP):
        yield Fault("", name, "no part of a store has this name")
    for name in sorted(storage.names(STUDIES)):
        if not name.endswith(ENDING) and name != "zarr.json":
            yield Fault("", f"{STUDIES}/{name}", "no part of a store has this name")
    group = f"{STUDIES}/zarr.json"
    if not storage.exists(group) or storage.read(group) != as_json(ome.group({})):
        yield Fault("", group, "it is missing or changed")
    for study_id in record_ids(storage):
        yield from _check_record(storage, study_id, study_id in store)
    if not storage.exists(TABLE):
        yield Fault("", TABLE, "it is missing")
        return
    if storage.read(TABLE).decode(errors="replace") != table_text(read_records(storage)):
        yield Fault("", TABLE, "it differs from what the records say")


def _check_record(storage: Storage, study_id: str, published: bool) -> Iterator[Fault]:
    try:
        record = read_record(storage, study_id)
    except StoreError:
        return  # named with its study
    if record and record.keys and not published:
        yield Fault(study_id, study_folder(study_id), "it is missing, though its record says converted")
    if record and record.status == "done" and not storage.exists(picture_key(study_id)):
        yield Fault(study_id, picture_key(study_id), "it is missing")
