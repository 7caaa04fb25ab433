"""NIfTI that cannot be read is refused, with a cure; masks fit their volumes or are refused."""

import gzip
import os
import time

import nibabel as nib
import numpy as np
import pytest
from nifti_files import (
    AFFINE,
    HU,
    header_of,
    plain,
    whole,
)

from fastct.errors import FileError
from fastct.geometry import Geometry
from fastct.nifti import read_header, read_mask, read_nifti, read_nifti_bytes

# Refusal


def with_fields(**fields):
    header = header_of(HU)
    for name, value in fields.items():
        header[name] = value
    return whole(header, HU) if fields.get("vox_offset", 0) == 0 else header.binaryblock + HU.tobytes()


def typed(code, itemsize):
    header = header_of(HU)
    header["datatype"], header["bitpix"] = code, itemsize * 8
    return header.binaryblock + bytes(4 + itemsize * HU.size)


ANALYZE = nib.AnalyzeHeader()
ANALYZE.set_data_shape((4, 4, 4))
REFUSED = {
    "empty": (b"", "empty"),
    "short": (plain()[:200], "too few"),
    "no magic": (bytes(4096), "no NIfTI header"),
    "text": (b"this is not NIfTI " * 100, "no NIfTI header"),
    "analyze": (ANALYZE.binaryblock + bytes(500), "no NIfTI header"),
    "rgb": (typed(128, 3), "colours"),
    "rgba": (typed(2304, 4), "colours"),
    "complex64": (typed(32, 8), "complex"),
    "complex128": (typed(1792, 16), "complex"),
    "binary": (typed(1, 1), "data type code 1"),
    "unknown type": (typed(-9510, 2), "data type code -9510"),
    "four axes": (with_fields(dim=[4, 7, 6, 1, 5, 1, 1, 1]), r"\(7, 6, 1, 5\)"),
    "five axes": (with_fields(dim=[5, 7, 6, 1, 1, 5, 1, 1]), "three axes"),
    "one axis": (with_fields(dim=[1, 210, 1, 1, 1, 1, 1, 1]), "three axes"),
    "no axes": (with_fields(dim=[0, 7, 6, 5, 1, 1, 1, 1]), "0 axes"),
    "nine axes": (with_fields(dim=[9, 7, 6, 5, 1, 1, 1, 1]), "axes"),
    "negative size": (with_fields(dim=[3, 7, -6, 5, 1, 1, 1, 1]), r"shape is \(7, -6, 5\)"),
    "zero size": (with_fields(dim=[3, 7, 0, 5, 1, 1, 1, 1]), r"shape is \(7, 0, 5\)"),
    "cut off": (plain()[:-1], "771 of the 772 bytes"),
    "too many voxels": (with_fields(dim=[3, 7, 6, 6, 1, 1, 1, 1]), "772 of the 856 bytes"),
    "offset in header": (with_fields(vox_offset=100), "start at byte 100"),
    "offset zero": (plain()[:108] + bytes(4) + plain()[112:], "start at byte 0"),
    "offset negative": (with_fields(vox_offset=-352), "start at byte -352"),
    "offset nan": (with_fields(vox_offset=np.nan), "start at byte nan"),
    "offset infinite": (with_fields(vox_offset=np.inf), "start at byte inf"),
    "offset far off": (with_fields(vox_offset=1e20), "start at byte 1e"),
    "intercept nan": (with_fields(scl_inter=np.nan), "intercept"),
    "intercept infinite": (with_fields(scl_inter=-np.inf), "intercept"),
}


@pytest.mark.parametrize(("contents", "finding"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("packed", [False, True])
def test_refused_with_name_finding_and_cure(tmp_path, contents, finding, packed):
    path = tmp_path / ("v.nii.gz" if packed else "v.nii")
    path.write_bytes(gzip.compress(contents) if packed else contents)
    with pytest.raises(FileError, match=finding) as caught:
        read_nifti(path)
    assert caught.value.subject == str(path)
    assert caught.value.cure


@pytest.mark.parametrize(
    ("make", "finding"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "folder or a device"),
        (lambda path: os.mkfifo(path), "folder or a device"),
        (lambda path: path.symlink_to(path), "symbolic links"),
    ],
    ids=["missing", "folder", "pipe", "loop"],
)
def test_what_is_no_file(tmp_path, make, finding):
    path = tmp_path / "v.nii.gz"
    make(path)
    for read in (read_nifti, read_header):
        with pytest.raises(FileError, match=finding):
            read(path)


@pytest.mark.parametrize("name", ["v.dcm", "v.nii.bz2", "v", ".nii", "nul\0.nii"])
def test_names_of_no_nifti_file(tmp_path, name):
    with pytest.raises(FileError):
        read_nifti(f"{tmp_path}/{name}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(tmp_path):
    path = tmp_path / "v.nii"
    path.write_bytes(plain())
    path.chmod(0)
    with pytest.raises(FileError, match="Permission denied"):
        read_nifti(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_mutated_files_are_read_or_refused(packed, version):
    rng = np.random.default_rng(version)
    contents = plain(version=version)
    valid = np.frombuffer(gzip.compress(contents) if packed else contents, np.uint8)
    start = time.process_time()
    for _ in range(1500):
        raw = valid[: rng.integers(1, valid.size + 1)].copy() if rng.random() < 0.2 else valid.copy()
        reach = raw.size if packed else min(raw.size, 352 if version == 1 else 544)
        raw[rng.integers(0, reach, rng.integers(1, 9))] = rng.integers(0, 256)
        try:
            volume = read_nifti_bytes(raw, "v.nii", limit_bytes=1 << 24)
        except FileError:
            continue
        assert volume.hu.shape == volume.geometry.shape
    assert time.process_time() - start < 15


# Masks


def test_mask_of_its_volume(tmp_path):
    lesion = (HU > 1500).astype(np.uint8)
    geometry = Geometry(HU.shape, AFFINE)
    for stored in (lesion, lesion.astype(np.int16), lesion.astype(">f8"), lesion.astype(np.uint64)):
        path = tmp_path / "m.nii.gz"
        path.write_bytes(gzip.compress(plain(stored)))
        mask = read_mask(path, geometry)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, lesion)


@pytest.mark.parametrize(
    ("stored", "affine", "finding"),
    [
        (np.zeros((4, 6, 7), np.uint8), AFFINE, r"\(4, 6, 7\), its volume \(5, 6, 7\)"),
        (np.zeros(HU.shape, np.uint8), AFFINE + 0.002 * np.eye(4, k=3), "differ by up to 0.00"),
        (np.full(HU.shape, 2, np.uint8), AFFINE, "whole numbers from 2 to 2"),
        (np.full(HU.shape, -1, np.int16), AFFINE, "whole numbers from -1 to -1"),
        (np.full(HU.shape, 0.2, np.float32), AFFINE, "fractions"),
        (np.full(HU.shape, np.nan, np.float32), AFFINE, "NaN"),
    ],
)
def test_mask_of_another_volume_is_refused(tmp_path, stored, affine, finding):
    path = tmp_path / "m.nii"
    path.write_bytes(plain(stored, affine=affine))
    with pytest.raises(FileError, match=finding):
        read_mask(path, Geometry(HU.shape, AFFINE))


def test_mask_within_a_thousandth_of_a_millimetre(tmp_path):
    path = tmp_path / "m.nii"
    path.write_bytes(plain(np.ones(HU.shape, np.uint8), affine=AFFINE + 0.0005 * np.eye(4, k=3)))
    assert read_mask(path, Geometry(HU.shape, AFFINE)).all()
