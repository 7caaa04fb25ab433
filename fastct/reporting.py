"""A store's report: rows, pictures and facts of the store, given to the page."""

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fastct.flags import FLAG_MEANINGS, INFORMING_FLAGS
from fastct.lesions import NOISE_FLOOR_PERCENT
from fastct.pictures import StudyPictures
from fastct.records import read_listing
from fastct.report import ReportFacts, render_report
from fastct.scoring import read_pictures
from fastct.sealed import seal_page
from fastct.storage import Storage, open_storage
from fastct.store import Store, check_records, read_manifest

REPORT = "report.html"
SEVERITY_RULE = (
    "Share of the lungs that is lesion: CT-0: 0 %; CT-1: above 0 up to 25 %; CT-2: above 25 up to 50 %; "
    "CT-3: above 50, below 75 %; CT-4: 75 % and more. A study without expert mask whose estimate lies under "
    "the noise floor counts as CT-0."
)


def write_report(store: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> str:
    """Write `report.html` into a store, and say where it lies.

    Parameters
    ----------
    store : folder or URL of the store.
    storage_options : what opening a URL takes.

    Raises
    ------
    StoreError
        If there is no store, one whose records are gone, or it cannot be written.
    """
    storage = open_storage(store, storage_options)
    manifest, listing = read_manifest(storage), read_listing(storage)
    check_records(storage)
    facts = ReportFacts(
        title=storage.name,
        version=manifest["fastct"],
        severity_rule=SEVERITY_RULE,
        noise_floor_percent=NOISE_FLOOR_PERCENT,
        settings=manifest["settings"],
        missing_sources=listing["missing"],
        unlisted_sources=listing["unlisted"],
        notes=listing["notes"],
        flag_meanings=FLAG_MEANINGS,
        informing_flags=INFORMING_FLAGS,
    )
    rows = Store(storage).table
    scored = {row["study_id"] for row in rows if row["status"] == "done"}
    page = "".join(render_report(rows, _Pictures(storage, scored), facts))
    storage.write(REPORT, seal_page(page))
    storage.sweep()
    return storage.location(REPORT)


class _Pictures(Mapping[str, StudyPictures]):
    """The pictures of a store's scored studies, read when they are asked for: never all at once in memory.

    Of a study that was converted anew there may be some that show what it was.
    """

    def __init__(self, storage: Storage, scored: Collection[str]) -> None:
        self.storage, self.scored = storage, scored

    def __getitem__(self, study_id: str) -> StudyPictures:
        found = read_pictures(self.storage, study_id) if study_id in self.scored else None
        if found is None:
            raise KeyError(study_id)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.scored)

    def __len__(self) -> int:
        return len(self.scored)
