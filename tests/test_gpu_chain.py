"""Lungs, opacities and scores of studies that lie on a GPU: the CPU's, to the last bit, by the same lines of code."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
from flip_bits import flip
from small_chests import small_chest

import fastct
from fastct import device, gpu_scoring
from fastct.errors import ArrayError, DeviceError, FastctError
from fastct.lesions import extend_lungs, lesion_fraction, lesion_profile, opacity_mask
from fastct.lungs import LungOptions, lung_box, lung_mask, segment_lungs, slice_areas_mm2
from fastct.phantom import draw_study


@pytest.fixture(scope="module", params=["stand-in", "GPU"])
def stand_in(request, cuda_on_cpu):
    """What notes the launches on CuPy's stand-in, or None on a GPU: what holds for one has to hold for the other."""
    if request.param == "GPU":
        if not pytest.importorskip("cupy").cuda.is_available():
            pytest.skip("no GPU")
        yield None
        return
    shim, folder = cuda_on_cpu
    yield from shim.cupy_on_cpu(folder)


def chest(number, signs=(-1, 1, 1)):
    hu, lesion, affine = small_chest(number, (10, 90, 120))
    return hu, lesion, fastct.Geometry(hu.shape, affine @ np.diag([*np.multiply(signs, (-1, 1, 1)), 1]))


def assert_same(found, expected):
    assert not isinstance(found, np.ndarray)
    np.testing.assert_array_equal(device.to_host(found), expected)


