"""Reading volumes on any grid: askew, flipped, beyond the edge, with noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_volumes import random_hu, seeds

import fastct
from fastct._ext.patches import turn_volume
from fastct.errors import ArrayError, OptionError
from fastct.kernels import reference
from fastct.kernels.cpu.noise import normal, philox
from fastct.kernels.gather import gather
from fastct.kernels.maps import Grid, Line, Reading, identity_grid, resample_grid, window_line

sizes = st.sampled_from([1, 2, 3, 5, 7, 13])
shapes = st.tuples(sizes, sizes, sizes)
fills = st.sampled_from([None, -1024.0, 0.0])
WINDOW = window_line(-1000, 400)


def random_grid(shape, out_shape, seed):
    """A grid turned and stretched at random about the volume's middle, partly outside."""
    rng = np.random.default_rng(seed)
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.3, 2, 3)
    middle = (np.array(shape) - 1) / 2 + rng.uniform(-1, 1, 3)
    return Grid(out_shape, np.column_stack([matrix, middle - matrix @ ((np.array(out_shape) - 1) / 2)]))


def rounded(grid):
    """The grid whose places are those that the kernels count with, for laws with ties."""
    return Grid(grid.shape, np.ldexp(grid.places.astype(np.float64), -32))


@given(shapes, shapes, seeds, fills)
def test_askew_reading_agrees_with_float64(shape, out_shape, seed, fill):
    hu, grid = random_hu(shape, seed), random_grid(shape, out_shape, seed)
    (found,) = gather([hu], [Reading(grid, WINDOW, 1, fill)])
    filling = None if fill is None else float(WINDOW(fill))
    truth = reference.resample(reference.window(hu, -1000, 400), rounded(grid), 1, filling)
    np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fill", [None, -1024.0])
def test_tiles_join_without_a_seam(fill):
    out_shape = (11, 131, 133)  # a little more than a tile, of either kind
    hu = random_hu((9, 60, 200), 0)
    for seed in range(4):
        grid = random_grid(hu.shape, out_shape, seed)
        if seed % 2:  # each plane of the output is read at one z
            grid.affine[0, 1:3] = 0
        (found,) = gather([hu], [Reading(grid, WINDOW, 1, fill)])
        filling = None if fill is None else float(WINDOW(fill))
        truth = reference.resample(reference.window(hu, -1000, 400), rounded(grid), 1, filling)
        np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5)


def test_voxels_read_far_apart_are_read_in_small_parts():
    hu = random_hu((20, 512, 512), 0)  # more voxels than are mapped at a time
    spread = np.array([[8, 0.2, 0.1], [0.3, 110, 9], [0.2, -8, 95]])
    for matrix in (spread, spread * [[1, 0, 0], [1, 1, 1], [1, 1, 1]]):  # the second reads each plane at one z
        grid = Grid((3, 5, 6), np.column_stack([matrix, (1, 20, 40)]))
        (found,) = gather([hu], [Reading(grid, WINDOW, 1, -1024.0)])
        truth = reference.resample(reference.window(hu, -1000, 400), rounded(grid), 1, float(WINDOW(-1024.0)))
        np.testing.assert_allclose(found, truth, rtol=0, atol=1e-5)


@given(shapes, shapes, seeds, fills)
def test_askew_labels_are_taken_as_they_are(shape, out_shape, seed, fill):
    labels = (random_hu(shape, seed) & 3).astype("uint8")
    grid = random_grid(shape, out_shape, seed)
    (found,) = gather([labels], [Reading(grid, Line(), 0, fill and 0)], "uint8")
    np.testing.assert_array_equal(found, reference.resample(labels, rounded(grid), 0, fill and 0))


@given(shapes, shapes, seeds, fills, st.sampled_from([0, 1]))
def test_both_loops_agree(shape, out_shape, seed, fill, order):
    rng = np.random.default_rng(seed)
    hu = random_hu(shape, seed)
    matrix = np.diag(rng.uniform(0.3, 2, 3) * rng.choice([-1, 1], 3))
    middle = (np.array(shape) - 1) / 2 + rng.uniform(-3, 3, 3)
    start = middle - matrix @ ((np.array(out_shape) - 1) / 2)
    reading = Reading(Grid(out_shape, np.column_stack([matrix, start])), WINDOW, order, fill)
    found = np.empty(out_shape, np.float32)
    turn_volume(hu, *reading.turn, found)
    (along,) = gather([hu], [reading])
    np.testing.assert_allclose(found, along, rtol=0, atol=(0, 1e-6)[order])  # of two, they blend z last
    truth = reference.resample(hu, rounded(reading.grid), order, fill)
    (found,) = gather([hu], [Reading(reading.grid, Line(), order, fill)])
    np.testing.assert_allclose(found, truth, rtol=0, atol=4096e-5)


@given(shapes, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_a_grid_may_swap_and_turn_axes(shape, axes, turned):
    hu = random_hu(shape, 0)
    affine = np.zeros((3, 4))
    for out_axis, axis in enumerate(axes):
        affine[axis, out_axis] = -1 if turned[axis] else 1
        affine[axis, 3] = shape[axis] - 1 if turned[axis] else 0
    grid = Grid(tuple(shape[axis] for axis in axes), affine)
    expected = np.flip(hu, [axis for axis in range(3) if turned[axis]]).transpose(axes)
    for order in (0, 1):
        np.testing.assert_array_equal(gather([hu], [Reading(grid, order=order)], "int16")[0], expected)


@given(shapes, st.tuples(*[st.integers(-20, 20)] * 3), shapes, fills)
def test_patches_are_cut_as_slices_of_a_padded_volume(shape, start, out_shape, fill):
    hu = random_hu(shape, 1)
    grid = Grid(out_shape, np.column_stack([np.eye(3), start]))
    widths = [(40, 60)] * 3
    padded = np.pad(hu, widths, "edge") if fill is None else np.pad(hu, widths, constant_values=int(fill))
    box = tuple(slice(40 + a, 40 + a + n) for a, n in zip(start, out_shape, strict=True))
    for order in (0, 1):
        found = gather([hu], [Reading(grid, order=order, fill=fill)], "int16")[0]
        np.testing.assert_array_equal(found, padded[box])


def test_philox_gives_its_published_words():
    words = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]  # Random123, kat_vectors: philox4x32 10
    assert list(philox(np.uint64(0), np.uint64(0))) == words


