"""Shards in the codecs that every Zarr v3 reader has, Blosc and zstd: chunk by chunk, through numcodecs."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext import shard as ext
from fastct.errors import CodecError
from fastct.geometry import Shape
from fastct.shard_layout import (
    BLOSC_OPTIONS,
    CHECKSUM_BYTES,
    DAMAGED,
    MISSING,
    ZSTD_LEVEL,
    Region,
    ShardLayout,
    Voxels,
)


@cache
def _codec(name: str) -> Any:
    """One of numcodecs' codecs, which take long to import: a store of ctpack needs none of them."""
    if name == "zstd":
        from numcodecs.zstd import Zstd

        return Zstd(ZSTD_LEVEL)
    from numcodecs.blosc import Blosc

    return Blosc(BLOSC_OPTIONS["cname"], BLOSC_OPTIONS["clevel"], Blosc.BITSHUFFLE)


def encode_volume(volume: Voxels, layout: ShardLayout) -> bytes:
    """The shard of a volume; see `fastct.shards.write_shard`."""
    parts = list(_chunks(volume, layout))
    lengths = np.array([len(part) for part in parts], "<u8")
    entries = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
    entries[lengths == 0] = MISSING
    index = entries.tobytes()
    return b"".join([*parts, index, ext.crc32c(index).to_bytes(CHECKSUM_BYTES, "little")])


def decode_region(
    source: NDArray[np.uint8], index: NDArray[np.uint64], layout: ShardLayout, begin: Shape, out: Voxels
) -> None:
    """Decode a region that is not empty into `out`; missing chunks leave it as it is."""
    shape = (out.shape[0], out.shape[1], out.shape[2])
    for place, inside, within in _overlaps(layout, begin, shape):
        offset, length = (int(n) for n in index[place])
        if offset == length == MISSING:
            continue
        chunk = source[offset : offset + length]
        if length < CHECKSUM_BYTES or chunk.size != length:
            raise CodecError(f"chunk {place}", "the index places it outside the shard", DAMAGED)
        body, checksum = chunk[:-CHECKSUM_BYTES], chunk[-CHECKSUM_BYTES:]
        if ext.crc32c(body) != int.from_bytes(checksum.tobytes(), "little"):
            raise CodecError(f"chunk {place}", "its checksum (crc32c) does not match its bytes", DAMAGED)
        out[inside] = _expand(body, place, layout)[within]


def _expand(body: NDArray[np.uint8], place: Shape, layout: ShardLayout) -> Voxels:
    try:
        voxels = np.frombuffer(_codec(layout.codec).decode(body), layout.dtype)
    except (RuntimeError, ValueError) as error:
        raise CodecError(f"chunk {place}", f"{layout.codec} cannot decode it ({error})", DAMAGED) from error
    if voxels.size != np.prod(layout.chunk_shape):
        raise CodecError(f"chunk {place}", f"it holds {voxels.size} voxels", DAMAGED)
    return voxels.reshape(layout.chunk_shape)


def _chunks(volume: Voxels, layout: ShardLayout) -> Iterator[bytes]:
    """The encoded chunks with their checksums, in C order; empty for those left out."""
    for _, inside, within in _overlaps(layout, (0, 0, 0), layout.shape):
        part = volume[inside]
        if layout.dtype == "uint8" and (part == layout.fill_value).all():
            yield b""
            continue
        chunk = np.full(layout.chunk_shape, layout.fill_value, layout.dtype)
        chunk[within] = part
        body = bytes(_codec(layout.codec).encode(chunk))
        yield body + ext.crc32c(body).to_bytes(CHECKSUM_BYTES, "little")


def _overlaps(layout: ShardLayout, begin: Shape, shape: Shape) -> Iterator[tuple[Shape, Region, Region]]:
    """For each touched chunk: its place, its part of the region, and that part's place in the chunk."""
    for place in product(*(range(s.start, s.stop) for s in layout.touched(begin, shape))):
        inside, within = [], []
        for number, c, b, n in zip(place, layout.chunk_shape, begin, shape, strict=True):
            first, last = max(number * c, b), min((number + 1) * c, b + n)
            inside.append(slice(first - b, last - b))
            within.append(slice(first - number * c, last - number * c))
        yield (place[0], place[1], place[2]), tuple(inside), tuple(within)  # type: ignore[misc]
