"""Inflating in place: agreement with gzip, refusal, memory that is kept and memory that is not."""

import gzip
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastct.kept import MOST_KEPT_BYTES, kept_bytes
from fastct.nifti import libdeflate, read_nifti_bytes


@pytest.fixture(params=["in place", "by the package"])
def inflate_member(request, monkeypatch):
    if request.param == "in place":
        assert libdeflate._library() is not None, "the wheels of deflate show libdeflate's functions"
    else:
        monkeypatch.setattr(libdeflate, "_library", lambda: None)
    return libdeflate.inflate_member


def as_bytes(payload):
    return np.frombuffer(payload, np.uint8)


@given(st.binary(max_size=3000), st.integers(1, 9), st.integers(0, 40), st.binary(max_size=9))
def test_both_ways_are_gzips(plain, level, surplus, behind):
    raw = as_bytes(gzip.compress(plain, level) + behind)
    for way in (libdeflate._in_place, lambda _, *given: libdeflate._by_package(*given)):
        out = np.full(len(plain) + surplus + 1, 7, np.uint8)
        assert way(libdeflate._library(), raw, out) == len(plain)
        assert out[: len(plain)].tobytes() == plain
        assert (out[len(plain) + surplus :] == 7).all()


def test_what_is_damaged_or_does_not_fit_is_none(inflate_member):
    plain = np.random.default_rng(1).integers(0, 9, 5000, np.uint8).tobytes()
    raw, out = gzip.compress(plain), np.empty(len(plain), np.uint8)
    assert inflate_member(as_bytes(raw), out) == len(plain)
    assert inflate_member(as_bytes(raw), out[:-1]) is None
    for at in (2, len(raw) // 2, len(raw) - 6, len(raw) - 1):
        damaged = bytearray(raw)
        damaged[at] ^= 1
        assert inflate_member(as_bytes(bytes(damaged)), out) is None
    for end in (0, 9, len(raw) - 1):
        assert inflate_member(as_bytes(raw[:end]), out) is None


def test_kept_memory_is_a_threads_own_and_a_uses_own():
    first, other = kept_bytes("test", 100), kept_bytes("another test", 100)
    elsewhere = []
    thread = threading.Thread(target=lambda: elsewhere.append(kept_bytes("test", 100)))
    thread.start()
    thread.join()
    assert np.shares_memory(first, kept_bytes("test", 50))
    assert not np.shares_memory(first, other)
    assert not np.shares_memory(first, elsewhere[0])
    assert kept_bytes("test", 1000).size == 1000
    assert not np.shares_memory(kept_bytes("test", MOST_KEPT_BYTES + 1), kept_bytes("test", MOST_KEPT_BYTES + 1))


def test_voxels_lie_in_kept_memory_only_where_that_is_asked_for(chests):
    paths = sorted(chests.rglob("study_*[0-9].nii.gz"))[:2]
    raw = [as_bytes(path.read_bytes()) for path in paths]
    own = [read_nifti_bytes(each, "study").hu for each in raw]
    before = [hu.copy() for hu in own]
    kept = [read_nifti_bytes(each, "study", use="test").hu for each in raw]
    assert np.shares_memory(kept[0], kept[1])
    np.testing.assert_array_equal(kept[1], own[1])
    for hu, copy in zip(own, before, strict=True):
        np.testing.assert_array_equal(hu, copy)
