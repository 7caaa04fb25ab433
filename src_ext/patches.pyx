# Patches out of shards of ctpack chunks, mapped and in place: one call a patch, with the GIL released.
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint64_t

cdef extern from "shard.h" namespace "shard" nogil:
    cdef struct Entry:
        uint64_t offset
        uint64_t n_bytes
    cdef struct Grid:
        size_t* count
        size_t* chunk
    cdef struct Shard:
        const uint8_t* bytes
        size_t n_bytes
        const Entry* index
        Grid grid
    cdef struct Fault:
        size_t chunk
        const char* finding

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
    cdef cppclass Box:
        Box()
        const float* voxels
        int64_t* shape
    cdef cppclass Turn "turning::Grid":
        Turn()
        int64_t[4]* places
        int64_t margin
        float outside
    cdef cppclass Out:
        Out()
        uint8_t* first
        int64_t* shape
        ptrdiff_t plane_bytes
        ptrdiff_t row_bytes
    void c_turn "turning::read"(const Box& box, const Turn& turn, const Out& out, Kind kind, bint portable) except +

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

ctypedef fused voxel:
    float
    uint16_t
    uint8_t
    int16_t


cdef Source _source(const unsigned char[::1] shard, const uint64_t[:, :, :, ::1] index, tuple layout) except *:
    cdef Source source
    cdef int axis
    shape, chunk_shape, voxel_bytes = layout
    source.shard.bytes = &shard[0] if shard.shape[0] else NULL
    source.shard.n_bytes = shard.shape[0]
    source.shard.index = <const Entry*>&index[0, 0, 0, 0]
    source.voxel_bytes = voxel_bytes
    for axis in range(3):
        source.volume[axis] = shape[axis]
        source.shard.grid.count[axis] = index.shape[axis]
        source.shard.grid.chunk[axis] = chunk_shape[axis]
        if index.shape[axis] * <Py_ssize_t>chunk_shape[axis] < <Py_ssize_t>shape[axis] or index.shape[3] != 2:
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
    return None if fault.finding == NULL else (fault.chunk, fault.finding.decode("ascii"))


def turn_patch(const float[::1] room, tuple shape, const int64_t[:, ::1] places, tuple edges, voxel[:, :, :] out,
               bint portable=False):
    """Read a box of voxels trilinearly on a grid, into `out` (contiguous rows; uint16 takes the bits of float16).

    The box of that shape begins `room`, which holds a plane, a row and two voxels more, all of them finite.
    `places` are those of a Grid, counted from the box's first voxel; `edges` are its margin, and what lies outside.
    """
    cdef Box box
    cdef Turn turn
    cdef Out to
    cdef Kind kind
    cdef int axis, column
    depth, height, width = shape
    if room.shape[0] < (depth + 1) * height * width + width + 2 or places.shape[0] != 3 or places.shape[1] != 4:
        raise ValueError("the memory does not hold the box and what may be read beyond it, or the places are not a grid's")
    if out.shape[0] * out.shape[1] * out.shape[2] == 0 or (out.shape[2] > 1 and out.strides[2] != sizeof(voxel)):
        raise ValueError("the output is empty, or its rows are not contiguous")
    if room.shape[0] >= 2**31:
        raise ValueError("the box holds 2^31 voxels or more")
    box.voxels = &room[0]
    for axis in range(3):
        box.shape[axis] = shape[axis]
        to.shape[axis] = out.shape[axis]
        for column in range(4):
            turn.places[axis][column] = places[axis, column]
    turn.margin, turn.outside = edges
    to.first = <uint8_t*>&out[0, 0, 0]
    to.plane_bytes = out.strides[0]
    to.row_bytes = out.strides[1]
    kind = _kind(&out[0, 0, 0])
    with nogil:
        c_turn(box, turn, to, kind, portable)
