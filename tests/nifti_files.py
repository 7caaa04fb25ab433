"""NIfTI files of any kind, made byte by byte for the tests, and what nibabel reads of them."""

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck

from fastct.nifti import read_nifti

AFFINE = np.array([[-0.75, 0, 0, 190], [0, 0.75, 0, -170.5], [0, 0, 8, -900], [0, 0, 0, 1]])
INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
FLOATS = ["f4", "f8", *(["f16"] if np.dtype(np.longdouble) in nib.nifti1.data_type_codes else [])]
PREVIEW = {"suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]}
RNG = np.random.default_rng(7)
HU = RNG.integers(-1024, 3072, (5, 6, 7)).astype(np.int16)


def header_of(stored, *, version=1, slope=1.0, inter=0.0, affine=AFFINE, single=True):
    """nibabel's header for a (z, y, x) array, little- or big-endian as the array is."""
    klass = {
        (1, True): nib.Nifti1Header,
        (2, True): nib.Nifti2Header,
        (1, False): nib.nifti1.Nifti1PairHeader,
        (2, False): nib.nifti2.Nifti2PairHeader,
    }[version, single]
    order = ">" if stored.dtype.byteorder == ">" else "<"
    header = klass(endianness=order)
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape[::-1])
    header.set_sform(affine, 1)
    header.set_qform(affine, 1)
    header.set_xyzt_units("mm", "sec")
    header["scl_slope"], header["scl_inter"] = slope, inter
    header["vox_offset"] = (352 if version == 1 else 544) if single else 0
    return header


def whole(header, stored, extensions=b""):
    """The bytes of a single file."""
    head = header.binaryblock + extensions
    return head.ljust(int(header["vox_offset"]), b"\0") + stored.tobytes()


def plain(hu=HU, **options):
    return whole(header_of(hu, **options), hu)


def nibabel_hu(path):
    """What the promise says, computed by nibabel and NumPy from the whole volume."""
    image = nib.load(path)
    values = image.get_fdata()
    hu = np.where(np.isnan(values), -1024, np.clip(np.rint(values), -32768, 32767))
    return hu.reshape((*image.shape, 1)[:3]).T.astype(np.int16), image.affine


def assert_as_nibabel(path):
    volume = read_nifti(path)
    hu, affine = nibabel_hu(path)
    np.testing.assert_array_equal(volume.hu, hu)
    np.testing.assert_array_equal(volume.geometry.affine, affine)
    assert volume.hu.dtype == np.int16
    assert volume.hu.flags.c_contiguous
    assert volume.hu.flags.aligned
    assert volume.geometry.shape == volume.hu.shape
    return volume


def random_values(dtype, seed):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        values = rng.normal(0, 20_000, (3, 4, 5)) + rng.choice([0, 0.5], (3, 4, 5))
        return np.where(rng.random((3, 4, 5)) < 0.3, np.rint(values) + 0.5, values).astype(dtype)
    limits = np.iinfo(kind)
    small = (max(limits.min, -2000), min(limits.max, 4000))
    low, high = (limits.min, limits.max) if seed % 2 else small
    return rng.integers(low, high, (3, 4, 5), dtype=kind.newbyteorder("="), endpoint=True).astype(dtype)
