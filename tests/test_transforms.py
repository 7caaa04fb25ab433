"""Preprocessing chains: what each step does, that all compose, and that draws can be repeated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_volumes import random_hu, seeds

import fastct
from fastct import transforms
from fastct.draws import Draws
from fastct.errors import ArrayError, FastctError, OptionError
from fastct.kernels.gather import resampled_geometry
from fastct.transforms import (
    Crop,
    Flip,
    Intensity,
    Noise,
    Pad,
    Preprocess,
    Resample,
    Rotate,
    Scale,
    Shift,
    Sometimes,
    Step,
    Uniform,
    Window,
)

sizes = st.sampled_from([1, 2, 3, 5, 7, 13])
shapes = st.tuples(sizes, sizes, sizes)
SHAPE = (5, 9, 11)
CUBE = fastct.Geometry((9, 9, 9), np.eye(4))


def random_geometry(shape, seed):
    """A geometry turned at random."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 4, 3)
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return fastct.Geometry(shape, affine)


def done(hu, *steps, geometry=None, dtype="int16"):
    geometry = geometry or fastct.Geometry(hu.shape, np.eye(4))
    return Preprocess(steps, dtype)(hu, geometry).hu


@given(shapes, seeds, st.tuples(*[st.floats(0.5, 9)] * 3))
def test_window_and_resample_are_the_functions_of_that_name(shape, seed, to_mm):
    hu, geometry = random_hu(shape, seed), random_geometry(shape, seed)
    chain = Preprocess((Resample(to_mm), Window(-1000, 400)), "float16")
    result = chain(hu, geometry)
    expected = fastct.resample(hu, geometry.spacing_mm, to_mm, (-1000, 400), "float16")
    np.testing.assert_array_equal(result.hu, expected)
    assert result.geometry.matches(resampled_geometry(geometry, to_mm), 1e-9)
    np.testing.assert_array_equal(
        Preprocess((Window(-1000, 400),), "uint8")(hu, geometry).hu, fastct.window(hu, -1000, 400, "uint8")
    )
    np.testing.assert_array_equal(done(hu), hu)


@given(shapes, shapes, seeds)
def test_resampling_to_a_shape_agrees_with_torch(shape, wanted, seed):
    torch = pytest.importorskip("torch")
    hu = random_hu(shape, seed)
    source = torch.from_numpy(hu.astype(np.float64))[None, None]
    expected = torch.nn.functional.interpolate(source, wanted, mode="trilinear", align_corners=False)
    found = done(hu, Resample(shape=wanted), dtype="float32")
    np.testing.assert_allclose(found, expected[0, 0], rtol=0, atol=4096e-5)


def test_an_axis_can_be_left_alone():
    hu = random_hu((5, 8, 8), 0)
    found = done(hu, Resample((None, 2, 2)))
    np.testing.assert_array_equal(found, fastct.resample(hu, (1, 1, 1), (1, 2, 2), dtype="int16"))


@given(shapes, seeds, st.data())
def test_crop_pad_and_flip_are_slices_of_the_array(shape, seed, data):
    hu = random_hu(shape, seed)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    np.testing.assert_array_equal(done(hu, Crop(start, stop)), hu[box])
    np.testing.assert_array_equal(done(hu, Flip((0, 2))), hu[::-1, :, ::-1])
    np.testing.assert_array_equal(done(hu, Crop(start, stop), Flip((1,))), hu[box][:, ::-1])
    padded = np.pad(hu, list(zip(start, stop, strict=True)), constant_values=-1024)
    np.testing.assert_array_equal(done(hu, Pad(start, stop)), padded)
    np.testing.assert_array_equal(done(hu, Pad(start, stop), Crop(start, tuple(np.add(start, shape).tolist()))), hu)


def test_crop_around_a_mask():
    mask = np.zeros((10, 20, 30), np.uint8)
    mask[4:6, 3:9, 28] = 1
    assert Crop.around(mask, (8, 1, 0.5)) == Crop((4, 3, 28), (6, 9, 29))
    assert Crop.around(mask, (8, 1, 0.5), margin_mm=3) == Crop((3, 0, 22), (7, 12, 30))


@pytest.mark.parametrize(
    ("degrees", "before", "after"),
    [
        ((90, 0, 0), (4, 4, 8), (4, 8, 4)),  # about z: x to y
        ((0, 90, 0), (8, 4, 4), (4, 4, 8)),  # about y: z to x
        ((0, 0, 90), (4, 8, 4), (8, 4, 4)),  # about x: y to z
        ((90, 90, 0), (4, 4, 8), (4, 8, 4)),  # about z first: y is not moved by a turn about y
        ((90, 0, 90), (4, 4, 8), (8, 4, 4)),
    ],
)
def test_rotate_moves_a_voxel_where_it_says(degrees, before, after):
    hu = np.zeros((9, 9, 9), np.int16)
    hu[before] = 100
    found = done(hu, Rotate(degrees))
    assert found[after] == 100
    assert found.sum() == 100


