"""Shards: laws over regions and codecs, agreement with other readers, every bit flip found, refusal."""

import json
import mmap
from collections.abc import Sequence
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from fastct import shards
from fastct._ext import shard as ext
from fastct.errors import ArrayError, CodecError, FastctError, OptionError, StoreError
from fastct.options import CODECS

FILLS = {"int16": -1024, "uint8": 0}
DTYPES = st.sampled_from(["int16", "uint8"])


def volume_of(shape: Sequence[int], dtype: str, seed: int = 0) -> np.ndarray:
    """A noisy ball in air, or a label of it."""
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    middle = [(n - 1) / 2 for n in shape]
    far = sum(((axis - m) / (0.4 * n + 0.6)) ** 2 for axis, m, n in zip((z, y, x), middle, shape, strict=True))
    if dtype == "uint8":
        return ((far < 1).astype(np.uint8) * (1 + (x > middle[2]))).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 20, shape)
    return np.where(far < 1, 40 + noise, -1024).astype(np.int16)


def stored(shape: Sequence[int], dtype: str, codec: str) -> tuple[np.ndarray, dict, bytes]:
    volume = volume_of(shape, dtype)
    metadata = shards.array_metadata(shape, dtype, codec, FILLS[dtype])
    return volume, metadata, bytes(shards.write_shard(volume, metadata))


SHAPES = st.tuples(st.integers(1, 20), st.sampled_from([1, 2, 7, 63, 64, 65, 130]), st.integers(1, 140))


@st.composite
def regions(draw: st.DrawFn, shape: Sequence[int]) -> tuple[slice, slice, slice]:
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return tuple(slice(a, b) for a, b in ends)


# ---- laws ----------------------------------------------------------------------------------------


@given(SHAPES, DTYPES, st.sampled_from(CODECS), st.data())
def test_any_region_is_the_volumes_own(shape: tuple, dtype: str, codec: str, data: st.DataObject) -> None:
    volume, metadata, shard = stored(shape, dtype, codec)
    np.testing.assert_array_equal(shards.read_shard(shard, metadata), volume)
    region = data.draw(regions(shape))
    np.testing.assert_array_equal(shards.read_shard(shard, metadata, region), volume[region])
    shards.check_shard(shard, metadata)


@given(SHAPES, DTYPES, st.data())
def test_writing_takes_any_strides_and_reading_writes_into_any_rows(
    shape: tuple, dtype: str, data: st.DataObject
) -> None:
    volume, metadata, shard = stored(shape, dtype, "ctpack")
    turned = np.ascontiguousarray(volume.T).T
    padded = np.zeros([n + 3 for n in shape], dtype)[1:-2, 1:-2, 1:-2]
    padded[...] = volume
    assert bytes(shards.write_shard(turned, metadata)) == shard == bytes(shards.write_shard(padded, metadata))
    region = data.draw(regions(shape))
    around = np.full([n + 2 for n in volume[region].shape], 77, dtype)
    out = around[1:-1, 1:-1, 1:-1]
    assert shards.read_shard(shard, metadata, region, out) is out
    np.testing.assert_array_equal(out, volume[region])
    around[1:-1, 1:-1, 1:-1] = 77
    assert (around == 77).all()  # nothing was written beside the output


@given(SHAPES, DTYPES)
def test_both_twins_write_the_same_shard_and_read_it(shape: tuple, dtype: str) -> None:
    volume, metadata, shard = stored(shape, dtype, "ctpack")
    layout = shards.ShardLayout.from_metadata(metadata)
    out = np.empty(ext.bound(layout.grid, layout.chunk_shape, layout.voxel_bytes), np.uint8)
    length = ext.encode_volume(volume, layout.chunk_shape, layout.fill_value, dtype == "uint8", out, True)
    assert out[:length].tobytes() == shard
    index, back = shards.read_index(shard, layout), np.full(shape, layout.fill_value, dtype)
    assert ext.decode_region(shard, index, layout.chunk_shape, (0, 0, 0), back, True) is None
    np.testing.assert_array_equal(back, volume)


