"""Where masks are: evenly spaced voxels in and outside of each, kept so that no mask is decoded to draw a patch."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastct._ext import BytesLike, as_bytes
from fastct._ext.shard import crc32c
from fastct.errors import StoreError
from fastct.geometry import Shape
from fastct.kernels.masks import WORD_BITS, pack_label
from fastct.storage import WORK, Storage

FOREGROUND = f"{WORK}/foreground"
MAGIC = b"fctspot1"  # raised with every change of the format: files of another one are made anew
# So many voxels stand for a mask in a draw: all of a small lesion (the smallest of MosMedData's has 98), every
# seventh of the median one (66 mL: 13,500 voxels of 0.78 x 0.78 x 8 mm), and 16 KB a label.
SPOTS = 2048
_HEAD = struct.Struct("<8s3I2QQI")  # magic, shape, voxels inside and outside, size and CRC-32C of the shard
_CHECKSUM = struct.Struct("<I")

Spots = NDArray[np.uint32]
Mark = tuple[int, int]


@dataclass(frozen=True)
class Foreground:
    """What is kept of a mask.

    Parameters
    ----------
    shape : of the mask, (z, y, x).
    voxels : how many are inside (not 0) and how many outside.
    inside, outside : (n,) uint32: numbers, in C order, of up to 2,048 voxels that are evenly spaced among them.
    """

    shape: Shape
    voxels: tuple[int, int]
    inside: Spots
    outside: Spots

    def at(self, spots: Spots, share: float) -> Shape:
        """The voxel (z, y, x) a share of the way through some spots."""
        z, y, x = np.unravel_index(int(spots[int(share * spots.size)]), self.shape)
        return int(z), int(y), int(x)


def foreground_of(mask: NDArray[np.uint8]) -> Foreground:
    """The foreground of a (z, y, x) mask.

    Examples
    --------
    >>> found = foreground_of(np.array([[[0, 2, 0, 1]]], np.uint8))
    >>> found.voxels, found.inside.tolist(), found.outside.tolist()
    ((2, 2), [1, 3], [0, 2])
    """
    depth, height, width = mask.shape
    bits = pack_label(mask)  # 0 and anything else
    inside = bits.reshape(depth * height, -1)
    counts = np.bitwise_count(inside).sum(axis=1, dtype=np.int64)
    n_inside = int(counts.sum())
    outside = _spread(~inside, width - counts, width)  # what pads the last word comes last, and is not counted
    return Foreground((depth, height, width), (n_inside, mask.size - n_inside), _spread(inside, counts, width), outside)


def _spread(rows: NDArray[np.uint64], counts: NDArray[np.int64], width: int) -> Spots:
    """Numbers of evenly spaced voxels among those whose bits are set; `counts` tells how many each row has."""
    ends = np.cumsum(counts)
    total = int(ends[-1])
    n = min(total, SPOTS)
    ranks = (np.arange(n) * total + total // 2) // max(n, 1)
    row = np.searchsorted(ends, ranks, side="right")
    words = rows[row]
    word, rank = _reached(np.bitwise_count(words), ranks - (ends[row] - counts[row]))
    octets = np.take_along_axis(words, word[:, None], axis=1).astype("<u8").view(np.uint8)
    octet, rank = _reached(np.bitwise_count(octets), rank)
    bits = np.unpackbits(np.take_along_axis(octets, octet[:, None], axis=1), axis=1, bitorder="little")
    bit, _ = _reached(bits, rank)
    return (row * width + word * WORD_BITS + octet * 8 + bit).astype(np.uint32)


def _reached(counts: NDArray[np.uint8], ranks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """In each row of counts, where the sum passes the row's rank, and what is left of the rank there."""
    sums = np.cumsum(counts, axis=1, dtype=np.int64)
    place = (sums > ranks[:, None]).argmax(axis=1)
    passed = np.take_along_axis(sums - counts, place[:, None], axis=1)[:, 0]
    return place, ranks - passed


def foreground_key(label: str, study_id: str) -> str:
    """Where the foreground of a study's label lies in the store."""
    return f"{FOREGROUND}/{label}/{study_id}.bin"


def as_file(found: Foreground, mark: Mark) -> bytes:
    """The bytes that keep the foreground of the mask whose shard bears that mark."""
    head = _HEAD.pack(MAGIC, *found.shape, *found.voxels, *mark)
    payload = head + found.inside.astype("<u4").tobytes() + found.outside.astype("<u4").tobytes()
    return payload + _CHECKSUM.pack(crc32c(payload))


def from_file(kept: bytes, mark: Mark) -> Foreground:
    """What `as_file` kept.

    Raises
    ------
    ValueError
        If the bytes are damaged, of another format, or of a mask whose shard bears another mark.
    """
    if len(kept) < _HEAD.size + _CHECKSUM.size or kept[: len(MAGIC)] != MAGIC:
        raise ValueError("it is of another format")
    if crc32c(kept[: -_CHECKSUM.size]) != _CHECKSUM.unpack(kept[-_CHECKSUM.size :])[0]:
        raise ValueError("its checksum does not match its bytes")
    _, depth, height, width, n_inside, n_outside, *own = _HEAD.unpack_from(kept)
    if tuple(own) != mark:
        raise ValueError("it was made from another mask")
    n = min(n_inside, SPOTS), min(n_outside, SPOTS)
    spots = np.frombuffer(kept, "<u4", sum(n), _HEAD.size)
    return Foreground((depth, height, width), (n_inside, n_outside), spots[: n[0]], spots[n[0] :])


def mark_of(shard: BytesLike) -> Mark:
    """What tells one mask's shard from another's: its size in bytes and its CRC-32C, as the study's root has them."""
    return as_bytes(shard).size, crc32c(shard)


def write_foreground(storage: Storage, study_id: str, label: str, mask: NDArray[np.uint8], mark: Mark) -> None:
    """Keep the foreground of a label whose shard, of that mark, was written."""
    storage.write(foreground_key(label, study_id), as_file(foreground_of(mask), mark))


def check_foreground(storage: Storage, study_id: str, label: str, shard: BytesLike) -> str:
    """What is wrong with the foreground that is kept of a label, or nothing; none kept is no fault."""
    try:
        kept = storage.find(foreground_key(label, study_id))
        if kept is not None:
            from_file(kept, mark_of(shard))
    except StoreError as error:
        return error.finding
    except ValueError as error:
        return str(error)
    return ""
