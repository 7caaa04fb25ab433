"""Patches out of shards in one compiled call, and the voxels that stand for a mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastct
from fastct import shards
from fastct._ext import as_bytes
from fastct._ext.patches import read_patch, turn_patch, turn_volume
from fastct.foreground import SPOTS, as_file, foreground_of, from_file, mark_of
from fastct.kernels.gather import gather
from fastct.kernels.maps import Grid, Line, Reading, window_line
from fastct.shard_layout import ShardLayout

law = settings(max_examples=60)
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


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@law
@given(
    st.sampled_from(["uint8", "int16"]),
    st.sampled_from(["float32", "uint16", "uint8", "int16"]),
    st.integers(1, 70),
    st.booleans(),
    st.tuples(numbers, numbers | st.sampled_from([1e-9, 1e-7, 1.0, 250.0]), numbers | st.just(0.0)),
    st.tuples(numbers, numbers) | st.just((-3.0e38, 3.0e38)),
    st.integers(0, 9),
)
def test_both_twins_map_any_line_alike(stored_as, dtype, width, backward, line, limits, seed):
    """Numbers too large for the output's type, ones too small to be normal, and halves: all to the same bits."""
    _, layout, shard, index = stored((2, 9, width), stored_as, seed)
    plan = (layout.shape, layout.chunk_shape, layout.voxel_bytes)
    box, values = ((0, 0, 0), (False, False, backward)), (*line, min(limits), max(limits), 0.0, 0.0)
    outs = [np.zeros((2, 9, width), dtype) for _ in range(2)]
    for out, portable in zip(outs, (False, True), strict=True):
        assert read_patch(shard, index, plan, box, values, out, portable) is None
    assert outs[0].tobytes() == outs[1].tobytes()


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
    st.tuples(st.integers(1, 18), st.integers(1, 140), st.integers(1, 140)),
    st.tuples(*[st.integers(1, 30)] * 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([("int16", "float32"), ("int16", "float16"), ("int16", "uint8"), ("uint8", "uint8")]),
    st.sampled_from([0, 1]),
)
def test_a_turned_patch_is_the_gather_of_its_volume(shape, wanted, seed, dtypes, order):
    """Whichever chunks it leaves out: what lay in the memory before is not seen."""
    rng = np.random.default_rng(seed)
    volume, layout, shard, index = stored(shape, dtypes[0], seed)
    matrix = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 2)
    if seed % 2:  # each plane of the output is read at one z
        matrix[0], matrix[:, 0] = (1, 0, 0), (rng.uniform(0.5, 2), 0, 0)
    place, middle = np.array(shape) * rng.uniform(-0.2, 1.2, 3), (np.array(wanted) - 1) / 2
    line = window_line(*WINDOW, dtypes[1]) if dtypes[0] == "int16" else Line()
    reading = Reading(
        Grid(wanted, np.column_stack([matrix, place - matrix @ middle])), line, order, None if seed % 5 == 0 else 0.0
    )
    (expected,) = gather([volume], [reading], dtypes[1])
    for portable in (False, True):
        out = np.full(wanted, 7, dtypes[1])
        bits = out.view(np.uint16) if dtypes[1] == "float16" else out
        plan = (layout.shape, layout.chunk_shape, layout.voxel_bytes, layout.fill_value)
        n_bytes = turn_patch(shard, index, plan, reading.turn, np.zeros(0, np.uint8), bits, portable)
        room = rng.integers(0, 255, n_bytes, np.uint8)
        assert turn_patch(shard, index, plan, reading.turn, room, bits, portable) is None
        np.testing.assert_array_equal(out, expected)
        turn_volume(volume, *reading.turn, bits, portable)
        np.testing.assert_array_equal(out, expected)


def test_a_turned_patch_reads_the_chunks_that_it_comes_near_alone():
    volume, layout, shard, index = stored((9, 200, 200), "int16")
    turned = np.column_stack([np.eye(3), (0, 100, 0)])
    turned[1:, 1:3] = np.array([[1, -1], [1, 1]]) / np.sqrt(2)  # a diamond: its corners touch the box's sides
    grid = Grid((2, 140, 140), turned)
    plan = (layout.shape, layout.chunk_shape, 2, layout.fill_value)
    out, room = np.empty(grid.shape, np.float32), np.zeros(2 << 20, np.uint8)
    named = set()
    for at in np.ndindex(*layout.grid):
        damaged = shard.copy()
        offset, n_bytes = index[at].tolist()
        damaged[offset + n_bytes // 2] ^= 4
        found = turn_patch(damaged, index, plan, Reading(grid, window_line(*WINDOW)).turn, room, out)
        if found is not None:
            assert "checksum" in found[1]
            assert tuple(np.unravel_index(found[0], layout.grid)) == at
            named.add(at)
    places = np.indices(grid.shape).reshape(3, -1).T @ turned[:, :3].T + turned[:, 3]
    last = np.array(volume.shape) - 1
    for reach in (0, 2):  # what is read, and what lies a little beside it
        near = [np.clip(np.floor(places + beside), 0, last) // layout.chunk_shape for beside in (-reach, 1 + reach)]
        corners = np.stack(near, axis=1)[:, np.array(list(np.ndindex(2, 2, 2))), np.arange(3)]
        z, y, x = corners.reshape(-1, 3).astype(np.int64).T
        numbers = np.unique(np.ravel_multi_index((z, y, x), layout.grid))
        touched = {tuple(map(int, np.unravel_index(number, layout.grid))) for number in numbers}
        assert named >= touched if reach == 0 else named <= touched
    assert len(named) < len(list(np.ndindex(*layout.grid)))


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
