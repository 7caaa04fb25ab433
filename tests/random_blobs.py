"""Masks of blobs and of specks, drawn at random for the tests of bit rows."""

import numpy as np
from hypothesis import strategies as st
from scipy import ndimage

from fastct.kernels import masks


@st.composite
def blobs(draw, least=1):
    """A random bool volume, and the generator that drew it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(st.integers(1, 4), st.integers(least, 40), st.integers(least, 200)))
    sigma = draw(st.sampled_from([0.0, 1.0, 2.5]))
    level = draw(st.sampled_from([-3.0, -0.1, 0.0, 0.1, 3.0]))
    return ndimage.gaussian_filter(rng.standard_normal(shape), (0, sigma, sigma)) > level, rng


def packed(mask):
    return masks.pack_label(mask.astype(np.uint8))
