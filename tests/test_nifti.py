"""NIfTI: every kind of file as nibabel reads it, its voxels where they lie."""

import gzip
import hashlib
import itertools
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import (
    AFFINE,
    FLOATS,
    HU,
    INTEGERS,
    PREVIEW,
    RNG,
    assert_as_nibabel,
    header_of,
    plain,
    random_values,
    whole,
)

from fastct.errors import FileError
from fastct.nifti import load_source, read_header, read_nifti, read_nifti_bytes, write_nifti

# Parity with nibabel

SCALES = st.sampled_from([(1, 0), (0, 0), (np.nan, 3), (1, -1024), (0.5, 0), (7.1098, -1024), (-2, 0.5), (1e30, 9)])


@settings(max_examples=150, **PREVIEW)
@given(
    dtype=st.sampled_from([order + kind for order in "<>" for kind in INTEGERS + FLOATS]),
    scale=SCALES,
    version=st.sampled_from([1, 2]),
    packed=st.booleans(),
    padding=st.sampled_from([0, 0, 16, 3]),
    seed=st.integers(0, 2**32),
)
def test_every_type_order_and_scale_as_nibabel(tmp_path, dtype, scale, version, packed, padding, seed):
    stored = random_values(dtype, seed)
    header = header_of(stored, version=version, slope=scale[0], inter=scale[1])
    header["vox_offset"] = int(header["vox_offset"]) + padding
    contents = whole(header, stored)
    path = tmp_path / ("v.nii.gz" if packed else "v.nii")
    path.write_bytes(gzip.compress(contents) if packed else contents)
    volume = assert_as_nibabel(path)
    assert volume.source_dtype == stored.dtype.newbyteorder("=").name
    assert volume.header == header.binaryblock


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_infinities(tmp_path, dtype):
    stored = np.zeros((2, 3, 4), dtype)
    stored.flat[:5] = np.nan, np.inf, -np.inf, 1e30, -40000
    path = tmp_path / "v.nii"
    path.write_bytes(plain(stored))
    volume = assert_as_nibabel(path)
    assert volume.hu.flat[0] == -1024
    assert not volume.exact
    assert "1 NaN voxels set to -1024" in volume.notes
    assert "4 voxels clamped to int16" in volume.notes


def test_slabs_join_without_a_seam(tmp_path):
    stored = RNG.normal(0, 900, (9, 128, 131)).astype(np.float32)  # more than two slabs and a rest
    path = tmp_path / "v.nii"
    path.write_bytes(plain(stored, slope=1.5, inter=-7))
    assert_as_nibabel(path)


@pytest.mark.parametrize(
    ("values", "word", "exact"),
    [([1, 2, -5], "converted", True), ([1.5, 2, 3], "rounded", False), ([0.25, 1e9, 3], "clamped", False)],
)
def test_notes_say_what_was_done(values, word, exact):
    stored = np.array(values, ">f4").reshape(1, 1, 3)
    volume = read_nifti_bytes(plain(stored), "v.nii")
    assert word in "; ".join(volume.notes)
    assert "big-endian bytes swapped" in volume.notes
    assert volume.exact is exact


@pytest.mark.parametrize("offset", [353, 355, 360, 1000])
def test_voxels_at_any_offset(tmp_path, offset):
    header = header_of(HU)
    header["vox_offset"] = offset
    path = tmp_path / "v.nii"
    path.write_bytes(whole(header, HU))
    assert_as_nibabel(path)


def test_plain_int16_is_not_copied():
    raw = np.frombuffer(plain(), np.uint8).copy()
    volume = read_nifti_bytes(raw, "v.nii")
    assert np.shares_memory(volume.hu, raw)
    assert volume.notes == ()
    assert volume.exact


