"""Reads dataset_registry.xlsx, or its CSV twin, into checked rows: nothing in it is trusted."""

import csv
import io
import re
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from fastct.errors import DataSetError, StoreError
from fastct.storage import Place, open_storage

REGISTRY_STEM = "dataset_registry"
COLUMNS = ("study_id", "category", "study_file", "mask_file")

# The real registry inflates to 240 KB for 1,110 studies, and openpyxl parses some 2 MB a second: this leaves
# room for 18,000 studies and stops before anyone waits. A CSV is read faster, and may be longer.
MAX_XLSX_BYTES = 4 << 20
MAX_CSV_BYTES = 16 << 20
MAX_ROWS = 100_000
_MAX_COLUMNS = 64
_MAX_PARTS = 1000  # files within an .xlsx; the real one has twelve
_MAX_CELL = 1024  # characters; paths and ids are short
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_Line = tuple[int, tuple[str, ...]]  # number in the file, and cells

_CURE = "Take the registry that came with the data set, or take it away to go by the folders alone"


@dataclass(frozen=True)
class Row:
    """One study as the registry names it; paths are relative to the root, posix, without '..'."""

    number: int
    study_id: str
    category: str
    study_file: str
    mask_file: str


def read_registry(path: Path | Place) -> tuple[Row, ...]:
    """The rows of an .xlsx or .csv registry.

    Columns are found by name, in any order: study_id, category, study_file and, where there are masks,
    mask_file. Leading slashes of paths mean the root of the data set.

    Raises
    ------
    DataSetError
        Names file and row: if the file cannot be read, is far larger than a registry, holds formulas, lacks
        a column, or names a study twice or a path that leaves the root.
    """
    lines = _csv_lines(path) if path.name.lower().endswith(".csv") else _xlsx_lines(path)
    if lines and lines[-1][0] > MAX_ROWS + 1:
        raise DataSetError(path, f"it has more than {MAX_ROWS:,} rows", _CURE)
    columns = _columns(path, lines[0][1] if lines else ())
    rows = tuple(_row(path, number, cells, columns) for number, cells in lines[1:])
    _check_unique(path, rows)
    return rows


def _xlsx_lines(path: Path | Place) -> list[_Line]:
    """The lines of the first sheet that are not empty, as text."""
    try:
        # From memory: openpyxl leaves a file open that it cannot make sense of.
        contents = io.BytesIO(_contents(path, MAX_XLSX_BYTES))
        _check_zip(path, contents)
        from openpyxl.reader.excel import load_workbook  # here: a quarter of a second, for .xlsx alone
        from openpyxl.xml import DEFUSEDXML

        if not DEFUSEDXML:
            raise DataSetError(path, "openpyxl would parse it without defusedxml", "Unset OPENPYXL_DEFUSEDXML")
        with warnings.catch_warnings():  # about styles and validations that do not matter here
            warnings.simplefilter("ignore")
            sheet = load_workbook(contents, read_only=True, keep_links=False).worksheets[0]
            # A cell may claim to stand in any row or column: openpyxl fills the gap up to these.
            table = sheet.iter_rows(1, MAX_ROWS + 2, 1, _MAX_COLUMNS, values_only=True)
            return [(n, tuple(map(_text, cells))) for n, cells in enumerate(table, start=1) if any(cells)]
    except DataSetError:
        raise
    except Exception as error:  # openpyxl lets out whatever its parts do: KeyError, TypeError, ParseError ...
        raise _unreadable(path, error) from error


def _check_zip(path: Path | Place, contents: io.BytesIO) -> None:
    """Refuse what would inflate to far more than a registry; zipfile reads no part beyond its stated size."""
    with zipfile.ZipFile(contents) as archive:
        parts = archive.infolist()
    inflated = sum(part.file_size for part in parts)
    if inflated > MAX_XLSX_BYTES or len(parts) > _MAX_PARTS:
        raise DataSetError(path, f"it inflates to {inflated:,} bytes in {len(parts)} parts", _CURE)


def _contents(path: Path | Place, most_bytes: int) -> bytes:
    if isinstance(path, Place):
        folder = open_storage(path.parent)
        size = min(folder.size_bytes(path.name), most_bytes + 1)
        contents = bytes(folder.read_range(path.name, 0, size)[0]) if size else b""
    elif path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise DataSetError(path, "it is a folder, a pipe or a device", _CURE)
    else:
        with path.open("rb") as file:
            contents = file.read(most_bytes + 1)
    if len(contents) > most_bytes:
        raise DataSetError(path, f"it has more than {most_bytes:,} bytes", _CURE)
    return contents


def _csv_lines(path: Path | Place) -> list[_Line]:
    """The lines of a CSV that are not empty: BOM or not, commas, semicolons (Russian Excel) or tabs."""
    try:
        text = _contents(path, MAX_CSV_BYTES).decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        numbered = enumerate(islice(table, MAX_ROWS + 2), start=1)
        return [(n, tuple(map(_text, cells))) for n, cells in numbered if any(map(str.strip, cells))]
    except (OSError, StoreError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | Place, error: Exception) -> DataSetError:
    reason = " ".join(str(error).split())[:200]
    return DataSetError(path, f"it cannot be read ({type(error).__name__}: {reason})", _CURE)


def _text(cell: object) -> str:
    """A cell as text; Excel keeps whole numbers as floats now and then."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def _columns(path: Path | Place, header: Iterable[str]) -> dict[str, int]:
    """Where each wanted column stands."""
    names = [name.lower() for name in header]
    lacking = [name for name in COLUMNS[:3] if names.count(name) != 1]
    if lacking or names.count("mask_file") > 1:
        wanted = ", ".join(lacking or ["mask_file"])
        raise DataSetError(path, f"its columns are {names}, wanted once each: {wanted}", _CURE)
    return {name: names.index(name) for name in COLUMNS if name in names}


def _row(path: Path | Place, number: int, cells: tuple[str, ...], columns: dict[str, int]) -> Row:
    values = {name: cells[at] if at < len(cells) else "" for name, at in columns.items()}
    for name, value in values.items():
        if value.startswith("="):
            raise _bad(path, number, f"{name} is a formula ({value[:80]!r})")
        if len(value) > _MAX_CELL or _CONTROL.search(value):
            raise _bad(path, number, f"{name} is too long or holds control characters ({value[:80]!r})")
    if not values["study_id"] or not values["study_file"]:
        raise _bad(path, number, "study_id or study_file is empty")
    return Row(
        number,
        values["study_id"],
        values["category"],
        _relative(path, number, values["study_file"]),
        _relative(path, number, values["mask_file"]) if values.get("mask_file") else "",
    )


def _relative(path: Path | Place, number: int, text: str) -> str:
    """The path below the root: leading slashes mean the root itself, as in the registry of MosMedData."""
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts or parts[0].endswith(":"):
        raise _bad(path, number, f"the path {text!r} leaves the data set")
    return "/".join(parts)


def _check_unique(path: Path | Place, rows: tuple[Row, ...]) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        for kind, value in (("id", row.study_id), ("file", row.study_file), ("file", row.mask_file)):
            if not value:
                continue
            if (kind, value) in seen:
                raise _bad(path, row.number, f"{value!r} stands in row {seen[kind, value]} already")
            seen[kind, value] = row.number


def _bad(path: Path | Place, number: int, finding: str) -> DataSetError:
    return DataSetError(f"{path}, row {number}", finding, _CURE)
