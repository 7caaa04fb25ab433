# Masks as bit rows, and their pieces as runs: typed doors to bitrows.h, runs.h, pieces.h and contours.h.
"""Loops of fastct.kernels.cpu.masks: no checks, outputs are the caller's, the GIL is free.

Runs are int32 (n, 3): from, to, piece. Tables are int64 (pieces, 7): see Measure in runs.h.
"""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.vector cimport vector

from scan cimport Scan, as_scan


cdef extern from "bitrows.h" namespace "fastct" nogil:
    void c_pack_below "fastct::pack_below"(const Scan& scan, const int16_t* levels, int n_levels,
                                           uint64_t* out)
    void dilate_slices "fastct::shape_slices<true>"(
        const uint64_t* source, uint64_t* to, ptrdiff_t slices, ptrdiff_t rows, ptrdiff_t words,
        const int32_t* half_width, int radius) except +
    void erode_slices "fastct::shape_slices<false>"(
        const uint64_t* source, uint64_t* to, ptrdiff_t slices, ptrdiff_t rows, ptrdiff_t words,
        const int32_t* half_width, int radius) except +
    int64_t count_bits(const uint64_t* words, ptrdiff_t n)
    void write_label(const uint64_t* mask, ptrdiff_t rows, ptrdiff_t words, ptrdiff_t columns, uint8_t label,
                     char* out, ptrdiff_t row_stride, ptrdiff_t pixel_stride)
    void pack_labels(const char* labels, ptrdiff_t row_stride, ptrdiff_t pixel_stride, ptrdiff_t rows,
                     ptrdiff_t columns, uint8_t label, uint64_t* out)

cdef extern from "runs.h" namespace "fastct" nogil:
    cdef struct Run:
        pass
    cdef struct Runs:
        pass
    cdef struct Measure:
        pass
    int64_t c_count_runs "fastct::count_runs"(const uint64_t* rows, ptrdiff_t n_rows, ptrdiff_t words)
    void c_find_runs "fastct::find_runs"(const uint64_t* rows, ptrdiff_t n_rows, ptrdiff_t words, Run* runs,
                                         int32_t* starts)
    int32_t label_slices(Run* runs, const int32_t* starts, ptrdiff_t slices, ptrdiff_t rows)
    int32_t label_volume(Run* runs, const int32_t* starts, ptrdiff_t slices, ptrdiff_t rows)
    void c_measure "fastct::measure"(const Runs& runs, Measure* table, int32_t pieces)
    void c_paint "fastct::paint"(const Runs& runs, const uint8_t* chosen, ptrdiff_t words, uint64_t* out)
    void c_count_inside "fastct::count_inside"(const Runs& runs, const uint64_t* mask, ptrdiff_t words,
                                               int64_t* counts)
    void c_column_counts "fastct::column_counts"(const uint64_t* rows, ptrdiff_t n_rows, ptrdiff_t words,
                                                 int64_t* counts) except +
    void fill_slices(uint64_t* mask, ptrdiff_t slices, ptrdiff_t rows, ptrdiff_t words) except +

cdef extern from "pieces.h" namespace "fastct" nogil:
    cdef struct Overlap:
        pass
    vector[Overlap] c_overlaps "fastct::overlaps"(const Runs& runs) except +
    void c_histograms "fastct::histograms"(const Runs& runs, const Scan& scan, int32_t* counts)
    cdef struct Shape:
        const int32_t* half_width
        int radius
    void c_count_rings "fastct::count_rings"(
        const Runs& runs, const Measure* table, int32_t n, const uint8_t* wanted, Shape inner, Shape outer,
        const uint64_t* mask, ptrdiff_t words, int64_t* counts) except +
    vector[Overlap] c_reach_down "fastct::reach_down"(
        const Runs& runs, const Measure* table, int32_t n, const uint8_t* wanted, Shape shape,
        ptrdiff_t words) except +

cdef extern from "contours.h" namespace "fastct" nogil:
    void hull_slices(const uint64_t* right, const uint64_t* left, ptrdiff_t slices, ptrdiff_t rows,
                     ptrdiff_t words, uint64_t* inside, uint64_t* chords) except +
    cdef struct Direction:
        pass
    void c_heights "fastct::heights"(const uint64_t* mask, ptrdiff_t slices, ptrdiff_t rows, ptrdiff_t words,
                                     const Direction* directions, ptrdiff_t n, int64_t* out)
    void c_draw_convex "fastct::draw_convex"(const int64_t* heights, ptrdiff_t slices, ptrdiff_t rows,
                                             ptrdiff_t words, const Direction* directions, ptrdiff_t n,
                                             uint64_t* out)
    void cut_slice(const Scan& scan, uint64_t* mask, int32_t y0, int32_t y1, int32_t x0,
                   const int32_t* drift, int32_t columns) except +

