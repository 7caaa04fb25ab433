// Box windows over masked slices in whole numbers: mean HU against a level, and one mask's share of another.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bitrows.h"

namespace fastct {

// Spreads the bits of a byte over eight lanes of 0 or ~0.
struct Spread {
    std::uint16_t lanes[256][8];
    Spread() {
        for (int byte = 0; byte < 256; ++byte)
            for (int i = 0; i < 8; ++i) lanes[byte][i] = byte >> i & 1 ? 0xffff : 0;
    }
};

inline void spread(word bits, std::uint16_t* lanes) {
    static const Spread table;
    for (int b = 0; b < 8; ++b) std::memcpy(lanes + 8 * b, table.lanes[bits >> (8 * b) & 0xff], sizeof table.lanes[0]);
}

FASTCT_WIDE inline void add_lines(const std::uint16_t* __restrict one, const std::uint16_t* __restrict other,
                                  std::uint16_t* __restrict sums, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = static_cast<std::uint16_t>(one[x] + other[x]);
}

FASTCT_WIDE inline void add_lines(const std::uint32_t* __restrict one, const std::uint32_t* __restrict other,
                                  std::uint32_t* __restrict sums, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = one[x] + other[x];
}

FASTCT_WIDE inline void add_line(std::uint16_t* __restrict sums, const std::uint16_t* __restrict line,
                                 std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = static_cast<std::uint16_t>(sums[x] + line[x]);
}

FASTCT_WIDE inline void add_line(std::uint32_t* __restrict sums, const std::uint32_t* __restrict line,
                                 std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] += line[x];
}

FASTCT_WIDE inline void exchange_line(std::uint16_t* __restrict sums, const std::uint16_t* __restrict enters,
                                      const std::uint16_t* __restrict leaves, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = static_cast<std::uint16_t>(sums[x] + enters[x] - leaves[x]);
}

FASTCT_WIDE inline void exchange_line(std::uint16_t* __restrict sums, const std::int8_t* __restrict enters,
                                      const std::int8_t* __restrict leaves, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = static_cast<std::uint16_t>(sums[x] + enters[x] - leaves[x]);
}

FASTCT_WIDE inline void exchange_line(std::uint32_t* __restrict sums, const std::int8_t* __restrict enters,
                                      const std::int8_t* __restrict leaves, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] += static_cast<std::uint32_t>(enters[x] - leaves[x]);
}

// Sums over windows of rows and columns, row by row: a line enters, and leaves 2 * reach + 1 rows later. Sums are
// unsigned, and wrap: those of signed values are read as signed ones.
template <class Value, class Sum>
class RowWindow {
public:
    RowWindow(std::ptrdiff_t columns, int reach, int reach_x)
        : n_(columns), reach_x_(reach_x), lines_(2 * reach + 1, std::vector<Value>(columns)), fresh_(columns),
          sums_(columns + 2 * reach_x), out_(columns) {
        for (int width = 2; width <= 2 * reach_x + 1; width *= 2) powers_.emplace_back(sums_.size());
    }

    void clear() {
        for (auto& line : lines_) std::fill(line.begin(), line.end(), Value{0});
        std::fill(sums_.begin(), sums_.end(), Sum{0});
    }

    // The line to be filled for the next row; then take(row).
    Value* line() { return fresh_.data(); }

    void take(std::ptrdiff_t y) {
        std::vector<Value>& oldest = lines_[y % static_cast<std::ptrdiff_t>(lines_.size())];
        exchange_line(sums_.data() + reach_x_, fresh_.data(), oldest.data(), n_);
        oldest.swap(fresh_);
    }

    // Sums over 2 * reach_x + 1 columns: of 2, 4, 8 ... columns by doubling, then of those that make up the width.
    const Sum* slide() {
        const int width = 2 * reach_x_ + 1;
        const Sum* now = sums_.data();  // its margins of reach_x at both ends stay empty
        const Sum* first = now;
        std::ptrdiff_t offset = 1;
        bool second = true;
        for (int step = 1, i = 0; 2 * step <= width; step *= 2, ++i) {
            add_lines(now, now + step, powers_[i].data(), n_ + 2 * reach_x_ - 2 * step + 1);
            now = powers_[i].data();
            if (!(width & 2 * step)) continue;
            if (second) add_lines(first, now + offset, out_.data(), n_);
            else add_line(out_.data(), now + offset, n_);
            second = false;
            offset += 2 * step;
        }
        return reach_x_ ? out_.data() : first;
    }

private:
    std::ptrdiff_t n_;
    int reach_x_;
    std::vector<std::vector<Value>> lines_;
    std::vector<std::vector<Sum>> powers_;
    std::vector<Value> fresh_;
    std::vector<Sum> sums_, out_;
};

