"""Data sets: MosMedData and its relatives are understood, strays ignored, hostile registries refused."""

import csv
import io
import os
import random
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastct.errors import DataSetError, FileError
from fastct.mosmed import find_studies
from fastct.mosmed.registry import COLUMNS, MAX_CSV_BYTES, MAX_ROWS, read_registry

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


# MosMedData and its copies


@pytest.mark.parametrize("write", [xlsx, table, lambda root: root], ids=["xlsx", "csv", "folders"])
def test_the_layout_of_mosmeddata(tmp_path, write):
    listing = find_studies(write(plant(tmp_path, *FILES)))
    assert summary(listing) == WHOLE
    assert listing.root == tmp_path
    assert (listing.missing, listing.unlisted, listing.orphan_masks, listing.notes) == ((), (), (), ())
    study = listing.studies[0]
    assert study.path == tmp_path / study.source
    assert study.size_bytes == study.path.stat().st_size
    assert find_studies(str(tmp_path)) == listing


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "utf-8"},
        {"encoding": "utf-8-sig", "end": "\n"},
        {"delimiter": ";"},
        {"delimiter": "\t"},
        {"columns": ("MASK_FILE", "Category ", "study_file", "study_id", "reader")},
    ],
)
def test_dialects_of_csv(tmp_path, options):
    if "columns" in options:
        options["rows"] = [(row[3], row[1], row[2], row[0], "x") for row in ROWS]
    listing = find_studies(table(plant(tmp_path, *FILES), **options))
    assert summary(listing) == WHOLE


def test_xlsx_goes_before_csv(tmp_path):
    plant(tmp_path, *FILES)
    table(xlsx(tmp_path), [(1, "CT-3", ROWS[0][2], None)])
    listing = find_studies(tmp_path)
    assert listing.studies[0].category == "CT-0"
    assert listing.notes == ("dataset_registry.csv left aside: dataset_registry.xlsx is there",)


@pytest.mark.parametrize("move", ["ct{}/study_{}.nii.gz", "study_{1}.nii.gz", "studies/CT-{}/study_{}.nii"])
@pytest.mark.parametrize("write", [xlsx, lambda root: root], ids=["xlsx", "folders"])
def test_copies_that_moved_the_files(tmp_path, move, write):
    names = [move.format(category, number) for category, number in ((0, "0001"), (1, "0255"), (4, "1110"))]
    listing = find_studies(write(plant(tmp_path, *names, "masks/study_0255_mask.nii")))
    classes = [study.category for study in listing.studies]
    assert [study.study_id for study in listing.studies] == list(WHOLE)
    assert [study.source for study in listing.studies] == names
    assert classes == (["CT-0", "CT-1", "CT-4"] if "{}" in move or write is xlsx else ["", "", ""])
    assert [bool(study.mask_path) for study in listing.studies] == [False, True, False]
    if write is xlsx:
        assert listing.missing == listing.unlisted == ()
        assert listing.notes[0].startswith("3 studies stand elsewhere than the registry says")


def test_registry_and_disk_disagree(tmp_path):
    xlsx(plant(tmp_path, *FILES[:1], "studies/CT-2/study_0999.nii.gz", "masks/study_0255_mask.nii.gz"))
    listing = find_studies(tmp_path)
    assert summary(listing) == {
        "study_0001": WHOLE["study_0001"],
        "study_0999": ("CT-2", "studies/CT-2/study_0999.nii.gz", None),
    }
    assert listing.missing == ("studies/CT-1/study_0255.nii.gz", "studies/CT-4/study_1110.nii.gz")
    assert listing.unlisted == ("studies/CT-2/study_0999.nii.gz",)
    assert listing.orphan_masks == ("masks/study_0255_mask.nii.gz",)


def test_a_mask_that_the_registry_names_and_the_disk_lacks(tmp_path):
    listing = find_studies(xlsx(plant(tmp_path, *FILES[:3])))
    assert listing.notes == ("1 masks of the registry are missing (the first: masks/study_0255_mask.nii.gz)",)


