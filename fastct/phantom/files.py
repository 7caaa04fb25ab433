"""Files of a phantom data set: MosMedData's folders, registry and headers, and the truth beside them."""

import csv
import dataclasses
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import deflate
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fastct.errors import DataSetError

SHEET = "MosMedData COVID19_1110"
README, REGISTRY, TRUTH, PARTIAL = "README_EN.md", "dataset_registry.xlsx", "truth.csv", "truth.csv.part"
GZIP_LEVEL = 1  # noise leaves nothing for a higher one to find: 1 % less in three times the time
DRAWING = 1  # to be raised when the same seed gives another picture
# Files must not tell when they were made; the day is that of MosMedData's release.
ZIP_DATE, XLSX_DATE = (2020, 4, 28, 0, 0, 0), b"2020-04-28T00:00:00Z"


@dataclass(frozen=True)
class TruthRow:
    """What is true of one phantom, counted from its masks: a line of `truth.csv`."""

    study_id: str
    category: str
    lung_ml: float
    lung_right_ml: float
    lung_left_ml: float
    lesion_ml: float
    lesion_percent: float
    lesion_percent_right: float
    lesion_percent_left: float
    shape_z: int
    shape_y: int
    shape_x: int
    spacing_z_mm: float
    spacing_y_mm: float
    spacing_x_mm: float


def stem(index: int) -> str:
    """Name of a study by its place in the set."""
    return f"study_{index + 1:04d}"


def study_path(row: TruthRow) -> Path:
    """Where a study lies below the root of its set."""
    return Path("studies", row.category, f"{row.study_id}.nii.gz")


def mask_path(row: TruthRow) -> Path:
    """Where its expert mask lies, if it has one."""
    return Path("masks", f"{row.study_id}_mask.nii.gz")


def header(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> Any:
    """nibabel header of an int16 volume (z, y, x), with the fields that dcm2niix sets for MosMedData."""
    untyped: Any = nib
    made = untyped.Nifti1Header(endianness="<")
    made.set_data_dtype(np.int16)
    made.set_data_shape(shape[::-1])
    made.set_qform(affine, code="scanner")
    made.set_sform(affine, code="scanner")
    made.set_xyzt_units("mm", "sec")
    made["regular"] = b"r"
    made["descrip"] = b"synthetic chest; fastct phantom"
    made["vox_offset"], made["scl_slope"], made["scl_inter"] = 352, 1, 0
    return made


def write_study(root: Path, row: TruthRow, head: Any, hu: NDArray[np.int16], lesion: NDArray[np.uint8] | None) -> None:
    """Write one study, and its lesion mask if given, each at once under its final name."""
    if lesion is not None:
        _publish(root / mask_path(row), _nifti(head, lesion.astype("<i2")))
    _publish(root / study_path(row), _nifti(head, hu.astype("<i2", copy=False)))


def _nifti(head: Any, voxels: NDArray[np.int16]) -> bytes:
    """Bytes of a .nii.gz: header, no extension, voxels."""
    return bytes(deflate.gzip_compress(b"".join((head.binaryblock, bytes(4), voxels.data)), GZIP_LEVEL))


def _publish(path: Path, content: bytes) -> None:
    """Write a file beside its place, then move it there: it is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
        raise


@contextmanager
def told(root: Path) -> Iterator[None]:
    """Say what the disk said as an error that names the folder and a cure."""
    try:
        yield
    except OSError as error:
        cure = "Make room or give rights, then run the same command: it goes on from there"
        raise DataSetError(error.filename or root, f"it cannot be written ({error.strerror or error})", cure) from error


def prepare(root: Path, readme: bytes, overwrite: bool) -> dict[str, TruthRow]:
    """Make the folder ready; rows of the studies of this very set that lie there already, by name.

    Raises
    ------
    DataSetError
        If it holds something else, and not `overwrite`.
    """
    if root.exists() and not root.is_dir():
        raise DataSetError(root, "it is a file", "Name a folder")
    found = root.is_dir() and any(root.iterdir())
    is_phantom = found and _first_line(root / README) == readme.splitlines()[0]
    same = is_phantom and (root / README).read_bytes() == readme
    if found and not same and not overwrite:
        kind = "another phantom set" if is_phantom else "files that are no phantom set"
        raise DataSetError(root, f"it holds {kind}", "Name a new folder, or --overwrite")
    if is_phantom and not same:
        for pattern in ("studies/CT-?/study_*.nii.gz", "masks/study_*_mask.nii.gz", TRUTH, PARTIAL, REGISTRY):
            for path in root.glob(pattern):
                path.unlink()
    done = _rows_done(root) if same and not overwrite else {}
    _publish(root / README, readme)
    return done


def _first_line(path: Path) -> bytes | None:
    """First line of a file, None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return file.readline(1000).rstrip(b"\n")


def _rows_done(root: Path) -> dict[str, TruthRow]:
    """Rows noted by an earlier run whose files are there."""
    done: dict[str, TruthRow] = {}
    columns = get_type_hints(TruthRow).items()
    for path in (root / TRUTH, root / PARTIAL):
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]:
            cells = next(csv.reader([line]))
            if line.endswith("\n") and len(cells) == len(columns):  # else cut off by an interruption
                values: dict[str, Any] = {name: kind(cell) for (name, kind), cell in zip(columns, cells, strict=True)}
                row = TruthRow(**values)
                if (root / study_path(row)).is_file():
                    done[row.study_id] = row
    return done