constexpr std::int32_t AIR_HU = -1000, CAP_HU = 100;  // HU beyond these would drag a mean
constexpr std::int32_t MEAN_BIN_HU = 4, MEAN_BINS = (CAP_HU - AIR_HU) / MEAN_BIN_HU + 1;

// Mean HU of the mask's pixels in a small in-plane window, of one slice at a time.
class MeanWindow {
public:
    MeanWindow(const Scan& scan, int reach_y, int reach_x)
        : scan_(scan), words_(scan.words()), reach_(reach_y), values_(words_ * WORD_BITS, reach_y, reach_x),
          counts_(words_ * WORD_BITS, reach_y, reach_x), difference_(words_ * WORD_BITS) {}

    // Calls act(y, sums, counts) for each row that is a multiple of `step`; sums are of HU above AIR_HU.
    template <class Action>
    void run(std::ptrdiff_t z, const word* slice, int step, Action act) {
        std::ptrdiff_t first, stop;
        if (!filled_rows(slice, scan_.rows, words_, &first, &stop)) return;
        values_.clear();
        counts_.clear();
        const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(first - reach_, 0);
        const std::ptrdiff_t end = std::min<std::ptrdiff_t>(stop + reach_, scan_.rows);
        for (std::ptrdiff_t y = begin; y < end + reach_; ++y) {
            if (y >= first && y < stop) load(scan_.row(z, y), slice + y * words_);
            else leave_empty();
            values_.take(y);
            counts_.take(y);
            if (y - reach_ >= begin && (y - reach_) % step == 0) act(y - reach_, values_.slide(), counts_.slide());
        }
    }

    // Bits of where the mean exceeds a level.
    void mark(const std::uint16_t* sums, const std::uint16_t* counts, std::int32_t level_hu, word* out) {
        const std::int16_t zero = 0;
        exceed(sums, counts, level_hu, difference_.data(), words_ * WORD_BITS);
        for (std::ptrdiff_t w = 0; w < words_; ++w)
            pack_word(difference_.data() + w * WORD_BITS, &zero, 1, out + w, 0);
    }

private:
    FASTCT_WIDE static void exceed(const std::uint16_t* __restrict sums, const std::uint16_t* __restrict counts,
                                   std::int32_t level_hu, std::int16_t* __restrict difference, std::ptrdiff_t n) {
        const std::int16_t level = static_cast<std::int16_t>(level_hu - AIR_HU);
        for (std::ptrdiff_t x = 0; x < n; ++x)
            difference[x] = static_cast<std::int16_t>(counts[x] * level - sums[x]);
    }

    // HU above AIR_HU, held to the cap, of the pixels whose lane is set; lanes become 0 and 1.
    FASTCT_WIDE static void hold(const std::int16_t* __restrict hu, std::uint16_t* __restrict values,
                                 std::uint16_t* __restrict lanes) {
        for (int i = 0; i < WORD_BITS; ++i) {
            const std::int16_t low = hu[i] < AIR_HU ? static_cast<std::int16_t>(AIR_HU) : hu[i];
            const std::int16_t held = low > CAP_HU ? static_cast<std::int16_t>(CAP_HU) : low;
            values[i] = static_cast<std::uint16_t>(held - AIR_HU) & lanes[i];
            lanes[i] &= 1;
        }
    }

    void load(const char* row, const word* mask) {
        std::int16_t part[WORD_BITS];
        for (std::ptrdiff_t w = 0; w < words_; ++w) {
            std::uint16_t* values = values_.line() + w * WORD_BITS;
            std::uint16_t* counts = counts_.line() + w * WORD_BITS;
            spread(mask[w], counts);
            if (mask[w]) {
                fetch_ahead(scan_, row, w);
                hold(scan_.word_pixels(row, w, part, 0), values, counts);
            } else {
                std::fill(values, values + WORD_BITS, std::uint16_t{0});
            }
        }
    }

