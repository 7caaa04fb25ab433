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

inline const std::uint16_t* spread(unsigned byte) {
    static const Spread table;
    return table.lanes[byte & 0xff];
}

// sums[x] = line[x - reach] + ... + line[x + reach], by doubling; `line` and `twice` have `reach` zeros of
// margin before and 2 * reach + 1 behind their n elements. Overwrites `line`.
FASTCT_WIDE inline void slide(std::uint16_t* __restrict line, std::uint16_t* __restrict twice,
                              std::uint16_t* __restrict sums, std::ptrdiff_t n, int reach) {
    const int width = 2 * reach + 1;
    const std::ptrdiff_t all = n + 2 * reach;
    std::uint16_t* now = line - reach;
    std::uint16_t* next = twice - reach;
    std::memset(sums, 0, static_cast<std::size_t>(n) * sizeof *sums);
    for (int step = 1, offset = 0; step <= width; step *= 2) {
        if (width & step) {
            const std::uint16_t* from = now + offset;
            for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = static_cast<std::uint16_t>(sums[x] + from[x]);
            offset += step;
        }
        if (2 * step > width) break;
        for (std::ptrdiff_t x = 0; x < all - step; ++x) next[x] = static_cast<std::uint16_t>(now[x] + now[x + step]);
        for (std::ptrdiff_t x = all - step; x < all; ++x) next[x] = now[x];
        std::swap(now, next);
    }
}

FASTCT_WIDE inline void add_line(std::uint16_t* __restrict sums, const std::uint16_t* __restrict line,
                                 std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = static_cast<std::uint16_t>(sums[x] + line[x]);
}

FASTCT_WIDE inline void subtract_line(std::uint16_t* __restrict sums, const std::uint16_t* __restrict line,
                                      std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) sums[x] = static_cast<std::uint16_t>(sums[x] - line[x]);
}

// Window sums row by row: lines enter at the front, leave `2 * reach + 1` rows later.
class RowWindow {
public:
    RowWindow(std::ptrdiff_t columns, int reach, int reach_x)
        : n_(columns), reach_(reach), reach_x_(reach_x), lines_(2 * reach + 1, std::vector<std::uint16_t>(columns)),
          sums_(columns), line_(columns + 4 * reach_x + 2), twice_(line_.size()), out_(columns) {}

    void clear() {
        for (auto& line : lines_) std::fill(line.begin(), line.end(), std::uint16_t{0});
        std::fill(sums_.begin(), sums_.end(), std::uint16_t{0});
    }

    // The line to be filled for row y; then take(y).
    std::uint16_t* line(std::ptrdiff_t y) {
        auto& line = lines_[y % (2 * reach_ + 1)];
        subtract_line(sums_.data(), line.data(), n_);
        return line.data();
    }

    void take(std::ptrdiff_t y) { add_line(sums_.data(), lines_[y % (2 * reach_ + 1)].data(), n_); }

    const std::uint16_t* slide_sums() {
        std::fill(line_.begin(), line_.begin() + reach_x_, std::uint16_t{0});
        std::copy(sums_.begin(), sums_.end(), line_.begin() + reach_x_);
        std::fill(line_.begin() + reach_x_ + n_, line_.end(), std::uint16_t{0});
        slide(line_.data() + reach_x_, twice_.data() + reach_x_, out_.data(), n_, reach_x_);
        return out_.data();
    }

private:
    std::ptrdiff_t n_;
    int reach_, reach_x_;
    std::vector<std::vector<std::uint16_t>> lines_;
    std::vector<std::uint16_t> sums_, line_, twice_, out_;
};

constexpr std::int32_t AIR_HU = -1000, CAP_HU = 100;  // HU beyond these would drag a mean
constexpr std::int32_t MEAN_BIN_HU = 4, MEAN_BINS = (CAP_HU - AIR_HU) / MEAN_BIN_HU + 1;

// Mean HU of the mask's pixels in a small in-plane window, of one slice at a time.
class MeanWindow {
public:
    MeanWindow(std::ptrdiff_t rows, std::ptrdiff_t words, std::ptrdiff_t columns, int reach_y, int reach_x)
        : rows_(rows), words_(words), columns_(columns), reach_(reach_y), values_(words * WORD_BITS, reach_y, reach_x),
          counts_(words * WORD_BITS, reach_y, reach_x), difference_(words * WORD_BITS) {}

