"""Source files by path or URL: what tells one version of them from the next, and the bytes of those at URLs."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import FileError, StoreError
from fastct.nifti.names import pair_names, pair_of
from fastct.storage import Place, Storage, as_place, open_storage

AnyFile = str | os.PathLike[str] | Place
FileBytes = NDArray[np.uint8]


def at_url(path: AnyFile, storage_options: Mapping[str, Any] | None = None) -> Place | None:
    """The place of a file that lies at a URL; None for one on this machine."""
    place = as_place(path, storage_options)
    return None if place.is_local else place


def as_path(path: AnyFile) -> Path:
    """The path of a file on this machine."""
    return Path(as_place(path).url) if isinstance(path, Place) or "://" in os.fspath(path) else Path(path)


def source_state(path: AnyFile) -> dict[str, Any]:
    """Size and time of change of a file (of a pair: of both files), or size and entity tag at a URL.

    Raises
    ------
    FileError
        If there is no such file, or it cannot be looked at.
    """
    place = at_url(path)
    if place is not None:
        with _asking(place) as folder:
            parts = [folder.status(name) for name in _names(place, folder)]
        return {"size_bytes": sum(part.size_bytes for part in parts), "etag": " ".join(part.tag for part in parts)}
    try:
        found = [part.stat() for part in pair_of(as_path(path)) if part is not None]
    except OSError as error:
        raise FileError(path, f"it cannot be read ({error.strerror})", "Check the file and its rights") from error
    times = zip(("mtime_ns", "image_mtime_ns"), (part.st_mtime_ns for part in found), strict=False)
    return {"size_bytes": sum(part.st_size for part in found), **dict(times)}


def fetch(place: Place, limit_bytes: int) -> tuple[FileBytes, FileBytes | None]:
    """The bytes of a file at a URL, and of its image where it is the header of a pair.

    Raises
    ------
    FileError
        If it cannot be read, or has more than `limit_bytes`.
    """
    with _asking(place) as folder:
        files = []
        for name in _names(place, folder):
            size = folder.size_bytes(name)
            if size > limit_bytes:
                raise too_large(place, size, limit_bytes)
            files.append(np.frombuffer(folder.view(name), np.uint8))
    return files[0], files[1] if len(files) > 1 else None


def fetch_head(place: Place, count_bytes: int) -> tuple[FileBytes, bool]:
    """The first bytes of a file at a URL, and whether it stands alone.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    with _asking(place) as folder:
        names = _names(place, folder)
        end = min(count_bytes, folder.size_bytes(names[0]))
        head = folder.read_range(names[0], 0, end)[0] if end else b""
    return np.frombuffer(head, np.uint8), len(names) == 1


def too_large(name: object, size_bytes: int, limit_bytes: int) -> FileError:
    """The refusal of a file that would take more memory than is allowed."""
    finding = f"reading it takes {size_bytes:,} bytes of memory, and the limit is {limit_bytes:,}"
    return FileError(name, finding, "Raise the limit if the file is sound, or leave it out")


def _names(place: Place, folder: Storage) -> list[str]:
    """The file's name, or those of header and image of its pair."""
    return [name for name in pair_names(place.name, folder.exists, place) if name is not None]


@contextmanager
def _asking(place: Place) -> Iterator[Storage]:
    """The folder of a file at a URL; what goes wrong there is told of the file."""
    try:
        yield open_storage(place.parent)
    except StoreError as error:
        raise FileError(place, error.finding, "Check the URL, the network and the storage options") from None
