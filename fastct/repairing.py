"""Repair of a store: what has a fault is done again, from its source or from what the store holds; nothing else is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from sys import maxsize
from typing import Any

from fastct import pipeline
from fastct.comparison import PAGES, write_comparison
from fastct.conversion import ConvertTask, same_files
from fastct.errors import FastctError, StoreError
from fastct.foreground import foreground_key, write_foreground
from fastct.integrity import CONVERT, FOREGROUND, SCORE, Fault
from fastct.mosmed import Listing, find_studies
from fastct.nifti.sources import AnyFile
from fastct.options import CODECS, ConvertOptions, RunOptions, fingerprint
from fastct.pipeline import Job, OnEvent
from fastct.publish import convert_settings, create_store
from fastct.records import LISTING, Record, read_listing, read_record, read_records, write_listing
from fastct.reporting import REPORT, write_report
from fastct.scoring import ScoreTask, picture_key
from fastct.sealed import seal, unseal
from fastct.storage import WORK, Storage, as_place
from fastct.store import IMAGE, Store, read_manifest
from fastct.store import Study as Stored
from fastct.tables import write_tables

MANIFEST, TABLES, TOLD, PAGE = "manifest", "tables", "listing", "page"
REPAIR = f"{WORK}/repair.json"  # studies that are to be scored again, while a repair lasts
Reasons = dict[str, str]  # why something could not be repaired, by study, or by key where it is none's


class Sources:
    """Where the studies of a store came from."""

    def __init__(self, storage: Storage, given: AnyFile | None, options: Mapping[str, Any] | None) -> None:
        self._storage, self.options = storage, options
        self._listings: dict[AnyFile, Listing | FastctError] = {}
        self.origins = (given,) if given else tuple(self._known())

    def listing(self, origin: AnyFile) -> Listing:
        """What lies at an origin now; looked at once."""
        if origin not in self._listings:
            try:
                self._listings[origin] = find_studies(origin, self.options)
            except FastctError as error:
                self._listings[origin] = error
        found = self._listings[origin]
        if isinstance(found, FastctError):
            raise found
        return found

    def task(self, study_id: str, record: Record | None) -> ConvertTask | str:
        """How to convert a study as it was converted, or why that cannot be done."""
        reason = "no source is known: name it with --source"
        for origin in self.origins:
            try:
                source = next((one for one in self.listing(origin).studies if one.study_id == study_id), None)
            except FastctError as error:
                reason = f"its source cannot be read: {error.subject}: {error.finding}"
                continue
            if source is None:
                reason = f"its source is gone: {origin} has no study {study_id}"
            elif record and record.source_files and not same_files(record.source_files, source):
                reason = f"its source has changed: {source.path} is not what was converted"
            else:
                limit_bytes = maxsize if record else ConvertOptions.limit_bytes  # what was read once is no bomb
                options = ConvertOptions(_codec(self._storage, record), limit_bytes)
                return ConvertTask(source, self._storage.place, options, str(as_place(origin)))
        return reason

    def _known(self) -> Iterable[AnyFile]:
        """The last source, then those that records name."""
        try:
            last = read_listing(self._storage)["origin"]
        except StoreError:
            last = ""
        return dict.fromkeys(filter(None, (last, *(record.origin for record in read_records(self._storage)))))


def repair_store(storage: Storage, faults: Sequence[Fault], sources: Sources, on_event: OnEvent) -> Reasons:
    """Do again what has a fault; why that could not be done, where it could not."""
    reasons: Reasons = {}
    wanted = {fault.redo for fault in faults}
    if MANIFEST in wanted:
        create_store(storage, convert_settings(ConvertOptions(_codec(storage, None))))
    _redo_studies(storage, faults, sources, on_event, reasons)
    if TABLES in wanted:
        write_tables(storage, read_records(storage))
    if TOLD in wanted:
        _write_listing(storage, sources, reasons)
    for fault in faults:
        if fault.redo == FOREGROUND:
            _write_foreground(storage, fault)
        elif fault.redo == PAGE:
            _write_page(storage, fault.key, sources.options, reasons)
    return reasons


def _redo_studies(
    storage: Storage, faults: Sequence[Fault], sources: Sources, on_event: OnEvent, reasons: Reasons
) -> None:
    """Convert again the studies whose files need it, and score again those and the ones whose labels do."""
    to_convert: list[ConvertTask] = []
    to_score = {fault.study_id for fault in faults if fault.study_id and (fault.redo == SCORE or fault.key == REPAIR)}
    for study_id in sorted({fault.study_id for fault in faults if fault.redo == CONVERT}):
        record = _record(storage, study_id)
        task = sources.task(study_id, record)
        if isinstance(task, str):
            reasons[study_id] = task
            continue
        to_convert.append(task)
        if record.scored if record else storage.exists(picture_key(study_id)):
            to_score.add(study_id)
    to_score -= set(reasons)
    run = RunOptions(workers=1, overwrite=True)
    if to_convert:
        storage.write(REPAIR, seal({"score": sorted(to_score)}))
        Job(pipeline.CONVERT, storage, run, on_event).work(to_convert)
    known = {study_id: _record(storage, study_id) for study_id in sorted(to_score)}
    tasks = [
        ScoreTask(study_id, storage.place, sum(size for size, _ in record.keys.values()))
        for study_id, record in known.items()
        if record and record.failed_at != pipeline.CONVERT.name
    ]
    scored = Job(pipeline.SCORE, storage, run, on_event).work(tasks).done if tasks else ()
    if left := to_score.difference(scored):
        storage.write(REPAIR, seal({"score": sorted(left)}))
    else:
        storage.remove(REPAIR)


def unfinished(storage: Storage) -> Iterator[Fault]:
    """What a repair that was cut short had converted, and not yet scored again."""
    text = storage.find(REPAIR)
    if text is None:
        return
    try:
        left = [str(study_id) for study_id in unseal(text)["score"]]
    except (ValueError, KeyError, TypeError) as error:
        yield Fault("", REPAIR, f"this is no list of a repair ({error})", SCORE)
        return
    for study_id in left:
        record = _record(storage, study_id)
        redo = SCORE if record and record.failed_at != pipeline.CONVERT.name else CONVERT
        yield Fault(study_id, REPAIR, "a repair of this study did not end", redo)


def _record(storage: Storage, study_id: str) -> Record | None:
    """A study's record; None where there is none, or none that can be read."""
    with suppress(StoreError):
        return read_record(storage, study_id)
    return None