    // Calls act(y, sums, counts) for each row, where sums are of HU above AIR_HU.
    template <class Action>
    void run(const char* hu, std::ptrdiff_t row_stride, std::ptrdiff_t pixel_stride, const word* mask, Action act) {
        std::ptrdiff_t first, stop;
        if (!filled_rows(mask, rows_, words_, &first, &stop)) return;
        values_.clear();
        counts_.clear();
        const std::ptrdiff_t begin = std::max<std::ptrdiff_t>(first - reach_, 0);
        const std::ptrdiff_t end = std::min<std::ptrdiff_t>(stop + reach_, rows_);
        for (std::ptrdiff_t y = begin; y < end + reach_; ++y) {
            const bool masked = y >= first && y < stop;
            load(masked ? hu + y * row_stride : nullptr, pixel_stride, mask + y * words_, y);
            if (y - reach_ >= begin) act(y - reach_, values_.slide_sums(), counts_.slide_sums());
        }
    }

    // Bits of where the mean exceeds a level.
    FASTCT_WIDE static void exceed(const std::uint16_t* __restrict sums, const std::uint16_t* __restrict counts,
                                   std::int32_t level_hu, std::int16_t* __restrict difference, std::ptrdiff_t n) {
        const std::int16_t level = static_cast<std::int16_t>(level_hu - AIR_HU);
        for (std::ptrdiff_t x = 0; x < n; ++x)
            difference[x] = static_cast<std::int16_t>(counts[x] * level - sums[x]);
    }

    void mark(const std::uint16_t* sums, const std::uint16_t* counts, std::int32_t level_hu, word* out) {
        const std::int16_t zero = 0;
        exceed(sums, counts, level_hu, difference_.data(), words_ * WORD_BITS);
        for (std::ptrdiff_t w = 0; w < words_; ++w)
            pack_word(difference_.data() + w * WORD_BITS, &zero, 1, out + w, 0);
    }

private:
    void load(const char* row, std::ptrdiff_t pixel_stride, const word* mask, std::ptrdiff_t y) {
        std::uint16_t* value = values_.line(y);
        std::uint16_t* one = counts_.line(y);
        for (std::ptrdiff_t w = 0; w < words_; ++w) {
            const word bits = row ? mask[w] : 0;
            std::uint16_t* v = value + w * WORD_BITS;
            std::uint16_t* c = one + w * WORD_BITS;
            if (!bits) {
                std::memset(v, 0, WORD_BITS * sizeof *v);
                std::memset(c, 0, WORD_BITS * sizeof *c);
                continue;
            }
            std::int16_t part[WORD_BITS] = {};
            const std::ptrdiff_t n = std::min<std::ptrdiff_t>(columns_ - w * WORD_BITS, WORD_BITS);
            const char* from = row + w * WORD_BITS * pixel_stride;
            if (pixel_stride == 2) std::memcpy(part, from, static_cast<std::size_t>(n) * 2);
            else for (std::ptrdiff_t i = 0; i < n; ++i) std::memcpy(part + i, from + i * pixel_stride, 2);
            for (int b = 0; b < 8; ++b) {
                const std::uint16_t* lanes = spread(static_cast<unsigned>(bits >> (8 * b)));
                for (int i = 8 * b; i < 8 * b + 8; ++i) {
                    const std::int16_t hu = std::min<std::int16_t>(std::max<std::int16_t>(part[i], AIR_HU), CAP_HU);
                    v[i] = static_cast<std::uint16_t>(hu - AIR_HU) & lanes[i - 8 * b];
                    c[i] = lanes[i - 8 * b] & 1;
                }
            }
        }
        values_.take(y);
        counts_.take(y);
    }

    std::ptrdiff_t rows_, words_, columns_;
    int reach_;
    RowWindow values_, counts_;
    std::vector<std::int16_t> difference_;
};

// Division by a count as a product: exact while sum * count * MEAN_BIN_HU < 2 ** RECIPROCAL_SHIFT, and a sum
// is at most count * 1100.
constexpr int RECIPROCAL_SHIFT = 24, MOST_COUNTED = 25;

