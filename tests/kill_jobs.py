"""Kill jobs at random moments: `python tests/kill_jobs.py --kills 200 --seed S`.

Each job (see `failing_disk.py`), the loader, and the command line with two worker processes get SIGKILL, SIGTERM or
Ctrl-C. After each: the process has ended, what is published reads right, and the same job, run again, leaves the very
bytes of a run that nothing disturbed.
"""

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from failing_disk import Job, check_readable, jobs, works
from small_chests import tree

import fastct

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDS_WITHIN_S = 60  # of a machine that does much else
INTERRUPTED = 130


def train(folder: Path) -> None:
    """An epoch of patches."""
    data = fastct.Dataset(folder / "store", patch=(4, 32, 32), samples_per_study=64, balance="lesion")
    for _ in fastct.Loader(data, batch_size=4, threads=2):
        pass


def start(job: Job, here: Path) -> BaseProcess:
    """A job in a process of its own, forked from one that has imported everything and opened nothing."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["kill_jobs", "fastct.loader", "fastct.pipeline", "fastct.verification"])
    ready, tell = context.Pipe(duplex=False)
    child = context.Process(target=do, args=(job.name, here, tell))
    child.start()
    ready.recv()
    return child


def do(name: str, here: Path, tell: Connection) -> None:
    """What that process does: as the command line does it, Ctrl-C and SIGTERM end it with 130."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        tell.send("ready")
        {**works(here.parent / "source"), "train": train}[name](here)
        for number in (signal.SIGTERM, signal.SIGINT):  # too late: it is through
            signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def wait(child: BaseProcess) -> int:
    """How a process ended; one that does not end is a failure."""
    child.join(ENDS_WITHIN_S)
    if child.exitcode is None:
        child.kill()
        raise TimeoutError(f"it did not end within {ENDS_WITHIN_S} s")
    return child.exitcode


def kill(job: Job, number: signal.Signals, delay_s: float, here: Path) -> str:
    """Start a job, kill it, look, run it again, look; how it ended."""
    shutil.copytree(job.before, here)
    child = start(job, here)
    time.sleep(delay_s)
    with suppress(ProcessLookupError):  # it was quicker
        os.kill(child.pid, number)
    code = wait(child)
    assert code in (0, INTERRUPTED, -number), f"it ended with {code}"
    check_readable(here / "store", job.after / "store")
    assert wait(start(job, here)) == 0, "the second run failed"
    same(here, job.after)
    shutil.rmtree(here)
    return "was through" if code == 0 else "ended" if code == INTERRUPTED else "died"


def same(here: Path, wanted: Path) -> None:
    left, right = tree(here), tree(wanted)
    assert left.keys() == right.keys(), sorted(set(left) ^ set(right))
    assert left == right, [key for key in left if left[key] != right[key]]


def kill_command(number: signal.Signals, delay_s: float, place: Path) -> str:
    """`fastct run -j2` in processes of its own, of which the first is killed."""
    here = place / "here"
    command = [sys.executable, "-m", "fastct", "run", place / "source", here / "store", "-j2", "-q"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(delay_s)
    process.send_signal(number)
    code = process.wait(ENDS_WITHIN_S)
    assert code in (0, INTERRUPTED, -number), f"it ended with {code}"
    check_readable(here / "store", place / "after report/store")
    subprocess.run(command, check=True, timeout=120)
    same(here, place / "after report")
    shutil.rmtree(here)
    return "was through" if code == 0 else "ended" if code == INTERRUPTED else "died"


def _lasts_s(job: Job, here: Path) -> float:
    """How long a job takes, at its second try."""
    for _ in range(2):
        shutil.copytree(job.before, here)
        begin = time.monotonic()
        assert wait(start(job, here)) == 0
        took_s = time.monotonic() - begin
        shutil.rmtree(here)
    return took_s


def run(kills: int, commands: int, seed: int, place: Path) -> Counter[str]:
    """So many kills of jobs, and of command lines; how they ended."""
    drawn, counts = random.Random(seed), Counter[str]()
    made, here = jobs(place), place / "here"
    made.append(Job("train", train, made[1].after, made[1].after))  # what is scored
    lasts_s = {job.name: _lasts_s(job, here) for job in made}
    for turn in range(kills):
        job, number = made[turn % len(made)], SIGNALS[drawn.randrange(3)]
        delay_s = drawn.uniform(0, lasts_s[job.name])
        try:
            counts[kill(job, number, delay_s, here)] += 1
        except Exception as error:
            error.add_note(f"{job.name}: {number.name} after {delay_s:.4f} s (seed {seed}, kill {turn})")
            raise
    for _ in range(commands):
        counts[kill_command(SIGNALS[drawn.randrange(3)], drawn.uniform(0.5, 8), place)] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--commands", type=int, default=0, help="kills of `fastct run -j2`, which take longer")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        counts = run(asked.kills, asked.commands, asked.seed, Path(place))
    sys.stdout.write(f"{counts.total()} kills: {dict(sorted(counts.items()))} (seed {asked.seed})\n")


if __name__ == "__main__":
    main()