@given(SHAPES, DTYPES, st.sampled_from(CODECS), st.data())
def test_ranges_hold_all_that_a_region_needs(shape: tuple, dtype: str, codec: str, data: st.DataObject) -> None:
    volume, metadata, shard = stored(shape, dtype, codec)
    region, calls = data.draw(regions(shape)), []

    def fetch(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        calls.append(list(ranges))
        return [shard[first:last] for first, last in ranges]

    layout = shards.ShardLayout.from_metadata(metadata)
    index = shards.read_index(shard[-layout.index_bytes :], metadata)
    np.testing.assert_array_equal(shards.read_ranges(fetch, index, metadata, region), volume[region])
    assert len(calls) <= 1
    fetched = sum(last - first for first, last in shards.chunk_ranges(index, metadata, region))
    assert fetched <= len(shard) - layout.index_bytes
    if not volume[region].size:
        assert fetched == 0


@given(st.binary(max_size=5000), st.integers(0, 9))
def test_crc32c_is_googles(chunk: bytes, shift: int) -> None:
    for portable in (False, True):
        assert ext.crc32c(b"123456789", portable) == 0xE3069283  # RFC 3720's own example
        repeated = memoryview(chunk * 11)[shift:]
        assert ext.crc32c(repeated, portable) == google_crc32c.value(bytes(repeated))


def test_labels_leave_out_what_is_all_fill_and_images_write_every_chunk() -> None:
    missing = np.uint64(2**64 - 1)
    for dtype in ("int16", "uint8"):
        volume = np.full((9, 130, 70), FILLS[dtype], dtype)
        volume[8, 129, 69] = 1
        metadata = shards.array_metadata(volume.shape, dtype, "ctpack", FILLS[dtype])
        index = shards.read_index(shards.write_shard(volume, metadata), metadata)
        left_out = int((index == missing).all(axis=-1).sum())
        assert left_out == (0 if dtype == "int16" else 11)


def test_what_pads_the_last_chunks_costs_next_to_nothing() -> None:
    noise = np.random.default_rng(3).normal(0, 40, (8, 128, 128)).astype(np.int16)
    whole = len(shards.write_shard(noise, shards.array_metadata(noise.shape, "int16")))
    part = noise[:4, :96, :96]
    metadata = shards.array_metadata((9, *part.shape[1:]), "int16")
    tall = np.concatenate([part, part, part[:1]])
    assert len(shards.write_shard(tall, metadata)) < 1.12 * whole * tall.size / noise.size


# ---- agreement with other readers ----------------------------------------------------------------


def publish(folder: Path, metadata: dict, shard: bytes) -> Path:
    (folder / shards.SHARD).parent.mkdir(parents=True)
    (folder / "zarr.json").write_text(json.dumps(metadata))
    (folder / shards.SHARD).write_bytes(shard)
    return folder


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["int16", "uint8"])
@pytest.mark.parametrize("shape", [(19, 130, 150), (3, 64, 64), (1, 5, 200), (9, 1, 70), (1, 1, 1)])
def test_zarr_reads_ours_and_we_read_zarrs(tmp_path: Path, shape: tuple, dtype: str, codec: str) -> None:
    volume, metadata, shard = stored(shape, dtype, codec)
    array = zarr.open_array(publish(tmp_path / "ours", metadata, shard), mode="r")
    np.testing.assert_array_equal(array[...], volume)
    assert array.fill_value == FILLS[dtype]
    assert array.metadata.dimension_names == ("z", "y", "x")

    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "zarr.json").write_text(json.dumps(metadata))
    zarr.open_array(tmp_path / "theirs", mode="r+")[...] = volume
    theirs = tmp_path / "theirs" / shards.SHARD
    if theirs.exists():  # zarr leaves out chunks, and shards, of nothing but fill
        np.testing.assert_array_equal(shards.read_shard(theirs.read_bytes(), metadata), volume)


@pytest.mark.parametrize("codec", ["blosc", "zstd"])
@pytest.mark.parametrize("dtype", ["int16", "uint8"])
def test_tensorstore_reads_the_archive_codecs(tmp_path: Path, dtype: str, codec: str) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    volume, metadata, shard = stored((19, 130, 150), dtype, codec)
    folder = publish(tmp_path / "a", metadata, shard)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder)}}
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), volume)


