"""Data sets: MosMedData and its relatives are understood, strays ignored, links followed with care."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registries import FILES, ROWS, WHOLE, plant, summary, table, xlsx

from fastct.errors import DataSetError
from fastct.mosmed import find_studies

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
    plant(tmp_path, ".alone.img", ".nii.gz")
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


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


# Size, and the real registry


def test_eleven_thousand_files_are_listed_quickly(tmp_path):
    rows = [(n, f"CT-{n % 5}", f"/studies/CT-{n % 5}/study_{n:05}.nii.gz", None) for n in range(11_100)]
    for category in range(5):
        (tmp_path / f"studies/CT-{category}").mkdir(parents=True)
    for row in rows:
        (tmp_path / row[2][1:]).touch()
    table(tmp_path, rows)
    start = time.process_time()
    listing = find_studies(tmp_path)
    assert time.process_time() - start < 5
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
