"""Times every kernel beside the bandwidth of a plain copy, as JSON and Markdown; benchmarks/gpu.py calls it."""

import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from time import monotonic, perf_counter
from typing import Any

import click
import numpy as np

from fastct import device

FEWEST_ROUNDS, SMALL_ROUNDS, MOST_ROUNDS = 5, 2, 50
CASE_S, SMALL_CASE_S = 1.0, 0.05  # after so long no further round is begun
COPY_BYTES, SMALL_COPY_BYTES = 1 << 30, 1 << 24
PACKAGES = ("numpy", "numba", "cupy-cuda13x", "cupy-cuda12x", "torch")

Work = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """Some work, and the fewest bytes that it has to read and write.

    `own` does it as fastct does; `peers` do the same, or less, by their names.
    """

    name: str
    moved_bytes: int
    own: Work
    peers: dict[str, Callable[[], Work]]
    samples: int = 0  # where they are what counts


@dataclass(frozen=True)
class Row:
    """What a case took."""

    name: str
    who: str
    moved_bytes: int
    samples: int
    median_s: float
    low_s: float
    high_s: float
    rounds: int
    fault: str = ""

    @property
    def bandwidth(self) -> float:
        """Bytes a second that had to be moved."""
        return self.moved_bytes / self.median_s if self.median_s else 0.0


class Clock:
    """Times work: by a GPU's own events where there is one."""

    def __init__(self, cupy: Any = None) -> None:
        self._cupy = cupy
        self._case_s = SMALL_CASE_S if cupy is None else CASE_S
        self._fewest = SMALL_ROUNDS if cupy is None else FEWEST_ROUNDS

    def rounds(self, work: Work) -> list[float]:
        """Seconds of each round, after two that count for nothing."""
        for _ in range(2):
            work()
        self._wait()
        seconds: list[float] = []
        start = monotonic()
        while len(seconds) < self._fewest or (len(seconds) < MOST_ROUNDS and monotonic() - start < self._case_s):
            seconds.append(self._once(work))
        return seconds

    def _wait(self) -> None:
        if self._cupy is not None:
            self._cupy.cuda.Device().synchronize()

    def _once(self, work: Work) -> float:
        if self._cupy is None:
            start = perf_counter()
            work()
            return perf_counter() - start
        begun, ended = self._cupy.cuda.Event(), self._cupy.cuda.Event()
        begun.record()
        work()
        ended.record()
        ended.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(begun, ended)) / 1000


def rows_of(make: Callable[[], Case], clock: Clock) -> list[Row]:
    """A row for fastct and for each peer; one that fails says so, and the others are timed all the same."""
    try:
        case = make()
    except Exception as error:  # noqa: BLE001  a GPU is rare: everything else is to be timed while there is one
        traceback.print_exc()
        return [Row("a case that could not be made", "fastct", 0, 0, 0, 0, 0, 0, f"{type(error).__name__}: {error}")]
    rows = []
    for who, prepare in {"fastct": lambda: case.own, **case.peers}.items():
        try:
            seconds = clock.rounds(prepare())
        except Exception as error:  # noqa: BLE001  as above
            traceback.print_exc()
            rows.append(Row(case.name, who, case.moved_bytes, case.samples, 0, 0, 0, 0, f"{type(error).__name__}"))
            continue
        low, *_, high = quantiles(seconds, n=10)
        rows.append(Row(case.name, who, case.moved_bytes, case.samples, median(seconds), low, high, len(seconds)))
    return rows


def copy_case(place: Callable[[Any], Any], n_bytes: int) -> Case:
    """A plain copy: what anything that streams through memory can reach."""
    source = place(np.random.default_rng(0).integers(0, 255, n_bytes, dtype=np.uint8))
    target = place(np.zeros(n_bytes, np.uint8))

    def copy() -> None:
        target[...] = source

    return Case("copy", 2 * n_bytes, copy, {})


def table(rows: Sequence[Row], heading: str) -> str:
    """The roofline table."""
    copied = next((row.bandwidth for row in rows if row.name == "copy" and not row.fault), 0.0)
    lines = [
        f"# {heading}\n",
        f"A plain copy moves {copied / 1e9:.0f} GB/s, bytes read and written; shares are of that.\n",
        "| work | who | GB moved | ms (10 to 90 %) | GB/s | share of copy | times fastct's |",
        "|---|---|---|---|---|---|---|",
    ]
    own = {row.name: row.median_s for row in rows if row.who == "fastct"}
    for row in rows:
        if row.fault:
            lines.append(f"| {row.name} | {row.who} | | {row.fault} | | | |")
            continue
        times = f"{row.median_s * 1e3:.3f} ({row.low_s * 1e3:.3f} to {row.high_s * 1e3:.3f})"
        share = row.bandwidth / copied if copied else 0.0
        ratio = row.median_s / own[row.name] if own.get(row.name) else 0.0
        rate = f"{row.samples / row.median_s:,.0f} a second" if row.samples else ""
        lines.append(
            f"| {row.name} {rate and f'({rate})'} | {row.who} | {row.moved_bytes / 1e9:.3f} | {times} "
            f"| {row.bandwidth / 1e9:.0f} | {share:.0%} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def versions() -> dict[str, str]:
    """Versions of the packages that are there."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _machine(cupy: Any) -> str:
    if cupy is None:
        return "no GPU: the CPU's twins on small input, to see that all of it works"
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return f"{properties['name'].decode()}, CUDA driver {cupy.cuda.runtime.driverGetVersion()}"


@click.command()
@click.argument("out", type=click.Path(exists=True, path_type=Path))
@click.option("--cpu", is_flag=True)
@click.option("--budget", "budget_s", default=200.0, help="Seconds after which no further case is begun.")
def main(out: Path, cpu: bool, budget_s: float) -> None:
    """Time all cases; exit with 1 if one failed."""
    from benchmarks.gpu_cases import cases

    start = monotonic()
    cupy = None
    if not cpu:
        import cupy
    place = (lambda array: array) if cpu else device.to_gpu
    clock, rows = Clock(cupy), []
    makers = [lambda: copy_case(place, SMALL_COPY_BYTES if cpu else COPY_BYTES), *cases(place, small=cpu)]
    timed = 0
    for make in makers:
        if monotonic() - start > budget_s:
            break
        rows += rows_of(make, clock)
        timed += 1
        print(f"{monotonic() - start:.1f} s: {rows[-1].name}", flush=True)
        _write(out, cupy, rows, len(makers) - timed)
        if cupy is not None:
            cupy.get_default_memory_pool().free_all_blocks()
    faults = [f"{row.name}, {row.who}: {row.fault}" for row in rows if row.fault and row.who == "fastct"]
    print(f"{len(rows)} rows, {len(makers) - timed} cases left out, faults: {faults or 'none'}")
    raise SystemExit(1 if faults or timed < len(makers) else 0)


def _write(out: Path, cupy: Any, rows: Sequence[Row], left_out: int) -> None:
    """After each case, so that one that hangs takes nothing with it."""
    facts = {"date": str(date.today()), "machine": _machine(cupy), "versions": versions(), "left_out": left_out}
    heading = f"{facts['date']}, {facts['machine']}: " + ", ".join(f"{k} {v}" for k, v in versions().items())
    (out / "gpu.json").write_text(json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=1))
    (out / "gpu.md").write_text(table(rows, heading))


if __name__ == "__main__":
    main()
