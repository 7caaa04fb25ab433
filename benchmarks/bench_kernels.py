"""Window and resampling beside their floor, filling the output."""

import numpy as np

import fastct
from benchmarks.common import phantom

WINDOW_HU = (-1000, 400)
SPACINGS_MM = {"8 x 1.5 x 1.5 mm": (8.0, 1.5, 1.5), "1.5 mm": (1.5, 1.5, 1.5)}


class Window:
    """int16 HU to [0, 1]."""

    params = ["float32", "float16", "uint8"]
    param_names = ["dtype"]

    def setup(self, dtype):
        self.hu = phantom().hu
        self.out = np.empty(self.hu.shape, dtype)
        fastct.window(self.hu, *WINDOW_HU, dtype=dtype, out=self.out)

    def time_fastct(self, dtype):
        fastct.window(self.hu, *WINDOW_HU, dtype=dtype, out=self.out)

    def time_floor_memset(self, dtype):
        self.out.fill(0)


class Resample:
    """Window and trilinear resampling in one pass."""

    params = list(SPACINGS_MM)
    param_names = ["to"]

    def setup(self, to):
        self.to_mm = SPACINGS_MM[to]
        self.hu, self.spacing_mm = phantom().hu, phantom().geometry.spacing_mm
        self.out = fastct.resample(self.hu, self.spacing_mm, self.to_mm, window_hu=WINDOW_HU)

    def time_fastct(self, to):
        fastct.resample(self.hu, self.spacing_mm, self.to_mm, window_hu=WINDOW_HU, out=self.out)

    def time_floor_memset(self, to):
        self.out.fill(0)
