"""Agreement of our severity classes with the registry's: confusion, kappa, Spearman, class medians."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ("CT-0", "CT-1", "CT-2", "CT-3", "CT-4")
"""Severity on CT, from none to 75 % of the lungs and more (Morozov et al. 2020, doi:10.17816/DD46826)."""

EDGES_PERCENT = (25.0, 50.0, 75.0)
"""Percent of lung that part CT-1 to CT-4. The paper's Table 1 and the data set's own README put a study that
lies exactly on an edge on opposite sides of it."""

RESAMPLES, SEED, COVERAGE = 1000, 20200425, 0.95
"""Of the bootstrap over studies: repetitions, fixed seed (same table, same interval) and coverage."""

BATCH_COUNTS = 100_000
"""Bootstrap counts held at once: bounds memory (a few MB) whatever the number of studies."""

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its bootstrap interval; NaN where the studies do not determine it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """How far our classes and percentages agree with the registry's classes.

    `confusion[i, j]` counts studies of registry class i that we put in class j, in the order of `CLASSES`;
    `kappa` is Cohen's with quadratic weights, over all five classes; `spearman` is the rank correlation of
    our lesion percent with the registry's class; `medians_percent` are of our lesion percent, by registry
    class, NaN where there is no study.
    """

    studies: int
    confusion: Counts
    kappa: Estimate
    spearman: Estimate
    medians_percent: tuple[float, ...]

    @property
    def same(self) -> int:
        """Studies with the same class in both."""
        return int(np.trace(self.confusion))

    @property
    def next_door(self) -> int:
        """Studies one class apart."""
        return int(np.trace(self.confusion, 1) + np.trace(self.confusion, -1))


def agreement(rows: Iterable[Mapping[str, object]]) -> Agreement | None:
    """Agreement over the rows that hold `category`, `severity` and `lesion_percent`; None without any.

    Parameters
    ----------
    rows : columns of studies.csv by name; a class is one of `CLASSES`, other rows are left out.

    References
    ----------
    Weighted kappa: Cohen 1968, doi:10.1037/h0026256. Bootstrap: Efron 1979, doi:10.1214/aos/1176344552;
    studies are drawn with replacement, the interval lies between percentiles.

    Examples
    --------
    >>> rows = [{"category": c, "severity": c, "lesion_percent": p}
    ...         for c, p in (("CT-0", 0.0), ("CT-1", 25.0), ("CT-2", 40.0), ("CT-3", 60.0))]
    >>> found = agreement(rows)
    >>> found.studies, found.same, found.kappa.value, round(found.spearman.value, 6)
    (4, 4, 1.0, 1.0)
    """
    pairs = sorted(pair for row in rows if (pair := _compared(row)) is not None)
    if not pairs:
        return None
    percent = np.array([pair[0] for pair in pairs])
    theirs, ours = (np.array([pair[side] for pair in pairs], np.int64) for side in (1, 2))
    once = np.ones((1, len(pairs)), np.int64)
    drawn = [_figures(percent, theirs, ours, times) for times in _resamples(len(pairs))]
    figures = _figures(percent, theirs, ours, once)[:, 0]
    kappa, spearman = map(_estimate, figures, np.concatenate(drawn, axis=1))
    medians = (percent[theirs == number] for number in range(len(CLASSES)))
    return Agreement(
        studies=len(pairs),
        confusion=_confusion(theirs, ours, once)[0],
        kappa=kappa,
        spearman=spearman,
        medians_percent=tuple(float(np.median(found)) if found.size else math.nan for found in medians),
    )


def edge_changes(rows: Iterable[Mapping[str, object]]) -> int:
    """Studies that change class when the edges at 25, 50 and 75 % are read the other way.

    Examples
    --------
    >>> edge_changes([{"lesion_percent": 25.0}, {"lesion_percent": 25.1}, {"lesion_percent": None}])
    1
    """
    return sum(number(row.get("lesion_percent")) in EDGES_PERCENT for row in rows)


def _compared(row: Mapping[str, object]) -> tuple[float, int, int] | None:
    """Lesion percent, registry's class and ours as numbers; None when one of them is not there."""
    theirs, ours = row.get("category"), row.get("severity")
    percent = number(row.get("lesion_percent"))
    if theirs not in CLASSES or ours not in CLASSES or math.isnan(percent):
        return None
    return percent, CLASSES.index(str(theirs)), CLASSES.index(str(ours))


