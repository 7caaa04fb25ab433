"""Window and resample: laws, parity with float64, float32 and SimpleITK, and what they refuse."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_volumes import seeds

import fastct
from fastct.errors import ArrayError, FastctError, OptionError
from fastct.kernels import reference
from fastct.kernels.cpu.rounding import half_bits
from fastct.kernels.gather import resampled_geometry
from fastct.kernels.maps import Grid, resample_grid, window_line

sizes = st.sampled_from([1, 2, 3, 5, 7, 13, 17, 31])
shapes = st.tuples(sizes, sizes, sizes)
spacings = st.tuples(*[st.floats(0.3, 9.0) for _ in range(3)])
windows = st.tuples(st.floats(-2000, 1000), st.floats(1, 4000)).map(lambda w: (w[0], w[0] + w[1]))
layouts = st.sampled_from(["plain", "stepped", "flipped", "read-only"])  # two kinds to compile for


def random_hu(shape, seed, layout="plain", dtype="int16"):
    """Random voxels of that shape, lying in memory as `layout` says."""
    rng = np.random.default_rng(seed)
    if layout == "stepped":
        return random_hu([2 * n for n in shape], seed, dtype=dtype)[::2, 1::2, ::2]
    limits = (-1024, 3000) if dtype == "int16" else (0, 255)
    hu = rng.integers(*limits, shape, dtype=dtype, endpoint=True)
    if layout == "read-only":
        hu.flags.writeable = False
    return hu[::-1, ::-1, ::-1] if layout == "flipped" else hu


def float32_line(hu, line):
    anchor, slope, offset, floor, ceiling = line.scalars
    return np.minimum(np.maximum((hu.astype(np.float32) - anchor) * slope + offset, floor), ceiling)


def float32_resample(hu, grid, line):
    """The kernel's operations in its order, in NumPy, which never fuses a product with a sum."""
    values = float32_line(hu, line)
    for axis in (1, 2, 0):
        last = values.shape[axis] - 1
        places = grid.places[axis, 3] + grid.places[axis, axis] * np.arange(grid.shape[axis])
        places = places.clip(0, last << 32)
        near = places >> 32
        weight = np.float32((places & 0xFFFFFFFF) >> 8) * np.float32(2.0**-24)
        weight = weight.reshape([-1 if a == axis else 1 for a in range(3)])
        a, b = values.take(near, axis), values.take(np.minimum(near + 1, last), axis)
        values = a + weight * (b - a)
    return values


@given(shapes, seeds, layouts, windows)
def test_window_is_the_clamped_map(shape, seed, layout, window_hu):
    hu = random_hu(shape, seed, layout)
    truth = reference.window(hu, *window_hu)
    np.testing.assert_allclose(fastct.window(hu, *window_hu), truth, rtol=0, atol=1e-5)
    np.testing.assert_allclose(fastct.window(hu, *window_hu, dtype="float16"), truth, rtol=0, atol=5e-4)
    np.testing.assert_allclose(fastct.window(hu, *window_hu, dtype="uint8"), truth * 255, rtol=0, atol=0.5001)


@given(shapes, seeds, windows)
def test_window_rounds_each_operation_to_float32(shape, seed, window_hu):
    hu = random_hu(shape, seed)
    low, high = window_hu
    expected = float32_line(hu, window_line(low, high))
    np.testing.assert_array_equal(fastct.window(hu, low, high), expected)
    np.testing.assert_array_equal(fastct.window(hu, low, high, "float16"), expected.astype(np.float16))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("lead", [0, 1, 7])
def test_large_outputs_are_the_same_voxels(dtype, lead):
    size = 2**24 + 1000  # beyond what is written past the caches, wherever it begins in memory
    hu = np.resize(random_hu((1, 1, 5003), 0), (1, 1, size))
    out = np.empty(lead + size + 1, dtype)
    out[:lead] = out[-1:] = 7
    fastct.window(hu, -1000, 400, dtype, out=out[lead:-1].reshape(hu.shape))
    expected = np.resize(fastct.window(hu[..., :5003], -1000, 400, dtype), size)
    np.testing.assert_array_equal(out[lead:-1], expected)
    assert (out[:lead] == 7).all()
    assert out[-1] == 7


