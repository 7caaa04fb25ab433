"""What is wrong with one study of a store: its files against its record, and what they say against each other."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import ome, shards
from fastct._ext.shard import crc32c
from fastct.conversion import volume_row
from fastct.errors import FastctError, StoreError
from fastct.foreground import check_foreground, foreground_key
from fastct.geometry import Geometry
from fastct.options import fingerprint
from fastct.records import RECORDS, Record, Row, read_record
from fastct.scoring import measured_row, picture_key, read_pictures, score_settings
from fastct.sealed import parsed
from fastct.shards import SHARD
from fastct.storage import Storage
from fastct.store import IMAGE, ROOT, Study, study_folder

CONVERT, SCORE, FOREGROUND = "convert", "score", "foreground"
OWN_FOLDERS = (f"{IMAGE}/", "nifti/", *(f"labels/{name}/" for name in ome.LABELS))


@dataclass(frozen=True)
class Fault:
    """Something in a store that is not as it was written.

    `study_id` is empty where it concerns the store; `key` is the file, `finding` what is wrong with it, and `redo`
    what a repair does anew, empty where it leaves the file to you.
    """

    study_id: str
    key: str
    finding: str
    redo: str = ""

    def __str__(self) -> str:
        return f"{self.study_id or 'store'}: {self.key}: {self.finding}"


def check_study(storage: Storage, study_id: str) -> Iterator[Fault]:
    """The faults of one study: its record, its files, its arrays, its pictures and foregrounds."""
    folder = study_folder(study_id)
    try:
        record = read_record(storage, study_id)
    except StoreError as error:
        yield Fault(study_id, f"{RECORDS}/{study_id}.json", error.finding, CONVERT)
        return
    try:
        there = storage.sizes(folder)
    except StoreError as error:
        yield Fault(study_id, error.subject.removeprefix(f"{storage}/"), error.finding, CONVERT)
        return
    if record is None:
        yield Fault(study_id, folder, "it has no record: the run that wrote it did not end", CONVERT)
        return
    if record.keys and not there:
        yield Fault(study_id, folder, "it is missing, though its record says converted", CONVERT)
        return
    own = {f"{folder}/{name}": facts for name, facts in record.keys.items()}
    for key in sorted(set(there) - set(own)):
        ours = key.removeprefix(f"{folder}/").startswith(OWN_FOLDERS)
        yield Fault(study_id, key, "no record knows this file", CONVERT if ours else "")
    files: dict[str, bytes] = {}
    for key, (size, crc) in sorted(own.items()):
        grown = there.get(key, 0) > size  # by how much, is not for our memory to find out
        found = f"it has {there[key]} bytes, its record says {size}" if grown else _file(storage, key, size, crc)
        if isinstance(found, str):
            yield Fault(study_id, key, found, _writer(record, key.removeprefix(f"{folder}/")))
        else:
            files[key.removeprefix(f"{folder}/")] = found
    if record.keys and len(files) == len(own):
        yield from _Contents(storage, record, files).faults()
    if record.status == "done":
        yield from _check_pictures(storage, study_id)


def _file(storage: Storage, key: str, size: int, crc: int) -> bytes | str:
    """The bytes of a file, or what is wrong with it."""
    try:
        payload = storage.read(key)
    except StoreError as error:
        return error.finding
    if len(payload) != size:
        return f"it has {len(payload)} bytes, its record says {size}"
    return payload if crc32c(payload) == crc else "its bytes changed: the checksum is not the record's"


def _writer(record: Record, name: str) -> str:
    """Which stage writes a file of a study anew."""
    by_expert = record.row.get("lesion_source") == "mask"
    scored = ("labels/lung/", "labels/zarr.json") if by_expert else ("labels/",)
    return SCORE if record.scored and name.startswith(scored) else CONVERT


def _check_pictures(storage: Storage, study_id: str) -> Iterator[Fault]:
    try:
        finding = "" if read_pictures(storage, study_id) else "it is missing"
    except StoreError as error:
        finding = error.finding
    if finding:
        yield Fault(study_id, picture_key(study_id), finding, SCORE)


@dataclass(frozen=True)
class _Contents:
    """The files of a study, each as its record knows it: what they say, and whether it agrees."""

    storage: Storage
    record: Record
    files: Mapping[str, bytes]

    @property
    def folder(self) -> str:
        return study_folder(self.record.study_id)

    @cached_property
    def root(self) -> dict[str, Any]:
        return parsed(self.files[ROOT])

    @property
    def members(self) -> dict[str, Any]:
        found: dict[str, Any] = self.root["consolidated_metadata"]["metadata"]
        return found

    @property
    def attributes(self) -> dict[str, Any]:
        found: dict[str, Any] = self.root["attributes"]["fastct"]
        return found

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry(self.members[IMAGE]["shape"], self.attributes["affine_ras"])

    def faults(self) -> Iterator[Fault]:
        """All that disagrees."""
        try:
            yield from self._metadata()
            yield from self._arrays()
        except (ValueError, KeyError, TypeError, AttributeError, MemoryError, FastctError) as error:
            yield self._fault(ROOT, f"its metadata are damaged ({type(error).__name__}: {error})")

    def _metadata(self) -> Iterator[Fault]:
        """What the documents say beside shapes and codecs of arrays."""
        study_id, geometry = self.record.study_id, self.geometry
        if self.attributes["study"] != study_id:
            yield self._fault(ROOT, f"it is study {self.attributes['study']}")
        if self.attributes["unit"] != "HU":
            yield self._fault(ROOT, f"its voxels are in {self.attributes['unit']!r}, not in 'HU'")
        if self.root["attributes"]["ome"]["multiscales"] != [ome.multiscale(study_id, geometry)]:
            yield self._fault(ROOT, "its axes (unit, scale, place or orientation) are not those of its affine")
        for name in ome.LABELS:
            label = self.members.get(f"labels/{name}")
            if label and label["attributes"]["ome"]["multiscales"] != [ome.multiscale(name, geometry)]:
                yield self._fault(f"labels/{name}/{ROOT}", "its axes (unit, scale, place) are not the image's")
        header, _ = Study(self.storage, study_id).source_header()
        if self.files["nifti/c/0"][:-4] != ome.nifti_header(header, geometry):
            yield self._fault("nifti/c/0", "it is not the header of this shape and affine")
        for path, document in self.members.items():
            if parsed(self.files[f"{path}/{ROOT}"]) != document:
                yield self._fault(f"{path}/{ROOT}", "it differs from the copy in the study's root")

    def _arrays(self) -> Iterator[Fault]:
        voxels: dict[str, NDArray[Any]] = {}
        labels = [f"labels/{name}/{IMAGE}" for name in ome.LABELS]
        for path in (IMAGE, *labels):
            if path in self.members:
                found = self._array(path)
                if isinstance(found, str):
                    yield self._fault(f"{path}/{SHARD}", found)
                else:
                    voxels[path] = found
            elif self.record.status == "done" or path == IMAGE:
                yield self._fault(path, "it is not there, though the record says that it is")
        for name, path in zip(ome.LABELS, labels, strict=True):
            if path in voxels:
                yield from self._label(name, voxels[path])
        if IMAGE in voxels:
            yield from self._row(volume_row(voxels[IMAGE], self.geometry), CONVERT)
        if self.record.status == "done" and self.record.scored == fingerprint(score_settings()) and len(voxels) == 3:
            by_expert = self.record.row.get("lesion_source") == "mask"
            lungs, lesion = (voxels[f"labels/{name}/{IMAGE}"] for name in ("lung", "lesion"))
            flags = str(self.record.row.get("flags", "")).split(";")
            yield from self._row(measured_row(lungs, lesion, self.geometry, by_expert=by_expert, flags=flags), SCORE)

    def _array(self, path: str) -> NDArray[Any] | str:
        """The voxels of an array, or what is wrong with it."""
        document, shard = self.members[path], self.files[f"{path}/{SHARD}"]
        if tuple(document["shape"]) != self.geometry.shape:
            return f"its shape is {document['shape']}, the image's is {list(self.geometry.shape)}"
        if document["data_type"] != (wanted := "int16" if path == IMAGE else "uint8"):
            return f"its voxels are {document['data_type']}, not {wanted}"
        if self.attributes["shards"].get(path) != [len(shard), crc32c(shard)]:
            return "it is not the shard that the study's root names"
        try:
            shards.check_shard(shard, document)
            return shards.read_shard(shard, document)
        except (FastctError, ValueError) as error:
            return str(error)

    def _label(self, name: str, voxels: NDArray[np.uint8]) -> Iterator[Fault]:
        most = max(ome.LABELS[name].meanings)
        if voxels.max() > most:
            yield self._fault(f"labels/{name}/{IMAGE}", f"it holds {voxels.max()}, a label's values are 0 to {most}")
        shard = self.files[f"labels/{name}/{IMAGE}/{SHARD}"]
        if finding := check_foreground(self.storage, self.record.study_id, name, shard):
            key = foreground_key(name, self.record.study_id)
            yield Fault(self.record.study_id, key, finding, FOREGROUND)

    def _row(self, row: Row, redo: str) -> Iterator[Fault]:
        """Where the record's row is not what the voxels say."""
        for column, value in row.items():
            if json.dumps(self.record.row.get(column)) != json.dumps(value):
                key, said = f"{RECORDS}/{self.record.study_id}.json", self.record.row.get(column)
                yield Fault(self.record.study_id, key, f"it says {column} {said!r:.40}, the voxels {value!r}", redo)

    def _fault(self, name: str, finding: str) -> Fault:
        return Fault(self.record.study_id, f"{self.folder}/{name}", finding, _writer(self.record, name))
