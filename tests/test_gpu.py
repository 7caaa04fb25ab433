"""On a real GPU: CuPy arrays in, CuPy arrays out, the same bits as on the CPU, on the stream in use."""

import numpy as np
import pytest

import fastct
from fastct import device
from fastct.errors import ArrayError
from fastct.kernels.counts import count_lungs, histogram
from fastct.kernels.gather import gather
from fastct.kernels.maps import Grid, Reading, window_line
from fastct.kernels.projections import project
from fastct.transforms import Flip, Noise, Preprocess, Resample, Rotate, Window


@pytest.fixture(scope="module")
def cupy():
    """CuPy, where it finds a GPU."""
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no GPU")
    return cupy


def random_hu(shape, seed=0):
    return np.random.default_rng(seed).integers(-1024, 3000, shape, dtype="int16")


def assert_same(found, expected):
    assert not isinstance(found, np.ndarray)
    found = device.to_host(found)
    np.testing.assert_array_equal(found.view(f"u{found.itemsize}"), expected.view(f"u{expected.itemsize}"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_window_and_resample(cupy, dtype):
    volumes = [random_hu(shape, n) for n, shape in enumerate([(5, 37, 41), (1, 1, 1), (3, 256, 256)])]
    on_gpu = [device.to_gpu(hu) for hu in volumes]
    for found, expected in zip(
        fastct.window(on_gpu, -1000, 400, dtype), fastct.window(volumes, -1000, 400, dtype), strict=True
    ):
        assert_same(found, expected)
    spacing, to_mm = (8, 0.7, 0.7), (3, 1.5, 1.1)
    for found, expected in zip(
        fastct.resample(on_gpu, spacing, to_mm, (-1000, 400), dtype),
        fastct.resample(volumes, spacing, to_mm, (-1000, 400), dtype),
        strict=True,
    ):
        assert_same(found, expected)
    out = cupy.empty((5, 37, 41), dtype)
    assert fastct.window(on_gpu[0][:, ::-1], -1000, 400, dtype, out=out) is out
    assert_same(out, fastct.window(volumes[0][:, ::-1], -1000, 400, dtype))


def test_chains_with_labels_and_noise(cupy):
    hu = random_hu((9, 50, 60))
    labels = (hu > 100).astype(np.uint8)
    geometry = fastct.Geometry(hu.shape, np.diag([-0.7, 0.7, 8, 1]))
    chain = Preprocess((Resample((4, 1, 1)), Rotate((10, 3, -2)), Flip((2,)), Window(-1000, 400), Noise(0.1, key=5)))
    found = chain(device.to_gpu(hu), geometry, [device.to_gpu(labels)])
    expected = chain(hu, geometry, [labels])
    assert_same(found.hu, expected.hu)
    assert_same(found.labels[0], expected.labels[0])


def test_counts_and_projections(cupy):
    hu, lungs = random_hu((9, 50, 61)), random_hu((9, 50, 61), 1).astype(np.uint8) % 3
    on_gpu, lungs_on_gpu = device.to_gpu(hu), device.to_gpu(lungs)
    assert_same(count_lungs([lungs_on_gpu], [lungs_on_gpu]), count_lungs([lungs], [lungs]))
    found = histogram([on_gpu], [lungs_on_gpu], -1024, 3000)
    assert_same(found, histogram([hu], [lungs], -1024, 3000))
    for kind in ("max", "min", "mean"):
        for axis in range(3):
            assert_same(project([on_gpu], kind, axis, 4)[0], project([hu], kind, axis, 4)[0])


def test_kernels_keep_to_the_stream_in_use(cupy):
    hu = random_hu((20, 256, 256))
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        source = cupy.asarray(hu)
        found = fastct.window(source, -1000, 400)
    stream.synchronize()
    assert_same(found, fastct.window(hu, -1000, 400))


def test_a_batch_may_pass_two_to_the_31_voxels(cupy):
    if cupy.cuda.runtime.memGetInfo()[0] < 8 * 2**30:
        pytest.skip("too little GPU memory")
    hu = random_hu((1, 64, 64))
    out = cupy.empty((2**19 + 3, 64, 64), np.float16)
    last = Grid((out.shape[0], 64, 64), np.column_stack([np.eye(3), [-(out.shape[0] - 1.0), 0, 0]]))
    gather([device.to_gpu(hu)], [Reading(last, window_line(-1000, 400), 1, 400.0)], "float16", [out])
    assert_same(out[-1], fastct.window(hu, -1000, 400, "float16")[0])
    assert bool((out[:-1] == 1).all())


def test_places_are_not_mixed(cupy):
    hu = random_hu((2, 3, 4))
    with pytest.raises(ArrayError):
        fastct.window([hu, device.to_gpu(hu)], -1000, 400)
    with pytest.raises(ArrayError):
        fastct.window(hu, -1000, 400, out=cupy.empty(hu.shape, np.float32))