def test_window_reaches_its_ends():
    hu = np.array([[[-32768, -1000, -300, 400, 32767]]], dtype="int16")
    assert fastct.window(hu, -1000, 400).tolist() == [[[0, 0, 0.5, 1, 1]]]
    assert fastct.window(hu, -1000, 400, "uint8").tolist() == [[[0, 0, 128, 255, 255]]]


@given(st.integers(0, 2**32 - 1))
def test_half_bits_round_as_numpy_does(bits):
    value = np.uint32(bits).view(np.float32)
    if np.isfinite(value):
        with np.errstate(over="ignore"):
            assert half_bits(value) == value.astype(np.float16).view(np.uint16)


@pytest.mark.parametrize("place", [0, 0x33000000, 0x33000001, 0x38800000, 0x477FEFFF, 0x477FF000, 0x7F7FFFFF])
def test_half_bits_turn_at_the_same_places_as_numpy(place):
    for bits in np.arange(max(place - 3, 0), place + 4, dtype=np.uint32):
        value = bits.view(np.float32)
        if np.isfinite(value):
            with np.errstate(over="ignore"):
                assert half_bits(value) == value.astype(np.float16).view(np.uint16)


@given(shapes, spacings, spacings, seeds, layouts, windows)
def test_resample_agrees_with_float64(shape, spacing_mm, to_mm, seed, layout, window_hu):
    hu = random_hu(shape, seed, layout)
    grid = resample_grid(shape, spacing_mm, to_mm)
    low, high = window_hu
    truth = reference.resample(reference.window(hu, low, high), grid, 1)
    found = fastct.resample(hu, spacing_mm, to_mm, window_hu)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5)
    hu = np.ascontiguousarray(hu)  # one layout will do for the other types: each one is compiled
    bytes_found = fastct.resample(hu, spacing_mm, to_mm, window_hu, dtype="uint8")
    np.testing.assert_allclose(bytes_found, truth * 255, rtol=0, atol=0.5 + 255e-5)
    hu_found = fastct.resample(hu, spacing_mm, to_mm, dtype="int16")
    np.testing.assert_allclose(hu_found, reference.resample(hu, grid, 1), rtol=0, atol=0.51)


@given(shapes, spacings, spacings, seeds, layouts, windows)
def test_resample_rounds_each_operation_to_float32(shape, spacing_mm, to_mm, seed, layout, window_hu):
    hu = random_hu(shape, seed, layout)
    grid = resample_grid(shape, spacing_mm, to_mm)
    low, high = window_hu
    line = window_line(low, high)
    found = fastct.resample(hu, spacing_mm, to_mm, window_hu)
    np.testing.assert_array_equal(found, float32_resample(hu, grid, line))
    assert found.min() >= 0
    assert found.max() <= 1


def test_a_volume_may_lie_in_fortran_order():
    hu = np.asfortranarray(random_hu((3, 5, 7), 0))
    np.testing.assert_array_equal(fastct.window(hu, -1000, 400), fastct.window(hu.copy("C"), -1000, 400))
    resampled = [fastct.resample(volume, (8, 1, 1), (8, 2, 2)) for volume in (hu, hu.copy("C"))]
    np.testing.assert_array_equal(*resampled)


@given(shapes, spacings, spacings, seeds, layouts, st.sampled_from(["uint8", "bool"]))
def test_nearest_takes_labels_as_they_are(shape, spacing_mm, to_mm, seed, layout, dtype):
    labels = random_hu(shape, seed, layout, "uint8")
    labels = labels > 100 if dtype == "bool" else labels
    found = fastct.resample(labels, spacing_mm, to_mm, dtype="uint8", order=0)
    grid = resample_grid(shape, spacing_mm, to_mm)
    # Places are rounded to 2^-32 voxel: decide ties on the rounded ones.
    rounded = Grid(grid.shape, np.ldexp(grid.places.astype(np.float64), -32))
    np.testing.assert_array_equal(found, reference.resample(labels, rounded, 0))


