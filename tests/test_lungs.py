"""Lung masks: truth on drawn chests, the same answer from every side, doubt flagged, and real contours."""

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import plant

from fastct.errors import ArrayError
from fastct.flags import FLAG_MEANINGS, INFORMING_FLAGS
from fastct.geometry import Geometry
from fastct.kernels import masks
from fastct.lesions import lesion_fraction, opacity_mask
from fastct.lungs import LungOptions, lung_box, lung_mask, segment_lungs, slice_areas_mm2
from fastct.pleura import close_bases
from fastct.wall import raised_hull

SPACING_MM = (9.0, 2.0, 2.0)
SHAPE = (24, 160, 192)
AFFINE = np.diag([-2.0, 2.0, 9.0, 1.0])  # x to the patient's left, y to the front, z up, as MosMedData has it


def grid():
    """Millimetres from the middle of the chest: (z from its foot, y to the front, x to the left)."""
    z, y, x = np.indices(SHAPE).astype(np.float64)
    return z * 9.0, (y - 80.0) * 2.0, (x - 96.0) * 2.0


def ellipsoid(centre, radii):
    return sum(((at - c) / r) ** 2 for at, c, r in zip(grid(), centre, radii, strict=True)) < 1


def draw_chest(seed=0, table=True, airway=True, bowel=True):
    """A chest of ellipsoids: HU with noise, and the true labels."""
    z, y, x = grid()
    rng = np.random.default_rng(seed)
    hu = np.full(SHAPE, -1000.0)
    hu[((x / 165) ** 2 + (y / 110) ** 2 < 1)] = 20
    dome = ellipsoid((30, 10, -65), (55, 75, 60))
    truth = np.zeros(SHAPE, np.uint8)
    truth[ellipsoid((105, 0, -75), (98, 78, 60)) & ~dome] = 1
    truth[ellipsoid((105, 0, 75), (98, 78, 55)) & ~ellipsoid((80, 20, 25), (50, 40, 50))] = 2
    hu[truth > 0] = -860
    if airway:
        hu[(x**2 + (y + 15) ** 2 < 9**2) & (z > 110)] = -990
        for side in (-1, 1):
            hu[((x - side * (110 - z)) ** 2 + (y + 15) ** 2 < 8**2) & (z <= 110) & (z > 80)] = -990
    if bowel:
        hu[BOWEL & (truth == 0)] = -985
    if table:
        hu[:, 10:13, 20:172] = 100
    return (hu + rng.normal(0, 15, SHAPE)).round().astype(np.int16), truth


BOWEL = ellipsoid((5, 50, 50), (18, 20, 30))
CHEST, TRUTH = draw_chest()
GEOMETRY = Geometry(SHAPE, AFFINE)


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def assert_true(labels, truth=TRUTH, at_least=0.97):
    for side in (1, 2):
        assert dice(labels == side, truth == side) > at_least


def test_both_lungs_and_nothing_else():
    result = segment_lungs(CHEST, GEOMETRY)
    assert_true(result.labels)
    assert result.flags == ()
    assert result.labels.dtype == np.uint8
    _, y, x = grid()
    trachea = (x**2 + (y + 15) ** 2 < 9**2) & (np.indices(SHAPE)[0] * 9 > 110)
    assert not result.labels[trachea].any()
    assert not result.labels[BOWEL & (TRUTH == 0)].any()


def test_one_volume_and_a_list_agree():
    alone = lung_mask(CHEST, GEOMETRY)
    crop = Geometry((20, 150, 192), AFFINE)
    listed = lung_mask([CHEST, CHEST[4:, 10:]], [GEOMETRY, crop])
    assert isinstance(listed, list)
    assert np.array_equal(alone, listed[0])
    assert np.array_equal(listed[1], lung_mask(CHEST[4:, 10:], crop))