def test_the_registry_says_what_is_a_mask(tmp_path):
    rows = [(1, "CT-1", "/masks/a.nii.gz", "/lesions/b.nii.gz")]
    listing = find_studies(xlsx(plant(tmp_path, rows[0][2], rows[0][3]), rows))
    assert summary(listing) == {"a": ("CT-1", "masks/a.nii.gz", "b.nii.gz")}


def test_strays_are_ignored(tmp_path):
    plant(tmp_path, *FILES, "studies/.DS_Store", "studies/CT-0/foo", "studies/CT-0/._study_0001.nii.gz")
    plant(tmp_path, "__MACOSX/studies/x.nii.gz", ".hidden/y.nii.gz", "LICENSE", "README_EN.md", "truth.csv")
    plant(tmp_path, "store/fastct.json", "store/z.nii.gz", "q.nii.zarr/w.nii.gz", "~$dataset_registry.xlsx")
    plant(tmp_path, "alone.img", "alone_too.hdr", ".nii.gz")
    assert summary(find_studies(xlsx(tmp_path))) == WHOLE
    assert find_studies(tmp_path).notes == ()


# Folders of any kind


def test_masks_and_labels_are_no_studies(tmp_path):
    plant(tmp_path, "a.nii.gz", "a_mask.nii", "b.NII.GZ", "b_lung.nii.gz", "b_seg.nii.gz", "lone_lung.nii.gz")
    plant(tmp_path, "lone_mask.nii.gz", "c/masks/d.nii.gz", "c/d.nii.gz", "a_lung_mask.nii.gz")
    listing = find_studies(tmp_path)
    assert summary(listing) == {
        "a": ("", "a.nii.gz", "a_mask.nii"),
        "b": ("", "b.NII.GZ", None),
        "d": ("", "c/d.nii.gz", "d.nii.gz"),
        "lone_lung": ("", "lone_lung.nii.gz", None),
    }
    assert listing.orphan_masks == ("a_lung_mask.nii.gz", "lone_mask.nii.gz")
    assert listing.notes[0].startswith("2 label files left aside (the first: b_lung.nii.gz)")


def test_a_second_mask_is_noted(tmp_path):
    listing = find_studies(plant(tmp_path, "a.nii.gz", "a_mask.nii.gz", "masks/a_mask.nii.gz"))
    assert listing.studies[0].mask_path == tmp_path / "a_mask.nii.gz"
    assert listing.notes == ("masks/a_mask.nii.gz left aside: its study has another mask",)


def test_one_stem_with_several_suffixes_is_one_study(tmp_path):
    plant(tmp_path, "a.nii", "a.nii.gz", "b.hdr", "b.img", "c.HDR", "c.IMG.GZ", "d.nii", "d.hdr", "d.img")
    listing = find_studies(tmp_path)
    assert [study.source for study in listing.studies] == ["a.nii.gz", "b.hdr", "c.HDR", "d.nii"]
    assert listing.studies[1].size_bytes == 2 * listing.studies[0].size_bytes
    assert listing.notes == ("a.nii.gz taken, a.nii left aside", "d.nii taken, d.hdr left aside")


def test_same_stems_are_told_apart_by_their_folders(tmp_path):
    plant(tmp_path, "siteA/ct.nii.gz", "siteB/ct.nii.gz", "siteA/masks/ct_mask.nii.gz", "siteB/ct_mask.nii.gz")
    plant(tmp_path, "siteB-ct.nii.gz", "one.nii.gz")
    listing = find_studies(tmp_path)
    assert summary(listing) == {
        "one": ("", "one.nii.gz", None),
        "siteA-ct": ("", "siteA/ct.nii.gz", "ct_mask.nii.gz"),
        "siteB-ct": ("", "siteB-ct.nii.gz", None),
        "siteB-ct-2": ("", "siteB/ct.nii.gz", "ct_mask.nii.gz"),
    }
    masks = [study.mask_path for study in listing.studies if study.mask_path]
    assert masks == [tmp_path / "siteA/masks/ct_mask.nii.gz", tmp_path / "siteB/ct_mask.nii.gz"]
    assert listing.notes[0].startswith("2 studies are named by their folders")


