"""Build, check and time fastct on a GPU in one call: `python -m benchmarks.gpu OUT`, in the root of the repository.

Without a network, carry wheels of what the machine lacks among fastct's dependencies (and pytest, pytest-timeout and
hypothesis), and name their folder: `--wheels DIR`. With `--cpu` all of it runs on small input without a GPU: the
tests on a stand-in whose kernels g++ compiles, the timings through the CPU's twins. OUT gets a log of each stage,
`gpu.json`, and the roofline table `gpu.md`, which is also shown last.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import click

ROOT = Path(__file__).parents[1]
BUDGET_S = 465.0  # under eight minutes
# Shares of the budget that stages may take at most: timings get what is left.
BUILD_SHARE, TESTS_SHARE = 0.3, 0.45
TESTS = ("tests/test_gpu.py", "tests/test_gpu_chain.py")
BUILD = (
    ("python", "setup.py", "-q", "build_ext", "--inplace"),
    ("python", "-c", "import fastct, fastct.codecs, fastct.transforms; print(fastct.__file__)"),
)


@dataclass(frozen=True)
class Stage:
    """Commands that are run one after another, with one log, until one fails or the time is up."""

    name: str
    commands: Sequence[Sequence[str]]
    limit_s: float

    def run(self, out: Path, environment: Mapping[str, str]) -> bool:
        """Whether all went well; the end of the log is shown."""
        start = monotonic()
        log = out / f"{self.name}.log"
        with log.open("w") as file:
            done = all(self._run(command, start, file, environment) for command in self.commands)
        lines = log.read_text(errors="replace").splitlines()
        word = "done" if done else "FAILED"
        print(f"{self.name}: {word} in {monotonic() - start:.0f} s; {log}")
        print("\n".join(f"    {line}" for line in lines[-(3 if done else 25) :]), flush=True)
        return done

    def _run(self, command: Sequence[str], start: float, file: object, environment: Mapping[str, str]) -> bool:
        words = [sys.executable if word == "python" else word for word in command]
        left_s = max(1.0, self.limit_s - (monotonic() - start))
        try:
            found = subprocess.run(
                words, cwd=ROOT, env=dict(environment), stdout=file, stderr=subprocess.STDOUT, timeout=left_s
            )
        except subprocess.TimeoutExpired:
            return False
        return found.returncode == 0


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--wheels", type=click.Path(exists=True, path_type=Path), help="A folder of wheels to install first.")
@click.option("--cpu", is_flag=True, help="Small, and without a GPU.")
@click.option("--under", default="", help="A command that the tests run under, such as compute-sanitizer.")
@click.option("--tests", default="", help="Only tests whose names fit this expression of pytest's.")
@click.option("--budget", "budget_s", default=BUDGET_S, help="Seconds for everything.")
def main(out: Path, wheels: Path | None, cpu: bool, under: str, tests: str, budget_s: float) -> None:
    """Build, check and time; exit with 1 if something failed, after all else was done."""
    start = monotonic()
    out.mkdir(parents=True, exist_ok=True)
    out = out.resolve()
    with tempfile.TemporaryDirectory() as site:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), site)), "PYTHONUNBUFFERED": "1"}
        if not Stage("build", (*_installing(wheels, site), *BUILD), BUILD_SHARE * budget_s).run(out, environment):
            sys.exit(1)
        sound = Stage("tests", (_testing(cpu, under, tests),), TESTS_SHARE * budget_s).run(out, environment)
        left_s = budget_s - (monotonic() - start)
        timing = ("python", "-m", "benchmarks.gpu_timings", str(out), f"--budget={left_s - 10:.0f}")
        timed = Stage("timings", ((*timing, *(["--cpu"] if cpu else [])),), left_s).run(out, environment)
    table = out / "gpu.md"
    print(table.read_text() if table.exists() else "no timings")
    print(f"all of it took {monotonic() - start:.0f} s")
    sys.exit(0 if sound and timed else 1)


def _installing(wheels: Path | None, site: str) -> tuple[tuple[str, ...], ...]:
    if wheels is None:
        return ()
    files = sorted(str(path.resolve()) for path in wheels.glob("*.whl"))
    pip = ("python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir")
    return ((*pip, "--upgrade", "--target", site, *files),)


def _testing(cpu: bool, under: str, tests: str) -> tuple[str, ...]:
    """What needs a GPU; without one, what its stand-in can do of it."""
    chosen = tests or ("stand-in" if cpu else "not stand-in")
    return (*shlex.split(under), "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *TESTS)


if __name__ == "__main__":
    main()
