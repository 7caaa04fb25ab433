"""Every flipped bit of a shard is found by reading and by verifying, and none ever gives a wrong voxel."""

from contextlib import suppress
from itertools import product

import nibabel as nib
import numpy as np
import pytest
from small_chests import write_study

import fastct
from fastct.errors import FastctError
from fastct.options import CODECS
from fastct.verification import verify

ARRAYS = ("0", "labels/lesion/0")


def store_of(folder, hu, mask, affine, codec):
    write_study(folder / "source/study.nii.gz", hu, affine)
    write_study(folder / "source/study_mask.nii.gz", mask, affine)
    fastct.convert(folder / "source", folder / "store", codec=codec, workers=1)
    assert verify(folder / "store") == []
    return folder / "store"


def read(store, array, box):
    study = fastct.open(store)["study"]
    return study.read(*box) if array == "0" else study.label("lesion")[box]


def is_found(store, array, box, sound):
    """Whether verifying names the shard, and reading it whole fails; a box of it is right, or fails too."""
    with suppress(FastctError):  # where the box touches what is damaged
        np.testing.assert_array_equal(read(store, array, box), sound[box])
    faults = verify(store)
    with pytest.raises(FastctError, match="study"):
        read(store, array, (slice(None),) * 3)
    return any(fault.key.endswith(f"study.nii.zarr/{array}/c/0/0/0") for fault in faults)


def flip_each(store, array, sound, count, seed):
    """Flip `count` random bits, one at a time, a quarter of them in the index; how many were found."""
    path = store / "studies/study.nii.zarr" / array / "c/0/0/0"
    whole = path.read_bytes()
    rng = np.random.default_rng(seed)
    index_bits = 8 * (16 * int(np.prod([-(-n // c) for n, c in zip(sound.shape, (8, 64, 64), strict=True)])) + 4)
    early = rng.integers(0, 8 * len(whole), count - count // 4)
    late = rng.integers(8 * len(whole) - index_bits, 8 * len(whole), count // 4)
    found = 0
    for bit in (*early, *late):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        begin = [int(rng.integers(0, max(n // 2, 1))) for n in sound.shape]
        box = tuple(slice(first, first + 1 + n // 3) for first, n in zip(begin, sound.shape, strict=True))
        found += is_found(store, array, box, sound)
    path.write_bytes(whole)
    assert verify(store) == []
    return found


@pytest.mark.parametrize(("codec", "array"), list(product(CODECS, ARRAYS)))
def test_every_flipped_bit_is_found(chests, tmp_path, codec, array):
    image = nib.load(chests / "studies/CT-1/study_0002.nii.gz")
    hu = np.asarray(image.dataobj).T
    mask = np.asarray(nib.load(chests / "masks/study_0002_mask.nii.gz").dataobj).T
    store = store_of(tmp_path, hu, mask, image.affine, codec)
    assert flip_each(store, array, hu if array == "0" else mask, 40, seed=3) == 40


@pytest.mark.real
@pytest.mark.timeout(900)
@pytest.mark.parametrize("codec", CODECS)
def test_a_thousand_flipped_bits_of_a_real_ct_are_found(real_data, tmp_path, codec):
    image = nib.load(real_data / "ct" / "lctsc_007.nii.gz")
    hu = np.ascontiguousarray(np.asarray(image.dataobj).T[4:24, 100:300, 120:330])
    store = store_of(tmp_path, hu, (hu > 100).astype(np.uint8), image.affine, codec)
    for array, sound, seed in zip(ARRAYS, (hu, (hu > 100).astype(np.uint8)), (5, 6), strict=True):
        assert flip_each(store, array, sound, 1000, seed) == 1000
