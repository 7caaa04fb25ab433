"""What the lungs look like from the front: projections, silhouettes and HU counts; and where they lie."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastct.errors import ArrayError
from fastct.kernels import home


class Occupancy(NamedTuple):
    """Set voxels of each slice, of each row and of each column of a mask, int64."""

    slices: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


class LungViews(NamedTuple):
    """Answers of `lung_views`: four pictures (z, x), counts for each HU of (all lung, lesion in lung), and where the
    voxels of lungs and lesion lie."""

    brightest: NDArray[np.int16]
    darkest: NDArray[np.int16]
    outline: NDArray[np.uint8]
    shadow: NDArray[np.uint8]
    counts: NDArray[np.int64]
    lungs: Occupancy
    lesion: Occupancy


def lung_views(
    hu: NDArray[np.int16],
    lungs: NDArray[np.uint8],
    lesion: NDArray[np.uint8],
    rim: tuple[int, int],
    limits_hu: tuple[int, int],
    empty_hu: int,
) -> LungViews:
    """Maximum, minimum, outline and shadow seen along y, and counts of HU.

    Parameters
    ----------
    hu, lungs, lesion : int16, uint8 (0, 1 right, 2 left) and uint8 (lesion where not 0), all (z, y, x).
    rim : (rows, columns). The maximum takes lung voxels whose neighbours that far away in their slice, to
        all four sides, are lung; the minimum takes what lies between the first and the last lung voxel of a
        row, less the same rim.
    limits_hu : counts are for each HU from the first up to below the second; what lies beyond counts there.
    empty_hu : where a ray meets no voxel that is taken.

    The outline is the greatest label on the ray, the shadow that of the lesion.

    Raises
    ------
    ArrayError
        If shapes or dtypes are others.

    Examples
    --------
    >>> hu = np.array([[[-900, 40, -800]]], np.int16)
    >>> lungs = np.array([[[1, 0, 2]]], np.uint8)
    >>> seen = lung_views(hu, lungs, lungs // 2, (0, 0), (-1000, 200), -1350)
    >>> seen.brightest.tolist(), seen.darkest.tolist(), seen.counts.sum(axis=1).tolist()
    ([[-900, -1350, -800]], [[-900, 40, -800]], [2, 1])
    >>> seen.lungs.columns.tolist()
    [1, 0, 1]
    """
    for name, array, dtype in (("hu", hu, "int16"), ("lungs", lungs, "uint8"), ("lesion", lesion, "uint8")):
        _check(name, array, dtype, hu.shape)
    twin = home("views", hu, lungs, lesion)
    *seen, inside, ill = twin.lung_views(hu, lungs, lesion, rim, limits_hu, empty_hu)
    brightest, darkest, outline, shadow, counts = seen
    return LungViews(brightest, darkest, outline, shadow, counts, Occupancy(*inside), Occupancy(*ill))


def _check(name: str, array: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> None:
    if array.ndim != 3 or array.shape != shape or array.dtype != dtype:
        found = f"it is {array.dtype} of shape {array.shape}"
        raise ArrayError(name, found, f"Give {dtype} of the shape (z, y, x) of the volume")
