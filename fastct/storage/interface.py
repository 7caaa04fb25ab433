"""What every kind of storage can do: a store's code knows these methods and no others."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from types import TracebackType
from typing import TypeVar

from fastct.errors import StoreError
from fastct.storage.place import Place

Bytes = bytes | bytearray | memoryview | mmap.mmap
Item = TypeVar("Item")
Answer = TypeVar("Answer")
ByteRange = tuple[int, int]  # first byte, and the one after the last
WORK = ".fastct"
STAGING = f"{WORK}/staging"
CLAIMS = f"{WORK}/claims"


@dataclass(frozen=True)
class Status:
    """Size of a file, and a tag that changes whenever another file takes its place."""

    size_bytes: int
    tag: str


class Claim(ABC):
    """The right to work on something; as a context manager it is given back at the end."""

    def __init__(self) -> None:
        self._held = Lock()
        self._held.acquire()

    @property
    def is_held(self) -> bool:
        """Whether it was not given back yet."""
        return self._held.locked()

    def release(self) -> None:
        """Give it back, if that was not done before: the next one may have it."""
        try:
            self._held.release()
        except RuntimeError:
            return  # by another thread, a moment ago
        self._give_back()

    @abstractmethod
    def _give_back(self) -> None:
        """Do so; called once."""

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class Storage(ABC):
    """A place for files. Keys are posix paths below its root; what lies under a key is whole or not there.

    Every method raises StoreError where the place cannot be read or written; its message names the place and
    never holds a secret.
    """

    place: Place  # what a worker takes to open the same storage
    is_local: bool  # files can be mapped: `view` costs nothing
    is_shared: bool  # other processes see the same files

    def __str__(self) -> str:
        return str(self.place).rstrip("/")

    @property
    def name(self) -> str:
        """Last part of the path or URL."""
        return self.place.name

    def location(self, key: str) -> str:
        """Where a key lies, for a person."""
        return f"{self}/{key}"

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is a file under the key."""

    @abstractmethod
    def status(self, key: str) -> Status:
        """Size and tag of the file under a key.

        Raises
        ------
        StoreError
            If there is none.
        """

    def size_bytes(self, key: str) -> int:
        """Size of the file under a key.

        Raises
        ------
        StoreError
            If there is none.
        """
        return self.status(key).size_bytes

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of every file below a folder, by key."""

    def keys(self, folder: str) -> Iterator[str]:
        """Keys of all files below a folder."""
        return iter(self.sizes(folder))

    @abstractmethod
    def names(self, folder: str) -> Iterator[str]:
        """Names directly inside a folder, in no particular order; none when there is no such folder."""

    @abstractmethod
    def groups(self, folder: str) -> Iterator[str]:
        """Names of the published folders directly inside a folder, in no particular order."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """The bytes under a key.

        Raises
        ------
        StoreError
            If there is none, or it cannot be read.
        """

    @abstractmethod
    def find(self, key: str) -> bytes | None:
        """The bytes under a key, or None where there is nothing."""

    @abstractmethod
    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """The bytes under a key, and the tag of the file that they came from."""

    @abstractmethod
    def view(self, key: str) -> Bytes:
        """The bytes under a key, mapped where that can be."""

    @abstractmethod
    def read_range(self, key: str, begin: int, end: int) -> tuple[Bytes, str]:
        """The bytes from `begin` to `end` under a key, and the tag of the file that they came from."""

    @abstractmethod
    def read_ranges(self, key: str, ranges: Sequence[ByteRange], tag: str) -> list[Bytes]:
        """Several parts of the file of that tag, fetched side by side.

        Raises
        ------
        StoreError
            If another file has taken its place.
        """

    def side_by_side(self, ask: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """The answer for each item, asked for at the same time where answers take their time to travel."""
        return [ask(item) for item in items]

    @abstractmethod
    def write(self, key: str, payload: Bytes) -> None:
        """Put bytes under a key: readers see the old ones or the new ones, never a part.

        Raises
        ------
        StoreError
            If they cannot be written; what was there before stays.
        """

    def keep(self, key: str, payload: Bytes) -> None:
        """Put bytes under a key, unless these very ones lie there; what cannot be read is replaced.

        Raises
        ------
        StoreError
            If they cannot be written; what was there before stays.
        """
        with suppress(StoreError):
            if self.find(key) == payload:
                return
        self.write(key, payload)

    def write_all(self, files: Mapping[str, Bytes]) -> None:
        """Put several files in place, in no order, each as `write` does; an error may come after some of them.

        Raises
        ------
        StoreError
            If one cannot be written.
        """
        self.side_by_side(lambda file: self.write(*file), list(files.items()))

    @abstractmethod
    def publish(self, folder: str, files: Mapping[str, Bytes]) -> None:
        """Put a whole folder of files in place, instead of what stood there; its `zarr.json` makes it visible.

        Raises
        ------
        StoreError
            If it cannot be written.
        """

    def stage(self, folder: str, pieces: Iterable[tuple[str, Bytes]]) -> Callable[[], None]:
        """Begin to publish files that come in pieces, by key; what it returns waits for the disk, and ends it.

        That may be called by another thread, and raises as `publish` does; the pieces stay unchanged until then.
        """
        files: dict[str, list[Bytes]] = {}
        for key, piece in pieces:
            files.setdefault(key, []).append(piece)
        whole = {key: b"".join(parts) if len(parts) > 1 else parts[0] for key, parts in files.items()}
        return partial(self.publish, folder, whole)

    @abstractmethod
    def remove(self, key: str) -> None:
        """Take a file or a folder away, if it is there."""

    @abstractmethod
    def sweep(self) -> None:
        """Remove what processes that are no more had left half done."""

    @abstractmethod
    def claim(self, name: str) -> Claim | None:
        """The right to work on what has that name, or None while another has it.

        Whoever dies loses it. On a disk it is never taken from the living; on an object store, whoever lets nothing be
        heard of him for a minute counts as dead.
        """
