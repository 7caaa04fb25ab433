"""A store's report: rows, pictures and facts of the store, given to the page."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from fastct.flags import FLAG_MEANINGS, INFORMING_FLAGS
from fastct.lesions import NOISE_FLOOR_PERCENT
from fastct.pictures import StudyPictures
from fastct.records import read_listing
from fastct.report import ReportFacts, render_report
from fastct.scoring import PICTURES, read_pictures
from fastct.sealed import seal_page
from fastct.storage import Storage, open_storage
from fastct.store import Store, read_manifest

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
        If there is no store, or it cannot be written.
    """
    storage = open_storage(store, storage_options)
    manifest, listing = read_manifest(storage), read_listing(storage)
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
    page = "".join(render_report(Store(storage).table, _Pictures(storage), facts))
    storage.write(REPORT, seal_page(page))
    storage.sweep()
    return storage.location(REPORT)


class _Pictures(Mapping[str, StudyPictures]):
    """The pictures of a store's studies, read when they are asked for: never all at once in memory."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def __getitem__(self, study_id: str) -> StudyPictures:
        found = read_pictures(self.storage, study_id)
        if found is None:
            raise KeyError(study_id)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".json") for name in self.storage.names(PICTURES))

    def __len__(self) -> int:
        return sum(1 for _ in self)
