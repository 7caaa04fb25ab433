"""Lesion percentages: laws of the counts, the severity rule, planted opacities, and real slices."""

import json
import math

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from fastct.errors import ArrayError, OptionError
from fastct.geometry import Geometry
from fastct.lesions import (
    NOISE_FLOOR_PERCENT,
    estimated_severity,
    extend_lungs,
    lesion_fraction,
    lesion_profile,
    opacity_mask,
    severity,
)
from fastct.lungs import lung_mask

GEOMETRY = Geometry((16, 100, 130), np.diag([-2.0, 2.0, 8.0, 1.0]))


def lungs_only(seed=0):
    """HU and labels of two ellipsoids of lung with vessels in soft tissue."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(GEOMETRY.shape)
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    for side, middle in ((1, 34), (2, 96)):
        labels[((z - 7.5) / 7.6) ** 2 + ((y - 50) / 42) ** 2 + ((x - middle) / 25) ** 2 < 1] = side
    hu = np.where(labels > 0, -860.0, 40.0)
    vessels = ndimage.gaussian_filter(rng.standard_normal(hu.shape), (0.6, 0.8, 0.8))
    hu[(vessels > np.quantile(vessels, 0.99)) & (labels > 0)] = -100
    hu = ndimage.gaussian_filter(hu, (0, 0.5, 0.5)) + rng.normal(0, 20, hu.shape)
    return hu.round().astype(np.int16), labels


HU, LUNGS = lungs_only()


def plant(share, hu_inside, seed=0):
    """HU with blobs that replace air, and their mask; about `share` of the lung."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.standard_normal(HU.shape), (1.5, 6, 6))
    lesion = (field > np.quantile(field[LUNGS > 0], 1 - share)) & (LUNGS > 0)
    hu = np.where(lesion, np.maximum(HU, hu_inside + rng.normal(0, 30, HU.shape)), HU)
    return hu.round().astype(np.int16), lesion


@given(st.integers(0, 2**32), st.booleans())
def test_fractions_are_ratios_of_counts(seed, right_only):
    rng = np.random.default_rng(seed)
    lungs = rng.integers(0, 2 if right_only else 3, (2, 5, 7), dtype=np.uint8)
    lesion = rng.integers(0, 2, lungs.shape, dtype=np.uint8)
    fraction = lesion_fraction(lesion, lungs)
    of_side = []
    for side, percent in ((1, fraction.percent_right), (2, fraction.percent_left)):
        inside = lesion[lungs == side]
        assert percent == pytest.approx(100 * inside.mean() if inside.size else 0.0)
        of_side.append(percent)
    assert fraction.percent == pytest.approx(100 * lesion[lungs > 0].mean() if lungs.any() else 0.0)
    assert fraction.percent_max == max(of_side)
    assert fraction.lesion_outside_voxels == lesion[lungs == 0].sum()
    assert min(of_side) <= fraction.percent + 1e-9
    assert fraction.percent <= max(of_side) + 1e-9


def test_no_lung_is_no_percentage_but_no_nan():
    fraction = lesion_fraction(np.ones((1, 2, 2), np.uint8), np.zeros((1, 2, 2), np.uint8))
    assert (fraction.percent, fraction.percent_right, fraction.percent_max) == (0.0, 0.0, 0.0)
    assert fraction.lesion_outside_voxels == 4


def test_severity_edges():
    edges = [0, 1e-9, 25, 25.0001, 50, 50.0001, 74.9999, 75, 100]
    assert [severity(p)[-1] for p in edges] == list("011223344")
    for wrong in (math.nan, math.inf, -0.1, 100.1):
        with pytest.raises(OptionError, match="between 0 and 100"):
            severity(wrong)
        with pytest.raises(OptionError, match="between 0 and 100"):
            estimated_severity(wrong)


def test_estimates_below_the_noise_floor_are_none():
    assert estimated_severity(NOISE_FLOOR_PERCENT - 0.01) == "CT-0"
    assert estimated_severity(NOISE_FLOOR_PERCENT) == "CT-1"
    assert estimated_severity(80.0) == "CT-4"


def test_normal_lungs_stay_below_the_noise_floor():
    found = opacity_mask(HU, LUNGS, GEOMETRY)
    assert lesion_fraction(found, LUNGS).percent < NOISE_FLOOR_PERCENT
    assert not opacity_mask(HU, LUNGS * 0, GEOMETRY).any()


@pytest.mark.parametrize("share", [0.05, 0.15, 0.4, 0.7, 0.85])
def test_planted_opacities_are_measured(share):
    hu, lesion = plant(share, -450)
    found = opacity_mask(hu, LUNGS, GEOMETRY)
    truth, estimate = (lesion_fraction(mask.astype(np.uint8), LUNGS) for mask in (lesion, found))
    assert estimate.percent == pytest.approx(truth.percent, abs=3.0)
    assert not found[LUNGS == 0].any()


