// What pieces have to do with each other and with the HU under them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "bitrows.h"
#include "runs.h"

namespace fastct {

struct Overlap {
    std::int32_t upper, lower;
    std::int64_t pixels;
};

// The pieces of adjacent slices that lie over each other, in the order in which they are met.
inline std::vector<Overlap> overlaps(const Runs& runs) {
    std::vector<Overlap> found;
    std::unordered_map<std::uint64_t, std::size_t> place;
    for (std::ptrdiff_t z = 1; z < runs.slices; ++z, place.clear())
        for (std::ptrdiff_t y = 0; y < runs.rows; ++y) {
            const Run *up = runs.begin(z, y), *low = runs.begin(z - 1, y);
            while (up < runs.end(z, y) && low < runs.end(z - 1, y)) {
                const std::int32_t shared = std::min(up->to, low->to) - std::max(up->from, low->from);
                if (shared > 0) {
                    const std::uint64_t key = static_cast<std::uint64_t>(up->piece) << 32
                                              | static_cast<std::uint32_t>(low->piece);
                    const auto entry = place.emplace(key, found.size());
                    if (entry.second) found.push_back({up->piece, low->piece, 0});
                    found[entry.first->second].pixels += shared;
                }
                if (up->to < low->to) ++up;
                else ++low;
            }
        }
    return found;
}

constexpr int BINS = 128, BIN_HU = 8, BIN_FLOOR_HU = -1024, BORDER = 2;

// HU histograms of pieces, of every other row and pixel, without the ends of runs, which hold partial volume.
inline void histograms(const Runs& runs, const Scan& scan, std::int32_t* counts) {
    const std::int32_t columns = static_cast<std::int32_t>(scan.columns);
    for (std::ptrdiff_t z = 0; z < runs.slices; ++z)
        for (std::ptrdiff_t y = 0; y < runs.rows; y += 2) {
            const char* row = scan.row(z, y);
            for (const Run* run = runs.begin(z, y); run < runs.end(z, y); ++run) {
                const std::int32_t border = std::min(BORDER, (run->to - run->from - 1) / 2);
                const std::int32_t to = std::min(run->to - border, columns);
                std::int32_t* bins = counts + static_cast<std::ptrdiff_t>(run->piece) * BINS;
                for (std::int32_t w = run->from / WORD_BITS; w <= (run->to - 1) / WORD_BITS; ++w)
                    fetch_ahead(scan, row, w);
                for (std::int32_t x = run->from + border; x < to; x += 2)
                    ++bins[std::clamp((scan.at(row, x) - BIN_FLOOR_HU) >> 3, 0, BINS - 1)];
            }
        }
}
static_assert(BIN_HU == 8, "histograms() divides by shifting");

// Rows and words of a slice, ends excluded.
struct Part {
    std::ptrdiff_t y0, y1, w0, w1;

    std::ptrdiff_t rows() const { return y1 - y0; }
    std::ptrdiff_t words() const { return w1 - w0; }
};

// Single pieces, each alone in a part of its slice, grown by a shape.
class Grown {
public:
    Grown(const Runs& runs, const Measure* table, const std::int32_t* half_width, int radius, std::ptrdiff_t words)
        : runs_(runs), table_(table), radius_(radius), reach_x_(half_width[0]), words_(words),
          shape_(half_width, radius, runs.rows, words), alone_(static_cast<std::size_t>(runs.rows * words)),
          grown_(alone_.size()) {}

    // What piece p reaches when it is grown.
    Part part_of(std::int32_t p) const {
        const Measure& t = table_[p];
        return {std::max<std::ptrdiff_t>(t.y0 - radius_, 0), std::min<std::ptrdiff_t>(t.y1 + radius_, runs_.rows),
                std::max<std::ptrdiff_t>(t.x0 - reach_x_, 0) / WORD_BITS,
                std::min<std::ptrdiff_t>((t.x1 + reach_x_ - 1) / WORD_BITS + 1, words_)};
    }

    // Piece p grown, in a part of the slice that holds it.
    const word* draw(std::int32_t p, const Part& part) {
        const Measure& t = table_[p];
        const std::int32_t x0 = static_cast<std::int32_t>(part.w0 * WORD_BITS);
        std::fill(alone_.begin(), alone_.begin() + part.rows() * part.words(), word{0});
        for (std::int64_t y = t.y0; y < t.y1; ++y)
            for (const Run* run = runs_.begin(t.z, y); run < runs_.end(t.z, y); ++run)
                if (run->piece == p)
                    set_run(alone_.data() + (y - part.y0) * part.words(), run->from - x0, run->to - x0);
        shape_.set_size(part.rows(), part.words());
        shape_.apply<true>(alone_.data(), grown_.data());
        return grown_.data();
    }

private:
    Runs runs_;
    const Measure* table_;
    int radius_, reach_x_;
    std::ptrdiff_t words_;
    Discs shape_;
    std::vector<word> alone_, grown_;
};

// A shape as `disc` in fastct/kernels/masks.py makes it.
struct Shape {
    const std::int32_t* half_width;
    int radius;
};

// Around each wanted piece: pixels of the ring between two shapes, and how many of them are set in `mask`.
FASTCT_WIDE inline void count_rings(const Runs& runs, const Measure* table, std::int32_t n,
                                    const std::uint8_t* wanted, Shape inner_shape, Shape outer_shape,
                                    const word* mask, std::ptrdiff_t words, std::int64_t* counts) {
    Grown inner(runs, table, inner_shape.half_width, inner_shape.radius, words);
    Grown outer(runs, table, outer_shape.half_width, outer_shape.radius, words);
    for (std::int32_t p = 0; p < n; ++p) {
        if (!wanted[p]) continue;
        const Part part = outer.part_of(p);
        const word *near = inner.draw(p, part), *far = outer.draw(p, part);
        std::int64_t pixels = 0, set = 0;
        for (std::ptrdiff_t y = part.y0; y < part.y1; ++y) {
            const word* within = mask + (table[p].z * runs.rows + y) * words;
            for (std::ptrdiff_t w = part.w0; w < part.w1; ++w, ++near, ++far) {
                pixels += __builtin_popcountll(*far & ~*near);
                set += __builtin_popcountll(*far & ~*near & within[w]);
            }
        }
        counts[2 * p] = pixels;
        counts[2 * p + 1] = set;
    }
}

// Wanted pieces of the slice below each wanted piece that lie within its reach, and by how many pixels.
inline std::vector<Overlap> reach_down(const Runs& runs, const Measure* table, std::int32_t n,
                                       const std::uint8_t* wanted, Shape shape, std::ptrdiff_t words) {
    std::vector<Overlap> found;
    std::vector<std::int64_t> counts(static_cast<std::size_t>(n));
    Grown grown(runs, table, shape.half_width, shape.radius, words);
    for (std::int32_t p = 0; p < n; ++p) {
        const std::int64_t z = table[p].z - 1;
        if (!wanted[p] || z < 0) continue;
        Part part = grown.part_of(p);
        part.w0 = 0;  // runs count columns from the frame's first one
        part.w1 = words;
        const Runs below{runs.runs, runs.starts + z * runs.rows + part.y0, 1, part.rows()};
        count_inside(below, grown.draw(p, part), words, counts.data());
        for (const Run* run = below.begin(0, 0); run < below.end(0, below.rows - 1); ++run) {
            std::int64_t& pixels = counts[run->piece];
            if (pixels && wanted[run->piece]) found.push_back({p, run->piece, pixels});
            pixels = 0;
        }
    }
    return found;
}

}  // namespace fastct
