"""Decode boxes of voxels out of ctpack chunks, a batch at a time, on request straight into a window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastct.errors import ArrayError, CodecError, OptionError
from fastct.geometry import Shape
from fastct.kernels import home
from fastct.kernels.maps import IDENTITY, Line
from fastct.shard_layout import DAMAGED, ShardLayout

# What chunks of a dtype can become, beside themselves.
OUTPUT_DTYPES = {"int16": ("float32", "float16", "uint8"), "uint8": ("float32", "float16")}


@dataclass(frozen=True, eq=False)
class ChunkBox:
    """A box of a stored array, and where in a buffer of bytes the chunks lie that it touches.

    Parameters
    ----------
    layout : shape, chunks, dtype and codec of the array.
    index : (chunks along z, y, x, 2) uint64, first byte and length of each chunk in the buffer, its crc32c
        included; entries that the box does not touch are never looked at.
    begin, shape : first voxel of the box, and its lengths along (z, y, x).
    line : the map of intensities, as `window_line` makes it.
    name : what an error calls the array.
    """

    layout: ShardLayout
    index: NDArray[np.uint64]
    begin: Shape
    shape: Shape
    line: Line = IDENTITY
    name: str = "array"

    def __post_init__(self) -> None:
        if self.layout.codec != "ctpack":
            cure = "Read it through its store, on a CPU, or convert with --codec ctpack"
            raise OptionError(f"codec of {self.name}", f"it is {self.layout.codec}, not ctpack", cure)
        ends = [begin + length for begin, length in zip(self.begin, self.shape, strict=True)]
        if min(self.begin) < 0 or min(self.shape) < 1 or any(np.array(ends) > self.layout.shape):
            finding = f"it takes {self.shape} voxels from {self.begin} on, of {self.layout.shape}"
            raise ArrayError(f"box of {self.name}", finding, "Give one that lies within the array")
        if self.index.shape != (*self.layout.grid, 2) or self.index.dtype != np.uint64:
            finding = f"it is {self.index.dtype} {self.index.shape}"
            raise ArrayError(f"index of {self.name}", finding, f"Give uint64 {(*self.layout.grid, 2)}")


class Fault(NamedTuple):
    """The first thing found to be wrong in a batch."""

    box: int  # its number in the batch
    chunk: Shape  # along (z, y, x)
    finding: str


@dataclass(frozen=True, eq=False)
class Decoding:
    """A batch that a GPU may still be decoding: its outputs hold nothing to rely on before `finish`."""

    boxes: tuple[ChunkBox, ...]
    find_fault: Callable[[], Fault | None]

    def finish(self) -> None:
        """Wait until all voxels are there, and known to be those that were stored.

        Raises
        ------
        CodecError
            That names the first damaged chunk of the batch.
        """
        fault = self.find_fault()
        if fault is not None:
            subject = f"{self.boxes[fault.box].name}, chunk {fault.chunk}"
            raise CodecError(subject, fault.finding, DAMAGED)


def decode_chunks(source: Any, boxes: Sequence[ChunkBox], outs: Sequence[Any]) -> None:
    """Decode boxes into `outs`, and wait for them.

    Each chunk is checked against its crc32c where it is decoded, and every length in it is proved before a voxel
    is written; chunks that were left out give the fill value. On a GPU a batch takes one launch for each pair of
    dtypes.

    Parameters
    ----------
    source : (bytes,) uint8, in NumPy or CuPy; for a GPU every chunk begins at a multiple of four bytes.
    boxes : what to decode.
    outs : a C-contiguous array for each, of its shape, where `source` is: of the dtype stored; or float32,
        float16 or (from int16) uint8, for voxels on the box's line.

    Raises
    ------
    CodecError
        If a chunk is damaged; the message names it. Outputs then hold nothing to rely on.
    ArrayError, OptionError
        If an array has the wrong dtype, shape or place, or cannot hold what the line makes.

    Examples
    --------
    >>> from fastct.kernels.maps import window_line
    >>> from fastct.shards import array_metadata, read_index, write_shard
    >>> hu = np.full((4, 5, 6), -300, np.int16)
    >>> layout = ShardLayout.from_metadata(array_metadata(hu.shape, hu.dtype))
    >>> shard = np.frombuffer(write_shard(hu, layout), np.uint8)
    >>> box = ChunkBox(layout, read_index(shard, layout), (1, 2, 3), (1, 1, 2), window_line(-1000, 400))
    >>> out = np.empty(box.shape, np.float32)
    >>> decode_chunks(shard, [box], [out])
    >>> out
    array([[[0.5, 0.5]]], dtype=float32)
    """
    begin_decoding(source, boxes, outs).finish()


def begin_decoding(source: Any, boxes: Sequence[ChunkBox], outs: Sequence[Any]) -> Decoding:
    """As `decode_chunks`, without waiting: on a GPU, work is queued on its current stream.

    `source` and `outs` must stay as they are until the answer's `finish` returned.
    """
    if getattr(source, "dtype", None) != np.uint8 or source.ndim != 1 or not source.flags.c_contiguous:
        raise ArrayError("source", "it is no plain row of bytes", "Give a contiguous (bytes,) array of uint8")
    if len(outs) != len(boxes):
        raise ArrayError("outs", f"there are {len(outs)} for {len(boxes)} boxes", "Give one for each box")
    for number, (box, out) in enumerate(zip(boxes, outs, strict=True)):
        _check_output(out, box, f"outs[{number}]")
    if not boxes:
        return Decoding((), lambda: None)
    find_fault = home("chunks", source, *outs).decode_chunks(source, boxes, outs)
    return Decoding(tuple(boxes), find_fault)


def _check_output(out: Any, box: ChunkBox, name: str) -> None:
    stored, found = box.layout.dtype, np.dtype(out.dtype).name
    if out.shape != box.shape or not out.flags.c_contiguous or not getattr(out.flags, "writeable", True):
        raise ArrayError(name, f"it is {found} {out.shape}", f"Give a plain, writeable array of shape {box.shape}")
    if found != stored and found not in OUTPUT_DTYPES[stored]:
        cure = f"Give one of {', '.join((stored, *OUTPUT_DTYPES[stored]))}"
        raise ArrayError(name, f"it is {found}, and the chunks hold {stored}", cure)
    if found == stored and box.line != IDENTITY:
        raise OptionError("line", f"{stored} keeps voxels as they were stored", "Ask for float32 or float16")
    if found == "uint8" and stored == "int16" and box.line == IDENTITY:
        raise OptionError("line", "uint8 cannot hold int16 HU", "Give a window")