def test_a_mask_that_could_be_of_two_studies_is_of_none(tmp_path):
    listing = find_studies(plant(tmp_path, "x/ct.nii.gz", "y/ct.nii.gz", "ct_mask.nii.gz"))
    assert listing.orphan_masks == ("ct_mask.nii.gz",)
    assert not any(study.mask_path for study in listing.studies)


def test_a_listed_study_keeps_its_name_beside_a_copy(tmp_path):
    listing = find_studies(xlsx(plant(tmp_path, *FILES, "backup/study_0001.nii.gz")))
    assert list(summary(listing)) == ["backup-study_0001", *WHOLE]
    assert listing.unlisted == ("backup/study_0001.nii.gz",)


NAMES = st.from_regex(r"(CT-[0-4]/|ct[0-4]/|site[AB]/|masks/|x/y/)?[ab](_mask|_lung|-2)?\.nii(\.gz)?", fullmatch=True)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(NAMES, min_size=1, max_size=12))
def test_any_tree_gives_each_file_one_role_and_each_study_one_name(tmp_path_factory, names):
    root = plant(tmp_path_factory.mktemp("tree"), *names)
    if all("_mask" in name or "masks/" in name for name in names):
        with pytest.raises(DataSetError, match="no volume is there"):
            find_studies(root)
        return
    listing = find_studies(root)
    ids = [study.study_id for study in listing.studies]
    masks = [study.mask_path for study in listing.studies if study.mask_path]
    assert ids == sorted(set(ids))
    assert len(masks) == len(set(masks))
    volumes = {study.path for study in listing.studies}
    assert not volumes & {*masks, *(root / name for name in listing.orphan_masks)}
    assert volumes | {*masks} <= {root / name for name in names}
    assert find_studies(root) == listing


def test_one_file(tmp_path):
    plant(tmp_path, "CT-3/a.nii.gz", "CT-3/masks/a_mask.nii.gz", "CT-3/b.nii.gz", "CT-3/p.hdr", "CT-3/p.img")
    for name, stem, mask in (
        ("a.nii.gz", "a", "a_mask.nii.gz"),
        ("b.nii.gz", "b", None),
        ("p.img", "p", None),
    ):
        listing = find_studies(tmp_path / "CT-3" / name)
        assert [(study.study_id, study.category) for study in listing.studies] == [(stem, "CT-3")]
        assert listing.studies[0].mask_path == (mask and tmp_path / "CT-3/masks" / mask)
        assert listing.studies[0].path == listing.root / listing.studies[0].source


def test_class_of_the_folder_that_is_named(tmp_path):
    plant(tmp_path, "studies/CT-2/a.nii.gz")
    assert find_studies(tmp_path / "studies/CT-2").studies[0].category == "CT-2"


# Links


def test_links_are_followed_and_loops_are_not(tmp_path):
    plant(tmp_path, "elsewhere/far.nii.gz", "elsewhere/deep/deeper.nii.gz", "root/own/a.nii.gz")
    root = tmp_path / "root"
    (root / "linked.nii.gz").symlink_to(tmp_path / "elsewhere/far.nii.gz")
    (root / "a.nii.gz").symlink_to(root / "own/a.nii.gz")
    (root / "a_folder").symlink_to(tmp_path / "elsewhere/deep")
    (root / "a_loop").symlink_to(root)
    (root / "own/up").symlink_to("..")
    (root / "a_second_name").symlink_to("own")
    (root / "broken.nii.gz").symlink_to("nowhere")
    listing = find_studies(root)
    assert [study.source for study in listing.studies] == [
        "own/a.nii.gz",
        "a_folder/deeper.nii.gz",
        "linked.nii.gz",
    ]
    assert any(note.startswith("broken.nii.gz: left aside") for note in listing.notes)
    assert any(note.startswith("1 links to files that are there already") for note in listing.notes)