def test_rotation_counts_millimetres():
    hu = np.zeros((5, 41, 41), np.int16)
    hu[2, 20, 40] = 100  # 20 mm from the centre
    geometry = fastct.Geometry(hu.shape, np.diag([1, 1, 10, 1]))
    assert done(hu, Rotate((0, -90, 0)), geometry=geometry)[4, 20, 20] == 100


def test_scale_and_shift_move_the_picture():
    hu = np.zeros((9, 9, 9), np.int16)
    hu[4, 4, 6] = 100
    assert done(hu, Scale(2))[4, 4, 8] == 100
    assert done(hu, Scale(0.5))[4, 4, 5] == 100
    geometry = fastct.Geometry((9, 9, 9), np.diag([1, 1, 2, 1]))
    assert done(hu, Shift((4, -1, 2)), geometry=geometry)[6, 3, 8] == 100
    assert done(hu, Shift((0, 0, 3)))[0, 0, 0] == -1024


steps_of_geometry = st.lists(
    st.one_of(
        st.builds(Resample, st.tuples(*[st.floats(0.6, 3)] * 3)),
        st.builds(lambda z, y, x: Resample(shape=(z, y, x)), *[st.integers(1, 9)] * 3),
        st.builds(Pad, st.tuples(*[st.integers(0, 3)] * 3), st.tuples(*[st.integers(0, 3)] * 3)),
        st.builds(Flip, st.lists(st.integers(0, 2), max_size=2).map(tuple)),
        st.builds(Rotate, st.tuples(*[st.floats(-40, 40)] * 3)),
        st.builds(Scale, st.floats(0.7, 1.5)),
        st.builds(Shift, st.tuples(*[st.floats(-3, 3)] * 3)),
    ),
    max_size=5,
)


@given(shapes, seeds, steps_of_geometry)
def test_a_chain_lies_where_simpleitk_says(shape, seed, steps):
    sitk = pytest.importorskip("SimpleITK")
    hu, geometry = random_hu(shape, seed), random_geometry(shape, seed)
    result = Preprocess(tuple(steps))(hu, geometry)
    # Ask SimpleITK for the values at the places that the geometry of the result gives to its voxels.
    image = sitk.GetImageFromArray(hu.astype(np.float64))
    spacing = geometry.spacing_mm[::-1]
    image.SetSpacing(spacing)
    image.SetOrigin(geometry.affine[:3, 3].tolist())
    image.SetDirection((geometry.affine[:3, :3] / spacing).ravel().tolist())
    own = result.geometry.affine
    size = result.hu.shape[::-1]
    index_to_place = sitk.AffineTransform(own[:3, :3].ravel().tolist(), own[:3, 3].tolist())
    expected = sitk.GetArrayFromImage(
        sitk.Resample(image, size, index_to_place, sitk.sitkLinear, (0, 0, 0), (1, 1, 1), np.eye(3).ravel(), -1024.0)
    )
    edge = on_the_edge(geometry, result.geometry)
    np.testing.assert_allclose(result.hu[~edge], expected[~edge], rtol=0, atol=4096e-5)


def on_the_edge(geometry, other):
    """Which voxels of `other` lie so near to the end of the volume that rounding decides."""
    indices = np.indices(other.shape)[::-1].reshape(3, -1)
    places = np.linalg.solve(geometry.affine, other.affine @ np.vstack([indices, np.ones(indices.shape[1])]))
    ends = np.array(geometry.shape[::-1])[:, None] - 0.5
    near = (np.abs(places[:3] + 0.5) < 1e-6) | (np.abs(places[:3] - ends) < 1e-6)
    return near.any(axis=0).reshape(other.shape)


@given(shapes, seeds, steps_of_geometry)
def test_labels_lie_on_the_voxels_of_the_image(shape, seed, steps):
    labels = np.random.default_rng(seed).integers(0, 3, shape, dtype=np.uint8)
    hu = labels.astype(np.int16)
    geometry = random_geometry(shape, seed)
    chain = Preprocess(tuple(steps), fill_hu=0)
    result = chain(hu, geometry, [labels, labels > 1])
    assert [mask.shape for mask in result.labels] == [result.hu.shape] * 2
    assert all(mask.dtype == np.uint8 for mask in result.labels)
    whole = result.hu == np.rint(result.hu)  # there the image is a single voxel, or several of one value
    single = whole & (np.abs(result.hu - result.labels[0]) < 1)
    np.testing.assert_array_equal(result.labels[1], result.labels[0] > 1)
    assert (np.abs(result.hu - result.labels[0]) <= 2).all()
    np.testing.assert_array_equal(result.hu[single], result.labels[0][single])


