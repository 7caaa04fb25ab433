"""ctpack: laws, an independent decoder written from the docstring, old bytes, refusal."""

import math
import subprocess
import sys
from pathlib import Path

import numcodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from random_chunks import chunks

from fastct import codecs
from fastct._ext import ctpack
from fastct.errors import CodecError

HERE = Path(__file__).parent

# ---- the format, read from its docstring ---------------------------------------------------------


def align(n: int) -> int:
    return (n + 3) // 4 * 4


def decode_by_the_book(chunk: bytes) -> np.ndarray:
    """A decoder that shares no code with fastct, as somebody would write it from `fastct.codecs.__doc__`."""
    assert chunk[:4] == b"CTP\x01"
    voxel_bytes, method, n_axes, parameter = chunk[4:8]
    shape = tuple(int(n) for n in np.frombuffer(chunk, "<u4", n_axes, 8))
    dtype = {1: np.dtype("u1"), 2: np.dtype("<i2")}[voxel_bytes]
    payload, n_voxels = chunk[8 + 4 * n_axes :], math.prod(shape)
    if method == 0:
        return np.full(shape, np.frombuffer(payload, dtype, 1)[0])
    if method == 1:
        return np.frombuffer(payload, dtype, n_voxels).reshape(shape)
    sides = [n for n in shape if n > 1]
    width, height = (sides[-1:] or [1])[0], (sides[-2:-1] or [1])[0]
    planes = (n_voxels // (width * height), height, width)
    read = packed_by_the_book if method == 2 else runs_by_the_book
    return read(payload, planes, parameter).reshape(shape)


def runs_by_the_book(payload: bytes, planes: tuple[int, int, int], parameter: int) -> np.ndarray:
    n_runs, n_values = int.from_bytes(payload[:4], "little"), parameter + 1
    k = math.ceil(math.log2(n_values))
    runs = np.frombuffer(payload, "<u2", n_runs, 4 + align(n_values)).astype(int)
    palette = np.frombuffer(payload, "u1", n_values, 4)
    residuals = np.repeat(palette[runs & (2**k - 1)], (runs >> k) + 1).reshape(planes)
    return residuals.cumsum(axis=1, dtype=np.uint8)


def packed_by_the_book(payload: bytes, planes: tuple[int, int, int], parameter: int) -> np.ndarray:
    count, height, width = planes
    n_blocks = math.ceil(height * width / 16)
    firsts = np.frombuffer(payload, "<i2", count)
    at = 2 * count
    flags = np.unpackbits(np.frombuffer(payload, "u1", (count + 7) // 8, at), bitorder="little")[:count]
    at = align(at + (count + 7) // 8)
    codes = np.frombuffer(payload, "u1", int(flags.sum()) * math.ceil(n_blocks / 2), at)
    at = align(at + codes.size)
    widths = np.stack([codes & 15, codes >> 4], axis=1).astype(int)
    widths = widths.reshape(flags.sum(), 2 * math.ceil(n_blocks / 2))[:, :n_blocks]
    widths[widths == 15] = 16
    bits = np.unpackbits(np.frombuffer(payload, "u1", offset=at), bitorder="little")
    voxels, at, found = np.empty(planes, np.int16), 0, 0
    for z in range(count):
        blocks = np.zeros((n_blocks, 16), int)
        for b in range(n_blocks if flags[z] else 0):
            w = widths[found, b]
            values = bits[at : at + 16 * w].reshape(16, w) @ (1 << np.arange(w))
            blocks[b] = values - (values >= 2 ** (w - 1)) * 2**w if w else 0
            at += 16 * w
        found += int(flags[z])
        voxels[z] = plane_by_the_book(blocks, height, width, int(firsts[z]))
    assert len(payload) == align(len(payload) - bits.size // 8 + at // 8 + 16)
    return voxels


def plane_by_the_book(blocks: np.ndarray, height: int, width: int, first: int) -> np.ndarray:
    if width % 8 == 0 and height % 2 == 0:
        residuals = blocks.reshape(height // 2, width // 8, 2, 8).transpose(0, 2, 1, 3).reshape(height, width)
    else:
        residuals = blocks.reshape(-1)[: height * width].reshape(height, width)
    e = np.zeros((height + 1, width + 2), int)  # a row above, a column on both sides
    plane = np.empty((height, width), np.int16)
    for y in range(height):
        m = (((e[y, :-2] + e[y, 2:] + 1) >> 1) + e[y, 1:-1] + 1) >> 1
        first += int(residuals[y, 0])
        e[y + 1, 2:-1] = (residuals[y, 1:] + m[1:]).astype(np.int16)
        line = e[y + 1, 1:-1].copy()
        line[0] = first
        plane[y] = line.cumsum().astype(np.int16)
    return plane


@given(chunks())
def test_a_decoder_written_from_the_docstring_agrees(chunk: np.ndarray) -> None:
    read = decode_by_the_book(codecs.encode_chunk(chunk))
    assert read.dtype == chunk.dtype
    np.testing.assert_array_equal(read, chunk)


# ---- laws ----------------------------------------------------------------------------------------


@given(chunks())
def test_decoding_undoes_encoding(chunk: np.ndarray) -> None:
    encoded = codecs.encode_chunk(chunk)
    decoded = codecs.decode_chunk(encoded)
    assert decoded.dtype == chunk.dtype
    np.testing.assert_array_equal(decoded, chunk)
    assert len(encoded) % 4 == 0
    assert len(encoded) <= 8 + 4 * chunk.ndim + align(max(chunk.nbytes, 4))  # never larger than stored


@given(hnp.arrays(st.sampled_from([np.int16, np.uint8]), hnp.array_shapes(max_dims=5, max_side=9)))
def test_any_voxels_at_all_come_back(chunk: np.ndarray) -> None:
    np.testing.assert_array_equal(codecs.decode_chunk(codecs.encode_chunk(chunk)), chunk)


@given(chunks(), st.data())
def test_strides_do_not_matter(chunk: np.ndarray, data: st.DataObject) -> None:
    view = chunk.transpose(data.draw(st.permutations(range(chunk.ndim))))
    view = view[tuple(slice(None, None, data.draw(st.sampled_from([1, 2, -1]))) for _ in view.shape)]
    codec = codecs.CTPack()
    encoded = codec.encode(view)
    assert encoded == codec.encode(view.copy())
    out = np.zeros(view.shape[::-1], view.dtype).T
    assert codec.decode(encoded, out) is out
    np.testing.assert_array_equal(out, view)


def test_constant_chunks_and_planes_cost_next_to_nothing() -> None:
    rng = np.random.default_rng(1)
    chunk = np.full((8, 64, 64), -1024, np.int16)
    assert len(codecs.encode_chunk(chunk)) == 24
    chunk[3] = rng.normal(0, 9, (64, 64))
    one = len(codecs.encode_chunk(chunk))
    chunk[5] = chunk[3]
    assert one < 64 * 64
    assert len(codecs.encode_chunk(chunk)) - one > 0.9 * one - 60


def test_masks_compress_a_hundredfold() -> None:
    z, y, x = np.ogrid[:40, :512, :512]
    lung = (((z - 20) / 19) ** 2 + ((y - 256) / 140) ** 2 + ((x - 150) / 80) ** 2 < 1).astype(np.uint8)
    tiles = lung.reshape(5, 8, 8, 64, 8, 64).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8, 64, 64)
    assert lung.nbytes > 100 * sum(len(codecs.encode_chunk(tile)) for tile in tiles)


@pytest.mark.real
def test_real_cts_are_smaller_than_in_blosc_lz4(real_data: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    blosc = numcodecs.Blosc("lz4", 5, numcodecs.Blosc.BITSHUFFLE)
    paths = [p for p in sorted((real_data / "ct").glob("*.nii.gz")) if "_lung" not in p.name]
    assert paths
    for path in paths:
        volume = np.asarray(nibabel.load(path).dataobj).T.astype(np.int16)[8:24]
        tiles = volume.reshape(2, 8, 8, 64, 8, 64).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 8, 64, 64)
        ours = sum(len(codecs.encode_chunk(tile)) for tile in tiles)
        theirs = sum(len(blosc.encode(np.ascontiguousarray(tile))) for tile in tiles)
        assert theirs >= 1.08 * ours, path.name


# ---- old bytes -----------------------------------------------------------------------------------


def golden_chunks() -> dict[str, np.ndarray]:
    """Arrays by formula, one for each method and order of blocks; their files must decode for ever."""
    z, y, x = np.ogrid[:3, :16, :24]
    wave = (x * y * 7 + z * 300 + (x * 37 + y * 101 + z * 59) % 23).astype(np.int16)
    wide = ((x * 9973 + y * 7919 + z * 104729) % 65536 - 32768).astype(np.int16)
    level = wave.copy()
    level[1] = -1024
    label = ((x - 11) ** 2 + (y - 8) ** 2 < 30 + 9 * z).astype(np.uint8) * (1 + (x > 12)).astype(np.uint8)
    return {
        "constant_int16": np.full((4, 5), -3024, np.int16),
        "constant_uint8": np.full((4, 5), 2, np.uint8),
        "stored_int16": wide[:1, :2, :5],
        "stored_uint8": ((x[0] * 9973 + y[0] * 7919 + x[0] * y[0] * 613) % 251).astype(np.uint8),
        "packed_tiles": wave,
        "packed_wide": np.where(x > 4, wave, wide).astype(np.int16),
        "packed_level_plane": level,
        "packed_rows": wave[:, :15, :21],
        "packed_line": wave[0, 0],
        "runs": label,
        "runs_odd": label[:, :13, :17],
        "empty": np.zeros((0, 7), np.int16),
    }


METHODS = {"constant": 0, "stored": 1, "packed": 2, "runs": 3, "empty": 0}


@pytest.mark.parametrize("name", golden_chunks())
def test_old_bytes_decode_for_ever_and_are_still_written(name: str) -> None:
    chunk, old = golden_chunks()[name], (HERE / "golden" / f"{name}.ctpack").read_bytes()
    assert old[5] == METHODS[name.split("_")[0]]
    decoded = codecs.decode_chunk(old)
    assert decoded.dtype == chunk.dtype
    np.testing.assert_array_equal(decoded, chunk)
    np.testing.assert_array_equal(decode_by_the_book(old), chunk)
    assert codecs.encode_chunk(chunk) == old


# ---- refusal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunk", "finding"),
    [
        (b"", "shorter than a header"),
        (b"CTP\x01\x02\x00\x01", "shorter than a header"),
        (b"PTC\x01\x02\x00\x00\x00", "does not begin with CTP"),
        (b"CTP\x02\x02\x00\x00\x00", "version is not 1"),
        (b"CTP\x01\x03\x00\x00\x00", "neither uint8 nor int16"),
        (b"CTP\x01\x02\x04\x00\x00", "method is unknown"),
        (b"CTP\x01\x01\x02\x00\x00", "method is unknown"),
        (b"CTP\x01\x02\x00\x00\x01", "reserved byte"),
        (b"CTP\x01\x02\x00\x21\x00" + bytes(200), "more than 32 axes"),
        (b"CTP\x01\x02\x00\x02\x00" + bytes(7), "ends within its shape"),
        (b"CTP\x01\x02\x00\x02\x00" + b"\xff" * 8 + bytes(4), "more than 2\\^30 voxels"),
        (b"CTP\x01\x02\x00\x01\x00\x01\x00\x00\x00", "shape and its length disagree"),
        (b"CTP\x01\x02\x01\x01\x00\x00\x00\x00\x00", "an empty chunk must be constant"),
    ],
)
def test_headers_that_are_not_ctpack_are_refused(chunk: bytes, finding: str) -> None:
    with pytest.raises(CodecError, match=finding):
        codecs.decode_chunk(chunk)


@pytest.mark.parametrize("name", ["packed_tiles", "packed_rows", "runs", "stored_int16", "constant_int16"])
def test_a_chunk_cut_short_or_with_more_at_its_end_is_refused(name: str) -> None:
    whole = (HERE / "golden" / f"{name}.ctpack").read_bytes()
    for length in range(len(whole)):
        with pytest.raises(CodecError):
            codecs.decode_chunk(whole[:length])
    for more in (1, 4, 64):
        with pytest.raises(CodecError):
            codecs.decode_chunk(whole + bytes(more))


@given(chunks(), st.data())
def test_mutated_bytes_give_an_array_or_a_codec_error(chunk: np.ndarray, data: st.DataObject) -> None:
    damaged = bytearray(codecs.encode_chunk(chunk))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    found = ctpack.inspect(damaged)
    if isinstance(found, str):
        with pytest.raises(CodecError, match="ctpack chunk"):
            codecs.decode_chunk(damaged)
    elif math.prod(found[1]) < 10**6:
        assert codecs.decode_chunk(damaged).shape == found[1]


def test_the_output_is_not_touched_by_a_malformed_or_foreign_chunk() -> None:
    chunk = np.arange(64, dtype=np.int16).reshape(8, 8) ** 2
    encoded = codecs.encode_chunk(chunk)
    for bad, out in (
        (encoded[:-4], np.full((8, 8), 7, np.int16)),
        (encoded, np.full((8, 7), 7, np.int16)),
        (encoded, np.full((8, 16), 7, np.uint8)),
    ):
        with pytest.raises(CodecError):
            codecs.decode_chunk_into(bad, out)
        assert (out == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.uint16, np.dtype(">i2"), bool])
def test_other_dtypes_are_refused(dtype: np.typing.DTypeLike) -> None:
    with pytest.raises(CodecError, match="Give int16 or uint8"):
        codecs.CTPack().encode(np.zeros((3, 3), dtype))
    with pytest.raises(CodecError, match="Give int16 or uint8"):
        codecs.CTPack().decode(codecs.CTPack().encode(np.zeros((3, 3), np.int16)), np.zeros((3, 3), dtype))


# ---- numcodecs and zarr --------------------------------------------------------------------------


def run_fresh(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_numcodecs_finds_the_codec_without_an_import() -> None:
    program = "import numcodecs; print(numcodecs.get_codec({'id': 'fastct.ctpack'}))"
    assert run_fresh(program) == "CTPack()"
    assert numcodecs.get_codec(codecs.CTPack().get_config()) == codecs.CTPack()


def test_zarr_reads_in_a_process_that_never_imported_fastct(tmp_path: Path) -> None:
    import zarr

    volume = np.random.default_rng(2).normal(0, 90, (5, 20, 33)).astype(np.int16)
    zarr.create_array(
        tmp_path,
        data=volume,
        chunks=(2, 8, 16),
        serializer=codecs.CTPackCodec(),
        compressors=None,
        fill_value=0,
    )
    program = (
        "import sys, zarr; a = zarr.open_array(sys.argv[1] if len(sys.argv) > 1 else "
        f"{str(tmp_path)!r}, mode='r'); v = a[...]; print(a.dtype, int(v.astype(int).sum()), v[3, 7, 11])"
    )
    assert run_fresh(program) == f"int16 {volume.astype(int).sum()} {volume[3, 7, 11]}"


def test_the_zarr_codec_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    import zarr

    with pytest.raises(CodecError, match="int16 or uint8"):
        zarr.create_array(
            tmp_path / "f",
            shape=(4, 4),
            dtype="float32",
            serializer=codecs.CTPackCodec(),
            compressors=None,
        )
    with pytest.raises(CodecError, match="without configuration"):
        codecs.CTPackCodec.from_dict({"name": "fastct.ctpack", "configuration": {"level": 3}})


def test_importing_fastct_loads_neither_codecs_nor_zarr() -> None:
    program = "import sys, fastct; print([m for m in ('zarr', 'numcodecs', 'fastct.codecs') if m in sys.modules])"
    assert run_fresh(program) == "[]"