@given(st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
@settings(max_examples=12)
def test_the_same_mask_however_the_volume_is_stored(axes, flips):
    matrix = AFFINE.copy()
    flipped = CHEST
    for axis, flip in enumerate(flips):
        if flip:  # voxel index i becomes n - 1 - i
            column = 2 - axis
            matrix[:3, 3] += matrix[:3, column] * (SHAPE[axis] - 1)
            matrix[:3, column] *= -1
            flipped = np.flip(flipped, axis)
    stored = flipped.transpose(axes)
    matrix[:, :3] = matrix[:, [2 - axes[2], 2 - axes[1], 2 - axes[0]]]
    found = lung_mask(np.ascontiguousarray(stored), Geometry(stored.shape, matrix))
    back = found.transpose(np.argsort(axes))
    back = np.flip(back, [axis for axis, flip in enumerate(flips) if flip])
    assert np.array_equal(back, lung_mask(CHEST, GEOMETRY))


def test_the_affine_says_which_side_is_right():
    mirrored = AFFINE.copy()
    mirrored[0, 0] *= -1
    labels, swapped = lung_mask(CHEST, GEOMETRY), lung_mask(CHEST, Geometry(SHAPE, mirrored))
    assert dice(labels == 1, swapped == 2) > 0.98
    assert dice(labels == 2, swapped == 1) > 0.98


@pytest.mark.parametrize("floor", [-1024, -2048, -3024])
def test_padding_changes_nothing(floor):
    padded = CHEST.copy()
    y, x = np.indices(SHAPE[1:])
    padded[:, (y - 80) ** 2 / 85**2 + (x - 96) ** 2 / 92**2 > 1] = floor
    result = segment_lungs(padded, GEOMETRY)
    assert_true(result.labels)
    assert ("hu_floor" in result.flags) == (floor < -1100)


def test_arms_beside_the_body():
    hu = CHEST.copy()
    _, y, x = grid()
    for side in (-1, 1):
        hu[(x - side * 182) ** 2 + (y + 30) ** 2 < 12**2] = 40
    assert_true(lung_mask(hu, GEOMETRY))


def test_lungs_cut_by_the_scan_are_flagged():
    part = np.s_[8:16]
    result = segment_lungs(CHEST[part], Geometry((8, *SHAPE[1:]), AFFINE))
    assert "lung_cut" in result.flags
    assert_true(result.labels, TRUTH[part])


@pytest.mark.parametrize("side", [1, 2])
def test_a_collapsed_lung_leaves_the_other(side):
    hu = CHEST.copy()
    hu[side == TRUTH] = 30
    result = segment_lungs(hu, GEOMETRY)
    assert "side_small" in result.flags
    assert dice(result.labels == 3 - side, 3 - side == TRUTH) > 0.95
    assert (result.labels == side).sum() < 0.05 * (side == TRUTH).sum()


def test_what_is_left_of_a_lung_full_of_glass_is_not_taken_for_gas():
    hu = CHEST.copy()
    z, _, _ = grid()
    glass = (TRUTH == 2) & (z < 160)
    hu[glass] = -560
    labels = lung_mask(hu, GEOMETRY)
    assert (labels[(TRUTH == 2) & ~glass] == 2).mean() > 0.95
    assert not labels[BOWEL & (TRUTH == 0)].any()


def test_lungs_that_touch_are_parted():
    hu = CHEST.copy()
    z, y, x = grid()
    bridge = (np.abs(x) < 60) & (y > 5) & (y < 40) & (z > 110) & (z < 150)
    hu[bridge & (TRUTH == 0)] = -850
    hu[bridge & (np.abs(x) < 3)] = -700
    labels = lung_mask(hu, GEOMETRY)
    for side in (1, 2):
        assert dice((labels == side) & ~bridge, (side == TRUTH) & ~bridge) > 0.97
    assert not (labels[(x < -4)] == 2).any()
    assert not (labels[(x > 4)] == 1).any()


def test_pleural_consolidation_is_kept_unless_told_otherwise():
    hu = CHEST.copy()
    lesion = ellipsoid((110, -20, -130), (16, 30, 30)) & (TRUTH == 1)
    hu[lesion] = 40
    kept = lung_mask(hu, GEOMETRY)
    left_out = segment_lungs(hu, GEOMETRY, LungOptions(keep_consolidation=False)).labels
    assert (kept[lesion] == 1).mean() > 0.8
    assert (left_out[lesion] == 1).mean() < 0.3
    assert_true(kept)


@pytest.mark.parametrize(("share", "least"), [(0.15, 0.965), (0.3, 0.95), (0.5, 0.93)])
def test_lungs_half_of_whose_disease_is_solid(share, least):
    sick = plant(CHEST, TRUTH > 0, SPACING_MM, share, seed=3)
    labels = lung_mask(sick.hu, GEOMETRY)
    assert dice(labels > 0, TRUTH > 0) > least
    assert not ((labels > 0) & (3 - labels == TRUTH)).any(), "no voxel of one lung in the other"
    left_out = segment_lungs(sick.hu, GEOMETRY, LungOptions(keep_consolidation=False)).labels
    assert (labels > 0)[sick.lesion].mean() > (left_out > 0)[sick.lesion].mean() + 0.2


def test_a_lesion_at_the_wall_does_not_straighten_the_wall():
    y, x = np.indices((100, 128))
    slices = [((y - 50) / (30 + z)) ** 2 + ((x - 60) / (40 + z)) ** 2 < 1 for z in range(9)]
    dented = np.stack([one & (x < 80 + 40 * (z not in (3, 4, 5))) for z, one in enumerate(slices)])
    bits = masks.pack_label(dented.astype(np.uint8))
    raised = np.zeros(dented.shape, np.uint8)
    masks.unpack_label(raised_hull(bits, (9.0, 2.0, 2.0)), 1, raised)
    for z, (whole, found) in enumerate(zip(slices, raised > 0, strict=True)):
        assert (whole & ~found).sum() < 0.01 * whole.sum(), f"slice {z} has its wall again"
        assert (found & ~whole).sum() < 0.04 * whole.sum(), f"slice {z} is hardly larger than it was"
    hu = CHEST.copy()
    lesion = ellipsoid((110, 0, -135), (16, 45, 30)) & (TRUTH == 1)
    hu[lesion] = 40
    assert (lung_mask(hu, GEOMETRY)[lesion] == 1).mean() > 0.92


def test_lung_around_the_diaphragm_is_closed_and_the_diaphragm_is_not():
    y, x = np.indices((100, 128))
    outside = ((y - 50) / 44) ** 2 + ((x - 60) / 55) ** 2 < 1
    domes = [((y - 50) / (34 - z)) ** 2 + ((x - 60) / (45 - z)) ** 2 < 1 for z in range(12)]
    rings = np.stack([outside & ~dome for dome in domes])
    lesion = rings & (np.abs(x - 60) < 6) & (y < 50)  # 24 mm of the ring
    lesion[6:] = False
    sick, empty = (masks.pack_label(mask.astype(np.uint8)) for mask in (rings & ~lesion, rings & False))
    found = np.zeros(rings.shape, np.uint8)
    masks.unpack_label(close_bases((sick, empty), ~empty, 24.0, (9.0, 2.0, 2.0))[0], 1, found)
    assert found[lesion].mean() > 0.6, "but for what the hull fills at the wall"
    assert found[~rings].mean() < 0.01


def test_lung_behind_a_lesion_is_found_from_the_other_side():
    hu = CHEST.copy()
    z, y, _ = grid()
    wall = (TRUTH == 2) & (((z > 60) & (z < 75)) | ((z > 60) & (z < 150) & (np.abs(y - 20) < 8)))
    hu[wall] = 40
    labels = lung_mask(hu, GEOMETRY)
    behind = (TRUTH == 2) & (z > 75) & (z < 150) & (y > 30)
    assert (labels[behind] == 2).mean() > 0.95


def test_lung_above_a_lesion_is_found_through_what_air_is_left_in_it():
    hu = CHEST.copy()
    z, y, x = grid()
    solid = (TRUTH == 2) & (z > 120) & (z < 150) & ((np.abs(y) > 12) | (np.abs(x - 70) > 25))
    hu[solid] = 40
    labels = lung_mask(hu, GEOMETRY)
    assert (labels[(TRUTH == 2) & (z > 150)] == 2).mean() > 0.95


def test_nothing_is_filled_across_the_midline():
    hu = CHEST.copy()
    z, _, x = grid()
    sick = (TRUTH > 0) & (np.abs(x) > 45) & (z > 100)
    hu[sick & (np.random.default_rng(4).random(SHAPE) < 0.3)] = 40
    labels = lung_mask(hu, GEOMETRY)
    assert not labels[(np.abs(x) < 8) & (TRUTH == 0)].any()


def test_every_flag_is_raised_somewhere_and_means_something():
    merged = CHEST.copy()
    _, y, x = grid()
    merged[(np.abs(x) < 60) & (np.abs(y) < 50)] = -850
    half = CHEST.copy()
    half[TRUTH == 1] = 30
    small, large = (Geometry(SHAPE, AFFINE * [[k], [k], [k], [1.0]]) for k in (0.4, 2.0))
    raised = {
        *segment_lungs(np.full(SHAPE, -3024, np.int16), GEOMETRY).flags,
        *segment_lungs(CHEST[8:16], Geometry((8, *SHAPE[1:]), AFFINE)).flags,
        *segment_lungs(half, GEOMETRY).flags,
        *segment_lungs(merged, GEOMETRY).flags,
        *segment_lungs(CHEST, small).flags,
        *segment_lungs(CHEST, large).flags,
    }
    assert raised == set(FLAG_MEANINGS) - {"lesion_outside_lung"}
    assert set(INFORMING_FLAGS) < set(FLAG_MEANINGS)


def test_bowel_gas_in_a_pocket_of_the_lung_is_not_filled():
    hu = CHEST.copy()
    tissue = ellipsoid((110, 40, 130), (30, 30, 25)) & (TRUTH == 2)
    gas = ellipsoid((110, 40, 132), (28, 18, 14)) & tissue
    hu[tissue], hu[gas] = 30, -1000
    labels = lung_mask(hu, GEOMETRY)
    assert not labels[gas].any()
    assert_true(labels, np.where(tissue, 0, TRUTH).astype(np.uint8), at_least=0.96)


def test_airways_are_followed_over_a_slice_that_blurs_the_carina():
    hu = CHEST.copy()
    z, y, x = grid()
    blurred = (z[:, 0, 0] > 105) & (z[:, 0, 0] < 113)
    assert blurred.sum() == 1
    here = blurred[:, None, None] & (np.abs(x) < 24) & (np.abs(y + 15) < 12) & (TRUTH == 0)
    hu[here & (hu < -500)] = -700
    bronchi = np.zeros(SHAPE, bool)
    for side in (-1, 1):
        bronchi |= ((x - side * (110 - z)) ** 2 + (y + 15) ** 2 < 8**2) & (z < 105) & (z > 90)
    assert lung_mask(hu, GEOMETRY)[bronchi & (TRUTH == 0)].mean() < 0.1


@pytest.mark.parametrize("fill", [-3024, -1000, -500, 40, 3000])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 1), (5, 1, 64), (1, 100, 100), (6, 70, 130)])
def test_no_lungs_at_all(shape, fill):
    result = segment_lungs(np.full(shape, fill, np.int16), Geometry(shape, AFFINE))
    assert not result.labels.any()
    assert "lung_empty" in result.flags