def test_intensity_steps_compose():
    hu = np.array([[[-1200, -1000, -300, 400, 900]]], np.int16)
    geometry = fastct.Geometry(hu.shape, np.eye(4))

    def values(*steps, dtype="float32"):
        return Preprocess(steps, dtype)(hu, geometry).hu.ravel().tolist()

    assert values(Window(-1000, 400)) == [0, 0, 0.5, 1, 1]
    assert values(Window(-1000, 400), Intensity(2, -1)) == [-1, -1, 0, 1, 1]
    assert values(Window(-1000, 400), Intensity(-1, 1)) == [1, 1, 0.5, 0, 0]
    assert values(Intensity(2), dtype="int16") == [-2400, -2000, -600, 800, 1800]
    assert values(Intensity(1, 1000), Window(0, 1400), dtype="uint8") == [0, 0, 128, 255, 255]
    assert values(Window(-1000, 400), Window(0.25, 0.75)) == [0, 0, 0.5, 1, 1]


def test_noise_comes_in_units_of_the_output():
    hu = np.zeros((4, 64, 64), np.int16)
    geometry = fastct.Geometry(hu.shape, np.eye(4))
    noisy = Preprocess((Window(-1000, 1000), Noise(0.05, key=3)))
    assert abs(noisy(hu, geometry).hu.std() - 0.05) < 0.002
    in_bytes = Preprocess(noisy.steps, "uint8")(hu, geometry).hu
    np.testing.assert_allclose(in_bytes, noisy(hu, geometry).hu * 255, rtol=0, atol=0.501)
    other = Preprocess((Window(-1000, 1000), Noise(0.05, key=4)))
    assert (noisy(hu, geometry).hu != other(hu, geometry).hu).mean() > 0.99


RANDOM = Preprocess(
    (
        Rotate((Uniform(-10, 10), 0, Uniform(-2, 2))),
        Scale(Uniform(0.9, 1.1)),
        Shift((0, Uniform(-5, 5), Uniform(-5, 5))),
        Sometimes(Flip((2,))),
        Window(-1000, Uniform(300, 500)),
        Intensity(Uniform(0.9, 1.1), Uniform(-0.1, 0.1)),
        Sometimes(Noise(Uniform(0, 0.1)), 0.3),
    )
)