// Histogram of the window means of the mask's own pixels for each row of the frame, over all slices.
inline void mean_histograms(MeanWindow& window, const char* hu, std::ptrdiff_t slice_stride,
                            std::ptrdiff_t row_stride, std::ptrdiff_t pixel_stride, const word* mask,
                            std::ptrdiff_t slices, std::ptrdiff_t rows, std::ptrdiff_t words, std::int32_t* counts) {
    std::uint64_t reciprocals[MOST_COUNTED + 1] = {};
    for (std::uint64_t n = 1; n <= MOST_COUNTED; ++n)
        reciprocals[n] = (std::uint64_t{1} << RECIPROCAL_SHIFT) / (n * MEAN_BIN_HU) + 1;
    for (std::ptrdiff_t z = 0; z < slices; ++z) {
        const word* slice = mask + z * rows * words;
        window.run(hu + z * slice_stride, row_stride, pixel_stride, slice,
                   [&](std::ptrdiff_t y, const std::uint16_t* sums, const std::uint16_t* ones) {
                       std::int32_t* bins = counts + y * MEAN_BINS;
                       for (std::ptrdiff_t w = 0; w < words; ++w)
                           for (word bits = slice[y * words + w]; bits; bits &= bits - 1) {
                               const std::ptrdiff_t x = w * WORD_BITS + __builtin_ctzll(bits);
                               ++bins[sums[x] * reciprocals[ones[x]] >> RECIPROCAL_SHIFT];
                           }
                   });
    }
}

// Where the window mean exceeds levels[n][y]; out holds a bit mask a level.
inline void means_above(MeanWindow& window, const char* hu, std::ptrdiff_t slice_stride, std::ptrdiff_t row_stride,
                        std::ptrdiff_t pixel_stride, const word* mask, std::ptrdiff_t slices, std::ptrdiff_t rows,
                        std::ptrdiff_t words, const std::int16_t* levels, int n_levels, word* out) {
    std::memset(out, 0, static_cast<std::size_t>(n_levels * slices * rows * words) * sizeof(word));
    for (std::ptrdiff_t z = 0; z < slices; ++z)
        window.run(hu + z * slice_stride, row_stride, pixel_stride, mask + z * rows * words,
                   [&](std::ptrdiff_t y, const std::uint16_t* sums, const std::uint16_t* ones) {
                       for (int n = 0; n < n_levels; ++n)
                           window.mark(sums, ones, levels[n * rows + y], out + ((n * slices + z) * rows + y) * words);
                   });
}

// Where part fills at least tenths / 10 of the whole in a window whose neighbour slices weigh 1 : 8 : 1.
class ShareWindow {
public:
    static constexpr int CENTRE = 8;

    ShareWindow(std::ptrdiff_t slices, std::ptrdiff_t rows, std::ptrdiff_t words, int reach_y, int reach_x)
        : slices_(slices), rows_(rows), words_(words), reach_(reach_y), part_(words * WORD_BITS, reach_y, reach_x),
          whole_(words * WORD_BITS, reach_y, reach_x), difference_(words * WORD_BITS) {}

    void run(const word* part, const word* whole, int tenths, word* out) {
        const std::ptrdiff_t plane = rows_ * words_;
        std::memset(out, 0, static_cast<std::size_t>(slices_ * plane) * sizeof(word));
        for (std::ptrdiff_t z = 0; z < slices_; ++z) {
            std::ptrdiff_t first = rows_, stop = 0, from, to;
            for (std::ptrdiff_t v = std::max<std::ptrdiff_t>(z - 1, 0); v < slices_ && v <= z + 1; ++v)
                if (filled_rows(part + v * plane, rows_, words_, &from, &to)) {
                    first = std::min(first, std::max<std::ptrdiff_t>(from - reach_, 0));
                    stop = std::max(stop, std::min(to + reach_, rows_));
                }
            part_.clear();
            whole_.clear();
            for (std::ptrdiff_t y = std::max<std::ptrdiff_t>(first - reach_, 0); y < stop + reach_; ++y) {
                load(part_, part, z, y);
                load(whole_, whole, z, y);
                const std::ptrdiff_t row = y - reach_;
                if (row >= first && row < stop)
                    compare(part_.slide_sums(), whole_.slide_sums(), tenths, whole + z * plane + row * words_,
                            out + z * plane + row * words_);
            }
        }
    }

private:
    void load(RowWindow& window, const word* mask, std::ptrdiff_t z, std::ptrdiff_t y) {
        std::uint16_t* line = window.line(y);
        const std::ptrdiff_t plane = rows_ * words_;
        for (std::ptrdiff_t w = 0; w < words_; ++w) {
            const word* at = mask + z * plane + y * words_ + w;
            const word now = y < rows_ ? *at : 0;
            const word below = y < rows_ && z > 0 ? at[-plane] : 0;
            const word above = y < rows_ && z + 1 < slices_ ? at[plane] : 0;
            std::uint16_t* to = line + w * WORD_BITS;
            if (!(now | below | above)) {
                std::memset(to, 0, WORD_BITS * sizeof *to);
                continue;
            }
            for (int b = 0; b < 8; ++b) {
                const std::uint16_t* n = spread(static_cast<unsigned>(now >> (8 * b)));
                const std::uint16_t* l = spread(static_cast<unsigned>(below >> (8 * b)));
                const std::uint16_t* u = spread(static_cast<unsigned>(above >> (8 * b)));
                for (int i = 0; i < 8; ++i)
                    to[8 * b + i] = static_cast<std::uint16_t>((n[i] & CENTRE) + (l[i] & 1) + (u[i] & 1));
            }
        }
        window.take(y);
    }

