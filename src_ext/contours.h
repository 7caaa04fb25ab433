// Two curves through a slice: the convex hull of both lungs, and the cut where they touch.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "bitrows.h"

namespace fastct {

inline bool bit_at(const word* slice, std::ptrdiff_t words, std::ptrdiff_t y, std::int64_t x) {
    return slice[y * words + x / WORD_BITS] >> (x % WORD_BITS) & 1;
}

inline void set_span(word* slice, std::ptrdiff_t words, std::ptrdiff_t y, std::int64_t x0, std::int64_t x1) {
    if (x0 >= x1) return;
    for_span(static_cast<std::int32_t>(x0), static_cast<std::int32_t>(x1),
             [&](std::int32_t w, word mask) { slice[y * words + w] |= mask; });
}

struct Corner {
    std::int64_t y, x;
};

// The convex hull of both lungs in one slice, and those of its chords that face the mediastinum.
class Hull {
public:
    Hull(std::ptrdiff_t rows, std::ptrdiff_t words) : rows_(rows), words_(words) {}

    // `hull` and `chords` must be empty slices.
    void draw(const word* right, const word* left, word* hull, word* chords) {
        low_.clear();
        high_.clear();
        for (std::ptrdiff_t y = 0; y < rows_; ++y) {
            std::int64_t x0, x1;
            if (!extent(right + y * words_, left + y * words_, &x0, &x1)) continue;
            extend(low_, {y, x0}, 1);
            extend(high_, {y, x1}, -1);
        }
        if (low_.size() < 2) return;
        lows_.assign(static_cast<std::size_t>(rows_), 0);
        highs_.assign(static_cast<std::size_t>(rows_), -1);
        walk(low_, lows_.data(), true);
        walk(high_, highs_.data(), false);
        for (std::int64_t y = low_.front().y; y <= low_.back().y; ++y)
            set_span(hull, words_, y, lows_[y], highs_[y] + 1);
        const auto of_right = [&](Corner c) { return bit_at(right, words_, c.y, c.x); };
        // The right lung lies at small x. Where one lung stands alone, the other side of it is mediastinum.
        std::ptrdiff_t first, stop;
        const bool alone_right = !filled_rows(left, rows_, words_, &first, &stop);
        const bool alone_left = !filled_rows(right, rows_, words_, &first, &stop);
        const auto differ = [&](Corner a, Corner b) { return of_right(a) != of_right(b); };
        mark(low_, lows_.data(), [&](Corner a, Corner b) { return alone_left || differ(a, b); }, chords);
        mark(high_, highs_.data(), [&](Corner a, Corner b) { return alone_right || differ(a, b); }, chords);
        for (const std::int64_t y : {low_.front().y, low_.back().y})
            if (differ({y, lows_[y]}, {y, highs_[y]})) set_span(chords, words_, y, lows_[y], highs_[y] + 1);
    }

private:
    bool extent(const word* right, const word* left, std::int64_t* x0, std::int64_t* x1) const {
        std::ptrdiff_t first = 0, last = words_ - 1;
        while (first < words_ && !(right[first] | left[first])) ++first;
        if (first == words_) return false;
        while (!(right[last] | left[last])) --last;
        *x0 = first * WORD_BITS + __builtin_ctzll(right[first] | left[first]);
        *x1 = last * WORD_BITS + WORD_BITS - 1 - __builtin_clzll(right[last] | left[last]);
        return true;
    }

    // Monotone chain along y: bends outwards only, to small x (side 1) or to large x (side -1).
    static void extend(std::vector<Corner>& chain, Corner next, int side) {
        while (chain.size() > 1) {
            const Corner a = chain[chain.size() - 2], b = chain.back();
            if (((b.x - a.x) * (next.y - a.y) - (next.x - a.x) * (b.y - a.y)) * side < 0) break;
            chain.pop_back();
        }
        chain.push_back(next);
    }

