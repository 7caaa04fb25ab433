"""What a study costs as the data set grows: seconds, processor time and memory of client and workers, by stage.

    python -m benchmarks.scale FOLDER --studies 1110 --studies 11100 --shape 12 128 128

makes a few phantoms in FOLDER, lays data sets of many studies beside them by hard links, and runs `convert`, `score`,
a second run that finds nothing to do, and `report` on each, every stage in a process of its own. It prints a table in
Markdown, a line a stage, as soon as the stage has ended. Processor time is that of client and workers: it tells
more than the clock where other work runs beside. With `--seconds` a stage is broken off after a while: what it did
until then is comparable with another set's where all studies are alike (`--category CT-2`), since the largest are
done first.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fastct.nifti import write_nifti
from fastct.phantom import draw_study

SEED = 7
CLASSES = ("CT-0", "CT-1", "CT-2", "CT-3", "CT-4")
STUDIES = (10, 100)
SAMPLE_S = 0.5
MB = 1e6
HEAD = "| studies | stage | s | processor ms a study | studies/s | client MB, first third / end | worker MB, the same |"


def main() -> None:
    """Measure what the command line asks for."""
    arguments = _parser().parse_args()
    if arguments.stage:
        how = arguments.workers, arguments.seconds
        print(json.dumps(_measured(arguments.stage, arguments.folder, *how)))
        return
    print(f"{HEAD}\n|{'---|' * 7}", flush=True)
    shape = tuple(arguments.shape or ()) or None
    part = Part(
        tuple(arguments.category or CLASSES), tuple(arguments.stages.split(",")), arguments.seconds, arguments.keep
    )
    for studies in arguments.studies or STUDIES:
        for stage, found in stages(arguments.folder, studies, shape, arguments.workers, part):
            print(_line(studies, stage, found), flush=True)
        if not arguments.keep:
            shutil.rmtree(arguments.folder / f"store-{studies}")


@dataclass(frozen=True)
class Part:
    """What is measured: classes of the phantoms, stages, seconds for each; whether on a store that is there."""

    kinds: tuple[str, ...] = CLASSES
    stages: tuple[str, ...] = ("convert", "score", "again", "report")
    seconds: float = math.inf
    go_on: bool = False


def stages(
    folder: Path, studies: int, shape: tuple[int, int, int] | None, workers: int, part: Part = Part()
) -> Iterator[tuple[str, dict[str, float]]]:
    """Each stage on a data set of that many studies, and what it took, as soon as it has ended."""
    _data_set(folder / f"set-{studies}", studies, folder / "phantoms", part.kinds, shape)
    if not part.go_on:
        shutil.rmtree(folder / f"store-{studies}", ignore_errors=True)
    for stage in part.stages:
        command = [sys.executable, "-m", "benchmarks.scale", folder, "--stage", f"{stage}-{studies}", "-j", workers]
        command += ["--seconds", part.seconds]
        done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True)
        yield stage, json.loads(done.stdout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="What a study costs as the data set grows.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--studies", type=int, action="append", help="of a set; sets of 10 and 100 unless given")
    parser.add_argument("--shape", type=int, nargs=3, help="(z, y, x) of every phantom; by default as MosMedData has")
    parser.add_argument("-j", "--workers", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="go on with the stores that are there, and leave them")
    parser.add_argument("--category", action="append", help="of the phantoms; all five unless given")
    parser.add_argument("--stages", default="convert,score,again,report")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for each stage")
    parser.add_argument("--stage", help="one stage only, such as score-1110 (used by the script itself)")
    return parser


def _data_set(
    root: Path, studies: int, phantoms: Path, kinds: Sequence[str], shape: tuple[int, int, int] | None
) -> None:
    """Many studies in MosMedData's folders, hard links to a phantom of each of those classes."""
    for number, category in enumerate(kinds):
        file = phantoms / f"{category}.nii.gz"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            drawn = draw_study(number, SEED, category=category, shape=shape)
            write_nifti(file, drawn.hu, drawn.geometry)
    if root.exists():
        return
    for number in range(1, studies + 1):
        category = kinds[number % len(kinds)]
        link = root / "studies" / category / f"study_{number:05d}.nii.gz"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(phantoms / f"{category}.nii.gz", link)


class _EnoughError(Exception):
    """The time of a stage is over."""


def _measured(stage: str, folder: Path, workers: int, most_s: float) -> dict[str, float]:
    """Time, processor time and memory of one stage, done in this process and its workers; how many studies it did."""
    import fastct
    from fastct.reporting import write_report

    name, studies = stage.split("-")
    root, store = folder / f"set-{studies}", folder / f"store-{studies}"
    done = 0

    def note(_: object) -> None:
        nonlocal done
        done += 1
        if time.monotonic() - started > most_s:
            raise _EnoughError

    how: dict[str, Any] = {"workers": workers, "on_event": note}
    jobs = {
        "convert": lambda: fastct.convert(root, store, **how),
        "score": lambda: fastct.score(store, **how),
        "again": lambda: (fastct.convert(root, store, **how), fastct.score(store, **how)),
        "report": lambda: write_report(store),
    }
    watch = _Watch()
    started = time.monotonic()
    with suppress(_EnoughError):
        jobs[name]()
    taken_s = time.monotonic() - started
    return {"s": taken_s, "studies": done or int(studies), **watch.end()}


class _Watch:
    """Processor time and memory of this process and of all that it started, sampled as long as they live."""

    def __init__(self) -> None:
        self._own, self._stop = psutil.Process(), threading.Event()
        self._cpu_s: dict[int, float] = {}
        self._client: list[float] = []
        self._workers: list[float] = []
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        sizes = []
        for process in [self._own, *self._own.children(recursive=True)]:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    self._cpu_s[process.pid] = times.user + times.system
                    sizes.append(process.memory_info().rss / MB)
            except psutil.Error:
                continue
        self._client.append(sizes[0])
        self._workers.append(max(sizes[1:], default=0.0))

    def end(self) -> dict[str, float]:
        """What was seen: memory as the greatest of the first third (once started), and at the end."""
        self._stop.set()
        self._thread.join()
        self._sample()
        third = max(len(self._client) // 3, 1)
        busy = [size for size in self._workers if size]
        return {
            "cpu_s": sum(self._cpu_s.values()),
            "client_mb": max(self._client[:third]),
            "client_end_mb": max(self._client[-third:]),
            "worker_mb": max(busy[: max(len(busy) // 3, 1)], default=0.0),
            "worker_end_mb": max(busy[-max(len(busy) // 3, 1) :], default=0.0),
        }


def _line(studies: int, stage: str, found: dict[str, float]) -> str:
    figures = (
        f"{found['s']:.0f}",
        f"{1e3 * found['cpu_s'] / found['studies']:.2f}",
        f"{found['studies'] / found['s']:.1f}",
        f"{found['client_mb']:.0f} / {found['client_end_mb']:.0f}",
        f"{found['worker_mb']:.0f} / {found['worker_end_mb']:.0f}" if found["worker_mb"] else "–",
    )
    part = f" ({found['studies']:,.0f} of them)" if found["studies"] != studies else ""
    return f"| {studies:,} | {stage}{part} | {' | '.join(figures)} |"


if __name__ == "__main__":
    main()
