"""Readers, a scorer and an exporter on one store at once: `python tests/load_store.py --minutes 10 --readers 8`.

Every voxel that is read is compared with what was written. At the end: no process hangs, and what each reader has open
and holds in memory is what it was after its first reads.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.queues import Queue
from pathlib import Path

import numpy as np
from small_chests import small_chest, write_study

import fastct
from fastct.errors import StoreError
from fastct.exporting import export_study

STUDIES, SHAPE = 4, (16, 160, 160)
FIRST_READS = 500  # after which a reader's memory should not grow any more
GROWTH_BYTES = 24 << 20  # that is no leak: buffers of the allocator
JOIN_S = 120  # a process that has not ended by then hangs


def study_id(number: int) -> str:
    return f"study_{number:04d}"


def make(place: Path) -> None:
    """A scored store, half of its studies with masks."""
    for number in range(STUDIES):
        hu, lesion, affine = small_chest(number, SHAPE)
        write_study(place / "source" / f"{study_id(number)}.nii.gz", hu, affine)
        if number % 2:
            write_study(place / "source" / f"{study_id(number)}_mask.nii.gz", lesion, affine)
    fastct.convert(place / "source", place / "store", workers=1)
    fastct.score(place / "store", workers=1)


def held() -> tuple[int, int]:
    """What this process has open, and its memory in bytes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")  # noqa: PTH208


def read(place: Path, until: float, seed: int, answers: Queue) -> None:
    """Boxes of images and of labels, and samples of a loader, at random; each compared."""
    random, counts = np.random.default_rng(seed), Counter()
    truth = [small_chest(number, SHAPE)[0] for number in range(STUDIES)]
    first = fastct.open(place / "store")
    labels = {number: (first[study_id(number)].lungs, first[study_id(number)].lesion) for number in range(STUDIES)}
    early = None
    while time.time() < until:
        number = int(random.integers(STUDIES))
        begin = [int(random.integers(0, n)) for n in SHAPE]
        box = tuple(slice(at, at + int(random.integers(1, 80))) for at in begin)
        study = fastct.open(place / "store")[study_id(number)]
        try:
            np.testing.assert_array_equal(study.read(*box), truth[number][box])
            if counts["read"] % 4 == 0:
                np.testing.assert_array_equal(study.lungs, labels[number][0])
                np.testing.assert_array_equal(study.lesion, labels[number][1])
            if counts["read"] % 50 == 0:
                counts["samples"] += sample(place / "store", seed)
            counts["read"] += 1
        except StoreError as error:  # labels are out of the root while they are replaced
            if "replaced" not in error.finding and "no label" not in error.finding and "no array" not in error.finding:
                raise
            counts["replaced"] += 1
        if early is None and counts["read"] >= FIRST_READS:
            early = held()
    answers.put(("reader", counts, early or held(), held()))


def sample(store: Path, seed: int) -> int:
    data = fastct.Dataset(store, patch=(8, 32, 32), samples_per_study=2, seed=seed)
    return sum(len(batch["study_id"]) for batch in fastct.Loader(data, batch_size=2, threads=2))


def score(place: Path, until: float, seed: int, answers: Queue) -> None:
    """All labels, again and again."""
    counts = Counter()
    while time.time() < until:
        summary = fastct.score(place / "store", workers=1, overwrite=True)
        assert not summary.failed, summary.failed
        counts["scored"] += len(summary.done)
    answers.put(("scorer", counts, held(), held()))


def export(place: Path, until: float, seed: int, answers: Queue) -> None:
    """Every study as NIfTI, read back and compared."""
    counts, file = Counter(), place / f"back{seed}.nii.gz"
    while time.time() < until:
        number = counts["exported"] % STUDIES
        export_study(fastct.open(place / "store")[study_id(number)], file, overwrite=True)
        np.testing.assert_array_equal(fastct.read_nifti(file).hu, small_chest(number, SHAPE)[0])
        counts["exported"] += 1
    answers.put(("exporter", counts, held(), held()))


def run(seconds: float, readers: int) -> Counter[str]:
    """All of them for a while; what they did. Raises for one that failed, hangs, or leaks."""
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        place, context = Path(name), get_context("spawn")
        make(place)
        answers, until = context.Queue(), time.time() + seconds
        jobs = [(read, seed) for seed in range(readers)] + [(score, 0), (export, 0)]
        processes = [context.Process(target=job, args=(place, until, seed, answers)) for job, seed in jobs]
        for process in processes:
            process.start()
        for _ in processes:
            kind, counts, early, late = answers.get(timeout=seconds + JOIN_S)
            total += counts
            sys.stdout.write(
                f"{kind}: {dict(counts)}, open files {early[0]} -> {late[0]}, MB {early[1] >> 20} -> {late[1] >> 20}\n"
            )
            assert late[0] <= early[0] + 1, f"a {kind} leaves files open: {early[0]}, then {late[0]}"
            assert late[1] <= early[1] + GROWTH_BYTES, f"a {kind} grows: {early[1]:,} bytes, then {late[1]:,}"
        for process in processes:
            process.join(JOIN_S)
            assert process.exitcode == 0, process.exitcode
        assert fastct.verify(place / "store") == []
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--readers", type=int, default=8)
    asked = parser.parse_args()
    sys.stdout.write(f"{dict(run(60 * asked.minutes, asked.readers))}\n")


if __name__ == "__main__":
    main()