def test_faint_glass_that_fills_nearly_all_is_not_taken_for_the_healthy_lung():
    hu, lesion = plant(0.85, -660)
    truth, found = (
        lesion_fraction(mask.astype(np.uint8), LUNGS) for mask in (lesion, opacity_mask(hu, LUNGS, GEOMETRY))
    )
    assert found.percent == pytest.approx(truth.percent, abs=5.0)


@pytest.mark.parametrize("inside_hu", [-640, -450])
def test_half_of_the_subjects_own_glass_is_where_a_soft_border_lies(inside_hu):
    lesion = plant(0.4, inside_hu)[1]
    share = np.clip(0.5 + edge_distances_mm(lesion) / 12.0, 0.0, 1.0)
    hu = np.where(LUNGS > 0, np.maximum(HU, HU + share * (inside_hu + 860)), HU).round().astype(np.int16)
    truth, found = (
        lesion_fraction(mask.astype(np.uint8), LUNGS) for mask in (lesion, opacity_mask(hu, LUNGS, GEOMETRY))
    )
    assert found.percent == pytest.approx(truth.percent, abs=2.0)


def edge_distances_mm(lesion):
    """How far inside the lesion each voxel lies, in its slice; below 0 outside."""
    inner, outer = (ndimage.distance_transform_edt(mask, (1e6, 2, 2)) for mask in (lesion, ~lesion))
    return inner - outer


def test_consolidation_beside_ground_glass_is_found():
    hu, lesion = plant(0.2, -450)
    core = ndimage.binary_erosion(lesion, np.ones((1, 5, 5)))
    hu[core] = 40
    found = opacity_mask(hu, LUNGS, GEOMETRY)
    assert found[core].mean() > 0.9


def edge_distance_mm():
    """How deep in the lung each voxel lies, in its slice."""
    return np.stack([2.0 * ndimage.distance_transform_edt(one) for one in LUNGS > 0])


def test_a_blurred_border_is_no_opacity_but_a_lesion_at_the_border_is():
    medial = (np.abs(np.arange(130) - 65) < 45) & (LUNGS > 0)
    blurred = np.where(medial & (edge_distance_mm() < 4.5), np.maximum(HU, -500), HU).astype(np.int16)
    assert lesion_fraction(opacity_mask(blurred, LUNGS, GEOMETRY), LUNGS).percent < NOISE_FLOOR_PERCENT
    y, x = np.indices(LUNGS.shape[1:])
    lesion = (LUNGS > 0) & ((y - 10) ** 2 + (x - 34) ** 2 < 13**2)
    lesion[[0, 1, 2, 13, 14, 15]] = False
    found = opacity_mask(np.where(lesion, np.maximum(HU, -500), HU).astype(np.int16), LUNGS, GEOMETRY)
    assert found[lesion].mean() > 0.9


def test_disease_that_ends_with_a_sick_lung_is_measured():
    hu, lesion = plant(0.4, -450)
    based = lesion.copy()
    based[:4] = LUNGS[:4] > 0
    hu[based & ~lesion] = -450
    found = opacity_mask(hu, LUNGS, GEOMETRY) > 0
    assert found[:2][based[:2]].mean() > 0.9


@pytest.mark.parametrize("flips", [(0,), (1,), (2,), (0, 1, 2)])
def test_the_same_opacities_from_every_side(flips):
    hu, _ = plant(0.2, -500)
    matrix = GEOMETRY.affine.copy()
    for axis in flips:
        matrix[:3, 3] += matrix[:3, 2 - axis] * (GEOMETRY.shape[axis] - 1)
        matrix[:3, 2 - axis] *= -1
    flipped = opacity_mask(np.flip(hu, flips), np.flip(LUNGS, flips), Geometry(hu.shape, matrix))
    assert np.array_equal(np.flip(flipped, flips), opacity_mask(hu, LUNGS, GEOMETRY))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 70), (3, 1, 1)])
def test_tiny_volumes(shape):
    ones = np.ones(shape, np.uint8)
    found = opacity_mask(np.full(shape, -300, np.int16), ones, Geometry(shape, np.eye(4)))
    assert found.shape == shape


def test_profile_of_bands():
    hu = np.array([[[-800, -700, -400, -130, -129, 40]]], np.int16)
    ones = np.ones(hu.shape, np.uint8)
    profile = lesion_profile(hu, ones, ones, Geometry(hu.shape, np.diag([1.0, 1.0, 10.0, 1.0])))
    assert profile.volume_ml == pytest.approx(0.06)
    assert profile.mean_hu == pytest.approx(hu.mean())
    assert profile.ground_glass_percent == pytest.approx(50.0)
    assert profile.consolidation_percent == pytest.approx(100 / 3)
    empty = lesion_profile(hu, ones * 0, ones, Geometry(hu.shape, np.eye(4)))
    assert math.isnan(empty.mean_hu)
    assert (empty.volume_ml, empty.ground_glass_percent) == (0.0, 0.0)