@given(shapes, spacings, seeds, layouts, st.sampled_from([0, 1]))
def test_the_same_spacing_returns_the_input(shape, spacing_mm, seed, layout, order):
    hu = random_hu(shape, seed, layout)
    for dtype in ("int16", "float32"):
        np.testing.assert_array_equal(fastct.resample(hu, spacing_mm, spacing_mm, None, dtype, order), hu)
    labels = random_hu(shape, seed, layout, "uint8")
    np.testing.assert_array_equal(fastct.resample(labels, spacing_mm, spacing_mm, None, "uint8", order), labels)
    windowed = fastct.resample(hu, spacing_mm, spacing_mm, (-1000, 400), order=order)
    np.testing.assert_array_equal(windowed, fastct.window(hu, -1000, 400))


@given(shapes, spacings, spacings, st.integers(-1024, 3000))
def test_a_constant_stays_constant(shape, spacing_mm, to_mm, hu):
    found = fastct.resample(np.full(shape, hu, np.int16), spacing_mm, to_mm)
    assert (found == hu).all()


@given(shapes, spacings, spacings, seeds)
def test_flipping_commutes_with_resampling(shape, spacing_mm, to_mm, seed):
    hu = random_hu(shape, seed)
    flipped = fastct.resample(hu[::-1, ::-1, ::-1], spacing_mm, to_mm, (-1000, 400))
    plain = fastct.resample(hu, spacing_mm, to_mm, (-1000, 400))
    np.testing.assert_allclose(flipped[::-1, ::-1, ::-1], plain, rtol=0, atol=1e-6)


@given(st.lists(shapes, max_size=3), spacings, seeds, st.booleans())
def test_a_list_is_each_of_its_volumes(several, to_mm, seed, one_spacing):
    volumes = [random_hu(shape, seed + n) for n, shape in enumerate(several)]
    spacing = (8, 0.75, 0.75)
    given_spacing = spacing if one_spacing or not volumes else [spacing] * len(volumes)
    found = fastct.resample(volumes, given_spacing, to_mm, (-1000, 400), "float16")
    assert len(found) == len(volumes)
    for hu, answer in zip(volumes, found, strict=True):
        np.testing.assert_array_equal(answer, fastct.resample(hu, spacing, to_mm, (-1000, 400), "float16"))
    windowed = fastct.window(volumes, -1000, 400)
    assert [answer.shape for answer in windowed] == several


def test_out_is_filled_and_returned():
    hu = random_hu((3, 6, 8), 1)
    out = np.empty((3, 6, 8), np.float32)
    assert fastct.window(hu, -1000, 400, out=out) is out
    np.testing.assert_array_equal(out, fastct.window(hu, -1000, 400))
    batch = np.empty((2, 3, 3, 4), np.float16)
    spacing, to = (1, 1, 1), (1, 2, 2)
    assert fastct.resample([hu, hu[::-1]], spacing, to, None, "float16", out=batch) is batch
    np.testing.assert_array_equal(batch[1], fastct.resample(hu[::-1], spacing, to, None, "float16"))


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_outputs_have_memory_of_their_own(places):
    memory = np.zeros(3 * 26, np.int16)
    pieces = [memory[3 * place : 3 * place + 12].reshape(1, 3, 4) for place, _, _ in places]
    outs = [piece for piece, (_, is_out, _) in zip(pieces, places, strict=True) if is_out]
    volumes = [
        piece[:, ::-1] if is_turned else piece
        for piece, (_, is_out, is_turned) in zip(pieces, places, strict=True)
        if not is_out
    ]
    count = min(len(outs), len(volumes))
    outs, volumes = outs[:count], volumes[:count]
    shared = any(np.shares_memory(out, other) for n, out in enumerate(outs) for other in [*outs[:n], *volumes])
    if shared:
        with pytest.raises(ArrayError, match="memory"):
            fastct.resample(volumes, SPACING, SPACING, None, "int16", out=outs)
    else:
        assert fastct.resample(volumes, SPACING, SPACING, None, "int16", out=outs) is outs


