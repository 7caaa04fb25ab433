"""NIfTI: every kind of file as nibabel reads it or refused, and files that come back as they came."""

import gzip
import hashlib
import itertools
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastct.errors import ArrayError, FileError
from fastct.geometry import Geometry
from fastct.nifti import load_source, read_header, read_mask, read_nifti, read_nifti_bytes, write_nifti
from fastct.nifti.inflate import MAX_SURPLUS_BYTES

AFFINE = np.array([[-0.75, 0, 0, 190], [0, 0.75, 0, -170.5], [0, 0, 8, -900], [0, 0, 0, 1]])
INTEGERS = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]
FLOATS = ["f4", "f8", *(["f16"] if np.dtype(np.longdouble) in nib.nifti1.data_type_codes else [])]
PREVIEW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
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


# gzip as it comes


def members(contents, count):
    edges = np.linspace(0, len(contents), count + 1).astype(int)
    return b"".join(gzip.compress(contents[a:b], mtime=0) for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize("count", [2, 3, 40])
def test_several_members(count):
    volume = read_nifti_bytes(members(plain(), count), "v.nii.gz")
    np.testing.assert_array_equal(volume.hu, HU)


def test_members_that_grow_beyond_a_piece():
    hu = np.zeros((40, 256, 256), np.int16)  # 5 MB out of 5 kB
    hu[-1, -1, -1] = 7
    np.testing.assert_array_equal(read_nifti_bytes(members(plain(hu), 2), "v.nii.gz").hu, hu)


@pytest.mark.parametrize(
    ("tail", "note"),
    [
        (bytes(100), None),
        (b"garbage, not gzip", "ignored"),
        (struct.pack("<I", len(plain())), None),  # just what the trailer of one member would say
        (b"\1\2\3", "ignored"),
    ],
)
def test_bytes_behind_the_last_member_are_passed_over(tail, note):
    volume = read_nifti_bytes(gzip.compress(plain()) + tail, "v.nii.gz")
    np.testing.assert_array_equal(volume.hu, HU)
    assert note is None or any(note in line for line in volume.notes)
    volume = read_nifti_bytes(members(plain(), 3) + tail, "v.nii.gz")
    np.testing.assert_array_equal(volume.hu, HU)


@pytest.mark.parametrize("surplus", [1, 5000, MAX_SURPLUS_BYTES])
def test_surplus_behind_the_last_voxel_is_passed_over_and_noted(surplus):
    contents = plain() + b"x" * surplus
    np.testing.assert_array_equal(read_nifti_bytes(members(contents, 2), "v.nii").hu, HU)
    for raw in (contents, gzip.compress(contents, 1), members(plain(), 2) + gzip.compress(b"x" * surplus)):
        volume = read_nifti_bytes(raw, "v.nii")
        np.testing.assert_array_equal(volume.hu, HU)
        assert f"{surplus} bytes after the last voxel ignored" in volume.notes


def test_every_cut_of_a_packed_file_is_refused():
    packed = gzip.compress(plain())
    for raw in (packed, members(plain(), 3)):
        for length in range(1, len(raw), 7):
            with pytest.raises(FileError):
                read_nifti_bytes(raw[:length], "v.nii.gz")


def test_every_flipped_byte_behind_the_gzip_header_is_refused():
    packed = gzip.compress(plain())
    for at in range(10, len(packed)):
        damaged = bytearray(packed)
        damaged[at] ^= 0x10
        with pytest.raises(FileError):
            read_nifti_bytes(damaged, "v.nii.gz")


def bomb(head, gigabytes=10):
    """gzip of `head` and then zeros without end, made by repeating one flushed block."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + block * (gigabytes * 1024 // 16) + packer.flush()


@pytest.mark.parametrize(
    ("shape", "finding"),
    [
        ((40, 512, 512), "goes on for more than"),
        ((16000, 512, 512), "the limit is"),
        (None, "no NIfTI header"),
    ],
)
def test_a_bomb_is_refused_quickly_and_in_little_memory(shape, finding):
    head = bytes(400)
    if shape:
        head = header_of(np.lib.stride_tricks.as_strided(HU, shape, (0, 0, 0))).binaryblock
    raw = bomb(head)
    assert 9_000_000 < len(raw) < 12_000_000
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FileError, match=finding):
        read_nifti_bytes(raw, "bomb.nii.gz")
    duration_s = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert duration_s < 4
    assert peak < 100e6


def test_a_pile_of_empty_members_is_refused_quickly():
    start = time.perf_counter()
    with pytest.raises(FileError, match="gzip members"):
        read_nifti_bytes(gzip.compress(b"", mtime=0) * 500_000, "v.nii.gz")
    assert time.perf_counter() - start < 4


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("limit_bytes", [1 << 31, 1 << 62])
def test_a_trillion_promised_voxels_allocate_nothing(packed, limit_bytes):
    header = header_of(HU, version=2)
    header["dim"][1:4] = (1 << 14, 1 << 13, 1 << 13)
    raw = whole(header, HU)
    tracemalloc.start()
    with pytest.raises(FileError, match=r"limit|promise"):
        read_nifti_bytes(gzip.compress(raw) if packed else raw, "v.nii", limit_bytes=limit_bytes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


def test_the_limit_counts_file_and_copy(tmp_path):
    floats = HU.astype(np.float32)
    need = 352 + 6 * HU.size
    assert read_nifti_bytes(plain(floats), "v.nii", limit_bytes=need).exact
    with pytest.raises(FileError, match=f"{need:,} bytes of memory, and the limit is {need - 1:,}"):
        read_nifti_bytes(plain(floats), "v.nii", limit_bytes=need - 1)
    path = tmp_path / "v.nii"
    path.write_bytes(plain() + bytes(5000))
    with pytest.raises(FileError, match="limit"):
        read_nifti(path, limit_bytes=5000)


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
    rng = np.random.default_rng()
    contents = plain(version=version)
    valid = np.frombuffer(gzip.compress(contents) if packed else contents, np.uint8)
    start = time.perf_counter()
    for _ in range(1500):
        raw = valid[: rng.integers(1, valid.size + 1)].copy() if rng.random() < 0.2 else valid.copy()
        reach = raw.size if packed else min(raw.size, 352 if version == 1 else 544)
        raw[rng.integers(0, reach, rng.integers(1, 9))] = rng.integers(0, 256)
        try:
            volume = read_nifti_bytes(raw, "v.nii", limit_bytes=1 << 24)
        except FileError:
            continue
        assert volume.hu.shape == volume.geometry.shape
    assert time.perf_counter() - start < 15


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