@given(st.integers(0, 2**32), st.tuples(st.integers(1, 6), st.integers(1, 90), st.integers(1, 90)))
@settings(max_examples=40)
def test_noise_never_crashes(seed, shape):
    rng = np.random.default_rng(seed)
    spacing = rng.uniform(0.3, 10.0, 3)
    hu = rng.choice(np.array([-3024, -1000, -950, -850, -300, 40, 900], np.int16), shape)
    result = segment_lungs(hu, Geometry(shape, np.diag([*spacing, 1.0])))
    assert set(np.unique(result.labels)) <= {0, 1, 2}
    assert ("lung_empty" in result.flags) == (not result.labels.any())


def test_areas_and_box():
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:5, 40:60, 30:50] = 1
    labels[4:9, 45:70, 100:140] = 2
    areas = slice_areas_mm2(labels, GEOMETRY)
    assert areas.shape == (24, 2)
    assert areas[4].tolist() == [20 * 20 * 4.0, 25 * 40 * 4.0]
    assert areas[:3].sum() == 0
    assert lung_box(labels, GEOMETRY, 0.0) == (slice(3, 9), slice(40, 70), slice(30, 140))
    assert lung_box(labels, GEOMETRY, 10.0) == (slice(1, 11), slice(35, 75), slice(25, 145))
    assert lung_box(labels, GEOMETRY, 1e4) == tuple(slice(0, n) for n in SHAPE)
    assert lung_box(labels * 0, GEOMETRY) == tuple(slice(0, n) for n in SHAPE)


