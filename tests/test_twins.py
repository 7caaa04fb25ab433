"""The CUDA kernels, run by g++ or by a GPU, give what the CPU's kernels give, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_volumes import random_masks, seeds

from fastct.kernels import reference
from fastct.kernels.counts import count_lungs, histogram
from fastct.kernels.cpu import gather as on_cpu
from fastct.kernels.gpu import counts as counts_on_gpu
from fastct.kernels.gpu import gather as on_gpu
from fastct.kernels.gpu import projections as projections_on_gpu
from fastct.kernels.maps import Grid, Line, Reading, identity_grid, window_line
from fastct.kernels.projections import project, slabs_of

sizes = st.sampled_from([1, 2, 3, 5, 7, 13, 37])
shapes = st.tuples(sizes, sizes, sizes)
dtypes = st.sampled_from(["float32", "float16", "uint8", "int16"])
# The layout and dtype of the source and the dtype of the output: each triple is compiled by itself.
kinds = st.sampled_from(
    [("plain", "int16", dtype) for dtype in ("float32", "float16", "uint8", "int16")]
    + [("shifted", "int16", "float16"), ("flipped", "int16", "float32"), ("stepped", "uint8", "uint8")]
)


def random_volume(shape, seed, layout, dtype):
    """Random voxels of that shape, lying in memory as `layout` says."""
    rng = np.random.default_rng(seed)
    if layout == "stepped":
        return random_volume([2 * n for n in shape], seed, "plain", dtype)[::2, 1::2, ::2]
    if layout == "shifted":  # no place for loads of 16 bytes
        size = int(np.prod(shape))
        return random_volume((1, 1, size + 3), seed, "plain", dtype).ravel()[3:].reshape(shape)
    limits = (-1100, 3000) if dtype == "int16" else (0, 255)
    volume = rng.integers(*limits, shape, dtype=dtype, endpoint=True)
    return volume[::-1, ::-1, ::-1] if layout == "flipped" else volume


def random_grid(shape, out_shape, rng):
    """A grid of one of the kinds there are: each voxel once, along the axes, swapped axes, or askew."""
    kind = rng.integers(4)
    if kind == 0:
        return identity_grid(shape)
    scales = np.diag(rng.uniform(0.3, 2, 3) * rng.choice([-1, 1], 3))
    if kind == 2:
        scales = scales[rng.permutation(3)]
    if kind == 3:
        scales = np.linalg.qr(rng.normal(size=(3, 3)))[0] @ scales
    if rng.integers(2):
        scales = np.rint(scales * 2) / 2 + (scales == scales.max()) if kind == 1 else scales  # many ties
    middle = (np.array(shape) - 1) / 2 + rng.uniform(-2, 2, 3)
    return Grid(out_shape, np.column_stack([scales, middle - scales @ ((np.array(out_shape) - 1) / 2)]))


def random_reading(shape, out_shape, dtype, rng):
    low = float(rng.uniform(-1200, 0))
    lines = [window_line(low, low + rng.uniform(1, 2000), dtype), Line(), Line(3.5, -0.37, 2, -400, 900)]
    return Reading(
        random_grid(shape, out_shape, rng),
        lines[rng.integers(3)],
        int(rng.integers(2)),
        [None, -1024.0, 0.0][rng.integers(3)],
        [0.0, 0.3, 40.0][rng.integers(3)] * rng.integers(2),
        int(rng.integers(2**63)),
    )


def bits(array):
    return array.view(f"u{array.itemsize}")


@given(shapes, shapes, seeds, kinds)
def test_gather_is_the_same_to_the_bit(gpu, shape, out_shape, seed, kind):
    layout, source_dtype, dtype = kind
    rng = np.random.default_rng(seed)
    volume = random_volume(shape, seed, layout, source_dtype)
    reading = random_reading(shape, out_shape, dtype, rng)
    expected, found = (np.empty(reading.grid.shape, dtype) for _ in range(2))
    on_cpu.gather([volume], [expected], [reading])
    gpu.from_the_last = bool(rng.integers(2))
    on_gpu.gather([volume], [found], [reading])
    np.testing.assert_array_equal(bits(found), bits(expected))


@given(st.lists(st.tuples(shapes, shapes), max_size=6), seeds, dtypes)
def test_a_batch_takes_a_launch_for_each_kind(gpu, several, seed, dtype):
    rng = np.random.default_rng(seed)
    volumes = [random_volume(shape, seed + n, "plain", "int16") for n, (shape, _) in enumerate(several)]
    readings = [random_reading(shape, out_shape, dtype, rng) for shape, out_shape in several]
    expected, found = ([np.empty(r.grid.shape, dtype) for r in readings] for _ in range(2))
    on_cpu.gather(volumes, expected, readings)
    gpu.launches.clear()
    on_gpu.gather(volumes, found, readings)
    assert len(gpu.launches) == len(set(gpu.launches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))


@given(st.integers(1, 20000), seeds, dtypes)
def test_long_rows_are_mapped_in_wide_loads_and_a_rest(gpu, size, seed, dtype):
    volume = random_volume((1, 1, size), seed, "plain", "int16")
    reading = Reading(identity_grid(volume.shape), window_line(-1000, 400, dtype))
    expected, found = (np.empty(volume.shape, dtype) for _ in range(2))
    on_cpu.gather([volume], [expected], [reading])
    on_gpu.gather([volume], [found], [reading])
    np.testing.assert_array_equal(bits(found), bits(expected))


@pytest.mark.parametrize("order", [0, 1])
def test_places_beyond_31_bits_are_read(gpu, order):
    volume = np.zeros((2050, 1024, 1024), np.uint8)[::-1]  # pages of memory are made when they are written
    assert volume.size > 2**31
    volume[-2:, -5:, -7:] = np.random.default_rng(order).integers(0, 255, (2, 5, 7))
    start = np.array(volume.shape) - (2, 5, 7)
    turn = np.array([[1, 0.02, 0], [0, 1, 0.01], [0, 0.01, 1]])
    grids = [Grid((2, 5, 7), np.column_stack([matrix, start + 0.25 * order])) for matrix in (np.eye(3), turn)]
    readings = [Reading(grid, Line(), order) for grid in grids]
    expected, found = ([np.empty((2, 5, 7), np.uint8) for _ in grids] for _ in range(2))
    on_cpu.gather([volume] * 2, expected, readings)
    on_gpu.gather([volume] * 2, found, readings)
    near = volume[-2:, -5:, -7:].copy()
    for grid, one, other in zip(grids, found, expected, strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))
        moved = Grid(grid.shape, np.column_stack([grid.affine[:, :3], grid.affine[:, 3] - start]))
        np.testing.assert_allclose(one, reference.resample(near, moved, order), rtol=0, atol=0.51)
        assert one.any()


def test_a_batch_takes_no_memory_but_its_table(gpu):
    rng = np.random.default_rng(0)
    volumes = [random_volume((3, 5, 7), n, "plain", "int16") for n in range(9)]
    readings = [random_reading((3, 5, 7), (2, 4, 6), "float16", rng) for _ in volumes]
    outs = [np.empty(reading.grid.shape, np.float16) for reading in readings]
    gpu.taken_bytes = gpu.table_bytes = 0
    on_gpu.gather(volumes, outs, readings)
    assert gpu.taken_bytes == 0
    assert gpu.table_bytes == len(volumes) * on_gpu.JOB.itemsize


@given(st.lists(shapes, min_size=1, max_size=3), seeds)
def test_counts_are_the_same(gpu, several, seed):
    rng = np.random.default_rng(seed)
    lungs = [random_masks(shape, rng, [0, 1, 2, 3, 255]) for shape in several]
    lesions = [random_masks(shape, rng, [0, 0, 1, 128]) for shape in several]
    found = counts_on_gpu.count_lungs(lungs, lesions)
    np.testing.assert_array_equal(found, count_lungs(lungs, lesions))
    volumes = [rng.integers(-1024, 1500, shape, dtype=np.int16) for shape in several]
    low_hu, bin_hu, bins = int(rng.integers(-1100, 500)), int(rng.integers(1, 60)), int(rng.integers(1, 40))
    found = counts_on_gpu.histogram(volumes, lesions, low_hu, bin_hu, bins)
    np.testing.assert_array_equal(found, histogram(volumes, lesions, low_hu, low_hu + bin_hu * bins, bin_hu))


def test_long_studies_are_counted_by_many_blocks(gpu):
    rng = np.random.default_rng(0)
    lungs, lesion = (rng.integers(0, 3, (2, 300, 401), dtype=np.uint8) for _ in range(2))
    found = counts_on_gpu.count_lungs([lungs, lungs[:1]], [lesion, lesion[:1]])
    np.testing.assert_array_equal(found, count_lungs([lungs, lungs[:1]], [lesion, lesion[:1]]))
    hu = rng.integers(-1024, 1024, lungs.shape, dtype=np.int16)
    found = counts_on_gpu.histogram([hu], [lungs], -1024, 1, 2048)
    np.testing.assert_array_equal(found, histogram([hu], [lungs], -1024, 1024))


lengths = st.one_of(st.none(), st.integers(1, 20))
kinds_to_project = st.sampled_from([("plain", "int16"), ("flipped", "int16"), ("plain", "uint8")])
small_shapes = st.tuples(*[st.sampled_from([1, 2, 3, 5, 13])] * 3)


@given(
    st.lists(st.tuples(small_shapes, kinds_to_project), max_size=3),
    seeds,
    st.sampled_from(["max", "min", "mean"]),
    st.integers(0, 2),
    lengths,
    lengths,
)
def test_projections_are_the_same(gpu, several, seed, kind, axis, slab, step):
    volumes = [random_volume(shape, seed, layout, dtype) for shape, (layout, dtype) in several]
    expected = project(volumes, kind, axis, slab, step)
    found = [np.empty_like(picture) for picture in expected]
    slabs = [slabs_of(volume.shape[axis], slab, step) for volume in volumes]
    projections_on_gpu.project(volumes, found, kind, axis, slabs)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))


def test_rows_longer_than_a_warp_are_projected(gpu):
    hu = random_volume((2, 3, 301), 0, "plain", "int16")
    for kind in ("max", "min", "mean"):
        (expected,) = project([hu], kind, 2)
        found = np.empty_like(expected)
        projections_on_gpu.project([hu], [found], kind, 2, [slabs_of(301, None, None)])
        np.testing.assert_array_equal(found, expected)
