// Masks as bit rows: thresholds, discs and counts on 64 pixels at a time.
//
// A slice is `rows` rows of `words` 64-bit words; pixel x is bit x % 64 of word x / 64. Pixels beyond the
// frame count as empty, so a slice may be padded to whole words and cropped at word borders.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "processor.h"

// Two compiled bodies, chosen when the module is loaded: wide registers where the processor has them.
#if defined(FASTCT_X86) && defined(__GLIBC__)
#define FASTCT_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define FASTCT_WIDE
#endif

namespace fastct {

using word = std::uint64_t;
constexpr int WORD_BITS = 64;

// One word of each level from 64 pixels: bit set where hu < level.
inline void pack_word(const std::int16_t* hu, const std::int16_t* levels, int n_levels, word* out,
                      std::ptrdiff_t level_stride) {
#ifdef FASTCT_X86
    __m128i pixels[8];
    for (int i = 0; i < 8; ++i) pixels[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(hu + 8 * i));
    for (int n = 0; n < n_levels; ++n) {
        const __m128i level = _mm_set1_epi16(levels[n]);
        word bits = 0;
        for (int i = 0; i < 8; i += 2) {
            const __m128i pair = _mm_packs_epi16(_mm_cmplt_epi16(pixels[i], level),
                                                 _mm_cmplt_epi16(pixels[i + 1], level));
            bits |= static_cast<word>(static_cast<unsigned>(_mm_movemask_epi8(pair))) << (8 * i);
        }
        out[n * level_stride] = bits;
    }
#else
    for (int n = 0; n < n_levels; ++n) {
        word bits = 0;
        for (int i = 0; i < WORD_BITS; ++i) bits |= static_cast<word>(hu[i] < levels[n]) << i;
        out[n * level_stride] = bits;
    }
#endif
}

// A volume of HU at any strides (in bytes): upright views of volumes stored otherwise have odd ones.
struct Scan {
    const char* hu;
    std::ptrdiff_t slice_stride, row_stride, pixel_stride;
    std::ptrdiff_t slices, rows, columns;

    const char* row(std::ptrdiff_t z, std::ptrdiff_t y) const { return hu + z * slice_stride + y * row_stride; }
    std::ptrdiff_t words() const { return (columns + WORD_BITS - 1) / WORD_BITS; }

    std::int16_t at(const char* row, std::ptrdiff_t x) const {
        std::int16_t value;
        std::memcpy(&value, row + x * pixel_stride, sizeof value);
        return value;
    }

