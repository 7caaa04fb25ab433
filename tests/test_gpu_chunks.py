"""Chunks decoded by the CUDA kernels, run by g++ or by a GPU, are those of the CPU's codec to the last bit."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_volumes import seeds

from fastct._ext import shard as ext
from fastct.codecs import decode_chunk, encode_chunk
from fastct.errors import ArrayError, CodecError, OptionError
from fastct.kernels import chunks
from fastct.kernels.chunks import ChunkBox, decode_chunks
from fastct.kernels.cpu import chunks as on_cpu
from fastct.kernels.gpu import chunks as on_gpu
from fastct.kernels.maps import IDENTITY, window_line
from fastct.shard_layout import MISSING, ShardLayout
from fastct.shards import array_metadata, read_index, write_shard

GOLDEN = Path(__file__).parent / "golden"
law = settings(max_examples=60)
sides = st.sampled_from([1, 2, 3, 7, 8, 9, 16, 24, 31, 40, 63, 64, 65, 70])
shapes = st.tuples(st.sampled_from([1, 2, 3, 8, 9, 11]), sides, sides)
dtypes = st.sampled_from(
    [("int16", out) for out in ("int16", "float32", "float16", "uint8")]
    + [("uint8", out) for out in ("uint8", "float32", "float16")]
)


def random_voxels(shape, dtype, rng):
    """Noise of any strength, smooth fields, labels, constant planes: all methods of the codec."""
    kind, scale = rng.integers(5), rng.choice([0.4, 3, 60, 900, 20000])
    voxels = rng.normal(0, scale, shape)
    if kind == 1:
        voxels = voxels.cumsum(axis=int(rng.integers(3)))
    if dtype == "uint8":
        labels = (voxels > scale * rng.choice([-1, 0, 2])).astype(np.uint8)
        return labels if kind < 3 else labels * rng.integers(0, 256, shape).astype(np.uint8)
    if kind == 2:
        voxels[:: rng.integers(1, 4)] = rng.integers(-1000, 1000)
    return voxels.astype(np.int64).astype(np.int16)


def random_box(voxels, rng, line=IDENTITY):
    """A shard of the voxels, and a box of it."""
    fill = int(rng.choice([0, 7]))
    layout = ShardLayout.from_metadata(array_metadata(voxels.shape, voxels.dtype, fill_value=fill))
    shard = np.frombuffer(write_shard(voxels, layout), np.uint8).copy()
    index = read_index(shard, layout).copy()
    begin = [int(rng.integers(n)) if rng.integers(2) else 0 for n in voxels.shape]
    shape = [
        int(rng.integers(1, n - b + 1)) if rng.integers(2) else n - b for n, b in zip(voxels.shape, begin, strict=True)
    ]
    return shard, ChunkBox(layout, index, tuple(begin), tuple(shape), line)


def random_line(stored, out, rng):
    if out == stored:
        return IDENTITY
    low = float(rng.uniform(-1200, 100))
    return window_line(low, low + rng.uniform(1, 3000), out)


def bits(array):
    return array.view(f"u{array.itemsize}")


def decoded_by(twin, source, boxes, outs):
    return twin.decode_chunks(source, boxes, outs)()


@law
@given(shapes, seeds, dtypes)
def test_boxes_are_the_same_to_the_bit(gpu, shape, seed, kind):
    stored, out = kind
    rng = np.random.default_rng(seed)
    voxels = random_voxels(shape, stored, rng)
    source, box = random_box(voxels, rng, random_line(stored, out, rng))
    if rng.integers(4) == 0:
        box.index[tuple(rng.integers(n) for n in box.layout.grid)] = MISSING
    expected, found = (np.full(box.shape, 77, out) for _ in range(2))
    assert decoded_by(on_cpu, source, [box], [expected]) is None
    gpu.from_the_last = bool(rng.integers(2))
    assert decoded_by(on_gpu, source, [box], [found]) is None
    np.testing.assert_array_equal(bits(found), bits(expected))


@law
@given(st.lists(st.tuples(shapes, dtypes), max_size=5), seeds)
def test_a_batch_takes_a_launch_for_each_kind(gpu, several, seed):
    rng = np.random.default_rng(seed)
    shards, boxes, at = [], [], 0
    for shape, (stored, out) in several:
        shard, box = random_box(random_voxels(shape, stored, rng), rng, random_line(stored, out, rng))
        box.index[...] += np.where(box.index == MISSING, np.uint64(0), np.array([at, 0], np.uint64))
        shards.append(np.pad(shard, (0, -shard.size % 4)))
        boxes.append(box)
        at += shards[-1].size
    source = np.concatenate([np.empty(0, np.uint8), *shards])
    expected, found = (
        [np.empty(box.shape, out) for box, (_, (_, out)) in zip(boxes, several, strict=True)] for _ in range(2)
    )
    decode_chunks(source, boxes, expected)
    if several:
        gpu.launches.clear()
        assert decoded_by(on_gpu, source, boxes, found) is None
        assert len(gpu.launches) == len({kind for _, kind in several})
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))


def chunk_alone(chunk, shape, dtype):
    """Bytes that hold one chunk with a checksum, and the box of all its voxels."""
    layout = ShardLayout.from_metadata(array_metadata(shape, dtype))
    layout = ShardLayout(shape, shape, dtype, layout.codec, 0)
    source = np.frombuffer(chunk + ext.crc32c(chunk).to_bytes(4, "little"), np.uint8).copy()
    index = np.array([0, source.size], np.uint64).reshape(1, 1, 1, 2)
    return source, ChunkBox(layout, index, (0, 0, 0), shape)


# A header that states three axes; no store holds others.
STORED = sorted(path for path in GOLDEN.glob("*.ctpack") if path.read_bytes()[6] == 3)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_old_bytes_decode(gpu, path):
    chunk = path.read_bytes()
    expected = decode_chunk(chunk)
    source, box = chunk_alone(chunk, expected.shape, expected.dtype.name)
    found = np.empty_like(expected)
    assert decoded_by(on_gpu, source, [box], [found]) is None
    np.testing.assert_array_equal(found, expected)


def mutated(chunk, rng):
    """A chunk with a few bytes changed, swapped, or cut off; its checksum is made right afterwards."""
    bytes_ = bytearray(chunk)
    for _ in range(int(rng.integers(1, 4))):
        at, other = (int(rng.integers(min(len(bytes_), n))) for n in (64, len(bytes_)))
        choice = rng.integers(4)
        if choice == 0:
            bytes_[at] ^= 1 << int(rng.integers(8))
        elif choice == 1:
            bytes_[at], bytes_[other] = bytes_[other], bytes_[at]
        elif choice == 2:
            bytes_[other] = int(rng.integers(256))
        else:
            del bytes_[max(8, len(bytes_) - int(rng.integers(9))) :]
    return bytes(bytes_)


@settings(max_examples=150)
@given(st.sampled_from([(2, 6, 8), (3, 5, 7), (1, 4, 16)]), st.sampled_from(["int16", "uint8"]), seeds)
def test_mutated_chunks_are_judged_alike(gpu, shape, dtype, seed):
    rng = np.random.default_rng(seed)
    chunk = mutated(encode_chunk(random_voxels(shape, dtype, rng)), rng)
    source, box = chunk_alone(chunk, shape, dtype)
    expected, found = (np.full(shape, 77, dtype) for _ in range(2))
    on_cpu_fault = decoded_by(on_cpu, source, [box], [expected])
    on_gpu_fault = decoded_by(on_gpu, source, [box], [found])
    assert (on_cpu_fault is None) == (on_gpu_fault is None)
    np.testing.assert_array_equal(found, expected)  # untouched where the chunk is damaged


def test_every_flipped_bit_is_found(gpu):
    rng = np.random.default_rng(1)
    voxels = random_voxels((2, 6, 8), "int16", rng)
    source, box = chunk_alone(encode_chunk(voxels), voxels.shape, "int16")
    found = np.full(box.shape, 77, np.int16)
    for bit in range(0, 8 * source.size, 7):
        flipped = source.copy()
        flipped[bit // 8] ^= 1 << (bit % 8)
        fault = decoded_by(on_gpu, flipped, [box], [found])
        assert fault.finding == "its checksum (crc32c) does not match its bytes"
    assert (found == 77).all()


def test_faults_name_the_chunk(gpu, monkeypatch):
    rng = np.random.default_rng(2)
    voxels = random_voxels((11, 70, 130), "int16", rng)
    layout = ShardLayout.from_metadata(array_metadata(voxels.shape, voxels.dtype))
    source = np.frombuffer(write_shard(voxels, layout), np.uint8).copy()
    index = read_index(source, layout).copy()
    source[int(index[1, 0, 2, 0]) + 40] ^= 1
    boxes = [
        ChunkBox(layout, index, (0, 0, 0), (8, 70, 130), name="study_0001"),
        ChunkBox(layout, index, (3, 10, 60), (8, 20, 70), name="study_0002"),
    ]
    outs = [np.empty(box.shape, np.float32) for box in boxes]
    for twin in (on_cpu, on_gpu):
        monkeypatch.setattr(chunks, "home", lambda *_, twin=twin: twin)
        decoding = chunks.begin_decoding(source, boxes, outs)
        with pytest.raises(CodecError, match=r"study_0002, chunk \(1, 0, 2\): its checksum"):
            decoding.finish()


@pytest.mark.parametrize("entry", [(0, 2**63), (2**63, 8), (4, 3), (2**64 - 8, 64), (0, 2**64 - 1), (0, 0), (2, 60)])
def test_an_index_that_leads_astray_is_a_fault(gpu, entry):
    voxels = random_voxels((2, 6, 8), "int16", np.random.default_rng(3))
    source, box = chunk_alone(encode_chunk(voxels), voxels.shape, "int16")
    box.index[...] = np.array(entry, np.uint64)
    found = np.full(box.shape, 77, np.int16)
    for twin in (on_cpu, on_gpu):
        assert decoded_by(twin, source, [box], [found]).chunk == (0, 0, 0)
    assert (found == 77).all()


def test_what_cannot_be_is_refused(gpu):
    layout = ShardLayout.from_metadata(array_metadata((4, 5, 6), "int16"))
    index = np.zeros((1, 1, 1, 2), np.uint64)
    with pytest.raises(ArrayError, match="within the array"):
        ChunkBox(layout, index, (0, 0, 1), (4, 5, 6))
    with pytest.raises(ArrayError, match="index"):
        ChunkBox(layout, index[0], (0, 0, 0), (4, 5, 6))
    with pytest.raises(OptionError, match="not ctpack"):
        ChunkBox(ShardLayout((4, 5, 6), (4, 5, 6), "int16", "zstd", 0), index, (0, 0, 0), (4, 5, 6))
    source, box = np.zeros(8, np.uint8), ChunkBox(layout, index, (0, 0, 0), (4, 5, 6))
    windowed = ChunkBox(layout, index, (0, 0, 0), (4, 5, 6), window_line(-1000, 400))
    for refused, out in [(box, "float64"), (box, "uint8"), (windowed, "int16")]:
        with pytest.raises((ArrayError, OptionError)):
            decode_chunks(source, [refused], [np.empty(box.shape, out)])
    with pytest.raises(ArrayError, match="plain"):
        decode_chunks(source, [box], [np.empty((4, 5, 7), np.int16)])
    with pytest.raises(ArrayError, match="row of bytes"):
        decode_chunks(source.view(np.int8), [box], [np.empty(box.shape, np.int16)])
    wide = ShardLayout((4, 5, 300), (4, 5, 300), "int16", "ctpack", 0)
    with pytest.raises(ArrayError, match="8 x 64 x 64"):
        on_gpu.decode_chunks(source, [ChunkBox(wide, index, (0, 0, 0), (4, 5, 6))], [np.empty(box.shape, np.int16)])


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_kernels_stay_in_bounds_on_mutated_bytes(tmp_path):
    """More with FASTCT_FUZZ_INPUTS=1000000."""
    program, n_inputs = tmp_path / "fuzz", os.environ.get("FASTCT_FUZZ_INPUTS", "2500")
    source = Path(__file__).parent / "fuzz_gpu_chunks.cpp"
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=undefined"]
    flags = ["-O0", "-std=c++17", "-ffp-contract=off", "-fno-strict-aliasing", "-w", *sanitizers]
    folders = (source.parent / "cuda_on_cpu", Path(on_gpu.__file__).parent)
    includes = [f"-I{folder}" for folder in folders]
    built = subprocess.run(["g++", *flags, *includes, str(source), "-o", str(program)], capture_output=True, text=True)
    if built.returncode and "asan" in built.stderr:
        pytest.skip("g++ has no AddressSanitizer here")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([str(program), n_inputs, "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.startswith(f"{n_inputs} chunks")
