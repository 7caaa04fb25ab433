// The AVX2 twin of values::map_rows: the same voxels, eight at a time. Float16 comes of F16C.
#pragma once
#ifdef FASTCT_X86
#include <cpuid.h>

#define FASTCT_F16C __attribute__((target("avx2,f16c"))) inline

namespace values::avx2 {

// Not every compiler's __builtin_cpu_supports knows F16C.
inline bool has_f16c() {
    unsigned eax, ebx, ecx = 0, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

inline const bool IS_THERE = ctpack::has_avx2() && has_f16c();

FASTCT_F16C __m256 load(const float* in) { return _mm256_loadu_ps(in); }

FASTCT_F16C __m256 load(const int16_t* in) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
    return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(values));
}

FASTCT_F16C __m256 load(const uint8_t* in) {
    const __m128i values = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(in));
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(values));
}

FASTCT_F16C void store(__m256 values, float* out) { _mm256_storeu_ps(out, values); }

FASTCT_F16C void store(__m256 values, Half* out) {
    const __m128i halves = _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), halves);
}

// Eight whole numbers within the type's range, ties to even.
FASTCT_F16C __m128i whole(__m256 values, float low, float high) {
    const __m256 kept = _mm256_min_ps(_mm256_max_ps(values, _mm256_set1_ps(low)), _mm256_set1_ps(high));
    const __m256i rounded = _mm256_cvtps_epi32(kept);
    return _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
}

FASTCT_F16C void store(__m256 values, int16_t* out) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), whole(values, -32768.0f, 32767.0f));
}

FASTCT_F16C void store(__m256 values, uint8_t* out) {
    const __m128i words = whole(values, 0.0f, 255.0f);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(out), _mm_packus_epi16(words, words));
}

// As the portable twin has them: where two numbers cannot be compared, max and min give the second.
FASTCT_F16C __m256 mapped(__m256 values, const Line& line) {
    const __m256 moved = _mm256_mul_ps(_mm256_sub_ps(values, _mm256_set1_ps(line.anchor)), _mm256_set1_ps(line.slope));
    const __m256 above = _mm256_max_ps(_mm256_add_ps(moved, _mm256_set1_ps(line.offset)), _mm256_set1_ps(line.floor));
    return _mm256_min_ps(above, _mm256_set1_ps(line.ceiling));
}

template <class In, class Out, bool backward>
FASTCT_F16C void map_rows(const From& from, const To& to, const Extent& extent, const Line& given) {
    const Line line = given;  // a copy, as the outputs could lie over it for all that the compiler knows
    const __m256i turned = _mm256_setr_epi32(7, 6, 5, 4, 3, 2, 1, 0);
    for (size_t z = 0; z < extent.planes; ++z)
        for (size_t y = 0; y < extent.rows; ++y) {
            const In* __restrict in = reinterpret_cast<const In*>(from.row(z, y));
            Out* __restrict out = reinterpret_cast<Out*>(to.row(z, y));
            size_t x = 0;
            for (; x + 8 <= extent.columns; x += 8) {
                const __m256 values = mapped(load(in + x), line);
                if (backward)
                    store(_mm256_permutevar8x32_ps(values, turned), out - x - 7);
                else
                    store(values, out + x);
            }
            for (; x < extent.columns; ++x)
                values::store(line(float(in[x])), out[backward ? -ptrdiff_t(x) : ptrdiff_t(x)]);
        }
}

}  // namespace values::avx2

#undef FASTCT_F16C
#endif
