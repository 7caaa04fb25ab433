"""The training loader: samples against whole volumes, the plan of an epoch, resuming, faults, lifetimes."""

import ctypes
import gc
import pickle
import shutil
import threading
import time

import numpy as np
import pytest
from small_chests import tree

import fastct
from fastct.errors import OptionError, StoreError, WorkerError
from fastct.foreground import foreground_key
from fastct.kernels.gather import gather
from fastct.kernels.maps import geometry_on
from fastct.shelf import OpenArray
from fastct.storage import LocalStorage, open_storage
from fastct.store import Store
from fastct.transforms import (
    Crop,
    Flip,
    Intensity,
    Noise,
    Preprocess,
    Resample,
    Rotate,
    Scale,
    Shift,
    Sometimes,
    Uniform,
    Window,
)

PATCH = (6, 40, 50)
TURNS = (Rotate((Uniform(-20, 20), 0, 0)), Scale(Uniform(0.9, 1.1)), Shift((0, Uniform(-9, 9), 3.0)))
TONES = (Intensity(Uniform(0.9, 1.1), Uniform(-0.1, 0.1)), Noise(Uniform(0, 0.1)))


@pytest.fixture(scope="module")
def store(scored):
    return fastct.open(scored)


def dataset(store, **options):
    return fastct.Dataset(store, **{"patch": PATCH, "samples_per_study": 5, **options})


def whole(store, study_id):
    return store[study_id].hu, store[study_id].geometry


# ---- samples -------------------------------------------------------------------------------------


def test_a_patch_is_the_windowed_box_at_its_origin(store):
    found = dataset(store)
    assert len(found) == 5 * 4
    for index in range(len(found)):
        sample = found[index]
        study = store[sample["study_id"]]
        box = tuple(slice(a, a + n) for a, n in zip(sample["origin"].tolist(), PATCH, strict=True))
        hu = study.read(*box)
        np.testing.assert_array_equal(sample["image"], fastct.window(hu, -1000, 400)[None])
        np.testing.assert_array_equal(sample["label"], study.lesion[box][None])
        first = study.geometry.affine @ [*sample["origin"][::-1], 1]
        np.testing.assert_allclose(sample["affine"] @ [0, 0, 0, 1], first)
        np.testing.assert_array_equal(sample["affine"][:3, :3], study.geometry.affine[:3, :3])
    origins = {tuple(found[index]["origin"].tolist()) for index in range(len(found))}
    assert len(origins) > 15


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize(
    "augment",
    [(), (Flip((0, 2)),), (Sometimes(Flip((1,))), *TURNS), (Flip((2,)), Rotate((90, 0, 0)))],
    ids=["plain", "flip", "turns", "quarter"],
)
def test_reading_a_box_is_reading_the_whole_volume(store, augment, dtype):
    found = dataset(store, augment=augment, dtype=dtype, label="lung", patch=(6, 50, 50))
    for index in range(0, len(found), 3):
        place, sample = found.place(0, index), found[index]
        hu, geometry = whole(store, place.study_id)
        start = place.origin
        crop = Crop(start, tuple(a + n for a, n in zip(start, found.options.patch, strict=True)))
        chain = Preprocess((Window(-1000, 400), crop, *augment), dtype).drawn(7, 0, index)
        expected = chain(hu, geometry, [store[place.study_id].lungs])
        np.testing.assert_array_equal(sample["image"][0], expected.hu)
        np.testing.assert_array_equal(sample["label"][0], expected.labels[0])
        np.testing.assert_allclose(sample["affine"], expected.geometry.affine, atol=1e-9)


def test_noise_and_tones_are_those_of_the_chain(store):
    found = dataset(store, augment=(*TURNS, *TONES))
    sample, place = found[7], found.place(0, 7)
    hu, geometry = whole(store, place.study_id)
    (expected,) = gather([hu], [place.readings[0]], "float32")
    np.testing.assert_array_equal(sample["image"][0], expected)
    np.testing.assert_allclose(sample["affine"], geometry_on(place.readings[0].grid, geometry).affine)
    assert np.ptp(sample["image"]) > 1  # noise leaves [0, 1]