def test_wrong_arrays_are_refused():
    with pytest.raises(ArrayError, match="int16"):
        lung_mask(CHEST.astype(np.float32), GEOMETRY)
    with pytest.raises(ArrayError, match="wanted int16"):
        lung_mask(CHEST[1:], GEOMETRY)
    with pytest.raises(ArrayError, match="hu is a list of 1, geometry is a list of 2"):
        lung_mask([CHEST], [GEOMETRY, GEOMETRY])
    with pytest.raises(ArrayError, match="it is list, wanted int16"):
        lung_mask([CHEST], GEOMETRY)
    with pytest.raises(ArrayError, match="geometry is NoneType"):
        lung_mask(CHEST, None)
    with pytest.raises(ArrayError, match="it is ndarray"):
        lung_mask([CHEST], [GEOMETRY.affine])


def read(path):
    image = nib.load(path)
    array = np.ascontiguousarray(np.asanyarray(image.dataobj).T)
    return array, Geometry(array.shape, image.affine)


@pytest.mark.real
@pytest.mark.parametrize("case", ["000", "001", "007"])
def test_real_contours(real_data, case):
    hu, geometry = read(real_data / f"ct/lctsc_{case}.nii.gz")
    expert = read(real_data / f"ct/lctsc_{case}_lung.nii.gz")[0] > 0
    labels = lung_mask(hu, geometry)
    assert dice(labels > 0, expert) > 0.978
    middle = np.nonzero(expert)[2].mean()
    x = np.arange(hu.shape[2])
    for side, of_side in ((1, x < middle - 40), (2, x > middle + 40)):
        assert dice((labels == side)[..., of_side], expert[..., of_side]) > 0.965


