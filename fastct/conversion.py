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
from fastct.nifti import Volume, load_source, mask_of, read_nifti_bytes
from fastct.options import ConvertOptions, fingerprint
from fastct.publish import checksums, convert_settings, study_files
from fastct.records import Record, Row, known_record
from fastct.storage import Storage, open_storage
from fastct.store import IMAGE, SHARD, holds, study_folder


@dataclass(frozen=True)
class ConvertTask:
    """A study to convert: where it comes from and goes to. Sent to workers by reference: no voxels in it."""

    source: Source
    store: str
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
    before = _times(source)
    read = _read(source, task.options.limit_bytes)
    if before != _times(source):
        raise FileError(source.path, "it changed while it was read", "Run the same command again")
    published = study_files(source.study_id, read.volume, read.lesion, task.options)
    with ThreadPoolExecutor(1) as disk:  # whose answers are waited for while this thread hashes
        publishing = disk.submit(storage.publish, study_folder(source.study_id), published)
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


def _paths(source: Source) -> dict[str, Path]:
    return {"volume": source.path} | ({"mask": source.mask_path} if source.mask_path else {})


def _times(source: Source) -> dict[str, dict[str, Any]]:
    """Of the volume and of its mask, when it has one: size and time of change."""
    found = {}
    for name, path in _paths(source).items():
        try:
            status = path.stat()
        except OSError as error:
            raise FileError(path, f"it cannot be read ({error.strerror})", "Check the file and its rights") from error
        found[name] = {"size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return found


def _same_files(known: Mapping[str, Mapping[str, Any]], source: Source) -> bool:
    """Same size and time of change; where only the time differs, the same SHA-256."""
    try:
        now = _times(source)
        if set(known) != set(now) or any(known[name]["size_bytes"] != now[name]["size_bytes"] for name in now):
            return False
        touched = [path for name, path in _paths(source).items() if known[name]["mtime_ns"] != now[name]["mtime_ns"]]
        digests = {load_source(path).sha256() for path in touched}
    except FileError:
        return False
    return digests <= {entry["sha256"] for entry in known.values()}


def _row(volume: Volume, lesion_source: str) -> Row:
    shape, spacing_mm = volume.geometry.shape, volume.geometry.spacing_mm
    row: Row = {f"shape_{axis}": size for axis, size in zip("zyx", shape, strict=True)}
    row |= {f"spacing_{axis}_mm": size for axis, size in zip("zyx", spacing_mm, strict=True)}
    return row | {
        "hu_min": int(volume.hu.min()),
        "hu_max": int(volume.hu.max()),
        "lesion_source": lesion_source,
    }