def test_a_patch_larger_than_the_volume_is_filled_with_air(store):
    sample = fastct.Dataset(store, patch=(16, 100, 96))[1]
    assert sample["origin"].tolist() == [-3, -2, 0]
    hu = store[sample["study_id"]].hu
    np.testing.assert_array_equal(sample["image"][0, 3:13, 2:98], fastct.window(hu, -1000, 400))
    sample["image"][0, 3:13, 2:98] = 0
    assert not sample["image"].any()


def test_slices_are_all_of_them_and_stacks_hold_their_neighbours(store):
    flat, stacks = fastct.Dataset(store, slices=1), fastct.Dataset(store, slices=3)
    assert len(flat) == len(stacks) == 40
    for number in (0, 9, 10, 25):
        hu = fastct.window(store[flat[number]["study_id"]].hu, -1000, 400)
        at = number % 10
        np.testing.assert_array_equal(flat[number]["image"], hu[None, at : at + 1])
        padded = np.pad(hu, ((1, 1), (0, 0), (0, 0)))
        np.testing.assert_array_equal(stacks[number]["image"], padded[None, at : at + 3])
    small = fastct.Dataset(store, slices=1, shape=(48, 32))[13]
    hu, geometry = whole(store, small["study_id"])
    expected = Preprocess((Resample(shape=(10, 48, 32)), Window(-1000, 400)))(hu, geometry)
    np.testing.assert_array_equal(small["image"][0, 0], expected.hu[3])


def test_whole_volumes_are_resampled_to_a_shape_or_a_spacing(store):
    by_shape = fastct.Dataset(store, shape=(8, 32, 32))
    assert len(by_shape) == 4
    sample = by_shape[2]
    hu, geometry = whole(store, sample["study_id"])
    expected = Preprocess((Resample(shape=(8, 32, 32)), Window(-1000, 400)))(hu, geometry)
    np.testing.assert_array_equal(sample["image"][0], expected.hu)
    np.testing.assert_allclose(sample["affine"], expected.geometry.affine)
    sample = fastct.Dataset(store, spacing_mm=(None, 6, 6), label="")[2]
    np.testing.assert_array_equal(
        sample["image"][0], fastct.resample(hu, geometry.spacing_mm, (8, 6, 6), window_hu=(-1000, 400))
    )
    assert "label" not in sample


def test_patches_of_a_resampled_volume(store):
    found = fastct.Dataset(store, patch=(6, 30, 30), spacing_mm=(8, 6, 6), balance="lung", neg=0)
    for index in (0, 5, 11):
        sample = found[index]
        hu, geometry = whole(store, sample["study_id"])
        volume = fastct.resample(hu, geometry.spacing_mm, (8, 6, 6), window_hu=(-1000, 400))
        box = tuple(slice(a, a + n) for a, n in zip(sample["origin"].tolist(), (6, 30, 30), strict=True))
        np.testing.assert_array_equal(sample["image"][0], volume[box])
        lungs = store[sample["study_id"]].lungs
        z, y, x = np.array(lungs.nonzero()).T[0]
        assert lungs[z, y, x]


def test_studies_without_ctpack_are_read_too(chests, store, tmp_path):
    fastct.convert(chests, tmp_path / "blosc", codec="blosc", workers=1)
    archive = dataset(tmp_path / "blosc")
    assert archive.label == ""  # one of the four has an expert's mask
    for index in range(0, 20, 5):
        np.testing.assert_array_equal(archive[index]["image"], dataset(store)[index]["image"])


