"""Walks a folder of any shape once and lists the NIfTI files in it, leaving strays aside."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from fastct.errors import DataSetError
from fastct.mosmed.registry import REGISTRY_STEM
from fastct.nifti.names import HEADER_SUFFIXES, IMAGE_SUFFIXES, SINGLE_SUFFIXES, split_name
from fastct.storage import Place

STORE_MARK = "fastct.json"  # stands at the root of every fastct store
_SKIPPED_FOLDERS = ("__MACOSX",)
_SKIPPED_ENDINGS = (".zarr",)

# The full MosMedData has eight folders. A link to the root of a file system has no end of them.
MAX_FOLDERS = 200_000


class Named(Protocol):
    """Something in a folder."""

    @property
    def name(self) -> str:
        """Its name there."""


Entry = TypeVar("Entry", bound=Named)


@dataclass(frozen=True)
class Found:
    """A NIfTI file, or a .hdr/.img pair under the name of its header.

    Parameters
    ----------
    source : posix path relative to the root.
    stem : name without suffix.
    size_bytes : on disk, of a pair both files together.
    leaves_root : whether a link on the way leads out of the root.
    """

    source: str
    stem: str
    size_bytes: int
    leaves_root: bool = False

    @property
    def folder(self) -> str:
        """Posix path of the folder, empty at the root."""
        return self.source.rpartition("/")[0]


@dataclass(frozen=True)
class Scan:
    """All that a folder holds: files sorted by source, the registry if there is one, and notes."""

    files: tuple[Found, ...]
    registry: Path | Place | None
    notes: tuple[str, ...]


@dataclass
class _Walk:
    """What is carried from folder to folder."""

    root: Path
    real_root: str
    seen: set[tuple[int, int]] = field(default_factory=set)
    files: list[Found] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)  # source of a linked file -> real path
    notes: list[str] = field(default_factory=list)


def scan_folder(root: Path) -> Scan:
    """Every NIfTI file below `root`, links followed, no folder twice.

    Hidden files and folders, `__MACOSX`, Zarr groups and fastct stores are passed over.

    Raises
    ------
    DataSetError
        If `root` is a fastct store or cannot be listed, or has folders without end.
    """
    walk = _Walk(root, os.path.realpath(root))
    registry = None
    for prefix, entries, leaves_root in _folders(walk):
        if not prefix:
            name = registry_name((entry.name for entry in entries), walk.notes)
            registry = walk.root / name if name else None
        _list_files(walk, prefix, entries, leaves_root)
    files = _without_second_names(walk)
    return Scan(tuple(sorted(files, key=lambda found: found.source)), registry, tuple(walk.notes))


def _folders(walk: _Walk) -> Iterator[tuple[str, list[os.DirEntry[str]], bool]]:
    """(posix prefix, entries by name, whether outside the root) of each folder; linked folders come last,
    so that a folder goes by its own name where it also lies below the root."""
    own, linked = deque([("", False)]), deque[tuple[str, bool]]()
    while own or linked:
        prefix, leaves_root = own.popleft() if own else linked.popleft()
        entries = _entries(walk, prefix)
        if len(walk.seen) > MAX_FOLDERS:
            raise DataSetError(walk.root, f"it has more than {MAX_FOLDERS:,} folders", "Name one further down")
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            if not _is_folder(entry) or is_stray(entry.name, walk.notes, path):
                continue
            if entry.is_symlink():
                linked.append((path, not _is_inside(os.path.realpath(entry.path), walk.real_root)))
            else:
                own.append((path, leaves_root))
        yield prefix, entries, leaves_root


def _entries(walk: _Walk, prefix: str) -> list[os.DirEntry[str]]:
    """The entries of a folder by name; none of a store, an unreadable folder, or one seen before."""
    folder = walk.root / prefix
    try:
        info = folder.stat()
        if (info.st_dev, info.st_ino) in walk.seen:
            return []
        walk.seen.add((info.st_dev, info.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        if not prefix:
            raise DataSetError(folder, f"it cannot be listed ({error.strerror})", "Check its permissions") from error
        walk.notes.append(f"{prefix}: folder cannot be listed ({error.strerror})")
        return []
    if any(entry.name == STORE_MARK for entry in entries):
        if not prefix:
            raise DataSetError(folder, "it is a fastct store, not a source", "Use score, report or verify on it")
        return []
    return entries


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link whose target may not be looked at
        return False


def is_stray(name: str, notes: list[str], path: str) -> bool:
    """Whether a name is none of a data set: hidden, left by an archiver, or not to be printed."""
    if name.startswith(".") or name in _SKIPPED_FOLDERS or name.lower().endswith(_SKIPPED_ENDINGS):
        return True
    if not name.isprintable():  # line breaks, control characters, bytes that are no UTF-8
        notes.append(f"{path!a}: left aside, its name cannot be printed")
        return True
    return False


def _is_inside(real_path: str, real_root: str) -> bool:
    return os.path.commonpath((real_path, real_root)) == real_root


def registry_name(names: Iterable[str], notes: list[str]) -> str | None:
    """The registry's name among those of the root, or None."""
    by_lower = {name.lower(): name for name in names}
    found = [by_lower[REGISTRY_STEM + ending] for ending in (".xlsx", ".csv") if REGISTRY_STEM + ending in by_lower]
    if len(found) > 1:
        notes.append(f"{found[1]} left aside: {found[0]} is there")
    return found[0] if found else None


