"""The loop over lungs seen from the front; see src_ext/views.pyx."""

import numpy as np
from numpy.typing import NDArray

_Labels = NDArray[np.uint8]
_Hu = NDArray[np.int16]
_Tally = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]

def lung_views(
    chest: tuple[_Hu, _Labels, _Labels],
    rim: tuple[int, int],
    low_hu: int,
    pictures: tuple[_Hu, _Hu, _Labels, _Labels],
    counts: NDArray[np.int64],
    tallies: tuple[_Tally, _Tally],
) -> None: ...
