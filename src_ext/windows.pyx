# Box windows over masked slices: typed doors to windows.h.
# distutils: language = c++
"""Loops of fastct.kernels.cpu.masks: no checks, outputs are the caller's, the GIL is free."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint64_t


cdef extern from "windows.h" namespace "fastct" nogil:
    cdef cppclass MeanWindow:
        MeanWindow(ptrdiff_t rows, ptrdiff_t words, ptrdiff_t columns, int reach_y, int reach_x) except +
    cdef cppclass ShareWindow:
        ShareWindow(ptrdiff_t slices, ptrdiff_t rows, ptrdiff_t words, int reach_y, int reach_x) except +
        void run(const uint64_t* part, const uint64_t* whole, int tenths, uint64_t* out)
    void c_mean_histograms "fastct::mean_histograms"(
        MeanWindow& window, const char* hu, ptrdiff_t slice_stride, ptrdiff_t row_stride,
        ptrdiff_t pixel_stride, const uint64_t* mask, ptrdiff_t slices, ptrdiff_t rows, ptrdiff_t words,
        int32_t* counts)
    void c_means_above "fastct::means_above"(
        MeanWindow& window, const char* hu, ptrdiff_t slice_stride, ptrdiff_t row_stride,
        ptrdiff_t pixel_stride, const uint64_t* mask, ptrdiff_t slices, ptrdiff_t rows, ptrdiff_t words,
        const int16_t* levels, int n_levels, uint64_t* out)
    void c_count_masks "fastct::count_masks"(const uint8_t* lungs, const uint8_t* lesion, ptrdiff_t n,
                                             int64_t* counts)


def mean_histograms(const int16_t[:, :, :] hu, const uint64_t[:, :, ::1] mask, int reach_y, int reach_x,
                    int32_t[:, ::1] counts):
    cdef MeanWindow* window
    with nogil:
        window = new MeanWindow(mask.shape[1], mask.shape[2], hu.shape[2], reach_y, reach_x)
        c_mean_histograms(window[0], <const char*>&hu[0, 0, 0], hu.strides[0], hu.strides[1], hu.strides[2],
                     &mask[0, 0, 0], mask.shape[0], mask.shape[1], mask.shape[2], &counts[0, 0])
        del window


def means_above(const int16_t[:, :, :] hu, const uint64_t[:, :, ::1] mask, int reach_y, int reach_x,
                const int16_t[:, ::1] levels, uint64_t[:, :, :, ::1] out):
    cdef MeanWindow* window
    with nogil:
        window = new MeanWindow(mask.shape[1], mask.shape[2], hu.shape[2], reach_y, reach_x)
        c_means_above(window[0], <const char*>&hu[0, 0, 0], hu.strides[0], hu.strides[1], hu.strides[2],
                      &mask[0, 0, 0], mask.shape[0], mask.shape[1], mask.shape[2], &levels[0, 0],
                      <int>levels.shape[0], &out[0, 0, 0, 0])
        del window


def share(const uint64_t[:, :, ::1] part, const uint64_t[:, :, ::1] whole, int tenths, int reach_y,
          int reach_x, uint64_t[:, :, ::1] out):
    cdef ShareWindow* window
    with nogil:
        window = new ShareWindow(part.shape[0], part.shape[1], part.shape[2], reach_y, reach_x)
        window.run(&part[0, 0, 0], &whole[0, 0, 0], tenths, &out[0, 0, 0])
        del window


def count_masks(const uint8_t[::1] lungs, const uint8_t[::1] lesion, int64_t[::1] counts):
    with nogil:
        c_count_masks(&lungs[0], &lesion[0], lungs.shape[0], &counts[0])