@pytest.mark.parametrize("signs", [(-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_studies_on_a_gpu_are_scored_as_on_a_cpu(stand_in, signs):
    hu, lesion, geometry = chest(3, signs)
    placed, expert = device.to_gpu(hu), device.to_gpu(lesion)
    if stand_in:
        stand_in.from_the_last = signs[0] > 0
    found, expected = segment_lungs(placed, geometry), segment_lungs(hu, geometry)
    assert_same(found.labels, expected.labels)
    assert expected.labels.any()
    assert found.flags == expected.flags
    opacity, expected_opacity = (
        opacity_mask(placed, found.labels, geometry),
        opacity_mask(hu, expected.labels, geometry),
    )
    assert_same(opacity, expected_opacity)
    assert expected_opacity.any()
    assert lesion_fraction(opacity, found.labels) == lesion_fraction(expected_opacity, expected.labels)
    longer = np.roll(lesion, 12, axis=2)
    grown, added = extend_lungs(found.labels, device.to_gpu(longer), geometry)
    expected_grown, expected_added = extend_lungs(expected.labels, longer, geometry)
    assert_same(grown, expected_grown)
    assert added == expected_added > 0
    assert lesion_profile(placed, expert, grown, geometry) == lesion_profile(hu, lesion, expected_grown, geometry)
    assert lung_box(found.labels, geometry) == lung_box(expected.labels, geometry)
    np.testing.assert_array_equal(slice_areas_mm2(found.labels, geometry), slice_areas_mm2(expected.labels, geometry))


def test_lung_above_a_lesion_is_found_as_on_a_cpu(stand_in):
    hu, _, geometry = chest(1)
    across, depth = (np.arange(120) - 60) * 4.0, (np.arange(90) - 45) * 4.0
    hu[7][(hu[7] < 0) & (np.abs(depth) < 100)[:, None] & (np.abs(across - 72) < 60)] = 40
    hu[7, 42:48, 75:81] = -860
    expected = lung_mask(hu, geometry)
    assert (expected[8] == 2).any()
    assert_same(lung_mask(device.to_gpu(hu), geometry), expected)


def test_slices_of_real_size(stand_in):
    shapes = ((12, 320, 448), (14, 384, 384)) if stand_in else ((40, 512, 512), (37, 512, 512))
    drawn = [draw_study(0, 7 + n, category=f"CT-{3 + n}", shape=shape) for n, shape in enumerate(shapes)]
    lungs = lung_mask([device.to_gpu(one.hu) for one in drawn], [one.geometry for one in drawn])
    for one, found in zip(drawn, lungs, strict=True):
        expected = lung_mask(one.hu, one.geometry)
        assert_same(found, expected)
        opacity = opacity_mask(one.hu, expected, one.geometry)
        assert_same(opacity_mask(device.to_gpu(one.hu), found, one.geometry), opacity)
        assert expected.sum() > 10000 < 50 * opacity.sum()


@pytest.mark.real
def test_real_volumes(stand_in, real_data):
    volumes = [fastct.read_nifti(real_data / "ct" / f"{name}.nii.gz") for name in ("lctsc_000", "covid_P001")]
    lungs = lung_mask([device.to_gpu(volume.hu) for volume in volumes], [volume.geometry for volume in volumes])
    for volume, found in zip(volumes, lungs, strict=True):
        expected = lung_mask(volume.hu, volume.geometry)
        assert_same(found, expected)
        opacity = opacity_mask(device.to_gpu(volume.hu), found, volume.geometry)
        assert_same(opacity, opacity_mask(volume.hu, expected, volume.geometry))


def test_lists_and_studies_without_lungs(stand_in):
    hu, _, geometry = chest(1)
    empty, air = np.full((3, 40, 70), 40, np.int16), np.full((2, 5, 6), -1000, np.int16)
    volumes = [hu, empty, air]
    geometries = [geometry, *(fastct.Geometry(one.shape, np.diag([-2, 2, 8, 1])) for one in (empty, air))]
    found = lung_mask([device.to_gpu(volume) for volume in volumes], geometries)
    for one, expected in zip(found, lung_mask(volumes, geometries), strict=True):
        assert_same(one, expected)
    assert not opacity_mask(device.to_gpu(empty), found[1], geometries[1]).any()


def several():
    """Volumes of different shapes, spacings and directions, on the CPU and on the GPU, and their geometries."""
    drawn = [chest(3), chest(1, (-1, -1, 1)), chest(2, (-1, 1, -1))]
    volumes = [hu[:, : 90 - 7 * number, 9 * number :] for number, (hu, _, _) in enumerate(drawn)]
    scales = [np.diag([1 - 0.1 * number, 1, 1 + 0.2 * number, 1]) for number in range(3)]
    geometries = [
        fastct.Geometry(hu.shape, geometry.affine @ scale)
        for hu, (_, _, geometry), scale in zip(volumes, drawn, scales, strict=True)
    ]
    return volumes, [device.to_gpu(np.ascontiguousarray(hu)) for hu in volumes], geometries


def test_the_host_waits_once_for_a_batch(stand_in):
    """A figure that the documentation gives."""
    if not stand_in:
        pytest.skip("only the stand-in counts")
    volumes, placed, geometries = several()
    stand_in.waits.clear()
    stand_in.launches.clear()
    lungs = lung_mask(placed, geometries)
    assert stand_in.waits == ["event"]
    assert stand_in.launches.count("walk_sides") == 1
    opacities = opacity_mask(placed[0], lungs[0], geometries[0])
    assert stand_in.waits == ["event", "get"]
    for found, hu, geometry in zip(lungs, volumes, geometries, strict=True):
        assert_same(found, segment_lungs(hu, geometry).labels)
    assert_same(opacities, opacity_mask(volumes[0], device.to_host(lungs[0]), geometries[0]))


@pytest.mark.parametrize(
    ("name", "size"), [("BATCH_BYTES", 1 << 20), ("PIECES_OF_A_SLICE", 2), ("PAIRS_OF_A_SLICE", 1)]
)
def test_batches_and_tables_that_are_too_small(stand_in, monkeypatch, name, size):
    monkeypatch.setattr(f"fastct.gpu.studies.{name}", size)
    monkeypatch.setattr(f"fastct.gpu.airways.{name}", size, raising=False)
    volumes, placed, geometries = several()
    lungs = lung_mask(placed, geometries)
    assert_same(
        opacity_mask(placed[1], lungs[1], geometries[1]),
        opacity_mask(volumes[1], device.to_host(lungs[1]), geometries[1]),
    )
    for found, hu, geometry in zip(lungs, volumes, geometries, strict=True):
        assert_same(found, lung_mask(hu, geometry))


def test_consolidation_left_out(stand_in):
    hu, _, geometry = chest(3)
    options = LungOptions(keep_consolidation=False)
    found, expected = (segment_lungs(one, geometry, options) for one in (device.to_gpu(hu), hu))
    assert_same(found.labels, expected.labels)
    assert found.flags == expected.flags


def test_masks_are_not_mixed_with_those_of_another_place(stand_in):
    hu, lesion, geometry = chest(1)
    with pytest.raises(ArrayError, match="CuPy"):
        opacity_mask(device.to_gpu(hu), lesion, geometry)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_store_is_scored_on_a_gpu(stand_in, scored, tmp_path, workers):
    for folder in ("cpu", "gpu"):
        shutil.copytree(scored, tmp_path / folder)
    options = {"workers": workers, "pool": "threads", "overwrite": True}
    fastct.score(tmp_path / "cpu", device="cpu", **options)
    if stand_in:
        stand_in.launches.clear()
    summary = fastct.score(tmp_path / "gpu", device="cuda", **options)
    assert len(summary.done) == 4
    if stand_in:
        batches = stand_in.launches.count("share_above")
        assert batches == 4 if workers == 1 else batches <= 4
    assert (tmp_path / "gpu" / "studies.csv").read_bytes() == (tmp_path / "cpu" / "studies.csv").read_bytes()
    stores = [fastct.open(tmp_path / folder) for folder in ("gpu", "cpu")]
    for one, other in ([store[study_id] for store in stores] for study_id in stores[0]):
        np.testing.assert_array_equal(one.lungs, other.lungs)
        np.testing.assert_array_equal(one.lesion, other.lesion)


def test_studies_that_lie_on_the_desk_are_examined_together(stand_in, scored):
    storage = fastct.open(scored).storage
    studies = {study_id: fastct.open(scored)[study_id] for study_id in fastct.open(scored)}
    desk = gpu_scoring._desk(0)
    if stand_in:
        stand_in.launches.clear()
        stand_in.waits.clear()
    with ThreadPoolExecutor(len(studies)) as threads:
        with desk._turn:  # nobody begins before all have brought their study
            asked = {one: threads.submit(gpu_scoring.examine_study, storage, one, 0) for one in studies}
            while len(desk._waiting) < len(studies):
                sleep(0.01)
        found = {one: answer.result() for one, answer in asked.items()}
    if stand_in:
        assert stand_in.launches.count("walk_sides") == stand_in.launches.count("share_above") == 1
        assert stand_in.waits[-2:] == ["event"] * 2  # for what was found, and for faults of chunks
        assert set(stand_in.waits) == {"event"}
    for study_id, study in studies.items():
        lungs = segment_lungs(study.hu, study.geometry)
        np.testing.assert_array_equal(found[study_id].hu, study.hu)
        np.testing.assert_array_equal(found[study_id].lungs, lungs.labels)
        np.testing.assert_array_equal(found[study_id].opacity, opacity_mask(study.hu, lungs.labels, study.geometry))
        assert found[study_id].flags == lungs.flags


def test_a_damaged_study_fails_alone(stand_in, scored, tmp_path):
    shutil.copytree(scored, tmp_path / "store")
    store = fastct.open(tmp_path / "store")
    first, second, *_ = store
    (shard,) = (tmp_path / "store" / "studies").glob(f"{first}*/0/c/0/0/0")
    flip(shard, 8 * (shard.stat().st_size // 3))
    desk = gpu_scoring._desk(0)
    with ThreadPoolExecutor(2) as threads:
        with desk._turn:
            asked = [threads.submit(gpu_scoring.examine_study, store.storage, one, 0) for one in (first, second)]
            while len(desk._waiting) < len(asked):
                sleep(0.01)
        with pytest.raises(FastctError, match=rf"{first}.*(checksum|cut short|index)"):
            asked[0].result()
        np.testing.assert_array_equal(asked[1].result().hu, store[second].hu)


def test_a_gpu_that_is_not_there_is_named(stand_in, scored):
    with pytest.raises(DeviceError, match=r"cuda:77.*this machine has \d"):
        fastct.score(scored, device="cuda:77")