@pytest.mark.parametrize("codec", CODECS)
def test_a_label_of_nothing_is_an_index_that_others_read(tmp_path: Path, codec: str) -> None:
    empty = np.zeros((9, 70, 66), np.uint8)
    metadata = shards.array_metadata(empty.shape, "uint8", codec)
    folder = publish(tmp_path / "a", metadata, bytes(shards.write_shard(empty, metadata)))
    assert (folder / shards.SHARD).stat().st_size == 8 * 16 + 4
    np.testing.assert_array_equal(zarr.open_array(folder, mode="r")[...], empty)
    np.testing.assert_array_equal(shards.read_shard((folder / shards.SHARD).read_bytes(), metadata), empty)


def test_a_mapped_file_is_read_in_place(tmp_path: Path) -> None:
    volume, metadata, shard = stored((9, 70, 70), "int16", "ctpack")
    path = publish(tmp_path / "a", metadata, shard) / shards.SHARD
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        np.testing.assert_array_equal(shards.read_shard(mapped, metadata), volume)


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dtype", ["int16", "uint8"])
def test_every_flipped_bit_is_found_and_its_chunk_named(dtype: str, codec: str) -> None:
    _, metadata, shard = stored((10, 70, 66), dtype, codec)
    layout = shards.ShardLayout.from_metadata(metadata)
    index = shards.read_index(shard, metadata)
    rng = np.random.default_rng(5)
    tail = np.arange(8 * (len(shard) - layout.index_bytes), 8 * len(shard))
    for bit in (*rng.integers(0, 8 * len(shard), 300), *rng.choice(tail, 100)):
        damaged = bytearray(shard)
        damaged[bit // 8] ^= 1 << (bit % 8)
        offsets, ends = index[..., 0], index[..., 0] + index[..., 1]
        hit = np.argwhere((offsets <= bit // 8) & (bit // 8 < ends))
        name = f"chunk {tuple(int(n) for n in hit[0])}" if len(hit) else "index"
        for look in (shards.read_shard, shards.check_shard):
            with pytest.raises(CodecError) as caught:
                look(damaged, metadata)
            assert caught.value.subject == name


def test_damage_in_other_chunks_does_not_stop_a_patch() -> None:
    volume, metadata, shard = stored((10, 70, 66), "int16", "ctpack")
    damaged = bytearray(shard)
    damaged[100] ^= 4  # in chunk (0, 0, 0)
    region = np.s_[8:, 64:, 64:]
    np.testing.assert_array_equal(shards.read_shard(damaged, metadata, region), volume[region])
    with pytest.raises(CodecError, match=r"chunk \(0, 0, 0\)"):
        shards.read_shard(damaged, metadata, np.s_[7:9, :, :])


def with_index(shard: bytes, layout: shards.ShardLayout, index: np.ndarray) -> bytes:
    entries = index.astype("<u8").tobytes()
    return shard[: -layout.index_bytes] + entries + ext.crc32c(entries).to_bytes(4, "little")


@pytest.mark.parametrize("codec", CODECS)
def test_a_sound_checksum_does_not_make_an_index_sound(codec: str) -> None:
    _, metadata, shard = stored((10, 70, 66), "int16", codec)
    layout = shards.ShardLayout.from_metadata(metadata)
    index = shards.read_index(shard, metadata)
    for place, entry in (((0, 0, 0), (0, 2**63)), ((1, 1, 1), (2**64 - 2, 8)), ((0, 1, 0), (4, 2))):
        wrong = index.copy()
        wrong[place] = entry
        with pytest.raises(CodecError, match="outside the shard"):
            shards.read_shard(with_index(shard, layout, wrong), metadata)
        with pytest.raises(CodecError, match="index"):
            shards.check_shard(with_index(shard, layout, wrong), metadata)


def test_check_names_gaps_overlaps_and_foreign_bytes() -> None:
    _, metadata, shard = stored((10, 70, 66), "int16", "ctpack")
    layout = shards.ShardLayout.from_metadata(metadata)
    index = shards.read_index(shard, metadata)
    moved = index.copy()
    moved[..., 0] += np.uint64(8)
    with pytest.raises(CodecError, match="leave a gap at byte 0"):
        shards.check_shard(with_index(bytes(8) + shard, layout, moved), metadata)
    with pytest.raises(CodecError, match="the index begins at"):
        shards.check_shard(
            with_index(shard[: -layout.index_bytes] + bytes(8 + layout.index_bytes), layout, index), metadata
        )
    twice = index.copy()
    twice[0, 0, 1] = twice[0, 0, 0]
    with pytest.raises(CodecError, match="overlap"):
        shards.check_shard(with_index(shard, layout, twice), metadata)


@pytest.mark.parametrize("codec", CODECS)
def test_a_chunk_of_another_shape_or_dtype_is_refused(codec: str) -> None:
    shard = stored((8, 64, 64), "int16", codec)[2]
    other = shards.array_metadata((8, 64, 64), "uint8", codec)
    with pytest.raises(CodecError, match=r"chunk \(0, 0, 0\)"):
        shards.read_shard(shard, other)
    smaller = shards.array_metadata((7, 64, 64), "int16", codec)
    with pytest.raises(CodecError, match=r"chunk \(0, 0, 0\)"):
        shards.read_shard(shard, smaller)


@pytest.mark.parametrize("codec", CODECS)
def test_shards_cut_short_are_refused(codec: str) -> None:
    _, metadata, shard = stored((8, 70, 64), "int16", codec)
    for length in (0, 3, 35, len(shard) // 2, len(shard) - 1):
        with pytest.raises(CodecError, match="index"):
            shards.read_shard(shard[:length], metadata)


# ---- refusal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (((4, 4), "int16"), ArrayError),
        (((4, 0, 4), "int16"), ArrayError),
        (((4, 4, 4), "float32"), ArrayError),
        (((4, 4, 4), "int16", "gzip"), OptionError),
        (((4, 4, 4), "uint8", "ctpack", -1024), OptionError),
    ],
)
def test_arrays_that_cannot_be_stored_are_refused(arguments: tuple, error: type[FastctError]) -> None:
    with pytest.raises(error):
        shards.array_metadata(*arguments)


def test_a_volume_that_is_not_as_its_metadata_is_refused() -> None:
    metadata = shards.array_metadata((4, 5, 6), "int16")
    for volume in (np.zeros((4, 5, 7), np.int16), np.zeros((4, 5, 6), np.uint8), np.zeros((4, 5, 6), ">i2")):
        with pytest.raises(ArrayError, match="metadata"):
            shards.write_shard(volume, metadata)


def test_rows_of_one_voxel_may_have_any_stride() -> None:
    volume = np.arange(40, dtype=np.int16).reshape(4, 5, 2)[:, :, ::2]
    metadata = shards.array_metadata(volume.shape, "int16")
    shard = shards.write_shard(volume, metadata)
    out = np.zeros((4, 5, 2), np.int16)[:, :, ::2]
    np.testing.assert_array_equal(shards.read_shard(shard, metadata, out=out), volume)


def test_regions_and_outputs_that_do_not_fit_are_refused() -> None:
    _, metadata, shard = stored((4, 5, 6), "int16", "ctpack")
    for region in (np.s_[:, :], np.s_[::2, :, :], (1, 2, 3)):
        with pytest.raises(ArrayError, match="three slices"):
            shards.read_shard(shard, metadata, region)
    frozen = np.zeros((4, 5, 6), np.int16)
    frozen.flags.writeable = False
    outs = (
        np.zeros((4, 5, 5), np.int16),
        np.zeros((4, 5, 6), np.uint8),
        np.zeros((6, 5, 4), np.int16).T,
        frozen,
    )
    for out in outs:
        with pytest.raises(ArrayError, match="output"):
            shards.read_shard(shard, metadata, out=out)
    index = shards.read_index(shard, metadata)
    with pytest.raises(IndexError):
        ext.decode_region(shard, index, (4, 5, 6), (1, 0, 0), np.zeros((4, 5, 6), np.int16))


@pytest.mark.parametrize(
    "change",
    [
        {"zarr_format": 2},
        {"data_type": "float32"},
        {"shape": [4, 4]},
        {"shape": [200, 4, 4]},
        {"codecs": [{"name": "bytes"}]},
        {"codecs": []},
        {"chunk_grid": {}},
    ],
)
def test_metadata_of_other_arrays_are_refused(change: dict) -> None:
    metadata = shards.array_metadata((4, 4, 4), "int16")
    with pytest.raises(StoreError, match="one shard"):
        shards.ShardLayout.from_metadata({**metadata, **change})
