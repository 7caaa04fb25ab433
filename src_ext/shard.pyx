# Zarr v3 shards of ctpack chunks for Python: a whole volume in, any region out, with the GIL released.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from chunked cimport Fault, Grid, Shard, as_shard, as_told

cdef extern from "crc32c.h" namespace "crc32c" nogil:
    uint32_t c_crc32c "crc32c::of"(const uint8_t* p, size_t n, bint portable, uint32_t before)

cdef extern from "shard.h" namespace "shard" nogil:
    cdef struct Volume:
        const uint8_t* first
        size_t* shape
        ptrdiff_t plane_bytes
        ptrdiff_t row_bytes
        size_t voxel_bytes
        uint16_t fill
        bint omit_fill
    cdef struct Target:
        uint8_t* first
        ptrdiff_t plane_bytes
        ptrdiff_t row_bytes
    cdef struct Region:
        size_t* begin
        size_t* end
        Target target
        size_t voxel_bytes
    size_t c_bound "shard::bound"(const Grid& grid, size_t voxel_bytes)
    size_t c_encode "shard::encode_volume"(
        const Volume& volume, const Grid& grid, uint8_t* out, bint portable) except +
    Fault c_decode "shard::decode_region"(const Shard& shard, const Region& region, bint portable) except +

ctypedef fused voxel:
    short
    unsigned char


cdef Grid _grid(tuple count, tuple chunk) except *:
    cdef Grid grid
    cdef int axis
    for axis in range(3):
        grid.count[axis] = count[axis]
        grid.chunk[axis] = chunk[axis]
    return grid


cdef tuple _counts(const Py_ssize_t* shape, tuple chunk):
    return tuple([(shape[axis] + chunk[axis] - 1) // chunk[axis] for axis in range(3)])


cdef bint _rows(const Py_ssize_t* shape, const Py_ssize_t* strides, Py_ssize_t voxel_bytes):
    return shape[2] == 1 or strides[2] == voxel_bytes


def crc32c(const unsigned char[::1] chunk, bint portable=False, uint32_t before=0):
    """The CRC-32C checksum (RFC 3720) of bytes, or of those whose checksum is `before` and these."""
    cdef const uint8_t* start = &chunk[0] if chunk.shape[0] else NULL
    cdef size_t n_bytes = chunk.shape[0]
    cdef uint32_t checksum
    with nogil:
        checksum = c_crc32c(start, n_bytes, portable, before)
    return checksum


def bound(tuple count, tuple chunk_shape, size_t voxel_bytes):
    """The most bytes that a shard of so many chunks along (z, y, x) can take."""
    return c_bound(_grid(count, chunk_shape), voxel_bytes)


def encode_volume(const voxel[:, :, :] voxels, tuple chunk_shape, voxel fill, bint omit_fill,
                  unsigned char[::1] out, bint portable=False):
    """Write the shard of a volume (contiguous rows) to `out`, with room for `bound`; return its length."""
    cdef Volume volume
    cdef Grid grid = _grid(_counts(voxels.shape, chunk_shape), chunk_shape)
    cdef int axis
    cdef uint8_t* target = &out[0]
    cdef size_t length
    if (not _rows(voxels.shape, voxels.strides, sizeof(voxel))
            or <size_t>out.shape[0] < c_bound(grid, sizeof(voxel))):
        raise ValueError("the rows are not contiguous, or the output has less room than the bound")
    volume.first = <const uint8_t*>&voxels[0, 0, 0]
    for axis in range(3):
        volume.shape[axis] = voxels.shape[axis]
    volume.plane_bytes = voxels.strides[0]
    volume.row_bytes = voxels.strides[1]
    volume.voxel_bytes = sizeof(voxel)
    volume.fill = <uint16_t>fill
    volume.omit_fill = omit_fill
    with nogil:
        length = c_encode(volume, grid, target, portable)
    return length


def decode_region(const unsigned char[::1] shard, const uint64_t[:, :, :, ::1] index, tuple chunk_shape,
                  tuple begin, voxel[:, :, :] out, bint portable=False):
    """Decode the region that begins at voxel `begin` into `out` (not empty, contiguous rows).

    `index` is (chunks along z, y, x, 2): offset and length. Missing chunks leave `out` as it is.
    Returns (number of the chunk, what is wrong with it) for the first fault, else None.
    """
    cdef Shard source = as_shard(shard, index, chunk_shape)
    cdef Region region
    cdef Fault fault
    cdef int axis
    if not _rows(out.shape, out.strides, sizeof(voxel)):
        raise ValueError("the output's rows are not contiguous")
    for axis in range(3):
        region.begin[axis] = begin[axis]
        region.end[axis] = region.begin[axis] + out.shape[axis]
        if out.shape[axis] < 1 or region.end[axis] > source.grid.count[axis] * source.grid.chunk[axis]:
            raise IndexError("the region is empty or leaves the shard")
    region.target.first = <uint8_t*>&out[0, 0, 0]
    region.target.plane_bytes = out.strides[0]
    region.target.row_bytes = out.strides[1]
    region.voxel_bytes = sizeof(voxel)
    with nogil:
        fault = c_decode(source, region, portable)
    return as_told(fault)
