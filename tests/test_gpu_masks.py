"""The CUDA kernels of masks, run by g++, give what the CPU's kernels give, to the last bit."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blobs import blobs, packed

from fastct.kernels import masks
from fastct.kernels.gpu import masks as on_gpu

law = settings(max_examples=40)


@contextmanager
def the_other_home():
    """The face's functions find their twins on the GPU, whose stand-in works on NumPy arrays."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "home", lambda *_: on_gpu)
        yield


def assert_twins_agree(work):
    """That a function of the face's makes the same of the same input at both homes; returns what it makes."""
    expected = work()
    with the_other_home():
        found = work()
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    return expected


@pytest.fixture(autouse=True, params=[False, True], ids=["first to last", "last to first"])
def order(gpu, request):
    """Threads and blocks run in either order."""
    gpu.from_the_last = request.param


@law
@given(blobs(), st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_packing_at_any_strides(gpu, drawn, axes, signs):
    mask, rng = drawn

    def seen(array):
        return array.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]

    hu = rng.integers(-32768, 32768, mask.shape, dtype=np.int16)
    labels = rng.integers(0, 4, mask.shape, dtype=np.uint8)

    def work():
        below = masks.pack_below(seen(hu), (-400, 32767, -32768))
        packs = [masks.pack_label(seen(labels), label) for label in range(4)]
        out = np.full(mask.shape, 9, np.uint8)
        masks.unpack_label(packs[1], 7, seen(out))
        return [below, *packs, out]

    assert_twins_agree(work)


@law
@given(blobs(), st.lists(st.integers(0, 63), min_size=1, max_size=6))
def test_shapes(gpu, drawn, widths):
    bits, half_width = packed(drawn[0]), np.array(sorted(widths, reverse=True), np.int32)
    assert_twins_agree(lambda: [masks.dilate(bits, half_width), masks.erode(bits, half_width)])


@law
@given(blobs())
def test_counts_and_bounds(gpu, drawn):
    bits = packed(drawn[0])

    def work():
        box = masks.bounds(bits)
        ends = [] if box is None else [part for side in box for part in (side.start, side.stop)]
        moved = [masks.accumulate(bits, downwards) for downwards in (False, True)]
        return [masks.count(bits), masks.column_counts(bits), np.array(ends), *moved]

    assert_twins_agree(work)


@law
@given(blobs())
def test_holes(gpu, drawn):
    bits = packed(drawn[0])
    assert_twins_agree(lambda: [masks.fill_holes(bits)])


@law
@given(blobs(), st.booleans())
def test_pieces(gpu, drawn, through):
    mask, rng = drawn
    bits, other = packed(mask), packed(rng.random(mask.shape) < 0.5)
    hu = rng.integers(-1200, 300, mask.shape, dtype=np.int16)[..., ::-1]
    chances = rng.random(mask.size)

    def work():
        pieces = masks.find_pieces(bits, through)
        chosen = chances[: len(pieces)] < 0.5
        counts = [pieces.count_inside(other), pieces.histograms(hu)]
        return [pieces.table, pieces.paint(chosen), *counts]

    assert_twins_agree(work)


@pytest.mark.parametrize("pieces", [2047, 2048, 2049])
def test_many_pieces(gpu, pieces):
    y, x = np.divmod(np.arange(pieces), 65)
    mask = np.zeros((3, 40, 130), bool)
    mask[y // 20, 2 * (y % 20), 2 * x] = True  # pixels that touch no other
    (table,) = assert_twins_agree(lambda: [masks.find_pieces(packed(mask)).table])
    assert len(table) == pieces


@law
@given(blobs(), st.integers(0, 5), st.integers(0, 5))
def test_pairs_of_pieces(gpu, drawn, inner, outer):
    mask, rng = drawn
    bits, other = packed(mask), packed(rng.random(mask.shape) < 0.5)
    shapes = [masks.disc(float(radius), (8.0, 1.0, 1.0)) for radius in (inner, inner + outer)]
    chances = rng.random(mask.size)

    def work():
        pieces = masks.find_pieces(bits)
        wanted = chances[: len(pieces)] < 0.7
        wanted[60:] = False
        rings = pieces.count_rings(wanted, *shapes, other)
        return [pieces.overlaps(), rings, pieces.reach_down(wanted, shapes[1])]

    assert_twins_agree(work)


def test_crowded_tables_of_pairs_are_made_larger(gpu):
    mask = np.zeros((2, 64, 128), bool)
    mask[0, ::2], mask[1, :, ::2] = True, True  # each stripe lies over each other
    bits = packed(mask)
    (pairs,) = assert_twins_agree(lambda: [masks.find_pieces(bits).overlaps()])
    assert len(pairs) == 32 * 64
    assert (pairs[:, 2] == 1).all()


@law
@given(blobs(least=2), st.sampled_from([0.002, 0.02, 0.5]), st.integers(0, 2))
def test_hulls(gpu, drawn, share, missing):
    mask, rng = drawn
    right = mask & (rng.random(mask.shape) < share)
    left = mask & ~right & (rng.random(mask.shape) < share)
    right[missing:], left[:missing] = right[missing:] & (missing != 1), left[:missing] & (missing != 2)
    sides = packed(right), packed(left)
    assert_twins_agree(lambda: list(masks.hull(*sides)))


@law
@given(blobs(), st.lists(st.tuples(*[st.integers(-1500, 1500)] * 2), min_size=1, max_size=9))
def test_outlines(gpu, drawn, directions):
    bits, steps = packed(drawn[0]), np.array(directions, np.int32)

    def work():
        reached = masks.heights(bits, steps)
        return [reached, masks.draw_convex(reached, steps, bits)]

    assert_twins_agree(work)


@law
@given(st.integers(0, 2**32), st.integers(1, 90), st.integers(2, 40), st.sampled_from([-1, 1]))
def test_cuts(gpu, seed, columns, rows, sign):
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1000, 100, (1, rows, 130), dtype=np.int16)[..., ::sign]
    bits = packed(rng.random((1, rows, 130)) < 0.9)
    drift = rng.integers(0, 30, columns).astype(np.int32)
    first = int(rng.integers(0, 130 - columns + 1))
    ends = (int(rng.integers(0, rows // 2)), int(rng.integers(rows // 2 + 1, rows + 1)))

    def work():
        parted = bits.copy()
        masks.cut(hu, parted, ends, first, drift)
        return [parted]

    (parted,) = assert_twins_agree(work)
    assert not (parted & ~bits).any()


@law
@given(blobs(), st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from([1, -1]))
def test_means(gpu, drawn, window, sign):
    mask, rng = drawn
    hu = rng.integers(-2000, 2000, mask.shape, dtype=np.int16)[..., ::sign]
    bits = packed(mask)
    levels = rng.integers(-1000, 100, (2, mask.shape[1])).astype(np.int16)
    assert_twins_agree(lambda: [masks.mean_histograms(hu, bits, window), masks.means_above(hu, bits, window, levels)])


@law
@given(blobs(), st.tuples(st.integers(0, 40), st.integers(0, 40)), st.integers(0, 10))
def test_shares(gpu, drawn, window, tenths):
    whole, rng = drawn
    part = whole & (rng.random(whole.shape) < rng.random())
    assert_twins_agree(lambda: [masks.share_above(packed(part), packed(whole), tenths, window)])
