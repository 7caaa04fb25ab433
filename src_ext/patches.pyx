# Patches out of shards of ctpack chunks, mapped and in place: one call a patch, with the GIL released.
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint64_t

from chunked cimport Fault, Shard, as_shard, as_told

cdef extern from "values.h" namespace "values" nogil:
    cdef struct Line:
        float anchor
        float slope
        float offset
        float floor
        float ceiling
    cdef enum Kind:
        FLOAT32, FLOAT16, UINT8, INT16

cdef extern from "turning.h" namespace "turning" nogil:
    cdef cppclass Reading:
        Reading()
        int64_t[4]* places
        int64_t margin
        Line line
        float outside
        bint nearest
    cdef cppclass Out:
        Out()
        uint8_t* first
        int64_t* shape
        ptrdiff_t plane_bytes
        ptrdiff_t row_bytes
    cdef cppclass Volume:
        Volume()
        const uint8_t* first
        ptrdiff_t* stride_bytes
        int64_t* shape
    void c_turn_volume "turning::read"(const Volume& volume, size_t voxel_bytes, const Reading& reading,
                                       const Out& out, Kind kind, bint portable) except +

cdef extern from "patches.h" namespace "patches" nogil:
    cdef struct Source:
        Shard shard
        size_t* volume
        size_t voxel_bytes
    cdef struct Patch:
        ptrdiff_t* begin
        size_t* shape
        bint* backward
        uint8_t* out
        ptrdiff_t plane_bytes
        ptrdiff_t row_bytes
    cdef struct Values:
        Line line
        float missing
        float outside
    Fault c_read "patches::read"(
        const Source& source, const Patch& patch, const Values& values, Kind kind, bint portable) except +
    cdef cppclass Room:
        size_t voxels()
    Room room_of(const Source& source, const Reading& reading, const Out& out)
    Fault c_turn "patches::turn"(const Source& source, const Reading& reading, int fill, void* memory,
                                 const Out& out, Kind kind, bint portable) except +

ctypedef fused stored:
    int16_t
    uint8_t

ctypedef fused voxel:
    float
    uint16_t
    uint8_t
    int16_t


cdef Source _source(const unsigned char[::1] shard, const uint64_t[:, :, :, ::1] index, tuple layout) except *:
    cdef Source source
    cdef int axis
    shape, chunk_shape, voxel_bytes = layout
    source.shard = as_shard(shard, index, chunk_shape)
    source.voxel_bytes = voxel_bytes
    for axis in range(3):
        source.volume[axis] = shape[axis]
        if source.shard.grid.count[axis] * source.shard.grid.chunk[axis] < source.volume[axis]:
            raise ValueError("the index does not cover the volume")
    return source


cdef Values _values(tuple values) except *:
    cdef Values result
    (result.line.anchor, result.line.slope, result.line.offset, result.line.floor, result.line.ceiling,
     result.missing, result.outside) = values
    return result


cdef Kind _kind(voxel* _):
    """Which kind of voxels a pointer leads to; uint16 stands for the bits of float16."""
    if voxel is float:
        return FLOAT32
    elif voxel is uint16_t:
        return FLOAT16
    elif voxel is uint8_t:
        return UINT8
    else:
        return INT16


def read_patch(const unsigned char[::1] shard, const uint64_t[:, :, :, ::1] index, tuple layout, tuple box,
               tuple values, voxel[:, :, :] out, bint portable=False):
    """Read a patch into `out` (contiguous rows; uint16 takes the bits of float16).

    `layout` is (shape of the volume, chunk shape, bytes of a voxel); `box` is (first voxel of the patch along z,
    y, x; whether each axis of `out` runs backward); `values` are the five scalars of a line, then what missing
    chunks and voxels outside of the volume become. Returns (number of the chunk, what is wrong with it), or None.
    """
    cdef Source source = _source(shard, index, layout)
    cdef Values mapping = _values(values)
    cdef Patch patch
    cdef Fault fault
    cdef int axis
    cdef Kind kind
    begin, backward = box
    if out.shape[0] * out.shape[1] * out.shape[2] == 0 or (out.shape[2] > 1 and out.strides[2] != sizeof(voxel)):
        raise ValueError("the output is empty, or its rows are not contiguous")
    for axis in range(3):
        patch.begin[axis] = begin[axis]
        patch.backward[axis] = backward[axis]
        patch.shape[axis] = out.shape[axis]
    patch.out = <uint8_t*>&out[0, 0, 0]
    patch.plane_bytes = out.strides[0]
    patch.row_bytes = out.strides[1]
    kind = _kind(&out[0, 0, 0])
    with nogil:
        fault = c_read(source, patch, mapping, kind, portable)
    return as_told(fault)


