"""Geometry: spacing, volume and upright views."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastct.errors import ArrayError
from fastct.geometry import Geometry

AXES = list(np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).T.reshape(-1, 3))


@given(order=st.permutations(range(3)), signs=st.sampled_from(AXES), tilt=st.floats(-0.2, 0.2))
def test_upright_agrees_with_nibabel_orientation(order, signs, tilt):
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.diag([0.7, 0.8, 8.0]))[:, list(order)] * np.asarray(signs)
    volume = np.arange(2 * 3 * 5).reshape(2, 3, 5)
    geometry = Geometry(volume.shape, affine)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(volume.T.astype(np.int16), affine))
    upright = geometry.upright(volume)
    np.testing.assert_array_equal(upright, np.asarray(canonical.dataobj)[::-1].T)  # x to the left
    np.testing.assert_array_equal(geometry.from_upright(upright), volume)
    np.testing.assert_allclose(geometry.upright_spacing_mm(), canonical.header.get_zooms()[::-1], rtol=1e-6)


def test_spacing_and_volume():
    geometry = Geometry((3, 4, 5), np.diag([-0.5, 0.5, 8.0, 1.0]))
    assert geometry.spacing_mm == (8.0, 0.5, 0.5)
    assert geometry.voxel_ml == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((3, 4), np.eye(4)),
        ((0, 4, 5), np.eye(4)),
        ((3.0, 4.0, 5.0), np.eye(4)),
        ((3, 4, 5), np.eye(3)),
        ((3, 4, 5), np.diag([1.0, 0.0, 1.0, 1.0])),
        ((3, 4, 5), np.full((4, 4), np.nan)),
        ((3, 4, 5), "affine"),
        ((3, 4, 5), np.eye(4) * 1j),
        ((3, 4, 5), [[1, 0], [0]]),
    ],
)
def test_refuses_what_is_no_volume(shape, affine):
    with pytest.raises(ArrayError):
        Geometry(shape, affine)


def test_matches_within_a_thousandth_of_a_millimetre():
    near, far = np.eye(4), np.eye(4)
    near[0, 3], far[0, 3] = 5e-4, 5e-3
    geometry = Geometry((3, 4, 5), np.eye(4))
    assert geometry.matches(Geometry((3, 4, 5), near))
    assert not geometry.matches(Geometry((3, 4, 5), far))
    assert not geometry.matches(Geometry((3, 4, 6), np.eye(4)))