    // The column of a chain in each row, rounded to the inside of the hull.
    static void walk(const std::vector<Corner>& chain, std::int64_t* columns, bool up) {
        for (std::size_t i = 0; i + 1 < chain.size(); ++i) {
            const Corner a = chain[i], b = chain[i + 1];
            const std::int64_t height = b.y - a.y;
            for (std::int64_t y = a.y; y <= b.y; ++y) {
                const std::int64_t rise = (b.x - a.x) * (y - a.y) + (up ? height - 1 : 0);
                columns[y] = a.x + (rise >= 0 ? rise / height : -((-rise + height - 1) / height));
            }
        }
    }

    // The chords of a chain that cross from lung to lung, as connected steps.
    template <class Crosses>
    void mark(const std::vector<Corner>& chain, const std::int64_t* columns, Crosses crosses, word* chords) const {
        for (std::size_t i = 0; i + 1 < chain.size(); ++i) {
            if (!crosses(chain[i], chain[i + 1])) continue;
            for (std::int64_t y = chain[i].y; y < chain[i + 1].y; ++y) {
                const std::int64_t from = std::min(columns[y], columns[y + 1]);
                const std::int64_t to = std::max(columns[y], columns[y + 1]) + 1;
                set_span(chords, words_, y, from, to);
                set_span(chords, words_, y + 1, from, to);
            }
        }
    }

    std::ptrdiff_t rows_, words_;
    std::vector<Corner> low_, high_;
    std::vector<std::int64_t> lows_, highs_;
};

inline void hull_slices(const word* right, const word* left, std::ptrdiff_t slices, std::ptrdiff_t rows,
                        std::ptrdiff_t words, word* inside, word* chords) {
    Hull hull(rows, words);
    for (std::ptrdiff_t i = 0; i < slices * rows * words; i += rows * words)
        hull.draw(right + i, left + i, inside + i, chords + i);
}

// First and last set pixel of a row; false where it is empty.
inline bool row_ends(const word* row, std::ptrdiff_t words, std::int64_t* x0, std::int64_t* x1) {
    std::ptrdiff_t first = 0, last = words - 1;
    while (first < words && !row[first]) ++first;
    if (first == words) return false;
    while (!row[last]) --last;
    *x0 = first * WORD_BITS + __builtin_ctzll(row[first]);
    *x1 = last * WORD_BITS + WORD_BITS - 1 - __builtin_clzll(row[last]);
    return true;
}

// A direction in whole numbers: what a pixel along y, and along x, adds to a height.
struct Direction {
    std::int32_t y, x;
};

constexpr std::int64_t NO_HEIGHT = -(std::int64_t{1} << 40);

// How far each slice reaches in each direction; NO_HEIGHT where it is empty.
inline void heights(const word* mask, std::ptrdiff_t slices, std::ptrdiff_t rows, std::ptrdiff_t words,
                    const Direction* directions, std::ptrdiff_t n, std::int64_t* out) {
    std::fill(out, out + slices * n, NO_HEIGHT);
    for (std::ptrdiff_t z = 0; z < slices; ++z)
        for (std::ptrdiff_t y = 0; y < rows; ++y) {
            std::int64_t x0, x1;
            if (!row_ends(mask + (z * rows + y) * words, words, &x0, &x1)) continue;
            for (std::ptrdiff_t d = 0; d < n; ++d) {
                const std::int64_t along = std::max(x0 * directions[d].x, x1 * directions[d].x);
                out[z * n + d] = std::max(out[z * n + d], y * directions[d].y + along);
            }
        }
}

inline std::int64_t floor_ratio(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0); }

// The pixels of each slice that lie no higher than its height in any direction.
inline void draw_convex(const std::int64_t* heights, std::ptrdiff_t slices, std::ptrdiff_t rows, std::ptrdiff_t words,
                        const Direction* directions, std::ptrdiff_t n, word* out) {
    std::fill(out, out + slices * rows * words, word{0});
    for (std::ptrdiff_t z = 0; z < slices; ++z)
        for (std::ptrdiff_t y = 0; y < rows; ++y) {
            std::int64_t x0 = 0, x1 = words * WORD_BITS - 1;
            for (std::ptrdiff_t d = 0; d < n; ++d) {
                const std::int64_t rest = heights[z * n + d] - y * directions[d].y, step = directions[d].x;
                if (step > 0) x1 = std::min(x1, floor_ratio(rest, step));
                else if (step < 0) x0 = std::max(x0, -floor_ratio(rest, -step));
                else if (rest < 0) x1 = -1;
            }
            set_span(out + z * rows * words, words, y, x0, x1 + 1);
        }
}

