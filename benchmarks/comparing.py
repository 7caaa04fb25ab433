"""Comparing fastct with its peers: the same work on the same arrays, in turn, in one process."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

Work = Callable[[], Any]

TURN_S = 0.03  # quick work is repeated for as long in a turn, and its median taken
FEWEST_ROUNDS, MOST_ROUNDS = 3, 25


@dataclass(frozen=True)
class Rival:
    """Who else does the work of a Case, or does less: a floor under it.

    Parameters
    ----------
    name : what the table calls it.
    prepare : imports and lays out what it needs, and answers a call that does the work.
    package : the distribution whose version is told; None for a floor.
    tolerance : how far its results may lie from fastct's; None where its conventions are others.
    wanted : the least that its time over fastct's shall be.
    array : makes an array of what it answers, outside of the time taken.
    """

    name: str
    prepare: Callable[[], Work]
    package: str | None = None
    tolerance: float | None = None
    wanted: float | None = None
    array: Callable[[Any], Any] = np.asarray


def largest_difference(own: Any, other: Any) -> float:
    """Greatest distance of the voxels of two arrays; infinite where their shapes differ."""
    if own.shape != other.shape:
        return float("inf")
    return float(np.abs(own.astype(np.float64) - other).max(initial=0.0))


@dataclass(frozen=True)
class Case:
    """Some work as fastct (`by`) does it, who else does it, and how far two results lie apart."""

    work: str
    own: Work
    rivals: Sequence[Rival]
    difference: Callable[[Any, Any], float] = largest_difference
    by: str = "fastct"


@dataclass(frozen=True)
class Row:
    """What one of them took for a Case: seconds of each round, and the same over fastct's."""

    work: str
    name: str
    seconds: Sequence[float]
    ratios: Sequence[float]
    difference: float | None = None
    tolerance: float | None = None
    wanted: float | None = None

    @property
    def agrees(self) -> bool:
        """Whether the results are as near as they should be."""
        return self.tolerance is None or (self.difference is not None and self.difference <= self.tolerance)

    def cells(self) -> list[str]:
        """The row of a table."""
        wanted = "" if self.wanted is None else f"≥ {self.wanted:.3g}"
        differs = "" if self.difference is None else f"{self.difference:.1g}"
        bold = "**" if self.wanted is not None and median(self.ratios) < self.wanted else ""
        low, high = _quartiles(self.ratios)
        return [
            self.work,
            self.name,
            f"{median(self.seconds) * 1e3:.2f}",
            f"{bold}{median(self.ratios):.2f}{bold}",
            f"{low:.2f} – {high:.2f}",
            wanted,
            differs if self.agrees else f"**{differs}**",
        ]


HEADINGS = ("work", "by", "ms", "time / first's", "quartiles", "wanted", "differs by")


def compare(case: Case, budget_s: float, turn_s: float = TURN_S) -> Iterator[Row]:
    """Do the work of a case in turn until the budget is spent, and tell what each one took.

    A rival whose package is not installed is left out.
    """
    calls, rivals = [case.own], [Rival(case.by, lambda: case.own)]
    for rival in case.rivals:
        try:
            calls.append(rival.prepare())
        except ModuleNotFoundError:
            continue
        rivals.append(rival)
    differences = _differences(case, rivals, calls)  # which leaves all warm, and compiled
    seconds = _rounds(calls, budget_s, turn_s)
    for rival, taken, difference in zip(rivals, seconds, differences, strict=True):
        ratios = [theirs / ours for theirs, ours in zip(taken, seconds[0], strict=True)]
        yield Row(case.work, rival.name, taken, ratios, difference, rival.tolerance, rival.wanted)


def _differences(case: Case, rivals: Sequence[Rival], calls: Sequence[Work]) -> list[float | None]:
    """How far each result lies from fastct's, where it should be near."""
    results = [call() for call in calls]
    own = rivals[0].array(results[0])
    return [
        None if rival.tolerance is None else case.difference(own, rival.array(result))
        for rival, result in zip(rivals, results, strict=True)
    ]


def _rounds(calls: Sequence[Work], budget_s: float, turn_s: float) -> list[list[float]]:
    """Seconds of each call in each round."""
    seconds: list[list[float]] = [[] for _ in calls]
    start = perf_counter()
    while len(seconds[0]) < FEWEST_ROUNDS or (perf_counter() - start < budget_s and len(seconds[0]) < MOST_ROUNDS):
        for own_seconds, call in zip(seconds, calls, strict=True):
            own_seconds.append(_turn(call, turn_s))
    return seconds


def _turn(call: Work, turn_s: float) -> float:
    """Median seconds of a call, repeated for a while."""
    taken: list[float] = []
    while not taken or sum(taken) < turn_s:
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
    return median(taken)


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def versions(cases: Sequence[Case]) -> str:
    """The packages that are compared, with their versions, where they are installed."""
    rivals = {rival.package for case in cases for rival in case.rivals if rival.package}
    packages = rivals | {"fastct", "numpy", "numba"}
    return ", ".join(filter(None, map(_version, sorted(packages, key=str.lower))))


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown; bold is what lies behind what was wanted, or differs more than it should."""
    lines = [HEADINGS, ["---"] * len(HEADINGS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
