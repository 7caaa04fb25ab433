// The AVX2 twin of ctpack's kernels: the same bytes and voxels as namespace portable, sixteen at a time.
#pragma once
#ifdef FASTCT_X86

#define FASTCT_AVX2 __attribute__((target("avx2"))) inline

namespace ctpack::avx2 {

// ---- tables, by block width ------------------------------------------------------------------------------

constexpr uint32_t NARROW = 9;  // up to this width, every value lies within two bytes

// Narrow: a shuffle brings each value's two bytes into its lane, a product moves it to the top of the lane.
// Broad: a shuffle brings its four bytes into a 32-bit lane, shifts to the left by `broad_left` do the rest.
struct Tables {
    alignas(32) uint8_t narrow_bytes[NARROW + 1][16] = {};
    alignas(32) uint16_t narrow_factor[NARROW + 1][8] = {};
    alignas(32) uint8_t broad_bytes[WIDE][32] = {};
    alignas(32) uint32_t broad_left[WIDE][8] = {};

    constexpr Tables() {
        for (uint32_t width = 0; width < WIDE; ++width)
            for (uint32_t i = 0; i < 8; ++i) {
                const uint32_t byte = i * width / 8, bit = i * width % 8;
                for (uint32_t k = 0; k < 4; ++k)
                    broad_bytes[width][4 * i + k] = uint8_t(byte + k < 16 ? byte + k : 0x80);
                broad_left[width][i] = width ? 32 - width - bit : 0;
                if (width > NARROW) continue;
                narrow_bytes[width][2 * i] = uint8_t(byte);
                narrow_bytes[width][2 * i + 1] = uint8_t(byte + 1);
                narrow_factor[width][i] = uint16_t(width ? 1u << (16 - width - bit) : 0);
            }
    }
};

inline constexpr Tables TABLES;

FASTCT_AVX2 __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
FASTCT_AVX2 void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
FASTCT_AVX2 __m256i load_twice(const void* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
FASTCT_AVX2 __m256i load_halves(const void* low, const void* high) {
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(low))),
                                   _mm_loadu_si128(static_cast<const __m128i*>(high)), 1);
}

// ---- unpacking -------------------------------------------------------------------------------------------

FASTCT_AVX2 __m256i unpack_broad8(const uint8_t* in, uint32_t width) {
    const __m256i lanes = _mm256_shuffle_epi8(load_twice(in), load(TABLES.broad_bytes[width]));
    return _mm256_srai_epi32(_mm256_sllv_epi32(lanes, load(TABLES.broad_left[width])), 32 - int(width));
}

FASTCT_AVX2 __m256i unpack_broad(const uint8_t* in, uint32_t width) {
    if (width == 16) return load(in);
    const __m256i mixed = _mm256_packs_epi32(unpack_broad8(in, width), unpack_broad8(in + width, width));
    return _mm256_permute4x64_epi64(mixed, 0xD8);
}

// One block: the low half of the vector holds its first eight values.
FASTCT_AVX2 __m256i unpack16(const uint8_t* in, uint32_t width) {
    if (width > NARROW) return unpack_broad(in, width);
    const __m256i bytes = load_halves(in, in + width);
    const __m256i lanes = _mm256_shuffle_epi8(bytes, load_twice(TABLES.narrow_bytes[width]));
    const __m256i top = _mm256_mullo_epi16(lanes, load_twice(TABLES.narrow_factor[width]));
    return _mm256_sra_epi16(top, _mm_cvtsi32_si128(16 - int(width)));
}

FASTCT_AVX2 void unpack(const PackedPlane& plane, size_t rows, int16_t* residuals) {
    const BlockOrder order(plane.planes);
    const uint8_t* in = plane.body;
    size_t block = 0;
    for (size_t strip = 0; strip < order.strips_for(rows); ++strip)
        for (size_t b = 0; b < order.strip_blocks; ++b, ++block) {
            int16_t* low = residuals + strip * order.strip_pitch + b * order.block_pitch;
            const uint32_t width = width_of(code_at(plane.widths, block));
            const __m256i values = unpack16(in, width);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm256_castsi256_si128(values));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(low + order.half), _mm256_extracti128_si256(values, 1));
            in += 2 * width;
        }
}

