// Rows of voxels mapped on a line, and read trilinearly along a straight track; AVX2 twins chosen at run time.
#pragma once
#include <algorithm>

#include "values.h"

namespace turning {

using values::Line;

constexpr int FRACTION_BITS = 32;  // places are counted in steps of 2^-32 voxel
constexpr float WEIGHT_UNIT = 1.0f / (1 << 24);

// A row of the output along one axis of the volume: its first place, the distance of the next one, and the outer
// centres of the volume, between which places are kept.
struct Track {
    int64_t start, step, low, high;

    int64_t at(int64_t x) const { return start + x * step; }
    bool stays_within(int64_t margin, int64_t n) const {
        const int64_t last = at(n - 1);
        return std::min(start, last) >= low - margin && std::max(start, last) <= high + margin;
    }
    int64_t kept(int64_t x) const { return std::clamp(at(x), low, high); }
};

inline float blend(float near, float far, float weight) { return near + weight * (far - near); }

inline float weight_of(int64_t place) { return float(int32_t(uint32_t(place) >> 8)) * WEIGHT_UNIT; }

// ---- rows of the part -------------------------------------------------------------------------------------

// Voxels mapped on a line; those of two rows blended where `far` is another.
template <class In>
__attribute__((always_inline)) inline void map_row(const uint8_t* near, const uint8_t* far, ptrdiff_t step_bytes,
                                                   int64_t n, const Line& given, float weight, float* out) {
    const Line line = given;  // a copy, as the output could lie over it for all that the compiler knows
    const auto at = [=](const uint8_t* row, int64_t x) {
        return float(*reinterpret_cast<const In*>(row + x * step_bytes));
    };
    if (near == far)
        for (int64_t x = 0; x < n; ++x) out[x] = line(at(near, x));
    else
        for (int64_t x = 0; x < n; ++x) out[x] = blend(line(at(near, x)), line(at(far, x)), weight);
}

using MapRow = void (*)(const uint8_t*, const uint8_t*, ptrdiff_t, int64_t, const Line&, float, float*);

template <class In>
void map_row_portable(const uint8_t* near, const uint8_t* far, ptrdiff_t step_bytes, int64_t n, const Line& line,
                      float weight, float* out) {
    if (step_bytes == sizeof(In)) return map_row<In>(near, far, sizeof(In), n, line, weight, out);
    map_row<In>(near, far, step_bytes, n, line, weight, out);
}

// ---- rows of the output -----------------------------------------------------------------------------------

// Mapped voxels; an index counts from the first of them.
struct Part {
    const float* voxels;
    int32_t plane, row;  // voxels to the next one
};

// Along z (where a row is `deep`), then y, then x.
template <bool deep>
void read_row_portable(const Part& part, const Track* tracks, int64_t n, float* out) {
    for (int64_t i = 0; i < n; ++i) {
        const int64_t z = deep ? tracks[0].kept(i) : 0, y = tracks[1].kept(i), x = tracks[2].kept(i);
        const float* near = part.voxels + (z >> FRACTION_BITS) * part.plane + (y >> FRACTION_BITS) * part.row +
                            (x >> FRACTION_BITS);
        const float* below = near + part.row;
        const float wz = weight_of(z), wy = weight_of(y), wx = weight_of(x);
        float corner[4] = {near[0], near[1], below[0], below[1]};
        if (deep) {
            corner[0] = blend(corner[0], near[part.plane], wz);
            corner[1] = blend(corner[1], near[part.plane + 1], wz);
            corner[2] = blend(corner[2], below[part.plane], wz);
            corner[3] = blend(corner[3], below[part.plane + 1], wz);
        }
        out[i] = blend(blend(corner[0], corner[2], wy), blend(corner[1], corner[3], wy), wx);
    }
}

using ReadRow = void (*)(const Part&, const Track*, int64_t, float*);

#ifdef FASTCT_X86
#define FASTCT_AVX2_INLINE __attribute__((target("avx2"), always_inline)) inline

template <class In>
__attribute__((target("avx2"))) void map_row_avx2(const uint8_t* near, const uint8_t* far, ptrdiff_t step_bytes,
                                                  int64_t n, const Line& line, float weight, float* out) {
    if (step_bytes == sizeof(In)) return map_row<In>(near, far, sizeof(In), n, line, weight, out);
    map_row<In>(near, far, step_bytes, n, line, weight, out);
}

// Eight places in a row: voxels 0, 1, 4, 5 and 2, 3, 6, 7, which shuffles within halves bring into order.
struct Eight {
    __m256i even, odd, ahead, low, high;
    bool leaves;
};

FASTCT_AVX2_INLINE Eight eight_from(const Track& track, int64_t n) {
    const int64_t a = track.start, d = track.step;
    return {_mm256_set_epi64x(a + 5 * d, a + 4 * d, a + d, a),
            _mm256_set_epi64x(a + 7 * d, a + 6 * d, a + 3 * d, a + 2 * d),
            _mm256_set1_epi64x(8 * d),
            _mm256_set1_epi64x(track.low),
            _mm256_set1_epi64x(track.high),
            !track.stays_within(0, n)};
}

FASTCT_AVX2_INLINE __m256i kept_within(__m256i places, const Eight& eight) {
    const __m256i above = _mm256_blendv_epi8(places, eight.low, _mm256_cmpgt_epi64(eight.low, places));
    return _mm256_blendv_epi8(above, eight.high, _mm256_cmpgt_epi64(above, eight.high));
}

struct Taps {
    __m256i whole;
    __m256 weight;
};

// What the eight places read; then they are the next eight.
FASTCT_AVX2_INLINE Taps next_taps(Eight& eight) {
    __m256i even = eight.even, odd = eight.odd;
    eight.even = _mm256_add_epi64(even, eight.ahead), eight.odd = _mm256_add_epi64(odd, eight.ahead);
    if (eight.leaves) even = kept_within(even, eight), odd = kept_within(odd, eight);
    const __m256 e = _mm256_castsi256_ps(even), o = _mm256_castsi256_ps(odd);
    const __m256i part = _mm256_castps_si256(_mm256_shuffle_ps(e, o, _MM_SHUFFLE(2, 0, 2, 0)));
    return {_mm256_castps_si256(_mm256_shuffle_ps(e, o, _MM_SHUFFLE(3, 1, 3, 1))),
            _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(part, 8)), _mm256_set1_ps(WEIGHT_UNIT))};
}

