"""Window and resampling beside their floor, filling the output."""

import numpy as np

import fastct
from benchmarks.common import phantom

WINDOW_HU = (-1000, 400)


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

    params = [(8.0, 1.5, 1.5), (1.5, 1.5, 1.5)]
    param_names = ["to_mm"]

    def setup(self, to_mm):
        self.hu, self.spacing_mm = phantom().hu, phantom().geometry.spacing_mm
        self.out = fastct.resample(self.hu, self.spacing_mm, to_mm, window_hu=WINDOW_HU)

    def time_fastct(self, to_mm):
        fastct.resample(self.hu, self.spacing_mm, to_mm, window_hu=WINDOW_HU, out=self.out)

    def time_floor_memset(self, to_mm):
        self.out.fill(0)
