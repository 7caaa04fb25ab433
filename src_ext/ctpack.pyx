# ctpack chunks for Python: encode, inspect and decode one chunk, with the GIL released.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "ctpack.h" namespace "ctpack" nogil:
    cdef cppclass Shape:
        Shape()
        uint32_t axes
        uint32_t* extent
        uint64_t voxels()
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
    size_t c_encode "ctpack::encode"(const Source& source, uint8_t* out, Scratch& scratch, bint portable) except +
    const char* c_parse "ctpack::parse"(const uint8_t* p, size_t n, Chunk& chunk, Scratch& scratch) except +
    void c_decode "ctpack::decode_whole"(const Chunk& chunk, uint8_t* out, Scratch& scratch, bint portable) except +
    bint c_has_avx2 "ctpack::has_avx2"()


cdef Shape _shape(tuple shape) except *:
    cdef Shape result
    cdef Py_ssize_t axis
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


def encode(const unsigned char[::1] voxels, tuple shape, size_t voxel_bytes, unsigned char[::1] out, bint portable=False):
    """Encode voxels (C order, aligned) into `out`, which has room for `bound`; return the length."""
    cdef Source source
    cdef Scratch scratch
    cdef uint8_t* target = &out[0]
    cdef size_t length
    source.shape = _shape(shape)
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


def decode(const unsigned char[::1] chunk, unsigned char[::1] out, bint portable=False):
    """Decode a chunk into `out` (aligned); return what is wrong with it, or None.

    `out` is as long as the voxels that `inspect` found; it is not touched where the chunk is malformed.
    """
    cdef Chunk proven
    cdef Scratch scratch
    cdef const char* fault
    cdef const uint8_t* start = &chunk[0] if chunk.shape[0] else NULL
    cdef uint8_t* target = &out[0] if out.shape[0] else NULL
    cdef size_t n_bytes = chunk.shape[0], room = out.shape[0]
    with nogil:
        fault = c_parse(start, n_bytes, proven, scratch)
        if fault == NULL and proven.shape.voxels() * proven.voxel_bytes != room:
            fault = "its voxels do not fill the output"
        if fault == NULL:
            c_decode(proven, target, scratch, portable)
    return None if fault == NULL else fault.decode("ascii")