    void compare(const std::uint16_t* part, const std::uint16_t* whole, int tenths, const word* within, word* out) {
        exceed(part, whole, tenths, difference_.data(), words_ * WORD_BITS);
        const std::int16_t zero = 0;
        for (std::ptrdiff_t w = 0; w < words_; ++w) {
            out[w] = 0;
            if (!within[w]) continue;
            pack_word(difference_.data() + w * WORD_BITS, &zero, 1, out + w, 0);
            out[w] &= within[w];
        }
    }

    // Only the sign is kept: below zero where the part exceeds its share.
    FASTCT_WIDE static void exceed(const std::uint16_t* __restrict part, const std::uint16_t* __restrict whole,
                                   std::int32_t tenths, std::int16_t* __restrict difference, std::ptrdiff_t n) {
        for (std::ptrdiff_t x = 0; x < n; ++x)
            difference[x] = static_cast<std::int16_t>((tenths * whole[x] - 10 * part[x]) >> 16);
    }

    std::ptrdiff_t slices_, rows_, words_;
    int reach_;
    RowWindow part_, whole_;
    std::vector<std::int16_t> difference_;
};

// Voxels and lesion voxels outside, in the right and in the left lung.
FASTCT_WIDE inline void count_masks(const std::uint8_t* __restrict lungs, const std::uint8_t* __restrict lesion,
                                    std::ptrdiff_t n, std::int64_t* counts) {
    constexpr int LANES = 32, BLOCK = 255;
    std::int64_t right = 0, left = 0, sick_right = 0, sick_left = 0, sick = 0;
    std::ptrdiff_t i = 0;
    while (i + LANES <= n) {
        std::uint8_t sums[5][LANES] = {};
        for (int turn = 0; turn < BLOCK && i + LANES <= n; ++turn, i += LANES)
            for (int k = 0; k < LANES; ++k) {
                const std::uint8_t in_right = lungs[i + k] == 1, in_left = lungs[i + k] == 2, ill = lesion[i + k] != 0;
                sums[0][k] = static_cast<std::uint8_t>(sums[0][k] + in_right);
                sums[1][k] = static_cast<std::uint8_t>(sums[1][k] + in_left);
                sums[2][k] = static_cast<std::uint8_t>(sums[2][k] + (in_right & ill));
                sums[3][k] = static_cast<std::uint8_t>(sums[3][k] + (in_left & ill));
                sums[4][k] = static_cast<std::uint8_t>(sums[4][k] + ill);
            }
        for (int k = 0; k < LANES; ++k) {
            right += sums[0][k];
            left += sums[1][k];
            sick_right += sums[2][k];
            sick_left += sums[3][k];
            sick += sums[4][k];
        }
    }
    for (; i < n; ++i) {
        right += lungs[i] == 1;
        left += lungs[i] == 2;
        sick_right += lungs[i] == 1 && lesion[i];
        sick_left += lungs[i] == 2 && lesion[i];
        sick += lesion[i] != 0;
    }
    const std::int64_t table[6] = {n - right - left, sick - sick_right - sick_left, right, sick_right, left, sick_left};
    std::copy(table, table + 6, counts);
}

}  // namespace fastct