def test_normal_quantiles_agree_with_scipy():
    special = pytest.importorskip("scipy.special")
    words = np.random.default_rng(0).integers(0, 2**32, 4000, dtype=np.uint32)
    words[:6] = [0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1]
    found = np.array([normal(word) for word in words])
    np.testing.assert_allclose(found, special.ndtri((words + 0.5) / 2**32), rtol=0, atol=3e-6)
    np.testing.assert_array_equal(found, [-normal(word) for word in ~words])


@given(shapes, st.integers(0, 2**64 - 1))
def test_noise_depends_on_its_key_and_the_voxels_number_alone(shape, key):
    hu = random_hu(shape, 2)
    plain = Reading(identity_grid(shape), WINDOW)
    noisy = Reading(identity_grid(shape), WINDOW, noise_sigma=0.1, noise_key=key)
    clean, found = gather([hu, hu], [plain, noisy])
    words = [philox(np.uint64(n // 4), np.uint64(key))[n % 4] for n in range(hu.size)]
    grain = np.float32([normal(np.uint32(word)) for word in words]).reshape(shape)
    np.testing.assert_array_equal(found, clean + np.float32(0.1) * grain)
    for dtype in ("float16", "uint8"):
        line = window_line(-1000, 400, dtype)
        sigma = 0.1 if dtype == "float16" else 25.5
        reading = Reading(identity_grid(shape), line, noise_sigma=sigma, noise_key=key)
        single, rounded_off = gather([hu], [reading])[0], gather([hu], [reading], dtype)[0]
        expected = single if dtype == "float16" else np.rint(single).clip(0, 255)
        np.testing.assert_array_equal(rounded_off, expected.astype(dtype))


def test_noise_is_normal():
    hu = np.zeros((16, 64, 64), np.int16)
    (found,) = gather([hu], [Reading(identity_grid(hu.shape), noise_sigma=2.0, noise_key=7)])
    assert abs(found.mean()) < 2 * 4 / np.sqrt(hu.size)
    assert abs(found.std() - 2) < 0.03
    assert abs((np.abs(found) < 2).mean() - 0.6827) < 0.01
    neighbours = np.corrcoef(found.ravel()[:-1], found.ravel()[1:])[0, 1]
    assert abs(neighbours) < 0.02


terms = st.floats(-50, 50)


@given(seeds, terms, terms, st.floats(-1000, 1000), st.floats(1, 1000))
def test_lines_compose(seed, scale, shift, low, width):
    hu = random_hu((32,), seed)
    truth = np.clip((hu.astype(float) - low) / width, 0, 1)
    line = window_line(low, low + width).then(scale, shift)
    found = np.array([line(value) for value in hu])
    np.testing.assert_allclose(found, truth * scale + shift, rtol=0, atol=1e-5 * (1 + abs(scale) + abs(shift)))
    again = line.windowed(-1, 2)
    expected = np.clip((truth * scale + shift + 1) / 3, 0, 1)
    np.testing.assert_allclose(
        [again(value) for value in hu], expected, rtol=0, atol=1e-5 * (1 + abs(scale) + abs(shift))
    )


def test_a_turned_reading_agrees_with_torch_grid_sample():
    torch = pytest.importorskip("torch")
    hu = random_hu((9, 20, 31), 3)
    angle = np.deg2rad(12)
    turn = torch.tensor([[np.cos(angle), -np.sin(angle), 0, 0.1], [np.sin(angle), np.cos(angle), 0, 0], [0, 0, 1, 0]])[
        None
    ]
    source = torch.from_numpy(hu.astype(np.float64))[None, None]
    places = torch.nn.functional.affine_grid(turn, source.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(source, places, padding_mode="border", align_corners=False)
    half = np.array(hu.shape) / 2
    to_index = np.diag([*half, 1.0])
    to_index[:3, 3] = half - 0.5
    affine = np.eye(4)
    affine[:3] = turn[0].numpy()[::-1][:, [2, 1, 0, 3]]
    grid = Grid(hu.shape, (to_index @ affine @ np.linalg.inv(to_index))[:3])
    (found,) = gather([hu], [Reading(grid)])
    np.testing.assert_allclose(found, expected[0, 0], rtol=0, atol=4096e-5)


def test_refusals():
    hu = random_hu((2, 3, 4), 0)
    reading = Reading(resample_grid(hu.shape, (1, 1, 1), (1, 1, 2)))
    with pytest.raises(ArrayError):
        gather([hu], [reading, reading])
    with pytest.raises(ArrayError):
        gather([hu], [reading], out=[np.empty(hu.shape, np.float32)])
    with pytest.raises(OptionError):
        Grid((1, 1, 1), np.full((3, 4), np.nan))
    with pytest.raises(OptionError, match="voxels"):
        fastct.resample(hu, (1, 1, 1), (1e-7, 1e-7, 1e-7))
    with pytest.raises(OptionError):
        Line(slope=1e38)
    with pytest.raises(OptionError):
        Line(offset=float("nan"))
    assert gather([], []) == []
    with pytest.raises(ArrayError):
        fastct.window(hu.astype("int32"), 0, 1)