    // The 64 pixels of word w of a row: where they lie, or, if need be, copied to `part` and filled up.
    const std::int16_t* word_pixels(const char* row, std::ptrdiff_t w, std::int16_t* part, std::int16_t fill) const {
        const std::ptrdiff_t x0 = w * WORD_BITS, n = std::min<std::ptrdiff_t>(columns - x0, WORD_BITS);
        if (n == WORD_BITS && pixel_stride == static_cast<std::ptrdiff_t>(sizeof(std::int16_t)))
            return reinterpret_cast<const std::int16_t*>(row) + x0;
        for (std::ptrdiff_t i = 0; i < WORD_BITS; ++i) part[i] = i < n ? at(row, x0 + i) : fill;
        return part;
    }
};

// Has the same pixels of a later row fetched: rows that are read in part are no stream that a processor would see.
constexpr std::ptrdiff_t ROWS_AHEAD = 4, CACHE_LINE_BYTES = 64;

inline void fetch_ahead(const Scan& scan, const char* row, std::ptrdiff_t w) {
    const char* ahead = row + ROWS_AHEAD * scan.row_stride + w * WORD_BITS * scan.pixel_stride;
    __builtin_prefetch(ahead);
    __builtin_prefetch(ahead + CACHE_LINE_BYTES);
}

// Bit masks (level, z, y, words) of pixels below each level; what pads the last word of a row counts as air.
inline void pack_below(const Scan& scan, const std::int16_t* levels, int n_levels, word* out) {
    std::int16_t part[WORD_BITS];
    const std::ptrdiff_t words = scan.words(), level_stride = scan.slices * scan.rows * words;
    for (std::ptrdiff_t z = 0; z < scan.slices; ++z)
        for (std::ptrdiff_t y = 0; y < scan.rows; ++y)
            for (std::ptrdiff_t w = 0; w < words; ++w) {
                fetch_ahead(scan, scan.row(z, y), w);
                pack_word(scan.word_pixels(scan.row(z, y), w, part, INT16_MIN), levels, n_levels, out++, level_stride);
            }
}

// First and one past the last row that holds a pixel; false for an empty slice.
inline bool filled_rows(const word* slice, std::ptrdiff_t rows, std::ptrdiff_t words, std::ptrdiff_t* first,
                        std::ptrdiff_t* stop) {
    const std::ptrdiff_t n = rows * words;
    std::ptrdiff_t i = 0, j = n;
    while (i < n && !slice[i]) ++i;
    if (i == n) return false;
    while (!slice[j - 1]) --j;
    *first = i / words;
    *stop = (j - 1) / words + 1;
    return true;
}

// A pixel joins (or stays, for an erosion) by its neighbours `step` to the left and to the right.
template <bool dilating>
inline void widen(const word* __restrict from, word* __restrict to, std::ptrdiff_t n, int step) {
    const int rest = WORD_BITS - step;
    for (std::ptrdiff_t i = 0; i < n; ++i) {
        const word left = from[i] << step | from[i - 1] >> rest;
        const word right = from[i] >> step | from[i + 1] << rest;
        to[i] = dilating ? (from[i] | left | right) : (from[i] & left & right);
    }
}

FASTCT_WIDE inline void widen_or(const word* __restrict from, word* __restrict to, std::ptrdiff_t n, int step) {
    widen<true>(from, to, n, step);
}

FASTCT_WIDE inline void widen_and(const word* __restrict from, word* __restrict to, std::ptrdiff_t n, int step) {
    widen<false>(from, to, n, step);
}

FASTCT_WIDE inline void join_or(word* __restrict to, const word* __restrict above, const word* __restrict below,
                                std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) to[i] |= above[i] | below[i];
}

FASTCT_WIDE inline void join_and(word* __restrict to, const word* __restrict above,
                                 const word* __restrict below, std::ptrdiff_t n) {
    for (std::ptrdiff_t i = 0; i < n; ++i) to[i] &= above[i] & below[i];
}

// Dilates or erodes slices by one shape whose row dy reaches half_width[|dy|] pixels to both sides;
// half_width[0..radius] must not grow, nor exceed MAX_REACH. The scratch planes are reused from slice to slice.
//
// In scratch a guard word follows each row, and rows of zeros lie before and after: a pixel may wander over
// the end of its row, and back, without ever reaching the next row.
constexpr int MAX_REACH = WORD_BITS - 1;

class Discs {
public:
    Discs(const std::int32_t* half_width, int radius, std::ptrdiff_t rows, std::ptrdiff_t words)
        : half_width_(half_width), radius_(radius), rows_(rows), words_(words), pitch_(words + 1),
          margin_((2 * radius + 1) * pitch_), now_(plane()), next_(plane()), sum_(plane()) {}

    // From now on slices have so many rows and words, no more than at first.
    void set_size(std::ptrdiff_t rows, std::ptrdiff_t words) {
        rows_ = rows;
        words_ = words;
        pitch_ = words + 1;
        margin_ = (2 * radius_ + 1) * pitch_;
    }

