"""Batches for training out of a store: patches, turned patches, slices, whole volumes, and the first batch."""

import shutil

import fastct
from benchmarks.common import fresh_folder, nifti_file, per_second
from fastct.transforms import Rotate, Uniform

SAMPLES = 32
WORK = {
    "patches": {"samples_per_study": SAMPLES},
    "patches, float16": {"samples_per_study": SAMPLES, "dtype": "float16"},
    "patches, uint8": {"samples_per_study": SAMPLES, "dtype": "uint8"},
    "patches, turned": {"samples_per_study": SAMPLES, "augment": (Rotate((Uniform(-15, 15), 0, 0)),)},
    "stacks": {"slices": 3},
    "volumes": {"shape": (64, 128, 128)},
}


class Loader:
    """An epoch of one study of MosMedData's size."""

    params = list(WORK)
    param_names = ["work"]

    def setup(self, work):
        self.folder = fresh_folder()
        fastct.convert(nifti_file(), self.folder, workers=1)
        self.loader = fastct.Loader(fastct.Dataset(self.folder, **WORK[work]))
        self.time_epoch(work)

    def teardown(self, work):
        shutil.rmtree(self.folder)

    def time_epoch(self, work):
        for _ in self.loader:
            pass

    def time_first_batch(self, work):
        next(iter(fastct.Loader(fastct.Dataset(self.folder, **WORK[work]))))

    def track_rate(self, work):
        return per_second(lambda: self.time_epoch(work), len(self.loader.dataset))

    track_rate.unit = "samples/s"

    def peakmem_epoch(self, work):
        self.time_epoch(work)
