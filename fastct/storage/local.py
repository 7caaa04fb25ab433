"""A folder on a local disk: atomic writes, whole publication, mapped reads, claims by file locks."""

import ctypes
import errno
import mmap
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from io import BufferedReader, FileIO
from pathlib import Path, PurePosixPath

from fastct.errors import StoreError
from fastct.storage.file_claims import FileClaim, claim_file
from fastct.storage.interface import CLAIMS, STAGING, WORK, ByteRange, Bytes, Claim, Status, Storage
from fastct.storage.place import Place

_STAGED = re.compile(r"staged-[0-9a-f]{32}")  # folders that a sweep may take
_OWNER = "owner"  # a file in each, which its owner has locked
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
        try:
            return self.path(key).is_file()
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

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
            with self._file(key) as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """The bytes under a key, and the tag of the file that they came from."""
        try:
            with self._file(key) as file:
                return file.read(), _status(os.fstat(file.fileno())).tag
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read_range(self, key: str, begin: int, end: int) -> tuple[Bytes, str]:
        """The bytes from `begin` to `end` under a key, and the tag of the file that they came from."""
        try:
            with self._file(key) as file:
                part = os.pread(file.fileno(), end - begin, begin)
                return part, _status(os.fstat(file.fileno())).tag
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def read_ranges(self, key: str, ranges: Sequence[ByteRange], tag: str) -> list[Bytes]:
        """Several parts of the file of that tag."""
        try:
            with self._file(key) as file:
                if _status(os.fstat(file.fileno())).tag != tag:
                    raise StoreError(self.path(key), "it was replaced while it was read", "Open the study again")
                return [os.pread(file.fileno(), end - begin, begin) for begin, end in ranges]
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def view(self, key: str) -> Bytes:
        """The bytes under a key, mapped: the page cache is shared with every other process."""
        try:
            with self._file(key) as file:
                if os.fstat(file.fileno()).st_size == 0:
                    return b""
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _unreadable(self.path(key), error) from error

    def _file(self, key: str) -> BufferedReader:
        """The file under a key, opened to be read; a pipe in its place, which might never open, is refused."""
        path = self.path(key)
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is a pipe or a device")
        return path.open("rb")

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
                    if _is_folder(entry):
                        yield entry.name
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _unreadable(self.path(folder), error) from error

    def sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of every file below a folder, by key."""
        found = {}
        path = self.path(folder)
        try:
            for where, _, names in os.walk(path, onerror=_raise_unless_gone):
                for path in (Path(where) / name for name in names):
                    with suppress(FileNotFoundError):  # taken away since it was listed
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_size
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
            with self._staging() as folder, ExitStack() as opened:
                written = []
                for key, payload in files.items():
                    final, path = self.path(key), folder / str(len(staged))
                    staged[final] = path
                    _make_folder(final.parent)
                    written.append(opened.enter_context(path.open("xb", buffering=0)))
                    _append(written[-1], payload)
                for file in written:
                    os.fsync(file.fileno())
                for final, path in staged.items():
                    path.replace(final)
                for parent in {final.parent for final in staged}:
                    _sync(parent)
        except OSError as error:
            raise _unwritable(final, error) from error

    def publish(self, folder: str, files: Mapping[str, Bytes]) -> None:
        """Put a whole folder of files in place at once; when that fails, what was there before stays."""
        self.stage(folder, files.items())()

    def stage(self, folder: str, pieces: Iterable[tuple[str, Bytes]]) -> Callable[[], None]:
        """Write the files to a staged folder; what this returns syncs them, and moves the folder in."""
        final, files = self.path(folder), dict[str, FileIO]()
        try:
            _make_folder(final.parent)
            with ExitStack() as undo:
                staged = undo.enter_context(self._staging()) / "new"
                staged.mkdir()
                folders = [staged]
                for key, piece in pieces:
                    if key not in files:
                        _make_folders(staged, key, folders)
                        files[key] = undo.enter_context((staged / key).open("xb", buffering=0))
                    _append(files[key], piece)
                held = undo.pop_all()  # nothing is to be undone yet
        except OSError as error:
            raise _unwritable(final, error) from error
        return partial(self._commit, held, [file.fileno() for file in files.values()], folders, final)

    def _commit(self, held: ExitStack, written: Sequence[int], folders: Sequence[Path], final: Path) -> None:
        """Sync all that is staged, then move it in, and let go of what was held for it."""
        try:
            with held:
                for descriptor in written:
                    os.fsync(descriptor)
                for folder in folders:
                    _sync(folder)
                _move_in(folders[0], final)
                _sync(final.parent)
        except OSError as error:
            raise _unwritable(final, error) from error

    def sweep(self) -> None:
        """Remove what the dead had staged and claimed, of whatever machine; what cannot be removed stays.

        Nothing is done behind a link: a store that another made may lead anywhere with it.
        """
        if any(self.path(folder).is_symlink() for folder in (WORK, STAGING, CLAIMS)):
            return
        for name in filter(_STAGED.fullmatch, list(self.names(STAGING))):
            folder = self.path(f"{STAGING}/{name}")
            with suppress(OSError):
                if not folder.is_symlink() and (owner := claim_file(folder / _OWNER)):
                    with owner:
                        folder = folder.rename(_new(folder.parent))  # whoever made it just now makes another
                        shutil.rmtree(folder, ignore_errors=True)
        for key in list(self.keys(CLAIMS)):
            with suppress(StoreError):
                if claim := self.claim(key.removeprefix(f"{CLAIMS}/")):
                    claim.release()

    def claim(self, name: str) -> Claim | None:
        """The right to work on what has that name: a locked file, which the kernel unlocks when its owner dies."""
        path = self.path(f"{CLAIMS}/{name}")
        try:
            _make_folder(path.parent)
            return claim_file(path)
        except OSError as error:
            raise _unwritable(path, error) from error

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A folder that nobody else may look into, nor sweep away while this process lives; in the end it goes."""
        folder, owner = self._own_folder()
        try:
            yield folder
        finally:
            owner.release()
            shutil.rmtree(folder, ignore_errors=True)  # what stays, the next sweep takes

    def _own_folder(self) -> tuple[Path, FileClaim]:
        staging = self.path(STAGING)
        _make_folder(staging)
        while True:
            folder = _new(staging)
            folder.mkdir(mode=0o700)
            with suppress(FileNotFoundError):  # a sweep took it before it was locked
                if owner := claim_file(folder / _OWNER):
                    return folder, owner

    def remove(self, key: str) -> None:
        """Take a file or a folder away, if it is there."""
        path = self.path(key)
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(path, error) from error


def _new(folder: Path) -> Path:
    """A path that is not there yet, in a folder where things are staged."""
    return folder / f"staged-{uuid.uuid4().hex}"


def _move_in(staged: Path, final: Path) -> None:
    """Rename a staged folder into place; another one that stands there changes places with it."""
    while True:
        try:
            staged.rename(final)
            return
        except OSError:
            if not final.exists():
                raise
        if _exchange(staged, final):
            return
        with suppress(FileNotFoundError):  # another writer was quicker to move it out
            final.rename(_new(staged.parent))


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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads nowhere


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _status(found: os.stat_result) -> Status:
    return Status(found.st_size, f"{found.st_dev:x}-{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}")


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where they are missing; each new one is on the disk."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


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
    reason, cure = error.strerror or str(error), "Make room or give rights, then run the same command"
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        cure = "A file is where a folder should be: name another place"
    return StoreError(path, f"cannot be written ({reason})", cure)
