"""Batches made on a GPU (here by its stand-in) are those of the CPU to the last bit, in the same order."""

import shutil

import numpy as np
import pytest
from flip_bits import flip

import fastct
from fastct.errors import OptionError, StoreError
from fastct.shards import SHARD
from fastct.store import study_folder
from fastct.transforms import Flip, Noise, Rotate, Uniform

TURNS = (Rotate((Uniform(-20, 20), 0, 0)), Flip((2,)), Noise(0.05))


def epoch_of(loader):
    return [
        {name: value.get() if hasattr(value, "get") else value for name, value in batch.items()} for batch in loader
    ]


@pytest.mark.parametrize("options", [{}, {"augment": TURNS, "dtype": "float16"}, {"patch": (20, 120, 40)}], ids=len)
def test_batches_are_those_of_the_cpu(scored, cupy, options):
    dataset = fastct.Dataset(scored, **{"patch": (4, 40, 50), "samples_per_study": 2, **options})
    on_cpu = epoch_of(fastct.Loader(dataset, batch_size=3))
    on_gpu = epoch_of(fastct.Loader(dataset, batch_size=3, device="cuda"))
    assert len(on_gpu) == len(on_cpu) == 3
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one["study_id"] == other["study_id"]
        for name in ("image", "label", "origin", "affine"):
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype


def test_resuming_and_breaking_off(scored, cupy):
    dataset = fastct.Dataset(scored, patch=(4, 40, 50), samples_per_study=2)
    whole = epoch_of(fastct.Loader(dataset, batch_size=2, device="cuda:0"))
    loader = fastct.Loader(dataset, batch_size=2, device="cuda:0")
    next(iter(loader))
    resumed = fastct.Loader(dataset, batch_size=2, device="cpu")
    resumed.load_state_dict(loader.state_dict())
    for one, other in zip(epoch_of(resumed), whole[1:], strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])


def test_a_damaged_chunk_is_named(scored, tmp_path, cupy):
    shutil.copytree(scored, tmp_path / "store")
    store = fastct.open(tmp_path / "store")
    for study_id in store:
        flip(tmp_path / "store" / study_folder(study_id) / "0" / SHARD, 802)
    dataset = fastct.Dataset(store, patch=(10, 96, 96), samples_per_study=1)
    loader = fastct.Loader(dataset, batch_size=2, device="cuda")
    batches, told = iter(loader), set()
    for _ in range(3):  # on every further call the same again, as on the CPU
        with pytest.raises(StoreError, match=r"study_000\d.*chunk \(0, 0, 0\): its checksum") as caught:
            next(batches)
        told.add(str(caught.value))
    assert len(told) == 1
    assert loader.state_dict()["epoch"] == 0


def test_batches_under_way_are_waited_for_when_a_pass_is_let_go(scored, cupy):
    dataset = fastct.Dataset(scored, patch=(4, 40, 50), samples_per_study=4)
    batches = iter(fastct.Loader(dataset, batch_size=2, device="cuda", ahead=2))
    next(batches)
    next(batches)
    cupy.waits.clear()
    del batches
    assert cupy.waits == ["event"] * 2


def test_other_devices_are_refused(scored):
    dataset = fastct.Dataset(scored, patch=(4, 40, 50))
    for device in ("gpu", "cuda:x", "cpu:1", "auto"):
        with pytest.raises(OptionError, match="device"):
            fastct.Loader(dataset, device=device)
