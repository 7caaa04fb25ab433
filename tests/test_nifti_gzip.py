"""Packed NIfTI: members, what lies behind them, cuts, flipped bytes and bombs."""

import gzip
import itertools
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from nifti_files import (
    HU,
    header_of,
    plain,
    whole,
)

from fastct.errors import FileError
from fastct.nifti import read_nifti, read_nifti_bytes
from fastct.nifti.inflate import MAX_SURPLUS_BYTES

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
    start = time.process_time()
    with pytest.raises(FileError, match=finding):
        read_nifti_bytes(raw, "bomb.nii.gz")
    duration_s = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert duration_s < 4
    assert peak < 100e6


def test_a_pile_of_empty_members_is_refused_quickly():
    start = time.process_time()
    with pytest.raises(FileError, match="gzip members"):
        read_nifti_bytes(gzip.compress(b"", mtime=0) * 500_000, "v.nii.gz")
    assert time.process_time() - start < 4


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