cdef extern from *:
    """
    static inline fastct::Runs as_runs(const int32_t* runs, const int32_t* starts, ptrdiff_t slices,
                                       ptrdiff_t n_starts) {
        return {reinterpret_cast<const fastct::Run*>(runs), starts, slices, (n_starts - 1) / slices};
    }
    """
    Runs as_runs(const int32_t* runs, const int32_t* starts, ptrdiff_t slices, ptrdiff_t n_starts) nogil


def pack_below(const int16_t[:, :, :] hu, const int16_t[::1] levels, uint64_t[:, :, :, ::1] out):
    with nogil:
        c_pack_below(as_scan(hu), &levels[0], <int>levels.shape[0], &out[0, 0, 0, 0])


def pack_label(const uint8_t[:, :, :] labels, uint8_t label, uint64_t[:, :, ::1] out):
    cdef ptrdiff_t z
    with nogil:
        for z in range(labels.shape[0]):
            pack_labels(<const char*>&labels[z, 0, 0], labels.strides[1], labels.strides[2], labels.shape[1],
                        labels.shape[2], label, &out[z, 0, 0])


def unpack_label(const uint64_t[:, :, ::1] mask, uint8_t label, uint8_t[:, :, :] out):
    cdef ptrdiff_t z
    with nogil:
        for z in range(mask.shape[0]):
            write_label(&mask[z, 0, 0], mask.shape[1], mask.shape[2], out.shape[2], label,
                        <char*>&out[z, 0, 0], out.strides[1], out.strides[2])


def dilate(const uint64_t[:, :, ::1] mask, const int32_t[::1] half_width, uint64_t[:, :, ::1] out):
    with nogil:
        dilate_slices(&mask[0, 0, 0], &out[0, 0, 0], mask.shape[0], mask.shape[1], mask.shape[2],
                      &half_width[0], <int>half_width.shape[0] - 1)


def erode(const uint64_t[:, :, ::1] mask, const int32_t[::1] half_width, uint64_t[:, :, ::1] out):
    with nogil:
        erode_slices(&mask[0, 0, 0], &out[0, 0, 0], mask.shape[0], mask.shape[1], mask.shape[2],
                     &half_width[0], <int>half_width.shape[0] - 1)


def count(const uint64_t[:, :, ::1] mask, int64_t[::1] out):
    cdef ptrdiff_t z
    with nogil:
        for z in range(mask.shape[0]):
            out[z] = count_bits(&mask[z, 0, 0], mask.shape[1] * mask.shape[2])


def column_counts(const uint64_t[:, :, ::1] mask, int64_t[::1] out):
    with nogil:
        c_column_counts(&mask[0, 0, 0], mask.shape[0] * mask.shape[1], mask.shape[2], &out[0])


def fill_holes(uint64_t[:, :, ::1] mask):
    with nogil:
        fill_slices(&mask[0, 0, 0], mask.shape[0], mask.shape[1], mask.shape[2])


def count_runs(const uint64_t[:, :, ::1] mask):
    cdef int64_t n
    with nogil:
        n = c_count_runs(&mask[0, 0, 0], mask.shape[0] * mask.shape[1], mask.shape[2])
    return n


def find_runs(const uint64_t[:, :, ::1] mask, int32_t[:, ::1] runs, int32_t[::1] starts):
    with nogil:
        c_find_runs(&mask[0, 0, 0], mask.shape[0] * mask.shape[1], mask.shape[2], <Run*>&runs[0, 0], &starts[0])


def label(int32_t[:, ::1] runs, const int32_t[::1] starts, ptrdiff_t slices, cbool through):
    cdef ptrdiff_t rows = (starts.shape[0] - 1) // slices
    cdef int32_t n
    with nogil:
        if through:
            n = label_volume(<Run*>&runs[0, 0], &starts[0], slices, rows)
        else:
            n = label_slices(<Run*>&runs[0, 0], &starts[0], slices, rows)
    return n


def measure(const int32_t[:, ::1] runs, const int32_t[::1] starts, ptrdiff_t slices, int64_t[:, ::1] table):
    with nogil:
        c_measure(as_runs(&runs[0, 0], &starts[0], slices, starts.shape[0]), <Measure*>&table[0, 0],
                  <int32_t>table.shape[0])


