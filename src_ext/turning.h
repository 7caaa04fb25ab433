// Trilinear reading of a box of float voxels on any affine grid: the same to the bit as kernels/cpu/askew.py.
#pragma once
#include <algorithm>
#include <vector>

#include "values.h"

namespace turning {

constexpr int FRACTION_BITS = 32;  // places are counted in steps of 2^-32 voxel
constexpr float WEIGHT_UNIT = 1.0f / (1 << 24);

// Voxels in C order. Reading goes up to a plane, a row and a voxel beyond them, at a weight of 0: what lies there
// must be finite.
struct Box {
    const float* voxels;
    int64_t shape[3];

    int64_t stride(int axis) const { return axis == 0 ? shape[1] * shape[2] : axis == 1 ? shape[2] : 1; }
    int64_t end(int axis) const { return (shape[axis] - 1) << FRACTION_BITS; }
};

struct Grid {
    int64_t places[3][4];  // where an output voxel (z, y, x, 1) reads, along each axis of the box
    int64_t margin;        // how far beyond its outer centres the box is repeated
    float outside;         // what is read farther off

    int64_t start(int axis, int64_t z, int64_t y) const {
        return places[axis][3] + z * places[axis][0] + y * places[axis][1];
    }
};

struct Out {
    uint8_t* first;
    int64_t shape[3];
    ptrdiff_t plane_bytes, row_bytes;  // rows are contiguous
};

struct Run {
    int64_t first, stop;
};

inline int64_t floor_divided(int64_t a, int64_t positive) {
    const int64_t quotient = a / positive;
    return quotient - (a % positive < 0);
}

// The voxels of a row, from the first up to a stop, whose places lie in [low, high].
inline Run run(int64_t start, int64_t step, int64_t low, int64_t high, int64_t n) {
    if (step == 0) return {0, low <= start && start <= high ? n : 0};
    int64_t first, last;
    if (step > 0)
        first = -floor_divided(start - low, step), last = floor_divided(high - start, step);
    else
        first = -floor_divided(high - start, -step), last = floor_divided(start - low, -step);
    first = std::clamp<int64_t>(first, 0, n);
    return {first, std::clamp<int64_t>(last + 1, first, n)};
}

// What the voxels of a row read: the place of the first of eight neighbours, and the weights of the next ones.
struct Taps {
    std::vector<int32_t> index;
    std::vector<float> weight[3];

    explicit Taps(size_t n) : index(n) {
        for (auto& axis : weight) axis.resize(n);
    }
};

// Adds what an axis contributes to the index of each voxel of a run, and notes the weight of the next neighbour.
struct Axis {
    int64_t start, step, end;
    int32_t stride;

    bool leaves(int64_t n) const {  // whether some place lies beyond the outer centres
        const int64_t last = start + (n - 1) * step;
        return std::min(start, last) < 0 || std::max(start, last) > end;
    }

    void add_one(int64_t x, int32_t* index, float* weight) const {
        const uint64_t place = uint64_t(std::clamp<int64_t>(start + x * step, 0, end));
        index[x] += int32_t(place >> FRACTION_BITS) * stride;
        weight[x] = float(int32_t(uint32_t(place) >> 8)) * WEIGHT_UNIT;
    }

