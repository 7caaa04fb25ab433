"""Whether a store is what its records say, and its repair: every file is sealed, or its checksum is known."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from fastct._ext.shard import crc32c
from fastct.comparison import PAGES
from fastct.errors import OptionError, StoreError
from fastct.foreground import FOREGROUND, foreground_key
from fastct.integrity import Fault, check_study
from fastct.ome import LABELS
from fastct.pipeline import OnEvent, ignore
from fastct.publish import STUDIES_GROUP, studies_group
from fastct.records import LISTING, RECORDS, read_listing, read_records, record_ids
from fastct.repairing import MANIFEST as SETTINGS
from fastct.repairing import PAGE, REPAIR, TABLES, TOLD, Sources, repair_store, unfinished
from fastct.reporting import REPORT
from fastct.scoring import PICTURES, picture_key
from fastct.sealed import check_page, unseal
from fastct.storage import CLAIMS, STAGING, WORK, Storage, open_storage
from fastct.store import ENDING, MANIFEST, STUDIES, Store, read_manifest
from fastct.tables import PARQUET, SUMS, TABLE, table_text

MISSING = "it is missing"
TOP = {MANIFEST, STUDIES, WORK, TABLE, PARQUET, REPORT, PAGES}
BESIDE = {RECORDS, PICTURES, FOREGROUND, CLAIMS, STAGING, LISTING, SUMS, REPAIR}


def verify(
    store: str | os.PathLike[str],
    storage_options: Mapping[str, Any] | None = None,
    *,
    repair: bool = False,
    source: str | os.PathLike[str] | None = None,
    on_event: OnEvent | None = None,
) -> list[Fault]:
    """Check every byte of a store, and make what is broken anew where that is wanted.

    Parameters
    ----------
    store : folder or URL of the store.
    storage_options : what opening a URL takes.
    repair : do again what has a fault, and nothing else: convert a study from its source, score it, write tables,
        report, pages and settings. A source that is gone or has changed is left to you, and so is a file that is
        no part of a store.
    source : where the sources lie now; by default where they lay when they were converted.
    on_event : called after each study that is done again.

    Returns
    -------
    list of Fault
        What is wrong when it returns: empty when all is well.

    Raises
    ------
    OptionError
        If a source is given without repair.
    StoreError
        If there is no fastct store to check, or it cannot be read, or not be repaired.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     _ = fastct.convert(f"{folder}/ct", f"{folder}/store", workers=1)
    ...     verify(f"{folder}/store")
    []
    """
    if source is not None and not repair:
        raise OptionError("source", "it is given without repair", "Give --repair as well, or leave the source out")
    storage = open_storage(store, storage_options)
    if not storage.exists(MANIFEST) and not record_ids(storage):
        read_manifest(storage)  # says that this is no store
    faults = find_faults(storage)
    if not repair or not faults:
        return faults
    reasons = repair_store(storage, faults, Sources(storage, source, storage_options), on_event or ignore)
    return [_with_reason(fault, reasons) for fault in find_faults(storage)]


def _with_reason(fault: Fault, reasons: Mapping[str, str]) -> Fault:
    reason = reasons.get(fault.study_id or fault.key)
    return replace(fault, finding=f"{fault.finding}; {reason}") if reason else fault


def find_faults(storage: Storage) -> list[Fault]:
    """All faults of a store: those of the store first, then those of each study."""
    store = Store(storage)
    faults = [*_sealed(storage), *_strays(storage, store), *_tables(storage), *_pages(storage), *unfinished(storage)]
    for study_id in sorted({*store, *record_ids(storage)}):
        faults += check_study(storage, study_id)
    return faults


def _sealed(storage: Storage) -> Iterator[Fault]:
    """The documents of the store itself."""
    documents: tuple[tuple[str, str, Callable[[Storage], object]], ...] = (
        (MANIFEST, SETTINGS, read_manifest),
        (LISTING, TOLD, read_listing),
    )
    for key, redo, read in documents:
        try:
            read(storage)
            finding = "" if storage.exists(key) else MISSING
        except StoreError as error:
            finding = error.finding
        if finding:
            yield Fault("", key, finding, redo)
    if _look(storage, STUDIES_GROUP)[0] != studies_group():
        yield Fault("", STUDIES_GROUP, "it is missing or changed", SETTINGS)


def _strays(storage: Storage, store: Store) -> Iterator[Fault]:
    """Files that are no part of a store."""
    known = {*record_ids(storage), *store}
    foregrounds = {foreground_key(label, study_id) for label in LABELS for study_id in known}
    foregrounds |= {f"{FOREGROUND}/{label}" for label in LABELS}  # folders that a full disk left empty
    pictures = {picture_key(study_id) for study_id in known}
    strays = [name for name in storage.names("") if name not in TOP]
    strays += [f"{WORK}/{name}" for name in storage.names(WORK) if f"{WORK}/{name}" not in BESIDE]
    strays += [f"{RECORDS}/{name}" for name in storage.names(RECORDS) if not name.endswith(".json")]
    strays += set(_keys(storage, PICTURES)) - pictures
    strays += {key for label in _keys(storage, FOREGROUND) for key in _keys(storage, label) or [label]} - foregrounds
    published = {"zarr.json", *(f"{study_id}{ENDING}" for study_id in known)}
    strays += [f"{STUDIES}/{name}" for name in storage.names(STUDIES) if name not in published]
    yield from (Fault("", key, "no part of a store has this name") for key in sorted(strays))


def _tables(storage: Storage) -> Iterator[Fault]:
    """The tables, which follow from the records, and their checksums."""
    sums: dict[str, Any] = {}
    text, finding = _look(storage, SUMS)
    try:
        sums = unseal(text or b"")
    except ValueError as error:
        yield Fault("", SUMS, finding or f"these are no checksums of tables ({error})", TABLES)
    for name in (TABLE, PARQUET):
        payload, finding = _look(storage, name)
        if payload is None and (name == TABLE or name in sums or finding != MISSING):
            yield Fault("", name, finding, TABLES)
        elif payload is not None and sums.get(name) != [len(payload), crc32c(payload)]:
            yield Fault("", name, f"its bytes changed: the checksum is not that of {SUMS}", TABLES)
        if name == TABLE and payload not in (None, table_text(read_records(storage)).encode()):
            yield Fault("", name, "it differs from what the records say", TABLES)


def _pages(storage: Storage) -> Iterator[Fault]:
    """The report and the comparisons, where there are any."""
    for key in [REPORT, *sorted(_keys(storage, PAGES))]:
        page, finding = _look(storage, key)
        try:
            check_page(page or b"")
        except ValueError as error:
            if finding != MISSING:
                yield Fault("", key, finding or str(error), PAGE)


def _look(storage: Storage, key: str) -> tuple[bytes | None, str]:
    """The bytes under a key, or why there are none."""
    try:
        found = storage.find(key)
    except StoreError as error:
        return None, error.finding
    return found, MISSING if found is None else ""


def _keys(storage: Storage, folder: str) -> list[str]:
    """Keys of all that lies directly in a folder, whether it can be read or not."""
    return [f"{folder}/{name}" for name in storage.names(folder)]
