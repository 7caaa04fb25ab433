"""Claims on a disk: files that are locked as long as their owner lives, whatever machine or container he works on."""

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from fastct.storage.interface import Claim


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


def claim_file(path: Path) -> FileClaim | None:
    """Make a file in a folder that is there, and lock it; None while another has it.

    Raises
    ------
    OSError
        If that cannot be done; or if the file holds something, and so is no claim, and not ours to take away.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            if found.st_size:
                raise FileExistsError(errno.EEXIST, "a file lies there that is no claim", str(path))
            with suppress(FileNotFoundError):  # its last owner took the file away as he gave it back
                if os.path.samestat(found, path.stat()):
                    return FileClaim(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
