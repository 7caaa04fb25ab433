"""Chunks that ctpack meets, drawn by hypothesis."""

import numpy as np
from hypothesis import strategies as st

SIDES = st.sampled_from([1, 1, 2, 3, 5, 7, 8, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 128])
SHAPES = st.one_of(
    st.just(()),
    st.tuples(st.integers(0, 200)),
    st.tuples(SIDES, SIDES),
    st.tuples(st.integers(1, 4), SIDES, SIDES),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), SIDES),
)


@st.composite
def chunks(draw: st.DrawFn) -> np.ndarray:
    """Chunks of both dtypes: noise of every strength, smooth fields, labels, constant planes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape, scale = draw(SHAPES), draw(st.sampled_from([0, 0.3, 2, 30, 500, 9000, 30000]))
    voxels = rng.normal(0, scale, shape)
    if voxels.size and voxels.ndim and draw(st.booleans()):
        voxels = voxels.cumsum(axis=draw(st.integers(0, voxels.ndim - 1)))
    if draw(st.booleans()):
        chunk = np.asarray(voxels).astype(np.int64).astype(np.int16)
    else:
        chunk = np.asarray(voxels > draw(st.sampled_from([-1, 0, 1]))).astype(np.uint8)
        if draw(st.booleans()):
            chunk = chunk * rng.integers(0, 256, shape).astype(np.uint8)
    if chunk.ndim > 2 and draw(st.booleans()):
        chunk[:: draw(st.integers(1, 3))] = draw(st.integers(0, 200))
    return chunk
