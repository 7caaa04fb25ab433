"""Boxes of a store, decoded where they are wanted: to a GPU compressed bytes travel, on streams beside its own."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import device, shards
from fastct.errors import CodecError, OptionError, StoreError
from fastct.geometry import Shape
from fastct.kernels.chunks import ChunkBox, Decoding, begin_decoding, decode_chunks
from fastct.kernels.maps import IDENTITY, Line
from fastct.shard_layout import DAMAGED
from fastct.shelf import CURE, OpenArray, Shelf
from fastct.store import IMAGE

ALIGNMENT_BYTES = 16  # of a run of chunks in the buffer that travels
Bytes = NDArray[np.uint8]
Then = Callable[[list[Any], list[Any]], None]  # what is done with boxes, and where its results go


@dataclass(frozen=True)
class Wanted:
    """A box of a study's array, and what its voxels become.

    Parameters
    ----------
    study_id : the study.
    begin, shape : first voxel, and lengths along (z, y, x); within the array.
    dtype : as stored, or float32, float16 or (from int16) uint8.
    line : the map of intensities, as `window_line` makes it.
    array : the image, or "labels/lung/0" and the like.
    """

    study_id: str
    begin: Shape
    shape: Shape
    dtype: str = "int16"
    line: Line = IDENTITY
    array: str = IMAGE


def read_boxes(shelf: Shelf, wanted: Iterable[Wanted]) -> list[NDArray[Any]]:
    """Boxes of a store's studies, decoded on the CPU.

    Raises
    ------
    StoreError
        If a study or an array is not there; or that names the study and the chunk that is damaged.
    """
    outs = []
    for box in wanted:
        source, chunk_box = _chunk_box(shelf, box)
        out = np.empty(box.shape, box.dtype)
        with _named():
            decode_chunks(source, [chunk_box], [out])
        outs.append(out)
    return outs


@contextmanager
def _named() -> Iterator[None]:
    """Say of a damaged chunk, which bears its study's name, what is said wherever a store's chunks are read."""
    try:
        yield
    except CodecError as error:
        raise StoreError(error.subject, error.finding, CURE) from error


class Carrier:
    """Batches of boxes on their way to a GPU: some are copied and decoded while others are used.

    Each batch has a stream beside the one in use, and memory that is page-locked, until it is finished; both are
    then used again. One thread at a time may call it; its own threads read, and never touch the GPU.

    Parameters
    ----------
    shelf : whose studies.
    gpu : number of the GPU.
    ahead : batches that may be under way.
    threads : that read what a batch needs.

    Raises
    ------
    DeviceError
        If there is no such GPU, or CuPy is not installed.

    Examples
    --------
    >>> carrier = Carrier(Shelf(store.storage, 64))                                   # doctest: +SKIP
    >>> box = Wanted("study_0001", (0, 0, 0), (32, 128, 128), "float16", window_line(-1000, 400))  # doctest: +SKIP
    >>> for (patch,) in carrier.carry([box] for _ in range(3)):                       # doctest: +SKIP
    ...     print(patch.shape)
    """

    def __init__(self, shelf: Shelf, gpu: int = 0, ahead: int = 2, threads: int = 1) -> None:
        for name, count in (("ahead", ahead), ("threads", threads)):
            if count < 1:
                raise OptionError(name, f"it is {count}", "Give at least 1")
        self._shelf = shelf
        self._idle = [device.SideStream(gpu) for _ in range(ahead)]
        self._readers = ThreadPoolExecutor(threads, "fastct-carrier")
        self._each = map if threads == 1 else self._readers.map

    @property
    def idle(self) -> int:
        """Batches that can be sent on their way before one is finished."""
        return len(self._idle)

    def close(self) -> None:
        """Let go of the threads; those batches that are under way can still be finished."""
        self._readers.shutdown(wait=False)

    def carry(self, batches: Iterable[Sequence[Wanted]]) -> Iterator[list[Any]]:
        """Arrays on the GPU for each batch, in order, read ahead.

        Raises
        ------
        StoreError
            As `begin` and `Load.finish` do.
        """
        under_way: deque[Load] = deque()
        try:
            for batch in batches:
                if not self._idle:
                    yield under_way.popleft().finish()
                under_way.append(self.begin(batch))
            while under_way:
                yield under_way.popleft().finish()
        finally:
            for load in under_way:
                load.settle()

    def begin(
        self, wanted: Sequence[Wanted], finals: Sequence[tuple[tuple[int, ...], str]] = (), then: Then | None = None
    ) -> "Load":
        """Send a batch on its way; where none of `ahead` is idle, OptionError: finish one first.

        With `then`, the boxes are worked on where they are decoded: it is given them, and arrays of the shapes and
        dtypes of `finals` to write, which are what `finish` answers.

        Raises
        ------
        StoreError
            If a study or an array is not there, or its index leads out of it.
        """
        if not self._idle:
            raise OptionError("ahead", "all of the batches are under way", "Finish one first, or allow more")
        sources = list(self._each(partial(_chunk_box, self._shelf), wanted))
        side = self._idle.pop()
        try:
            boxes, n_bytes = pack_chunks(sources, side, self._each)
            outs = [side.empty_on_current_stream(box.shape, box.dtype) for box in wanted]
            made = [side.empty_on_current_stream(shape, dtype) for shape, dtype in finals]
            with side.entered():
                decoding = begin_decoding(side.send(n_bytes), boxes, outs)
                if then is not None:
                    then(outs, made)
        except BaseException:
            self._idle.append(side)
            raise
        return Load((outs, outs if then is None else made), decoding, side, self._idle)


class Load:
    """A batch that a Carrier has under way; to be finished, or settled before it is let go."""

    def __init__(
        self,
        arrays: tuple[list[Any], list[Any]],
        decoding: Decoding,
        side: device.SideStream,
        idle: list[device.SideStream],
    ) -> None:
        self._decoded, self._outs = arrays  # what is decoded is kept until the stream is done with it
        self._decoding, self._idle = decoding, idle
        self._side: device.SideStream | None = side

    def finish(self) -> list[Any]:
        """The arrays, once all their voxels are there and known to be those that were stored.

        Raises
        ------
        StoreError
            That names the study and the chunk that is damaged.
        """
        self.settle()
        with _named():
            self._decoding.finish()
        return self._outs

    def settle(self) -> None:
        """Wait until the GPU is done with the arrays, sound or not: until then it may write to them."""
        if self._side is not None:
            self._side.wait()
            self._idle.append(self._side)
            self._side = None
            self._decoded = []


def _chunk_box(shelf: Shelf, wanted: Wanted) -> tuple[Bytes, ChunkBox]:
    """Bytes that hold the chunks of a box, and their places in them."""
    array: OpenArray = shelf.array(wanted.study_id, wanted.array)
    source, index = array.chunks(wanted.begin, wanted.shape)
    return source, ChunkBox(array.layout, index, wanted.begin, wanted.shape, wanted.line, array.name)


def pack_chunks(
    sources: Sequence[tuple[Bytes, ChunkBox]], side: device.SideStream, each: Callable[..., Iterable[ChunkBox]] = map
) -> tuple[list[ChunkBox], int]:
    """Copy the chunks that boxes touch to page-locked memory; the boxes with their places there, and the length.

    Raises
    ------
    StoreError
        If an index leads out of its shard.
    """
    with _named():
        ranges = [_ranges(source, box) for source, box in sources]
    sizes = [sum(_aligned(last - first) for first, last in runs) for runs in ranges]
    ends = list(accumulate(sizes, initial=0))
    room = side.room(ends[-1])
    return list(each(partial(_packed, room), sources, ranges, ends[:-1])), ends[-1]


def _packed(room: Bytes, source: tuple[Bytes, ChunkBox], runs: Sequence[tuple[int, int]], at: int) -> ChunkBox:
    """Copy the chunks of a box to a room, from a place on; the box with its places there."""
    chunks, box = source
    places = []
    for first, last in runs:
        room[at : at + last - first] = chunks[first:last]
        places.append(at)
        at += _aligned(last - first)
    return replace(box, index=shards.moved_index(box.index, runs, places))


def _ranges(source: Bytes, box: ChunkBox) -> list[tuple[int, int]]:
    """Runs of bytes that a box needs: within the source, and no longer in all than it."""
    z, y, x = (slice(begin, begin + n) for begin, n in zip(box.begin, box.shape, strict=True))
    runs = shards.chunk_ranges(box.index, box.layout, (z, y, x))
    if any(last > source.size for _, last in runs) or sum(last - first for first, last in runs) > source.size:
        raise CodecError(box.name, "its index leads out of the shard, or to bytes of two chunks", DAMAGED)
    return runs


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
