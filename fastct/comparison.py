"""Two studies of one patient: what became of lungs and lesions, in figures and in pictures side by side."""

import os
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastct.errors import StoreError
from fastct.flags import LUNGLESS
from fastct.lesions import NOISE_FLOOR_PERCENT
from fastct.montage import Panel
from fastct.pages import as_utf8, template
from fastct.pictures import StudyPictures, place_in_lungs, study_pictures
from fastct.records import Row
from fastct.sealed import seal_page
from fastct.storage import open_storage
from fastct.store import Store, Study
from fastct.store import open as open_store

GROWTH_PERCENT = 50.0
"""Growth of the lesions within 24 to 48 hours that defines CT-3 beside their share of the lungs (Morozov et al. 2020,
Table 1, doi:10.17816/DD46826). The files hold no time of the scan: whoever reads the figure must know it."""

LUNG_CHANGE_PERCENT = 15.0
"""Lungs that differ by more were probably filled to another depth, or cut by the field of view: the same lesion is then
another share of them. Chosen to raise a note, not measured."""


PAGES = "comparisons"


@dataclass(frozen=True)
class Change:
    """A figure of both studies; `None` where a study has none."""

    before: float | None
    after: float | None

    @property
    def difference(self) -> float | None:
        """After less before: mL of volumes, percentage points of percentages."""
        return None if self.before is None or self.after is None else self.after - self.before

    @property
    def percent(self) -> float | None:
        """The difference in percent of what was before; None where that was nothing."""
        return 100.0 * self.difference / self.before if self.difference is not None and self.before else None


