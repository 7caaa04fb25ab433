// Runs of bit rows, their connected pieces, and what pieces measure.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "bitrows.h"

namespace fastct {

// How many runs the rows hold: every set pixel whose left neighbour is not set starts one.
FASTCT_WIDE inline std::int64_t count_runs(const word* rows, std::ptrdiff_t n_rows, std::ptrdiff_t words) {
    std::int64_t n = 0;
    for (std::ptrdiff_t y = 0; y < n_rows; ++y) {
        word before = 0;
        for (std::ptrdiff_t w = 0; w < words; ++w) {
            const word now = rows[y * words + w];
            n += __builtin_popcountll(now & ~(now << 1 | before));
            before = now >> (WORD_BITS - 1);
        }
    }
    return n;
}

// The runs of one row as pairs of ends (from, to), to excluded; returns how many ends were written.
inline std::ptrdiff_t row_ends(const word* row, std::ptrdiff_t words, std::int32_t* ends) {
    std::ptrdiff_t n = 0;
    word before = 0;
    for (std::ptrdiff_t w = 0; w < words; ++w) {
        word edges = row[w] ^ (row[w] << 1 | before);
        before = row[w] >> (WORD_BITS - 1);
        for (; edges; edges &= edges - 1)
            ends[n++] = static_cast<std::int32_t>(w * WORD_BITS + __builtin_ctzll(edges));
    }
    if (before) ends[n++] = static_cast<std::int32_t>(words * WORD_BITS);
    return n;
}

// All runs, row by row: spans[2 i], spans[2 i + 1] are the ends of run i; starts[y] .. starts[y + 1] the runs
// of row y. `spans` must hold count_runs() pairs.
inline void find_runs(const word* rows, std::ptrdiff_t n_rows, std::ptrdiff_t words, std::int32_t* spans,
                      std::int32_t* starts) {
    std::ptrdiff_t n = 0;
    starts[0] = 0;
    for (std::ptrdiff_t y = 0; y < n_rows; ++y) {
        n += row_ends(rows + y * words, words, spans + n);
        starts[y + 1] = static_cast<std::int32_t>(n / 2);
    }
}

// Disjoint sets of runs; the root of a set is its first run.
inline std::int32_t find_root(std::int32_t* parent, std::int32_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

inline void join_sets(std::int32_t* parent, std::int32_t i, std::int32_t j) {
    i = find_root(parent, i);
    j = find_root(parent, j);
    if (i < j) parent[j] = i;
    else parent[i] = j;
}

// Joins the runs of two rows that share a column, or, with reach 1, that touch at a corner.
inline void join_rows(const std::int32_t* spans, std::int32_t* parent, std::int32_t i, std::int32_t i_stop,
                      std::int32_t j, std::int32_t j_stop, std::int32_t reach) {
    while (i < i_stop && j < j_stop) {
        if (spans[2 * i] < spans[2 * j + 1] + reach && spans[2 * j] < spans[2 * i + 1] + reach)
            join_sets(parent, i, j);
        if (spans[2 * i + 1] < spans[2 * j + 1]) ++i;
        else ++j;
    }
}

// Numbers the sets 0, 1, 2, ... in the order of their first runs; returns how many there are.
inline std::int32_t number_sets(std::int32_t* parent, std::int32_t first, std::int32_t stop,
                                std::int32_t number) {
    // Every run points to itself (a root) or to an earlier run, whose entry has become its number by then.
    for (std::int32_t i = first; i < stop; ++i) parent[i] = parent[i] == i ? ~number++ : parent[parent[i]];
    for (std::int32_t i = first; i < stop; ++i) parent[i] = ~parent[i];
    return number;
}

// Pieces of every slice for itself (4-connected); piece[i] becomes the number of run i's piece.
inline std::int32_t label_slices(const std::int32_t* spans, const std::int32_t* starts, std::ptrdiff_t slices,
                                 std::ptrdiff_t rows, std::int32_t* piece) {
    std::int32_t n = 0;
    for (std::ptrdiff_t z = 0; z < slices; ++z) {
        const std::int32_t* at = starts + z * rows;
        for (std::int32_t i = at[0]; i < at[rows]; ++i) piece[i] = i;
        for (std::ptrdiff_t y = 1; y < rows; ++y)
            join_rows(spans, piece, at[y - 1], at[y], at[y], at[y + 1], 0);
        n = number_sets(piece, at[0], at[rows], n);
    }
    return n;
}

// Bodies through all slices (26-connected).
inline std::int32_t label_volume(const std::int32_t* spans, const std::int32_t* starts, std::ptrdiff_t slices,
                                 std::ptrdiff_t rows, std::int32_t* piece) {
    const std::int32_t total = starts[slices * rows];
    for (std::int32_t i = 0; i < total; ++i) piece[i] = i;
    for (std::ptrdiff_t z = 0; z < slices; ++z)
        for (std::ptrdiff_t y = 0; y < rows; ++y) {
            const std::int32_t* at = starts + z * rows + y;
            if (at[0] == at[1]) continue;
            if (y) join_rows(spans, piece, at[-1], at[0], at[0], at[1], 1);
            if (!z) continue;
            for (std::ptrdiff_t v = y ? y - 1 : 0; v < rows && v <= y + 1; ++v) {
                const std::int32_t* below = starts + (z - 1) * rows + v;
                join_rows(spans, piece, below[0], below[1], at[0], at[1], 1);
            }
        }
    return number_sets(piece, 0, total, 0);
}

enum Column { Z, AREA, Y0, Y1, X0, X1, X_SUM, COLUMNS };

// One row a piece: first slice, area in pixels, box (ends excluded), sum of twice the x of its pixels.
inline void measure(const std::int32_t* spans, const std::int32_t* starts, const std::int32_t* piece,
                    std::ptrdiff_t slices, std::ptrdiff_t rows, std::int64_t* table, std::int32_t pieces) {
    for (std::int32_t p = 0; p < pieces; ++p) {
        const std::int64_t fresh[COLUMNS] = {-1, 0, rows, 0, INT32_MAX, 0, 0};
        std::copy(fresh, fresh + COLUMNS, table + p * COLUMNS);
    }
    for (std::ptrdiff_t z = 0; z < slices; ++z)
        for (std::ptrdiff_t y = 0; y < rows; ++y)
            for (std::int32_t i = starts[z * rows + y]; i < starts[z * rows + y + 1]; ++i) {
                const std::int64_t x0 = spans[2 * i], x1 = spans[2 * i + 1];
                std::int64_t* t = table + piece[i] * COLUMNS;
                if (t[Z] < 0) t[Z] = z;
                t[AREA] += x1 - x0;
                t[Y0] = std::min<std::int64_t>(t[Y0], y);
                t[Y1] = std::max<std::int64_t>(t[Y1], y + 1);
                t[X0] = std::min(t[X0], x0);
                t[X1] = std::max(t[X1], x1);
                t[X_SUM] += (x1 - x0) * (x1 + x0 - 1);
            }
}

// Sets the pixels of the chosen pieces.
inline void paint(const std::int32_t* spans, const std::int32_t* starts, const std::int32_t* piece,
                  const std::uint8_t* chosen, std::ptrdiff_t n_rows, std::ptrdiff_t words, word* out) {
    for (std::ptrdiff_t y = 0; y < n_rows; ++y)
        for (std::int32_t i = starts[y]; i < starts[y + 1]; ++i)
            if (chosen[piece[i]])
                for_span(spans[2 * i], spans[2 * i + 1],
                         [&](std::int32_t w, word mask) { out[y * words + w] |= mask; });
}

// How many pixels of each piece are set in another mask of the same frame.
FASTCT_WIDE inline void count_inside(const std::int32_t* spans, const std::int32_t* starts,
                                     const std::int32_t* piece, std::ptrdiff_t n_rows, std::ptrdiff_t words,
                                     const word* mask, std::int64_t* counts) {
    for (std::ptrdiff_t y = 0; y < n_rows; ++y)
        for (std::int32_t i = starts[y]; i < starts[y + 1]; ++i) {
            const std::int32_t x0 = spans[2 * i], x1 = spans[2 * i + 1];
            const std::int32_t first = x0 / WORD_BITS, last = (x1 - 1) / WORD_BITS;
            std::int64_t n = 0;
            for (std::int32_t w = first; w <= last; ++w) {
                word part = mask[y * words + w];
                if (w == first) part &= ~word{0} << x0 % WORD_BITS;
                if (w == last) part &= ~word{0} >> (WORD_BITS - 1 - (x1 - 1) % WORD_BITS);
                n += __builtin_popcountll(part);
            }
            counts[piece[i]] += n;
        }
}

constexpr int BINS = 128, BIN_HU = 8, BIN_FLOOR_HU = -1024, BORDER = 2;

// HU histograms of pieces without the ends of their runs, which hold partial volume.
inline void histograms(const char* hu, std::ptrdiff_t slice_stride, std::ptrdiff_t row_stride,
                       std::ptrdiff_t pixel_stride, const std::int32_t* spans, const std::int32_t* starts,
                       const std::int32_t* piece, std::ptrdiff_t slices, std::ptrdiff_t rows,
                       std::ptrdiff_t columns, std::int32_t* counts) {
    for (std::ptrdiff_t z = 0; z < slices; ++z)
        for (std::ptrdiff_t y = 0; y < rows; ++y) {
            const char* row = hu + z * slice_stride + y * row_stride;
            for (std::int32_t i = starts[z * rows + y]; i < starts[z * rows + y + 1]; ++i) {
                const std::int32_t border = std::min(BORDER, (spans[2 * i + 1] - spans[2 * i] - 1) / 2);
                std::int32_t* bins = counts + static_cast<std::ptrdiff_t>(piece[i]) * BINS;
                const std::int32_t stop = std::min<std::int32_t>(spans[2 * i + 1] - border, columns);
                for (std::int32_t x = spans[2 * i] + border; x < stop; ++x) {
                    std::int16_t value;
                    std::memcpy(&value, row + x * pixel_stride, sizeof value);
                    ++bins[std::clamp((value - BIN_FLOOR_HU) / BIN_HU, 0, BINS - 1)];
                }
            }
        }
}

struct Overlap {
    std::int32_t upper, lower;
    std::int64_t pixels;
};

// The pieces of adjacent slices that lie over each other, in the order in which they are met.
inline std::vector<Overlap> overlaps(const std::int32_t* spans, const std::int32_t* starts,
                                     const std::int32_t* piece, std::ptrdiff_t slices, std::ptrdiff_t rows) {
    std::vector<Overlap> found;
    for (std::ptrdiff_t z = 1; z < slices; ++z) {
        std::unordered_map<std::uint64_t, std::size_t> place;
        for (std::ptrdiff_t y = 0; y < rows; ++y) {
            const std::int32_t* up = starts + z * rows + y;
            const std::int32_t* low = up - rows;
            std::int32_t i = up[0], j = low[0];
            while (i < up[1] && j < low[1]) {
                const std::int32_t from = std::max(spans[2 * i], spans[2 * j]);
                const std::int32_t to = std::min(spans[2 * i + 1], spans[2 * j + 1]);
                if (from < to) {
                    const std::uint64_t key = static_cast<std::uint64_t>(piece[i]) << 32
                                              | static_cast<std::uint32_t>(piece[j]);
                    const auto entry = place.emplace(key, found.size());
                    if (entry.second) found.push_back({piece[i], piece[j], 0});
                    found[entry.first->second].pixels += to - from;
                }
                if (spans[2 * i + 1] < spans[2 * j + 1]) ++i;
                else ++j;
            }
        }
    }
    return found;
}

// Fills what a slice encloses: background (4-connected) that does not reach the frame.
class Holes {
public:
    Holes(std::ptrdiff_t rows, std::ptrdiff_t words) : rows_(rows), words_(words) {}

    void fill(word* slice) {
        std::ptrdiff_t first, stop;
        if (!filled_rows(slice, rows_, words_, &first, &stop)) return;
        const std::ptrdiff_t n = stop - first;
        gaps_.resize(static_cast<std::size_t>(n * words_));
        for (std::ptrdiff_t i = 0; i < n * words_; ++i) gaps_[i] = ~slice[first * words_ + i];
        const std::size_t runs = static_cast<std::size_t>(count_runs(gaps_.data(), n, words_));
        spans_.resize(2 * runs + 2);
        starts_.resize(static_cast<std::size_t>(n + 1));
        parent_.resize(runs + 1);
        find_runs(gaps_.data(), n, words_, spans_.data(), starts_.data());
        const std::int32_t outside = static_cast<std::int32_t>(runs);
        for (std::int32_t i = 0; i <= outside; ++i) parent_[i] = i;
        for (std::ptrdiff_t y = 0; y < n; ++y) join_outside(y, y == 0 || y == n - 1, outside);
        const std::int32_t root = find_root(parent_.data(), outside);
        for (std::ptrdiff_t y = 0; y < n; ++y)
            for (std::int32_t i = starts_[y]; i < starts_[y + 1]; ++i)
                if (find_root(parent_.data(), i) != root)
                    for_span(spans_[2 * i], spans_[2 * i + 1],
                             [&](std::int32_t w, word mask) { slice[(first + y) * words_ + w] |= mask; });
    }

private:
    void join_outside(std::ptrdiff_t y, bool edge_row, std::int32_t outside) {
        const std::int32_t width = static_cast<std::int32_t>(words_ * WORD_BITS);
        for (std::int32_t i = starts_[y]; i < starts_[y + 1]; ++i)
            if (edge_row || spans_[2 * i] == 0 || spans_[2 * i + 1] == width)
                join_sets(parent_.data(), i, outside);
        if (y) join_rows(spans_.data(), parent_.data(), starts_[y - 1], starts_[y], starts_[y], starts_[y + 1], 0);
    }

    std::ptrdiff_t rows_, words_;
    std::vector<word> gaps_;
    std::vector<std::int32_t> spans_, starts_, parent_;
};

}  // namespace fastct