def paint(const int32_t[:, ::1] runs, const int32_t[::1] starts, const uint8_t[::1] chosen,
          uint64_t[:, :, ::1] out):
    with nogil:
        c_paint(as_runs(&runs[0, 0], &starts[0], out.shape[0], starts.shape[0]), &chosen[0], out.shape[2],
                &out[0, 0, 0])


def count_inside(const int32_t[:, ::1] runs, const int32_t[::1] starts, const uint64_t[:, :, ::1] mask,
                 int64_t[::1] counts):
    with nogil:
        c_count_inside(as_runs(&runs[0, 0], &starts[0], mask.shape[0], starts.shape[0]), &mask[0, 0, 0],
                       mask.shape[2], &counts[0])


def histograms(const int32_t[:, ::1] runs, const int32_t[::1] starts, const int16_t[:, :, :] hu,
               int32_t[:, ::1] counts):
    with nogil:
        c_histograms(as_runs(&runs[0, 0], &starts[0], hu.shape[0], starts.shape[0]), as_scan(hu), &counts[0, 0])


cdef bytes overlap_bytes(vector[Overlap]& found):
    """The overlaps as they lie in memory: int32 upper, int32 lower, int64 pixels."""
    return (<char*>found.data())[:found.size() * sizeof(Overlap)] if found.size() else b""


def overlaps(const int32_t[:, ::1] runs, const int32_t[::1] starts, ptrdiff_t slices):
    cdef vector[Overlap] found
    with nogil:
        found = c_overlaps(as_runs(&runs[0, 0], &starts[0], slices, starts.shape[0]))
    return overlap_bytes(found)


def count_rings(tuple pieces, const uint8_t[::1] wanted, tuple shapes, const uint64_t[:, :, ::1] mask,
                int64_t[:, ::1] counts):
    cdef const int32_t[:, ::1] runs = pieces[0]
    cdef const int32_t[::1] starts = pieces[1]
    cdef const int64_t[:, ::1] table = pieces[2]
    cdef const int32_t[::1] inner = shapes[0]
    cdef const int32_t[::1] outer = shapes[1]
    with nogil:
        c_count_rings(as_runs(&runs[0, 0], &starts[0], mask.shape[0], starts.shape[0]),
                      <const Measure*>&table[0, 0], <int32_t>table.shape[0], &wanted[0],
                      Shape(&inner[0], <int>inner.shape[0] - 1), Shape(&outer[0], <int>outer.shape[0] - 1),
                      &mask[0, 0, 0], mask.shape[2], &counts[0, 0])


def reach_down(tuple pieces, const uint8_t[::1] wanted, const int32_t[::1] half_width, ptrdiff_t slices,
               ptrdiff_t words):
    cdef const int32_t[:, ::1] runs = pieces[0]
    cdef const int32_t[::1] starts = pieces[1]
    cdef const int64_t[:, ::1] table = pieces[2]
    cdef vector[Overlap] found
    with nogil:
        found = c_reach_down(as_runs(&runs[0, 0], &starts[0], slices, starts.shape[0]),
                             <const Measure*>&table[0, 0], <int32_t>table.shape[0], &wanted[0],
                             Shape(&half_width[0], <int>half_width.shape[0] - 1), words)
    return overlap_bytes(found)


def hull(const uint64_t[:, :, ::1] right, const uint64_t[:, :, ::1] left, uint64_t[:, :, ::1] inside,
         uint64_t[:, :, ::1] chords):
    with nogil:
        hull_slices(&right[0, 0, 0], &left[0, 0, 0], right.shape[0], right.shape[1], right.shape[2],
                    &inside[0, 0, 0], &chords[0, 0, 0])


def heights(const uint64_t[:, :, ::1] mask, const int32_t[:, ::1] directions, int64_t[:, ::1] out):
    with nogil:
        c_heights(&mask[0, 0, 0], mask.shape[0], mask.shape[1], mask.shape[2],
                  <const Direction*>&directions[0, 0], directions.shape[0], &out[0, 0])


def draw_convex(const int64_t[:, ::1] heights, const int32_t[:, ::1] directions, uint64_t[:, :, ::1] out):
    with nogil:
        c_draw_convex(&heights[0, 0], out.shape[0], out.shape[1], out.shape[2],
                      <const Direction*>&directions[0, 0], directions.shape[0], &out[0, 0, 0])


def cut(const int16_t[:, :, :] hu, uint64_t[:, :, ::1] mask, int32_t y0, int32_t y1, int32_t x0,
        const int32_t[::1] drift):
    with nogil:
        cut_slice(as_scan(hu), &mask[0, 0, 0], y0, y1, x0, &drift[0], <int32_t>drift.shape[0])
