// ctpack's AVX2 encoder for planes of 64 columns: prediction, widths and packing of two rows in registers.
//
// Rows lie in registers as in ctpack_avx2_rows64.h: vector k holds columns 8 k to 8 k + 7 in its low half and
// 32 + 8 k to 39 + 8 k in its high half, which are those of blocks k and k + 4.
#pragma once
#ifdef FASTCT_X86

namespace ctpack::avx2 {

// What a row leaves for the one below it.
struct Above {
    Row64 edges;       // differences, sign bits flipped
    __m256i firsts;    // its first voxel in the first lane
};

FASTCT_AVX2 Row64 load_columns(const int16_t* row) {
    Row64 columns;
    for (int k = 0; k < 4; ++k) columns.v[k] = load_halves(row + 8 * k, row + 32 + 8 * k);
    return columns;
}

// Differences from the left; nothing before the row is read.
FASTCT_AVX2 Row64 differences(const int16_t* row, const Row64& here) {
    Row64 edges;
    for (int k = 0; k < 4; ++k) {
        const __m256i left = k ? load_halves(row + 8 * k - 1, row + 31 + 8 * k)
                               : _mm256_blend_epi32(_mm256_slli_si256(here.v[0], 2), load_twice(row + 31), 0xF0);
        edges.v[k] = _mm256_xor_si256(_mm256_sub_epi16(here.v[k], left), flipped());
    }
    clear_first(edges);
    return edges;
}

// In a volume, the chunk to the right is the next one; its rows lie too far apart for the processor to foresee.
FASTCT_AVX2 void fetch_next(const int16_t* row) {
    __builtin_prefetch(row + 64);
    __builtin_prefetch(row + 96);
    __builtin_prefetch(row + 127);  // rows need not begin a cache line
}

FASTCT_AVX2 Row64 residuals64(const int16_t* row, Above& above) {
    fetch_next(row);
    const Row64 here = load_columns(row), edges = differences(row, here);
    const Row64 none = {{_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                         _mm256_setzero_si256()}};
    const Row64 expected = next_edges(above.edges, flipped(), flipped(), none);
    Row64 residuals;
    for (int k = 0; k < 4; ++k) residuals.v[k] = _mm256_sub_epi16(edges.v[k], expected.v[k]);
    const __m256i down = _mm256_and_si256(_mm256_sub_epi16(here.v[0], above.firsts), first_column());
    residuals.v[0] = _mm256_or_si256(_mm256_andnot_si256(first_column(), residuals.v[0]), down);
    above = {edges, here.v[0]};
    return residuals;
}

FASTCT_AVX2 __m256i zigzag(__m256i values) {
    return _mm256_xor_si256(_mm256_add_epi16(values, values), _mm256_srai_epi16(values, 15));
}

FASTCT_AVX2 __m256i or_pairs(__m256i a, __m256i b) {  // of 64 bits: a's to the low one of a half, b's to the high
    return _mm256_or_si256(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

// The 4-bit codes of the eight blocks of two rows, the first lowest. A float's exponent counts bits.
FASTCT_AVX2 uint32_t strip_codes(const Row64& upper, const Row64& lower) {
    __m256i bits[4];
    for (int k = 0; k < 4; ++k) bits[k] = _mm256_or_si256(zigzag(upper.v[k]), zigzag(lower.v[k]));
    const __m256 low = _mm256_castsi256_ps(or_pairs(bits[0], bits[1])),
                 high = _mm256_castsi256_ps(or_pairs(bits[2], bits[3]));
    const __m256i both = _mm256_or_si256(_mm256_castps_si256(_mm256_shuffle_ps(low, high, 0x88)),
                                         _mm256_castps_si256(_mm256_shuffle_ps(low, high, 0xDD)));
    const __m256i each = _mm256_and_si256(_mm256_or_si256(both, _mm256_srli_epi32(both, 16)),
                                          _mm256_set1_epi32(0xffff));
    const __m256i exponents = _mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(each)), 23);
    const __m256i widths = _mm256_max_epi32(_mm256_sub_epi32(exponents, _mm256_set1_epi32(126)),
                                            _mm256_setzero_si256());
    const __m256i codes = _mm256_sllv_epi32(_mm256_min_epi32(widths, _mm256_set1_epi32(int(WIDE))),
                                            _mm256_set_epi32(28, 24, 20, 16, 12, 8, 4, 0));
    const __m128i four = _mm_or_si128(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    const __m128i two = _mm_or_si128(four, _mm_unpackhi_epi64(four, four));
    return uint32_t(_mm_cvtsi128_si32(two)) | uint32_t(_mm_extract_epi32(two, 1));
}

FASTCT_AVX2 uint8_t* pack_block(__m256i values, uint32_t code, uint8_t* out) {
    const uint32_t width = width_of(code);
    store_halves(out, out + width, code == WIDE ? values : pack16(values, width));
    return out + 2 * width;
}

FASTCT_AVX2 uint8_t* pack_strip(const Row64& upper, const Row64& lower, uint32_t codes, uint8_t* out) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k)
        out = pack_block(_mm256_permute2x128_si256(upper.v[k], lower.v[k], 0x20), codes >> (4 * k) & 15, out);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k)
        out = pack_block(_mm256_permute2x128_si256(upper.v[k], lower.v[k], 0x31), codes >> (16 + 4 * k) & 15, out);
    return out;
}

FASTCT_AVX2 size_t encode_strip(const VoxelRows& rows, const Planes& planes, uint8_t* widths, uint8_t* body) {
    uint8_t* out = body;
    Above above = {{{flipped(), flipped(), flipped(), flipped()}}, load_halves(rows.at(0), rows.at(0))};
    for (size_t y = 0; y < planes.height; y += 2) {
        const Row64 upper = residuals64(rows.at(y), above), lower = residuals64(rows.at(y + 1), above);
        const uint32_t codes = strip_codes(upper, lower);
        std::memcpy(widths + 2 * y, &codes, 4);
        if (codes) out = pack_strip(upper, lower, codes, out);
    }
    return size_t(out - body);
}

}  // namespace ctpack::avx2

#endif