@pytest.mark.parametrize("target", ["file", "folder", "mask"])
def test_a_registry_may_not_lead_out_by_a_link(tmp_path, target):
    outside = plant(tmp_path / "outside", "study_0001.nii.gz", "study_0255_mask.nii.gz")
    root = plant(tmp_path / "root", *FILES[1:3])
    (root / "masks").mkdir()
    (root / "studies/CT-0").mkdir() if target != "folder" else (root / "studies/CT-0").symlink_to(outside)
    if target == "file":
        (root / "studies/CT-0/study_0001.nii.gz").symlink_to(outside / "study_0001.nii.gz")
    if target == "mask":
        (root / "masks/study_0255_mask.nii.gz").symlink_to(outside / "study_0255_mask.nii.gz")
    assert find_studies(root).studies  # found by walking, a link is a researcher's own
    row = 3 if target == "mask" else 2
    with pytest.raises(DataSetError, match=rf"row {row} of the registry: .*leads out of the data set by a link"):
        find_studies(xlsx(root))


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
    start = time.perf_counter()
    with pytest.raises(DataSetError, match=finding) as caught:
        read_registry(path)
    assert time.perf_counter() - start < 5
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
        start = time.perf_counter()
        with suppress(DataSetError):
            assert len(read_registry(path)) == 3
        assert time.perf_counter() - start < 5


@pytest.mark.parametrize("contents", [b"", b"PK\3\4", b"not a zip", bytes(1000)])
def test_registries_that_cannot_be_read(tmp_path, contents):
    for name in ("dataset_registry.xlsx", "dataset_registry.csv"):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(DataSetError):
            read_registry(tmp_path / name)
    (tmp_path / "dataset_registry.csv").write_bytes("study_id,файл".encode("cp1251"))
    refused_registry(tmp_path / "dataset_registry.csv", "UnicodeDecodeError")


@pytest.mark.parametrize("write", [xlsx, table])
def test_mutated_registries_are_read_or_refused(tmp_path, write):
    path = next(write(tmp_path).iterdir())
    parts = parts_of(path) if write is xlsx else {"": path.read_bytes()}
    draw = random.Random()
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


# Size, and the real registry


def test_eleven_thousand_files_are_listed_quickly(tmp_path):
    rows = [(n, f"CT-{n % 5}", f"/studies/CT-{n % 5}/study_{n:05}.nii.gz", None) for n in range(11_100)]
    for category in range(5):
        (tmp_path / f"studies/CT-{category}").mkdir(parents=True)
    for row in rows:
        (tmp_path / row[2][1:]).touch()
    table(tmp_path, rows)
    start = time.perf_counter()
    listing = find_studies(tmp_path)
    assert time.perf_counter() - start < 5
    assert len(listing.studies) == 11_100
    assert not listing.missing


@pytest.mark.real
def test_the_real_registry_without_its_volumes(real_data, tmp_path):
    with pytest.raises(DataSetError, match="names 1110 studies, and none of them is there, though 50 masks are"):
        find_studies(real_data / "mosmed")
    for name in ("dataset_registry.xlsx", "masks"):
        (tmp_path / name).symlink_to(real_data / "mosmed" / name)
    with pytest.raises(DataSetError, match=r"row 256 .* leads out"):
        find_studies(plant(tmp_path, "studies/CT-1/study_0255.nii.gz"))


@pytest.mark.real
def test_the_real_registry_with_one_volume(real_data, tmp_path):
    (tmp_path / "dataset_registry.xlsx").write_bytes((real_data / "mosmed/dataset_registry.xlsx").read_bytes())
    plant(
        tmp_path,
        "studies/CT-1/study_0255.nii.gz",
        "masks/study_0255_mask.nii.gz",
        "masks/study_0300_mask.nii.gz",
    )
    listing = find_studies(tmp_path)
    assert summary(listing) == {"study_0255": WHOLE["study_0255"]}
    assert len(listing.missing) == 1109
    assert listing.orphan_masks == ("masks/study_0300_mask.nii.gz",)


@pytest.mark.real
def test_real_folders(real_data):
    listing = find_studies(real_data / "ct")
    assert list(summary(listing)) == ["covid_P001", "lctsc_000", "lctsc_001", "lctsc_007", "lungdx_A0002"]
    assert not any(study.mask_path for study in listing.studies)
    assert "3 label files left aside" in listing.notes[0]