// ---- prediction ------------------------------------------------------------------------------------------

// As portable::expected, from the differences to the left, above, and to the right.
FASTCT_AVX2 __m256i expected(__m256i left, __m256i middle, __m256i right) {
    const __m256i outer = _mm256_add_epi16(_mm256_add_epi16(left, right), _mm256_set1_epi16(2));
    return _mm256_srai_epi16(_mm256_add_epi16(outer, _mm256_add_epi16(middle, middle)), 2);
}

FASTCT_AVX2 __m256i expected_at(const int16_t* above) { return expected(load(above - 1), load(above), load(above + 1)); }

// Each lane plus all lanes before it.
FASTCT_AVX2 __m256i running_sum(__m256i x) {
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 2));
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 4));
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 8));
    const __m256i low = _mm256_permute2x128_si256(x, x, 0x08);  // the low half, moved up
    return _mm256_add_epi16(x, _mm256_shuffle_epi8(low, _mm256_set1_epi16(0x0f0e)));
}

FASTCT_AVX2 __m256i broadcast_last(__m256i x) {
    return _mm256_shuffle_epi8(_mm256_permute4x64_epi64(x, 0xFF), _mm256_set1_epi16(0x0f0e));
}

// Ones in the lanes of columns before `width`, for the vector that begins at column x.
FASTCT_AVX2 __m256i inside(size_t x, size_t width) {
    const __m256i lane = _mm256_set_epi16(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return width - x >= BLOCK ? _mm256_set1_epi16(-1) : _mm256_cmpgt_epi16(_mm256_set1_epi16(int16_t(width - x)), lane);
}

FASTCT_AVX2 __m256i load_part(const int16_t* p, size_t n) {
    if (n >= BLOCK) return load(p);
    int16_t lanes[BLOCK] = {};
    std::memcpy(lanes, p, 2 * n);
    return load(lanes);
}

FASTCT_AVX2 void store_part(int16_t* p, size_t n, __m256i v) {
    if (n >= BLOCK) return store(p, v);
    int16_t lanes[BLOCK];
    store(lanes, v);
    std::memcpy(p, lanes, 2 * n);
}

// One row of differences; its sums, which are the voxels, only where `out` is given.
FASTCT_AVX2 void restore_row(const int16_t* in, const int16_t* above, int16_t* edges, int16_t* out, size_t width, int16_t first) {
    __m256i carry = _mm256_set1_epi16(first);
    for (size_t x = 0; x < width; x += BLOCK) {
        const __m256i edge = _mm256_and_si256(_mm256_add_epi16(load(in + x), expected_at(above + x)), inside(x, width));
        store(edges + x, edge);
        if (x == 0) edges[0] = 0;
        if (!out) continue;
        const __m256i sum = _mm256_add_epi16(running_sum(x ? edge : _mm256_insert_epi16(edge, 0, 0)), carry);
        store_part(out + x, width - x, sum);
        carry = broadcast_last(sum);
    }
}

FASTCT_AVX2 void restore_any(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch) {
    const Planes& planes = plane.planes;
    scratch.fit(planes);
    unpack(plane, rows.end, scratch.residuals.data());
    int16_t first = plane.first;
    for (size_t y = 0; y < rows.end; ++y) {
        const int16_t* in = scratch.residuals.data() + y * planes.width;
        first = int16_t(first + in[0]);
        restore_row(in, scratch.row(planes, y + 1), scratch.row(planes, y), rows.at(y), planes.width, first);
    }
}

// ---- rows of 64 voxels: the whole row of differences stays in registers ----------------------------------

struct Row64 {
    __m256i v[4];
};

FASTCT_AVX2 Row64 next_edges(const Row64& above, const Row64& residuals) {
    const __m256i zero = _mm256_setzero_si256();
    Row64 edges;
    for (int k = 0; k < 4; ++k) {
        const __m256i before = k ? above.v[k - 1] : zero, here = above.v[k], after = k < 3 ? above.v[k + 1] : zero;
        const __m256i left = _mm256_alignr_epi8(here, _mm256_permute2x128_si256(before, here, 0x21), 14);
        const __m256i right = _mm256_alignr_epi8(_mm256_permute2x128_si256(here, after, 0x21), here, 2);
        edges.v[k] = _mm256_add_epi16(residuals.v[k], expected(left, here, right));
    }
    edges.v[0] = _mm256_insert_epi16(edges.v[0], 0, 0);
    return edges;
}

FASTCT_AVX2 void store_sums(const Row64& edges, __m256i carry, int16_t* out) {
    for (int k = 0; k < 4; ++k) {
        const __m256i sum = _mm256_add_epi16(running_sum(edges.v[k]), carry);
        store(out + 16 * k, sum);
        carry = broadcast_last(sum);
    }
}

// Eight blocks hold two rows: their low halves the upper, their high halves the lower one.
FASTCT_AVX2 const uint8_t* unpack_two_rows(const uint8_t* in, const uint8_t* widths, Row64& upper, Row64& lower) {
    uint32_t codes;
    std::memcpy(&codes, widths, 4);
    for (int k = 0; k < 4; ++k, codes >>= 8) {
        const uint32_t a_width = width_of(codes & 15), b_width = width_of(codes >> 4 & 15);
        const __m256i a = unpack16(in, a_width), b = unpack16(in + 2 * a_width, b_width);
        in += 2 * (a_width + b_width);
        upper.v[k] = _mm256_permute2x128_si256(a, b, 0x20);
        lower.v[k] = _mm256_permute2x128_si256(a, b, 0x31);
    }
    return in;
}

FASTCT_AVX2 void restore_64(const PackedPlane& plane, const Rows& rows) {
    const uint8_t* in = plane.body;
    __m256i first = _mm256_set1_epi16(plane.first);
    Row64 edges = {}, two[2];
    for (size_t y = 0; y < rows.end; y += 2) {
        in = unpack_two_rows(in, plane.widths + 2 * y, two[0], two[1]);
        for (size_t k = 0; k < 2 && y + k < rows.end; ++k) {
            first = _mm256_add_epi16(first, _mm256_broadcastw_epi16(_mm256_castsi256_si128(two[k].v[0])));
            edges = next_edges(edges, two[k]);
            if (int16_t* out = rows.at(y + k)) store_sums(edges, first, out);
        }
    }
}

FASTCT_AVX2 void restore(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch) {
    if (plane.planes.width == 64 && plane.planes.height % 2 == 0) restore_64(plane, rows);
    else restore_any(plane, rows, scratch);
}

// ---- encoding --------------------------------------------------------------------------------------------

// Residuals of one row; returns their or, so that rows of zeros show.
FASTCT_AVX2 __m256i residual_row(const int16_t* voxels, const int16_t* above, int16_t* edges, int16_t* out, size_t width) {
    __m256i before = _mm256_set1_epi16(voxels[0]), any = _mm256_setzero_si256();
    for (size_t x = 0; x < width; x += BLOCK) {
        const __m256i here = load_part(voxels + x, width - x), mask = inside(x, width);
        const __m256i left = _mm256_alignr_epi8(here, _mm256_permute2x128_si256(before, here, 0x21), 14);
        const __m256i edge = _mm256_and_si256(_mm256_sub_epi16(here, left), mask);
        __m256i residual = _mm256_and_si256(_mm256_sub_epi16(edge, expected_at(above + x)), mask);
        if (x == 0) residual = _mm256_insert_epi16(residual, 0, 0);
        store(edges + x, edge);
        store(out + x, residual);
        any = _mm256_or_si256(any, residual);
        before = here;
    }
    return any;
}

FASTCT_AVX2 bool residuals(const int16_t* voxels, const Planes& planes, PlaneScratch& scratch) {
    scratch.fit(planes);
    int16_t first = voxels[0], any_first = 0;
    __m256i any = _mm256_setzero_si256();
    for (size_t y = 0; y < planes.height; ++y, voxels += planes.width) {
        int16_t* out = scratch.residuals.data() + y * planes.width;
        any = _mm256_or_si256(any, residual_row(voxels, scratch.row(planes, y + 1), scratch.row(planes, y), out, planes.width));
        out[0] = int16_t(voxels[0] - first);
        any_first |= out[0];
        first = voxels[0];
    }
    const size_t n = planes.height * planes.width;
    std::memset(scratch.residuals.data() + n, 0, 2 * (scratch.residuals.size() - n));
    return any_first != 0 || !_mm256_testz_si256(any, any);
}

FASTCT_AVX2 uint32_t block_code(__m256i values) {
    const __m256i zigzag = _mm256_xor_si256(_mm256_add_epi16(values, values), _mm256_srai_epi16(values, 15));
    const __m128i halves = _mm_or_si128(_mm256_castsi256_si128(zigzag), _mm256_extracti128_si256(zigzag, 1));
    uint64_t bits = uint64_t(_mm_cvtsi128_si64(halves)) | uint64_t(_mm_extract_epi64(halves, 1));
    bits |= bits >> 32;
    bits |= bits >> 16;
    return code_for(uint16_t(bits));
}

// Neighbours are joined three times: two values, four, eight; then each half of the vector holds `width` bytes.
FASTCT_AVX2 __m256i pack16(__m256i values, uint32_t width) {
    const __m256i cut = _mm256_and_si256(values, _mm256_set1_epi16(int16_t((1u << width) - 1)));
    const __m256i twos = _mm256_madd_epi16(cut, _mm256_set1_epi32(int32_t(1u << (width + 16) | 1)));
    const __m256i high = _mm256_sll_epi64(_mm256_srli_epi64(twos, 32), _mm_cvtsi32_si128(2 * int(width)));
    const __m256i fours = _mm256_or_si256(_mm256_and_si256(twos, _mm256_set1_epi64x(0xffffffff)), high);
    const __m256i second = _mm256_unpackhi_epi64(fours, fours);
    const __m256i low64 = _mm256_or_si256(fours, _mm256_sll_epi64(second, _mm_cvtsi32_si128(4 * int(width))));
    const __m256i high64 = _mm256_srl_epi64(second, _mm_cvtsi32_si128(64 - 4 * int(width)));
    return _mm256_blend_epi32(low64, high64, 0xCC);
}

FASTCT_AVX2 size_t pack(const Planes& planes, PlaneScratch& scratch, uint8_t* widths, uint8_t* body) {
    const BlockOrder order(planes);
    uint8_t* out = body;
    size_t block = 0;
    for (size_t strip = 0; strip < order.strips; ++strip)
        for (size_t b = 0; b < order.strip_blocks; ++b, ++block) {
            const int16_t* low = scratch.residuals.data() + strip * order.strip_pitch + b * order.block_pitch;
            const __m256i values = load_halves(low, low + order.half);
            const uint32_t code = block_code(values), width = width_of(code);
            widths[block / 2] |= uint8_t(code << (4 * (block % 2)));
            const __m256i packed = code == WIDE ? values : pack16(values, width);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out + width), _mm256_extracti128_si256(packed, 1));
            out += 2 * width;
        }
    return size_t(out - body);
}

inline constexpr Kernels KERNELS = {residuals, pack, restore};

}  // namespace ctpack::avx2

#undef FASTCT_AVX2
#endif