def test_threads_share_the_kernels():
    volumes = [random_hu((4, 37, 41), n) for n in range(8)]

    def resample(hu):
        return fastct.resample(hu, (8, 0.7, 0.7), (4, 1.5, 1.5), (-1000, 400))

    with ThreadPoolExecutor(4) as pool:
        for hu, found in zip(volumes, pool.map(resample, volumes), strict=True):
            np.testing.assert_array_equal(found, resample(hu))


def random_geometry(shape, spacing_mm, seed):
    """A geometry turned at random."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing_mm[::-1]
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return fastct.Geometry(shape, affine)


def sitk_image(sitk, array, geometry):
    """A SimpleITK image with the geometry given (taken as if RAS were LPS: only places matter here)."""
    image = sitk.GetImageFromArray(array)
    spacing = geometry.spacing_mm[::-1]
    image.SetSpacing(spacing)
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    image.SetDirection((geometry.affine[:3, :3] / spacing).ravel().tolist())
    return image


def halfway(grid):
    """Which output voxels lie halfway between two source voxels of some axis."""
    places = [grid.affine[axis, axis] * np.arange(n) + grid.affine[axis, 3] for axis, n in enumerate(grid.shape)]
    ties = np.meshgrid(*[np.abs(place % 1 - 0.5) < 1e-6 for place in places], indexing="ij")
    return np.logical_or.reduce(ties)


@pytest.mark.parametrize("seed", range(6))
def test_resample_lies_where_simpleitk_says(seed):
    sitk = pytest.importorskip("SimpleITK")
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 24, 3))
    spacing_mm, to_mm = rng.uniform(0.5, 4, 3), rng.uniform(0.5, 4, 3)
    hu, geometry = random_hu(shape, seed), random_geometry(shape, spacing_mm, seed)
    resampled = resampled_geometry(geometry, to_mm)
    np.testing.assert_allclose(resampled.spacing_mm, to_mm, rtol=1e-12)
    image = sitk_image(sitk, hu, geometry)
    grid = sitk_image(sitk, np.zeros(resampled.shape, np.int16), resampled)
    centres = [
        volume.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in volume.GetSize()])
        for volume in (image, grid)
    ]
    np.testing.assert_allclose(centres[0], centres[1], rtol=0, atol=1e-6)
    for order, name in ((1, sitk.sitkLinear), (0, sitk.sitkNearestNeighbor)):
        expected = sitk.Resample(image, grid, sitk.Transform(), name, -9999.0, sitk.sitkFloat32)
        found = fastct.resample(hu, geometry.spacing_mm, to_mm, order=order)
        off = np.abs(found - sitk.GetArrayFromImage(expected)) > 4096 * 1e-5
        # Halfway between two voxels SimpleITK takes either, as its millimetres round.
        assert not (off & ~(halfway(resample_grid(shape, tuple(spacing_mm), tuple(to_mm))) & (order == 0))).any()


@given(shapes, spacings, spacings, seeds)
def test_resampled_geometry_keeps_the_centre(shape, spacing_mm, to_mm, seed):
    geometry = random_geometry(shape, spacing_mm, seed)
    resampled = resampled_geometry(geometry, to_mm)
    assert resampled.shape == tuple(
        max(1, round(n * s / t)) for n, s, t in zip(shape, geometry.spacing_mm, to_mm, strict=True)
    )
    for g in (geometry, resampled):
        centre = g.affine @ [*((np.array(g.shape[::-1]) - 1) / 2), 1]
        expected = geometry.affine @ [*((np.array(geometry.shape[::-1]) - 1) / 2), 1]
        np.testing.assert_allclose(centre, expected, rtol=0, atol=1e-9)


@pytest.mark.real
def test_real_volumes_agree_with_simpleitk(real_data):
    sitk = pytest.importorskip("SimpleITK")
    path = next(iter(sorted(real_data.glob("ct/lungdx_*.nii.gz"))))
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkInt16)
    hu, to_mm = sitk.GetArrayFromImage(image), (8.0, 1.5, 1.5)
    geometry = fastct.Geometry(hu.shape, np.diag([*image.GetSpacing(), 1.0]))
    image.SetOrigin((0, 0, 0))
    image.SetDirection(np.eye(3).ravel().tolist())
    grid = sitk_image(
        sitk,
        np.zeros(resampled_geometry(geometry, to_mm).shape, np.uint8),
        resampled_geometry(geometry, to_mm),
    )
    windowed = sitk.IntensityWindowing(sitk.Cast(image, sitk.sitkFloat64), -1000, 400, 0, 1)
    expected = sitk.GetArrayFromImage(sitk.Resample(windowed, grid, sitk.Transform(), sitk.sitkLinear))
    found = fastct.resample(hu, geometry.spacing_mm, to_mm, (-1000, 400))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


HU = np.zeros((2, 3, 4), np.int16)
SPACING = (8, 1, 1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: fastct.window(HU.astype(float), 0, 1), ArrayError),
        (lambda: fastct.window(HU.astype(">i2"), 0, 1), ArrayError),
        (lambda: fastct.window(HU[0], 0, 1), ArrayError),
        (lambda: fastct.window([HU, HU[:0]], 0, 1), ArrayError),
        (lambda: fastct.window("hu", 0, 1), ArrayError),
        (lambda: fastct.window(HU, 400, -1000), OptionError),
        (lambda: fastct.window(HU, 0, 0), OptionError),
        (lambda: fastct.window(HU, float("nan"), 1), OptionError),
        (lambda: fastct.window(HU, 0, float("inf")), OptionError),
        (lambda: fastct.window(HU, 0, 1e-46), OptionError),
        (lambda: fastct.window(HU, None, 1), OptionError),
        (lambda: fastct.window(HU, 0, 1, dtype="int16"), OptionError),
        (lambda: fastct.window(HU, 0, 1, dtype="float64"), OptionError),
        (lambda: fastct.window(HU, 0, 1, dtype="no such"), OptionError),
        (lambda: fastct.window(HU, 0, 1, out=np.zeros((2, 3, 4))), ArrayError),
        (lambda: fastct.window(HU, 0, 1, out=np.zeros((2, 3, 5), "f4")), ArrayError),
        (lambda: fastct.window(HU, 0, 1, out=np.zeros((4, 3, 4), "f4")[::2]), ArrayError),
        (lambda: fastct.window(HU, 0, 1, out=np.broadcast_to(np.float32(0), (2, 3, 4))), ArrayError),
        (lambda: fastct.window([HU], 0, 1, out=[]), ArrayError),
        (lambda: fastct.resample(HU, SPACING, SPACING, None, "int16", out=HU), ArrayError),
        (lambda: fastct.resample(HU, (8, 1, 0), SPACING), OptionError),
        (lambda: fastct.resample(HU, (8, 1, -1), SPACING), OptionError),
        (lambda: fastct.resample(HU, (8, 1), SPACING), OptionError),
        (lambda: fastct.resample(HU, "8", SPACING), OptionError),
        (lambda: fastct.resample(HU, [SPACING, SPACING], SPACING), OptionError),
        (lambda: fastct.resample(HU, [SPACING, (8, 1)], SPACING), OptionError),
        (lambda: fastct.resample(HU, SPACING, (8, float("nan"), 1)), OptionError),
        (lambda: fastct.resample(HU, SPACING, (8, 1e-12, 1)), OptionError),
        (lambda: fastct.resample(HU, SPACING, SPACING, (400, -1000)), OptionError),
        (lambda: fastct.resample(HU, SPACING, SPACING, (400,)), OptionError),
        (lambda: fastct.resample(HU, SPACING, SPACING, (0, 1), "int16"), OptionError),
        (lambda: fastct.resample(HU, SPACING, SPACING, None, "uint8"), OptionError),
        (lambda: fastct.resample(HU, SPACING, SPACING, order=3), OptionError),
        (lambda: resampled_geometry(fastct.Geometry((1, 1, 1), np.eye(4)), 2), OptionError),
    ],
)
def test_refusals_say_what_to_do(call, error):
    with pytest.raises(error) as caught:
        call()
    assert isinstance(caught.value, FastctError)
    assert len(caught.value.finding) > 5
    assert len(caught.value.cure) > 5
