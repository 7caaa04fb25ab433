"""The report: one HTML page that holds everything it shows and asks the network for nothing."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import NamedTuple

from markupsafe import Markup

from fastct.agreement import CLASSES, EDGES_PERCENT, Agreement, agreement, edge_changes, number
from fastct.flags import LUNGLESS
from fastct.lesions import GROUND_GLASS_HU
from fastct.pages import as_utf8, harmless, template
from fastct.pictures import HISTOGRAM_HU, StudyPictures

Row = Mapping[str, object]

PICTURES_BYTES = 22_500_000
"""Of pictures in one page: with the rows of 1110 studies it stays below 25 MB. Studies beyond, at the end of the work
list, are shown without."""

LISTED = 4000
"""Studies that the work list holds at most; figures and charts are of all, and so is studies.csv."""

PIECES = 64
"""Pieces of the template joined before they are handed on: fewer writes, and still far from a whole page."""

BIN_PERCENT = 5
"""Width of the bars in the chart of lesion percent; divides 25, so that no bar straddles a class edge."""

TICKS_PERCENT = (0, 1, 5, 10, 25, 50, 75, 100)
"""Marks on the square-root scale of lesion percent, which gives CT-1 (most studies) half the height."""

GOLDEN = (math.sqrt(5) - 1) / 2
"""Multiples of it, modulo 1, spread dots evenly whatever their number: a jitter without chance."""


@dataclass(frozen=True)
class ReportFacts:
    """What the page says beside the rows: where they come from and how they were made.

    Parameters
    ----------
    title : name of the data set or store.
    version : of fastct, that made the store.
    severity_rule : the rule that made the classes, as a sentence.
    noise_floor_percent : lesion percent that the threshold estimate gives for chests without lesions.
    settings : of the store, by name.
    created : ISO time, or empty (the page is then the same whenever it is made).
    missing_sources, unlisted_sources : what the registry names and the disk lacks, and the reverse.
    notes : further sentences for the reader.
    flag_meanings : a sentence for each word that may stand in `flags`.
    informing_flags : flags that tell of the input and cast no doubt on the figures.
    """

    title: str
    version: str
    severity_rule: str
    noise_floor_percent: float
    settings: Mapping[str, object] = field(default_factory=dict)
    created: str = ""
    missing_sources: Sequence[str] = ()
    unlisted_sources: Sequence[str] = ()
    notes: Sequence[str] = ()
    flag_meanings: Mapping[str, str] = field(default_factory=dict)
    informing_flags: Collection[str] = ()


class _Entry(NamedTuple):
    """One line of the work list."""

    number: int
    row: Row
    severity: str
    category: str
    percent: float
    flags: tuple[str, ...]
    near_edge: bool
    doubtful: bool
    differs: bool
    """Whether the registry's class and ours are both known and not the same."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Words that the page's filter knows this study by."""
        told = {"near edge": self.near_edge, "doubtful": self.doubtful, "differs": self.differs}
        return (*(word for word, holds in told.items() if holds), *self.flags)


def render_report(rows: Sequence[Row], pictures: Mapping[str, StudyPictures], facts: ReportFacts) -> Iterator[str]:
    """The report, piece by piece, so that it is never held whole.

    Failed studies come first, then figures and charts, then the work list, highest severity first. The
    pictures of a study lie in the page as text and are decoded when the study is opened. The same rows,
    pictures and facts give the same page.

    Parameters
    ----------
    rows : columns of studies.csv by name, numbers as numbers, None or "" where empty.
    pictures : by study_id, looked up once each, in the order of the page; studies may lack.
    facts : what else the page says.

    Examples
    --------
    >>> rows = [{"study_id": "study_0001", "status": "done", "severity": "CT-1", "lesion_percent": 3.5}]
    >>> facts = ReportFacts("Trial", "1.0", "CT-1: above 0 up to 25 %.", 1.5)
    >>> page = "".join(render_report(rows, {}, facts))
    >>> page.startswith("<!doctype html>"), page.count("study_0001") > 0
    (True, True)
    """
    entries, columns = _work_list(rows, facts), list(dict.fromkeys(name for row in rows for name in row))
    stream = template("report").stream(
        facts=facts,
        failed=[row for row in rows if row.get("status") == "failed"],
        entries=entries[:LISTED],
        total=len(entries),
        counts=_counts(rows, entries),
        classes=CLASSES,
        class_counts=_class_counts(entries),
        flag_counts=sorted(Counter(flag for entry in entries for flag in entry.flags).items()),
        columns=columns,
        histogram_hu=HISTOGRAM_HU,
        ground_glass_hu=GROUND_GLASS_HU,
        bars=_percent_bars(entries),
        compared=_compared(entries),
        edge_changes=edge_changes(entry.row for entry in entries),
        block=_Blocks(columns, pictures),
        setting=_setting,
    )
    stream.enable_buffering(PIECES)
    yield from map(as_utf8, stream)


def _work_list(rows: Sequence[Row], facts: ReportFacts) -> list[_Entry]:
    """Studies that did not fail: highest severity first, then percent, then name.

    Those in which no lung was found, which have no class, come before all others, and unscored ones last.
    """
    entries = [_entry(n, row, facts) for n, row in enumerate(rows) if row.get("status") != "failed"]
    return sorted(
        entries,
        key=lambda entry: (
            _rank(entry),
            -entry.percent if math.isfinite(entry.percent) else 1.0,
            str(entry.row.get("study_id", "")),
        ),
    )


def _rank(entry: _Entry) -> int:
    if entry.severity:
        return -CLASSES.index(entry.severity)
    return -len(CLASSES) if LUNGLESS in entry.flags else 1


def _entry(place: int, row: Row, facts: ReportFacts) -> _Entry:
    severity, category = (str(row.get(name) or "") for name in ("severity", "category"))
    severity = severity if severity in CLASSES else ""
    percent = number(row.get("lesion_percent"))
    flags = tuple(flag for flag in str(row.get("flags") or "").split(";") if flag)
    near_edge = row.get("lesion_source") == "threshold" and any(
        abs(percent - edge) <= facts.noise_floor_percent for edge in EDGES_PERCENT
    )
    doubtful = near_edge or any(flag not in facts.informing_flags for flag in flags)
    differs = severity != "" and category in CLASSES and severity != category
    return _Entry(place, row, severity, category, percent, flags, near_edge, doubtful, differs)


def _counts(rows: Sequence[Row], entries: Sequence[_Entry]) -> dict[str, int]:
    """Figures for the head of the page."""
    return {
        "studies": len(rows),
        "scored": sum(entry.severity != "" for entry in entries),
        "failed": len(rows) - len(entries),
        "unscored": sum(entry.severity == "" for entry in entries),
        "doubtful": sum(entry.doubtful for entry in entries),
        "differs": sum(entry.differs for entry in entries),
        "masks": sum(entry.row.get("lesion_source") == "mask" for entry in entries),
    }


def _class_counts(entries: Sequence[_Entry]) -> list[tuple[str, int, int]]:
    """Each class with the number of studies that we and that the registry put in it."""
    ours = Counter(entry.severity for entry in entries)
    theirs = Counter(entry.category for entry in entries)
    return [(name, ours[name], theirs[name]) for name in CLASSES]


def _percent_bars(entries: Sequence[_Entry]) -> list[tuple[int, list[int]]]:
    """First percent of each bar and its studies by class; wholly diseased lungs count in the last bar."""
    last = 100 // BIN_PERCENT - 1
    bars = [(n * BIN_PERCENT, [0] * len(CLASSES)) for n in range(last + 1)]
    for entry in entries:
        if entry.severity and math.isfinite(entry.percent):
            place = min(max(int(entry.percent // BIN_PERCENT), 0), last)
            bars[place][1][CLASSES.index(entry.severity)] += 1
    return bars


class _Column(NamedTuple):
    """Dots of one registry class in the chart of lesion percent: heights and sideways places in [0, 1]."""

    name: str
    dots: tuple[tuple[float, float], ...]
    median: float


class _Compared(NamedTuple):
    """Agreement with what the template needs to draw it."""

    found: Agreement
    shades: list[list[int]]
    columns: list[_Column]
    ticks: list[tuple[int, float]]


def _compared(entries: Sequence[_Entry]) -> _Compared | None:
    found = agreement(entry.row for entry in entries)
    if found is None:
        return None
    shades = [[round(9 * cell / max(sum(line), 1)) for cell in line] for line in found.confusion.tolist()]
    columns = []
    for name, median in zip(CLASSES, found.medians_percent, strict=True):
        inside = sorted(e.percent for e in entries if e.category == name and math.isfinite(e.percent))
        dots = tuple((_height(percent), (0.5 + n * GOLDEN) % 1) for n, percent in enumerate(inside))
        columns.append(_Column(name, dots, _height(median)))
    return _Compared(found, shades, columns, [(percent, _height(percent)) for percent in TICKS_PERCENT])


def _height(percent: float) -> float:
    """Place on the square-root scale, 0 to 1; NaN stays NaN."""
    return math.sqrt(min(max(percent, 0.0), 100.0) / 100.0) if math.isfinite(percent) else percent


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)


class _Blocks:
    """Makes the text of each study for the page's script: a JSON object in which nothing ends the element.

    Pictures are looked up while there is room for them.
    """

    def __init__(self, columns: Sequence[str], pictures: Mapping[str, StudyPictures]) -> None:
        self.columns, self.pictures, self.left_bytes = columns, pictures, PICTURES_BYTES

    def __call__(self, row: Row) -> Markup:
        values = json.dumps([_plain(row.get(name)) for name in self.columns], separators=(",", ":"))
        drawn = self.pictures.get(str(row.get("study_id", ""))) if self.left_bytes > 0 else None
        text = drawn.to_json() if drawn else "null"
        self.left_bytes -= len(text)
        return harmless(f'{{"row":{values},"pictures":{text}}}')


def _plain(value: object) -> object:
    """A value that JSON can hold: NaN and infinities become null, what is unknown becomes text."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)