FASTCT_AVX2_INLINE __m256 blend(__m256 near, __m256 far, __m256 weight) {
    return _mm256_add_ps(near, _mm256_mul_ps(weight, _mm256_sub_ps(far, near)));
}

struct Pairs {
    __m256 left, right;
};

FASTCT_AVX2_INLINE __m128 two_pairs(const float* voxels, int32_t first, int32_t second) {
    double low;  // two floats, which only a copy may read as such
    std::memcpy(&low, voxels + first, sizeof low);
    return _mm_loadh_pi(_mm_castpd_ps(_mm_set_sd(low)), reinterpret_cast<const __m64*>(voxels + second));
}

// Two neighbours along x for each of eight voxels.
FASTCT_AVX2_INLINE Pairs load_pairs(const float* voxels, const int32_t* index) {
    const __m256 even = _mm256_set_m128(two_pairs(voxels, index[4], index[5]), two_pairs(voxels, index[0], index[1]));
    const __m256 odd = _mm256_set_m128(two_pairs(voxels, index[6], index[7]), two_pairs(voxels, index[2], index[3]));
    return {_mm256_shuffle_ps(even, odd, _MM_SHUFFLE(2, 0, 2, 0)),
            _mm256_shuffle_ps(even, odd, _MM_SHUFFLE(3, 1, 3, 1))};
}

FASTCT_AVX2_INLINE Pairs blend(const Pairs& near, const Pairs& far, __m256 weight) {
    return {blend(near.left, far.left, weight), blend(near.right, far.right, weight)};
}

template <bool deep>
__attribute__((target("avx2"))) void read_row_avx2(const Part& part, const Track* tracks, int64_t n, float* out) {
    Eight z = eight_from(tracks[0], n), y = eight_from(tracks[1], n), x = eight_from(tracks[2], n);
    const __m256i plane = _mm256_set1_epi32(part.plane), row = _mm256_set1_epi32(part.row);
    const float* below = part.voxels + part.row;
    alignas(32) int32_t index[8];
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const Taps y_taps = next_taps(y), x_taps = next_taps(x);
        __m256i at = _mm256_add_epi32(_mm256_mullo_epi32(y_taps.whole, row), x_taps.whole);
        Taps z_taps;
        if (deep) z_taps = next_taps(z), at = _mm256_add_epi32(at, _mm256_mullo_epi32(z_taps.whole, plane));
        _mm256_store_si256(reinterpret_cast<__m256i*>(index), at);
        Pairs upper = load_pairs(part.voxels, index), lower = load_pairs(below, index);
        if (deep) {
            upper = blend(upper, load_pairs(part.voxels + part.plane, index), z_taps.weight);
            lower = blend(lower, load_pairs(below + part.plane, index), z_taps.weight);
        }
        const Pairs both = blend(upper, lower, y_taps.weight);
        _mm256_storeu_ps(out + i, blend(both.left, both.right, x_taps.weight));
    }
    Track rest[3];
    for (int a = 0; a < 3; ++a) rest[a] = {tracks[a].at(i), tracks[a].step, tracks[a].low, tracks[a].high};
    read_row_portable<deep>(part, rest, n - i, out + i);
}
#undef FASTCT_AVX2_INLINE
#endif

struct Kernels {
    MapRow map;
    ReadRow flat, deep;
};

template <class In>
inline Kernels choose(bool portable) {
#ifdef FASTCT_X86
    if (!portable && ctpack::has_avx2()) return {map_row_avx2<In>, read_row_avx2<false>, read_row_avx2<true>};
#endif
    (void)portable;
    return {map_row_portable<In>, read_row_portable<false>, read_row_portable<true>};
}

}  // namespace turning
