"""Studies that are being read from: where their voxels lie, their maps and their foregrounds, some at a time."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from fastct import shards
from fastct._ext import as_bytes
from fastct._ext.patches import read_patch, turn_patch
from fastct.errors import CodecError, StoreError
from fastct.foreground import Foreground, as_file, foreground_key, foreground_of, from_file
from fastct.geometry import Geometry, Shape
from fastct.kept import kept_bytes
from fastct.kernels.maps import Reading
from fastct.shard_layout import ShardLayout
from fastct.shards import SHARD
from fastct.storage import ByteRange, Bytes, Storage
from fastct.store import IMAGE, ROOT, Study, study_folder

CURE = "Run `fastct verify` on the store, then convert the study again"
TURN_BYTES = 4 << 20  # room enough for the box of most turned patches: 36 x 176 x 320 voxels
Kept = TypeVar("Kept")
Voxels = NDArray[Any]
Signs = tuple[bool, bool, bool]


@dataclass(frozen=True)
class Card:
    """What is known of a study before a voxel is read: its geometry, and how its arrays are stored.

    `shards` gives size in bytes and CRC-32C of each array's shard; `tag` is that of the root document which says so.
    """

    study_id: str
    geometry: Geometry
    layouts: dict[str, ShardLayout]
    shards: dict[str, tuple[int, int]]
    tag: str


class OpenArray:
    """An array of a study: its shard's index, and its bytes, mapped or fetched by ranges where they cannot be."""

    def __init__(self, storage: Storage, card: Card, array: str) -> None:
        folder = study_folder(card.study_id)
        self.name = f"{storage}/{folder}/{array}"
        self.layout = card.layouts[array]
        self._storage = storage
        self._key = f"{folder}/{array}/{SHARD}"
        try:
            if storage.is_local:
                tail = self._shard = as_bytes(storage.view(self._key))
            else:
                size, _ = card.shards[array]
                part, self._tag = storage.read_range(self._key, size - self.layout.index_bytes, size)
                tail = as_bytes(part)
            self._check_still(card, array)
            self._index = shards.read_index(tail, self.layout)
        except CodecError as error:
            raise self._damaged(error) from error

    def _check_still(self, card: Card, array: str) -> None:
        """Raise unless the shard that was just opened is the one that the card knows: see `Study`."""
        root = f"{study_folder(card.study_id)}/{ROOT}"
        if self._storage.status(root).tag == card.tag:
            return
        if Study(self._storage, card.study_id).shards.get(array) != card.shards[array]:
            raise StoreError(self.name, "it was replaced since it was first read", "Make the data set anew")

    def read_mapped(self, begin: Shape, backward: Signs, values: tuple[float, ...], out: Voxels) -> None:
        """Read a box whose voxels are mapped on a line, in one call that holds no lock.

        The box begins at voxel `begin`, which may lie outside, and runs against the array's axes where
        `backward`; `values` are the line's scalars, what missing chunks become, and what lies outside. For
        arrays coded by ctpack.

        Raises
        ------
        StoreError
            That names the study and the chunk that is damaged.
        """
        layout = self.layout
        shard, index = self.chunks(begin, out.shape)
        bits = out.view(np.uint16) if out.dtype == np.float16 else out
        plan = (layout.shape, layout.chunk_shape, layout.voxel_bytes)
        self._raise(read_patch(shard, index, plan, (begin, backward), values, bits))

    def read_turned(self, reading: Reading, out: Voxels) -> None:
        """Read a grid that runs askew of the array's axes, in one call that holds no lock; without noise.

        For arrays coded by ctpack.

        Raises
        ------
        StoreError
            That names the study and the chunk that is damaged.
        """
        layout = self.layout
        whole = (0, 0, 0), layout.shape
        shard, index = self.chunks(*(whole if self._storage.is_local else reading.grid.needed(layout.shape)))
        bits = out.view(np.uint16) if out.dtype == np.float16 else out
        plan = (layout.shape, layout.chunk_shape, layout.voxel_bytes, layout.fill_value)
        found = turn_patch(shard, index, plan, reading.turn, kept_bytes("turn", TURN_BYTES), bits)
        if isinstance(found, int):  # so many bytes does it need, and the buffer has fewer
            found = turn_patch(shard, index, plan, reading.turn, kept_bytes("turn", found), bits)
        self._raise(found if isinstance(found, tuple) else None)

    def _raise(self, fault: tuple[int, str] | None) -> None:
        """Raise what is wrong with a chunk, if something is."""
        if fault is not None:
            place = tuple(int(n) for n in np.unravel_index(fault[0], self.layout.grid))
            raise StoreError(self.name, f"chunk {place}: {fault[1]}", CURE)

    def read(self, begin: Shape, out: Voxels) -> None:
        """Read a box of the array as it is stored; it must lie inside.

        Raises
        ------
        StoreError
            That names the study and the chunk that is damaged.
        """
        shard, index = self.chunks(begin, out.shape)
        try:
            shards.decode_box(shard, index, self.layout, begin, out)
        except CodecError as error:
            raise self._damaged(error) from error

    def chunks(self, begin: Shape, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.uint64]]:
        """Bytes that hold the chunks of a box, and the index of their places in them."""
        if self._storage.is_local:
            return self._shard, self._index
        ends = zip(begin, shape, self.layout.shape, strict=True)
        z, y, x = (slice(max(b, 0), max(0, min(b + n, end))) for b, n, end in ends)
        try:
            return shards.fetch_chunks(self._fetch, self._index, self.layout, (z, y, x))
        except CodecError as error:
            raise self._damaged(error) from error

    def _fetch(self, ranges: Sequence[ByteRange]) -> Sequence[Bytes]:
        return self._storage.read_ranges(self._key, ranges, self._tag)

    def _damaged(self, error: CodecError) -> StoreError:
        return StoreError(self.name, f"{error.subject}: {error.finding}", CURE)