constexpr int CUT_REACH = 2;          // pixels that a cut may move sideways from row to row
constexpr std::int32_t CUT_STEP = 20;  // what a pixel sideways costs, in HU

// Cheapest path through rows y0 .. y1 and n columns from x0 of a slice: a set pixel costs the more the more air
// it holds, others nothing; `drift[x - x0]` is added in every row.
class Cut {
public:
    explicit Cut(std::ptrdiff_t words) : words_(words) {}

    void find(const Scan& scan, const word* mask, std::int32_t y0, std::int32_t y1, std::int32_t x0,
              const std::int32_t* drift, std::int32_t n) {
        // Beyond both ends lie columns that no path can afford.
        cost_.assign(static_cast<std::size_t>(n + 2 * CUT_REACH), INT32_MAX / 2);
        next_ = cost_;
        std::fill(cost_.begin() + CUT_REACH, cost_.end() - CUT_REACH, 0);
        step_.resize(static_cast<std::size_t>(n) * static_cast<std::size_t>(y1 - y0));
        for (std::int32_t y = y0; y < y1; ++y) {
            std::int32_t* now = next_.data() + CUT_REACH;
            step_row(cost_.data() + CUT_REACH, now, step_.data() + static_cast<std::ptrdiff_t>(y - y0) * n, n);
            for (std::int32_t i = 0; i < n; ++i) {
                now[i] += drift[i];
                if (bit_at(mask, words_, y, x0 + i)) now[i] += air(scan.at(scan.row(0, y), x0 + i));
            }
            cost_.swap(next_);
        }
        first_row_ = y0;
        path_.resize(static_cast<std::size_t>(y1 - y0));
        const auto first = cost_.begin() + CUT_REACH, last = cost_.end() - CUT_REACH;
        std::int32_t i = static_cast<std::int32_t>(std::min_element(first, last) - first);
        for (std::int32_t y = y1 - 1; y >= y0; --y) {
            path_[y - y0] = x0 + i;
            i += step_[static_cast<std::ptrdiff_t>(y - y0) * n + i];
        }
    }

    // Clears the path, and the pixels that it steps over, so that what it parts is not connected.
    void clear(word* mask) const {
        for (std::size_t i = 0; i < path_.size(); ++i) {
            const std::int32_t next = path_[std::min(i + 1, path_.size() - 1)];
            for_span(std::min(path_[i], next), std::max(path_[i], next) + 1, [&](std::int32_t w, word part) {
                mask[(first_row_ + static_cast<std::ptrdiff_t>(i)) * words_ + w] &= ~part;
            });
        }
    }

private:
    // The cheapest way into each column from the row before; without branches, so that it runs wide.
    FASTCT_WIDE static void step_row(const std::int32_t* __restrict before, std::int32_t* __restrict now,
                                     std::int8_t* __restrict steps, std::int32_t n) {
        for (std::int32_t i = 0; i < n; ++i) {
            std::int32_t best = before[i], from = 0;
            for (std::int32_t d = 1; d <= CUT_REACH; ++d)
                for (const std::int32_t to : {-d, d}) {
                    const std::int32_t cost = before[i + to] + d * CUT_STEP;
                    from = cost < best ? to : from;
                    best = cost < best ? cost : best;
                }
            steps[i] = static_cast<std::int8_t>(from);
            now[i] = best;
        }
    }

    static std::int32_t air(std::int32_t hu) { return 1100 - std::clamp<std::int32_t>(hu + 1024, 0, 1100); }

    std::ptrdiff_t words_, first_row_ = 0;
    std::vector<std::int32_t> cost_, next_, path_;
    std::vector<std::int8_t> step_;
};

inline void cut_slice(const Scan& scan, word* mask, std::int32_t y0, std::int32_t y1, std::int32_t x0,
                      const std::int32_t* drift, std::int32_t columns) {
    Cut cut(scan.words());
    cut.find(scan, mask, y0, y1, x0, drift, columns);
    cut.clear(mask);
}

}  // namespace fastct
