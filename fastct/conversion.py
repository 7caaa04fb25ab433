"""One study in, one record out: gzip NIfTI to a group of the store, without loss."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastct.errors import FileError
from fastct.foreground import write_foreground
from fastct.mosmed import Study as Source
from fastct.nifti import Source as Loaded
from fastct.nifti import Volume, load_source, mask_of, read_nifti_bytes, source_state
from fastct.options import ConvertOptions, fingerprint
from fastct.publish import checksums, convert_settings, study_files
from fastct.records import Record, Row, known_record
from fastct.storage import Place, Storage, open_storage
from fastct.store import IMAGE, SHARD, holds, study_folder


@dataclass(frozen=True)
class ConvertTask:
    """A study to convert: where it comes from and goes to. Sent to workers by reference: no voxels in it."""

    source: Source
    store: Place
    options: ConvertOptions

    @property
    def study_id(self) -> str:
        """Name of the study."""
        return self.source.study_id

    @property
    def size_bytes(self) -> int:
        """What decides how long it takes."""
        return self.source.size_bytes


class _Read(NamedTuple):
    """The files of a study, by role, and what they hold."""

    files: dict[str, Loaded]
    volume: Volume
    lesion: NDArray[np.uint8] | None


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
    read = _read(source, task.options.limit_bytes)
    if before != _states(source):
        raise FileError(source.path, "it changed while it was read", "Run the same command again")
    published = study_files(source.study_id, read.volume, read.lesion, task.options)
    commit = storage.stage(study_folder(source.study_id), published)
    with ThreadPoolExecutor(1) as disk:  # which is waited for while this thread hashes
        publishing = disk.submit(commit)
        record = Record(
            study_id=source.study_id,
            category=source.category,
            status="converted",
            source=source.source,
            source_files={name: {**before[name], "sha256": file.sha256()} for name, file in read.files.items()},
            converted=fingerprint(convert_settings(task.options)),
            keys=checksums(published),
            notes=read.volume.notes,
            row=_row(read.volume, "" if read.lesion is None else "mask"),
        )
        publishing.result()
    if read.lesion is not None:
        shard = published[f"labels/lesion/{IMAGE}/{SHARD}"]
        write_foreground(storage, source.study_id, "lesion", read.lesion, shard)
    return record


def _read(source: Source, limit_bytes: int) -> _Read:
    """Each file from the disk once, for its voxels and for its hash."""
    files = {name: load_source(path, limit_bytes=limit_bytes, use=name) for name, path in _paths(source).items()}
    volumes = {
        name: read_nifti_bytes(file.raw, file.name, image=file.image, limit_bytes=limit_bytes, use=f"{name}, inflated")
        for name, file in files.items()
    }
    volume, lesion = volumes["volume"], None
    if source.mask_path:
        lesion = mask_of(volumes["mask"], source.mask_path, volume.geometry)
    return _Read(files, volume, lesion)


def is_converted(task: ConvertTask, storage: Storage) -> bool:
    """Whether an earlier run published this study from the same source with the same settings."""
    record = known_record(storage, task.study_id)
    return (
        record is not None
        and record.status != "failed"
        and record.converted == fingerprint(convert_settings(task.options))
        and record.category == task.source.category
        and holds(storage, record)
        and _same_files(record.source_files, task.source)
    )


def _paths(source: Source) -> dict[str, Path | Place]:
    return {"volume": source.path} | ({"mask": source.mask_path} if source.mask_path else {})


def _states(source: Source) -> dict[str, dict[str, Any]]:
    """Of the volume and of its mask, when it has one: size, and time of change or entity tag."""
    return {name: source_state(path) for name, path in _paths(source).items()}


def _same_files(known: Mapping[str, Mapping[str, Any]], source: Source) -> bool:
    """Same size and time of change or tag; where only these differ (touched, or moved), the same SHA-256."""
    try:
        now, paths = _states(source), _paths(source)
        if set(known) != set(now) or any(known[name]["size_bytes"] != now[name]["size_bytes"] for name in now):
            return False
        touched = [name for name in now if now[name] != {key: known[name].get(key) for key in now[name]}]
        return all(load_source(paths[name]).sha256() == known[name]["sha256"] for name in touched)
    except FileError:
        return False


def _row(volume: Volume, lesion_source: str) -> Row:
    shape, spacing_mm = volume.geometry.shape, volume.geometry.spacing_mm
    row: Row = {f"shape_{axis}": size for axis, size in zip("zyx", shape, strict=True)}
    row |= {f"spacing_{axis}_mm": size for axis, size in zip("zyx", spacing_mm, strict=True)}
    return row | {
        "hu_min": int(volume.hu.min()),
        "hu_max": int(volume.hu.max()),
        "lesion_source": lesion_source,
    }
