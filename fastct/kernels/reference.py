"""Slow plain NumPy in float64: what every twin of a voxel kernel must agree with."""

import numpy as np
from numpy.typing import NDArray

from fastct.kernels.maps import Grid

Volume = NDArray[np.generic]
Truth = NDArray[np.float64]


def window(hu: Volume, low_hu: float, high_hu: float) -> Truth:
    """Map [low_hu, high_hu] to [0, 1], clamped."""
    return np.clip((hu.astype(np.float64) - low_hu) / (high_hu - low_hu), 0.0, 1.0)


def resample(values: Volume, grid: Grid, order: int) -> Truth:
    """Read an axis-aligned grid: linear (order 1) or nearest (order 0, halfway up), clamped to the edge."""
    truth = values.astype(np.float64)
    for axis, n_out in enumerate(grid.shape):
        places = grid.affine[axis, axis] * np.arange(n_out) + grid.affine[axis, 3]
        truth = _along(truth, axis, np.clip(places, 0, values.shape[axis] - 1), order)
    return truth


def _along(values: Truth, axis: int, places: Truth, order: int) -> Truth:
    if order == 0:
        return np.take(values, np.floor(places + 0.5).astype(int), axis)
    near = np.floor(places).astype(int)
    far = np.minimum(near + 1, values.shape[axis] - 1)
    weight = (places - near).reshape([-1 if a == axis else 1 for a in range(3)])
    nearer, farther = np.take(values, near, axis), np.take(values, far, axis)
    return np.asarray(nearer * (1 - weight) + farther * weight)
