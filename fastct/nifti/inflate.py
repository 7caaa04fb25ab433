"""Inflates gzip bytes once, by libdeflate, to the size that is wanted and never far beyond it."""

import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastct.errors import FileError
from fastct.kept import kept_bytes
from fastct.nifti.libdeflate import inflate_member

# Deflate cannot do better than 1032 to 1 (https://www.zlib.net/zlib_tech.html, "Maximum Compression
# Factor"): whoever promises more than that from a file promises what the file cannot hold.
MAX_RATIO = 1032

# What may stand behind the bytes that are wanted, and is inflated and dropped. Real files end within a
# few KiB of their last voxel; a bomb goes on for gigabytes.
MAX_SURPLUS_BYTES = 16 << 20

# bgzip, which cuts finest, puts 64 KiB in a member: 2 GiB make 32,768 of them. Empty members cost 20 bytes
# each, and time.
MAX_MEMBERS = 100_000

GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WINDOW_BITS = 31  # zlib: 15 for the largest window, and 16 for a gzip header and checksum
_FIRST_SLICE_BYTES, _LAST_SLICE_BYTES = 1 << 10, 1 << 18  # zlib copies what it was fed in vain
_PIECE_BYTES = 1 << 20


def is_gzip(raw: NDArray[np.uint8]) -> bool:
    """Whether the bytes start as a gzip member does."""
    return raw[:2].tobytes() == GZIP_MAGIC


def inflate(
    raw: NDArray[np.uint8], wanted_bytes: int, name: str, use: str | None = None
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The inflated bytes, at least `wanted_bytes` of them, and notes on what was odd.

    With a `use`, they may lie in this thread's buffer for it: see `fastct.kept`.

    libdeflate does it in one go where the file is one gzip member, as nearly all are; several members,
    trailing bytes, lying sizes and damage fall to zlib, which can tell them apart.

    Raises
    ------
    FileError
        If the file is damaged, cut off, fails its checksum, holds fewer bytes than wanted, or goes on
        for more than `MAX_SURPLUS_BYTES` after them.
    """
    if wanted_bytes > MAX_RATIO * raw.size:
        raise FileError(
            name,
            f"its header promises {wanted_bytes:,} bytes, but {raw.size:,} gzip bytes cannot hold them",
            "Get the file again: it is cut off, or its header is damaged",
        )
    whole = _inflate_at_once(raw, wanted_bytes, use)
    if whole is None:
        return _inflate_in_pieces(raw, wanted_bytes, name)
    if whole.size == _size_of_last_member(raw):
        return whole, ()
    return whole, ("bytes after the gzip member ignored",)


def inflate_head(raw: NDArray[np.uint8], count_bytes: int, name: str) -> bytes:
    """The first `count_bytes` inflated bytes, or fewer where the file ends before."""
    head = bytearray()
    for piece in _pieces(raw, name, [], piece_bytes=count_bytes):
        head += piece
        if len(head) >= count_bytes:
            break
    return bytes(head[:count_bytes])


def _size_of_last_member(raw: NDArray[np.uint8]) -> int:
    """What the gzip trailer says, modulo 2**32: a hint, never to be trusted."""
    return int.from_bytes(raw[-4:].tobytes(), "little")


def _inflate_at_once(raw: NDArray[np.uint8], wanted_bytes: int, use: str | None) -> NDArray[np.uint8] | None:
    """One call of libdeflate, which checks CRC and size; None where that is not enough."""
    hint = _size_of_last_member(raw)
    room = hint if wanted_bytes <= hint <= wanted_bytes + MAX_SURPLUS_BYTES else wanted_bytes
    if room == 0:
        return None
    out = np.empty(room, np.uint8) if use is None else kept_bytes(use, room)
    filled = inflate_member(raw, out)
    return None if filled is None or filled < wanted_bytes else out[:filled]


def _inflate_in_pieces(
    raw: NDArray[np.uint8], wanted_bytes: int, name: str
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """All members, one after the other, into a buffer of just the wanted size."""
    notes: list[str] = []
    whole = np.empty(wanted_bytes, np.uint8)
    filled = surplus = 0
    for piece in _pieces(raw, name, notes):
        part = np.frombuffer(piece, np.uint8, count=min(len(piece), wanted_bytes - filled))
        whole[filled : filled + part.size] = part
        filled += part.size
        surplus += len(piece) - part.size
        if surplus > MAX_SURPLUS_BYTES:
            raise FileError(
                name,
                f"it goes on for more than {MAX_SURPLUS_BYTES:,} bytes after the last voxel of its header",
                "Get the file again: its header is damaged, or it was made to fill memory",
            )
    if filled < wanted_bytes:
        raise FileError(
            name,
            f"it ends after {filled:,} of the {wanted_bytes:,} bytes that its header promises",
            "Get the file again: it is cut off",
        )
    if surplus:
        notes.append(f"{surplus} bytes after the last voxel ignored")
    return whole, tuple(notes)


def _pieces(raw: NDArray[np.uint8], name: str, notes: list[str], piece_bytes: int = _PIECE_BYTES) -> Iterator[bytes]:
    """Inflated pieces of every member; as gzip(1) does, what is no member at the end is passed over."""
    view, at, members = raw.data, 0, 0
    while bytes(view[at : at + 2]) == GZIP_MAGIC:
        members += 1
        if members > MAX_MEMBERS:
            raise FileError(name, f"it has more than {MAX_MEMBERS:,} gzip members", "Compress it anew, in one")
        member = zlib.decompressobj(wbits=_GZIP_WINDOW_BITS)
        fed: bytes | memoryview = b""
        slice_bytes = _FIRST_SLICE_BYTES
        while not member.eof:
            if not fed:
                fed = view[at : at + slice_bytes]
                at += len(fed)
                slice_bytes = min(4 * slice_bytes, _LAST_SLICE_BYTES)
                if not fed:
                    raise FileError(name, "its gzip data are cut off", "Get the file again")
            try:
                piece = member.decompress(fed, piece_bytes)
            except zlib.error as error:
                raise FileError(name, f"its gzip data are damaged ({error})", "Get the file again") from error
            fed = member.unconsumed_tail
            yield piece
        at -= len(member.unused_data)
    if raw[at:].any():
        notes.append(f"{raw.size - at} bytes after the last gzip member ignored")