    void add(int64_t from, int64_t n, int32_t* index, float* weight) const {
        for (int64_t x = from; x < n; ++x) add_one(x, index, weight);
    }
};

#ifdef FASTCT_X86
__attribute__((target("avx2"))) inline __m256i kept_within(__m256i places, __m256i end) {
    const __m256i above = _mm256_andnot_si256(_mm256_cmpgt_epi64(_mm256_setzero_si256(), places), places);
    return _mm256_blendv_epi8(above, end, _mm256_cmpgt_epi64(above, end));
}

// Two vectors shuffled together have their pairs in the order 0, 2, 1, 3.
__attribute__((target("avx2"))) inline __m256i in_order(__m256 pairs) {
    return _mm256_permute4x64_epi64(_mm256_castps_si256(pairs), _MM_SHUFFLE(3, 1, 2, 0));
}

// Eight places at a time: their upper halves are indices, their lower ones fractions.
__attribute__((target("avx2"))) inline void add_axis_avx2(const Axis& axis, int64_t n, int32_t* index, float* weight) {
    const bool leaves = axis.leaves(n);
    const __m256i end = _mm256_set1_epi64x(axis.end), stride = _mm256_set1_epi32(axis.stride);
    const __m256i ahead = _mm256_set1_epi64x(4 * axis.step), next = _mm256_set1_epi64x(8 * axis.step);
    __m256i places = _mm256_set_epi64x(axis.start + 3 * axis.step, axis.start + 2 * axis.step, axis.start + axis.step,
                                       axis.start);
    int64_t x = 0;
    for (; x + 8 <= n; x += 8, places = _mm256_add_epi64(places, next)) {
        __m256i low = places, high = _mm256_add_epi64(places, ahead);
        if (leaves) low = kept_within(low, end), high = kept_within(high, end);
        const __m256 l = _mm256_castsi256_ps(low), h = _mm256_castsi256_ps(high);
        const __m256i whole = in_order(_mm256_shuffle_ps(l, h, _MM_SHUFFLE(3, 1, 3, 1)));
        const __m256i part = _mm256_srli_epi32(in_order(_mm256_shuffle_ps(l, h, _MM_SHUFFLE(2, 0, 2, 0))), 8);
        __m256i* sum = reinterpret_cast<__m256i*>(index + x);
        _mm256_storeu_si256(sum, _mm256_add_epi32(_mm256_loadu_si256(sum), _mm256_mullo_epi32(whole, stride)));
        _mm256_storeu_ps(weight + x, _mm256_mul_ps(_mm256_cvtepi32_ps(part), _mm256_set1_ps(WEIGHT_UNIT)));
    }
    axis.add(x, n, index, weight);
}
#endif

inline void add_axis(const Axis& axis, int64_t n, int32_t* index, float* weight, bool portable) {
#ifdef FASTCT_X86
    if (!portable && ctpack::has_avx2()) return add_axis_avx2(axis, n, index, weight);
#endif
    (void)portable;
    axis.add(0, n, index, weight);
}

inline float blend(float near, float far, float weight) { return near + weight * (far - near); }

// Along y, then x: the four neighbours of a plane.
inline float blend_plane(const float* near, int64_t row, float y, float x) {
    return blend(blend(near[0], near[row], y), blend(near[1], near[row + 1], y), x);
}

#ifdef FASTCT_X86
struct Pairs {
    __m128 left, right;
};

// Two neighbours along x for each of four voxels.
inline Pairs load_pairs(const float* voxels, const int32_t* index) {
    const auto two = [&](int k) {
        const __m128 low = _mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(voxels + index[k])));
        return _mm_loadh_pi(low, reinterpret_cast<const __m64*>(voxels + index[k + 1]));
    };
    const __m128 first = two(0), second = two(2);
    return {_mm_shuffle_ps(first, second, _MM_SHUFFLE(2, 0, 2, 0)),
            _mm_shuffle_ps(first, second, _MM_SHUFFLE(3, 1, 3, 1))};
}

inline __m128 blend(__m128 near, __m128 far, __m128 weight) {
    return _mm_add_ps(near, _mm_mul_ps(weight, _mm_sub_ps(far, near)));
}

inline __m128 blend_planes(const float* voxels, const int32_t* index, int64_t row, __m128 y, __m128 x) {
    const Pairs near = load_pairs(voxels, index), below = load_pairs(voxels + row, index);
    return blend(blend(near.left, below.left, y), blend(near.right, below.right, y), x);
}
#endif