@given(st.integers(0, 2**64), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_draw_is_a_plain_value_that_can_be_replayed(seed, epoch, index):
    drawn = RANDOM.drawn(seed, epoch, index)
    assert drawn == RANDOM.drawn(seed, epoch, index)
    assert drawn == eval(repr(drawn), vars(transforms))  # noqa: S307
    assert drawn.drawn(1, 2, 3) == drawn
    assert -10 <= drawn.steps[0].degrees[0] <= 10
    assert 0.9 <= drawn.steps[1].factor <= 1.1
    hu = random_hu(SHAPE, 0)
    geometry = fastct.Geometry(SHAPE, np.eye(4))
    np.testing.assert_array_equal(drawn(hu, geometry).hu, RANDOM.drawn(seed, epoch, index)(hu, geometry).hu)


def test_draws_differ_by_seed_epoch_index_and_step():
    keys = [(7, 0, 0, 0), (8, 0, 0, 0), (7, 1, 0, 0), (7, 0, 1, 0), (7, 0, 0, 1), (7 + 2**32, 0, 0, 0)]
    assert len({Draws(*key).share() for key in keys}) == len(keys)
    shares = np.array([Draws(7, 0, index, 0).share() for index in range(2000)])
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(np.corrcoef(shares[:-1], shares[1:])[0, 1]) < 0.07


def test_draws_stay_as_they_were():
    draws = Draws(seed=7, epoch=1, index=2, step=3)
    assert [draws.word(), draws.word()] == [10336799076134799060, 11977447226794756261]


def test_a_new_step_takes_a_few_lines():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Transpose(Step):
        """Swap y and x."""

        def on(self, frame):
            z, y, x = frame.grid.shape
            return frame.read_on((z, x, y), np.eye(3)[[0, 2, 1]], np.zeros(3))

    hu = random_hu(SHAPE, 0)
    np.testing.assert_array_equal(done(hu, Transpose()), hu.transpose(0, 2, 1))


def test_a_batch_is_each_of_its_volumes():
    shapes = [(3, 5, 7), (1, 4, 4), (2, 9, 3)]
    volumes = [random_hu(shape, n) for n, shape in enumerate(shapes)]
    geometries = [random_geometry(shape, n) for n, shape in enumerate(shapes)]
    labels = [[hu > 0] * n for n, hu in enumerate(volumes)]
    chain = Preprocess((Resample(shape=(2, 4, 4)), Rotate((20, 0, 0)), Window(-1000, 400)), "float16")
    out = np.empty((3, 2, 4, 4), np.float16)
    results = chain.batch(volumes, geometries, labels, out)
    for number, result in enumerate(results):
        single = chain(volumes[number], geometries[number], labels[number])
        np.testing.assert_array_equal(result.hu, single.hu)
        np.testing.assert_array_equal(out[number], single.hu)
        assert len(result.labels) == number
        for mask, own in zip(result.labels, single.labels, strict=True):
            np.testing.assert_array_equal(mask, own)
    assert chain.batch([], []) == []


HU = np.zeros(SHAPE, np.int16)


@pytest.mark.parametrize(
    "call",
    [
        lambda: Window(400, -1000),
        lambda: Window(Uniform(-1000, 0), Uniform(0, 400)),
        lambda: Resample(),
        lambda: Resample((1, 1, 1), (2, 2, 2)),
        lambda: Resample((1, 0, 1)),
        lambda: Resample((1, 1)),
        lambda: Crop((0, 0, 3), (1, 1, 3)),
        lambda: Crop.around(np.zeros((2, 2, 2)), (1, 1, 1)),
        lambda: Pad((-1, 0, 0)),
        lambda: Flip((3,)),
        lambda: Flip(2),
        lambda: Pad(4),
        lambda: Rotate(15),
        lambda: Rotate((15,)),
        lambda: Rotate("123"),
        lambda: Shift((1, 2, 3, 4)),
        lambda: Shift((0, 0, math.nan)),
        lambda: Resample(2),
        lambda: Resample(shape=(2, 2.5, 2)),
        lambda: Crop((0, 0, 0), (1, 1)),
        lambda: Crop((0, 0, 0), (1, 1, 1, 1)),
        lambda: Intensity("2"),
        lambda: Noise(math.inf),
        lambda: Sometimes("x"),
        lambda: Scale(0),
        lambda: Scale(Uniform(0, 2)),
        lambda: Noise(-1),
        lambda: Sometimes(Flip((0,)), 2),
        lambda: Uniform(2, 1),
        lambda: Uniform(0, float("inf")),
        lambda: Draws(-1, 0, 0, 0),
        lambda: Draws(1, 2**32, 0, 0),
        lambda: RANDOM.drawn(1.5),
        lambda: done(HU, Crop((0, 0, 0), (99, 1, 1))),
        lambda: done(HU, Rotate((Uniform(0, 1), 0, 0))),
        lambda: done(HU, Sometimes(Flip((0,)))),
        lambda: done(HU, Noise(1)),
        lambda: done(HU, Noise(1, 1), Noise(1, 2)),
        lambda: done(HU, Noise(1, 1), Window(0, 1), dtype="float32"),
        lambda: done(HU, Window(0, 1), dtype="int16"),
        lambda: done(HU, dtype="uint8"),
        lambda: done(HU, Window(0, 1), Intensity(2), dtype="uint8"),
        lambda: done(HU, dtype="float64"),
        lambda: done(HU, Intensity(1e38)),
    ],
)
def test_options_are_refused_with_a_cure(call):
    with pytest.raises(OptionError) as caught:
        call()
    assert isinstance(caught.value, FastctError)
    assert len(caught.value.cure) > 5


ODD = (None, "x", "123", -1, math.nan, math.inf, (1,), (1, 2, 3, 4), ("a", "b", "c"), {}, (None, math.nan, 1), 1e300)


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("step", [Flip, Intensity, Noise, Pad, Resample, Rotate, Scale, Shift, Sometimes, Window, Crop])
def test_what_is_no_number_or_not_three_of_them_is_refused(step, odd):
    """A step that takes it all the same can be done."""
    try:
        made = Preprocess((step(odd, 400) if step in (Window, Crop) else step(odd),)).drawn(seed=1)
        hu = made(HU, fastct.Geometry(SHAPE, np.eye(4))).hu
    except OptionError:
        return
    assert np.isfinite(hu).all()


@pytest.mark.parametrize("steps", [Window(0, 1), (Window(0, 1), "x"), None, Flip, {}], ids=str)
def test_what_are_no_steps_is_refused(steps):
    with pytest.raises(OptionError, match="Give a tuple of steps"):
        Preprocess(steps)


@pytest.mark.parametrize(
    "call",
    [
        lambda chain: chain(HU, CUBE),
        lambda chain: chain(HU[0], CUBE),
        lambda chain: chain.batch([HU], []),
        lambda chain: chain(HU, fastct.Geometry(SHAPE, np.eye(4)), [HU[:1]]),
        lambda chain: chain(HU.astype(float), fastct.Geometry(SHAPE, np.eye(4))),
    ],
)
def test_arrays_are_refused_with_a_cure(call):
    with pytest.raises(ArrayError):
        call(Preprocess(()))
