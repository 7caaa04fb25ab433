// The AVX2 twin of ctpack's kernels: the same bytes and voxels as namespace portable, sixteen at a time.
#pragma once
#ifdef FASTCT_X86

#define FASTCT_AVX2 __attribute__((target("avx2"))) inline

namespace ctpack::avx2 {

// ---- tables, by block width ------------------------------------------------------------------------------

constexpr uint32_t NARROW = 9;  // up to this width, every value lies within two bytes

// Narrow: a shuffle brings each value's two bytes into its lane, a product moves it to the top of the lane,
// and the high half of a second product brings it down again with its sign. The halves of a vector have
// widths of their own.
struct alignas(128) Narrow {
    uint8_t bytes[32] = {};
    uint16_t to_top[16] = {}, from_top[16] = {};
};

// Broad: a shuffle brings each value's four bytes into a 32-bit lane, shifts to the left by `left` and back
// do the rest.
struct alignas(64) Broad {
    uint8_t bytes[32] = {};
    uint32_t left[8] = {};
};

// Packing joins neighbours three times: two values by a product and a sum, four and eight by shifts of 2 and
// 4 widths.
struct alignas(128) Joint {
    uint16_t mask[16] = {}, factor[16] = {};
    uint64_t by_two[2] = {}, by_four[2] = {},
             from_four[2] = {};  // counts of shifts, as the instructions want them
};

struct Tables {
    Joint joint[WIDE];
    Narrow narrow[NARROW << 4 | (NARROW + 1)];  // [low half's width | high half's width << 4]
    Broad broad[WIDE];

    constexpr Tables() {
        for (uint32_t width = 0; width < WIDE; ++width) fill(joint[width], width);
        for (uint32_t high = 0; high <= NARROW; ++high)
            for (uint32_t low = 0; low <= NARROW; ++low)
                for (uint32_t i = 0; i < 16; ++i) fill(narrow[high << 4 | low], i, i < 8 ? low : high);
        for (uint32_t width = NARROW + 1; width < WIDE; ++width)
            for (uint32_t i = 0; i < 8; ++i) fill(broad[width], i, width);
    }

    static constexpr void fill(Joint& table, uint32_t width) {
        for (uint32_t i = 0; i < 16; ++i) {
            table.mask[i] = uint16_t((1u << width) - 1);
            table.factor[i] = uint16_t(i % 2 ? 1u << width : 1);
        }
        table.by_two[0] = 2 * width, table.by_four[0] = 4 * width, table.from_four[0] = 64 - 4 * width;
    }

    static constexpr void fill(Narrow& table, uint32_t i, uint32_t width) {
        const uint32_t byte = i % 8 * width / 8, bit = i % 8 * width % 8;
        table.bytes[2 * i] = uint8_t(byte);
        table.bytes[2 * i + 1] = uint8_t(byte + 1);
        table.to_top[i] = uint16_t(width ? 1u << (16 - width - bit) : 0);
        table.from_top[i] = uint16_t(1u << width);
    }