def test_balance_draws_around_the_label_and_decodes_no_mask(store, monkeypatch):
    def refuse(*_):
        raise AssertionError("a mask was decoded")

    monkeypatch.setattr(OpenArray, "read", refuse)
    inside = dataset(store, balance="lesion", neg=0, label="", samples_per_study=20)
    outside = dataset(store, balance="lesion", pos=0, label="", samples_per_study=20)
    mixed = dataset(store, balance="lesion", pos=3, neg=1, label="", samples_per_study=200, patch=(1, 1, 1))
    for index in range(len(inside)):
        one, other = inside[index], outside[index]
        lesion = store[one["study_id"]].lesion
        for sample in (one, other):
            assert all(0 <= a <= n - m for a, n, m in zip(sample["origin"], lesion.shape, PATCH, strict=True))
        box = tuple(slice(a, a + n) for a, n in zip(one["origin"].tolist(), PATCH, strict=True))
        assert lesion[box].any()
    hits = [store[s["study_id"]].lesion[tuple(s["origin"])] for s in mixed]
    assert 0.7 < np.mean(hits) < 0.8
    assert not any(
        store[s["study_id"]].lesion[tuple(s["origin"])]
        for s in dataset(store, balance="lesion", pos=0, label="", patch=(1, 1, 1))
    )


def test_a_missing_or_foreign_foreground_is_made_anew(scored, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(scored, copy)
    key = copy / foreground_key("lung", "study_0001")
    drawn = dataset(copy, balance="lung")[0]["origin"].tolist()
    kept = key.read_bytes()
    for damage in (key.unlink, lambda: key.write_bytes(kept[:-1]), lambda: key.write_bytes(b"fctspot0" + kept[8:])):
        damage()
        assert dataset(copy, balance="lung")[0]["origin"].tolist() == drawn
        assert key.read_bytes() == kept


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": (0, 4, 4)}, "patch"),
        ({"patch": (4, 4)}, "patch"),
        ({"slices": 2}, "slices"),
        ({"slices": 1, "patch": (4, 4, 4)}, "slices"),
        ({"slices": 3, "samples_per_study": 2}, "slices"),
        ({"shape": (8, 8, 8), "spacing_mm": (8, 1, 1)}, "shape"),
        ({"shape": (8, 8)}, "shape"),
        ({"shape": (8, 8, 8), "balance": "lung"}, "balance"),
        ({"balance": "heart"}, "balance"),
        ({"label": "heart"}, "label"),
        ({"pos": 0, "neg": 0, "balance": "lung"}, "pos"),
        ({"dtype": "int8"}, "dtype"),
        ({"dtype": "uint8", "window_hu": None}, "window_hu"),
        ({"samples_per_study": 0}, "samples_per_study"),
        ({"patches": (4, 4, 4)}, "patches"),
    ],
)
def test_options_out_of_range_are_refused(store, options, message):
    with pytest.raises(OptionError, match=message):
        fastct.Dataset(store, **options)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"threads": 0}, {"rank": 2, "world_size": 2}, {"ahead": 0}, {"workers": 2}]
)
def test_loaders_refuse_options_out_of_range(store, options):
    with pytest.raises(OptionError):
        fastct.Loader(dataset(store), **options)


def test_volumes_of_different_shapes_go_alone(store):
    volumes = fastct.Dataset(store, spacing_mm=(8, 6, 6))
    with pytest.raises(OptionError, match="shape"):
        fastct.Loader(volumes, batch_size=2)
    assert [b["image"].shape for b in fastct.Loader(volumes, batch_size=1)] == [(1, 1, 10, 64, 64)] * 4


def test_studies_are_chosen_by_id_and_unknown_ones_refused(store):
    assert {s["study_id"] for s in dataset(store, studies=["study_0003"])} == {"study_0003"}
    with pytest.raises(StoreError, match="study_9999"):
        dataset(store, studies=["study_9999"])
    with pytest.raises(IndexError, match="sample 20 of 20"):
        dataset(store)[20]


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
    raw = bytearray(shard.read_bytes())
    raw[100] ^= 1  # in the first chunk
    shard.write_bytes(raw)
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