@pytest.mark.parametrize("packed", [False, True])
def test_plain_int16_takes_one_copy_of_memory(tmp_path, packed):
    hu = RNG.integers(0, 4, (40, 200, 200)).astype(np.int16)
    path = tmp_path / "v.nii"
    path.write_bytes(gzip.compress(plain(hu), 1) if packed else plain(hu))
    tracemalloc.start()
    volume = read_nifti(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < hu.nbytes + path.stat().st_size * packed + 300_000
    np.testing.assert_array_equal(volume.hu, hu)


def test_trailing_axes_of_length_one_are_dropped(tmp_path):
    header = header_of(HU)
    header["dim"] = [5, 7, 6, 5, 1, 1, 1, 1]
    path = tmp_path / "v.nii"
    path.write_bytes(whole(header, HU))
    volume = assert_as_nibabel(path)
    assert "2 axes of length 1 behind the third dropped" in volume.notes


def test_one_slice_of_two_axes(tmp_path):
    header = header_of(HU[:1])
    header["dim"][0] = 2
    path = tmp_path / "v.nii"
    path.write_bytes(whole(header, HU[:1]))
    assert read_nifti(path).hu.shape == (1, 6, 7)
    np.testing.assert_array_equal(read_nifti(path).hu, HU[:1])


# Pairs, extensions, names


@pytest.mark.parametrize("suffixes", list(itertools.product((".hdr", ".hdr.gz"), (".img", ".img.gz"))))
@pytest.mark.parametrize("version", [1, 2])
def test_pairs_by_either_name(tmp_path, suffixes, version):
    head = header_of(HU, version=version, single=False).binaryblock
    names = [tmp_path / f"v{suffix}" for suffix in suffixes]
    for path, contents in zip(names, (head, HU.tobytes()), strict=True):
        path.write_bytes(gzip.compress(contents) if path.suffix == ".gz" else contents)
    for path in names:
        np.testing.assert_array_equal(read_nifti(path).hu, HU)
        if len({path.suffix for path in names}) == 1 or ".gz" not in "".join(suffixes):
            assert_as_nibabel(path)  # nibabel wants both packed, or neither
        assert read_header(path).geometry.shape == HU.shape
        assert load_source(path).sha256() == hashlib.sha256(b"".join(p.read_bytes() for p in names)).hexdigest()


def test_half_a_pair_names_the_other_half(tmp_path):
    (tmp_path / "v.hdr").write_bytes(header_of(HU, single=False).binaryblock)
    with pytest.raises(FileError, match=r"v\.img, its other half, is missing"):
        read_nifti(tmp_path / "v.hdr")


def test_extensions_are_kept():
    text = b"\1\0\0\0" + struct.pack("<ii", 32, 6) + b"acquired on a rainy day\0"
    header = header_of(HU)
    header["vox_offset"] = 384
    volume = read_nifti_bytes(whole(header, HU, text), "v.nii")
    assert volume.extensions == text
    np.testing.assert_array_equal(volume.hu, HU)
    assert read_nifti_bytes(plain(), "v.nii").extensions == b""


def test_gzip_is_told_by_its_bytes_not_by_the_name(tmp_path):
    (tmp_path / "really_packed.nii").write_bytes(gzip.compress(plain()))
    (tmp_path / "really_plain.NII.GZ").write_bytes(plain())
    for path in tmp_path.iterdir():
        np.testing.assert_array_equal(read_nifti(path).hu, HU)


def test_source_gives_the_bytes_that_were_read(tmp_path):
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress(plain()))
    source = load_source(path)
    assert source.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.size_bytes == path.stat().st_size
    np.testing.assert_array_equal(read_nifti_bytes(source.raw, source.name).hu, HU)


def test_read_header_does_not_read_the_voxels(tmp_path):
    path = tmp_path / "v.nii.gz"
    path.write_bytes(gzip.compress(plain(header_of_dtype := HU.astype(">f4")))[:400])  # cut off after the header
    header = read_header(path)
    assert header.geometry.shape == HU.shape
    assert header.dtype == header_of_dtype.dtype
    assert header.memory_bytes == 352 + HU.size * 6
    np.testing.assert_array_equal(header.geometry.affine, AFFINE)


# Where the voxels are


