"""Agreement with the registry: against SciPy and sums by hand, laws, fixed intervals, missing values."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, spearmanr

from fastct.agreement import CLASSES, Estimate, agreement, edge_changes

STUDY = st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 20).map(lambda n: n * 5.0))


def rows_of(studies):
    return [
        {"category": CLASSES[theirs], "severity": CLASSES[ours], "lesion_percent": percent}
        for theirs, ours, percent in studies
    ]


def kappa_by_hand(studies):
    """Cohen's weighted kappa straight from its definition, over pairs of studies."""
    theirs, ours = [s[0] for s in studies], [s[1] for s in studies]
    observed = sum((a - b) ** 2 for a, b in zip(theirs, ours, strict=True)) / len(studies)
    expected = sum((a - b) ** 2 for a in theirs for b in ours) / len(studies) ** 2
    return 1 - observed / expected if expected else math.nan


@given(st.lists(STUDY, min_size=1, max_size=40))
def test_figures_are_those_of_the_definitions(studies):
    found = agreement(rows_of(studies))
    theirs, ours, percent = zip(*studies, strict=True)
    matrix = np.zeros((5, 5), int)
    np.add.at(matrix, (theirs, ours), 1)
    np.testing.assert_array_equal(found.confusion, matrix)
    assert found.studies == len(studies)
    assert found.same == sum(a == b for a, b in zip(theirs, ours, strict=True))
    assert found.next_door == sum(abs(a - b) == 1 for a, b in zip(theirs, ours, strict=True))
    assert found.kappa.value == pytest.approx(kappa_by_hand(studies), abs=1e-12, nan_ok=True)
    varied = len(set(theirs)) > 1 and len(set(percent)) > 1
    expected = spearmanr(percent, theirs).statistic if varied else math.nan
    assert found.spearman.value == pytest.approx(expected, abs=1e-12, nan_ok=True)
    for number, median in enumerate(found.medians_percent):
        of_class = [p for t, p in zip(theirs, percent, strict=True) if t == number]
        assert median == pytest.approx(np.median(of_class) if of_class else math.nan, nan_ok=True)


@given(st.lists(STUDY, min_size=2, max_size=60))
@settings(max_examples=25)
def test_figures_are_those_of_scikit_learn(studies):
    metrics = pytest.importorskip("sklearn.metrics")
    found = agreement(rows_of(studies))
    theirs, ours = [s[0] for s in studies], [s[1] for s in studies]
    labels = list(range(5))
    np.testing.assert_array_equal(found.confusion, metrics.confusion_matrix(theirs, ours, labels=labels))
    if len({*theirs, *ours}) > 1:
        kappa = metrics.cohen_kappa_score(theirs, ours, labels=labels, weights="quadratic")
        assert found.kappa.value == pytest.approx(kappa, abs=1e-12)


def test_intervals_are_those_of_scipys_bootstrap():
    """Two bootstraps of 80 studies with other draws: their ends differ by the noise of 1000 repetitions."""
    generator = np.random.default_rng(11)
    theirs = generator.integers(0, 5, 80)
    percent = np.round(np.clip(theirs * 15 + generator.normal(0, 15, 80), 0, 100), 1)
    ours = np.digitize(percent, [1.5, 25, 50, 75])
    found = agreement(rows_of(list(zip(theirs.tolist(), ours.tolist(), percent.tolist(), strict=True))))
    interval = bootstrap(
        (percent, theirs),
        lambda x, y: spearmanr(x, y).statistic,
        n_resamples=1000,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert (found.spearman.low, found.spearman.high) == pytest.approx(tuple(interval), abs=0.03)


@given(st.lists(STUDY, min_size=2, max_size=30), st.randoms())
def test_neither_order_nor_time_changes_a_figure(studies, random):
    first = agreement(rows_of(studies))
    random.shuffle(studies)
    again = agreement(rows_of(studies))
    assert repr(first) == repr(again)


@given(st.lists(STUDY, min_size=1, max_size=30))
def test_a_registry_that_says_what_we_say_agrees_wholly(studies):
    found = agreement(rows_of([(ours, ours, percent) for _, ours, percent in studies]))
    assert found.same == found.studies
    if len({ours for _, ours, _ in studies}) > 1:
        assert found.kappa.value == 1.0
        assert (found.kappa.low, found.kappa.high) == (1.0, 1.0)


def test_intervals_cover_about_as_often_as_they_say():
    """95 % intervals from 100 samples of a population with known figures."""
    generator = np.random.default_rng(5)
    theirs = generator.integers(0, 5, 200_000)
    percent = np.round(np.clip(theirs * 15 + generator.normal(0, 15, theirs.size), 0, 100), 1)
    ours = np.digitize(percent, [1.5, 25, 50, 75])
    population = list(zip(theirs.tolist(), ours.tolist(), percent.tolist(), strict=True))
    weight = (np.arange(5)[:, None] - np.arange(5)) ** 2
    joint = np.histogram2d(theirs, ours, bins=5)[0] / theirs.size
    true_kappa = 1 - (weight * joint).sum() / (weight * np.outer(joint.sum(1), joint.sum(0))).sum()
    true_spearman = spearmanr(percent, theirs).statistic
    hits = np.zeros(2)
    for _ in range(100):
        chosen = [population[n] for n in generator.integers(0, theirs.size, 80)]
        found = agreement(rows_of(chosen))
        for n, (figure, truth) in enumerate(((found.kappa, true_kappa), (found.spearman, true_spearman))):
            assert figure.low <= figure.value <= figure.high
            hits[n] += figure.low <= truth <= figure.high
    assert (hits >= 86).all(), hits  # 95 expected; 86 or fewer has odds of one in a thousand


def test_rows_without_a_class_or_a_percent_are_left_out():
    rows = rows_of([(1, 1, 10.0), (2, 3, 60.0)])
    odd = [
        {"category": "", "severity": "CT-1", "lesion_percent": 5.0},
        {"category": "CT-1", "severity": "", "lesion_percent": None},
        {"category": "CT-1", "severity": "CT-1", "lesion_percent": math.nan},
        {"category": None, "severity": None, "lesion_percent": ""},
        {"category": "CT-9", "severity": "CT-1", "lesion_percent": 5.0},
        {},
    ]
    assert repr(agreement(rows + odd)) == repr(agreement(rows))
    assert agreement(odd) is None
    assert agreement([]) is None


def test_one_class_alone_determines_nothing():
    found = agreement(rows_of([(1, 1, 10.0), (1, 1, 12.0)]))
    assert repr(found.kappa) == repr(found.spearman) == repr(Estimate(math.nan, math.nan, math.nan))
    assert found.confusion[1, 1] == 2


@given(st.lists(st.sampled_from([0.0, 24.999, 25.0, 25.001, 50.0, 60.0, 75.0, 75.0001]), max_size=20))
def test_edge_changes_are_classes_that_differ(percents):
    changed = (np.digitize(percents, (25, 50, 75)) != np.digitize(percents, (25, 50, 75), right=True)).sum()
    assert edge_changes([{"lesion_percent": p} for p in percents]) == changed
