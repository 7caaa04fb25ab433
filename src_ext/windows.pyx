# Box windows over masked slices: typed doors to windows.h.
"""Loops of fastct.kernels.cpu.masks: no checks, outputs are the caller's, the GIL is free."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int16_t, int32_t, uint64_t

from scan cimport Scan, as_scan


cdef extern from "windows.h" namespace "fastct" nogil:
    void c_mean_histograms "fastct::mean_histograms"(const Scan& scan, const uint64_t* mask, int reach_y,
                                                     int reach_x, int32_t* counts) except +
    void c_means_above "fastct::means_above"(const Scan& scan, const uint64_t* mask, int reach_y, int reach_x,
                                             const int16_t* levels, int n_levels, uint64_t* out) except +
    void c_share_above "fastct::share_above"(const uint64_t* part, const uint64_t* whole, ptrdiff_t slices,
                                             ptrdiff_t rows, ptrdiff_t words, int tenths, int reach_y,
                                             int reach_x, uint64_t* out) except +


def mean_histograms(const int16_t[:, :, :] hu, const uint64_t[:, :, ::1] mask, int reach_y, int reach_x,
                    int32_t[:, ::1] counts):
    with nogil:
        c_mean_histograms(as_scan(hu), &mask[0, 0, 0], reach_y, reach_x, &counts[0, 0])


def means_above(const int16_t[:, :, :] hu, const uint64_t[:, :, ::1] mask, int reach_y, int reach_x,
                const int16_t[:, ::1] levels, uint64_t[:, :, :, ::1] out):
    with nogil:
        c_means_above(as_scan(hu), &mask[0, 0, 0], reach_y, reach_x, &levels[0, 0], <int>levels.shape[0],
                      &out[0, 0, 0, 0])


def share(const uint64_t[:, :, ::1] part, const uint64_t[:, :, ::1] whole, int tenths, int reach_y,
          int reach_x, uint64_t[:, :, ::1] out):
    with nogil:
        c_share_above(&part[0, 0, 0], &whole[0, 0, 0], part.shape[0], part.shape[1], part.shape[2], tenths,
                      reach_y, reach_x, &out[0, 0, 0])