class Shelf:
    """The studies of a store, as readers need them: cards are kept, maps and foregrounds up to a limit.

    Threads share it. What was put away while somebody read it stays valid for that reader.
    """

    def __init__(self, storage: Storage, limit: int) -> None:
        self.storage = storage
        self.process = os.getpid()
        self._limit = limit
        self._cards: dict[str, Card] = {}
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = Lock()

    def card(self, study_id: str) -> Card:
        """The card of a study.

        Raises
        ------
        StoreError
            If its metadata are damaged.
        """
        card = self._cards.get(study_id)
        if card is None:
            study = Study(self.storage, study_id)
            members = study.metadata["consolidated_metadata"]["metadata"]
            arrays = [IMAGE, *(f"labels/{name}/0" for name in study.labels)]
            try:
                layouts = {array: ShardLayout.from_metadata(members[array]) for array in arrays}
                known = {array: study.shards[array] for array in arrays}
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(f"study {study_id}", f"its metadata are damaged ({error})", CURE) from error
            card = self._cards[study_id] = Card(study_id, study.geometry, layouts, known, study.tag)
        return card

    def array(self, study_id: str, array: str) -> OpenArray:
        """An array of a study, opened.

        Raises
        ------
        StoreError
            If there is none, or it is damaged.
        """
        return self._one((study_id, array), lambda: self._open(study_id, array))

    def foreground(self, study_id: str, label: str) -> Foreground:
        """The foreground of a label; where none is kept that fits, it is made from the mask, and kept.

        Raises
        ------
        StoreError
            If the study has no such label, or it is damaged.
        """
        return self._one((study_id, "foreground", label), lambda: self._foreground(study_id, label))

    def _one(self, key: Hashable, make: Callable[[], Kept]) -> Kept:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return cast(Kept, self._kept[key])
        made = make()  # two threads may make the same: that costs little, and waiting would cost more
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        return made

    def _open(self, study_id: str, array: str) -> OpenArray:
        return OpenArray(self.storage, self._card_with(study_id, array), array)

    def _foreground(self, study_id: str, label: str) -> Foreground:
        array = f"labels/{label}/0"
        mark = self._card_with(study_id, array).shards[array]
        key = foreground_key(label, study_id)
        if self.storage.exists(key):
            with suppress(ValueError):  # it is derived, and the mask decides: where it does not fit, it is made anew
                return from_file(self.storage.read(key), mark)
        mask = self.array(study_id, array)
        voxels = np.empty(mask.layout.shape, np.uint8)
        mask.read((0, 0, 0), voxels)
        found = foreground_of(voxels)
        with suppress(StoreError):  # a store that may only be read is drawn from all the same
            self.storage.write(key, as_file(found, mark))
        return found

    def _card_with(self, study_id: str, array: str) -> Card:
        card = self.card(study_id)
        if array not in card.layouts:
            raise StoreError(f"study {study_id}", f"it has no array {array!r}", "Run `fastct score` on the store")
        return card
