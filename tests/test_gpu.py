"""CuPy arrays in, CuPy arrays out, the same bits as on the CPU: on a GPU where there is one, and on its stand-in."""

import numpy as np
import pytest
from random_volumes import random_hu
from small_chests import small_chest

import fastct
from fastct import device
from fastct.errors import ArrayError, CodecError
from fastct.kernels.chunks import ChunkBox, begin_decoding, decode_chunks
from fastct.kernels.counts import count_lungs, histogram
from fastct.kernels.gather import gather
from fastct.kernels.maps import IDENTITY, Grid, Reading, window_line
from fastct.kernels.projections import project
from fastct.shard_layout import MISSING, ShardLayout
from fastct.shards import array_metadata, read_index, write_shard
from fastct.transforms import Flip, Noise, Preprocess, Resample, Rotate, Window


@pytest.fixture(scope="module")
def real_cupy():
    """CuPy, where it finds a GPU."""
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no GPU")
    return cupy


@pytest.fixture(scope="module", params=["stand-in", "GPU"])
def cupy(request, cuda_on_cpu):
    """CuPy on a GPU, and a stand-in whose kernels g++ compiled: what holds for one has to hold for the other."""
    if request.param == "GPU":
        yield request.getfixturevalue("real_cupy")
        return
    shim, folder = cuda_on_cpu
    for _ in shim.cupy_on_cpu(folder):
        import cupy

        yield cupy


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


def test_lungs_and_opacities(real_cupy):
    hu, _, affine = small_chest(2)  # tests/test_gpu_chain.py has it done by the stand-in
    geometry = fastct.Geometry(hu.shape, affine)
    on_gpu = device.to_gpu(hu)
    lungs, lungs_on_gpu = fastct.lung_mask(hu, geometry), fastct.lung_mask(on_gpu, geometry)
    assert lungs.any()
    assert_same(lungs_on_gpu, lungs)
    assert_same(fastct.opacity_mask(on_gpu, lungs_on_gpu, geometry), fastct.opacity_mask(hu, lungs, geometry))


def stored(voxels, at=0):
    """A shard of the voxels, its layout, and its index once it lies at byte `at`."""
    layout = ShardLayout.from_metadata(array_metadata(voxels.shape, voxels.dtype, fill_value=0))
    shard = np.frombuffer(write_shard(voxels, layout), np.uint8)
    index = read_index(shard, layout).copy()
    index[..., 0] += np.where(index[..., 0] == MISSING, np.uint64(0), np.uint64(at))
    return shard, layout, index


def chunk_boxes():
    """Bytes of an image and of its labels, and boxes of them: whole, begun anywhere, of one voxel."""
    hu = random_hu((11, 70, 130)) // 16
    hu[3] = -1024  # a level plane
    labels = np.zeros(hu.shape, np.uint8)
    labels[2:9, 5:40, 20:66] = random_hu((7, 35, 46), 1) % 3  # chunks beyond it are left out
    image, image_layout, image_index = stored(hu)
    mask, mask_layout, mask_index = stored(labels, image.size + -image.size % 16)
    source = np.concatenate([image, np.zeros(-image.size % 16, np.uint8), mask])
    boxes, kinds = [], []
    for begin, shape in [((0, 0, 0), hu.shape), ((1, 3, 5), (9, 60, 121)), ((10, 69, 129), (1, 1, 1))]:
        for dtype in ("int16", "float32", "float16", "uint8"):
            line = IDENTITY if dtype == "int16" else window_line(-1000, 400, dtype)
            boxes.append(ChunkBox(image_layout, image_index, begin, shape, line, "image"))
            kinds.append(dtype)
        for dtype in ("uint8", "float32", "float16"):
            boxes.append(ChunkBox(mask_layout, mask_index, begin, shape, name="mask"))
            kinds.append(dtype)
    return source, boxes, kinds


def test_chunks_are_decoded(cupy):
    source, boxes, kinds = chunk_boxes()
    expected = [np.empty(box.shape, kind) for box, kind in zip(boxes, kinds, strict=True)]
    decode_chunks(source, boxes, expected)
    found = [
        device.empty_beside(device.to_gpu(source[:1]), box.shape, kind) for box, kind in zip(boxes, kinds, strict=True)
    ]
    decode_chunks(device.to_gpu(source), boxes, found)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_damaged_chunks_are_named(cupy):
    source, boxes, _ = chunk_boxes()
    (box,) = boxes[:1]
    for at in (0, 5, 30, 200, int(box.index[1, 0, 2, 0]) + 7):
        damaged = source.copy()
        damaged[at] ^= 16
        found = device.to_gpu(np.empty(box.shape, np.int16))
        place = r"\(1, 0, 2\)" if at > 200 else r"\(0, 0, 0\)"
        with pytest.raises(CodecError, match=rf"image, chunk {place}: its checksum"):
            decode_chunks(device.to_gpu(damaged), [box], [found])


def test_bytes_travel_on_side_streams(cupy):
    source, boxes, kinds = chunk_boxes()
    sides = [device.SideStream(), device.SideStream()]
    under_way = []
    for number in range(4):
        side = sides[number % 2]
        side.room(source.size)[:] = source
        outs = [side.empty_on_current_stream(box.shape, kind) for box, kind in zip(boxes, kinds, strict=True)]
        with side.entered():
            under_way.append((begin_decoding(side.send(source.size), boxes, outs), outs))
    expected = [np.empty(box.shape, kind) for box, kind in zip(boxes, kinds, strict=True)]
    decode_chunks(source, boxes, expected)
    for decoding, outs in under_way:
        decoding.finish()
        for one, other in zip(outs, expected, strict=True):
            assert_same(one, other)


def test_kernels_keep_to_the_stream_in_use(real_cupy):
    hu = random_hu((20, 256, 256))
    stream = real_cupy.cuda.Stream(non_blocking=True)
    with stream:
        source = real_cupy.asarray(hu)
        found = fastct.window(source, -1000, 400)
    stream.synchronize()
    assert_same(found, fastct.window(hu, -1000, 400))


def test_a_batch_may_pass_two_to_the_31_voxels(real_cupy):
    if real_cupy.cuda.runtime.memGetInfo()[0] < 8 * 2**30:
        pytest.skip("too little GPU memory")
    hu = random_hu((1, 64, 64))
    out = real_cupy.empty((2**19 + 3, 64, 64), np.float16)
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
