"""A disk that fails at each of its calls in turn, while a job works: `python tests/failing_disk.py --every 1`.

Jobs run in this process, under a library (`failing_disk.c`) that stands before the calls which change files. After
each fault: only fastct's own errors, every published study reads right, nothing half done is seen, and the same job,
run again, leaves the very bytes of a run that nothing disturbed.
"""

import argparse
import ctypes
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from small_chests import small_chest, tree, write_study

import fastct
from fastct.comparison import write_comparison
from fastct.errors import FastctError
from fastct.exporting import export_study
from fastct.reporting import write_report

CREATE, WRITE, SYNC, MOVE, REMOVE = 1, 2, 4, 8, 16
STUDIES = ("study_0001", "study_0002")


@dataclass(frozen=True)
class Fault:
    """What the disk says, to which calls, and whether to one alone."""

    name: str
    error: int
    kinds: int
    once: bool


FAULTS = (
    Fault("full disk", errno.ENOSPC, CREATE | WRITE | SYNC, once=False),
    Fault("EIO", errno.EIO, CREATE | WRITE | SYNC | MOVE | REMOVE, once=True),
    Fault("read-only from here on", errno.EROFS, CREATE | WRITE | SYNC | MOVE | REMOVE, once=False),
    Fault("no rights", errno.EACCES, CREATE | MOVE | REMOVE, once=True),
    Fault("short write", 0, WRITE, once=True),
    Fault("all writes short", 0, WRITE, once=False),
)


@dataclass(frozen=True)
class Job:
    """Something that writes, the folder that it starts from, and the one that an undisturbed run leaves."""

    name: str
    work: Callable[[Path], object]
    before: Path
    after: Path


def works(source: Path) -> dict[str, Callable[[Path], object]]:
    """What each job does in its folder."""
    return {
        "convert": lambda folder: fastct.convert(source, folder / "store", workers=1),
        "score": lambda folder: fastct.score(folder / "store", workers=1),
        "report": lambda folder: write_report(folder / "store"),
        "compare": lambda folder: write_comparison(folder / "store", *STUDIES),
        "export": lambda folder: _export(folder),
        "score again": lambda folder: fastct.score(folder / "store", workers=1, overwrite=True),
        "convert again": lambda folder: fastct.convert(source, folder / "store", workers=1, overwrite=True),
        "repair": lambda folder: fastct.verify(folder / "store", repair=True),
    }


def jobs(place: Path) -> list[Job]:
    """The jobs of a store of two small studies, the second with an expert's mask."""
    source = place / "source"
    for number, study_id in enumerate(STUDIES, 1):
        hu, lesion, affine = small_chest(number)
        write_study(source / "studies" / f"{study_id}.nii.gz", hu, affine)
        if number == 2:
            write_study(source / "masks" / f"{study_id}_mask.nii.gz", lesion, affine)
    made, before = [], place / "work"
    before.mkdir()
    for name, work in works(source).items():
        after = place / f"after {name}"
        if name == "repair":
            shutil.copytree(place / "after score again", before := place / "damaged")
            (before / "store/studies/study_0001.nii.zarr/0/c/0/0/0").unlink()
        shutil.copytree(before, place / "here")
        work(place / "here")
        (place / "here").rename(after)
        made.append(Job(name, work, before, after))
        before = after
    return made


def _export(folder: Path) -> None:
    export_study(fastct.open(folder / "store")["study_0001"], folder / "back.nii.gz", overwrite=True)


def disturb(job: Job, fault: Fault, every: int, offset: int, library: ctypes.CDLL) -> Counter[str]:
    """A job, disturbed at every so many of its calls; what became of each try, in a word."""
    counts: Counter[str] = Counter()
    here = job.before.parent / "here"
    shutil.copytree(job.before, here)
    library.fail_disk(os.fsencode(here), 0, 0, 0, 0)
    job.work(here)
    calls = library.fail_disk(b"", 0, 0, 0, 0)
    shutil.rmtree(here)
    for number in range(1 + offset % every, calls + 1, every):
        shutil.copytree(job.before, here)
        try:
            counts[_try(job, fault, number, library, here)] += 1
        except BaseException as error:
            error.add_note(f"{job.name}: {fault.name} at call {number} of {calls}")
            raise
        shutil.rmtree(here)
    return counts


def _try(job: Job, fault: Fault, number: int, library: ctypes.CDLL, here: Path) -> str:
    became = "done"
    library.fail_disk(os.fsencode(here), number, fault.error, fault.kinds, fault.once)
    try:
        done = job.work(here)
    except FastctError as error:
        became = "refused"
        if "[Errno" in str(error):
            raise ValueError("an error as the system tells it") from error
    else:
        if getattr(done, "failed", ()):
            became = "failed"
            told = [row["error"] for row in fastct.open(here / "store").table if row["status"] == "failed"]
            assert told, "a study failed, and the table does not say why"
            assert all(": it cannot be" in text or "cannot be written" in text for text in told), told
    finally:
        library.fail_disk(b"", 0, 0, 0, 0)
    check_readable(here / "store", job.after / "store")
    job.work(here)
    left, wanted = tree(here), tree(job.after)
    assert left.keys() == wanted.keys(), set(left) ^ set(wanted)
    assert left == wanted, [key for key in left if left[key] != wanted[key]]
    return became


def check_readable(store: Path, sound: Path) -> None:
    """What is published reads as in a store that nothing disturbed; what is not is not seen."""
    if not (store / "fastct.json").exists():
        return
    right = fastct.open(sound)
    for study_id in fastct.open(store):
        study = fastct.open(store)[study_id]
        if study_id == "study_0001" and not (store / study.folder / "0/c/0/0/0").exists():
            continue  # that which is to be repaired
        np.testing.assert_array_equal(study.hu, right[study_id].hu)
        for name in study.labels:
            if name in right[study_id].labels:
                np.testing.assert_array_equal(study.label(name), right[study_id].label(name))


def library() -> ctypes.CDLL:
    """The library, which must have been preloaded."""
    found = ctypes.CDLL(None)
    found.fail_disk.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    found.fail_disk.restype = ctypes.c_long
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="disturb every so many calls")
    parser.add_argument("--jobs", help="comma separated; all by default")
    asked = parser.parse_args()
    if "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as built:
            preload = f"{built}/failing_disk.so"
            source = Path(__file__).with_suffix(".c")
            subprocess.run(["cc", "-std=gnu2x", "-O1", "-shared", "-fPIC", "-o", preload, source, "-ldl"], check=True)
            done = subprocess.run([sys.executable, *sys.argv], env={**os.environ, "LD_PRELOAD": preload}, check=False)
        sys.exit(done.returncode)
    with tempfile.TemporaryDirectory() as place:
        total: Counter[str] = Counter()
        made = [job for job in jobs(Path(place)) if not asked.jobs or job.name in asked.jobs.split(",")]
        for index, (job, fault) in enumerate((job, fault) for job in made for fault in FAULTS):
            counts = disturb(job, fault, asked.every, index, library())
            total += counts
            sys.stdout.write(f"{job.name}, {fault.name}: {dict(sorted(counts.items()))}\n")
            sys.stdout.flush()
        sys.stdout.write(f"{total.total()} faults: {dict(sorted(total.items()))}\n")


if __name__ == "__main__":
    main()
