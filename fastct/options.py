"""What a user may choose: frozen dataclasses, checked when they are made, with units in their names."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from numbers import Integral
from typing import Any, TypeVar

from fastct.errors import OptionError

CODECS = ("ctpack", "blosc", "zstd")
POOLS = ("processes", "threads")
GIB = 1 << 30
CORE_WORKERS, FEW_WORKERS = 8, 64  # most workers a core, and how many any machine may start
GPU_WORKERS = 16  # by default at most: each holds memory of a GPU, even while it reads and writes


@dataclass(frozen=True)
class ConvertOptions:
    """How volumes become a store.

    Parameters
    ----------
    codec : "ctpack" (fastest), "blosc" or "zstd" (readable without fastct).
    limit_bytes : most memory that a file, inflated, and its int16 copy may take; what promises more is refused.
    """

    codec: str = "ctpack"
    limit_bytes: int = 2 * GIB

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise OptionError("codec", f"it is {self.codec!r}", f"Choose one of {', '.join(CODECS)}")
        if self.limit_bytes < 1:
            raise OptionError("limit_bytes", f"it is {self.limit_bytes}", "Give at least 1")


@dataclass(frozen=True)
class RunOptions:
    """How work is spread and repeated.

    Parameters
    ----------
    workers : on this machine; 1 works in this process; 0 takes one a core.
    pool : "processes", of which one may die without harm, or "threads", which start at once and die together.
    device : where studies are scored: "cpu", "cuda" (all GPUs) or "cuda:N"; "auto" takes all GPUs where
        CuPy finds some, else the CPU.
    scheduler : address of a running Dask scheduler, or a `distributed.Client`; "" for workers of our own.
    worker_wait_s : how long a cluster may be without any worker.
    study_limit_s : a study that takes longer (a disk or server that does not answer) fails.
    resume : leave out studies that an earlier run finished with the same source and settings.
    overwrite : do every study again.
    dry_run : say what would be done, and do nothing.
    storage_options : what opening a source or a store at a URL takes; never shown.
    """

    workers: int = 0
    pool: str = "processes"
    device: str = "auto"
    scheduler: Any = ""
    worker_wait_s: float = 300.0
    study_limit_s: float = 600.0
    resume: bool = True
    overwrite: bool = False
    dry_run: bool = False
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.workers, (int, Integral)) or self.workers < 0:
            raise OptionError("workers", f"there are {self.workers!r}", "Give 1 or more, or 0 for one a core")
        cores = len(os.sched_getaffinity(0))
        if self.workers > max(FEW_WORKERS, CORE_WORKERS * cores) and not self.scheduler:
            cure = f"Give {max(FEW_WORKERS, CORE_WORKERS * cores)} or fewer, or 0 for one a core"
            raise OptionError("workers", f"there are {self.workers}, on a machine of {cores} cores", cure)
        if self.pool not in POOLS:
            raise OptionError("pool", f"it is {self.pool!r}", f"Choose {' or '.join(POOLS)}")
        for name in ("worker_wait_s", "study_limit_s"):
            if not getattr(self, name) > 0:
                raise OptionError(name, f"it is {getattr(self, name)!r}", "Give seconds, more than 0")
        check_device(self.device, ("auto", "cpu"))

    @property
    def in_processes(self) -> bool:
        """Whether work is done by other processes than this one, if there is more than one study."""
        return bool(self.scheduler) or (self.pool == "processes" and self.worker_count > 1)

    @property
    def worker_count(self) -> int:
        """Worker processes to start on this machine."""
        cores = len(os.sched_getaffinity(0))
        return self.workers or (min(cores, GPU_WORKERS) if self.device.startswith("cuda") else cores)

    @property
    def skip_finished(self) -> bool:
        """Whether what an earlier run finished is left out."""
        return self.resume and not self.overwrite


def check_device(device: str, others: tuple[str, ...]) -> None:
    """Raise OptionError for a device that is neither "cuda", nor "cuda:N", nor one of some others."""
    kind, _, number = device.partition(":")
    if device not in others and (kind != "cuda" or device.endswith(":") or not (number or "0").isdigit()):
        raise OptionError("device", f"it is {device!r}", f"Choose {', '.join(others)}, cuda or cuda:N")


Options = TypeVar("Options", ConvertOptions, RunOptions)


def choose(kind: type[Options], given: Mapping[str, Any]) -> Options:
    """Make options of one kind from those of the given keywords that are its own."""
    return kind(**{key: given[key] for key in field_names(kind) if key in given})


def field_names(kind: type) -> tuple[str, ...]:
    """Names of the options of one kind."""
    return tuple(item.name for item in fields(kind))


def refuse_unknown(given: Mapping[str, Any], *kinds: type) -> None:
    """Raise OptionError for a keyword that none of the kinds has."""
    known = {name for kind in kinds for name in field_names(kind)}
    for key in given:
        if key not in known:
            raise OptionError(key, "there is no such option", f"Choose among {', '.join(sorted(known))}")


def require(what: str, *packages: str) -> None:
    """Raise OptionError unless the packages that something takes are installed."""
    lacking = [name for name in packages if find_spec(name) is None]
    if lacking:
        raise OptionError(
            what, f"it takes {', '.join(lacking)}, which is not installed", f"pip install {' '.join(lacking)}"
        )


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Sixteen hex digits that change whenever one of the settings does."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
