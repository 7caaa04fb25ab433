// What lungs look like from the front: projections, silhouettes, HU counts and places, slice by slice.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bitrows.h"
#include "runs.h"

namespace fastct {

// Voxels in C order, with labels (0: nothing) of the same shape.
struct Chest {
    const std::int16_t* hu;
    const std::uint8_t *lungs, *lesion;
    std::ptrdiff_t slices, rows, columns;
};

// Set voxels of each slice, row and column; all begin at 0.
struct Tally {
    std::int64_t *slices, *rows, *columns;
};

// Pictures (z, x), which begin empty: see `lung_views` in fastct/kernels/views.py.
struct Front {
    std::int16_t *brightest, *darkest;
    std::uint8_t *outline, *shadow;
};

// A histogram HU by HU; neighbours are counted in tables of their own, since adding twice to one place has to wait.
class HuCounts {
public:
    HuCounts(std::int32_t low_hu, std::int32_t bins)
        : low_hu_(low_hu), top_(bins - 1), counts_(static_cast<std::size_t>(bins) * TABLES) {}

    void add(const std::int16_t* hu, std::int32_t from, std::int32_t to) {
        for (std::int32_t x = from; x < to; ++x)
            ++counts_[std::clamp(hu[x] - low_hu_, 0, top_) * TABLES + x % TABLES];
    }

    void write(std::int64_t* out) const {
        for (std::size_t i = 0; i < counts_.size(); ++i) out[i / TABLES] += counts_[i];
    }

private:
    static constexpr std::int32_t TABLES = 4;
    std::int32_t low_hu_, top_;
    std::vector<std::uint32_t> counts_;
};

template <class Action>
inline void for_runs(const word* row, std::ptrdiff_t words, Action act) {
    std::int32_t from = -1;
    for_ends(row, words, [&](std::int32_t x) {
        if (from < 0) from = x;
        else act(from, x), from = -1;
    });
}

FASTCT_WIDE inline void raise_line(std::uint8_t* __restrict seen, const std::uint8_t* __restrict line,
                                   std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) seen[x] = std::max(seen[x], line[x]);
}

FASTCT_WIDE inline void brighten_line(std::int16_t* __restrict seen, const std::int16_t* __restrict hu,
                                      std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) seen[x] = std::max(seen[x], hu[x]);
}

FASTCT_WIDE inline void darken_line(std::int16_t* __restrict seen, const std::int16_t* __restrict hu,
                                    std::ptrdiff_t n) {
    for (std::ptrdiff_t x = 0; x < n; ++x) seen[x] = std::min(seen[x], hu[x]);
}

// The 64 pixels of a row from any column on; those beyond its ends are empty.
inline word pixels_from(const word* row, std::ptrdiff_t words, std::ptrdiff_t x) {
    const std::ptrdiff_t w = x >= 0 ? x / WORD_BITS : -((-x + WORD_BITS - 1) / WORD_BITS), shift = x - w * WORD_BITS;
    const word low = w >= 0 && w < words ? row[w] : 0;
    if (!shift) return low;
    return low >> shift | (w + 1 >= 0 && w + 1 < words ? row[w + 1] : 0) << (WORD_BITS - shift);
}

// The marks of one slice, from which all else is told.
class Marks {
public:
    explicit Marks(const Chest& chest)
        : rows_(chest.rows), columns_(chest.columns), words_((chest.columns + WORD_BITS - 1) / WORD_BITS),
          bits_(static_cast<std::size_t>(rows_ * words_)), change_(static_cast<std::size_t>(words_ * WORD_BITS + 1)),
          first_(static_cast<std::size_t>(rows_)), last_(first_.size()) {}

    const word* row(std::ptrdiff_t y) const { return bits_.data() + y * words_; }
    std::ptrdiff_t words() const { return words_; }
    std::int32_t first(std::ptrdiff_t y) const { return first_[y]; }
    std::int32_t last(std::ptrdiff_t y) const { return last_[y]; }  // one past it; 0 where the row is empty

    // Packs the labels of slice z, and takes up where they are and what they look like from the front.
    void take(const std::uint8_t* labels, std::ptrdiff_t z, const Tally& tally, std::uint8_t* front) {
        pack_labels(reinterpret_cast<const char*>(labels), columns_, 1, rows_, columns_, 0, bits_.data());
        for (std::ptrdiff_t y = 0; y < rows_; ++y) {
            first_[y] = static_cast<std::int32_t>(columns_);
            last_[y] = 0;
            std::int64_t number = 0;
            for_runs(row(y), words_, [&](std::int32_t from, std::int32_t to) {
                first_[y] = std::min(first_[y], from);
                last_[y] = to;
                number += to - from;
                ++change_[from];
                --change_[to];
            });
            if (!number) continue;
            tally.slices[z] += number;
            tally.rows[y] += number;
            raise_line(front + first_[y], labels + y * columns_ + first_[y], last_[y] - first_[y]);
        }
    }

