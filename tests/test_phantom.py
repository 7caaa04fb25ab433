"""Phantoms: what their truth promises, that the same seed gives the same bytes, and what is refused."""

import csv
import dataclasses
import errno
import gzip
import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from small_chests import tree

from fastct.errors import DataSetError, OptionError
from fastct.phantom import draw_study, files, iter_phantoms, painting, write_phantoms
from fastct.phantom import voxels as kernels
from fastct.phantom.drawing import CLASS_COUNTS, class_mix
from fastct.phantom.outlines import unit_curves, upright

SMALL = (24, 128, 128)
TINY = (12, 64, 64)
CATEGORIES = list(CLASS_COUNTS)
BESIDE = np.stack([np.eye(3) * 0, np.ones((3, 3)), np.eye(3) * 0]).astype(bool)
BESIDE[:, 1, 1] = True  # touching within a slice, corners too, or from slice to slice


def severity(percent: float) -> str:
    """The rule of the README, written once more on purpose."""
    if percent == 0:
        return "CT-0"
    return "CT-1" if percent <= 25 else "CT-2" if percent <= 50 else "CT-3" if percent < 75 else "CT-4"


@pytest.fixture(scope="module")
def small_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    return folder, write_phantoms(folder, studies=7, seed=11, shape=TINY)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(index=st.integers(0, 2**40), seed=st.integers(0, 2**40), category=st.sampled_from(CATEGORIES))
def test_truth_holds_for_every_patient(index, seed, category):
    phantom = draw_study(index, seed, category=category, shape=SMALL)
    hu, lungs, lesion, row = phantom.hu, phantom.lungs, phantom.lesion, phantom.row
    assert hu.shape == lungs.shape == lesion.shape == SMALL
    assert set(np.unique(lungs)) == {0, 1, 2}
    assert lesion.max() <= 1
    assert not lesion[lungs == 0].any()
    assert severity(row.lesion_percent) == row.category == category
    assert row.lesion_percent == pytest.approx(100 * lesion.sum() / (lungs > 0).sum(), abs=1e-4)
    assert row.lung_ml == pytest.approx((lungs > 0).sum() * phantom.geometry.voxel_ml, abs=2e-3)
    assert 1500 < row.lung_ml < 9500
    assert 0.6 < row.lung_right_ml / row.lung_left_ml < 1.6
    right, left = (np.nonzero(phantom.geometry.upright(lungs) == label)[2].mean() for label in (1, 2))
    assert right < left
    assert not (ndimage.binary_dilation(lungs == 1, BESIDE) & (lungs == 2)).any()


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**40), category=st.sampled_from(CATEGORIES))
def test_lungs_never_touch_outside_air(seed, category):
    phantom = draw_study(0, seed, category=category, shape=SMALL)
    for hu, lungs in zip(phantom.hu, phantom.lungs, strict=True):
        air, _ = ndimage.label((hu < -500) & (lungs == 0))
        rim = np.unique(np.concatenate([air[0], air[-1], air[:, 0], air[:, -1]]))
        outside = np.isin(air, rim[rim > 0])
        assert not (ndimage.binary_dilation(outside, np.ones((3, 3))) & (lungs > 0)).any()


@pytest.mark.parametrize("category", CATEGORIES)
def test_regions_have_their_ct_numbers(category):
    phantom = draw_study(2, 5, category=category, shape=(40, 256, 256))
    hu, lungs, lesion = phantom.hu, phantom.lungs > 0, phantom.lesion > 0
    if category != "CT-4":
        assert -920 < np.median(hu[lungs & ~lesion]) < -700
    if lesion.any():
        assert -700 < np.median(hu[lesion]) < 60
        assert np.mean(hu[lesion] > 300) < 0.01
    assert -1060 < np.median(hu[:, -3:, 100:150]) < -960  # before the chest
    body = ndimage.binary_erosion((hu > -200) & ~lungs, np.ones((1, 5, 5)))
    assert -110 < np.median(hu[body]) < 80
    assert (hu > 400).any()  # bone
    assert (ndimage.binary_erosion((hu < -900) & ~lungs, np.ones((1, 3, 3)))[:, 100:156, 100:156]).any()  # trachea


def test_disease_changes_nothing_but_the_lungs():
    well, ill = (draw_study(4, 9, category=category, shape=SMALL) for category in ("CT-0", "CT-3"))
    assert np.array_equal(well.lungs, ill.lungs)
    outside = ~ndimage.binary_dilation(well.lungs > 0, np.ones((3, 3, 3)), iterations=2)
    assert np.array_equal(well.hu[outside], ill.hu[outside])
    lesion = ill.lesion > 0
    assert np.mean(ill.hu[lesion].astype(int) - well.hu[lesion]) > 150


