"""The few requests that storage makes of an object store; a class for each client library."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from fastct.storage.interface import ByteRange, Bytes, Status


class ReplacedError(Exception):
    """The object under a key is no longer the one of the tag that was asked for."""


class Bucket(ABC):
    """Objects by key, below a prefix. Its methods let out the errors of the client library, FileNotFoundError
    where there is no such object, and ReplacedError where its tag is another one."""

    is_shared = True  # other processes see the same objects

    @abstractmethod
    def head(self, key: str) -> Status | None:
        """Size and tag of an object, or None when there is none."""

    @abstractmethod
    def get(self, key: str, part: ByteRange | None = None, tag: str = "") -> tuple[Bytes, str]:
        """The bytes of an object, or a part of them, and its tag; with `tag`, of the object of that tag only."""

    @abstractmethod
    def put(self, key: str, payload: Bytes) -> None:
        """Put an object, whole or not at all."""

    @abstractmethod
    def create(self, key: str, payload: Bytes) -> str:
        """Put an object where there is none, and say its tag; an empty one when there is one."""

    @abstractmethod
    def replace(self, key: str, payload: Bytes, tag: str) -> str:
        """Put an object in place of the one of that tag, and say its own; an empty one when that is gone."""

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Take objects away, if they are there."""

    @abstractmethod
    def walk(self, folder: str) -> Iterator[tuple[str, Status]]:
        """Key and status of every object below a folder."""

    @abstractmethod
    def children(self, folder: str) -> list[str]:
        """Names directly inside a folder, of objects and of folders."""