    void write_columns(const Tally& tally) const {
        std::int64_t now = 0;
        for (std::ptrdiff_t x = 0; x < columns_; ++x) tally.columns[x] = now += change_[x];
    }

private:
    std::ptrdiff_t rows_, columns_, words_;
    std::vector<word> bits_;
    std::vector<std::int64_t> change_;
    std::vector<std::int32_t> first_, last_;
};

// Two histograms of `bins` whole HU from `low_hu` on go to `counts`: of the lungs, and of the lesion in them.
class LungViews {
public:
    LungViews(const Chest& chest, const Front& front, int rim_y, int rim_x, std::int32_t low_hu, std::int32_t bins)
        : chest_(chest), front_(front), rim_y_(rim_y), rim_x_(rim_x), lungs_(chest), lesion_(chest),
          part_(static_cast<std::size_t>(lungs_.words())), inside_(low_hu, bins), ill_(low_hu, bins) {}

    void run(const Tally& lungs, const Tally& lesion, std::int64_t* counts, std::int32_t bins) {
        const std::ptrdiff_t plane = chest_.rows * chest_.columns;
        for (std::ptrdiff_t z = 0; z < chest_.slices; ++z) {
            lungs_.take(chest_.lungs + z * plane, z, lungs, front_.outline + z * chest_.columns);
            lesion_.take(chest_.lesion + z * plane, z, lesion, front_.shadow + z * chest_.columns);
            for (std::ptrdiff_t y = 0; y < chest_.rows; ++y)
                if (lungs_.last(y)) see_row(z, y);
        }
        lungs_.write_columns(lungs);
        lesion_.write_columns(lesion);
        inside_.write(counts);
        ill_.write(counts + bins);
    }

private:
    void see_row(std::ptrdiff_t z, std::ptrdiff_t y) {
        const std::int16_t* hu = chest_.hu + (z * chest_.rows + y) * chest_.columns;
        const std::ptrdiff_t words = lungs_.words();
        for_runs(lungs_.row(y), words, [&](std::int32_t from, std::int32_t to) { inside_.add(hu, from, to); });
        if (lesion_.last(y)) {
            for (std::ptrdiff_t w = 0; w < words; ++w) part_[w] = lungs_.row(y)[w] & lesion_.row(y)[w];
            for_runs(part_.data(), words, [&](std::int32_t from, std::int32_t to) { ill_.add(hu, from, to); });
        }
        if (y < rim_y_ || y >= chest_.rows - rim_y_) return;
        brighten(y, hu, front_.brightest + z * chest_.columns);
        const std::ptrdiff_t above = y - rim_y_, below = y + rim_y_;
        const std::int32_t start = std::max({lungs_.first(y) + rim_x_, lungs_.first(above), lungs_.first(below)});
        const std::int32_t stop = std::min({lungs_.last(y) - rim_x_, lungs_.last(above), lungs_.last(below)});
        if (start < stop) darken_line(front_.darkest + z * chest_.columns + start, hu + start, stop - start);
    }

    // Where lung is all around.
    void brighten(std::ptrdiff_t y, const std::int16_t* hu, std::int16_t* seen) {
        const word *own = lungs_.row(y), *above = lungs_.row(y - rim_y_), *below = lungs_.row(y + rim_y_);
        const std::ptrdiff_t words = lungs_.words();
        for (std::ptrdiff_t w = 0; w < words; ++w) {
            part_[w] = own[w] & above[w] & below[w];
            if (!part_[w]) continue;
            const std::ptrdiff_t x = w * WORD_BITS;
            part_[w] &= pixels_from(own, words, x - rim_x_) & pixels_from(own, words, x + rim_x_);
        }
        for_runs(part_.data(), words, [&](std::int32_t from, std::int32_t to) {
            brighten_line(seen + from, hu + from, to - from);
        });
    }

    Chest chest_;
    Front front_;
    int rim_y_, rim_x_;
    Marks lungs_, lesion_;
    std::vector<word> part_;
    HuCounts inside_, ill_;
};

}  // namespace fastct