// `flat`: every weight along z is 0, so that one plane is enough.
inline void read_run(const Box& box, const Taps& taps, const Run& inside, bool flat, float* row) {
    const int64_t row_stride = box.stride(1), plane_stride = box.stride(0);
    const float *wz = taps.weight[0].data(), *wy = taps.weight[1].data(), *wx = taps.weight[2].data();
    int64_t x = inside.first;
#ifdef FASTCT_X86
    for (; x + 4 <= inside.stop; x += 4) {
        const int32_t* index = &taps.index[size_t(x)];
        const __m128 y_weight = _mm_loadu_ps(wy + x), x_weight = _mm_loadu_ps(wx + x);
        __m128 value = blend_planes(box.voxels, index, row_stride, y_weight, x_weight);
        if (!flat) {
            const __m128 next = blend_planes(box.voxels + plane_stride, index, row_stride, y_weight, x_weight);
            value = blend(value, next, _mm_loadu_ps(wz + x));
        }
        _mm_storeu_ps(row + x, value);
    }
#endif
    for (; x < inside.stop; ++x) {
        const float* near = box.voxels + taps.index[size_t(x)];
        const float value = blend_plane(near, row_stride, wy[x], wx[x]);
        row[x] = flat ? value : blend(value, blend_plane(near + plane_stride, row_stride, wy[x], wx[x]), wz[x]);
    }
}

// One row of float32 results.
inline void read_row(const Box& box, const Grid& grid, int64_t z, int64_t y, int64_t n, Taps& taps, float* row,
                     bool portable) {
    Run inside{0, n};
    for (int a = 0; a < 3; ++a) {
        const Run own = run(grid.start(a, z, y), grid.places[a][2], -grid.margin, box.end(a) + grid.margin, n);
        inside = {std::max(inside.first, own.first), std::min(inside.stop, own.stop)};
    }
    inside.stop = std::max(inside.first, inside.stop);
    std::fill(row, row + inside.first, grid.outside);
    std::fill(row + inside.stop, row + n, grid.outside);
    const int64_t count = inside.stop - inside.first;
    if (count == 0) return;
    std::fill_n(taps.index.begin() + inside.first, count, 0);
    for (int a = 0; a < 3; ++a) {
        const int64_t step = grid.places[a][2], start = grid.start(a, z, y) + inside.first * step;
        const Axis axis{start, step, box.end(a), int32_t(box.stride(a))};
        add_axis(axis, count, &taps.index[size_t(inside.first)], &taps.weight[a][size_t(inside.first)], portable);
    }
    const bool flat = grid.places[0][2] == 0 && taps.weight[0][size_t(inside.first)] == 0;
    read_run(box, taps, inside, flat, row);
}

template <class Voxel>
inline void read_as(const Box& box, const Grid& grid, const Out& out, bool portable) {
    const size_t n = size_t(out.shape[2]);
    Taps taps(n);
    std::vector<float> row(n);
    const values::Line as_it_is{0, 1, 0, -__builtin_inff(), __builtin_inff()};
    const values::Map round = values::choose<float, Voxel>(false, portable);
    for (int64_t z = 0; z < out.shape[0]; ++z)
        for (int64_t y = 0; y < out.shape[1]; ++y) {
            read_row(box, grid, z, y, out.shape[2], taps, row.data(), portable);
            uint8_t* to = out.first + z * out.plane_bytes + y * out.row_bytes;
            round({reinterpret_cast<const uint8_t*>(row.data()), 0, 0}, {to, 0, 0}, {1, 1, n}, as_it_is);
        }
}

// Reads the box on the grid into `out` (not empty), as voxels of a kind.
inline void read(const Box& box, const Grid& grid, const Out& out, values::Kind kind, bool portable) {
    switch (kind) {
        case values::FLOAT32: return read_as<float>(box, grid, out, portable);
        case values::FLOAT16: return read_as<values::Half>(box, grid, out, portable);
        case values::UINT8: return read_as<uint8_t>(box, grid, out, portable);
        default: return read_as<int16_t>(box, grid, out, portable);
    }
}

}  // namespace turning
