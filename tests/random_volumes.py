"""Volumes and masks at random, for the tests of kernels."""

import numpy as np
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)


def random_hu(shape, seed=0):
    return np.random.default_rng(seed).integers(-1024, 3000, shape, dtype="int16")


def random_masks(shape, rng, values):
    """A random uint8 array that may lie anywhere in memory."""
    size = int(np.prod(shape))
    return rng.choice(np.uint8(values), size + 3)[int(rng.integers(4)) :][:size].reshape(shape)
