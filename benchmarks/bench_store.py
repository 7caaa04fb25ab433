"""The codec alone; converting, whole reads and patch reads of a study, by codec."""

import shutil

import numpy as np

import fastct
from benchmarks.common import fresh_folder, nifti_file, per_second, phantom
from fastct import shards
from fastct.options import CODECS

PATCH = (slice(4, 36), slice(100, 228), slice(200, 328))


class Store:
    """One study of MosMedData's size."""

    params = list(CODECS)
    param_names = ["codec"]

    def setup(self, codec):
        self.folder = fresh_folder()
        fastct.convert(nifti_file(), self.folder / "store", codec=codec, workers=1)
        self.store = fastct.open(self.folder / "store")

    def teardown(self, codec):
        shutil.rmtree(self.folder)

    def time_convert(self, codec):
        fastct.convert(nifti_file(), self.folder / "again", codec=codec, workers=1, overwrite=True)

    def peakmem_convert(self, codec):
        self.time_convert(codec)

    def time_whole_read(self, codec):
        self.store["study"].hu  # noqa: B018

    def time_patch_read(self, codec):
        self.store["study"].read(*PATCH)

    def track_size_of_source(self, codec):
        stored = sum(size for size, _ in self.store.records[0].keys.values())
        return stored / nifti_file().stat().st_size

    track_size_of_source.unit = "store bytes / .nii.gz byte"


class Codec:
    """All chunks of a volume, by ctpack alone."""

    def setup(self):
        self.hu = phantom().hu
        self.metadata = shards.array_metadata(self.hu.shape, "int16", "ctpack", -1024)
        self.shard = bytes(shards.write_shard(self.hu, self.metadata))
        self.out = np.zeros_like(self.hu)

    def time_encode(self):
        shards.write_shard(self.hu, self.metadata, use="benchmark")

    def time_decode(self):
        shards.read_shard(self.shard, self.metadata, out=self.out)

    def track_decode_rate(self):
        return per_second(self.time_decode, self.hu.nbytes / 1e6)

    def track_encode_rate(self):
        return per_second(self.time_encode, self.hu.nbytes / 1e6)

    track_decode_rate.unit = track_encode_rate.unit = "MB of voxels/s"

    def time_floor_memcpy(self):
        np.copyto(self.out, self.hu)

    def track_ratio(self):
        return self.hu.nbytes / len(self.shard)


class Score:
    """Lung mask, percentages, labels and pictures of one study, from its store."""

    def setup(self):
        self.folder = fresh_folder()
        fastct.convert(nifti_file(), self.folder, workers=1)
        fastct.score(self.folder, workers=1)

    def teardown(self):
        shutil.rmtree(self.folder)

    def time_score(self):
        fastct.score(self.folder, workers=1, overwrite=True)

    def track_rate(self):
        return per_second(self.time_score, 1)

    track_rate.unit = "volumes/s"
