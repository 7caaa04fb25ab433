# ctpack chunks for Python: encode, inspect and decode one chunk, with the GIL released.
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer)
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
    cdef cppclass Source:
        Source()
    Source contiguous_source(const Shape& shape, size_t voxel_bytes, const uint8_t* voxels)
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


def encode(voxels, tuple shape, out, bint portable=False):
    """Encode voxels (aligned, C order) of a shape into `out`, with room for `bound`; return the length."""
    cdef Py_buffer source, target
    cdef Shape extent = _shape(shape)
    cdef Scratch scratch
    cdef size_t length
    PyObject_GetBuffer(voxels, &source, PyBUF_C_CONTIGUOUS)
    try:
        PyObject_GetBuffer(out, &target, PyBUF_WRITABLE)
        try:
            if source.itemsize > 2 or extent.voxels() * source.itemsize != <size_t>source.len:
                raise ValueError("the voxels are not of one or two bytes, or do not fill the shape")
            if <size_t>target.len < c_bound(extent, source.itemsize):
                raise ValueError("the output has less room than the bound")
            with nogil:
                length = c_encode(
                    contiguous_source(extent, source.itemsize, <const uint8_t*>source.buf),
                    <uint8_t*>target.buf, scratch, portable)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    return length


def inspect(chunk):
    """Prove a chunk: (bytes of a voxel, shape), or a sentence that says what is wrong with it."""
    cdef Py_buffer source
    cdef Chunk proven
    cdef Scratch scratch
    cdef const char* fault
    PyObject_GetBuffer(chunk, &source, PyBUF_SIMPLE)
    try:
        with nogil:
            fault = c_parse(<const uint8_t*>source.buf, source.len, proven, scratch)
    finally:
        PyBuffer_Release(&source)
    if fault != NULL:
        return fault.decode("ascii")
    return proven.voxel_bytes, tuple([proven.shape.extent[axis] for axis in range(proven.shape.axes)])


cdef const char* _decode(Py_buffer* source, Py_buffer* target, bint portable) except? NULL nogil:
    cdef Chunk proven
    cdef Scratch scratch
    cdef const char* fault = c_parse(<const uint8_t*>source.buf, source.len, proven, scratch)
    if fault == NULL:
        if (proven.voxel_bytes != target.itemsize
                or proven.shape.voxels() * proven.voxel_bytes != <size_t>target.len):
            return "its dtype and number of voxels are not those of the output"
        c_decode(proven, <uint8_t*>target.buf, scratch, portable)
    return fault


def decode(chunk, out, bint portable=False):
    """Decode a chunk into `out` (aligned, C order); return what is wrong, or None.

    `out` is not touched unless the chunk is sound and has as many voxels, of as many bytes.
    """
    cdef Py_buffer source, target
    cdef const char* fault
    PyObject_GetBuffer(chunk, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            with nogil:
                fault = _decode(&source, &target, portable)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    return None if fault == NULL else fault.decode("ascii")
