"""The training loader: the plan of an epoch, resuming, faults, lifetimes."""

import ctypes
import gc
import pickle
import shutil
import threading
import time

import numpy as np
import pytest
from flip_bits import flip
from patch_sets import dataset
from small_chests import tree

import fastct
from fastct.errors import OptionError, StoreError, WorkerError
from fastct.storage import LocalStorage, open_storage
from fastct.store import Store
from fastct.transforms import (
    Flip,
    Rotate,
    Sometimes,
    Uniform,
)

# ---- the plan of an epoch --------------------------------------------------------------------------


def loaded(loader):
    """What a loader gives in an epoch: batches, copied."""
    return [{name: np.array(value) for name, value in batch.items()} for batch in loader]


def same(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


SHAKEN = {"augment": (Sometimes(Flip((2,))), Rotate((Uniform(-9, 9), 0, 0))), "balance": "lung"}


def test_an_epoch_is_the_same_for_any_number_of_threads_and_a_new_one_is_not(store):
    data = dataset(store, **SHAKEN)
    first = loaded(fastct.Loader(data, batch_size=3, threads=1))
    for threads in (2, 3):
        same(first, loaded(fastct.Loader(data, batch_size=3, threads=threads, ahead=threads)))
    loader = fastct.Loader(data, batch_size=3)
    same(first, loaded(loader))
    second = loaded(loader)
    assert any((a["origin"] != b["origin"]).any() for a, b in zip(first, second, strict=True))
    loader.set_epoch(1)
    same(second, loaded(loader))
    plain = loaded(fastct.Loader(data, batch_size=20, shuffle=False))[0]
    np.testing.assert_array_equal(plain["image"], np.stack([s["image"] for s in data]))
    data.set_epoch(1)
    np.testing.assert_array_equal(data[3]["origin"], dataset(store, **SHAKEN)[1, 3]["origin"])
    assert (data[3]["image"] != data[0, 3]["image"]).any()


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_are_disjoint_and_complete(store, world_size):
    data = dataset(store)
    loaders = [fastct.Loader(data, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [len(loader) for loader in loaders] == [len(list(loader)) for loader in loaders]
    for loader in loaders:
        loader.set_epoch(0)
    drawn = [(s, *o) for loader in loaders for b in loader for s, o in zip(b["study_id"], b["origin"], strict=True)]
    wanted = [(s["study_id"], *s["origin"]) for s in data]
    assert sorted(drawn) == sorted(wanted)
    even = [fastct.Loader(data, batch_size=3, rank=r, world_size=world_size, drop_last=True) for r in range(world_size)]
    assert {len(loader) for loader in even} == {20 // world_size // 3}
    assert {len(batch["study_id"]) for loader in even for batch in loader} == {3}


@pytest.mark.parametrize(("after", "threads", "batch_size"), [(0, 2, 3), (1, 1, 3), (4, 3, 3), (4, 2, 4), (7, 2, 3)])
def test_training_resumes_in_the_midst_of_an_epoch(store, after, threads, batch_size):
    data = dataset(store, **SHAKEN)
    loader = fastct.Loader(data, batch_size=3)
    list(loader)
    batches = iter(loader)
    before = [{name: np.array(value) for name, value in next(batches).items()} for _ in range(after)]
    state = pickle.loads(pickle.dumps(loader.state_dict()))  # noqa: S301
    rest = [{name: np.array(value) for name, value in batch.items()} for batch in batches]
    again = fastct.Loader(data, batch_size=batch_size, threads=threads)
    again.load_state_dict(state)
    assert again.state_dict() == state
    resumed = loaded(again)
    assert again.state_dict()["epoch"] == 2
    for name in ("image", "label", "origin", "affine", "study_id"):
        joined = [np.concatenate([batch[name] for batch in some]) for some in (rest, resumed) if some]
        np.testing.assert_array_equal(*joined) if rest else None
    assert sum(len(b["study_id"]) for b in (*before, *resumed)) == 20


def test_a_state_of_other_samples_is_refused(store):
    state = fastct.Loader(dataset(store)).state_dict()
    for other in (dataset(store, seed=8), dataset(store, samples_per_study=6)):
        with pytest.raises(OptionError, match="was"):
            fastct.Loader(other).load_state_dict(state)
    with pytest.raises(OptionError, match="world_size"):
        fastct.Loader(dataset(store), world_size=2).load_state_dict(state)


# ---- lifetimes -------------------------------------------------------------------------------------


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("fastct-reader")]


def wait_for_no_readers():
    until = time.monotonic() + 20
    while readers() and time.monotonic() < until:
        time.sleep(0.01)
    return not readers()


def test_a_batch_stays_as_it_is_while_it_is_held(store):
    data = dataset(store, samples_per_study=20)
    loader = fastct.Loader(data, batch_size=2, shuffle=False)
    held = list(loader)
    parts = [batch["image"][0, 0, 2] for batch in loader]  # views alone keep it as well
    loader.set_epoch(1)
    np.testing.assert_array_equal(held[0]["image"][1], data[0, 1]["image"])
    for number, batch in enumerate(held):
        np.testing.assert_array_equal(batch["image"][0], data[0, 2 * number]["image"])
    for number, part in enumerate(parts):
        np.testing.assert_array_equal(part, data[1, 2 * number]["image"][0, 2])


def test_a_loop_uses_few_buffers_again_and_again(store):
    places = [batch["image"].ctypes.data for batch in fastct.Loader(dataset(store, samples_per_study=30), ahead=2)]
    assert len(places) == 30
    assert len(set(places)) <= 5


def test_threads_end_with_the_loop_that_they_read_for(store):
    loader = fastct.Loader(dataset(store, samples_per_study=50), threads=3)
    for _ in loader:
        break
    gc.collect()
    assert wait_for_no_readers()
    batches = iter(loader)
    next(batches)
    assert readers()
    del batches
    gc.collect()
    assert wait_for_no_readers()
    assert len(list(loader)) == 50
    assert wait_for_no_readers()


def test_open_studies_are_bounded(store):
    data = dataset(store, open_studies=2)
    expected = [s["image"] for s in dataset(store)]
    for batch in fastct.Loader(data, threads=3):
        for study, origin, image in zip(batch["study_id"], batch["origin"], batch["image"], strict=True):
            number = next(n for n, s in enumerate(expected) if (s == image).all())
            assert data[number]["study_id"] == study
            assert (data[number]["origin"] == origin).all()
    assert len(data.reader.shelf._kept) <= 2


# ---- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_a_corrupt_chunk_is_named_in_the_training_loop(scored, tmp_path, threads):
    copy = tmp_path / "store"
    shutil.copytree(scored, copy)
    shard = copy / "studies" / "study_0003.nii.zarr" / "0" / "c" / "0" / "0" / "0"
    flip(shard, 800)  # in the first chunk
    data = fastct.Dataset(copy, patch=(10, 96, 96), samples_per_study=4)
    batches = iter(fastct.Loader(data, batch_size=2, shuffle=False, threads=threads))
    good = [next(batches) for _ in range(4)]
    assert [batch["study_id"][0] for batch in good] == ["study_0001"] * 2 + ["study_0002"] * 2
    for _ in range(2):  # and again: it never goes on as if nothing had been
        with pytest.raises(StoreError, match=r"study_0003.*chunk \(0, 0, 0\).*checksum"):
            next(batches)
    assert wait_for_no_readers()


class Deadly:
    """A data set whose reader does something at one sample."""

    def __init__(self, data, at, deed):
        self.read, self.at, self.deed = data.reader.read, at, deed
        data.reader.read = self

    def __call__(self, place, image, label):
        if place.study_id == self.at:
            self.deed()
        self.read(place, image, label)


def exit_thread():
    raise SystemExit


def stopped_from_outside():
    """What `PyThreadState_SetAsyncExc` leaves: an exception at some later byte code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(SystemExit))
    for _ in range(1000):
        time.sleep(0.001)


@pytest.mark.parametrize("deed", [exit_thread, stopped_from_outside])
def test_a_killed_thread_is_told_in_the_training_loop(store, deed):
    data = dataset(store)
    Deadly(data, "study_0002", deed)
    batches = iter(fastct.Loader(data, batch_size=5, shuffle=False))
    next(batches)
    with pytest.raises(WorkerError, match="study_0002"):
        next(batches)
    assert wait_for_no_readers()


def test_a_thread_that_vanishes_between_samples_is_missed(store, monkeypatch):
    monkeypatch.setattr("fastct.readahead.WATCH_S", 0.05)
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    from fastct.readahead import ReadAhead

    work = ReadAhead._next_task

    def vanish(ahead, thread):
        if len(ahead._todo) < 5:
            raise SystemExit
        return work(ahead, thread)

    monkeypatch.setattr(ReadAhead, "_next_task", vanish)
    with pytest.raises(WorkerError, match="ended before its work"):
        list(fastct.Loader(dataset(store), batch_size=2))


def test_other_errors_say_which_sample_was_read(store):
    data = dataset(store)

    def divide():
        return 1 // 0

    Deadly(data, "study_0004", divide)
    with pytest.raises(ZeroDivisionError) as caught:
        list(fastct.Loader(data))
    assert "study_0004" in caught.value.__notes__[0]


# ---- stores that cannot be mapped -------------------------------------------------------------------


class Far(LocalStorage):
    """A folder read as an object store is: by byte ranges."""

    is_local = False
    fetched_bytes = 0

    def read_ranges(self, key, ranges, tag):
        Far.fetched_bytes += sum(end - begin for begin, end in ranges)
        return super().read_ranges(key, ranges, tag)

    def view(self, key):
        raise AssertionError("a far store was mapped")


def test_far_stores_are_read_by_ranges(store, scored):
    far = Store(Far(scored))
    for options in ({}, SHAKEN, {"patch": (16, 100, 96)}):
        near = dataset(store, **options)
        same(loaded(fastct.Loader(near)), loaded(fastct.Loader(dataset(far, **options))))
    Far.fetched_bytes = 0
    sample = dataset(far, patch=(2, 8, 8), label="", studies=["study_0001"])[0]
    size = (scored / "studies" / "study_0001.nii.zarr" / "0/c/0/0/0").stat().st_size
    assert 0 < Far.fetched_bytes < size
    assert sample["image"].shape == (1, 2, 8, 8)


def test_a_store_on_s3_gives_the_same_batches(store, scored, s3):
    pytest.importorskip("obstore")
    url = s3.make_bucket("training") + "/store"
    there = open_storage(url, s3.options)
    for key, payload in tree(scored).items():
        there.write(key, payload)
    far = dataset(fastct.open(url, s3.options), **SHAKEN)
    same(loaded(fastct.Loader(dataset(store, **SHAKEN))), loaded(fastct.Loader(far, threads=3, ahead=3)))
    sample = pickle.loads(pickle.dumps(far))[5]  # noqa: S301
    np.testing.assert_array_equal(sample["image"], dataset(store, **SHAKEN)[5]["image"])