@dataclass(frozen=True)
class Comparison:
    """What changed from one study to the next.

    `figures` are columns of `studies.csv` by name; `severity` the classes; `grew` tells whether the volume of the
    lesions grew by `GROWTH_PERCENT` or more, and is None where that cannot be told; `notes` say why, and what else the
    reader must know.
    """

    first: str
    second: str
    figures: Mapping[str, Change]
    severity: tuple[str, str]
    grew: bool | None
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Everything, as values that JSON holds."""
        figures = {name: [change.before, change.after] for name, change in self.figures.items()}
        severity = [name or None for name in self.severity]
        told = {"severity": severity, "grew": self.grew, "notes": list(self.notes)}
        return {"from": self.first, "to": self.second, **figures, **told}

    def lines(self) -> dict[str, str]:
        """Everything, as lines for a person."""
        said = {"from": self.first, "to": self.second}
        said |= {name: _line(name, change) for name, change in self.figures.items()}
        told = {True: "yes", False: "no", None: "cannot be told"}[self.grew]
        said |= {
            "severity": " → ".join(name or "none" for name in self.severity),
            f"growth of {GROWTH_PERCENT:.0f} % or more": told,
        }
        return said | {f"note {number}": note for number, note in enumerate(self.notes, 1)}


FIGURES = (
    "lung_ml",
    "lung_right_ml",
    "lung_left_ml",
    "lesion_ml",
    "lesion_percent",
    "lesion_percent_right",
    "lesion_percent_left",
    "lesion_percent_max",
)


def compare(
    store: str | os.PathLike[str], first: str, second: str, storage_options: Mapping[str, Any] | None = None
) -> Comparison:
    """Compare two scored studies of one patient.

    Parameters
    ----------
    store : folder or URL of the store.
    first, second : ids of the earlier and of the later study.
    storage_options : for a store on an object store.

    Raises
    ------
    StoreError
        If a study is not there, or not scored.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     _ = fastct.convert(f"{folder}/ct", f"{folder}/store", workers=1)
    ...     _ = fastct.score(f"{folder}/store", workers=1)
    ...     compare(f"{folder}/store", "study_0001", "study_0002").severity
    ('CT-0', 'CT-1')
    """
    opened = open_store(store, storage_options)
    return _compared(*(_scored_row(opened, study_id) for study_id in (first, second)))


def write_comparison(
    store: str | os.PathLike[str], first: str, second: str, storage_options: Mapping[str, Any] | None = None
) -> str:
    """Write the page of `comparison_page` into the store's folder `comparisons`, and say where it lies.

    Parameters and errors are those of `compare`.
    """
    storage, key = open_storage(store, storage_options), f"{PAGES}/{first}_{second}.html"
    storage.write(key, seal_page(comparison_page(store, first, second, storage_options)))
    storage.sweep()
    return storage.location(key)


def comparison_page(
    store: str | os.PathLike[str], first: str, second: str, storage_options: Mapping[str, Any] | None = None
) -> str:
    """The comparison as one self-contained HTML page: figures, and pictures of the same planes side by side.

    The planes go through the most lesion of the study that has more of it, and through the same place of the lungs in
    the other one, as a share of their height, depth and width: no voxel is moved.

    Parameters and errors are those of `compare`.
    """
    opened = open_store(store, storage_options)
    rows = [_scored_row(opened, study_id) for study_id in (first, second)]
    studies = [opened[study_id] for study_id in (first, second)]
    fuller = studies[max((0, 1), key=lambda number: rows[number].get("lesion_ml") or 0.0)]
    share = place_in_lungs(fuller.lungs, fuller.lesion, fuller.geometry)
    pictures = [study_pictures(study.hu, study.lungs, study.lesion, study.geometry, share) for study in studies]
    sides = zip(studies, rows, pictures, strict=True)
    facts = {
        "compared": _compared(*rows),
        "sides": [{"study": s.study_id, "row": row, **_drawn(drawn)} for s, row, drawn in sides],
        "names": [name for name in _panels(pictures[0]) if name in _panels(pictures[1])],
        "growth_percent": GROWTH_PERCENT,
        "noise_floor_percent": NOISE_FLOOR_PERCENT,
        "version": opened.manifest["fastct"],
        "title": opened.storage.name,
    }
    return as_utf8(template("comparison").render(facts))


def _scored_row(store: Store, study_id: str) -> Row:
    study: Study = store[study_id]
    record = study.record
    if record is None or record.status != "done":
        finding = record.error if record is not None and record.error else "it is not scored"
        raise StoreError(f"study {study_id}", finding, "Run `fastct score` on the store")
    return record.table_row()


def _compared(before: Row, after: Row) -> Comparison:
    figures = {name: Change(_number(before[name]), _number(after[name])) for name in FIGURES}
    lung, lesion = figures["lung_ml"], figures["lesion_ml"]
    notes = ["The files hold no time: whether 24 to 48 hours lie between the two is for the reader to know."]
    if before["lesion_source"] != after["lesion_source"]:
        notes.append("One lesion mask is an expert's, the other an estimate from HU: they are not drawn alike.")
    if lung.percent is not None and abs(lung.percent) > LUNG_CHANGE_PERCENT:
        notes.append("The lungs differ much in volume: another depth of breath, or cut by the field of view.")
    grew = None if lesion.percent is None else lesion.percent >= GROWTH_PERCENT
    lungless = [str(row["study_id"]) for row in (before, after) if LUNGLESS in str(row["flags"]).split(";")]
    if lungless:
        notes.append(f"No lung was found in {' and '.join(lungless)}: what became of the lesions cannot be told.")
        grew = None
    elif _is_noise(before):
        notes.append(f"The first study has no lesion above the noise floor of {NOISE_FLOOR_PERCENT:g} %.")
        grew = None
    severity = str(before["severity"]), str(after["severity"])
    return Comparison(str(before["study_id"]), str(after["study_id"]), figures, severity, grew, tuple(notes))


def _is_noise(row: Row) -> bool:
    """Whether what was found in a study may be nothing."""
    percent = _number(row["lesion_percent"]) or 0.0
    return percent == 0 or (row["lesion_source"] == "threshold" and percent < NOISE_FLOOR_PERCENT)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _line(name: str, change: Change) -> str:
    if change.before is None or change.after is None or change.difference is None:
        return "not known"
    unit, of_difference = ("mL", "mL") if name.endswith("_ml") else ("%", "points")
    relative = "" if change.percent is None else f", {change.percent:+.0f} %"
    return f"{change.before:.1f} → {change.after:.1f} {unit} ({change.difference:+.1f} {of_difference}{relative})"


def _drawn(pictures: StudyPictures) -> dict[str, Any]:
    """What the template needs of a study's pictures."""
    images = {name: b64encode(getattr(pictures, name)).decode() for name in ("montage", "overlay")}
    return {**images, "size_px": pictures.size_px, "panels": _panels(pictures)}


def _panels(pictures: StudyPictures) -> dict[str, Panel]:
    return {panel.name: panel for panel in pictures.panels}