def note(root: Path, row: TruthRow, *, first: bool) -> None:
    """Keep the row of a written study, so that an interrupted run can go on after it."""
    with (root / PARTIAL).open("w" if first else "a", encoding="utf-8", newline="") as file:
        file.write(_csv([row], title=first))


def finish(root: Path, rows: list[TruthRow], masked: list[bool]) -> None:
    """Write the tables of a complete set."""
    _publish(root / TRUTH, _csv(rows, title=True).encode())
    _publish(root / REGISTRY, _registry(rows, masked))
    (root / PARTIAL).unlink(missing_ok=True)


def _csv(rows: list[TruthRow], *, title: bool) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if title:
        writer.writerow(field.name for field in dataclasses.fields(TruthRow))
    writer.writerows(dataclasses.astuple(row) for row in rows)
    return text.getvalue()


def _registry(rows: list[TruthRow], masked: list[bool]) -> bytes:
    """`dataset_registry.xlsx` as MosMedData has it, with the dates taken out of it."""
    openpyxl: Any = import_module("openpyxl")  # slow to import, and seldom wanted
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = SHEET
    sheet.append(["study_id", "category", "study_file", "mask_file"])
    for number, (row, has_mask) in enumerate(zip(rows, masked, strict=True), start=1):
        mask = f"/{mask_path(row).as_posix()}" if has_mask else None
        sheet.append([number, row.category, f"/{study_path(row).as_posix()}", mask])
    dated, undated = io.BytesIO(), io.BytesIO()
    book.save(dated)
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(undated, "w") as target:
        for name in sorted(source.namelist()):
            content = source.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(?<=>)[0-9-]{10}T[0-9:]{8}Z(?=<)", XLSX_DATE, content)
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            entry.create_system = 3  # Unix, wherever it is written
            target.writestr(entry, content)  # stored: another zlib would pack it otherwise
    return undated.getvalue()


def readme(studies: int, seed: int, shape: tuple[int, int, int] | None) -> bytes:
    """Text that says plainly what this is, and by which settings it can be drawn again."""
    return f"""# Synthetic chest CTs (fastct phantom)

**No patient was scanned for this data set.** Every volume, mask and number was drawn by a program, in the
layout of MosMedData COVID19_1110 so that software for it can be tried. It is of no medical use, and no
result on it says anything about real CTs.

- `studies/CT-0 ... CT-4`: volumes, int16 HU, by class; `masks`: lesion masks of some of them, int16 0 and 1.
- `dataset_registry.xlsx`: study, class, files, as in MosMedData.
- `truth.csv`: what is true of each study, counted from its masks: volume of the lungs (lesions are lung;
  trachea, main bronchi and large vessels of the hila are not), volume and percentage of lesions.

Classes follow the share of the lungs that is ill: CT-0 none; CT-1 up to 25 %; CT-2 above 25 up to 50;
CT-3 above 50, below 75; CT-4 75 and more.

Drawn with: studies {studies}, seed {seed}, shape {shape or "as in MosMedData"}, drawing {DRAWING}.
""".encode()
