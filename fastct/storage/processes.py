"""Which processes of this machine are alive: what the dead had claimed is free."""

import os
import uuid
from functools import cache
from pathlib import Path

_START_TIME = 19  # field of /proc/PID/stat after the name and the state, see proc(5)


@cache
def machine() -> str:
    """This boot of this machine, and the space of its process numbers; a name of its own where none tells."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return uuid.uuid4().hex


def started(process: int) -> str | None:
    """When a process started, in its kernel's ticks; None for one that is no more, a zombie, or hidden from us."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else rest[_START_TIME - 1]


def is_alive(process: int, since: str | None = None) -> bool:
    """Whether there is a process of that number, and, where it is known, of that start."""
    found = started(process)
    if found is not None:
        return since in (None, found)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's, whose start may be hidden from us
    return False  # a zombie: it holds nothing any more