    template <bool dilating>
    void apply(const word* from, word* to) {
        std::ptrdiff_t first, stop;
        if (!filled_rows(from, rows_, words_, &first, &stop)) {
            std::memset(to, 0, static_cast<std::size_t>(rows_ * words_) * sizeof(word));
            return;
        }
        const std::ptrdiff_t grow = dilating ? radius_ : 0;
        const std::ptrdiff_t begin = first < grow ? 0 : first - grow;
        const std::ptrdiff_t end = stop + grow > rows_ ? rows_ : stop + grow;
        load(from, begin, end);
        gather<dilating>((end - begin) * pitch_);
        std::memset(to, 0, static_cast<std::size_t>(begin * words_) * sizeof(word));
        for (std::ptrdiff_t y = begin; y < end; ++y)
            std::memcpy(to + y * words_, sum_.data() + margin_ + (y - begin) * pitch_, row_bytes());
        std::memset(to + end * words_, 0, static_cast<std::size_t>((rows_ - end) * words_) * sizeof(word));
    }

private:
    std::vector<word> plane() const {
        return std::vector<word>(static_cast<std::size_t>(rows_ * pitch_ + 2 * margin_ + 2));
    }
    std::size_t row_bytes() const { return static_cast<std::size_t>(words_) * sizeof(word); }

    void load(const word* from, std::ptrdiff_t begin, std::ptrdiff_t end) {
        std::fill(now_.begin(), now_.begin() + (end - begin) * pitch_ + 2 * margin_, word{0});
        for (std::ptrdiff_t y = begin; y < end; ++y)
            std::memcpy(now_.data() + margin_ + (y - begin) * pitch_, from + y * words_, row_bytes());
    }

    // From the narrowest rows of the shape (the farthest) to its middle row, widening as it goes.
    template <bool dilating>
    void gather(std::ptrdiff_t n) {
        word* sum = sum_.data() + margin_;
        std::fill(sum, sum + n, dilating ? word{0} : ~word{0});
        int reach = 0;
        for (int dy = radius_; dy >= 0; --dy) {
            while (reach < half_width_[dy]) {
                int step = half_width_[dy] - reach;
                if (step > 2 * reach + 1) step = 2 * reach + 1;  // a wider step would leave a gap
                widen_rows<dilating>(n, step);
                reach += step;
            }
            const word* now = now_.data() + margin_;
            if (dilating) join_or(sum, now + dy * pitch_, now - dy * pitch_, n);
            else join_and(sum, now + dy * pitch_, now - dy * pitch_, n);
        }
    }

    template <bool dilating>
    void widen_rows(std::ptrdiff_t n, int step) {
        const word* from = now_.data() + margin_;
        word* to = next_.data() + margin_;
        if (dilating) widen_or(from - 1, to - 1, n + 1, step);
        else widen_and(from - 1, to - 1, n + 1, step);
        std::fill(next_.data(), to - 1, word{0});  // what an earlier slice left there
        std::fill(to + n, to + n + margin_, word{0});
        now_.swap(next_);
    }

    const std::int32_t* half_width_;
    int radius_;
    std::ptrdiff_t rows_, words_, pitch_, margin_;
    std::vector<word> now_, next_, sum_;
};

template <bool dilating>
inline void shape_slices(const word* from, word* to, std::ptrdiff_t slices, std::ptrdiff_t rows, std::ptrdiff_t words,
                         const std::int32_t* half_width, int radius) {
    Discs discs(half_width, radius, rows, words);
    for (std::ptrdiff_t i = 0; i < slices * rows * words; i += rows * words) discs.apply<dilating>(from + i, to + i);
}

FASTCT_WIDE inline std::int64_t count_bits(const word* words, std::ptrdiff_t n) {
    std::int64_t sum = 0;
    for (std::ptrdiff_t i = 0; i < n; ++i) sum += __builtin_popcountll(words[i]);
    return sum;
}

// The bits x0 <= x < x1 of a row: the words they touch, each with its mask.
template <class Action>
inline void for_span(std::int32_t x0, std::int32_t x1, Action action) {
    const std::int32_t first = x0 / WORD_BITS, last = (x1 - 1) / WORD_BITS;
    for (std::int32_t w = first; w <= last; ++w) {
        word mask = ~word{0};
        if (w == first) mask <<= x0 % WORD_BITS;
        if (w == last) mask &= ~word{0} >> (WORD_BITS - 1 - (x1 - 1) % WORD_BITS);
        action(w, mask);
    }
}

