// Runs of bit rows and their connected pieces.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bitrows.h"

namespace fastct {

// Pixels from .. to - 1 of a row, and the piece that they belong to.
struct Run {
    std::int32_t from, to, piece;
};

// The runs of a volume, row by row: starts[r] .. starts[r + 1] are those of row r = z * rows + y.
struct Runs {
    const Run* runs;
    const std::int32_t* starts;
    std::ptrdiff_t slices, rows;

    const Run* begin(std::ptrdiff_t z, std::ptrdiff_t y) const { return runs + starts[z * rows + y]; }
    const Run* end(std::ptrdiff_t z, std::ptrdiff_t y) const { return runs + starts[z * rows + y + 1]; }
};

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

// Calls act(x) for each end of each run of a row: from, to, from, to, ...
template <class Action>
inline void for_ends(const word* row, std::ptrdiff_t words, Action act) {
    word before = 0;
    for (std::ptrdiff_t w = 0; w < words; ++w) {
        word edges = row[w] ^ (row[w] << 1 | before);
        before = row[w] >> (WORD_BITS - 1);
        for (; edges; edges &= edges - 1) act(static_cast<std::int32_t>(w * WORD_BITS + __builtin_ctzll(edges)));
    }
    if (before) act(static_cast<std::int32_t>(words * WORD_BITS));
}

// Fills `runs`, which must hold count_runs(), and the n_rows + 1 starts.
inline void find_runs(const word* rows, std::ptrdiff_t n_rows, std::ptrdiff_t words, Run* runs, std::int32_t* starts) {
    Run* next = runs;
    bool open = false;
    starts[0] = 0;
    for (std::ptrdiff_t y = 0; y < n_rows; ++y) {
        for_ends(rows + y * words, words, [&](std::int32_t x) {
            if (!open) next->from = x;
            else next++->to = x;
            open = !open;
        });
        starts[y + 1] = static_cast<std::int32_t>(next - runs);
    }
}

// Disjoint sets of runs, kept in Run::piece: each run points to an earlier one, the root to itself.
inline std::int32_t find_root(Run* runs, std::int32_t i) {
    while (runs[i].piece != i) i = runs[i].piece = runs[runs[i].piece].piece;
    return i;
}

inline void join_sets(Run* runs, std::int32_t i, std::int32_t j) {
    i = find_root(runs, i);
    j = find_root(runs, j);
    if (i < j) runs[j].piece = i;
    else runs[i].piece = j;
}

// Joins the runs of two rows that share a column, or, with reach 1, that touch at a corner.
inline void join_rows(Run* runs, const std::int32_t* row, const std::int32_t* other, std::int32_t reach) {
    std::int32_t i = row[0], j = other[0];
    while (i < row[1] && j < other[1]) {
        if (runs[i].from < runs[j].to + reach && runs[j].from < runs[i].to + reach) join_sets(runs, i, j);
        if (runs[i].to < runs[j].to) ++i;
        else ++j;
    }
}

// Numbers the sets number, number + 1, ... in the order of their first runs; returns the next number.
inline std::int32_t number_sets(Run* runs, std::int32_t first, std::int32_t stop, std::int32_t number) {
    for (std::int32_t i = first; i < stop; ++i) {
        // What a run points to comes before it, and has become the set's number by then.
        const std::int32_t root = runs[i].piece;
        runs[i].piece = root == i ? ~number++ : runs[root].piece;
    }
    for (std::int32_t i = first; i < stop; ++i) runs[i].piece = ~runs[i].piece;
    return number;
}

// Pieces of every slice for itself (4-connected); returns how many.
inline std::int32_t label_slices(Run* runs, const std::int32_t* starts, std::ptrdiff_t slices, std::ptrdiff_t rows) {
    std::int32_t n = 0;
    for (std::ptrdiff_t z = 0; z < slices; ++z) {
        const std::int32_t* at = starts + z * rows;
        for (std::int32_t i = at[0]; i < at[rows]; ++i) runs[i].piece = i;
        for (std::ptrdiff_t y = 1; y < rows; ++y) join_rows(runs, at + y - 1, at + y, 0);
        n = number_sets(runs, at[0], at[rows], n);
    }
    return n;
}

// Bodies through all slices (26-connected); returns how many.
inline std::int32_t label_volume(Run* runs, const std::int32_t* starts, std::ptrdiff_t slices, std::ptrdiff_t rows) {
    const std::int32_t total = starts[slices * rows];
    for (std::int32_t i = 0; i < total; ++i) runs[i].piece = i;
    for (std::ptrdiff_t z = 0; z < slices; ++z)
        for (std::ptrdiff_t y = 0; y < rows; ++y) {
            const std::int32_t* at = starts + z * rows + y;
            if (at[0] == at[1]) continue;
            if (y) join_rows(runs, at - 1, at, 1);
            for (std::ptrdiff_t v = y ? y - 1 : 0; z && v < rows && v <= y + 1; ++v)
                join_rows(runs, at - rows + (v - y), at, 1);
        }
    return number_sets(runs, 0, total, 0);
}

// What is measured of a piece: first slice, pixels, box (ends excluded), sum of twice the x of its pixels.
struct Measure {
    std::int64_t z, area, y0, y1, x0, x1, x_sum;
};

inline void measure(const Runs& runs, Measure* table, std::int32_t pieces) {
    for (std::int32_t p = 0; p < pieces; ++p) table[p] = {-1, 0, runs.rows, 0, INT32_MAX, 0, 0};
    for (std::ptrdiff_t z = 0; z < runs.slices; ++z)
        for (std::ptrdiff_t y = 0; y < runs.rows; ++y)
            for (const Run* run = runs.begin(z, y); run < runs.end(z, y); ++run) {
                const std::int64_t from = run->from, to = run->to;
                Measure& t = table[run->piece];
                if (t.z < 0) t.z = z;
                t.area += to - from;
                t.y0 = std::min<std::int64_t>(t.y0, y);
                t.y1 = std::max<std::int64_t>(t.y1, y + 1);
                t.x0 = std::min(t.x0, from);
                t.x1 = std::max(t.x1, to);
                t.x_sum += (to - from) * (to + from - 1);
            }
}

inline void set_run(word* row, std::int32_t from, std::int32_t to) {
    for_span(from, to, [&](std::int32_t w, word mask) { row[w] |= mask; });
}

// Sets the pixels of the chosen pieces.
inline void paint(const Runs& runs, const std::uint8_t* chosen, std::ptrdiff_t words, word* out) {
    for (std::ptrdiff_t z = 0; z < runs.slices; ++z)
        for (std::ptrdiff_t y = 0; y < runs.rows; ++y, out += words)
            for (const Run* run = runs.begin(z, y); run < runs.end(z, y); ++run)
                if (chosen[run->piece]) set_run(out, run->from, run->to);
}

// Adds to counts[p] how many pixels of piece p are set in another mask of the same frame.
FASTCT_WIDE inline void count_inside(const Runs& runs, const word* mask, std::ptrdiff_t words, std::int64_t* counts) {
    for (std::ptrdiff_t z = 0; z < runs.slices; ++z)
        for (std::ptrdiff_t y = 0; y < runs.rows; ++y, mask += words)
            for (const Run* run = runs.begin(z, y); run < runs.end(z, y); ++run) {
                const std::int32_t first = run->from / WORD_BITS, last = (run->to - 1) / WORD_BITS;
                std::int64_t n = 0;
                for (std::int32_t w = first; w <= last; ++w) {
                    word part = mask[w];
                    if (w == first) part &= ~word{0} << run->from % WORD_BITS;
                    if (w == last) part &= ~word{0} >> (WORD_BITS - 1 - (run->to - 1) % WORD_BITS);
                    n += __builtin_popcountll(part);
                }
                counts[run->piece] += n;
            }
}

// How many pixels each column holds; `counts` has a place for every pixel of a row.
inline void column_counts(const word* rows, std::ptrdiff_t n_rows, std::ptrdiff_t words, std::int64_t* counts) {
    std::vector<std::int64_t> change(static_cast<std::size_t>(words * WORD_BITS + 1));
    for (std::ptrdiff_t y = 0; y < n_rows; ++y) {
        std::int64_t step = 1;
        for_ends(rows + y * words, words, [&](std::int32_t x) {
            change[x] += step;
            step = -step;
        });
    }
    std::int64_t now = 0;
    for (std::ptrdiff_t x = 0; x < words * WORD_BITS; ++x) counts[x] = now += change[x];
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
        const std::size_t count = static_cast<std::size_t>(count_runs(gaps_.data(), n, words_));
        runs_.resize(count + 1);
        starts_.resize(static_cast<std::size_t>(n + 1));
        find_runs(gaps_.data(), n, words_, runs_.data(), starts_.data());
        const std::int32_t outside = static_cast<std::int32_t>(count);
        for (std::int32_t i = 0; i <= outside; ++i) runs_[i].piece = i;
        for (std::ptrdiff_t y = 0; y < n; ++y) {
            join_outside(y, y == 0 || y == n - 1, outside);
            if (y) join_rows(runs_.data(), starts_.data() + y - 1, starts_.data() + y, 0);
        }
        const std::int32_t root = find_root(runs_.data(), outside);
        for (std::ptrdiff_t y = 0; y < n; ++y)
            for (std::int32_t i = starts_[y]; i < starts_[y + 1]; ++i)
                if (find_root(runs_.data(), i) != root)
                    set_run(slice + (first + y) * words_, runs_[i].from, runs_[i].to);
    }

private:
    void join_outside(std::ptrdiff_t y, bool edge_row, std::int32_t outside) {
        const std::int32_t width = static_cast<std::int32_t>(words_ * WORD_BITS);
        for (std::int32_t i = starts_[y]; i < starts_[y + 1]; ++i)
            if (edge_row || runs_[i].from == 0 || runs_[i].to == width) join_sets(runs_.data(), i, outside);
    }

    std::ptrdiff_t rows_, words_;
    std::vector<word> gaps_;
    std::vector<Run> runs_;
    std::vector<std::int32_t> starts_;
};

inline void fill_slices(word* mask, std::ptrdiff_t slices, std::ptrdiff_t rows, std::ptrdiff_t words) {
    Holes holes(rows, words);
    for (std::ptrdiff_t z = 0; z < slices; ++z) holes.fill(mask + z * rows * words);
}

}  // namespace fastct
