# ctpack chunks for Python: encode, inspect and decode one chunk, with the GIL released.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "ctpack.h" namespace "ctpack" nogil:
    cdef cppclass Shape:
        Shape()
        uint32_t axes
        uint32_t* extent
        uint64_t voxels()
    const size_t MAX_AXES
    cdef cppclass Scratch:
        Scratch()
    cdef cppclass Chunk:
        Chunk()
        Shape shape
        uint8_t voxel_bytes
    cdef struct Source:
        Shape shape
        size_t voxel_bytes
        const uint8_t* voxels
    size_t c_bound "ctpack::bound"(const Shape& shape, size_t voxel_bytes)
    size_t c_encode "ctpack::encode"(
        const Source& source, uint8_t* out, Scratch& scratch, bint portable) except +
    const char* c_parse "ctpack::parse"(
        const uint8_t* p, size_t n, Chunk& chunk, Scratch& scratch) except +
    void c_decode "ctpack::decode_whole"(
        const Chunk& chunk, uint8_t* out, Scratch& scratch, bint portable) except +
    bint c_has_avx2 "ctpack::has_avx2"()


cdef Shape _shape(tuple shape) except *:
    cdef Shape result
    cdef Py_ssize_t axis
    if <size_t>len(shape) > MAX_AXES:
        raise ValueError("a chunk has more than 32 axes")
    result.axes = <uint32_t>len(shape)
    for axis in range(len(shape)):
        result.extent[axis] = shape[axis]
    return result


def has_avx2():
    """Whether this processor runs the AVX2 twin."""
    return c_has_avx2()


def bound(tuple shape, size_t voxel_bytes):
    """The most bytes that a chunk of this shape can take."""
    return c_bound(_shape(shape), voxel_bytes)


def encode(const unsigned char[::1] voxels, tuple shape, size_t voxel_bytes, unsigned char[::1] out,
           bint portable=False):
    """Encode voxels (C order, aligned) into `out`, which has room for `bound`; return the length."""
    cdef Source source
    cdef Scratch scratch
    cdef uint8_t* target = &out[0]
    cdef size_t length
    source.shape = _shape(shape)
    if source.shape.voxels() * voxel_bytes != <size_t>voxels.shape[0]:
        raise ValueError("the voxels do not fill the shape")
    if <size_t>out.shape[0] < c_bound(source.shape, voxel_bytes):
        raise ValueError("the output has less room than the bound")
    source.voxel_bytes = voxel_bytes
    source.voxels = &voxels[0] if voxels.shape[0] else NULL
    with nogil:
        length = c_encode(source, target, scratch, portable)
    return length


def inspect(const unsigned char[::1] chunk):
    """Prove a chunk: (bytes of a voxel, shape), or a sentence that says what is wrong with it."""
    cdef Chunk proven
    cdef Scratch scratch
    cdef const char* fault
    cdef const uint8_t* start = &chunk[0] if chunk.shape[0] else NULL
    cdef size_t n_bytes = chunk.shape[0]
    with nogil:
        fault = c_parse(start, n_bytes, proven, scratch)
    if fault != NULL:
        return fault.decode("ascii")
    return proven.voxel_bytes, tuple([proven.shape.extent[axis] for axis in range(proven.shape.axes)])


def decode(const unsigned char[::1] chunk, unsigned char[::1] out, size_t voxel_bytes, bint portable=False):
    """Decode a chunk into `out` (aligned to its voxels); return what is wrong, or None.

    `out` is not touched unless the chunk is sound, of that many bytes a voxel, and fills it.
    """
    cdef Chunk proven
    cdef Scratch scratch
    cdef const char* fault
    cdef const uint8_t* start = &chunk[0] if chunk.shape[0] else NULL
    cdef uint8_t* target = &out[0] if out.shape[0] else NULL
    cdef size_t n_bytes = chunk.shape[0], room = out.shape[0]
    with nogil:
        fault = c_parse(start, n_bytes, proven, scratch)
        if fault == NULL and (
                proven.voxel_bytes != voxel_bytes or proven.shape.voxels() * voxel_bytes != room):
            fault = "its dtype and number of voxels are not those of the output"
        if fault == NULL:
            c_decode(proven, target, scratch, portable)
    return None if fault == NULL else fault.decode("ascii")
