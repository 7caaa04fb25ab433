"""Window, resampling, rotation and projections beside their floor, filling the output; on a CPU and on a GPU."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fastct
from benchmarks.common import WINDOW_HU, phantom, placed, wait_for
from fastct.kernels.gather import gather
from fastct.kernels.maps import Reading, window_line
from fastct.kernels.projections import project
from fastct.transforms import Preprocess, Rotate

SPACINGS_MM = {"8 x 1.5 x 1.5 mm": (8.0, 1.5, 1.5), "1.5 mm": (1.5, 1.5, 1.5)}
SIZES = {"study": slice(None), "patch": (slice(0, 32), slice(0, 128), slice(0, 128))}
PLACES = ["cpu", "gpu"]
DTYPES = ["float32", "float16", "uint8"]


class Window:
    """int16 HU to [0, 1]: as many studies as threads, each on one of its own."""

    params = [DTYPES, [1, 2], list(SIZES), PLACES]
    param_names = ["dtype", "threads", "size", "place"]

    def setup(self, dtype, threads, size, place):
        self.pool = ThreadPoolExecutor(threads)  # first: asv tears down what "not applicable" cut short
        hu = phantom().hu[SIZES[size]]
        self.volumes = [placed(hu.copy(), place) for _ in range(threads)]
        self.outs = [placed(np.empty(hu.shape, dtype), place) for _ in range(threads)]
        self.time_fastct(dtype, threads, size, place)

    def teardown(self, dtype, threads, size, place):
        self.pool.shutdown()

    def time_fastct(self, dtype, threads, size, place):
        list(self.pool.map(self._window, self.volumes, self.outs))

    def _window(self, hu, out):
        wait_for(fastct.window(hu, *WINDOW_HU, dtype=out.dtype, out=out))

    def time_floor_memset(self, dtype, threads, size, place):
        list(self.pool.map(lambda out: wait_for(out.fill(0) or out), self.outs))


class Resample:
    """Window and trilinear resampling in one pass."""

    params = [list(SPACINGS_MM), DTYPES, PLACES]
    param_names = ["to", "dtype", "place"]

    def setup(self, to, dtype, place):
        self.hu, self.spacing_mm = placed(phantom().hu, place), phantom().geometry.spacing_mm
        self.out = fastct.resample(self.hu, self.spacing_mm, SPACINGS_MM[to], window_hu=WINDOW_HU, dtype=dtype)

    def time_fastct(self, to, dtype, place):
        fastct.resample(self.hu, self.spacing_mm, SPACINGS_MM[to], window_hu=WINDOW_HU, dtype=dtype, out=self.out)
        wait_for(self.out)

    def time_floor_memset(self, to, dtype, place):
        self.out.fill(0)
        wait_for(self.out)


class Turn:
    """Window and a rotation about all three axes."""

    params = PLACES
    param_names = ["place"]

    def setup(self, place):
        self.hu = placed(phantom().hu, place)
        grid = Preprocess((Rotate((7, 4, -3)),)).frame(phantom().geometry).grid
        self.reading = Reading(grid, window_line(*WINDOW_HU))
        self.out = gather([self.hu], [self.reading])

    def time_fastct(self, place):
        gather([self.hu], [self.reading], out=self.out)
        wait_for(self.out[0])


class Project:
    """Maximum and mean along each axis."""

    params = [["max", "mean"], [0, 1, 2], PLACES]
    param_names = ["kind", "axis", "place"]

    def setup(self, kind, axis, place):
        self.hu = placed(phantom().hu, place)
        project([self.hu], kind, axis)

    def time_fastct(self, kind, axis, place):
        wait_for(project([self.hu], kind, axis)[0])
