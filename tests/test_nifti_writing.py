"""NIfTI: files come back as they came, and a failed write leaves no trace."""

import os
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import AFFINE, FLOATS, HU, INTEGERS, PREVIEW, assert_as_nibabel, header_of, nibabel_hu, plain, whole

from fastct.errors import ArrayError, FileError
from fastct.geometry import Geometry
from fastct.nifti import read_mask, read_nifti, read_nifti_bytes, write_nifti

# Writing


@settings(max_examples=80, **PREVIEW)
@given(
    dtype=st.sampled_from([order + kind for order in "<>" for kind in INTEGERS + FLOATS]),
    scale=st.sampled_from([(1, 0), (0, 0), (1, -1024), (2, 0), (7.1098, -1024)]),
    version=st.sampled_from([1, 2]),
    padding=st.sampled_from([0, 16, 3]),
    seed=st.integers(0, 2**32),
)
def test_a_file_comes_back_byte_by_byte(tmp_path, dtype, scale, version, padding, seed):
    stored = np.random.default_rng(seed).integers(0, 120, (3, 4, 5)).astype(dtype)
    header = header_of(stored, version=version, slope=scale[0], inter=scale[1])
    header["vox_offset"] = int(header["vox_offset"]) + 64 + padding
    header["descrip"] = b"as it came"
    contents = whole(header, stored, b"\1\0\0\0" + struct.pack("<ii", 48, 6) + b"an extension")
    volume = read_nifti_bytes(contents, "v.nii")
    path = tmp_path / "back.nii"
    if stored.dtype.kind == "f" and scale[0] == 7.1098:  # the fractions were rounded away
        write_nifti(path, volume.hu, volume.geometry, header=volume.header, extensions=volume.extensions)
        np.testing.assert_array_equal(read_nifti(path).hu, volume.hu)
        return
    write_nifti(path, volume.hu, volume.geometry, header=volume.header, extensions=volume.extensions)
    assert path.read_bytes() == contents


@pytest.mark.parametrize("scale", [(1, 0.5), (0.001, 0), (300, 0), (1e-38, 0)])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_hu_that_do_not_fit_the_source_type_are_written_as_int16(tmp_path, dtype, scale):
    header = header_of(HU.astype(dtype), slope=scale[0], inter=scale[1])
    path = tmp_path / "v.nii"
    write_nifti(path, HU, Geometry(HU.shape, AFFINE), header=header.binaryblock)
    np.testing.assert_array_equal(read_nifti(path).hu, HU)
    np.testing.assert_array_equal(nibabel_hu(path)[0], HU)


def test_a_pair_becomes_one_file(tmp_path):
    header = header_of(HU, single=False)
    write_nifti(tmp_path / "v.nii", HU, Geometry(HU.shape, AFFINE), header=header.binaryblock)
    np.testing.assert_array_equal(assert_as_nibabel(tmp_path / "v.nii").hu, HU)
    assert (tmp_path / "v.nii").read_bytes()[344:348] == b"n+1\0"


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
def test_a_new_file_is_read_alike_by_nibabel(tmp_path, name, dtype):
    array = (HU % 3).astype(dtype)
    path = tmp_path / name
    write_nifti(path, array, Geometry(HU.shape, AFFINE))
    image = nib.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, array)
    assert image.get_data_dtype() == dtype
    assert image.header.get_xyzt_units() == ("mm", "sec")
    for affine, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code == 1
        np.testing.assert_allclose(affine, AFFINE, atol=1e-5)
    again = tmp_path / f"again_{name}"
    write_nifti(again, array, Geometry(HU.shape, AFFINE))
    assert again.read_bytes() == path.read_bytes()


def test_a_sheared_affine_is_no_qform(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 2] = 1.5
    write_nifti(tmp_path / "v.nii", HU, Geometry(HU.shape, sheared))
    image = nib.load(tmp_path / "v.nii")
    np.testing.assert_allclose(image.affine, sheared, atol=1e-5)
    assert int(image.header["qform_code"]) == 0


def test_another_geometry_replaces_that_of_the_header(tmp_path):
    volume = read_nifti_bytes(plain(), "v.nii")
    geometry = Geometry((2, 6, 7), np.diag([-2.0, 2, 3, 1]))
    write_nifti(tmp_path / "v.nii", HU[:2], geometry, header=volume.header)
    again = assert_as_nibabel(tmp_path / "v.nii")
    assert again.geometry.matches(geometry)
    np.testing.assert_array_equal(again.hu, HU[:2])


@pytest.mark.parametrize("unit", ["meter", "micron"])
def test_units_of_the_source_come_back(tmp_path, unit):
    header = header_of(HU)
    header.set_xyzt_units(unit, "sec")
    contents = whole(header, HU)
    volume = read_nifti_bytes(contents, "v.nii")
    write_nifti(tmp_path / "v.nii", volume.hu, volume.geometry, header=volume.header)
    assert (tmp_path / "v.nii").read_bytes() == contents


def test_labels_take_the_place_of_the_volume_but_not_its_scale(tmp_path):
    header = header_of(HU.astype("u1"), slope=7.5, inter=-1024)
    header["cal_max"] = 300
    label = (HU > 0).astype(np.uint8)
    write_nifti(tmp_path / "v.nii.gz", label, Geometry(HU.shape, AFFINE), header=header.binaryblock)
    np.testing.assert_array_equal(read_mask(tmp_path / "v.nii.gz", Geometry(HU.shape, AFFINE)), label)
    np.testing.assert_array_equal(nib.load(tmp_path / "v.nii.gz").affine, AFFINE)


def test_long_axes_make_a_nifti2(tmp_path):
    hu = np.arange(40_000).astype(np.int16).reshape(40_000, 1, 1)
    write_nifti(tmp_path / "v.nii", hu, Geometry(hu.shape, np.eye(4)))
    assert isinstance(nib.load(tmp_path / "v.nii"), nib.Nifti2Image)
    np.testing.assert_array_equal(assert_as_nibabel(tmp_path / "v.nii").hu, hu)


def test_views_are_written_as_they_look(tmp_path):
    geometry = Geometry(HU.shape[::-1], np.eye(4))
    write_nifti(tmp_path / "v.nii", HU.T, geometry)
    np.testing.assert_array_equal(read_nifti(tmp_path / "v.nii").hu, HU.T)


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch, broken):
    path = tmp_path / "v.nii.gz"
    write_nifti(path, HU, Geometry(HU.shape, AFFINE))
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    if broken == "replace":
        monkeypatch.setattr(Path, "replace", full)
    elif broken == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "open", full)
    with pytest.raises(FileError, match="No space left on device"):
        write_nifti(path, HU + 1, Geometry(HU.shape, AFFINE))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.nii.gz"]


def test_an_interrupt_leaves_no_rest(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_nifti(tmp_path / "v.nii", HU, Geometry(HU.shape, AFFINE))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written(tmp_path):
    geometry = Geometry(HU.shape, AFFINE)
    for array in (HU.astype(np.float32), HU[:2], HU.astype(">i2")):
        with pytest.raises(ArrayError, match="wanted int16 or uint8"):
            write_nifti(tmp_path / "v.nii", array, geometry)
    for name in ("v.img", "v.nii.bz2", "none/v.nii", "nul\0.nii"):
        with pytest.raises(FileError):
            write_nifti(f"{tmp_path}/{name}", HU, geometry)
    with pytest.raises(FileError, match="header"):
        write_nifti(tmp_path / "v.nii", HU, geometry, header=b"no header")
    assert not list(tmp_path.iterdir())
