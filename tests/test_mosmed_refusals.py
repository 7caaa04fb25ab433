"""Data sets that contradict themselves, and hostile registries, are refused."""

import os
import random
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from registries import FILES, ROWS, plant, table, xlsx

from fastct.errors import DataSetError, FileError
from fastct.mosmed import find_studies
from fastct.mosmed.registry import COLUMNS, MAX_CSV_BYTES, MAX_ROWS, read_registry

# Refusal


@pytest.mark.parametrize(
    ("names", "finding"),
    [
        ([], "no volume is there"),
        (["foo", "b.dcm", "studies/CT-0/.DS_Store"], "no volume is there"),
        (["masks/a_mask.nii.gz", "b_mask.nii"], "though 2 masks are"),
        (["fastct.json", "studies/a.nii.gz"], "it is a fastct store, not a source"),
    ],
)
def test_nothing_to_be_found(tmp_path, names, finding):
    with pytest.raises(DataSetError, match=finding):
        find_studies(plant(tmp_path, *names))


def test_a_registry_without_its_volumes(tmp_path):
    with pytest.raises(DataSetError, match="names 3 studies, and none of them is there, though 1 masks are") as caught:
        find_studies(xlsx(plant(tmp_path, FILES[3])))
    assert str(tmp_path / "studies/CT-0/study_0001.nii.gz") in str(caught.value)


def test_half_a_pair_is_told_of(tmp_path):
    listing = find_studies(plant(tmp_path, "a.nii", "b.hdr", "c.img"))
    assert [study.study_id for study in listing.studies] == ["a"]
    assert listing.notes == tuple(f"{n} left aside: the other half of its pair is missing" for n in ("b.hdr", "c.img"))


def test_what_is_no_data_set(tmp_path):
    plant(tmp_path, "notes.txt", "half.hdr")
    for name, error in (
        ("none", DataSetError),
        ("nul\0", DataSetError),
        ("notes.txt", FileError),
        ("half.hdr", FileError),
    ):
        with pytest.raises(error):
            find_studies(f"{tmp_path}/{name}")


def test_names_that_cannot_be_printed_are_left_aside(tmp_path):
    plant(tmp_path, "a.nii.gz", "b\nc.nii.gz", "line\nbreak/d.nii.gz")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.nii.gz")).write_bytes(b"")
    listing = find_studies(tmp_path)
    assert [study.study_id for study in listing.studies] == ["a"]
    assert len(listing.notes) == 3
    assert all(note.isprintable() and "cannot be printed" in note for note in listing.notes)


BAD_ROWS = {
    "leaves by dots": ([(1, "CT-0", "/studies/../../etc/passwd.nii", None)], "row 2: the path .* leaves"),
    "leaves by backslash": ([(1, "CT-0", "..\\..\\a.nii", None)], "row 2: the path .* leaves"),
    "drive": ([(1, "CT-0", "C:\\data\\a.nii", None)], "row 2: the path .* leaves"),
    "root": ([(1, "CT-0", "///", None)], "row 2: the path .* leaves"),
    "mask leaves": ([ROWS[0], (2, "CT-0", "/a.nii", "/../b.nii")], "row 3: the path .* leaves"),
    "formula": ([(1, "CT-0", '=HYPERLINK("http://example.org")', None)], "row 2: study_file is a formula"),
    "formula in id": ([("=1+1", "CT-0", "/a.nii", None)], "row 2: study_id is a formula"),
    "same id": ([ROWS[0], (1, "CT-0", "/other.nii", None)], "row 3: '1' stands in row 2 already"),
    "same file": ([ROWS[0], (2, *ROWS[0][1:])], "row 3: '.*study_0001.nii.gz' stands in row 2 already"),
    "same mask": ([ROWS[1], (2, "CT-0", "/a.nii", ROWS[1][3])], "row 3: .* stands in row 2 already"),
    "no file": ([ROWS[0], (2, "CT-0", None, None)], "row 3: study_id or study_file is empty"),
    "no id": ([(None, "CT-0", "/a.nii", None)], "row 2: study_id or study_file is empty"),
    "long": ([(1, "CT-0", "/" + "a" * 5000, None)], "row 2: study_file is too long"),
    "line break": ([(1, "CT-0", "/a\nb.nii", None)], "row 2: study_file is too long or holds control"),
}


