"""Patches out of shards in one compiled call, and the voxels that stand for a mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastct
from fastct import shards
from fastct._ext import as_bytes
from fastct._ext.patches import read_patch, turn_patch
from fastct.foreground import SPOTS, as_file, foreground_of, from_file, mark_of
from fastct.kernels.gather import gather
from fastct.kernels.maps import Grid, Reading, identity_grid, window_line
from fastct.shard_layout import ShardLayout

law = settings(deadline=None, max_examples=60)
sizes = st.tuples(st.integers(1, 18), st.sampled_from([1, 7, 63, 64, 65, 130]), st.integers(1, 140))
WINDOW = (-1000, 400)


def stored(shape, dtype, seed=0):
    """A volume with air and noise in it, and its shard as a reader holds it."""
    rng = np.random.default_rng(seed)
    volume = rng.integers(-1100, 600, shape).astype(np.int16)
    volume[:, : shape[1] // 2] = -1024
    if dtype == "uint8":
        volume = (volume > 300).astype(np.uint8)
    layout = ShardLayout.from_metadata(shards.array_metadata(shape, dtype, "ctpack", 0 if dtype == "uint8" else -1024))
    shard = as_bytes(shards.write_shard(volume, layout))
    return volume, layout, shard, shards.read_index(shard, layout)


def expected(volume, begin, shape, backward, dtype):
    """The patch by NumPy, and by the windows that are tested elsewhere."""
    padded = np.full([n + 2 * 150 for n in volume.shape], -1024, np.int16)
    padded[tuple(slice(150, 150 + n) for n in volume.shape)] = volume
    box = padded[tuple(slice(150 + b, 150 + b + n) for b, n in zip(begin, shape, strict=True))]
    turned = np.flip(box, [axis for axis in range(3) if backward[axis]])
    return fastct.window(np.ascontiguousarray(turned), *WINDOW, dtype=dtype)


@law
@given(sizes, st.data(), st.sampled_from(["float32", "float16", "uint8"]), st.booleans(), st.integers(0, 9))
def test_any_patch_is_windowed_as_numpy_has_it(size, data, dtype, portable, seed):
    volume, layout, shard, index = stored(size, "int16", seed)
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 90), st.integers(1, 90)))
    begin = tuple(data.draw(st.integers(-n - 2, m + 2)) for n, m in zip(shape, size, strict=True))
    backward = data.draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    line = tuple(float(term) for term in window_line(*WINDOW, dtype).scalars)
    out = np.full(shape, 7, dtype)
    bits = out.view(np.uint16) if dtype == "float16" else out
    plan = (layout.shape, layout.chunk_shape, layout.voxel_bytes)
    assert read_patch(shard, index, plan, (begin, backward), (*line, 0.0, 0.0), bits, portable) is None
    np.testing.assert_array_equal(out, expected(volume, begin, shape, backward, dtype))


@law
@given(sizes, st.booleans(), st.sampled_from(["uint8", "int16"]), st.integers(0, 9))
def test_voxels_can_stay_as_they_are(size, portable, dtype, seed):
    volume, layout, shard, index = stored(size, dtype, seed)
    as_is = (0.0, 1.0, 0.0, -np.inf, np.inf, float(layout.fill_value), 0.0)
    out = np.zeros(size, dtype)
    plan = (layout.shape, layout.chunk_shape, layout.voxel_bytes)
    assert read_patch(shard, index, plan, ((0, 0, 0), (False,) * 3), as_is, out, portable) is None
    np.testing.assert_array_equal(out, volume)


def test_nothing_is_written_beside_the_patch():
    _, layout, shard, index = stored((10, 70, 70), "int16")
    around = np.full((8, 40, 40), 7, np.float32)
    plan = (layout.shape, layout.chunk_shape, 2)
    read_patch(shard, index, plan, ((-2, 50, 60), (False, True, False)), (0.0,) * 7, around[1:7, 2:38, 3:33])
    around[1:7, 2:38, 3:33] = 7
    assert (around == 7).all()


def test_a_flipped_bit_names_its_chunk_and_others_are_not_read():
    _, layout, shard, index = stored((10, 70, 70), "int16")
    damaged = shard.copy()
    damaged[int(index[1, 0, 1, 0]) + 30] ^= 4
    plan = (layout.shape, layout.chunk_shape, 2)
    out = np.zeros((2, 4, 4), np.float32)
    line = (0.0, 1.0, 0.0, -np.inf, np.inf, 0.0, 0.0)
    number, finding = read_patch(damaged, index, plan, ((8, 10, 64), (False,) * 3), line, out)
    assert np.unravel_index(number, layout.grid) == (1, 0, 1)
    assert "checksum" in finding
    assert read_patch(damaged, index, plan, ((8, 10, 10), (False,) * 3), line, out) is None


@law
@given(
    st.tuples(*[st.integers(1, 13)] * 3),
    st.tuples(*[st.integers(1, 30)] * 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from(["float32", "float16", "uint8"]),
    st.booleans(),
)
def test_turning_a_box_is_the_gather_of_its_voxels(shape, wanted, seed, dtype, portable):
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1200, 900, shape).astype(np.int16)
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 2)
    if seed % 2:
        matrix[0], matrix[:, 0] = (1, 0, 0), (1, 0, 0)  # a slice is read from one slice
    centre, middle = (np.array(shape) - 1) / 2, (np.array(wanted) - 1) / 2
    grid = Grid(wanted, np.column_stack([matrix, centre - matrix @ middle + rng.integers(-2, 3, 3)]))
    reading = Reading(grid, window_line(*WINDOW, dtype), fill=None if seed % 5 == 0 else -1024.0)
    (expected,) = gather([hu], [reading], dtype)
    room = np.zeros((shape[0] + 1) * shape[1] * shape[2] + shape[2] + 2, np.float32)
    mapped = Reading(identity_grid(shape), reading.line)
    room[: hu.size] = gather([hu], [mapped], "float32")[0].reshape(-1)
    out = np.full(wanted, 7, dtype)
    edges = (int(reading.settings.margin), float(reading.settings.outside))
    turn_patch(room, shape, grid.places.copy(), edges, out.view(np.uint16) if dtype == "float16" else out, portable)
    np.testing.assert_array_equal(out, expected)


@law
@given(sizes, st.integers(0, 9), st.sampled_from([0.0, 0.001, 0.3, 1.0]))
def test_spots_are_evenly_spaced_among_the_voxels_of_a_mask(size, seed, share):
    mask = (np.random.default_rng(seed).random(size) < share).astype(np.uint8) * 2
    found = foreground_of(mask)
    for spots, voxels in ((found.inside, np.flatnonzero(mask)), (found.outside, np.flatnonzero(mask == 0))):
        n = min(voxels.size, SPOTS)
        ranks = (np.arange(n) * voxels.size + voxels.size // 2) // max(n, 1)
        np.testing.assert_array_equal(spots, voxels[ranks])
    assert found.voxels == (np.count_nonzero(mask), np.count_nonzero(mask == 0))


def test_a_kept_foreground_comes_back_and_fits_its_mask_alone():
    mask = np.zeros((4, 9, 9), np.uint8)
    mask[1, 2, 3:7] = 1
    found, mark = foreground_of(mask), mark_of(b"shard")
    kept = as_file(found, mark)
    back = from_file(kept, mark)
    assert (back.shape, back.voxels) == (found.shape, found.voxels)
    np.testing.assert_array_equal(back.inside, found.inside)
    np.testing.assert_array_equal(back.outside, found.outside)
    assert back.at(back.inside, 0.99) == (1, 2, 6)
    for other in (mark_of(b"chard"), (6, mark[1])):
        with pytest.raises(ValueError, match="another mask"):
            from_file(kept, other)
    for position in range(0, len(kept), 7):
        broken = bytearray(kept)
        broken[position] ^= 1
        with pytest.raises(ValueError, match=r"format|checksum"):
            from_file(bytes(broken), mark)
    with pytest.raises(ValueError, match="format"):
        from_file(kept[:10], mark)
