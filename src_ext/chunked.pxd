# A shard of chunks and what may be wrong with one of them, as C++ sees them (shard.h).
from libc.stdint cimport uint8_t, uint64_t


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


cdef inline Shard as_shard(const unsigned char[::1] shard, const uint64_t[:, :, :, ::1] index,
                           tuple chunk_shape) except *:
    cdef Shard source
    cdef int axis
    if index.shape[3] != 2:
        raise ValueError("the index has no pairs")
    source.bytes = &shard[0] if shard.shape[0] else NULL
    source.n_bytes = shard.shape[0]
    source.index = <const Entry*>&index[0, 0, 0, 0]
    for axis in range(3):
        source.grid.count[axis] = index.shape[axis]
        source.grid.chunk[axis] = chunk_shape[axis]
    return source


cdef inline object as_told(Fault fault):
    """(number of the chunk, what is wrong with it), or None."""
    return None if fault.finding == NULL else (fault.chunk, fault.finding.decode("ascii"))
