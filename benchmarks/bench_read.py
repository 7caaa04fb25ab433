"""Reading .nii.gz beside its floor, libdeflate alone, and beside nibabel."""

import deflate
import nibabel as nib
import numpy as np

import fastct
from benchmarks.common import nifti_file, per_second


class Read:
    """One file of MosMedData's size, from the page cache."""

    def setup(self):
        self.path = nifti_file()
        self.raw = self.path.read_bytes()
        self.size_bytes = len(deflate.gzip_decompress(self.raw))

    def time_fastct(self):
        fastct.read_nifti(self.path)

    def time_floor_libdeflate(self):
        deflate.gzip_decompress(self.raw, self.size_bytes)

    def time_peer_nibabel(self):
        np.asarray(nib.load(self.path).dataobj)

    def track_rate(self):
        return per_second(self.time_fastct, self.size_bytes / 1e6)

    track_rate.unit = "MB of voxels/s"

    def peakmem_fastct(self):
        fastct.read_nifti(self.path)
