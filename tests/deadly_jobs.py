"""Work for the tests of scheduling, in a module that worker processes can import."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from fastct.errors import FileError


@dataclass(frozen=True)
class Square:
    """A number to square.

    `kills` is how many workers it kills before it is done; each death leaves a line in its diary. `waits_s` is
    how long it takes.
    """

    study_id: str
    size_bytes: int
    kills: int = 0
    diary: str = ""
    waits_s: float = 0.0


def square(task):
    if task.kills and deaths(task.diary) < task.kills:
        with Path(task.diary).open("a") as diary:
            diary.write(f"{os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(task.waits_s)
    return task.size_bytes**2


def deaths(diary):
    return len(Path(diary).read_text().splitlines()) if Path(diary).exists() else 0


def square_or_refuse(task):
    if task.size_bytes == 3:
        raise FileError(task.study_id, "three is no good", "Give another")
    return task.size_bytes**2


def where(task):
    return os.getpid()


def visible(task):
    return os.environ.get("CUDA_VISIBLE_DEVICES")
