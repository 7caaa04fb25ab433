"""What is known of each study: one JSON record a study."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fastct.errors import StoreError
from fastct.sealed import seal, unseal
from fastct.storage import WORK, Storage

RECORDS = f"{WORK}/records"
LISTING = f"{WORK}/listing.json"
UNREADABLE = "record"  # what failed, beside the stages: the study's record itself
COLUMNS = (
    "study_id",
    "category",
    "status",
    "error",
    "source",
    "shape_z",
    "shape_y",
    "shape_x",
    "spacing_z_mm",
    "spacing_y_mm",
    "spacing_x_mm",
    "hu_min",
    "hu_max",
    "lung_ml",
    "lung_right_ml",
    "lung_left_ml",
    "lesion_source",
    "lesion_ml",
    "lesion_percent",
    "lesion_percent_right",
    "lesion_percent_left",
    "lesion_percent_max",
    "opacity_percent",
    "severity",
    "flags",
    "lesion_mean_hu",
    "lesion_ground_glass_percent",
    "lesion_consolidation_percent",
    "lesion_outside_ml",
    "notes",
)
READ_AT_ONCE = 1024  # records, so that memory does not grow with their number
Row = dict[str, Any]


@dataclass(frozen=True)
class Record:
    """All that is kept of a study.

    `status` is "converted", "done" or "failed", and `failed_at` the stage; `origin` is the path or URL that was
    given as the source; `source_files` says of each file that was read its size, mtime and SHA-256; `converted`
    and `scored` are fingerprints of the settings that made the image and the labels; `keys` gives size and CRC-32C
    of every file of the study in the store; `notes` say what was done to its file's voxels and affine; `row` holds
    the table's columns.
    """

    study_id: str
    category: str = ""
    status: str = "failed"
    error: str = ""
    failed_at: str = ""
    source: str = ""
    origin: str = ""
    source_files: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    converted: str = ""
    scored: str = ""
    keys: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    row: Row = field(default_factory=dict)

    def table_row(self) -> Row:
        """The study's row of the table, every column there."""
        own = {key: getattr(self, key) for key in ("study_id", "category", "status", "error", "source")}
        own["notes"] = "; ".join(self.notes)
        return {column: own.get(column, self.row.get(column, "")) for column in COLUMNS}

    def failed(self, stage: str, error: str) -> "Record":
        """The same study with a failure to report."""
        return replace(self, status="failed", failed_at=stage, error=error)


def record_key(study_id: str) -> str:
    """Where a study's record lies in the store."""
    return f"{RECORDS}/{study_id}.json"


def write_record(storage: Storage, record: Record) -> None:
    """Write a study's record."""
    storage.write(record_key(record.study_id), seal(asdict(record)))


def read_record(storage: Storage, study_id: str) -> Record | None:
    """A study's record, or None when there is none.

    Raises
    ------
    StoreError
        If the record is there but is not one, or its bytes changed.
    """
    key = record_key(study_id)
    text = storage.find(key)
    if text is None:
        return None
    try:
        record = _from_json(unseal(text))
        if record.study_id != study_id:
            raise ValueError(f"it is of study {record.study_id}")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        cure = "Run `fastct verify --repair` on the store, or the same command again"
        raise StoreError(f"{storage}/{key}", f"this is no record ({error})", cure) from error
    return record


def known_record(storage: Storage, study_id: str) -> Record | None:
    """A study's record; where it cannot be read, that of a failed study of which nothing else is known."""
    try:
        return read_record(storage, study_id)
    except StoreError as error:
        return Record(study_id, error=str(error), failed_at=UNREADABLE)


def _from_json(fields: dict[str, Any]) -> Record:
    keys = {name: (int(size), int(crc)) for name, (size, crc) in fields["keys"].items()}
    return Record(**{**fields, "keys": keys, "notes": tuple(fields["notes"])})


def record_ids(storage: Storage) -> list[str]:
    """Ids of all studies that have a record, sorted."""
    return sorted(name.removesuffix(".json") for name in storage.names(RECORDS) if name.endswith(".json"))


def read_records(storage: Storage) -> Iterator[Record]:
    """All records, sorted by study, read as they are asked for; one that cannot be read is that of a failed study."""
    ids = record_ids(storage)
    for first in range(0, len(ids), READ_AT_ONCE):
        group = ids[first : first + READ_AT_ONCE]
        records = storage.side_by_side(lambda study_id: known_record(storage, study_id), group)
        yield from (record for record in records if record is not None)


def write_listing(storage: Storage, origin: str, found: Mapping[str, Sequence[str]]) -> None:
    """Keep, for the report, what the last source held beside its studies: lists of names and notes."""
    storage.keep(LISTING, seal({"origin": origin, **found}))


def read_listing(storage: Storage) -> dict[str, Any]:
    """What `write_listing` kept: "origin", and the lists "missing", "unlisted" and "notes"; nothing where none is.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    text = storage.find(LISTING)
    try:
        found = {} if text is None else unseal(text)
        lists = {name: [str(entry) for entry in found.get(name, ())] for name in ("missing", "unlisted", "notes")}
        return {"origin": str(found.get("origin", "")), **lists}
    except (ValueError, TypeError) as error:
        cure = "Run `fastct verify --repair` on the store"
        raise StoreError(f"{storage}/{LISTING}", f"this is no listing ({error})", cure) from error
