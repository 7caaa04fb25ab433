"""What the lungs look like from the front, on the CPU: allocate, then run the compiled loop."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext import views as loops

DEEPEST_HU = np.iinfo(np.int16).max
Tally = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def lung_views(
    hu: NDArray[np.int16],
    lungs: NDArray[np.uint8],
    lesion: NDArray[np.uint8],
    rim: tuple[int, int],
    limits_hu: tuple[int, int],
    empty_hu: int,
) -> tuple[Any, ...]:
    """See the face, `fastct.kernels.views.lung_views`; arrays that are not in C order are copied first."""
    slices, _, columns = hu.shape
    brightest, darkest = (np.full((slices, columns), value, np.int16) for value in (empty_hu, DEEPEST_HU))
    outline, shadow = np.zeros((2, slices, columns), np.uint8)
    counts = np.zeros((2, limits_hu[1] - limits_hu[0]), np.int64)
    places = _tally(hu.shape), _tally(hu.shape)
    if hu.size:
        chest = np.ascontiguousarray(hu), np.ascontiguousarray(lungs), np.ascontiguousarray(lesion)
        loops.lung_views(chest, rim, limits_hu[0], (brightest, darkest, outline, shadow), counts, places)
    darkest[darkest == DEEPEST_HU] = empty_hu
    return brightest, darkest, outline, shadow, counts, *places


def _tally(shape: tuple[int, ...]) -> Tally:
    slices, rows, columns = (np.zeros(n, np.int64) for n in shape)
    return slices, rows, columns