// A byte of `value` or 0 for each bit of a byte.
struct ByteValues {
    std::int8_t bytes[256][8];
    explicit ByteValues(int value) {
        for (int bits = 0; bits < 256; ++bits)
            for (int i = 0; i < 8; ++i) bytes[bits][i] = static_cast<std::int8_t>(bits >> i & 1 ? value : 0);
    }
    void spread(word bits, std::int8_t* out) const {
        for (int b = 0; b < 8; ++b) std::memcpy(out + 8 * b, bytes[bits >> (8 * b) & 0xff], 8);
    }
};

// Writes `label` where the mask is set; pixels that only pad the last word are left out.
inline void write_label(const word* mask, std::ptrdiff_t rows, std::ptrdiff_t words, std::ptrdiff_t columns,
                        std::uint8_t label, char* out, std::ptrdiff_t row_stride, std::ptrdiff_t pixel_stride) {
    static const ByteValues ones_of(1);
    for (std::ptrdiff_t y = 0; y < rows; ++y)
        for (std::ptrdiff_t w = 0; w < words; ++w) {
            word bits = mask[y * words + w];
            if (!bits) continue;
            char* to = out + y * row_stride + w * WORD_BITS * pixel_stride;
            if (pixel_stride == 1 && (w + 1) * WORD_BITS <= columns) {
                for (int i = 0; i < 8; ++i) {
                    std::uint64_t eight, ones;
                    std::memcpy(&eight, to + 8 * i, 8);
                    std::memcpy(&ones, ones_of.bytes[bits >> (8 * i) & 0xff], 8);
                    // A pixel that is set takes the label, whatever stood there.
                    eight = (eight & ~(ones * 0xff)) | ones * label;
                    std::memcpy(to + 8 * i, &eight, 8);
                }
                continue;
            }
            for (; bits; bits &= bits - 1) {
                const std::ptrdiff_t i = __builtin_ctzll(bits);
                if (w * WORD_BITS + i < columns) to[i * pixel_stride] = static_cast<char>(label);
            }
        }
}

// The word of 64 labels that are `label`, or, for label 0, that are anything but 0.
inline word pack_labels_word(const std::uint8_t* labels, std::uint8_t label) {
    word bits = 0;
#ifdef FASTCT_X86
    const __m128i wanted = _mm_set1_epi8(static_cast<char>(label));
    for (int i = 0; i < 4; ++i) {
        const __m128i pixels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(labels + 16 * i));
        const unsigned equal = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(pixels, wanted)));
        bits |= static_cast<word>(equal) << (16 * i);
    }
#else
    for (int i = 0; i < WORD_BITS; ++i) bits |= static_cast<word>(labels[i] == label) << i;
#endif
    return label ? bits : ~bits;
}

inline void pack_labels(const char* labels, std::ptrdiff_t row_stride, std::ptrdiff_t pixel_stride,
                        std::ptrdiff_t rows, std::ptrdiff_t columns, std::uint8_t label, word* out) {
    const std::ptrdiff_t words = (columns + WORD_BITS - 1) / WORD_BITS;
    std::uint8_t part[WORD_BITS];
    for (std::ptrdiff_t y = 0; y < rows; ++y)
        for (std::ptrdiff_t w = 0; w < words; ++w) {
            const char* from = labels + y * row_stride + w * WORD_BITS * pixel_stride;
            const std::ptrdiff_t n = std::min<std::ptrdiff_t>(columns - w * WORD_BITS, WORD_BITS);
            const std::uint8_t* pixels = reinterpret_cast<const std::uint8_t*>(from);
            if (n < WORD_BITS || pixel_stride != 1) {
                std::memset(part, label ? label - 1 : 0, sizeof part);  // padding is never set
                for (std::ptrdiff_t i = 0; i < n; ++i) part[i] = static_cast<std::uint8_t>(from[i * pixel_stride]);
                pixels = part;
            }
            out[y * words + w] = pack_labels_word(pixels, label);
        }
}

}  // namespace fastct