def test_vessels_show_through_ground_glass_as_in_health():
    well, ill = (draw_study(1, 3, category=category, shape=(40, 256, 256)) for category in ("CT-0", "CT-2"))
    vessel = (well.hu > -200) & ndimage.binary_erosion(well.lungs > 0, np.ones((1, 9, 9))) & (ill.lesion > 0)
    assert vessel.sum() > 20
    assert np.median(ill.hu[vessel]) > -150


def test_full_size_is_as_mosmed_has_it(tmp_path):
    rows = write_phantoms(tmp_path, studies=2, seed=0)
    for row, number in zip(rows, (1, 2), strict=True):
        path = tmp_path / "studies" / row.category / f"study_{number:04d}.nii.gz"
        packed = path.read_bytes()
        image = nib.load(path)
        head = image.header
        assert packed[4:8] == bytes(4)  # no time of making
        assert head.endianness == "<"
        assert head.get_data_dtype() == np.int16
        assert image.shape[:2] == (512, 512)
        assert 31 <= image.shape[2] <= 72
        assert 0.58 <= head.get_zooms()[0] == head.get_zooms()[1] <= 1.15
        assert head.get_zooms()[2] == 8
        assert (int(head["qform_code"]), int(head["sform_code"])) == (1, 1)
        assert head.get_xyzt_units() == ("mm", "sec")
        assert nib.aff2axcodes(image.affine) == ("L", "A", "S")
        assert np.array_equal(image.affine[:3, :3], np.diag(np.array(head.get_zooms()) * (-1, 1, 1)))
        assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-3)
        raw = gzip.decompress(packed)
        assert nib.Nifti1Header(raw[:348])["vox_offset"] == 352
        assert nib.Nifti1Header(raw[:348])["scl_slope"] == 1
        assert len(raw) == 352 + 2 * np.prod(image.shape)
        assert 1.8 < len(raw) / len(packed) < 2.2
        phantom = draw_study(number - 1, 0, category=row.category)
        assert np.array_equal(np.asanyarray(image.dataobj).T, phantom.hu)
        assert np.array_equal(image.affine, phantom.geometry.affine)


def test_layout_registry_and_masks(small_set):
    folder, rows = small_set
    sheet = openpyxl.load_workbook(folder / "dataset_registry.xlsx").worksheets
    assert [s.title for s in sheet] == ["MosMedData COVID19_1110"]
    table = list(sheet[0].values)
    assert table[0] == ("study_id", "category", "study_file", "mask_file")
    assert [line[0] for line in table[1:]] == list(range(1, 8))
    assert [line[1] for line in table[1:]] == [row.category for row in rows] == class_mix(7)
    masks = 0
    for (number, category, study, mask), row in zip(table[1:], rows, strict=True):
        assert study == f"/studies/{category}/study_{number:04d}.nii.gz"
        assert nib.load(folder / study[1:]).shape == TINY[::-1]
        if mask is None:
            continue
        masks += 1
        assert mask == f"/masks/study_{number:04d}_mask.nii.gz"
        image = nib.load(folder / mask[1:])
        assert image.header.get_data_dtype() == np.int16
        assert np.array_equal(image.affine, nib.load(folder / study[1:]).affine)
        voxels = np.asanyarray(image.dataobj)
        assert set(np.unique(voxels)) == {0, 1}
        voxel_ml = np.prod(image.header.get_zooms()) / 1000
        assert row.lesion_ml == pytest.approx(voxels.sum() * voxel_ml, rel=1e-4, abs=2e-3)
    with zipfile.ZipFile(folder / "dataset_registry.xlsx") as book:
        assert {entry.date_time for entry in book.infolist()} == {files.ZIP_DATE}
        assert book.read("docProps/core.xml").count(files.XLSX_DATE) == 2
    assert masks == len(list((folder / "masks").iterdir())) == 3
    assert "synthetic" in (folder / "README_EN.md").read_text(encoding="utf-8").lower()


