"""Where the bytes of a store lie: atomic writes, whole publication, mapped reads."""

import mmap
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastct.errors import NotReadyError, StoreError

Bytes = bytes | bytearray | memoryview | mmap.mmap
WORK = ".fastct"
STAGING = f"{WORK}/staging"


def open_storage(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> "LocalStorage":
    """Storage at a path or URL.

    Raises
    ------
    NotReadyError
        For URLs other than `file://`.
    """
    text = os.fspath(path)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise NotReadyError(text, "stores on object stores wait for issue 3", "Give a local folder")
    if storage_options:
        raise NotReadyError(text, "storage options wait for issue 3", "Give none for a local folder")
    return LocalStorage(Path(text))


class LocalStorage:
    """A folder. Keys are posix paths below it; what is written under a key is there whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def __str__(self) -> str:
        return str(self.root)

    def path(self, key: str) -> Path:
        """Where a key lies."""
        return self.root / key

    def exists(self, key: str) -> bool:
        """Whether the key holds a file or a folder."""
        return self.path(key).exists()

    def size_bytes(self, key: str) -> int:
        """Size of the file under a key.

        Raises
        ------
        StoreError
            If there is none.
        """
        try:
            return self.path(key).stat().st_size
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read(self, key: str) -> bytes:
        """The bytes under a key.

        Raises
        ------
        StoreError
            If there is none, or it cannot be read.
        """
        try:
            return self.path(key).read_bytes()
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def view(self, key: str) -> Bytes:
        """The bytes under a key, mapped: the page cache is shared with every other process.

        Raises
        ------
        StoreError
            If there is none, or it cannot be mapped.
        """
        try:
            with self.path(key).open("rb") as file:
                if os.fstat(file.fileno()).st_size == 0:
                    return b""
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def names(self, folder: str) -> Iterator[str]:
        """Names directly inside a folder, in no particular order; none when there is no such folder."""
        try:
            with os.scandir(self.path(folder)) as entries:
                for entry in entries:
                    yield entry.name
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _unreadable(self.path(folder), error) from error

    def keys(self, folder: str) -> Iterator[str]:
        """Keys of all files below a folder."""
        base = self.path(folder)
        for where, _, files in os.walk(base):
            for name in files:
                yield (Path(where) / name).relative_to(self.root).as_posix()

    def write(self, key: str, payload: Bytes) -> None:
        """Put bytes under a key: readers see the old ones or the new ones, never a part.

        Raises
        ------
        StoreError
            If they cannot be written; what was there before stays.
        """
        final, staged = self.path(key), self._staged()
        try:
            staged.parent.mkdir(parents=True, exist_ok=True)
            final.parent.mkdir(parents=True, exist_ok=True)
            _write_durably(staged, payload)
            staged.replace(final)
            _sync(final.parent)
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise _unwritable(final, error) from error

    def publish(self, folder: str, files: Mapping[str, Bytes]) -> None:
        """Put a whole folder of files in place at once, instead of what stood there.

        Raises
        ------
        StoreError
            If it cannot be written; what was there before stays.
        """
        final, staged = self.path(folder), self._staged()
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            folders = {staged}
            for key, payload in files.items():
                target = staged / key
                target.parent.mkdir(parents=True, exist_ok=True)
                _write_durably(target, payload)
                folders.update(parent for parent in target.parents if staged in (parent, *parent.parents))
            for inner in folders:
                _sync(inner)
            self._move_in(staged, final)
            _sync(final.parent)
        except OSError as error:
            shutil.rmtree(staged, ignore_errors=True)
            raise _unwritable(final, error) from error

    def sweep(self) -> None:
        """Remove what processes of this machine that are no more had staged."""
        for name in list(self.names(STAGING)):
            host, _, rest = name.rpartition("~")
            pid = rest.partition("-")[0]
            if host == socket.gethostname() and pid.isdigit() and not _is_alive(int(pid)):
                self.remove(f"{STAGING}/{name}")

    def _staged(self) -> Path:
        """A new path for something staged, which names its owner."""
        return self.path(f"{STAGING}/{socket.gethostname()}~{os.getpid()}-{uuid.uuid4().hex}")

    def _move_in(self, staged: Path, final: Path) -> None:
        """Rename a staged folder into place; another one that stands there moves out first."""
        while True:
            try:
                staged.rename(final)
                return
            except OSError:
                if not final.exists():
                    raise
            old = self._staged()
            try:
                final.rename(old)
            except FileNotFoundError:
                continue  # another writer was quicker to move it out
            shutil.rmtree(old, ignore_errors=True)

    def remove(self, key: str) -> None:
        """Take a file or a folder away, if it is there."""
        path = self.path(key)
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_durably(path: Path, payload: Bytes) -> None:
    with path.open("xb", buffering=0) as file:
        rest = memoryview(payload)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(path, f"cannot be read ({error.strerror or error})", "Run `fastct verify` on the store")


def _unwritable(path: Path, error: OSError) -> StoreError:
    reason = error.strerror or str(error)
    return StoreError(path, f"cannot be written ({reason})", "Make room or give rights, then run the same command")