@pytest.mark.real
@pytest.mark.parametrize(("share", "least"), [(0.15, 0.965), (0.3, 0.95), (0.5, 0.93)])
def test_disease_planted_into_real_lungs(real_data, share, least):
    found = []
    for case in ("000", "001", "007"):
        hu, geometry = read(real_data / f"ct/lctsc_{case}.nii.gz")
        expert = read(real_data / f"ct/lctsc_{case}_lung.nii.gz")[0] > 0
        for seed in range(3):
            sick = plant(hu, expert, geometry.spacing_mm, share, seed)
            lungs = lung_mask(sick.hu, geometry)
            labels = lungs > 0
            overlap = (labels & expert).sum()
            estimate = lesion_fraction(opacity_mask(sick.hu, lungs, geometry), lungs).percent
            error = estimate - 100 * sick.lesion.sum() / expert.sum()
            found.append((dice(labels, expert), overlap / labels.sum(), overlap / expert.sum(), error))
    scores, precision, recall, errors = np.array(found).T
    assert scores.mean() >= least
    assert scores.min() >= least - 0.005
    assert np.abs(errors).mean() <= 1.5
    assert np.abs(errors).max() <= 3.0
    assert precision.mean() >= 0.97
    assert recall.mean() >= 1 - 0.2 * share - 0.02


@pytest.mark.real
def test_real_disease_is_in_and_liver_out(real_data):
    hu, geometry = read(real_data / "ct/covid_P001.nii.gz")
    labels = lung_mask(hu, geometry)
    assert json.loads((real_data / "ct/covid_P001_slices.json").read_text())["P001"]
    assert ((labels[:5] > 0) & (hu[:5] > 0)).sum() < 50, "liver and stomach stand in front of the lungs' recesses"
    assert segment_lungs(hu, geometry).flags == ("lung_cut",)
