"""Slow plain NumPy in float64: what every twin of a voxel kernel must agree with."""

import itertools

import numpy as np
from numpy.typing import NDArray

from fastct.kernels.maps import Grid

Volume = NDArray[np.generic]
Truth = NDArray[np.float64]


def window(hu: Volume, low_hu: float, high_hu: float) -> Truth:
    """Map [low_hu, high_hu] to [0, 1], clamped."""
    return np.clip((hu.astype(np.float64) - low_hu) / (high_hu - low_hu), 0.0, 1.0)


def resample(values: Volume, grid: Grid, order: int, fill: float | None = None) -> Truth:
    """Read any grid: linear (order 1) or nearest (order 0, halfway up), `fill` outside or the edge."""
    places = np.tensordot(grid.affine[:, :3], np.indices(grid.shape), 1)
    places += grid.affine[:, 3].reshape(3, 1, 1, 1)
    last = np.array(values.shape).reshape(3, 1, 1, 1) - 1
    inside = ((places >= -0.5) & (places <= last + 0.5)).all(axis=0)
    truth = _interpolated(values.astype(np.float64), np.clip(places, 0, last), order)
    return truth if fill is None else np.where(inside, truth, fill)


def _interpolated(values: Truth, places: Truth, order: int) -> Truth:
    """Values at places inside of the volume: an array of each of the three indices."""
    if order == 0:
        z, y, x = np.floor(places + 0.5).astype(int)
        return np.asarray(values[z, y, x])
    near = np.floor(places).astype(int)
    total = np.zeros(places.shape[1:])
    for corner in itertools.product((0, 1), repeat=3):
        offset = np.array(corner).reshape(3, 1, 1, 1)
        shares = np.where(offset == 1, places - near, 1 - (places - near)).prod(axis=0)
        z, y, x = np.minimum(near + offset, np.array(values.shape).reshape(3, 1, 1, 1) - 1)
        total += shares * values[z, y, x]
    return total
