"""Decoding boxes out of chunks on a GPU: a launch for each pair of dtypes works through the whole batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import device
from fastct.errors import ArrayError
from fastct.kernels.chunks import ChunkBox, Fault
from fastct.shard_layout import MISSING, ShardLayout

# A row of the table that a launch works through: `Piece` in ctpack.h.
PIECE = np.dtype(
    [
        ("source", np.uint64),
        ("out", np.uint64),
        ("strides", np.int64, 3),
        ("n_bytes", np.uint32),
        ("extents", np.uint32, 3),
        ("planes", np.int32, 3),
        ("begin", np.int32, 3),
        ("end", np.int32, 3),
        ("fill", np.int32),
        ("line", np.float32, 5),
        ("unused", np.int32),
    ]
)
THREADS = (64, 1)
# Chunks as fastct writes them are 8 x 64 x 64; see ctpack.h for what each limit is for.
WIDEST, MOST_PLANES, MOST_VOXELS = 64, 64, {"int16": 1 << 24, "uint8": 1 << 15}
LONGEST_CHUNK_BYTES = 1 << 30
WORD_BYTES = 4
# Sentences for the kernels' faults, by their numbers.
FINDINGS = (
    "",
    "it is cut short, lies outside of the bytes, or does not begin at a multiple of four",
    "its checksum (crc32c) does not match its bytes",
    "it does not begin with CTP and version 1",
    "its dtype is not the array's",
    "its method is unknown",
    "its shape is not the array's chunk shape",
    "its parts and its length disagree",
    "a width without a block is set",
    "a run names a value that is not in the palette",
    "its runs do not add up to its voxels",
)
Pieces = NDArray[Any]


def decode_chunks(source: Any, boxes: Sequence[ChunkBox], outs: Sequence[Any]) -> Callable[[], Fault | None]:
    """As the face of the same name; the answer waits, and tells the first fault."""
    kinds: dict[str, list[int]] = {}
    for number, (box, out) in enumerate(zip(boxes, outs, strict=True)):
        kinds.setdefault(f"decode_{box.layout.dtype}_{out.dtype.name}", []).append(number)
    order = [number for numbers in kinds.values() for number in numbers]
    tables = [_pieces(source, boxes[number], outs[number]) for number in order]
    lengths = np.array([len(table) for table in tables])
    waiting = iter(tables)
    faults = device.empty_beside(outs[0], (int(lengths.sum()),), np.uint32)
    first = 0
    for kernel, numbers in kinds.items():
        rows = np.concatenate([next(waiting) for _ in numbers])
        arguments = (rows.view(np.uint8), faults[first : first + len(rows)])
        device.launch("chunks", kernel, len(rows), THREADS, arguments, beside=outs[0])
        first += len(rows)
    fetched = device.fetch(faults)
    return lambda: _first_fault(fetched(), boxes, order, lengths)


def _first_fault(
    faults: NDArray[np.uint32], boxes: Sequence[ChunkBox], order: Sequence[int], lengths: NDArray[np.int64]
) -> Fault | None:
    places = np.flatnonzero(faults)
    if places.size == 0:
        return None
    row = int(places[0])
    ends = np.cumsum(lengths)
    job = int(np.searchsorted(ends, row, side="right"))
    box = boxes[order[job]]
    touched = box.layout.touched(box.begin, box.shape)
    inside = np.unravel_index(row - int(ends[job] - lengths[job]), [s.stop - s.start for s in touched])
    z, y, x = (int(n) + s.start for n, s in zip(inside, touched, strict=True))
    return Fault(order[job], (z, y, x), FINDINGS[faults[row]])


def _pieces(source: Any, box: ChunkBox, out: Any) -> Pieces:
    """A row for each chunk that a box touches, in C order."""
    layout = box.layout
    _check_chunks(layout, box.name)
    touched = layout.touched(box.begin, box.shape)
    chunk, begin = np.array(layout.chunk_shape), np.array(box.begin)
    starts = np.argwhere(np.ones([part.stop - part.start for part in touched]))
    starts = (starts + [part.start for part in touched]) * chunk
    low = np.maximum(begin - starts, 0)
    high = np.minimum(begin + box.shape - starts, chunk)
    strides = np.array([out.shape[1] * out.shape[2], out.shape[2], 1])
    pieces = np.zeros(len(starts), PIECE)
    _place_sources(pieces, box.index[touched].reshape(-1, 2), source)
    pieces["out"] = device.address(out) + ((starts + low - begin) @ strides * out.itemsize).astype(np.uint64)
    pieces["extents"], pieces["fill"], pieces["line"] = chunk, layout.fill_value, box.line.scalars
    pieces["planes"], pieces["end"] = 1, 1
    # The format drops axes of length 1; the others are columns, rows and planes from the last on.
    for place, axis in enumerate(reversed(np.flatnonzero(chunk > 1))):
        pieces["planes"][:, 2 - place] = chunk[axis]
        pieces["strides"][:, 2 - place] = strides[axis]
        pieces["begin"][:, 2 - place], pieces["end"][:, 2 - place] = low[:, axis], high[:, axis]
    return pieces


def _place_sources(pieces: Pieces, entries: NDArray[np.uint64], source: Any) -> None:
    """Where chunks lie; one that does not lie in the bytes has none, which a kernel finds too short."""
    offsets, n_bytes = entries[:, 0], entries[:, 1]
    room = np.uint64(source.size) - np.minimum(offsets, np.uint64(source.size))
    address = np.uint64(device.address(source))
    is_inside = (n_bytes <= np.minimum(room, np.uint64(LONGEST_CHUNK_BYTES))) & ((address + offsets) % WORD_BYTES == 0)
    pieces["source"] = address + np.where(is_inside, offsets, np.uint64(0))
    pieces["n_bytes"] = np.where(is_inside, n_bytes, np.uint64(0))
    pieces["source"][(entries == MISSING).all(axis=-1)] = 0


def _check_chunks(layout: ShardLayout, name: str) -> None:
    planes, _, width = ([1, 1, 1] + [n for n in layout.chunk_shape if n > 1])[-3:]
    if width > WIDEST or planes > MOST_PLANES or np.prod(layout.chunk_shape) > MOST_VOXELS[layout.dtype]:
        finding = f"its chunks are {layout.chunk_shape}"
        raise ArrayError(name, finding, "Read it through its store, on a CPU, or convert it anew: in 8 x 64 x 64")
