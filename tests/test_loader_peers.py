"""The loader beside torch, MONAI and TorchIO: workers of every kind, and affines that mean the same."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastct
from fastct.transforms import Flip, Rotate, Uniform

AUGMENT = (Flip((0, 2)), Rotate((Uniform(-9, 9), 0, 0)))
PLAIN = {"patch": (6, 40, 50), "samples_per_study": 3}


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def quiet():
    """Other packages warn of what is no fault of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_a_pickled_data_set_gives_the_same_samples(store):
    data = fastct.Dataset(store, **PLAIN, augment=AUGMENT, balance="lung")
    first = data[4]
    again = pickle.loads(pickle.dumps(data))[4]  # noqa: S301
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


@pytest.mark.parametrize(("workers", "context"), [(0, None), (2, "spawn"), (2, "forkserver")])
def test_any_torch_data_loader_takes_it(store, torch, quiet, workers, context):
    data = fastct.Dataset(store, **PLAIN, augment=AUGMENT)
    own = list(fastct.Loader(data, batch_size=4, shuffle=False))
    loader = torch.utils.data.DataLoader(data, batch_size=4, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    assert len(batches) == len(own) == 3
    for batch, expected in zip(batches, own, strict=True):
        assert batch["study_id"] == expected["study_id"]
        assert batch["image"].dtype is torch.float32
        for name in ("image", "label", "origin", "affine"):
            np.testing.assert_array_equal(batch[name].numpy(), expected[name])


def test_workers_that_live_on_take_the_epoch_from_their_sampler(store, torch, quiet):
    data = fastct.Dataset(store, **PLAIN)
    pairs = [(epoch, index) for epoch in range(2) for index in range(len(data))]
    (batch,) = torch.utils.data.DataLoader(data, batch_size=24, sampler=pairs)
    data.set_epoch(1)
    np.testing.assert_array_equal(batch["image"][12 + 7].numpy(), data[7]["image"])


def test_batches_can_be_torch_tensors_on_the_same_memory(store, torch):
    data = fastct.Dataset(store, **PLAIN)
    held = list(fastct.Loader(data, batch_size=2, shuffle=False, as_torch=True))
    assert all(isinstance(held[0][name], torch.Tensor) for name in ("image", "label", "origin", "affine"))
    for number, batch in enumerate(held):
        np.testing.assert_array_equal(batch["image"][1].numpy(), data[2 * number + 1]["image"])


def oblique(tmp_path: Path, axes: tuple[int, int, int], signs: tuple[int, int, int]) -> Path:
    """A store of one study whose array axes run along these of the patient, a little askew."""
    rng = np.random.default_rng(3)
    turn = np.linalg.qr(np.eye(3) + 0.05 * rng.normal(size=(3, 3)))[0]
    turn *= np.sign(np.diag(turn))
    affine = np.eye(4)
    affine[:3, :3] = (turn @ np.eye(3)[:, list(axes)]) * signs * (0.8, 0.9, 4.0)
    affine[:3, 3] = (-40.0, 30.0, 700.0)
    from small_chests import write_study

    write_study(tmp_path / "study.nii.gz", rng.integers(-1000, 400, (7, 20, 22)).astype(np.int16), affine)
    fastct.convert(tmp_path / "study.nii.gz", tmp_path / "store", workers=1)
    return tmp_path


ORIENTATIONS = [((0, 1, 2), (-1, 1, 1)), ((0, 1, 2), (1, 1, -1)), ((1, 0, 2), (-1, -1, 1)), ((2, 0, 1), (1, -1, 1))]


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_monai_turns_a_sample_as_it_turns_the_file(tmp_path, quiet, axes, signs):
    transforms = pytest.importorskip("monai.transforms")
    place = oblique(tmp_path, axes, signs)
    whole = fastct.Dataset(place / "store", patch=(7, 20, 22), samples_per_study=1, window_hu=None).as_monai()
    turn = transforms.Orientation("RAS", labels=None)
    read = transforms.LoadImage(image_only=True, ensure_channel_first=True)(place / "study.nii.gz")
    expected, found = turn(read), turn(whole[0]["image"])
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    part = fastct.Dataset(place / "store", patch=(3, 8, 9), samples_per_study=2, window_hu=None, augment=(Flip((1,)),))
    for index in range(2):
        check_places(part[index], part.as_monai()[index]["image"], fastct.read_nifti(place / "study.nii.gz"))
        turned = turn(part.as_monai()[index]["image"])
        check_places(part[index], turned, fastct.read_nifti(place / "study.nii.gz"))


def check_places(sample, image, volume):
    """Every voxel of a (1, x, y, z) image lies where its affine says: the file has the same HU there."""
    array, affine = np.asarray(image)[0], np.asarray(image.affine)
    inverse = np.linalg.inv(volume.geometry.affine)
    for voxel in np.ndindex(*array.shape):
        x, y, z = np.rint((inverse @ affine @ [*voxel, 1])[:3]).astype(int)
        assert array[voxel] == volume.hu[z, y, x]


@pytest.mark.parametrize(("axes", "signs"), ORIENTATIONS)
def test_torchio_turns_a_sample_as_it_turns_the_file(tmp_path, quiet, axes, signs):
    torchio = pytest.importorskip("torchio")
    place = oblique(tmp_path, axes, signs)
    whole = fastct.Dataset(place / "store", patch=(7, 20, 22), samples_per_study=1, window_hu=None).as_torchio()
    subject = whole[0]
    assert isinstance(subject, torchio.Subject)
    assert subject["study_id"] == "study"
    turn = torchio.ToCanonical()
    expected, found = turn(torchio.ScalarImage(place / "study.nii.gz")), turn(subject)["image"]
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-4)
    part = fastct.Dataset(place / "store", patch=(3, 8, 9), samples_per_study=2, window_hu=None)
    check_places(part[1], turn(part.as_torchio()[1])["image"], fastct.read_nifti(place / "study.nii.gz"))


def test_labels_go_along(store, quiet):
    pytest.importorskip("monai")
    pytest.importorskip("torchio")
    data = fastct.Dataset(store, **PLAIN, label="lung", balance="lung", neg=0)
    sample, monai, torchio = data[1], data.as_monai()[1], data.as_torchio()[1]
    expected = sample["label"].transpose(0, 3, 2, 1)
    assert expected.any()
    np.testing.assert_array_equal(monai["label"].numpy(), expected)
    np.testing.assert_array_equal(torchio["label"].numpy(), expected)
    np.testing.assert_array_equal(monai["label"].affine, sample["affine"])
    assert len(data.as_monai()) == len(data.as_torchio()) == len(data)
    assert monai["image"].meta["filename_or_obj"] == sample["study_id"]