def test_truth_table_counts_the_masks(small_set):
    folder, rows = small_set
    with (folder / "truth.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [line["study_id"] for line in table] == [f"study_{n:04d}" for n in range(1, 8)]
    for index, (line, row) in enumerate(zip(table, rows, strict=True)):
        phantom = draw_study(index, 11, category=line["category"], shape=TINY)
        for side, labels in (("", (1, 2)), ("_right", (1,)), ("_left", (2,))):
            lung = np.isin(phantom.lungs, labels)
            ill = 100 * phantom.lesion[lung].mean()
            assert float(line[f"lesion_percent{side}"]) == pytest.approx(ill, abs=1e-4)
            assert float(line[f"lung{side}_ml"]) == pytest.approx(lung.sum() * phantom.geometry.voxel_ml, abs=1e-3)
        assert tuple(int(line[f"shape_{axis}"]) for axis in "zyx") == TINY
        spacing = [float(line[f"spacing_{axis}_mm"]) for axis in "zyx"]
        assert spacing == pytest.approx(phantom.geometry.spacing_mm, abs=1e-4)
        assert severity(float(line["lesion_percent"])) == line["category"] == row.category


def test_same_seed_same_bytes_with_any_number_of_workers(small_set, tmp_path):
    folder, rows = small_set
    assert write_phantoms(tmp_path / "b", studies=7, seed=11, shape=TINY, workers=3) == rows
    assert tree(tmp_path / "b") == tree(folder)


def test_another_seed_gives_other_patients(small_set, tmp_path):
    folder, _ = small_set
    write_phantoms(tmp_path, studies=7, seed=12, shape=TINY)
    first, second = tree(folder), tree(tmp_path)
    for name in first.keys() - {"dataset_registry.xlsx"}:
        assert first[name] != second[name]


def test_goes_on_after_an_interruption_to_the_same_bytes(small_set, tmp_path, monkeypatch):
    folder, rows = small_set
    run = iter_phantoms(tmp_path, studies=7, seed=11, shape=TINY)
    done = [next(run) for _ in range(3)]
    run.close()
    assert not (tmp_path / "truth.csv").exists()
    fourth = tmp_path / files.study_path(rows[3])
    fourth.write_bytes((folder / files.study_path(rows[3])).read_bytes())
    with (tmp_path / files.PARTIAL).open("a", encoding="utf-8") as file:
        file.write(",".join(map(str, dataclasses.astuple(rows[3])))[:-1])  # a line that was cut off
    drawn = []
    monkeypatch.setattr(
        "fastct.phantom.drawing.draw_study", lambda i, *a, **k: drawn.append(i) or draw_study(i, *a, **k)
    )
    write_phantoms(tmp_path, studies=7, seed=11, shape=TINY)
    assert drawn == list(range(len(done), 7))
    assert tree(tmp_path) == tree(folder)


def test_a_full_disk_is_an_error_with_a_cure_and_is_gone_on_after(small_set, tmp_path, monkeypatch):
    write, written = Path.write_bytes, []

    def write_until_full(path, content):
        written.append(path)
        if len(written) == 4:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    with pytest.raises(DataSetError, match=r"No space left on device.*goes on from there"):
        write_phantoms(tmp_path, studies=7, seed=11, shape=TINY)
    assert [path for path in tmp_path.rglob("*.part") if path.name != files.PARTIAL] == []
    write_phantoms(tmp_path, studies=7, seed=11, shape=TINY)
    assert tree(tmp_path) == tree(small_set[0])


def test_refuses_foreign_folders_and_keeps_foreign_files(small_set, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataSetError, match="no phantom set"):
        write_phantoms(tmp_path, studies=1, shape=TINY)
    assert tree(tmp_path) == {"thesis.txt": b"years of work"}
    real = tmp_path / "studies" / "CT-1" / "study_0900.nii.gz"
    real.parent.mkdir(parents=True)
    real.write_bytes(b"a real scan")
    write_phantoms(tmp_path, studies=3, shape=TINY, overwrite=True)
    assert real.read_bytes() == b"a real scan"
    real.unlink()
    with pytest.raises(DataSetError, match="another phantom set"):
        write_phantoms(tmp_path, studies=1, seed=1, shape=TINY)
    write_phantoms(tmp_path, studies=1, seed=1, shape=TINY, overwrite=True)
    found = tree(tmp_path)
    assert found["thesis.txt"] == b"years of work"
    assert [name for name in found if name.startswith("studies")] == ["studies/CT-1/study_0001.nii.gz"]
    (tmp_path / "file").write_text("")
    with pytest.raises(DataSetError, match="it is a file"):
        write_phantoms(tmp_path / "file", studies=1, shape=TINY)


@pytest.mark.parametrize(
    "options",
    [
        {"studies": 0},
        {"seed": -1},
        {"workers": 0},
        {"shape": (4, 128, 128)},
        {"shape": (24, 128)},
        {"studies": 10**7},
    ],
    ids=json.dumps,
)
def test_refuses_options_before_touching_the_disk(tmp_path, options):
    with pytest.raises(OptionError):
        iter_phantoms(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_refuses_unknown_categories():
    with pytest.raises(OptionError, match="CT-5"):
        draw_study(0, category="CT-5")


@given(st.integers(1, 3000))
def test_class_mix_is_that_of_mosmed(studies):
    mix = class_mix(studies)
    assert len(mix) == studies
    assert mix == sorted(mix)
    if studies >= 5:
        assert set(mix) == set(CATEGORIES)
    if studies >= 400:
        for name, count in CLASS_COUNTS.items():
            assert abs(mix.count(name) - studies * count / 1110) <= 2


def test_class_mix_of_the_whole_set():
    assert [class_mix(1110).count(name) for name in CATEGORIES] == [254, 684, 125, 45, 2]


@given(x=st.floats(-60, 60), y=st.floats(-60, 60), radius=st.floats(0.6, 50), planes=st.sampled_from([1, 3]))
def test_painter_covers_exactly_the_area_of_an_outline(x, y, radius, planes):
    size, far = 64, 200
    egg = np.repeat(upright(*(np.array([v]) for v in (x - radius, x + radius, y - radius, y + radius))), planes, 0)
    layers = painting.Layers(
        egg[None],
        np.zeros((1, painting.HARMONICS, 3)),
        np.array([[0.0, painting.TISSUE, 0.0, 0.0]]),
        unit_curves(),
        np.empty((0, 8)),
        np.zeros(planes),
    )
    polygon = np.empty((256, 2))
    points = polygon[: painting.trace_egg(layers, 0, 0, polygon)]
    whole = 0.5 * abs(np.dot(points[:, 0], np.roll(points[:, 1], 1)) - np.dot(points[:, 1], np.roll(points[:, 0], 1)))
    frame = painting.Frame(1.0, 0.0, 0.0, 0.0, 1.0, 1.0)
    pictures = []
    for width in (size, far):
        hu, side = np.empty((1, width, width), np.int16), np.empty((1, width, width), np.uint8)
        painting.paint(hu, side, layers, frame)
        share = (hu[0] + 1000) / 1000
        assert share.min() >= 0
        assert share.max() <= 1
        pictures.append(hu[0].astype(int))
    if max(abs(x), abs(y)) + radius < far / 2:
        assert share.sum() == pytest.approx(whole, abs=0.02 + 1e-3 * whole)
    inner = slice((far - size) // 2, (far + size) // 2)
    assert abs(pictures[0] - pictures[1][inner, inner]).max() <= 1  # what lies beyond the picture changes nothing


@given(st.integers(0, 2**32 - 1))
def test_vessel_trees_hang_together(seed):
    points = np.random.default_rng(seed).normal(0, 40, (60, 3))
    points = points[np.argsort((points**2).sum(axis=1))]
    parents = kernels.grow_tree(points)
    assert parents[0] == 0
    assert (parents[1:] < np.arange(1, 60)).all()


def test_waves_reproduce_constants_and_planes():
    field = np.zeros((5, 9, 17), np.float32)
    kernels.add_waves(field, np.full((4, 6, 9), 2.5, np.float32))
    assert np.allclose(field, 2.5, atol=1e-5)
    field[:] = 0
    kernels.add_waves(field, np.broadcast_to(np.arange(9, dtype=np.float32), (4, 6, 9)).copy())
    assert np.allclose(np.diff(field, axis=2), 6 / 17, atol=1e-4)


def test_noise_has_the_strength_and_grain_asked_for():
    one = np.ones(256, np.float32)
    hu = np.zeros((3, 256, 256), np.int16)
    kernels.scan(hu, kernels.Scanner(5, 0.2, np.full(3, 30.0, np.float32), one, one, -2048))
    centre = hu[:, 64:192, 64:192].astype(float)
    assert abs(centre.mean()) < 1
    assert centre.std() == pytest.approx(30 * (1 + 2 * 0.2**2), rel=0.02)
    beside = [np.corrcoef(centre[:, :, :-n].ravel(), centre[:, :, n:].ravel())[0, 1] for n in (1, 2, 3)]
    below = [np.corrcoef(centre[:, :-n].ravel(), centre[:, n:].ravel())[0, 1] for n in (1, 2, 3)]
    expected = [0.4 / 1.08, 0.04 / 1.08, 0]
    assert beside == pytest.approx(expected, abs=0.02)
    assert below == pytest.approx(expected, abs=0.02)
    assert abs(np.corrcoef(centre[0].ravel(), centre[1].ravel())[0, 1]) < 0.02
    assert (hu[:, 0, 0] == -2048).all()
    rows, columns = np.nonzero(hu[0] == -2048)
    assert np.hypot(rows - 127.5, columns - 127.5).min() > 126
