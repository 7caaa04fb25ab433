"""The bytes of one-shard Zarr v3 arrays: written, read by region, checked, and read by byte ranges."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct._ext import BytesLike, as_bytes
from fastct._ext import shard as ext
from fastct.archive import decode_region, encode_volume
from fastct.errors import ArrayError, CodecError
from fastct.geometry import Shape
from fastct.kept import kept_bytes
from fastct.shard_layout import (
    CHECKSUM_BYTES,
    CHUNK_SHAPE,
    DAMAGED,
    MISSING,
    Region,
    ShardLayout,
    Voxels,
    array_metadata,
)

__all__ = [
    "CHUNK_SHAPE",
    "SHARD",
    "ShardLayout",
    "array_metadata",
    "check_shard",
    "chunk_ranges",
    "decode_box",
    "fetch_chunks",
    "moved_index",
    "read_index",
    "read_ranges",
    "read_shard",
    "shard_pieces",
    "write_shard",
]

ByteRange = tuple[int, int]  # first byte, and the one after the last
Metadata = Mapping[str, Any] | ShardLayout

SHARD = "c/0/0/0"  # key of the one shard below its array
CACHE_LINE_BYTES = 64


def write_shard(volume: Voxels, metadata: Metadata, use: str | None = None) -> memoryview:
    """The shard's bytes for a (z, y, x) volume of the shape and dtype that `metadata` states.

    Chunks of uint8 that hold only the fill value are left out; those of int16 are all written. With a `use`, the
    bytes may lie in this thread's buffer for it, which the next call with that use takes back: see `fastct.kept`.

    Raises
    ------
    ArrayError
        If the volume is of another shape or dtype.

    Examples
    --------
    >>> document = array_metadata((9, 70, 70), "uint8")
    >>> shard = write_shard(np.zeros((9, 70, 70), np.uint8), document)
    >>> len(shard)  # an index of eight missing chunks
    132
    """
    layout = _layout_of(metadata)
    if layout.codec != "ctpack":
        return memoryview(encode_volume(_rows(volume, layout), layout))
    out = _room(layout, use)
    end = 0
    for piece in _encode(_rows(volume, layout), layout, out):
        end += len(piece)
    return out[:end].data


def shard_pieces(volume: Voxels, metadata: Metadata, use: str | None = None) -> Iterator[memoryview]:
    """The bytes of `write_shard` in pieces, each made when it is asked for, so that it can be written meanwhile.

    Raises
    ------
    ArrayError
        As `write_shard` does.

    Examples
    --------
    >>> volume = np.arange(20 * 5 * 6, dtype=np.int16).reshape(20, 5, 6)
    >>> document = array_metadata(volume.shape, volume.dtype)
    >>> b"".join(shard_pieces(volume, document)) == bytes(write_shard(volume, document))
    True
    """
    layout = _layout_of(metadata)
    rows = _rows(volume, layout)
    if layout.codec != "ctpack":
        return iter([memoryview(encode_volume(rows, layout))])
    return _encode(rows, layout, _room(layout, use))


def _rows(volume: Voxels, layout: ShardLayout) -> Voxels:
    """The volume with contiguous, aligned rows."""
    if volume.shape != layout.shape or volume.dtype != layout.dtype:
        finding = f"the volume is {volume.dtype} {volume.shape}, its metadata {layout.dtype} {layout.shape}"
        raise ArrayError("shard", finding, "Make the metadata from the volume's own shape and dtype")
    return volume if _has_whole_rows(volume) else np.require(volume, requirements=["C", "A"])


def _room(layout: ShardLayout, use: str | None) -> NDArray[np.uint8]:
    room = ext.bound(layout.grid, layout.chunk_shape, layout.voxel_bytes)
    return np.empty(room, np.uint8) if use is None else kept_bytes(use, room)


def _encode(rows: Voxels, layout: ShardLayout, out: NDArray[np.uint8]) -> Iterator[memoryview]:
    """The shard in `out`, which its pieces fill one after the other: those of each layer of chunks, then the index."""
    index = np.empty((*layout.grid, 2), "<u8")
    depth, omit, end = layout.chunk_shape[0], layout.dtype == "uint8", 0
    for layer, entries in enumerate(index):
        planes = rows[layer * depth : (layer + 1) * depth]
        length = ext.encode_volume(planes, layout.chunk_shape, layout.fill_value, omit, out[end:])
        begin, end = end, end + length - entries.nbytes - CHECKSUM_BYTES
        entries[:] = out[end : end + entries.nbytes].view("<u8").reshape(entries.shape)  # of a shard of this layer
        entries[..., 0] += np.where(entries[..., 0] == MISSING, np.uint64(0), np.uint64(begin))
        yield out[begin:end].data
    table = index.tobytes()
    tail = table + ext.crc32c(table).to_bytes(CHECKSUM_BYTES, "little")
    out[end : end + len(tail)] = np.frombuffer(tail, np.uint8)
    yield out[end : end + len(tail)].data


def read_shard(shard: BytesLike, metadata: Metadata, region: Region | None = None, out: Voxels | None = None) -> Voxels:
    """Voxels of a region (three slices of step 1; all by default) of a shard, into `out` where it is given.

    Only the chunks that the region touches are read, and each is checked against its crc32c; a missing one
    gives the fill value.

    Raises
    ------
    CodecError
        If the index or a touched chunk is damaged; the message names it.
    ArrayError
        If the region is not three slices of step 1, or `out` does not fit it.

    Examples
    --------
    >>> volume = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    >>> document = array_metadata(volume.shape, volume.dtype)
    >>> read_shard(write_shard(volume, document), document, np.s_[1:2, :2, 3:])
    array([[[33, 34, 35],
            [39, 40, 41]]], dtype=int16)
    """
    layout = _layout_of(metadata)
    source = as_bytes(shard)
    index = read_index(source, layout)
    begin, shape = _box(region, layout)
    target = _target(out, shape, layout)
    decode_box(source, index, layout, begin, target)
    return target


def check_shard(shard: BytesLike, metadata: Metadata) -> None:
    """Check every byte of a shard: index, places of the chunks without gap or overlap, checksums, lengths.

    Raises
    ------
    CodecError
        That names the first thing found to be wrong.
    """
    layout = _layout_of(metadata)
    source = as_bytes(shard)
    index = read_index(source, layout)
    _check_places(index, source.size - layout.index_bytes)
    depth = layout.chunk_shape[0]
    layer = np.empty((depth, *layout.shape[1:]), layout.dtype)
    for z in range(0, layout.shape[0], depth):
        decode_box(source, index, layout, (z, 0, 0), layer[: layout.shape[0] - z])


def read_index(tail: BytesLike, metadata: Metadata) -> NDArray[np.uint64]:
    """The index (chunks along z, y, x, 2): offset and length of each, from a shard's last bytes.

    `tail` is the shard, or as much of its end as `ShardLayout.index_bytes` says or more.

    Raises
    ------
    CodecError
        If it is too short, or its crc32c does not match.
    """
    layout = _layout_of(metadata)
    index = as_bytes(tail)[-layout.index_bytes :]
    if index.size < layout.index_bytes:
        finding = f"the shard has {index.size} bytes, its index alone {layout.index_bytes}"
        raise CodecError("index", finding, DAMAGED)
    entries, checksum = index[:-CHECKSUM_BYTES], index[-CHECKSUM_BYTES:]
    if ext.crc32c(entries) != int.from_bytes(checksum.tobytes(), "little"):
        raise CodecError("index", "its checksum (crc32c) does not match its bytes", DAMAGED)
    return np.frombuffer(entries.tobytes(), "<u8").reshape(*layout.grid, 2)


def chunk_ranges(index: NDArray[np.uint64], metadata: Metadata, region: Region | None = None) -> list[ByteRange]:
    """Byte ranges of the chunks that a region touches, ascending, neighbours joined."""
    layout = _layout_of(metadata)
    begin, shape = _box(region, layout)
    touched = index[layout.touched(begin, shape)].reshape(-1, 2)
    ranges: list[ByteRange] = []
    for offset, length in sorted((int(o), int(n)) for o, n in touched if o != MISSING):
        if ranges and ranges[-1][1] == offset:
            ranges[-1] = (ranges[-1][0], offset + length)
        else:
            ranges.append((offset, offset + length))
    return ranges


def read_ranges(
    fetch: Callable[[Sequence[ByteRange]], Sequence[BytesLike]],
    index: NDArray[np.uint64],
    metadata: Metadata,
    region: Region | None = None,
    out: Voxels | None = None,
) -> Voxels:
    """As `read_shard`, from a shard that lies elsewhere: `fetch` gets its byte ranges, all in one call.

    Raises
    ------
    CodecError, ArrayError
        As `read_shard` does.

    Examples
    --------
    >>> volume = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    >>> document = array_metadata(volume.shape, volume.dtype)
    >>> shard = write_shard(volume, document)
    >>> fetch = lambda ranges: [shard[begin:end] for begin, end in ranges]
    >>> read_ranges(fetch, read_index(shard, document), document, np.s_[3:, 4:, :])
    array([[[114, 115, 116, 117, 118, 119]]], dtype=int16)
    """
    layout = _layout_of(metadata)
    begin, shape = _box(region, layout)
    target = _target(out, shape, layout)
    fetched, own_index = fetch_chunks(fetch, index, layout, region)
    decode_box(fetched, own_index, layout, begin, target)
    return target


def fetch_chunks(
    fetch: Callable[[Sequence[ByteRange]], Sequence[BytesLike]],
    index: NDArray[np.uint64],
    metadata: Metadata,
    region: Region | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
    """The bytes of the chunks that a region touches, laid end to end, and the index of them: a shard's excerpt.

    `fetch` gets their byte ranges, all in one call.

    Raises
    ------
    CodecError
        If it brings another number of bytes than it was asked for.
    """
    ranges = chunk_ranges(index, metadata, region)
    pieces = [as_bytes(piece) for piece in fetch(ranges)] if ranges else []
    for (first, last), piece in zip(ranges, pieces, strict=True):
        if piece.size != last - first:
            finding = f"{piece.size} bytes came for {last - first}"
            raise CodecError(f"bytes {first} to {last}", finding, "Check the object's size and the network")
    joined = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, np.uint8), *pieces])
    return joined, moved_index(index, ranges, accumulate((piece.size for piece in pieces), initial=0))


def decode_box(
    source: NDArray[np.uint8], index: NDArray[np.uint64], layout: ShardLayout, begin: Shape, out: Voxels
) -> None:
    """Decode the box that begins at voxel `begin` into `out` (its shape and dtype, contiguous rows).

    `source` holds the chunks where `index` says: a shard, or an excerpt from `fetch_chunks`.

    Raises
    ------
    CodecError
        If a touched chunk is damaged; the message names it.
    """
    if out.size == 0:
        return
    layout.fill_missing(index, begin, out)
    if layout.codec != "ctpack":
        decode_region(source, index, layout, begin, out)
        return
    fault = ext.decode_region(source, index, layout.chunk_shape, begin, out)
    if fault is not None:
        raise CodecError(f"chunk {_place(fault[0], layout)}", fault[1], DAMAGED)


def moved_index(index: NDArray[np.uint64], ranges: Sequence[ByteRange], places: Iterable[int]) -> NDArray[np.uint64]:
    """The index of ranges of bytes that were laid elsewhere, each at its place; of other chunks it says nothing."""
    moved, offsets = index.copy(), index[..., 0]
    for (first, last), place in zip(ranges, places, strict=False):
        inside = (offsets >= first) & (offsets < last)
        moved[inside, 0] = offsets[inside] - np.uint64(first) + np.uint64(place)
    return moved


def _layout_of(metadata: Metadata) -> ShardLayout:
    return metadata if isinstance(metadata, ShardLayout) else ShardLayout.from_metadata(metadata)


def _has_whole_rows(volume: Voxels) -> bool:
    whole = volume.shape[2] == 1 or volume.strides[2] == volume.itemsize
    return whole and volume.flags.aligned and volume.dtype.isnative


def _box(region: Region | None, layout: ShardLayout) -> tuple[Shape, Shape]:
    slices = (slice(None),) * 3 if region is None else region
    if len(slices) != 3 or any(not isinstance(s, slice) or s.step not in (None, 1) for s in slices):
        raise ArrayError("region", f"it is {region!r}", "Give three slices of step 1, for (z, y, x)")
    try:
        spans = [range(n)[s] for s, n in zip(slices, layout.shape, strict=True)]
    except TypeError as error:
        raise ArrayError("region", f"it is {region!r}", "Give slices between whole numbers") from error
    (z, y, x), (depth, height, width) = (s.start for s in spans), (len(s) for s in spans)
    return (z, y, x), (depth, height, width)


def _target(out: Voxels | None, shape: Shape, layout: ShardLayout) -> Voxels:
    if out is None:
        return _empty(shape, layout)
    if out.shape != shape or out.dtype != layout.dtype or not out.flags.writeable:
        finding = f"it is {out.dtype} {out.shape}, the region {layout.dtype} {shape}"
        raise ArrayError("output", finding, "Give a writeable array of the region's shape and dtype")
    if not _has_whole_rows(out):
        raise ArrayError("output", f"its strides are {out.strides}", "Give one with contiguous, aligned rows")
    return out


def _empty(shape: Shape, layout: ShardLayout) -> Voxels:
    """An array that begins a cache line: decoding into one that does not is up to a fifth slower."""
    n_bytes = int(np.prod(shape)) * layout.voxel_bytes
    room = np.empty(n_bytes + CACHE_LINE_BYTES, np.uint8)
    begin = -room.ctypes.data % CACHE_LINE_BYTES
    return room[begin : begin + n_bytes].view(layout.dtype).reshape(shape)


def _place(number: int, layout: ShardLayout) -> Shape:
    z, y, x = (int(n) for n in np.unravel_index(number, layout.grid))
    return z, y, x


def _check_places(index: NDArray[np.uint64], end: int) -> None:
    """Chunks must follow one another from the first byte to the index, in any order."""
    at = 0
    entries = index.reshape(-1, 2)
    for offset, length in sorted((int(o), int(n)) for o, n in entries[(entries != MISSING).any(axis=-1)]):
        if offset != at:
            kind = "overlap" if offset < at else "leave a gap"
            raise CodecError("index", f"chunks {kind} at byte {min(offset, at)}", DAMAGED)
        at = offset + length
    if at != end:
        raise CodecError("index", f"chunks end at byte {at}, the index begins at {end}", DAMAGED)
