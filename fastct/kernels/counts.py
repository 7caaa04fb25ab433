"""Counting voxels in masks: lungs and lesions by side, and histograms of HU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import ArrayError, OptionError
from fastct.kernels import home

Volume = NDArray[Any]

LARGEST_HU = 2**16  # beyond what int16 holds
LARGEST_BINS = 8192  # they are counted in the 48 KB of memory that the threads of a GPU's block share


def count_lungs(lungs: Sequence[Volume], lesions: Sequence[Volume]) -> NDArray[np.int64]:
    """Count the voxels of lungs and lesions, by side, of a batch of studies in one pass.

    Parameters
    ----------
    lungs : for each study (z, y, x) uint8: 0, 1 right lung, 2 left lung.
    lesions : for each study (z, y, x) uint8 of the same shape, lesion where it is not 0.

    Returns
    -------
    (n, 5) int64: voxels of the right lung, the left lung, lesion anywhere, in the right lung, in the left.

    Raises
    ------
    ArrayError
        If an array has the wrong dtype, shape or place.

    Examples
    --------
    >>> lungs = np.array([[[0, 1, 1, 2]]], dtype="uint8")
    >>> count_lungs([lungs], [np.array([[[1, 0, 1, 1]]], dtype="uint8")])
    array([[2, 1, 3, 1, 1]])
    """
    _check_pairs(lungs, lesions, ("lungs", "lesions"), ("uint8",))
    answer: NDArray[np.int64] = home("counts", *lungs, *lesions).count_lungs(lungs, lesions)
    return answer


def histogram(
    volumes: Sequence[Volume], masks: Sequence[Volume], low_hu: int, high_hu: int, bin_hu: int = 1
) -> NDArray[np.int64]:
    """Histograms of the HU inside of a mask, one for each study of a batch.

    Parameters
    ----------
    volumes : for each study (z, y, x) int16 HU.
    masks : for each study (z, y, x) uint8 of the same shape, inside where it is not 0.
    low_hu, high_hu : whole HU from which, and up to which, voxels are counted; others are left out.
    bin_hu : whole HU in a bin; they must divide the range.

    Returns
    -------
    (n, bins) int64.

    Raises
    ------
    ArrayError
        If an array has the wrong dtype, shape or place.
    OptionError
        If the range is empty, is not a whole number of bins, or has more than 8192.

    Examples
    --------
    >>> hu = np.array([[[-1000, -850, -700, 40]]], dtype="int16")
    >>> histogram([hu], [np.ones_like(hu, dtype="uint8")], -1000, -600, bin_hu=200)
    array([[2, 1]])
    """
    _check_pairs(volumes, masks, ("hu", "mask"), ("int16",))
    bins, rest = divmod(high_hu - low_hu, bin_hu) if bin_hu > 0 else (0, 0)
    if rest or not 0 < bins <= LARGEST_BINS or max(abs(low_hu), abs(high_hu)) > LARGEST_HU:
        raise OptionError(
            "histogram",
            f"{low_hu} to {high_hu} HU in bins of {bin_hu} is no range of 1 to {LARGEST_BINS} whole bins",
            "Give low_hu below high_hu and a bin_hu that divides the range",
        )
    answer: NDArray[np.int64] = home("counts", *volumes, *masks).histogram(volumes, masks, low_hu, bin_hu, bins)
    return answer


def _check_pairs(
    firsts: Sequence[Volume], masks: Sequence[Volume], names: tuple[str, str], dtypes: tuple[str, ...]
) -> None:
    """Whether there is a mask of the same shape for each volume."""
    if len(firsts) != len(masks):
        raise ArrayError(names[1], f"there are {len(masks)} for {len(firsts)} studies", "Give one for each")
    for number, (first, mask) in enumerate(zip(firsts, masks, strict=True)):
        for name, array, wanted in ((names[0], first, dtypes), (names[1], mask, ("uint8",))):
            found = str(getattr(array, "dtype", type(array).__name__))
            if found not in wanted or array.ndim != 3 or array.size == 0:
                raise ArrayError(
                    f"{name}[{number}]",
                    f"it is {found} of shape {getattr(array, 'shape', None)}",
                    f"Give (z, y, x) {wanted[0]} with at least one voxel",
                )
        if first.shape != mask.shape:
            raise ArrayError(
                f"{names[1]}[{number}]",
                f"its shape is {mask.shape}, that of its study {first.shape}",
                "Give a mask on the voxels of its study",
            )
