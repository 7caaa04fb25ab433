"""Boxes decoded where they are wanted are what the store holds, and batches under way keep out of each other's way."""

import shutil

import numpy as np
import pytest
from flip_bits import flip

import fastct
from fastct.carrier import Carrier, Wanted, read_boxes
from fastct.errors import ArrayError, OptionError, StoreError
from fastct.kernels.maps import window_line
from fastct.shards import SHARD
from fastct.shelf import Shelf
from fastct.store import study_folder

WINDOW = window_line(-1000, 400)


def drawn_boxes(store, rng, n):
    """Boxes of random studies, images in a window and labels as they are."""
    boxes = []
    for _ in range(n):
        study_id = str(rng.choice(list(store)))
        shape = store[study_id].geometry.shape
        begin = tuple(int(rng.integers(length)) for length in shape)
        lengths = tuple(int(rng.integers(1, length - first + 1)) for length, first in zip(shape, begin, strict=True))
        kind = rng.choice(["float32", "float16", "int16", "lung"])
        if kind == "lung":
            boxes.append(Wanted(study_id, begin, lengths, "uint8", array="labels/lung/0"))
        elif kind == "int16":
            boxes.append(Wanted(study_id, begin, lengths))
        else:
            boxes.append(Wanted(study_id, begin, lengths, str(kind), WINDOW))
    return boxes


def expected_of(store, box):
    study = store[box.study_id]
    voxels = study.hu if box.array == "0" else study.lungs
    part = voxels[tuple(slice(b, b + n) for b, n in zip(box.begin, box.shape, strict=True))]
    if box.dtype in ("int16", "uint8"):
        return part
    return fastct.window(np.ascontiguousarray(part), -1000, 400, box.dtype)


def test_boxes_are_what_the_store_holds(scored):
    store = fastct.open(scored)
    boxes = drawn_boxes(store, np.random.default_rng(0), 12)
    for box, found in zip(boxes, read_boxes(Shelf(store.storage, 8), boxes), strict=True):
        np.testing.assert_array_equal(found, expected_of(store, box))


def test_batches_come_to_a_gpu_in_order(scored, cupy):
    store, rng = fastct.open(scored), np.random.default_rng(1)
    batches = [drawn_boxes(store, rng, n) for n in (3, 1, 0, 4, 2)]
    carrier = Carrier(Shelf(store.storage, 8), ahead=2)
    cupy.waits.clear()
    found = list(carrier.carry(batches))
    assert [len(outs) for outs in found] == [3, 1, 0, 4, 2]
    assert set(cupy.waits) == {"event"}  # nothing else makes the host wait
    for batch, outs in zip(batches, found, strict=True):
        for box, out in zip(batch, outs, strict=True):
            np.testing.assert_array_equal(out.get(), expected_of(store, box))


def test_a_damaged_chunk_is_named_and_the_next_batch_comes(scored, tmp_path, cupy):
    shutil.copytree(scored, tmp_path / "store")
    store = fastct.open(tmp_path / "store")
    damaged, sound = list(store)[:2]
    shard = tmp_path / "store" / study_folder(damaged) / "0" / SHARD
    flip(shard, 802)
    shape = store[damaged].geometry.shape
    carrier = Carrier(Shelf(store.storage, 8), ahead=1)
    with pytest.raises(StoreError, match=rf"{damaged}.*chunk \(0, 0, 0\): its checksum"):
        carrier.begin([Wanted(damaged, (0, 0, 0), shape)]).finish()
    with pytest.raises(StoreError, match=damaged):
        read_boxes(Shelf(store.storage, 8), [Wanted(damaged, (0, 0, 0), shape)])
    load = carrier.begin([Wanted(sound, (0, 0, 0), (1, 2, 3))])
    with pytest.raises(OptionError, match="under way"):
        carrier.begin([Wanted(sound, (0, 0, 0), (1, 2, 3))])
    np.testing.assert_array_equal(load.finish()[0].get(), store[sound].hu[:1, :2, :3])
    assert load.finish()[0].shape == (1, 2, 3)  # again: its stream is given back once
    carrier.begin([Wanted(sound, (0, 0, 0), (1, 2, 3))])
    with pytest.raises(OptionError, match="under way"):
        carrier.begin([Wanted(sound, (0, 0, 0), (1, 2, 3))])


def test_batches_that_nobody_waits_for_are_settled(scored, tmp_path, cupy):
    """Where carrying ends early, or work on a batch fails, the GPU is waited for: it may be writing to arrays."""
    store = fastct.open(scored)
    box = Wanted(next(iter(store)), (0, 0, 0), (1, 2, 3))
    carrier = Carrier(Shelf(store.storage, 8), ahead=2)
    carrying = carrier.carry([[box]] * 4)
    next(carrying)
    assert carrier.idle == 1
    cupy.waits.clear()
    carrying.close()
    assert (carrier.idle, cupy.waits) == (2, ["event"])

    def fail(decoded, made):
        raise KeyError("no such thing")

    cupy.waits.clear()
    with pytest.raises(KeyError, match="no such thing"):
        carrier.begin([box], then=fail)
    assert carrier.idle == 2
    assert "stream" in cupy.waits


def test_boxes_outside_are_refused_before_anything_is_sent(scored, cupy):
    store = fastct.open(scored)
    study_id = next(iter(store))
    carrier = Carrier(Shelf(store.storage, 8), ahead=1)
    with pytest.raises(ArrayError, match="within the array"):
        carrier.begin([Wanted(study_id, (0, 0, 0), (10000, 1, 1))])
    assert len(carrier.begin([Wanted(study_id, (0, 0, 0), (1, 1, 1))]).finish()) == 1
