# Lungs seen from the front: typed doors to views.h.
"""The loop of fastct.kernels.cpu.views: no checks, outputs are the caller's, the GIL is free."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t

cdef extern from "views.h" namespace "fastct" nogil:
    cdef struct Chest:
        const int16_t* hu
        const uint8_t* lungs
        const uint8_t* lesion
        ptrdiff_t slices, rows, columns
    cdef struct Tally:
        int64_t* slices
        int64_t* rows
        int64_t* columns
    cdef struct Front:
        int16_t* brightest
        int16_t* darkest
        uint8_t* outline
        uint8_t* shadow

cdef extern from *:
    """
    static inline void see_lungs(const fastct::Chest& chest, const fastct::Front& front, const int* rim,
                                 int32_t low_hu, int32_t bins, const fastct::Tally* tallies, int64_t* counts) {
        fastct::LungViews(chest, front, rim[0], rim[1], low_hu, bins).run(tallies[0], tallies[1], counts, bins);
    }
    """
    void see_lungs(const Chest& chest, const Front& front, const int* rim, int32_t low_hu, int32_t bins,
                   const Tally* tallies, int64_t* counts) except + nogil


cdef Tally as_tally(tuple arrays) except *:
    cdef int64_t[::1] slices = arrays[0]
    cdef int64_t[::1] rows = arrays[1]
    cdef int64_t[::1] columns = arrays[2]
    return Tally(&slices[0], &rows[0], &columns[0])


def lung_views(tuple chest, tuple rim, int32_t low_hu, tuple pictures, int64_t[:, ::1] counts, tuple tallies):
    """`chest`: hu, lungs, lesion, none of them empty; `pictures`: brightest, darkest, outline, shadow."""
    cdef const int16_t[:, :, ::1] hu = chest[0]
    cdef const uint8_t[:, :, ::1] lungs = chest[1]
    cdef const uint8_t[:, :, ::1] lesion = chest[2]
    cdef int16_t[:, ::1] brightest = pictures[0]
    cdef int16_t[:, ::1] darkest = pictures[1]
    cdef uint8_t[:, ::1] outline = pictures[2]
    cdef uint8_t[:, ::1] shadow = pictures[3]
    cdef Chest source = Chest(&hu[0, 0, 0], &lungs[0, 0, 0], &lesion[0, 0, 0], hu.shape[0], hu.shape[1], hu.shape[2])
    cdef Front front = Front(&brightest[0, 0], &darkest[0, 0], &outline[0, 0], &shadow[0, 0])
    cdef Tally[2] places
    cdef int[2] reach
    places[0], places[1] = as_tally(tallies[0]), as_tally(tallies[1])
    reach[0], reach[1] = rim
    with nogil:
        see_lungs(source, front, reach, low_hu, <int32_t>counts.shape[1], places, &counts[0, 0])
