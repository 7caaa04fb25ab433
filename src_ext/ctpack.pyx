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
    cdef cppclass Kernels:
        pass
    cdef cppclass Twin:
        const char* name
        const Kernels* kernels
    cdef cppclass Twins:
        const Twin* of_ "of"
        size_t count
    const Twins TWINS
    size_t c_encode "ctpack::encode"(
        const Source& source, uint8_t* out, Scratch& scratch, const Kernels& kernels) except +
    const char* c_parse "ctpack::parse"(
        const uint8_t* p, size_t n, Chunk& chunk, Scratch& scratch) except +
    void c_decode "ctpack::decode_whole"(
        const Chunk& chunk, uint8_t* out, Scratch& scratch, const Kernels& kernels) except +


cdef Shape _shape(tuple shape) except *:
    cdef Shape result
    cdef Py_ssize_t axis
    if <size_t>len(shape) > MAX_AXES:
        raise ValueError("a chunk has more than 32 axes")
    result.axes = <uint32_t>len(shape)
    for axis in range(len(shape)):
        result.extent[axis] = shape[axis]
    return result


def twins():
    """Names of the twins that this processor runs, the plain one first and the fastest last."""
    return tuple([TWINS.of_[k].name.decode("ascii") for k in range(TWINS.count)])


cdef const Kernels* _kernels(int twin) except NULL:
    cdef int count = <int>TWINS.count
    if not -count <= twin < count:
        raise ValueError(f"this processor runs {count} twins")
    return TWINS.of_[twin + count if twin < 0 else twin].kernels


def bound(tuple shape, size_t voxel_bytes):
    """The most bytes that a chunk of this shape can take."""
    return c_bound(_shape(shape), voxel_bytes)


def encode(voxels, tuple shape, out, int twin=-1):
    """Encode voxels (aligned, C order) of a shape into `out`, with room for `bound`; return the length.

    `twin` counts in `twins()`.
    """
    cdef const Kernels* kernels = _kernels(twin)
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
                    <uint8_t*>target.buf, scratch, kernels[0])
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


cdef const char* _decode(Py_buffer* source, Py_buffer* target, const Kernels* kernels) except? NULL nogil:
    cdef Chunk proven
    cdef Scratch scratch
    cdef const char* fault = c_parse(<const uint8_t*>source.buf, source.len, proven, scratch)
    if fault == NULL:
        if (proven.voxel_bytes != target.itemsize
                or proven.shape.voxels() * proven.voxel_bytes != <size_t>target.len):
            return "its dtype and number of voxels are not those of the output"
        c_decode(proven, <uint8_t*>target.buf, scratch, kernels[0])
    return fault


def decode(chunk, out, int twin=-1):
    """Decode a chunk into `out` (aligned, C order); return what is wrong, or None.

    `out` is not touched unless the chunk is sound and has as many voxels, of as many bytes.
    `twin` counts in `twins()`.
    """
    cdef const Kernels* kernels = _kernels(twin)
    cdef Py_buffer source, target
    cdef const char* fault
    PyObject_GetBuffer(chunk, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &target, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        try:
            with nogil:
                fault = _decode(&source, &target, kernels)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    return None if fault == NULL else fault.decode("ascii")
