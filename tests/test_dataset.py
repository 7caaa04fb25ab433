"""Samples against whole volumes, and the options of a data set."""

import shutil

import numpy as np
import pytest
from patch_sets import PATCH, TONES, TURNS, dataset, whole

import fastct
from fastct.errors import ArrayError, OptionError, StoreError
from fastct.foreground import foreground_key
from fastct.kernels.gather import gather
from fastct.kernels.maps import geometry_on
from fastct.shelf import OpenArray
from fastct.transforms import (
    Crop,
    Flip,
    Preprocess,
    Resample,
    Rotate,
    Sometimes,
    Window,
)

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
        ({"patch": 64}, "patch: it is 64"),
        ({"samples_per_study": 1.5}, "samples_per_study: it is 1.5"),
        ({"slices": 3.0}, "slices"),
        ({"studies": "study_0001"}, "studies: it is 'study_0001'"),
        ({"augment": Flip((2,))}, "augment: it is Flip"),
        ({"augment": [abs]}, "steps of fastct.transforms"),
        ({"pos": 3}, "Give balance= as well"),
    ],
)
def test_options_out_of_range_are_refused(store, options, message):
    with pytest.raises(OptionError, match=message):
        fastct.Dataset(store, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"threads": "2"},
        {"threads": 0},
        {"rank": 2, "world_size": 2},
        {"ahead": 0},
        {"workers": 2},
    ],
)
def test_loaders_refuse_options_out_of_range(store, options):
    with pytest.raises(OptionError):
        fastct.Loader(dataset(store), **options)


def test_what_is_no_data_set_is_not_loaded(store):
    with pytest.raises(OptionError, match=r"Give a fastct\.Dataset"):
        fastct.Loader(store)


def test_options_come_as_users_write_them(store):
    found = fastct.Dataset(store, patch=np.array([4, 8, 8]), dtype=np.float16, label=None, augment=[Flip((2,))])
    sample = found[np.int64(1)]
    assert (sample["image"].dtype, sample["image"].shape) == (np.float16, (1, 4, 8, 8))
    assert "label" not in sample
    with pytest.raises(TypeError):
        found[1.0]
    with pytest.raises(StoreError, match="such as study_0002"):
        fastct.Dataset(store, studies=["study_002"])


@pytest.mark.parametrize("region", [(slice(0, 8, 2),) * 3, (3, slice(2), slice(2)), (slice("a"),) * 3])
def test_a_box_that_is_none_is_not_blamed_on_the_store(store, region):
    with pytest.raises(ArrayError, match=r"Give .*slices"):
        store["study_0001"].read(*region)


def test_packages_that_are_missing_are_named_at_once(store, monkeypatch):
    monkeypatch.setattr("fastct.options.find_spec", lambda name: None)
    found = dataset(store)
    for ask in (found.as_monai, found.as_torchio, lambda: fastct.Loader(found, as_torch=True)):
        with pytest.raises(OptionError, match=r"takes torch.* not installed"):
            ask()


def test_store_and_study_say_which_they_are(store):
    assert repr(store) == f"<fastct store {store.storage}>"
    assert repr(store["study_0001"]).endswith("studies/study_0001.nii.zarr>")


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
