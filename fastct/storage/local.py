"""A folder on a local disk: atomic writes, whole publication, mapped reads, claims by file locks."""

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from io import FileIO
from pathlib import Path, PurePosixPath

from fastct.errors import StoreError
from fastct.storage.interface import CLAIMS, STAGING, ByteRange, Bytes, Claim, Status, Storage
from fastct.storage.place import Place
from fastct.storage.processes import is_alive

_PROCESS = uuid.uuid4().hex  # of a parent and the children that it forked; their numbers tell them apart
_LARGE_BYTES = 256 << 10  # a piece of which the disk hears at once: it comes to a quarter of a millisecond
_RENAME_EXCHANGE = 2  # linux/fs.h: both names change places at one moment
_AT_FDCWD = -100  # fcntl.h: names are relative to the working directory
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # a kernel or a file system that has none


class LocalStorage(Storage):
    """A folder. Keys are posix paths below it; what is written under a key is there whole or not at all.

    A published folder is staged beside its place, synced, and moved in by one rename; where another one stands
    there, both change places at one moment (where kernel and file system can), so that a reader always finds
    one. Who has mapped a file of the old one reads on in it.
    """

    is_local = True
    is_shared = True

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.place = Place(str(self.root))

    def path(self, key: str) -> Path:
        """Where a key lies."""
        return self.root / key

    def exists(self, key: str) -> bool:
        """Whether there is a file under the key."""
        return self.path(key).is_file()

    def status(self, key: str) -> Status:
        """Size and tag of the file under a key."""
        try:
            return _status(self.path(key).stat())
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read(self, key: str) -> bytes:
        """The bytes under a key."""
        return self.read_tagged(key)[0]

    def find(self, key: str) -> bytes | None:
        """The bytes under a key, or None where there is nothing."""
        try:
            return self.path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """The bytes under a key, and the tag of the file that they came from."""
        try:
            with self.path(key).open("rb") as file:
                return file.read(), _status(os.fstat(file.fileno())).tag
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read_range(self, key: str, begin: int, end: int) -> tuple[Bytes, str]:
        """The bytes from `begin` to `end` under a key, and the tag of the file that they came from."""
        try:
            with self.path(key).open("rb") as file:
                part = os.pread(file.fileno(), end - begin, begin)
                return part, _status(os.fstat(file.fileno())).tag
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read_ranges(self, key: str, ranges: Sequence[ByteRange], tag: str) -> list[Bytes]:
        """Several parts of the file of that tag."""
        try:
            with self.path(key).open("rb") as file:
                if _status(os.fstat(file.fileno())).tag != tag:
                    raise StoreError(self.path(key), "it was replaced while it was read", "Open the study again")
                return [os.pread(file.fileno(), end - begin, begin) for begin, end in ranges]
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def view(self, key: str) -> Bytes:
        """The bytes under a key, mapped: the page cache is shared with every other process."""
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

    def groups(self, folder: str) -> Iterator[str]:
        """Names of the published folders directly inside a folder: each came there whole, by one rename."""
        try:
            with os.scandir(self.path(folder)) as entries:
                for entry in entries:
                    if entry.is_dir():
                        yield entry.name
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _unreadable(self.path(folder), error) from error

    def sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of every file below a folder, by key."""
        found = {}
        for where, _, names in os.walk(self.path(folder)):
            for name in names:
                path = Path(where) / name
                try:
                    found[path.relative_to(self.root).as_posix()] = path.stat().st_size
                except FileNotFoundError:
                    continue  # taken away since it was listed
                except OSError as error:
                    raise _unreadable(path, error) from error
        return found

    def write(self, key: str, payload: Bytes) -> None:
        """Put bytes under a key: readers see the old ones or the new ones, never a part."""
        self.write_all({key: payload})

    def write_all(self, files: Mapping[str, Bytes]) -> None:
        """Put files in place, none before all are on the disk; each folder is synced once."""
        staged: dict[Path, Path] = {}
        final = self.root
        try:
            with ExitStack() as opened:
                written = []
                for key, payload in files.items():
                    final, path = self.path(key), self._staged()
                    staged[final] = path
                    final.parent.mkdir(parents=True, exist_ok=True)
                    written.append(opened.enter_context(path.open("xb", buffering=0)))
                    _append(written[-1], payload)
                for file in written:
                    os.fsync(file.fileno())
            for final, path in staged.items():
                path.replace(final)
            for folder in {final.parent for final in staged}:
                _sync(folder)
        except OSError as error:
            for path in staged.values():
                with suppress(OSError):  # the next sweep takes it
                    path.unlink()
            raise _unwritable(final, error) from error

    def publish(self, folder: str, files: Mapping[str, Bytes]) -> None:
        """Put a whole folder of files in place at once; when that fails, what was there before stays."""
        self.stage(folder, files.items())()

    def stage(self, folder: str, pieces: Iterable[tuple[str, Bytes]]) -> Callable[[], None]:
        """Write the files to a staged folder; what this returns syncs them, and moves the folder in."""
        final, files = self.path(folder), dict[str, FileIO]()
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            staged = self._staged()
            folders = [staged]
            with ExitStack() as undo:
                undo.callback(shutil.rmtree, staged, ignore_errors=True)
                opened = undo.enter_context(ExitStack())
                staged.mkdir()
                for key, piece in pieces:
                    if key not in files:
                        _make_folders(staged, key, folders)
                        files[key] = opened.enter_context((staged / key).open("xb", buffering=0))
                    _append(files[key], piece)
                undo.pop_all()  # nothing is to be undone
        except OSError as error:
            raise _unwritable(final, error) from error
        return partial(self._commit, opened, [file.fileno() for file in files.values()], folders, final)

    def _commit(self, opened: ExitStack, written: Sequence[int], folders: Sequence[Path], final: Path) -> None:
        """Sync all that is staged, then move it in."""
        staged = folders[0]
        try:
            with opened:
                for descriptor in written:
                    os.fsync(descriptor)
            for folder in folders:
                _sync(folder)
            self._move_in(staged, final)
            _sync(final.parent)
        except OSError as error:
            shutil.rmtree(staged, ignore_errors=True)
            raise _unwritable(final, error) from error

    def sweep(self) -> None:
        """Remove what processes of this machine that are no more had staged and claimed."""
        for name in list(self.names(STAGING)):
            host, _, rest = name.rpartition("~")
            pid = rest.partition("-")[0]
            if host == socket.gethostname() and pid.isdigit() and not is_alive(int(pid)):
                self.remove(f"{STAGING}/{name}")
        for key in list(self.keys(CLAIMS)):
            if claim := self.claim(key.removeprefix(f"{CLAIMS}/")):
                claim.release()

    def claim(self, name: str) -> Claim | None:
        """The right to work on what has that name: a locked file, which the kernel unlocks when its owner dies."""
        path = self.path(f"{CLAIMS}/{name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                if not _lock(descriptor):
                    os.close(descriptor)
                    return None
                if _lies_at(path, descriptor):
                    return FileClaim(path, descriptor)
                os.close(descriptor)  # its last owner took the file away as he gave it back
        except OSError as error:
            raise _unwritable(path, error) from error

    def _staged(self) -> Path:
        """A new path for something staged, in a folder that names its owner, and that nobody else may look into."""
        folder = self.path(f"{STAGING}/{socket.gethostname()}~{os.getpid()}-{_PROCESS}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder / uuid.uuid4().hex

    def _move_in(self, staged: Path, final: Path) -> None:
        """Rename a staged folder into place; another one that stands there changes places with it, and goes."""
        while True:
            try:
                staged.rename(final)
                return
            except OSError:
                if not final.exists():
                    raise
            if _exchange(staged, final):
                shutil.rmtree(staged, ignore_errors=True)
                return
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


class FileClaim(Claim):
    """A file that is locked as long as this claim lasts, and no longer than its process lives."""

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__()
        self._path, self._descriptor = path, descriptor

    def _give_back(self) -> None:
        """Take the file away, and unlock it; one that cannot be taken away is free for the next all the same."""
        with suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        os.close(descriptor)
        raise
    return True


def _lies_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still lies at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places at one moment; False where kernel or file system cannot, or one is missing."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    failure = ctypes.get_errno()
    if failure in _NO_EXCHANGE or failure == errno.ENOENT:
        return False
    raise OSError(failure, os.strerror(failure), str(other))


def _status(found: os.stat_result) -> Status:
    return Status(found.st_size, f"{found.st_dev:x}-{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")


def _make_folders(root: Path, key: str, made: list[Path]) -> None:
    """Make the folders that a key lies in, but those that are made already."""
    for parent in reversed(PurePosixPath(key).parents):
        if (folder := root / parent) not in made:
            folder.mkdir()
            made.append(folder)


def _append(file: FileIO, piece: Bytes) -> None:
    """Write a piece; of large ones, the disk begins at once to take them."""
    begin, rest = file.tell(), memoryview(piece)
    while rest:
        rest = rest[file.write(rest) :]
    if len(piece) >= _LARGE_BYTES and hasattr(os, "posix_fadvise"):
        # What is dirty cannot be dropped, as this asks for, but Linux begins to write it out.
        os.posix_fadvise(file.fileno(), begin, len(piece), os.POSIX_FADV_DONTNEED)


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
