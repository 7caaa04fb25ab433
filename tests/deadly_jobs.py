"""Work for the tests of scheduling, in a module that worker processes can import."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Square:
    """A number to square; `deadly` kills the worker, each time or, with a diary, the first time only."""

    study_id: str
    size_bytes: int
    deadly: bool = False
    diary: str = ""


def square(task):
    if task.deadly and not (task.diary and Path(task.diary).exists()):
        if task.diary:
            Path(task.diary).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.size_bytes**2


def where(task):
    return os.getpid()
