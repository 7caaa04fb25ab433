"""One study in, one record out: gzip NIfTI to a group of the store, without loss."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import FileError
from fastct.foreground import write_foreground
from fastct.geometry import Geometry
from fastct.mosmed import Study as Source
from fastct.nifti import Source as Loaded
from fastct.nifti import Volume, load_source, mask_of, read_nifti_bytes, source_state
from fastct.options import ConvertOptions, fingerprint
from fastct.publish import Sums, convert_settings, study_files
from fastct.records import Record, Row, known_record
from fastct.shards import SHARD
from fastct.storage import Place, Storage, open_storage
from fastct.store import IMAGE, holds, study_folder


@dataclass(frozen=True)
class ConvertTask:
    """A study to convert: where it comes from and goes to. Sent to workers by reference: no voxels in it."""

    source: Source
    store: Place
    options: ConvertOptions
    origin: str = ""  # what was given as the source, to find it again

    @property
    def study_id(self) -> str:
        """Name of the study."""
        return self.source.study_id

    @property
    def size_bytes(self) -> int:
        """What decides how long it takes."""
        return self.source.size_bytes


def convert_study(task: ConvertTask) -> Record:
    """Read a study, publish it in the store, and return its record.

    Raises
    ------
    FileError
        If the volume or its mask cannot be read.
    StoreError
        If the store cannot be written.
    """
    source, storage = task.source, open_storage(task.store)
    before = _states(source)
    files = _load(source, task.options.limit_bytes)
    with ThreadPoolExecutor(1) as aside:  # hashes while this thread inflates and codes, then waits for the disk
        hashes = {name: aside.submit(file.sha256) for name, file in files.items()}
        volume, lesion = _read(source, files, task.options.limit_bytes)
        if before != _states(source):
            raise FileError(source.path, "it changed while it was read", "Run the same command again")
        sums: Sums = {}
        pieces = study_files(source.study_id, volume, lesion, task.options, sums)
        publishing = aside.submit(storage.stage(study_folder(source.study_id), pieces))
        row = {**volume_row(volume.hu, volume.geometry), "lesion_source": "" if lesion is None else "mask"}
        publishing.result()
    if lesion is not None:
        write_foreground(storage, source.study_id, "lesion", lesion, sums[f"labels/lesion/{IMAGE}/{SHARD}"])
    return Record(
        study_id=source.study_id,
        category=source.category,
        status="converted",
        source=source.source,
        source_files={name: {**before[name], "sha256": hashed.result()} for name, hashed in hashes.items()},
        converted=fingerprint(convert_settings(task.options)),
        keys=sums,
        notes=volume.notes,
        row=row,
        origin=task.origin,
    )


def _load(source: Source, limit_bytes: int) -> dict[str, Loaded]:
    """The study's files by role, each read once: for its voxels and for its hash."""
    return {name: load_source(path, limit_bytes=limit_bytes, use=name) for name, path in _paths(source).items()}


def _read(source: Source, files: Mapping[str, Loaded], limit_bytes: int) -> tuple[Volume, NDArray[np.uint8] | None]:
    """The volume, and the mask where there is one; they lie in this thread's kept memory."""
    found = {
        name: read_nifti_bytes(file.raw, file.name, image=file.image, limit_bytes=limit_bytes, use=f"{name}, inflated")
        for name, file in files.items()
    }
    volume = found["volume"]
    return volume, mask_of(found["mask"], source.mask_path, volume.geometry) if source.mask_path else None


def is_converted(task: ConvertTask, storage: Storage) -> bool:
    """Whether an earlier run published this study from the same source with the same settings."""
    record = known_record(storage, task.study_id)
    return (
        record is not None
        and record.status != "failed"
        and record.converted == fingerprint(convert_settings(task.options))
        and record.category == task.source.category
        and holds(storage, record)
        and same_files(record.source_files, task.source)
    )


def _paths(source: Source) -> dict[str, Path | Place]:
    return {"volume": source.path} | ({"mask": source.mask_path} if source.mask_path else {})


def _states(source: Source) -> dict[str, dict[str, Any]]:
    """Of the volume and of its mask, when it has one: size, and time of change or entity tag."""
    return {name: source_state(path) for name, path in _paths(source).items()}


def same_files(known: Mapping[str, Mapping[str, Any]], source: Source) -> bool:
    """Same size and time of change or tag; where only these differ (touched, or moved), the same SHA-256."""
    try:
        now, paths = _states(source), _paths(source)
        if set(known) != set(now) or any(known[name]["size_bytes"] != now[name]["size_bytes"] for name in now):
            return False
        touched = [name for name in now if now[name] != {key: known[name].get(key) for key in now[name]}]
        return all(load_source(paths[name]).sha256() == known[name]["sha256"] for name in touched)
    except FileError:
        return False


def volume_row(hu: NDArray[np.int16], geometry: Geometry) -> Row:
    """What the voxels of a study say: shape, spacing, extremes."""
    row: Row = {f"shape_{axis}": size for axis, size in zip("zyx", geometry.shape, strict=True)}
    row |= {f"spacing_{axis}_mm": size for axis, size in zip("zyx", geometry.spacing_mm, strict=True)}
    return row | {"hu_min": int(hu.min()), "hu_max": int(hu.max())}
