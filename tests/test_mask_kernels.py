"""Bit-row kernels against plain NumPy and SciPy, on random masks of every awkward size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_blobs import blobs, packed
from scipy import ndimage, spatial

from fastct.errors import ArrayError, OptionError
from fastct.kernels import masks


def unpacked(bits, columns):
    out = np.zeros((*bits.shape[:2], columns), np.uint8)
    masks.unpack_label(bits, 1, out)
    return out > 0


def each(function, volume, *arguments):
    return np.stack([function(one, *arguments) for one in volume])


def structure(half_width):
    """The same shape as an array for SciPy."""
    radius = len(half_width) - 1
    out = np.zeros((2 * radius + 1, 2 * half_width[0] + 1), bool)
    for dy in range(-radius, radius + 1):
        half = half_width[abs(dy)]
        out[dy + radius, half_width[0] - half : half_width[0] + half + 1] = True
    return out


@given(blobs())
def test_packing_is_lossless(drawn):
    mask, _ = drawn
    assert np.array_equal(unpacked(packed(mask), mask.shape[2]), mask)
    assert np.array_equal(masks.count(packed(mask)), mask.sum(axis=(1, 2)))


@given(blobs(), st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_thresholds_at_any_strides(drawn, axes, signs):
    mask, rng = drawn
    hu = rng.integers(-32768, 32768, mask.shape, dtype=np.int16)
    view = hu.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    levels = (-400, 32767, -32768)
    for bits, level in zip(masks.pack_below(view, levels), levels, strict=True):
        assert np.array_equal(unpacked(bits, view.shape[2]), view < level)
        padded = unpacked(bits, bits.shape[2] * masks.WORD_BITS)[..., view.shape[2] :]
        assert (padded == (level > -32768)).all(), "padding counts as air"
    out = np.zeros(mask.shape, np.uint8)
    view = out.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]
    masks.unpack_label(packed(np.ones(view.shape, bool)), 2, view)
    assert (out == 2).all()


@given(blobs(), st.lists(st.integers(0, 63), min_size=1, max_size=6))
@settings(max_examples=60)
def test_shapes_against_scipy(drawn, widths):
    mask, _ = drawn
    half_width = np.array(sorted(widths, reverse=True), np.int32)
    bits = packed(mask)
    columns = bits.shape[2] * masks.WORD_BITS
    padded = np.pad(mask, ((0, 0), (0, 0), (0, columns - mask.shape[2])))
    for kernel, peer in ((masks.dilate, ndimage.binary_dilation), (masks.erode, ndimage.binary_erosion)):
        expected = each(peer, padded, structure(half_width))
        assert np.array_equal(unpacked(kernel(bits, half_width), columns), expected)


@given(blobs(), st.floats(0, 8), st.floats(0.4, 2), st.floats(0.4, 2))
def test_opening_shrinks_and_closing_grows(drawn, radius_mm, row_mm, pixel_mm):
    bits = packed(drawn[0])
    shape = masks.disc(radius_mm, (8.0, row_mm, pixel_mm))
    opened, closed = masks.open_slices(bits, shape), masks.close_slices(bits, shape)
    assert not (opened & ~bits).any()
    assert not (bits & ~closed).any()
    assert np.array_equal(masks.open_slices(opened, shape), opened)


def test_disc_is_a_disc():
    y, x = np.mgrid[-7:8, -7:8]
    assert np.array_equal(structure(masks.disc(7.0, (8.0, 1.0, 1.0))), y * y + x * x <= 49)
    assert masks.disc(0.3, (8.0, 1.0, 1.0)).tolist() == [0]
    assert masks.disc(500.0, (8.0, 1.0, 1.0)).max() == masks.MAX_REACH


@given(blobs())
def test_holes_against_scipy(drawn):
    mask, _ = drawn
    filled = masks.fill_holes(packed(mask))
    assert np.array_equal(unpacked(filled, mask.shape[2]), each(ndimage.binary_fill_holes, mask))


@given(blobs(), st.booleans())
def test_pieces_against_scipy(drawn, through):
    mask, rng = drawn
    kind = np.zeros((3, 3, 3), int) if not through else np.ones((3, 3, 3), int)
    kind[1] |= ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(mask, kind)
    pieces = masks.find_pieces(packed(mask), through_slices=through)
    assert len(pieces) == count
    if not count:
        return
    index = np.arange(1, count + 1)
    assert np.array_equal(pieces.area, np.bincount(labels.ravel(), minlength=count + 1)[1:])
    for piece, (zs, ys, xs) in enumerate(ndimage.find_objects(labels)):
        assert pieces.slice_index[piece] == zs.start
        assert pieces.box[piece].tolist() == [ys.start, ys.stop, xs.start, xs.stop]
    centres = np.array(ndimage.center_of_mass(mask, labels, index))
    assert np.allclose(pieces.middle_x, centres[:, 2])
    chosen = rng.random(count) < 0.5
    assert np.array_equal(unpacked(pieces.paint(chosen), mask.shape[2]), np.concatenate([[False], chosen])[labels])
    other = rng.random(mask.shape) < 0.5
    assert np.array_equal(pieces.count_inside(packed(other)), ndimage.sum(other, labels, index))


@given(blobs())
def test_overlaps_against_counting(drawn):
    mask, _ = drawn
    kind = np.zeros((3, 3, 3), int)
    kind[1] = ndimage.generate_binary_structure(2, 1)
    labels, _ = ndimage.label(mask, kind)
    over = labels[1:].astype(np.int64) * (labels.max() + 1) + labels[:-1]
    keys, pixels = np.unique(over[(labels[1:] > 0) & (labels[:-1] > 0)], return_counts=True)
    upper, lower = np.divmod(keys, labels.max() + 1)
    expected = sorted(zip((upper - 1).tolist(), (lower - 1).tolist(), pixels.tolist(), strict=True))
    found = masks.find_pieces(packed(mask)).overlaps()
    assert sorted(map(tuple, found.tolist())) == expected


@given(blobs())
def test_piece_histograms_of_every_other_pixel(drawn):
    mask, rng = drawn
    hu = rng.integers(-1200, 300, mask.shape, dtype=np.int16)
    pieces = masks.find_pieces(packed(mask))
    expected = np.zeros((len(pieces), 128), np.int64)
    runs, starts = pieces.parts
    rows = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    for row, (x0, x1, piece) in zip(rows, runs.tolist(), strict=True):
        if row % mask.shape[1] % 2:
            continue  # every other row
        border = min(2, (x1 - x0 - 1) // 2)
        values = hu.reshape(-1, mask.shape[2])[row, x0 + border : x1 - border : 2].astype(int)
        np.add.at(expected[piece], np.clip((values + 1024) // 8, 0, 127), 1)
    assert np.array_equal(pieces.histograms(hu), expected)


@given(blobs(), st.integers(0, 5), st.integers(0, 5))
def test_rings_and_reach_against_scipy(drawn, inner, outer):
    mask, rng = drawn
    pieces = masks.find_pieces(packed(mask))
    shapes = [masks.disc(float(radius), (8.0, 1.0, 1.0)) for radius in (inner, inner + outer)]
    wanted = rng.random(len(pieces)) < 0.7
    if wanted.sum() > 60:
        wanted[np.flatnonzero(wanted)[60:]] = False
    other = rng.random(mask.shape) < 0.5
    columns = pieces.shape[2] * masks.WORD_BITS
    padding = ((0, 0), (0, 0), (0, columns - mask.shape[2]))
    wide = np.pad(other, padding)
    rings = pieces.count_rings(wanted, *shapes, packed(other))
    reached = {(a, b): n for a, b, n in pieces.reach_down(wanted, shapes[1]).tolist()}
    for piece in range(len(pieces)):
        alone = unpacked(pieces.paint(np.arange(len(pieces)) == piece), columns)
        z = pieces.slice_index[piece]
        near, far = (ndimage.binary_dilation(alone[z], structure(shape)) for shape in shapes)
        ring = far & ~near
        expected = [ring.sum(), (ring & wide[z]).sum()] if wanted[piece] else [0, 0]
        assert rings[piece].tolist() == expected
        for other_piece in np.flatnonzero(wanted & (pieces.slice_index == z - 1)):
            below = unpacked(pieces.paint(np.arange(len(pieces)) == other_piece), columns)[z - 1]
            covered = (below & far).sum() if wanted[piece] else 0
            assert reached.pop((piece, other_piece), 0) == covered
    assert not reached


@given(blobs())
def test_column_counts_and_bounds(drawn):
    mask, _ = drawn
    bits = packed(mask)
    assert np.array_equal(masks.column_counts(bits)[: mask.shape[2]], mask.sum(axis=(0, 1)))
    box = masks.bounds(bits)
    assert (box is None) == (not mask.any())
    if box is not None:
        rows = np.flatnonzero(mask.any(axis=(0, 2)))
        assert (box[0].start, box[0].stop) == (rows[0], rows[-1] + 1)
        assert np.array_equal(masks.count(bits[:, *box]), masks.count(bits))


@given(blobs(least=2))
def test_hull_against_scipy(drawn):
    mask, rng = drawn
    right = mask & (rng.random(mask.shape) < 0.02)
    left = mask & ~right & (rng.random(mask.shape) < 0.02)
    inside, chords = masks.hull(packed(right), packed(left))
    found, marked = (unpacked(bits, mask.shape[2]) for bits in (inside, chords))
    assert not (marked & ~found).any()
    grid = np.argwhere(np.ones(mask.shape[1:], bool))
    for z in range(len(mask)):
        points = np.argwhere((right | left)[z])
        if len(points) < 3 or np.linalg.matrix_rank(points - points[0]) < 2:
            continue
        equations = spatial.ConvexHull(points).equations
        expected = (grid @ equations[:, :2].T + equations[:, 2] <= 1e-9).all(axis=1)
        assert np.array_equal(found[z].ravel(), expected)


def test_only_chords_between_the_sides_are_marked():
    right, left = np.zeros((2, 1, 9, 40), bool)
    right[0, 2:7, 3:9] = True
    left[0, 2:7, 30:36] = True
    _, chords = masks.hull(packed(right), packed(left))
    marked = unpacked(chords, 40)[0]
    assert marked[[2, 6], 10:29].all()
    assert not marked[3:6].any()


def test_the_inner_side_of_a_lung_that_stands_alone_is_marked():
    lung, none = np.zeros((2, 1, 9, 40), bool)
    lung[0, 2:7, 10:20] = True
    lung[0, 4, 8] = lung[0, 4, 22] = True
    for pair, inner in (((lung, none), np.s_[15:]), ((none, lung), np.s_[:15])):
        marked = unpacked(masks.hull(*map(packed, pair))[1], 40)[0]
        assert marked[:, inner].any(axis=1)[2:7].all()
        assert not np.delete(marked, np.arange(40)[inner], axis=1)[3:6].any()


DIRECTIONS = st.lists(st.tuples(st.integers(-2000, 2000), st.integers(-2000, 2000)), min_size=1, max_size=9)


@given(blobs(), DIRECTIONS)
def test_heights_and_the_outline_they_span(drawn, directions):
    mask, _ = drawn
    steps = np.array(directions, np.int32)
    bits = packed(mask)
    reached = masks.heights(bits, steps)
    y, x = np.indices((bits.shape[1], bits.shape[2] * masks.WORD_BITS))
    along = steps[:, :1, None] * y + steps[:, 1:, None] * x
    for slice_mask, found in zip(mask, reached, strict=True):
        inside = along[:, :, : mask.shape[2]][:, slice_mask]
        assert found.tolist() == (inside.max(axis=1).tolist() if slice_mask.any() else [-(2**40)] * len(steps))
    outline = masks.draw_convex(reached, steps, bits)
    expected = (along[None] <= reached[:, :, None, None]).all(axis=1)
    assert np.array_equal(unpacked(outline, expected.shape[2]), expected)
    assert not (bits & ~outline).any()


@given(st.integers(0, 2**32), st.integers(2, 40))
def test_a_cut_parts_what_it_crosses(seed, columns):
    rng = np.random.default_rng(seed)
    hu = rng.integers(-1000, 100, (1, 20, 64), dtype=np.int16)
    bits = packed(np.ones((1, 20, 64), bool))
    drift = np.zeros(columns, np.int32)
    masks.cut(hu, bits, (0, 20), 12, drift)
    rest = unpacked(bits, 64)[0]
    labels, _ = ndimage.label(rest)
    assert not set(labels[:, 0]) & set(labels[:, -1]) - {0}
    assert rest[:, :10].all()
    assert rest[:, 12 + columns + 2 :].all()


def test_a_cut_takes_the_densest_way():
    hu = np.full((1, 30, 64), -900, np.int16)
    hu[0, np.arange(30), 20 + np.arange(30) // 3] = -300
    bits = packed(np.ones((1, 30, 64), bool))
    masks.cut(hu, bits, (0, 30), 5, np.zeros(50, np.int32))
    cleared = ~unpacked(bits, 64)[0]
    assert cleared[np.arange(30), 20 + np.arange(30) // 3].all()
    assert cleared.sum() < 45


def window_sums(values, window):
    size = (1, 2 * window[0] + 1, 2 * window[1] + 1)
    return ndimage.convolve(values.astype(np.int64), np.ones(size, np.int64), mode="constant")


@given(blobs(), st.tuples(st.integers(0, 2), st.integers(0, 2)), st.booleans())
def test_means_against_convolution(drawn, window, mirrored):
    mask, rng = drawn
    hu = rng.integers(-2000, 2000, mask.shape, dtype=np.int16)
    hu = hu[..., ::-1] if mirrored else hu
    counts = window_sums(mask, window)
    sums = window_sums(np.where(mask, np.clip(hu, -1000, 100) + 1000, 0), window)
    levels = rng.integers(-1000, 100, (2, mask.shape[1])).astype(np.int16)
    found = masks.means_above(hu, packed(mask), window, levels)
    for bits, level in zip(found, levels.astype(int), strict=True):
        expected = sums > (level[:, None] + 1000) * counts
        assert np.array_equal(unpacked(bits, mask.shape[2]), expected)
    histograms = masks.mean_histograms(hu, packed(mask), window)
    expected = np.zeros((mask.shape[1], 276), np.int64)
    looked_at = mask.copy()
    looked_at[:, 1::2] = looked_at[..., 1::2] = False  # every other row and pixel
    rows = np.nonzero(looked_at)[1]
    np.add.at(expected, (rows, sums[looked_at] // (4 * counts[looked_at])), 1)
    assert np.array_equal(histograms, expected)


@given(blobs(), st.tuples(st.integers(0, 9), st.integers(0, 9)), st.integers(0, 10))
def test_share_against_convolution(drawn, window, tenths):
    whole, rng = drawn
    part = whole & (rng.random(whole.shape) < rng.random())
    size = (3, 2 * window[0] + 1, 2 * window[1] + 1)
    weights = np.ones(size, np.int64) * np.array([1, 8, 1])[:, None, None]
    counts = [ndimage.convolve(mask.astype(np.int64), weights, mode="constant") for mask in (part, whole)]
    expected = (10 * counts[0] > tenths * counts[1]) & whole
    found = masks.share_above(packed(part), packed(whole), tenths, window)
    assert np.array_equal(unpacked(found, whole.shape[2]), expected)


def test_wrong_arrays_are_refused():
    flat = np.zeros((4, 4), np.int16)
    with pytest.raises(ArrayError, match="int16"):
        masks.pack_below(flat, (0,))
    with pytest.raises(ArrayError, match="uint8"):
        masks.pack_label(flat)


@pytest.mark.parametrize("window", [(3, 0), (0, 3), (-1, 0)])
def test_windows_of_means_that_no_sum_holds_are_refused(window):
    hu, bits = np.zeros((1, 9, 70), np.int16), packed(np.ones((1, 9, 70), bool))
    with pytest.raises(OptionError, match="window"):
        masks.mean_histograms(hu, bits, window)
    with pytest.raises(OptionError, match="window"):
        masks.means_above(hu, bits, window, np.zeros((1, 9), np.int16))
