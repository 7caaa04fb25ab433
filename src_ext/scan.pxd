# A volume of HU at any strides, as C++ sees it (bitrows.h).
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int16_t


cdef extern from "bitrows.h" namespace "fastct" nogil:
    cdef struct Scan:
        const char* hu
        ptrdiff_t slice_stride, row_stride, pixel_stride, slices, rows, columns


cdef inline Scan as_scan(const int16_t[:, :, :] hu) noexcept nogil:
    return Scan(<const char*>&hu[0, 0, 0], hu.strides[0], hu.strides[1], hu.strides[2], hu.shape[0], hu.shape[1],
                hu.shape[2])