@settings(max_examples=60, **PREVIEW)
@given(
    sform=st.integers(0, 5),
    qform=st.integers(0, 5),
    pixdim=st.tuples(*[st.floats(0.3, 9)] * 3),
    quaternion=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    qfac=st.sampled_from([-1, 0, 1]),
)
def test_affine_is_chosen_as_nibabel_chooses(tmp_path, sform, qform, pixdim, quaternion, qfac):
    header = header_of(HU)
    header["sform_code"], header["qform_code"] = sform, qform
    header["pixdim"][:4] = (qfac, *pixdim)
    header["quatern_b"], header["quatern_c"], header["quatern_d"] = quaternion
    path = tmp_path / "v.nii"
    path.write_bytes(whole(header, HU))
    volume = assert_as_nibabel(path)
    assert (not sform and not qform) == any("guessed" in note for note in volume.notes)


BROKEN_ROWS = {
    "zero": (0, 0, 0, 0),
    "nan": (np.nan, 0, 0, 0),
    "infinite": (np.inf, 0, 0, 0),
    "flat": (0, 0.75, 0, 0),
}


@pytest.mark.parametrize("row", BROKEN_ROWS.values(), ids=BROKEN_ROWS)
def test_unusable_sform_gives_way_to_qform_then_spacing(row):
    header = header_of(HU)
    header["srow_x"] = row
    volume = read_nifti_bytes(whole(header, HU), "v.nii")
    np.testing.assert_allclose(volume.geometry.affine, AFFINE, atol=1e-5)
    assert "sform unusable" in volume.notes
    header["quatern_b"] = np.nan
    volume = read_nifti_bytes(whole(header, HU), "v.nii")
    assert "qform unusable" in volume.notes
    assert volume.geometry.spacing_mm == (8.0, 0.75, 0.75)
    for spacing in (0, np.nan, np.inf):
        header["pixdim"][1] = spacing
        with pytest.raises(FileError, match="neither sform nor qform places its voxels"):
            read_nifti_bytes(whole(header, HU), "v.nii")


def test_a_qform_that_places_the_voxels_elsewhere_is_told_of():
    header = header_of(HU)
    told = "sform taken: qform places the voxels elsewhere"
    assert told not in read_nifti_bytes(whole(header, HU), "v.nii").notes
    header["srow_x"] = (5, 0, 0, 0)
    volume = read_nifti_bytes(whole(header, HU), "v.nii")
    assert told in volume.notes
    assert volume.geometry.spacing_mm[2] == 5
    header["qform_code"] = 0
    assert told not in read_nifti_bytes(whole(header, HU), "v.nii").notes


def test_an_sform_whose_axes_lie_in_one_plane_is_unusable():
    header = header_of(HU)
    header["srow_x"] = header["srow_y"] = (0.75, 0.75, 0, 0)
    assert "sform unusable" in read_nifti_bytes(whole(header, HU), "v.nii").notes


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units_become_millimetres(unit, factor):
    header = header_of(HU)
    header.set_xyzt_units(unit, "sec")
    volume = read_nifti_bytes(whole(header, HU), "v.nii")
    np.testing.assert_array_equal(volume.geometry.affine[:3], AFFINE[:3] * factor)
    assert any("millimetres" in note for note in volume.notes) == (factor != 1)


# Real files


@pytest.mark.real
@pytest.mark.parametrize("folder", ["odd", "ct", "mosmed/masks"])
def test_real_files_as_nibabel_or_refused(real_data, tmp_path, folder):
    refused = []
    for path in sorted((real_data / folder).glob("*.nii*"))[:25]:
        try:
            volume = assert_as_nibabel(path)
        except FileError:
            refused.append(path.name)
            continue
        write_nifti(
            tmp_path / "back.nii",
            volume.hu,
            volume.geometry,
            header=volume.header,
            extensions=volume.extensions,
        )
        raw = path.read_bytes()
        assert (tmp_path / "back.nii").read_bytes() == (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    expected = ["5D_small.nii", "crash-1.nii", "empty.nii.gz", "example_nifti2.nii.gz", "functional.nii"]
    assert refused == ([*expected, "not-nifti.nii", "rgb_3D.nii"] if folder == "odd" else [])
