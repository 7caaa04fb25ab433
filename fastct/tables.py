"""The tables of a store, made anew from its records: studies.csv, and studies.parquet where pyarrow is there."""

import csv
import io
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import Any

from fastct._ext.shard import crc32c
from fastct.records import COLUMNS, Record, Row
from fastct.sealed import seal
from fastct.storage import WORK, Bytes, Storage

TABLE = "studies.csv"
PARQUET = "studies.parquet"
SUMS = f"{WORK}/tables.json"
DECIMALS = {"_mm": 6, "_ml": 3, "_hu": 2, "percent": 4, "percent_right": 4, "percent_left": 4, "percent_max": 4}
TEXTS = ("study_id", "category", "status", "error", "source", "lesion_source", "severity", "flags", "notes")
NUMBERS = ("shape_z", "shape_y", "shape_x", "hu_min", "hu_max")  # whole ones; all other columns are float64
GROUP_ROWS = 65_536  # rows that lie together in the Parquet file, and are held as Python values at a time


def write_tables(storage: Storage, records: Iterable[Record]) -> None:
    """Write all tables from the records, each whole and at once; then their sizes and checksums."""
    parquet = _Parquet() if find_spec("pyarrow") else None
    tables: dict[str, Bytes] = {TABLE: _csv(records, parquet).encode()}
    if parquet:
        tables[PARQUET] = parquet.payload()
    elif storage.exists(PARQUET):
        storage.remove(PARQUET)  # rather none than an old one
    for name, payload in tables.items():
        storage.write(name, payload)
    storage.write(SUMS, seal({name: [len(payload), crc32c(payload)] for name, payload in tables.items()}))


def table_text(records: Iterable[Record]) -> str:
    """The bytes of `studies.csv`, as text."""
    return _csv(records, None)


def _csv(records: Iterable[Record], parquet: "_Parquet | None") -> str:
    """The rows as CSV; and into a Parquet file, so that the records are read once."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for rows in _in_groups(record.table_row() for record in records):
        writer.writerows({name: as_text(name, value) for name, value in row.items()} for row in rows)
        if parquet:
            parquet.write(rows)
    return text.getvalue()


def as_text(column: str, value: Any) -> str:
    """A value as the table writes it: fixed decimals by unit, so that equal results are equal bytes.

    A file name may hold bytes that are no text: they are written as backslash and number.
    """
    if isinstance(value, float):
        digits = next((n for ending, n in DECIMALS.items() if column.endswith(ending)), 6)
        return f"{value:.{digits}f}"
    return str(value).encode("utf-8", "backslashreplace").decode()


class _Parquet:
    """A Parquet file in memory, to which groups of rows are added: numbers as they are, null where there is none."""

    def __init__(self) -> None:
        pyarrow = import_module("pyarrow")  # it carries no types
        kinds = dict.fromkeys(COLUMNS, pyarrow.float64())
        kinds |= dict.fromkeys(TEXTS, pyarrow.string()) | dict.fromkeys(NUMBERS, pyarrow.int32())
        self._table, self._schema = pyarrow.table, pyarrow.schema([(name, kinds[name]) for name in COLUMNS])
        self._file = io.BytesIO()
        self._writer = import_module("pyarrow.parquet").ParquetWriter(self._file, self._schema, compression="zstd")

    def write(self, rows: list[Row]) -> None:
        """Add a group."""
        columns = {name: [_value(name, row[name]) for row in rows] for name in COLUMNS}
        self._writer.write_table(self._table(columns, schema=self._schema))

    def payload(self) -> memoryview:
        """The file; nothing can be added any more."""
        self._writer.close()
        return self._file.getbuffer()


def _value(column: str, value: Any) -> Any:
    """Text, or a number, or None."""
    if column in TEXTS:
        return as_text(column, value)
    return value if isinstance(value, int | float) else None


def _in_groups(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while group := list(islice(rows, GROUP_ROWS)):
        yield group