    void leave_empty() {
        std::fill(values_.line(), values_.line() + words_ * WORD_BITS, std::uint16_t{0});
        std::fill(counts_.line(), counts_.line() + words_ * WORD_BITS, std::uint16_t{0});
    }

    Scan scan_;
    std::ptrdiff_t words_;
    int reach_;
    RowWindow<std::uint16_t, std::uint16_t> values_, counts_;
    std::vector<std::int16_t> difference_;
};

// Division by a count as a product: exact while sum * count * MEAN_BIN_HU < 2 ** RECIPROCAL_SHIFT, and a sum
// is at most count * 1100.
constexpr int RECIPROCAL_SHIFT = 24, MOST_COUNTED = 25;
constexpr word EVEN_PIXELS = 0x5555555555555555;

// Histogram of the window means of the mask's own pixels, of every other row and pixel, for each row of the
// frame, over all slices.
inline void mean_histograms(const Scan& scan, const word* mask, int reach_y, int reach_x, std::int32_t* counts) {
    std::uint64_t reciprocals[MOST_COUNTED + 1] = {};
    for (std::uint64_t n = 1; n <= MOST_COUNTED; ++n)
        reciprocals[n] = (std::uint64_t{1} << RECIPROCAL_SHIFT) / (n * MEAN_BIN_HU) + 1;
    MeanWindow window(scan, reach_y, reach_x);
    const std::ptrdiff_t words = scan.words();
    for (std::ptrdiff_t z = 0; z < scan.slices; ++z) {
        const word* slice = mask + z * scan.rows * words;
        window.run(z, slice, 2, [&](std::ptrdiff_t y, const std::uint16_t* sums, const std::uint16_t* ones) {
            std::int32_t* bins = counts + y * MEAN_BINS;
            for (std::ptrdiff_t w = 0; w < words; ++w)
                for (word bits = slice[y * words + w] & EVEN_PIXELS; bits; bits &= bits - 1) {
                    const std::ptrdiff_t x = w * WORD_BITS + __builtin_ctzll(bits);
                    ++bins[sums[x] * reciprocals[ones[x]] >> RECIPROCAL_SHIFT];
                }
        });
    }
}

// Where the window mean exceeds levels[n][y]; out holds a bit mask a level.
inline void means_above(const Scan& scan, const word* mask, int reach_y, int reach_x, const std::int16_t* levels,
                        int n_levels, word* out) {
    MeanWindow window(scan, reach_y, reach_x);
    const std::ptrdiff_t words = scan.words(), plane = scan.rows * words;
    std::fill(out, out + n_levels * scan.slices * plane, word{0});
    for (std::ptrdiff_t z = 0; z < scan.slices; ++z)
        window.run(z, mask + z * plane, 1, [&](std::ptrdiff_t y, const std::uint16_t* sums, const std::uint16_t* ones) {
            for (int n = 0; n < n_levels; ++n)
                window.mark(sums, ones, levels[n * scan.rows + y], out + (n * scan.slices + z) * plane + y * words);
        });
}

constexpr int CENTRE_WEIGHT = 8, TENTHS = 10;  // a slice between its neighbours, which weigh 1

FASTCT_WIDE inline void weigh(const std::int8_t* __restrict now, const std::int8_t* __restrict lower,
                              const std::int8_t* __restrict upper, std::int8_t* __restrict out, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x)
        out[x] = static_cast<std::int8_t>(CENTRE_WEIGHT * now[x] + lower[x] + upper[x]);
}

// Below zero where a sum is above it.
FASTCT_WIDE inline void negate(const std::uint16_t* __restrict sums, std::int16_t* __restrict out, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) out[x] = static_cast<std::int16_t>(-sums[x]);
}

FASTCT_WIDE inline void negate(const std::uint32_t* __restrict sums, std::int16_t* __restrict out, std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) out[x] = -static_cast<std::int16_t>(static_cast<std::int32_t>(sums[x]) > 0);
}

// Where part exceeds tenths / 10 of the whole in a window whose neighbour slices weigh 1 : 8 : 1: where the sum of
// 10 * part - tenths * whole is above zero there. A pixel weighs no more than 100, which a byte holds.
template <class Sum>
class ShareWindow {
public:
    ShareWindow(std::ptrdiff_t slices, std::ptrdiff_t rows, std::ptrdiff_t words, int tenths, int reach_y, int reach_x)
        : slices_(slices), rows_(rows), words_(words), columns_(words * WORD_BITS), reach_(reach_y), of_part_(TENTHS),
          of_whole_(-tenths), window_(columns_, reach_y, reach_x), difference_(columns_), nothing_(rows * columns_) {
        for (auto& plane : planes_) plane.resize(nothing_.size());
    }

