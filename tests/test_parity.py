"""The same voxels as MONAI and TorchIO, wherever their results say that they lie."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_volumes import random_hu, seeds

import fastct
from fastct.kernels.gather import gather
from fastct.kernels.maps import Grid, Reading

pytestmark = pytest.mark.filterwarnings("ignore")  # of those packages: what they warn of is no fault of ours
law = settings(max_examples=30)
sizes = st.sampled_from([1, 2, 3, 5, 13, 31])
shapes = st.tuples(sizes, sizes, sizes)
spacings = st.tuples(*[st.floats(0.5, 8.0)] * 3)
HU_DIGITS = 4096e-5  # 1e-5 of the range of the voxels


def read_where(found_affine, spacing_mm, hu, shape):
    """What fastct reads at the voxels of a result, from its affine and that of the volume."""
    places = np.linalg.inv(np.diag([*spacing_mm, 1.0])) @ np.asarray(found_affine)
    return gather([hu], [Reading(Grid(tuple(shape), places[:3]))])[0]


@law
@given(shapes, spacings, spacings, seeds, st.booleans())
def test_monai_spacing(shape, spacing_mm, to_mm, seed, by_extent):
    torch, transforms = pytest.importorskip("torch"), pytest.importorskip("monai.transforms")
    extents = zip(shape, spacing_mm, to_mm, strict=True)
    assume(not by_extent or all(n * step_mm > 0.5 * wanted_mm for n, step_mm, wanted_mm in extents))  # else no voxel
    hu = random_hu(shape, seed)
    affine = torch.diag(torch.tensor([*spacing_mm, 1.0], dtype=torch.float64))
    image = pytest.importorskip("monai.data").MetaTensor(torch.from_numpy(hu.astype(np.float64))[None], affine=affine)
    step = transforms.Spacing(to_mm, mode="bilinear", padding_mode="border", dtype=np.float64, scale_extent=by_extent)
    result = step(image)
    found = read_where(result.affine, spacing_mm, hu, result.shape[1:])
    np.testing.assert_allclose(found, result[0].numpy(), rtol=0, atol=HU_DIGITS)


@law
@given(shapes, spacings, spacings, seeds)
def test_torchio_resample(shape, spacing_mm, to_mm, seed):
    torch, torchio = pytest.importorskip("torch"), pytest.importorskip("torchio")
    hu = random_hu(shape, seed)
    source = torch.from_numpy(hu.astype(np.float32))[None]
    result = torchio.Resample(to_mm)(torchio.ScalarImage(tensor=source, affine=np.diag([*spacing_mm, 1.0])))
    found = read_where(result.affine, spacing_mm, hu, result.data.shape[1:])
    np.testing.assert_allclose(found, result.data[0].numpy(), rtol=0, atol=HU_DIGITS)


@law
@given(shapes, seeds, st.tuples(*[st.floats(-0.6, 0.6)] * 3))
def test_monai_affine(shape, seed, turns):
    torch, transforms = pytest.importorskip("torch"), pytest.importorskip("monai.transforms")
    hu = random_hu(shape, seed)
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.qr(np.eye(3) + np.cross(np.eye(3), turns))[0]
    step = transforms.Affine(affine=matrix, padding_mode="border", image_only=True, dtype=np.float64)
    expected = step(torch.from_numpy(hu.astype(np.float64))[None])[0].numpy()
    centre = (np.array(shape) - 1) / 2  # MONAI turns about it
    grid = Grid(shape, np.column_stack([matrix[:3, :3], centre - matrix[:3, :3] @ centre]))
    np.testing.assert_allclose(gather([hu], [Reading(grid)])[0], expected, rtol=0, atol=HU_DIGITS)


@law
@given(shapes, seeds, st.floats(-1500, 0), st.floats(1, 3000))
def test_monai_window(shape, seed, low, width):
    transforms = pytest.importorskip("monai.transforms")
    hu = random_hu(shape, seed)
    expected = transforms.ScaleIntensityRange(low, low + width, 0, 1, clip=True, dtype=np.float64)(hu)
    np.testing.assert_allclose(fastct.window(hu, low, low + width), np.asarray(expected), rtol=0, atol=1e-5)