@pytest.mark.parametrize(("rows", "finding"), BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.parametrize("write", [xlsx, table])
def test_a_bad_row_is_named(tmp_path, rows, finding, write):
    plant(tmp_path, *FILES)
    with pytest.raises(DataSetError, match=finding):
        find_studies(write(tmp_path, rows))


@pytest.mark.parametrize("columns", [("id", "class", "file", "mask"), COLUMNS[:2], (*COLUMNS, "study_id"), ()])
@pytest.mark.parametrize("write", [xlsx, table])
def test_wrong_columns(tmp_path, columns, write):
    with pytest.raises(DataSetError, match=r"columns are .* wanted once each: "):
        find_studies(write(tmp_path, [], columns))


def test_blank_rows_and_spare_cells_do_no_harm(tmp_path):
    rows = [
        (None,) * 4,
        ROWS[0],
        (None, " ", None, None),
        (*ROWS[1], None, "a remark"),
        (255.5, *ROWS[2][1:]),
    ]
    rows[2] = (None,) * 4
    read = read_registry(xlsx(tmp_path, rows) / "dataset_registry.xlsx")
    assert [(row.number, row.study_id) for row in read] == [(3, "1"), (5, "255"), (6, "255.5")]


def zipped(path, parts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, contents in parts.items():
            archive.writestr(name, contents)


def parts_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def refused_registry(path, finding):
    start = time.process_time()
    with pytest.raises(DataSetError, match=finding) as caught:
        read_registry(path)
    assert time.process_time() - start < 5
    assert str(path) in str(caught.value)


def test_a_zip_bomb(tmp_path):
    path = xlsx(tmp_path) / "dataset_registry.xlsx"
    zipped(path, {**parts_of(path), "xl/sharedStrings.xml": bytes(1 << 28)})
    refused_registry(path, "it inflates to 268")
    zipped(path, {f"part{number}": b"" for number in range(5000)})
    refused_registry(path, "in 5000 parts")


def test_more_rows_than_any_data_set_has(tmp_path):
    path = tmp_path / "dataset_registry.csv"
    path.write_text("study_id,category,study_file\n" + "".join(f"{n},,{n}\n" for n in range(MAX_ROWS + 1)))
    refused_registry(path, "more than 100,000 rows")
    path.write_text("study_id,category,study_file\n" + "x" * MAX_CSV_BYTES)
    refused_registry(path, "more than 16,777,216 bytes")


def test_entities_that_grow(tmp_path):
    path = xlsx(tmp_path) / "dataset_registry.xlsx"
    entities = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    laugh = f'<?xml version="1.0"?><!DOCTYPE sst [<!ENTITY l0 "lol">{entities}]><sst><si><t>&l9;</t></si></sst>'
    parts = parts_of(path)
    for name in ("xl/workbook.xml", "xl/styles.xml", "xl/worksheets/sheet1.xml"):
        zipped(path, {**parts, name: laugh})
        refused_registry(path, "it cannot be read")


def test_a_cell_that_claims_to_stand_far_away(tmp_path):
    path = xlsx(tmp_path) / "dataset_registry.xlsx"
    parts = parts_of(path)
    sheet = parts["xl/worksheets/sheet1.xml"].decode().replace("</sheetData>", "{}</sheetData>")
    for row, cell in ((10**9, "A1000000000"), (1048576, "XFD1048576"), (5, "ZZZZZZ5"), (-3, "A-3")):
        far = f'<row r="{row}"><c r="{cell}"><v>1</v></c></row>'
        zipped(path, {**parts, "xl/worksheets/sheet1.xml": sheet.format(far)})
        start = time.process_time()
        with suppress(DataSetError):
            assert len(read_registry(path)) == 3
        assert time.process_time() - start < 5


@pytest.mark.parametrize("contents", [b"", b"PK\3\4", b"not a zip", bytes(1000)])
def test_registries_that_cannot_be_read(tmp_path, contents):
    for name in ("dataset_registry.xlsx", "dataset_registry.csv"):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(DataSetError):
            read_registry(tmp_path / name)
    (tmp_path / "dataset_registry.csv").write_bytes("study_id,файл".encode("cp1251"))
    refused_registry(tmp_path / "dataset_registry.csv", "UnicodeDecodeError")
    (tmp_path / "dataset_registry.csv").unlink()
    refused_registry(tmp_path / "dataset_registry.csv", "FileNotFoundError")
    os.mkfifo(tmp_path / "dataset_registry.csv")
    refused_registry(tmp_path / "dataset_registry.csv", "pipe or a device")


@pytest.mark.parametrize("write", [xlsx, table])
def test_mutated_registries_are_read_or_refused(tmp_path, write):
    path = next(write(tmp_path).iterdir())
    parts = parts_of(path) if write is xlsx else {"": path.read_bytes()}
    draw = random.Random(7)
    for _ in range(60):
        name = draw.choice(sorted(parts))
        contents = bytearray(parts[name])
        for _ in range(draw.randint(1, 6)):
            contents[draw.randrange(len(contents))] = draw.choice(b'\0<>&"=9\xff' + bytes([draw.randrange(256)]))
        if write is xlsx:
            zipped(path, {**parts, name: bytes(contents)})
        else:
            path.write_bytes(contents)
        with suppress(DataSetError):
            read_registry(path)