cdef Reading _reading(const int64_t[:, ::1] places, tuple settings) except *:
    cdef Reading reading
    cdef int axis, column
    if places.shape[0] != 3 or places.shape[1] != 4:
        raise ValueError("the places are not those of a grid")
    for axis in range(3):
        for column in range(4):
            reading.places[axis][column] = places[axis, column]
    line, reading.margin, reading.outside, order = settings
    (reading.line.anchor, reading.line.slope, reading.line.offset, reading.line.floor, reading.line.ceiling) = line
    reading.nearest = order == 0
    return reading


cdef Out _target(voxel[:, :, :] out) except *:
    cdef Out target
    cdef int axis
    if out.shape[0] * out.shape[1] * out.shape[2] == 0 or (out.shape[2] > 1 and out.strides[2] != sizeof(voxel)):
        raise ValueError("the output is empty, or its rows are not contiguous")
    target.first = <uint8_t*>&out[0, 0, 0]
    for axis in range(3):
        target.shape[axis] = out.shape[axis]
    target.plane_bytes = out.strides[0]
    target.row_bytes = out.strides[1]
    return target


def turn_volume(const stored[:, :, :] hu, const int64_t[:, ::1] places, tuple settings, voxel[:, :, :] out,
                bint portable=False):
    """Read a volume (any strides, not empty) on a grid into `out` (contiguous rows; uint16: the bits of float16).

    `places` are those of a Grid; `settings` are the five scalars of a line, the margin, what lies outside, and the
    order: 1 linear, 0 nearest.
    """
    cdef Volume volume
    cdef Reading reading = _reading(places, settings)
    cdef Out target = _target(out)
    cdef Kind kind = _kind(&out[0, 0, 0])
    cdef int axis
    if hu.shape[0] * hu.shape[1] * hu.shape[2] == 0:
        raise ValueError("the volume is empty")
    volume.first = <const uint8_t*>&hu[0, 0, 0]
    for axis in range(3):
        volume.shape[axis] = hu.shape[axis]
        volume.stride_bytes[axis] = hu.strides[axis]
    with nogil:
        c_turn_volume(volume, sizeof(stored), reading, target, kind, portable)


def turn_patch(const unsigned char[::1] shard, const uint64_t[:, :, :, ::1] index, tuple layout,
               tuple grid, unsigned char[::1] room, voxel[:, :, :] out, bint portable=False):
    """Read a grid of voxels out of a shard into `out` (contiguous rows; uint16 takes the bits of float16).

    `layout` is that of `read_patch` with the fill value after it; `grid` is (places, settings) as `turn_volume` takes
    them; what is needed is decoded into `room`, at any place of it. Returns (number of the chunk, what is wrong with
    it); or the number of bytes that the room must have, where it has fewer; or None.
    """
    cdef Source source = _source(shard, index, layout[:3])
    cdef Reading reading = _reading(grid[0], grid[1])
    cdef Out target = _target(out)
    cdef Kind kind = _kind(&out[0, 0, 0])
    cdef Fault fault
    cdef int fill = layout[3]
    cdef size_t n_bytes = room_of(source, reading, target).voxels() * source.voxel_bytes
    cdef void* memory
    if <size_t>room.shape[0] < n_bytes:
        return n_bytes
    memory = &room[0]
    with nogil:
        fault = c_turn(source, reading, fill, memory, target, kind, portable)
    return as_told(fault)
