"""A store as its readers see it: studies by id, voxels by region, the table."""

import base64
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import ome, shards
from fastct.errors import ArrayError, StoreError
from fastct.geometry import Geometry
from fastct.records import Record, Row, read_record, read_records, record_ids
from fastct.sealed import parsed, unseal
from fastct.shards import SHARD
from fastct.storage import WORK, Storage, open_storage

MANIFEST = "fastct.json"
STUDIES = "studies"
IMAGE = "0"
ROOT = "zarr.json"
ENDING = ".nii.zarr"
Slices = tuple[slice, slice, slice]


def open(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> "Store":
    """Open a store for reading.

    Parameters
    ----------
    path : folder or URL of the store, such as `s3://bucket/covid.fastct`.
    storage_options : what opening a URL takes, under the names of obstore or of fsspec.

    Raises
    ------
    StoreError
        If there is no fastct store, or one of a newer schema.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     _ = fastct.convert(f"{folder}/ct", f"{folder}/store", workers=1)
    ...     study = open(f"{folder}/store")["study_0001"]
    ...     study.read(slice(0, 4), slice(16, 32), slice(16, 32)).shape, study.hu.dtype
    ((4, 16, 16), dtype('int16'))
    """
    storage = open_storage(path, storage_options)
    read_manifest(storage)
    return Store(storage)


def read_manifest(storage: Storage) -> dict[str, Any]:
    """Version, settings and fingerprint of a store.

    Raises
    ------
    StoreError
        If there is no fastct store, one of another schema, or a damaged one.
    """
    text = storage.find(MANIFEST)
    if text is None:
        raise StoreError(storage, f"there is no {MANIFEST} here", "Give a folder that `fastct convert` wrote")
    try:
        return unseal(text)
    except ValueError as error:
        cure = "Use the fastct that wrote it, or run `fastct convert` on it again, which writes it anew"
        raise StoreError(f"{storage}/{MANIFEST}", f"this is no manifest ({error})", cure) from error


def study_folder(study_id: str) -> str:
    """Key of a study's group."""
    return f"{STUDIES}/{study_id}{ENDING}"


def check_records(storage: Storage) -> None:
    """Refuse a store of studies without any record: tables and report made from none would be empty.

    Raises
    ------
    StoreError
        If so: copying `STORE/*` leaves the hidden folder behind.
    """
    if not record_ids(storage) and any(name.endswith(ENDING) for name in storage.groups(STUDIES)):
        finding = f"it holds studies, and no records of them: its folder {WORK} is missing, or empty"
        raise StoreError(storage, finding, f"Copy {WORK} as well, or run `fastct convert` on it again")


def holds(storage: Storage, record: Record) -> bool:
    """Whether every file that a record knows is there, in its size."""
    folder = study_folder(record.study_id)
    there = storage.sizes(folder)
    return all(there.get(f"{folder}/{key}") == size for key, (size, _) in record.keys.items())


class Store:
    """Studies of a store, by id.

    Iterating gives ids, sorted; `store["study_0001"]` a Study; `table` one row (a dict of typed values) a study,
    those that failed among them.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     _ = fastct.convert(f"{folder}/ct", f"{folder}/store", workers=1)
    ...     store = open(f"{folder}/store")
    ...     len(store), list(store), store.table[0]["status"]
    (2, ['study_0001', 'study_0002'], 'converted')
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @cached_property
    def _ids(self) -> tuple[str, ...]:
        names = self.storage.groups(STUDIES)
        return tuple(sorted(name.removesuffix(ENDING) for name in names if name.endswith(ENDING)))

    def __repr__(self) -> str:
        return f"<fastct store {self.storage}>"

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __contains__(self, study_id: object) -> bool:
        return study_id in self._ids

    def __getitem__(self, study_id: str) -> "Study":
        if not self.storage.exists(f"{study_folder(study_id)}/{ROOT}"):
            raise self.lacks(repr(study_id))
        return Study(self.storage, study_id)

    def lacks(self, study_id: str) -> StoreError:
        """The error that says that there is no such study, and which there are."""
        near = get_close_matches(study_id, self._ids, 3) or self._ids[:3]
        cure = f"Take one that studies.csv names, such as {', '.join(near)}" if near else "Run `fastct convert`"
        return StoreError(self.storage, f"it holds no study {study_id}", cure)

    @property
    def manifest(self) -> dict[str, Any]:
        """Version, settings and fingerprint of the store."""
        return read_manifest(self.storage)

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The record of every study, sorted by id."""
        return tuple(read_records(self.storage))

    @property
    def table(self) -> list[Row]:
        """The rows of `studies.csv` with typed values."""
        return [record.table_row() for record in self.records]


class Study:
    """One study of a store. Voxels are decoded on first use and kept by this object."""

    def __init__(self, storage: Storage, study_id: str) -> None:
        self.storage = storage
        self.study_id = study_id
        self.folder = study_folder(study_id)
        self._ends: dict[str, tuple[NDArray[np.uint64], str]] = {}  # by array: index of its shard, tag of that object

    def __repr__(self) -> str:
        return f"<fastct study {self._name}>"

    @property
    def metadata(self) -> dict[str, Any]:
        """The root group's document, with those of all members inside.

        Raises
        ------
        StoreError
            If it is not one that fastct wrote.
        """
        return self._root[0]

    @property
    def tag(self) -> str:
        """What the root group's file is known by: another one whenever the study has changed."""
        return self._root[1]

    @property
    def shards(self) -> dict[str, tuple[int, int]]:
        """Size in bytes and CRC-32C of each array's shard, by the array's path."""
        named = self.metadata["attributes"]["fastct"]["shards"]
        return {array: self._shard_of(array, self.metadata) for array in named}

    @cached_property
    def _root(self) -> tuple[dict[str, Any], str]:
        """The root group's document, and the tag of its file."""
        text, tag = self.storage.read_tagged(f"{self.folder}/{ROOT}")
        try:
            document = parsed(text)
        except ValueError as error:
            raise self._damaged(f"{ROOT}: {error}") from error
        match document:
            case {
                "attributes": {
                    "fastct": {
                        "codec": str(),
                        "source_header": str(),
                        "source_extensions": str(),
                        "shards": {"0": [int(), int()]},
                    }
                },
                "consolidated_metadata": {"metadata": {"0": {"shape": list()}} as members},
            } if all(isinstance(member, dict) for member in members.values()):
                return document, tag
        raise self._damaged(f"{ROOT} lacks what fastct writes there")

    @cached_property
    def record(self) -> Record | None:
        """The study's record, or None when it has none yet."""
        return read_record(self.storage, self.study_id)

    @cached_property
    def geometry(self) -> Geometry:
        """Shape and affine."""
        affine = self.metadata["attributes"]["fastct"].get("affine_ras")
        try:
            return Geometry(self._members[IMAGE]["shape"], affine)
        except (ValueError, TypeError) as error:
            raise self._damaged(f"zarr.json holds no geometry ({error})") from error

    @cached_property
    def hu(self) -> NDArray[np.int16]:
        """All voxels: (z, y, x) int16 HU."""
        return self.read(slice(None), slice(None), slice(None))

    @cached_property
    def lungs(self) -> NDArray[np.uint8]:
        """(z, y, x) uint8: 0, 1 right lung, 2 left lung."""
        return self.label("lung")

    @cached_property
    def lesion(self) -> NDArray[np.uint8]:
        """(z, y, x) uint8: 0, 1 lesion (an expert's mask where there was one, else the threshold estimate)."""
        return self.label("lesion")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the label images that the study has."""
        return tuple(name for name in ome.LABELS if f"labels/{name}/0" in self._members)

    def label(self, name: str) -> NDArray[np.uint8]:
        """A label image whole: (z, y, x) uint8.

        Raises
        ------
        StoreError
            If the study has no such label.
        """
        if name not in self.labels:
            cure = "Run `fastct score` on the store"
            raise StoreError(self._name, f"it has no label {name!r}, only {list(self.labels)}", cure)
        return self._region(f"labels/{name}/0", (slice(None),) * 3)

    def read(self, z: slice, y: slice, x: slice) -> NDArray[np.int16]:
        """Voxels of a box, given as slices without steps: only the chunks that it touches are decoded.

        Raises
        ------
        ArrayError
            If these are not three slices of step 1.
        StoreError
            If the study was replaced meanwhile, or is damaged.
        """
        return self._region(IMAGE, (z, y, x))

    def source_header(self) -> tuple[bytes, bytes]:
        """Header and header extensions of the NIfTI file that the study came from, as they were."""
        kept = self.metadata["attributes"]["fastct"]
        try:
            return base64.b64decode(kept["source_header"]), base64.b64decode(kept["source_extensions"])
        except ValueError as error:
            raise self._damaged(f"zarr.json holds no header ({error})") from error

    def _region(self, array: str, region: Slices) -> NDArray[Any]:
        try:
            if self.storage.is_local:
                return self._region_of_map(array, region)
            return self._region_of_ranges(array, region)
        except ArrayError:  # of what was asked for
            raise
        except (ValueError, IndexError, KeyError, TypeError) as error:
            raise self._damaged(f"array {array}: {error}") from error

    def _region_of_map(self, array: str, region: Slices) -> NDArray[Any]:
        document = self._members[array]
        shard = self.storage.view(f"{self.folder}/{array}/{SHARD}")
        self._check_still(array)
        return shards.read_shard(shard, document, region)

    def _region_of_ranges(self, array: str, region: Slices) -> NDArray[Any]:
        """Only the ranges of the chunks that the region touches; the index once an array."""
        layout = shards.ShardLayout.from_metadata(self._members[array])
        key = f"{self.folder}/{array}/{SHARD}"
        if array not in self._ends:
            size, _ = self._shard_of(array, self.metadata)
            tail, tag = self.storage.read_range(key, size - layout.index_bytes, size)
            self._check_still(array)
            self._ends[array] = shards.read_index(tail, layout), tag
        index, tag = self._ends[array]
        return shards.read_ranges(lambda ranges: self.storage.read_ranges(key, ranges, tag), index, layout, region)

    def _check_still(self, array: str) -> None:
        """Raise unless the shard that was just opened is the one that our root document names.

        A root document stands only while the shards that it names do: the same root, before and after the shard
        was opened, means the right shard. Another root will do where it names the very same one.
        """
        key = f"{self.folder}/{ROOT}"
        document, tag = self._root
        try:
            if self.storage.status(key).tag == tag:
                return
            if self._shard_of(array, parsed(self.storage.read(key))) == self._shard_of(array, document):
                return
        except (StoreError, ValueError, KeyError, TypeError):
            pass  # no root, or one that does not name the array
        raise StoreError(self._name, "it was replaced while it was read", "Open the study again")

    def _shard_of(self, array: str, document: Mapping[str, Any]) -> tuple[int, int]:
        """Size and CRC-32C of an array's shard, as a root document names them."""
        size, crc = document["attributes"]["fastct"]["shards"][array]
        return int(size), int(crc)

    @property
    def _members(self) -> dict[str, Any]:
        """The documents of the groups and arrays inside, by path."""
        return dict(self.metadata["consolidated_metadata"]["metadata"])

    @property
    def _name(self) -> str:
        return f"{self.storage}/{self.folder}"

    def _damaged(self, finding: str) -> StoreError:
        return StoreError(self._name, finding, "Run `fastct verify`, then convert the study again")