    void run(const word* part, const word* whole, word* out) {
        const std::ptrdiff_t plane = rows_ * words_;
        std::memset(out, 0, static_cast<std::size_t>(slices_ * plane) * sizeof(word));
        score(part, whole, 0);
        for (std::ptrdiff_t z = 0; z < slices_; ++z) {
            score(part, whole, z + 1);
            std::ptrdiff_t first = rows_, stop = 0, from, to;
            for (std::ptrdiff_t v = std::max<std::ptrdiff_t>(z - 1, 0); v < slices_ && v <= z + 1; ++v)
                if (filled_rows(part + v * plane, rows_, words_, &from, &to)) {
                    first = std::min(first, std::max<std::ptrdiff_t>(from - reach_, 0));
                    stop = std::max(stop, std::min(to + reach_, rows_));
                }
            if (first < stop) slide(z, first, stop, whole + z * plane, out + z * plane);
        }
    }

private:
    void slide(std::ptrdiff_t z, std::ptrdiff_t first, std::ptrdiff_t stop, const word* within, word* out) {
        window_.clear();
        for (std::ptrdiff_t y = std::max<std::ptrdiff_t>(first - reach_, 0); y < stop + reach_; ++y) {
            if (y < rows_) weigh(at(z, y), at(z - 1, y), at(z + 1, y), window_.line(), columns_);
            else std::fill(window_.line(), window_.line() + columns_, std::int8_t{0});
            window_.take(y);
            const std::ptrdiff_t row = y - reach_;
            if (row >= first && row < stop) mark(window_.slide(), within + row * words_, out + row * words_);
        }
    }

    void mark(const Sum* sums, const word* within, word* out) {
        const std::int16_t zero = 0;
        negate(sums, difference_.data(), columns_);
        for (std::ptrdiff_t w = 0; w < words_; ++w) {
            if (!within[w]) continue;
            pack_word(difference_.data() + w * WORD_BITS, &zero, 1, out + w, 0);
            out[w] &= within[w];
        }
    }

    const std::int8_t* at(std::ptrdiff_t z, std::ptrdiff_t y) const {
        return (z < 0 || z >= slices_ ? nothing_ : planes_[z % 3]).data() + y * columns_;
    }

    // What each pixel of a slice adds to a sum.
    void score(const word* part, const word* whole, std::ptrdiff_t z) {
        if (z >= slices_) return;
        std::int8_t of_part[WORD_BITS], of_whole[WORD_BITS], *to = planes_[z % 3].data();
        for (std::ptrdiff_t i = z * rows_ * words_; i < (z + 1) * rows_ * words_; ++i, to += WORD_BITS) {
            if (!(part[i] | whole[i])) {
                std::memset(to, 0, WORD_BITS);
                continue;
            }
            of_part_.spread(part[i], of_part);
            of_whole_.spread(whole[i], of_whole);
            for (int x = 0; x < WORD_BITS; ++x) to[x] = static_cast<std::int8_t>(of_part[x] + of_whole[x]);
        }
    }

    std::ptrdiff_t slices_, rows_, words_, columns_;
    int reach_;
    ByteValues of_part_, of_whole_;
    RowWindow<std::int8_t, Sum> window_;
    std::vector<std::int16_t> difference_;
    std::vector<std::int8_t> nothing_, planes_[3];
};

inline void share_above(const word* part, const word* whole, std::ptrdiff_t slices, std::ptrdiff_t rows,
                        std::ptrdiff_t words, int tenths, int reach_y, int reach_x, word* out) {
    const int pixels = (2 * reach_y + 1) * (2 * reach_x + 1), weight = CENTRE_WEIGHT + 2;
    if (pixels * weight * TENTHS <= INT16_MAX)
        ShareWindow<std::uint16_t>(slices, rows, words, tenths, reach_y, reach_x).run(part, whole, out);
    else
        ShareWindow<std::uint32_t>(slices, rows, words, tenths, reach_y, reach_x).run(part, whole, out);
}

}  // namespace fastct