def test_an_experts_lesion_becomes_lung_of_the_nearer_side():
    lesion = np.zeros(LUNGS.shape, np.uint8)
    lesion[6, 50, 2:12] = lesion[6, 50, 58:62] = lesion[6, 50, 66:70] = lesion[6, 50, 125:] = 1
    lesion[6, 50, 30] = 1
    extended, added = extend_lungs(LUNGS, lesion, GEOMETRY)
    assert added == ((lesion > 0) & (LUNGS == 0)).sum() > 0
    assert (extended[6, 50, 2:12] == 1).all()
    assert (extended[6, 50, 58:62] == 1).all()
    assert (extended[6, 50, 66:70] == 2).all()
    assert (extended[6, 50, 125:] == 2).all()
    assert np.array_equal(extended[lesion == 0], LUNGS[lesion == 0])
    same, none = extend_lungs(LUNGS, LUNGS, GEOMETRY)
    assert none == 0
    assert np.array_equal(same, LUNGS)
    alone, _ = extend_lungs(LUNGS * 0, lesion, GEOMETRY)
    assert (alone[lesion > 0] > 0).all()


def test_wrong_arrays_are_refused():
    with pytest.raises(ArrayError, match="int16"):
        opacity_mask(HU.astype(float), LUNGS, GEOMETRY)
    with pytest.raises(ArrayError, match="uint8"):
        extend_lungs(LUNGS, LUNGS > 0, GEOMETRY)
    with pytest.raises(ArrayError, match="its study"):
        lesion_fraction(LUNGS[1:], LUNGS)
    with pytest.raises(ArrayError, match="shape"):
        lesion_profile(HU[1:], LUNGS, LUNGS, GEOMETRY)


def read(path):
    image = nib.load(path)
    array = np.ascontiguousarray(np.asanyarray(image.dataobj).T)
    return array, Geometry(array.shape, image.affine)


def area_under_curve(values, labels):
    ranks = np.argsort(np.argsort(values)) + 1.0
    positive = labels.sum()
    return (ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * (~labels).sum())


@pytest.mark.real
def test_real_infected_slices_stand_out(real_data):
    hu, geometry = read(real_data / "ct/covid_P001.nii.gz")
    labels = json.loads((real_data / "ct/covid_P001_slices.json").read_text())["P001"]["slice_labels"]
    opacity = opacity_mask(hu, lung_mask(hu, geometry), geometry)
    areas = opacity.sum(axis=(1, 2)) + np.linspace(0, 1e-6, len(hu))
    assert area_under_curve(areas, np.array(labels, bool)) >= 0.9


@pytest.mark.real
@pytest.mark.parametrize("case", ["000", "001"])
def test_real_normal_lungs_stay_below_the_noise_floor(real_data, case):
    hu, geometry = read(real_data / f"ct/lctsc_{case}.nii.gz")
    lungs = lung_mask(hu, geometry)
    assert lesion_fraction(opacity_mask(hu, lungs, geometry), lungs).percent < NOISE_FLOOR_PERCENT


def test_lists_of_volumes_of_different_shapes_give_lists():
    rng = np.random.default_rng(2)
    geometries = [Geometry(shape, np.diag([-3.0, 3.0, 8.0, 1.0])) for shape in ((3, 40, 64), (5, 64, 48))]
    hu = [rng.integers(-900, -300, geometry.shape).astype(np.int16) for geometry in geometries]
    lungs = [np.full(geometry.shape, side, np.uint8) for side, geometry in enumerate(geometries, 1)]
    lesions = opacity_mask(hu, lungs, geometries)
    alone = [opacity_mask(*volume) for volume in zip(hu, lungs, geometries, strict=True)]
    assert [lesion.tolist() for lesion in lesions] == [lesion.tolist() for lesion in alone]
    assert lesion_fraction(lesions, lungs) == [lesion_fraction(*pair) for pair in zip(lesions, lungs, strict=True)]
    assert opacity_mask([], [], []) == [] == lesion_fraction([], [])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: opacity_mask([HU, HU], [LUNGS], [GEOMETRY]), "hu is a list of 2, lungs is a list of 1"),
        (lambda: opacity_mask([HU], [LUNGS], GEOMETRY), "they are list and list"),
        (lambda: opacity_mask(HU, LUNGS, None), "geometry is NoneType"),
        (lambda: opacity_mask(HU, None, GEOMETRY), "and NoneType"),
        (lambda: opacity_mask([HU], [LUNGS], [None]), "it is NoneType"),
        (lambda: lesion_fraction([LUNGS], LUNGS), "lungs is ndarray"),
        (lambda: lesion_fraction(LUNGS, LUNGS * 100), "the mask holds"),
    ],
)
def test_what_does_not_belong_together_is_refused(wrong, said):
    with pytest.raises(ArrayError, match=said):
        wrong()


@pytest.mark.parametrize("percent", ["30", None, np.array([30.0, 40.0]), float("nan"), 101])
def test_severity_of_what_is_no_share_is_refused(percent):
    with pytest.raises(OptionError, match="Give a share"):
        severity(percent)
