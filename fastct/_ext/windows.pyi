"""Loops over box windows; see src_ext/windows.pyx."""

import numpy as np
from numpy.typing import NDArray

_Bits = NDArray[np.uint64]

def mean_histograms(
    hu: NDArray[np.int16], mask: _Bits, reach_y: int, reach_x: int, counts: NDArray[np.int32]
) -> None: ...
def means_above(
    hu: NDArray[np.int16], mask: _Bits, reach_y: int, reach_x: int, levels: NDArray[np.int16], out: _Bits
) -> None: ...
def share(part: _Bits, whole: _Bits, tenths: int, reach_y: int, reach_x: int, out: _Bits) -> None: ...