def _list_files(walk: _Walk, prefix: str, entries: list[os.DirEntry[str]], leaves_root: bool) -> None:
    """Add the volumes of one folder, one for each stem."""
    by_stem: dict[str, dict[str, os.DirEntry[str]]] = {}
    for entry in entries:
        stem, suffix = split_name(entry.name)
        path = f"{prefix}/{entry.name}" if prefix else entry.name
        if not suffix or _is_folder(entry) or is_stray(entry.name, walk.notes, path):
            continue
        by_stem.setdefault(stem, {}).setdefault(suffix, entry)
    for stem, variants in by_stem.items():
        where = f"{prefix}/" if prefix else ""
        chosen = choose(variants, where, walk.notes)
        if chosen:
            _add(walk, where, stem, chosen, leaves_root)


def choose(variants: Mapping[str, Entry], where: str, notes: list[str]) -> tuple[Entry, ...]:
    """Of the files of one stem, by suffix: the best to read, a single file or header and image of a pair."""
    choices: list[tuple[Entry, ...]] = [(variants[suffix],) for suffix in SINGLE_SUFFIXES if suffix in variants]
    headers = [variants[suffix] for suffix in HEADER_SUFFIXES if suffix in variants]
    images = [variants[suffix] for suffix in IMAGE_SUFFIXES if suffix in variants]
    if headers and images:
        choices.append((headers[0], images[0]))
    elif not choices:
        notes.append(f"{where}{(headers + images)[0].name} left aside: the other half of its pair is missing")
    if len(choices) > 1:
        others = ", ".join(choice[0].name for choice in choices[1:])
        notes.append(f"{where}{choices[0][0].name} taken, {others} left aside")
    return choices[0] if choices else ()


def _add(walk: _Walk, where: str, stem: str, parts: tuple[os.DirEntry[str], ...], leaves_root: bool) -> None:
    source = where + parts[0].name
    try:
        size_bytes = sum(part.stat().st_size for part in parts)
    except OSError as error:
        walk.notes.append(f"{source}: left aside, it cannot be looked at ({error.strerror})")
        return
    for part in parts:
        if part.is_symlink():
            real_path = os.path.realpath(part.path)
            leaves_root = leaves_root or not _is_inside(real_path, walk.real_root)
            walk.links[source] = real_path
    walk.files.append(Found(source, stem, size_bytes, leaves_root))


def _without_second_names(walk: _Walk) -> list[Found]:
    """Drop links to files that are listed under their own name as well: the same volume twice."""
    own = {f"{walk.real_root}/{found.source}" for found in walk.files if found.source not in walk.links}
    twice = [
        found
        for found in walk.files
        if walk.links.get(found.source) in own
        and split_name(PurePosixPath(walk.links[found.source]).name)[0] == found.stem
    ]
    if twice:
        walk.notes.append(f"{len(twice)} links to files that are there already left aside ({twice[0].source})")
    dropped = set(twice)
    return [found for found in walk.files if found not in dropped]