    static constexpr void fill(Broad& table, uint32_t i, uint32_t width) {
        const uint32_t byte = i * width / 8;
        for (uint32_t k = 0; k < 4; ++k) table.bytes[4 * i + k] = uint8_t(byte + k < 16 ? byte + k : 0x80);
        table.left[i] = 32 - width - i * width % 8;
    }
};

inline constexpr Tables TABLES;

FASTCT_AVX2 __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
FASTCT_AVX2 void store(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
FASTCT_AVX2 __m256i load_twice(const void* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
FASTCT_AVX2 __m256i load_halves(const void* low, const void* high) {
    return _mm256_blend_epi32(load_twice(low), load_twice(high),
                              0xF0);  // unlike an insertion, no work for the shuffler
}
FASTCT_AVX2 void store_halves(void* low, void* high, __m256i v) {
    _mm_storeu_si128(static_cast<__m128i*>(low), _mm256_castsi256_si128(v));
    _mm_storeu_si128(static_cast<__m128i*>(high), _mm256_extracti128_si256(v, 1));
}

// ---- unpacking -------------------------------------------------------------------------------------------

FASTCT_AVX2 __m256i unpack_broad8(const uint8_t* in, uint32_t width) {
    const __m256i lanes = _mm256_shuffle_epi8(load_twice(in), load(TABLES.broad[width].bytes));
    return _mm256_srai_epi32(_mm256_sllv_epi32(lanes, load(TABLES.broad[width].left)), 32 - int(width));
}

FASTCT_AVX2 __m256i unpack_broad(const uint8_t* in, uint32_t width) {
    if (width == 16) return load(in);
    const __m256i mixed = _mm256_packs_epi32(unpack_broad8(in, width), unpack_broad8(in + width, width));
    return _mm256_permute4x64_epi64(mixed, 0xD8);
}

// Eight values from each of two places, of the widths in `pair`.
FASTCT_AVX2 __m256i unpack_narrow(const uint8_t* low, const uint8_t* high, uint32_t pair) {
    const Narrow& table = TABLES.narrow[pair];
    const __m256i lanes = _mm256_shuffle_epi8(load_halves(low, high), load(table.bytes));
    return _mm256_mulhi_epi16(_mm256_mullo_epi16(lanes, load(table.to_top)), load(table.from_top));
}

// One block: the low half of the vector holds its first eight values.
FASTCT_AVX2 __m256i unpack16(const uint8_t* in, uint32_t width) {
    return width > NARROW ? unpack_broad(in, width) : unpack_narrow(in, in + width, width * 17);
}

FASTCT_AVX2 void unpack(const PackedPlane& plane, size_t rows, int16_t* residuals) {
    const BlockOrder order(plane.planes);
    const uint8_t* in = plane.body;
    size_t block = 0;
    for (size_t strip = 0; strip < order.strips_for(rows); ++strip)
        for (size_t b = 0; b < order.strip_blocks; ++b, ++block) {
            int16_t* low = residuals + strip * order.strip_pitch + b * order.block_pitch;
            const uint32_t width = width_of(code_at(plane.widths, block));
            store_halves(low, low + order.half, unpack16(in, width));
            in += 2 * width;
        }
}

// ---- prediction ------------------------------------------------------------------------------------------

// Differences are kept with their sign bit flipped; unsigned averages of them are portable::expected.
FASTCT_AVX2 __m256i flipped() { return _mm256_set1_epi16(INT16_MIN); }

FASTCT_AVX2 __m256i expected(__m256i left, __m256i middle, __m256i right) {
    return _mm256_avg_epu16(_mm256_avg_epu16(left, right), middle);
}

FASTCT_AVX2 __m256i expected_at(const int16_t* above) {
    return expected(load(above - 1), load(above), load(above + 1));
}

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
    return width - x >= BLOCK ? _mm256_set1_epi16(-1)
                              : _mm256_cmpgt_epi16(_mm256_set1_epi16(int16_t(width - x)), lane);
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

// One row of differences; its sums, which are the voxels, only where `out` is given. No scalar is stored
// among the differences: the next row's loads would wait for it.
FASTCT_AVX2 void restore_row(const int16_t* in, const int16_t* above, int16_t* edges, int16_t* out,
                             size_t width, int16_t first) {
    __m256i carry = _mm256_set1_epi16(first), kept = _mm256_insert_epi16(_mm256_set1_epi16(-1), 0, 0);
    for (size_t x = 0; x < width; x += BLOCK, kept = _mm256_set1_epi16(-1)) {
        if (width - x < BLOCK) kept = _mm256_and_si256(kept, inside(x, width));
        const __m256i edge =
            _mm256_xor_si256(_mm256_add_epi16(load(in + x), expected_at(above + x)), flipped());
        store(edges + x, _mm256_xor_si256(_mm256_and_si256(edge, kept), flipped()));
        if (!out) continue;
        const __m256i sum = running_sum(_mm256_and_si256(edge, kept));
        store_part(out + x, width - x, _mm256_add_epi16(sum, carry));
        carry = _mm256_add_epi16(carry, broadcast_last(sum));
    }
}

FASTCT_AVX2 void restore_any(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch) {
    const Planes& planes = plane.planes;
    scratch.fit(planes, INT16_MIN);
    unpack(plane, rows.end, scratch.residuals.data());
    int16_t first = plane.first;
    for (size_t y = 0; y < rows.end; ++y) {
        const int16_t* in = scratch.residuals.data() + y * planes.width;
        first = int16_t(first + in[0]);
        restore_row(in, scratch.row(planes, y + 1), scratch.row(planes, y), rows.at(y), planes.width, first);
    }
}

// ---- encoding --------------------------------------------------------------------------------------------

FASTCT_AVX2 void residual_row(const int16_t* voxels, const int16_t* above, int16_t* edges, int16_t* out,
                              size_t width) {
    __m256i before = _mm256_set1_epi16(voxels[0]);
    for (size_t x = 0; x < width; x += BLOCK) {
        const __m256i here = load_part(voxels + x, width - x), mask = inside(x, width);
        const __m256i left = _mm256_alignr_epi8(here, _mm256_permute2x128_si256(before, here, 0x21), 14);
        const __m256i edge =
            _mm256_xor_si256(_mm256_and_si256(_mm256_sub_epi16(here, left), mask), flipped());
        store(edges + x, edge);
        store(out + x, _mm256_and_si256(_mm256_sub_epi16(edge, expected_at(above + x)), mask));
        before = here;
    }
}

FASTCT_AVX2 void residuals(const VoxelRows& rows, const Planes& planes, PlaneScratch& scratch) {
    scratch.fit(planes, INT16_MIN);
    int16_t first = *rows.at(0);
    for (size_t y = 0; y < planes.height; ++y) {
        const int16_t* voxels = rows.at(y);
        int16_t* out = scratch.residuals.data() + y * planes.width;
        residual_row(voxels, scratch.row(planes, y + 1), scratch.row(planes, y), out, planes.width);
        out[0] = int16_t(voxels[0] - first);
        first = voxels[0];
    }
    const size_t n = planes.height * planes.width;
    std::memset(scratch.residuals.data() + n, 0, 2 * (scratch.residuals.size() - n));
}

FASTCT_AVX2 uint32_t block_code(__m256i values) {
    const __m256i zigzag = _mm256_xor_si256(_mm256_add_epi16(values, values), _mm256_srai_epi16(values, 15));
    const __m128i halves = _mm_or_si128(_mm256_castsi256_si128(zigzag), _mm256_extracti128_si256(zigzag, 1));
    uint64_t bits = uint64_t(_mm_cvtsi128_si64(halves)) | uint64_t(_mm_extract_epi64(halves, 1));
    bits |= bits >> 32;
    bits |= bits >> 16;
    return code_for(uint16_t(bits));
}

FASTCT_AVX2 __m128i count(const uint64_t* p) { return _mm_load_si128(reinterpret_cast<const __m128i*>(p)); }

// Each half of the vector comes to hold its eight values in `width` bytes.
FASTCT_AVX2 __m256i pack16(__m256i values, uint32_t width) {
    const Joint& table = TABLES.joint[width];
    const __m256i twos = _mm256_madd_epi16(_mm256_and_si256(values, load(table.mask)), load(table.factor));
    const __m256i high = _mm256_sll_epi64(_mm256_srli_epi64(twos, 32), count(table.by_two));
    const __m256i fours = _mm256_or_si256(_mm256_and_si256(twos, _mm256_set1_epi64x(0xffffffff)), high);
    const __m256i second = _mm256_unpackhi_epi64(fours, fours);
    const __m256i low64 = _mm256_or_si256(fours, _mm256_sll_epi64(second, count(table.by_four)));
    return _mm256_blend_epi32(low64, _mm256_srl_epi64(second, count(table.from_four)), 0xCC);
}

FASTCT_AVX2 size_t pack(const Planes& planes, const PlaneScratch& scratch, uint8_t* widths, uint8_t* body) {
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
            store_halves(out, out + width, packed);
            out += 2 * width;
        }
    return size_t(out - body);
}

}  // namespace ctpack::avx2

#include "ctpack_avx2_rows64.h"

#include "ctpack_avx2_pack64.h"

namespace ctpack::avx2 {

FASTCT_AVX2 void restore(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch) {
    const Planes& planes = plane.planes;
    if (planes.width % 64 || planes.height % 2) return restore_any(plane, rows, scratch);
    if (planes.width == 64) return restore_strip(plane, rows);
    restore_strips(plane, rows, scratch);
}

FASTCT_AVX2 size_t encode(const VoxelRows& rows, const Planes& planes, PlaneScratch& scratch, uint8_t* widths,
                          uint8_t* body) {
    if (planes.width == 64 && planes.height % 2 == 0) return encode_strip(rows, planes, widths, body);
    residuals(rows, planes, scratch);
    return pack(planes, scratch, widths, body);
}

inline constexpr Kernels KERNELS = {encode, restore};

}  // namespace ctpack::avx2

#endif
