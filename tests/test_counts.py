"""Counts, histograms and projections: what NumPy says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_volumes import random_masks, seeds

from fastct.errors import ArrayError, OptionError
from fastct.kernels.counts import count_lungs, histogram
from fastct.kernels.projections import project

sizes = st.sampled_from([1, 2, 3, 5, 17, 67])
shapes = st.tuples(sizes, sizes, sizes)


@given(st.lists(shapes, max_size=4), seeds)
def test_lungs_are_counted_by_side(several, seed):
    rng = np.random.default_rng(seed)
    lungs = [random_masks(shape, rng, [0, 1, 2, 3, 255]) for shape in several]
    lesions = [random_masks(shape, rng, [0, 0, 1, 128]) for shape in several]
    expected = np.array(
        [
            [
                (lung == 1).sum(),
                (lung == 2).sum(),
                (lesion != 0).sum(),
                ((lung == 1) & (lesion != 0)).sum(),
                ((lung == 2) & (lesion != 0)).sum(),
            ]
            for lung, lesion in zip(lungs, lesions, strict=True)
        ]
    ).reshape(-1, 5)
    np.testing.assert_array_equal(count_lungs(lungs, lesions), expected)


def test_counts_of_any_strides_and_above_16_bits():
    ones = np.ones((3, 300, 300), np.uint8)
    found = count_lungs([ones, ones.T[::2]], [ones, ones.T[::2]])
    assert found.tolist() == [[270000, 0, 270000, 270000, 0], [135000, 0, 135000, 135000, 0]]


@given(st.lists(shapes, max_size=4), seeds, st.integers(-1100, 500), st.integers(1, 60), st.integers(1, 40))
def test_histograms_agree_with_numpy(several, seed, low_hu, bin_hu, bins):
    rng = np.random.default_rng(seed)
    volumes = [rng.integers(-1024, 1500, shape, dtype=np.int16) for shape in several]
    masks = [random_masks(shape, rng, [0, 1, 7]) for shape in several]
    edges = low_hu + bin_hu * np.arange(bins + 1) - 0.5
    expected = np.array(
        [np.histogram(hu[mask != 0], edges)[0] for hu, mask in zip(volumes, masks, strict=True)]
    ).reshape(-1, bins)
    found = histogram(volumes, masks, low_hu, low_hu + bins * bin_hu, bin_hu)
    np.testing.assert_array_equal(found, expected)


lengths = st.one_of(st.none(), st.integers(1, 20))


# Every pair of a layout and a dtype is compiled by itself.
kinds_of_volume = st.sampled_from([("plain", "int16"), ("flipped", "int16"), ("plain", "uint8")])


@given(
    st.lists(st.tuples(shapes, kinds_of_volume), max_size=3),
    seeds,
    st.sampled_from(["max", "min", "mean"]),
    st.integers(0, 2),
    lengths,
    lengths,
)
def test_projections_agree_with_numpy(several, seed, kind, axis, slab, step):
    volumes = [random_volume(shape, seed, layout, dtype) for shape, (layout, dtype) in several]
    found = project(volumes, kind, axis, slab, step)
    for volume, picture in zip(volumes, found, strict=True):
        expected = numpy_projection(volume, kind, axis, slab, step)
        assert picture.dtype == expected.dtype
        np.testing.assert_array_equal(picture, expected)


def random_volume(shape, seed, layout, dtype):
    """Random voxels of that shape, lying in memory as `layout` says."""
    limits = (-32768, 32767) if dtype == "int16" else (0, 255)
    volume = np.random.default_rng(seed).integers(*limits, shape, dtype=dtype, endpoint=True)
    return volume[::-1, ::-1, ::-1] if layout == "flipped" else volume


def numpy_projection(volume, kind, axis, slab, step):
    volume = np.moveaxis(volume, axis, 0)
    slab = slab or len(volume)
    parts = [volume[start : start + slab] for start in range(0, len(volume), step or slab)]
    if kind == "mean":
        pictures = [(part.sum(axis=0, dtype=np.int64) / len(part)).astype(np.float32) for part in parts]
    else:
        pictures = [getattr(part, kind)(axis=0) for part in parts]
    return np.moveaxis(np.stack(pictures), 0, axis)


MASK = np.ones((2, 3, 4), np.uint8)
HU = np.zeros((2, 3, 4), np.int16)


@pytest.mark.parametrize(
    "call",
    [
        lambda: count_lungs([MASK], []),
        lambda: count_lungs([MASK], [HU]),
        lambda: count_lungs([MASK], [MASK[:1]]),
        lambda: histogram([MASK], [MASK], 0, 10),
        lambda: histogram([HU], [MASK > 0], 0, 10),
        lambda: project([HU[0]], "max"),
        lambda: project([HU.astype(float)], "max"),
        lambda: project([HU[:0]], "max"),
    ],
)
def test_arrays_are_refused(call):
    with pytest.raises(ArrayError):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: histogram([HU], [MASK], 10, 0),
        lambda: histogram([HU], [MASK], 0, 10, 3),
        lambda: histogram([HU], [MASK], 0, 10, 0),
        lambda: histogram([HU], [MASK], 0, 10000),
        lambda: histogram([HU], [MASK], 0, 2**20, 2**10),
        lambda: project([HU], "median"),
        lambda: project([HU], "max", 3),
        lambda: project([HU], "max", 0, 0),
        lambda: project([HU], "max", 0, 2, -1),
    ],
)
def test_options_are_refused(call):
    with pytest.raises(OptionError):
        call()