def number(value: object) -> float:
    """A value of a table as a float; NaN where it is empty or no number."""
    return float(value) if isinstance(value, Real) else math.nan


def _resamples(studies: int) -> Iterator[Counts]:
    """How often each study is drawn, (repetitions, studies), in batches of bounded size."""
    generator = np.random.default_rng(SEED)
    at_once = max(1, BATCH_COUNTS // studies)
    for first in range(0, RESAMPLES, at_once):
        repetitions = min(at_once, RESAMPLES - first)
        drawn = generator.integers(0, studies, (repetitions, studies))
        drawn += np.arange(repetitions)[:, np.newaxis] * studies
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)


def _figures(percent: Floats, theirs: Counts, ours: Counts, times: Counts) -> Floats:
    """Kappa and Spearman, (2, repetitions), when each study counts `times` (repetitions, studies)."""
    return np.stack((_kappa(_confusion(theirs, ours, times)), _spearman(percent, theirs, times)))


def _confusion(theirs: Counts, ours: Counts, times: Counts) -> Counts:
    cells = np.zeros((len(times), len(CLASSES) ** 2), np.int64)
    cell = theirs * len(CLASSES) + ours
    for number in np.unique(cell):
        cells[:, number] = times[:, cell == number].sum(axis=1)
    return cells.reshape(-1, len(CLASSES), len(CLASSES))


def _kappa(confusion: Counts) -> Floats:
    """Cohen's kappa with quadratic weights of each matrix; NaN when all studies share one class."""
    number = np.arange(len(CLASSES))
    weight = (number[:, np.newaxis] - number) ** 2
    chance = confusion.sum(axis=2)[:, :, np.newaxis] * confusion.sum(axis=1)[:, np.newaxis, :]
    expected = (weight * chance).sum(axis=(1, 2)) / confusion.sum(axis=(1, 2))
    observed = (weight * confusion).sum(axis=(1, 2)).astype(np.float64)
    return 1.0 - _ratio(observed, expected)


def _spearman(percent: Floats, theirs: Counts, times: Counts) -> Floats:
    """Correlation of midranks, for studies that come in order of percent."""
    by_percent = _midranks(percent, times)
    order = np.argsort(theirs, kind="stable")
    by_class = np.empty_like(by_percent)
    by_class[:, order] = _midranks(theirs[order], times[:, order])
    middle = (times.sum(axis=1, keepdims=True) + 1) / 2
    by_percent -= middle
    by_class -= middle
    weighted = times * by_percent
    spread = np.sqrt((weighted * by_percent).sum(axis=1) * (times * by_class**2).sum(axis=1))
    return _ratio((weighted * by_class).sum(axis=1), spread)


def _midranks(ordered: NDArray[Any], times: Counts) -> Floats:
    """Ranks from 1 of ordered values that count several times each; equal ones share their mean rank."""
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.add.reduceat(times, starts, axis=1)
    ranks = np.cumsum(sizes, axis=1) - (sizes - 1) / 2
    repeated: Floats = np.repeat(ranks, np.diff(np.r_[starts, len(ordered)]), axis=1)
    return repeated


def _ratio(above: Floats, below: Floats) -> Floats:
    """Quotient, NaN where nothing varies."""
    quotient: Floats = np.divide(above, below, out=np.full(len(above), math.nan), where=below > 0)
    return quotient


def _estimate(value: float, drawn: Floats) -> Estimate:
    known = drawn[np.isfinite(drawn)]
    if not known.size:
        return Estimate(float(value), math.nan, math.nan)
    low, high = np.quantile(known, ((1 - COVERAGE) / 2, (1 + COVERAGE) / 2))
    return Estimate(float(value), float(low), float(high))
