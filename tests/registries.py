"""Folders and registries as MosMedData has them, made for the tests."""

import csv
import io

import openpyxl

from fastct.mosmed.registry import COLUMNS

ROWS = [
    (1, "CT-0", "/studies/CT-0/study_0001.nii.gz", None),
    (255, "CT-1", "/studies/CT-1/study_0255.nii.gz", "/masks/study_0255_mask.nii.gz"),
    (1110, "CT-4", "/studies/CT-4/study_1110.nii.gz", None),
]
FILES = [row[2] for row in ROWS] + [row[3] for row in ROWS if row[3]]


def plant(root, *names):
    for name in names:
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"NIfTI would stand here")
    return root


def xlsx(root, rows=ROWS, columns=COLUMNS):
    book = openpyxl.Workbook()
    for row in (columns, *rows):
        book.active.append(row)
    book.save(root / "dataset_registry.xlsx")
    return root


def table(root, rows=ROWS, columns=COLUMNS, *, encoding="utf-8-sig", delimiter=",", end="\r\n"):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([columns, *rows])
    (root / "dataset_registry.csv").write_bytes(text.getvalue().encode(encoding))
    return root


def summary(listing):
    return {
        study.study_id: (study.category, study.source, study.mask_path and study.mask_path.name)
        for study in listing.studies
    }


WHOLE = {
    "study_0001": ("CT-0", "studies/CT-0/study_0001.nii.gz", None),
    "study_0255": ("CT-1", "studies/CT-1/study_0255.nii.gz", "study_0255_mask.nii.gz"),
    "study_1110": ("CT-4", "studies/CT-4/study_1110.nii.gz", None),
}