def _codec(storage: Storage, record: Record | None) -> str:
    """How a study was coded; of a study without record, how the store's settings or its first study say."""
    for codec in CODECS:
        if record and record.converted == fingerprint(convert_settings(ConvertOptions(codec))):
            return codec
    with suppress(StoreError):
        return str(read_manifest(storage)["settings"]["codec"])
    for study in map(Store(storage).__getitem__, Store(storage)):
        with suppress(StoreError):
            return str(study.metadata["attributes"]["fastct"]["codec"])
    return CODECS[0]


def _write_listing(storage: Storage, sources: Sources, reasons: Reasons) -> None:
    reasons[LISTING] = "no source is known: name it with --source"
    for origin in sources.origins:
        try:
            write_listing(storage, str(as_place(origin)), sources.listing(origin).told)
        except FastctError as error:
            reasons[LISTING] = f"its source cannot be read: {error.subject}: {error.finding}"
        else:
            del reasons[LISTING]
            return


def _write_foreground(storage: Storage, fault: Fault) -> None:
    """Make the foreground of a label anew from its mask."""
    study = Stored(storage, fault.study_id)
    for label in study.labels:
        if fault.key == foreground_key(label, fault.study_id):
            mark = study.shards[f"labels/{label}/{IMAGE}"]
            write_foreground(storage, fault.study_id, label, study.label(label), mark)


def _write_page(storage: Storage, key: str, options: Mapping[str, Any] | None, reasons: Reasons) -> None:
    """Write the report or a comparison again; whose comparison it is, its name says."""
    try:
        if key == REPORT:
            write_report(storage.place.url, options)
            return
        words = key.removeprefix(f"{PAGES}/").removesuffix(".html").split("_")
        pairs = [("_".join(words[:n]), "_".join(words[n:])) for n in range(1, len(words))]
        store = Store(storage)
        for first, second in pairs:
            if first in store and second in store:
                write_comparison(storage.place.url, first, second, options)
                return
        reasons[key] = "its name is not that of two studies of the store"
    except StoreError as error:
        reasons[key] = f"{error.subject}: {error.finding}"
