"""ctpack, the lossless codec for chunks of CT and of labels: byte format, numcodecs and Zarr faces.

The format, version 1
=====================
All numbers are little-endian. align(n) is n rounded up to a multiple of 4; what lies in the gaps that this
makes, and unused bits, are zero. A chunk is a header, then a payload that ends where the chunk does; its
length is a multiple of 4. Offsets count bytes from the beginning of the header or of the payload::

    header
      0      3 bytes       "CTP"
      3      uint8         version, 1
      4      uint8         bytes of a voxel: 1 (uint8) or 2 (int16)
      5      uint8         method: 0 constant, 1 stored, 2 packed (int16 only), 3 runs (uint8 only)
      6      uint8         number of axes A, 0 to 32
      7      uint8         method 3: number of palette values, less one; else 0
      8      A * uint32    shape, slowest axis first; at most 2**30 voxels; without voxels, method 0

Constant: the one value of all voxels, then zeros, 4 bytes in all (0 where there is no voxel).

Stored: the voxels in C order, then zeros up to align(length).

Planes: the other methods drop the axes of length 1 from the shape. Of those left, the last is the width W,
the one before it the height H (1 if there is none), the product of the others the number of planes P (1 if
there is none). v[y][x] are the voxels of one plane.

Packed: each plane has differences from the left e, what the row above lets expect of them m, and residuals
r. e and r are taken modulo 2**16, into int16; m is computed without overflow; >> 1 halves, rounding down::

    e[y][x] = v[y][x] - v[y][x-1]  for x >= 1;  e is 0 at x = 0 and outside the plane
    m[y][x] = (((e[y-1][x-1] + e[y-1][x+1] + 1) >> 1) + e[y-1][x] + 1) >> 1
    r[y][x] = e[y][x] - m[y][x]    for x >= 1
    r[y][0] = v[y][0] - v[y-1][0]  for y >= 1;  r[0][0] = 0

The residuals of a plane are cut in B = ceil(H * W / 16) blocks of 16. If W is a multiple of 8 and H of 2,
block b holds columns 8 * (b mod W/8) and the seven after it, first of row 2 * (b div W/8), then of the row
below that. Else the blocks cut the residuals in C order, and the last is filled up with zeros. The width w
of a block is the least for which all its residuals lie in -2**(w-1) to 2**(w-1) - 1 (0 if all are zero),
with 16 in place of 15. Its body is 2 * w bytes: value i, in two's complement, takes bits i * w to (i + 1) *
w - 1, bit 0 being the lowest of the first byte. The payload has these parts, one after the other::

    P * int16                  the first voxel of every plane, v[0][0]
    ceil(P / 8) bytes          bit (z mod 8) of byte (z div 8): plane z has a residual that is not zero
                               -- zeros up to align(offset)
    ceil(B / 2) bytes a plane  with its bit set: widths of its blocks, 4 bits each, the lower half of a byte
                               first; 15 stands for 16
                               -- zeros up to align(offset)
    bodies of all blocks       of the planes with their bit set, without gaps
    16 bytes of zeros          so that a vector can be read past the last block
                               -- zeros up to align(offset)

A plane whose bit is not set holds its first voxel everywhere.

Runs: the residual of a label is v[y][x] - v[y-1][x] modulo 256, and v[0][x] in the first row of a plane.
The residuals of all planes, in C order, are cut in runs of one value::

    0               uint32        number of runs N
    4               n bytes       the palette: n different values (n - 1 is byte 7 of the header)
    4 + align(n)    N * uint16    lowest k bits: a place in the palette; other bits: length, less one.
                                  k is ceil(log2(n)), 0 for n = 1
                                  -- zeros up to align(offset)

An encoder takes constant where all voxels are equal; else packed (int16) or runs (uint8); stored instead
where those would not be smaller.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numcodecs.abc import Codec
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.buffer import Buffer, NDBuffer

from fastct._ext import BytesLike, ctpack
from fastct.errors import CodecError

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.common import JSON

CODEC_ID = "fastct.ctpack"
MAX_AXES = 32
MAX_VOXELS = 2**30  # of one chunk, so that a damaged header cannot ask for all memory
CURE = "The bytes are damaged or foreign: write the array anew"
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype(np.uint8), 2: np.dtype(np.int16)}
_SUPPORTED = tuple(_DTYPES.values())


def encode_chunk(voxels: NDArray[Any]) -> bytes:
    """Encode an int16 or uint8 array of any shape, in the format above.

    Raises
    ------
    CodecError
        If the dtype is another, or the array has more than 32 axes or 2**30 voxels.

    Examples
    --------
    >>> len(encode_chunk(np.full((8, 64, 64), -1024, np.int16)))
    24
    """
    if voxels.dtype not in _SUPPORTED:
        raise CodecError("ctpack", f"the array is {voxels.dtype}", "Give int16 or uint8")
    if voxels.ndim > MAX_AXES or voxels.size > MAX_VOXELS:
        finding = f"the array has shape {voxels.shape}"
        raise CodecError("ctpack", finding, f"Give at most {MAX_AXES} axes and {MAX_VOXELS} voxels a chunk")
    plain = np.require(voxels, requirements=["C", "A"])
    out = np.empty(ctpack.bound(voxels.shape, voxels.itemsize), np.uint8)
    length = ctpack.encode(plain, voxels.shape, out)
    return out[:length].tobytes()


def decode_chunk(chunk: BytesLike) -> NDArray[Any]:
    """Decode a chunk into a fresh array of the shape and dtype that its header states.

    Raises
    ------
    CodecError
        If the bytes are not a ctpack chunk: every length is proved before a voxel is written.

    Examples
    --------
    >>> decode_chunk(encode_chunk(np.arange(6, dtype=np.uint8).reshape(2, 3)))
    array([[0, 1, 2],
           [3, 4, 5]], dtype=uint8)
    """
    dtype, shape = _proven(chunk)
    out = np.empty(shape, dtype)
    _decode(chunk, out)
    return out


def decode_chunk_into(chunk: BytesLike, out: NDArray[Any]) -> None:
    """Decode a chunk into an array of its dtype and number of voxels, in C order; any strides will do.

    Raises
    ------
    CodecError
        If the bytes are not a ctpack chunk, or not one that fits; `out` is not touched then.

    Examples
    --------
    >>> out = np.zeros((2, 3), np.uint8)
    >>> decode_chunk_into(encode_chunk(np.full((2, 3), 7, np.uint8)), out)
    >>> int(out.min())
    7
    """
    if out.dtype not in _SUPPORTED:
        raise CodecError("output", f"it is {out.dtype}", "Give int16 or uint8")
    flags = out.flags
    if flags.c_contiguous and flags.aligned:
        _decode(chunk, out)
        return
    whole = np.empty(out.shape, out.dtype)
    _decode(chunk, whole)
    out[...] = whole


def _proven(chunk: BytesLike) -> tuple[np.dtype[Any], tuple[int, ...]]:
    found = ctpack.inspect(chunk)
    if isinstance(found, str):
        raise CodecError("ctpack chunk", found, CURE)
    return _DTYPES[found[0]], found[1]


def _decode(chunk: BytesLike, out: NDArray[Any]) -> None:
    fault = ctpack.decode(chunk, out)
    if fault is not None:
        raise CodecError("ctpack chunk", fault, CURE)


class CTPack(Codec):
    """The numcodecs codec: arrays of int16 or uint8 in, bytes out, and back with shape and dtype.

    Examples
    --------
    >>> codec = CTPack()
    >>> codec.decode(codec.encode(np.zeros((2, 3), np.int16))).shape
    (2, 3)
    """

    codec_id = CODEC_ID

    def encode(self, buf: NDArray[Any]) -> bytes:
        return encode_chunk(np.asarray(buf))

    def decode(self, buf: BytesLike, out: Any = None) -> NDArray[Any]:
        if out is None:
            return decode_chunk(buf)
        decode_chunk_into(buf, np.asarray(out))
        return np.asarray(out)


@dataclass(frozen=True)
class CTPackCodec(ArrayBytesCodec):
    """The Zarr v3 codec `fastct.ctpack`; zarr finds it by its entry point, without an import of fastct.

    Examples
    --------
    >>> import zarr
    >>> array = zarr.create_array({}, shape=(4, 8, 8), chunks=(4, 8, 8), dtype="int16", serializer=CTPackCodec())
    >>> array[:] = -1024
    >>> int(array[3, 7, 7])
    -1024
    """

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: "dict[str, JSON]") -> Self:
        if data.get("name") != CODEC_ID or data.get("configuration"):
            finding = f"it is not {CODEC_ID} without configuration"
            raise CodecError(f"codec {data}", finding, "Check the array's zarr.json")
        return cls()

    def to_dict(self) -> "dict[str, JSON]":
        return {"name": CODEC_ID}

    def validate(self, *, dtype: Any, **_: Any) -> None:
        native = dtype.to_native_dtype()
        if native not in _SUPPORTED:
            raise CodecError("ctpack", f"the array is {native}", "Give int16 or uint8")

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: "ArraySpec") -> int:
        raise NotImplementedError("the size of a ctpack chunk depends on its voxels")

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: "ArraySpec") -> NDBuffer:
        source = chunk_bytes.as_numpy_array()
        dtype, shape = _proven(source)
        if shape != chunk_spec.shape or dtype != chunk_spec.dtype.to_native_dtype():
            finding = f"it holds {dtype} {shape}, the array has chunks of {chunk_spec.shape}"
            raise CodecError("ctpack chunk", finding, CURE)
        out = np.empty(shape, dtype)
        _decode(source, out)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(out)

    def _encode_sync(self, chunk_array: NDBuffer, chunk_spec: "ArraySpec") -> Buffer | None:
        return chunk_spec.prototype.buffer.from_bytes(encode_chunk(chunk_array.as_numpy_array()))

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: "ArraySpec") -> NDBuffer:
        return self._decode_sync(chunk_data, chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: "ArraySpec") -> Buffer | None:
        return self._encode_sync(chunk_data, chunk_spec)
