// ctpack's AVX-512 decoder for planes of 64 columns: a row in two registers, and no branch on the widths.
//
// Unpacking is bound by the processor's two shufflers, the differences of a row by their latency, its sums by
// both; so each step of the loop unpacks the next two rows, takes the differences of these two, and sums up the
// two before: none of the three waits for another.
#pragma once
#ifdef FASTCT_X86

// GCC 12 takes the undefined operands that its own intrinsics begin with for mistakes (bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define FASTCT_AVX512 \
    __attribute__((target("avx2,bmi2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2"))) inline

namespace ctpack::avx512 {

constexpr size_t BLOCK_READ_BYTES = 32;                          // loaded for a block, whatever its width
constexpr size_t ROOM_BYTES = 8 * 2 * BLOCK + BLOCK_READ_BYTES;  // for the eight blocks of two rows

// ---- tables ----------------------------------------------------------------------------------------------

// By a block's code: which bytes hold its values, four in each 64-bit lane; where in its lane each of the two
// bytes of a value begins, so that the value ends with the second; how many bits lie below it then.
struct alignas(128) Unpacking {
    uint8_t bytes[32] = {}, begins[32] = {};
    uint16_t below[16] = {};

    constexpr void fill(uint32_t width) {
        for (uint32_t i = 0; i < 32; ++i) {
            const uint32_t second_four = i / 8 % 2, half = i / 16;
            bytes[i] = uint8_t(half * width + second_four * (width / 2) + i % 8);
            const uint32_t end = (i % 8 / 2 + 1) * width + second_four * (width % 2) * 4;
            begins[i] = uint8_t((end + 48 + i % 2 * 8) % 64);
        }
        for (uint16_t& bits : below) bits = uint16_t(2 * 8 - width);
    }
};

struct Tables {
    Unpacking unpacking[WIDE + 1];
    alignas(64) uint64_t upper[8] = {}, lower[8] = {};               // of two pairs of blocks: first row, second
    alignas(64) uint16_t left[32] = {}, right[32] = {};              // neighbours, in two registers
    alignas(64) uint16_t lasts[32] = {};                             // of every four columns, from lane 1 on
    alignas(64) uint16_t low_starts[32] = {}, high_starts[32] = {};  // which four a column is of

    constexpr Tables() {
        for (uint32_t code = 0; code <= WIDE; ++code) unpacking[code].fill(code + (code == WIDE));
        for (uint32_t i = 0; i < 8; ++i) {
            upper[i] = i / 2 * 4 + i % 2;
            lower[i] = upper[i] + 2;
        }
        for (uint32_t i = 0; i < 32; ++i) {
            left[i] = uint16_t((i + 31) % 64);
            right[i] = uint16_t(i + 1);
            lasts[i] = uint16_t(i ? (4 * i - 1) % 64 : 0);
            low_starts[i] = uint16_t(i / 4);
            high_starts[i] = uint16_t(8 + i / 4);
        }
    }
};

inline constexpr Tables TABLES;

// The compiler would set these anew at every use, which costs more than what they mask.
struct Masks {
    __mmask32 first = 1, but_first = ~__mmask32(1), but_last = ~(__mmask32(1) << 31);
    __mmask16 high_half = 0xff00;

    FASTCT_AVX512 Masks() {
        asm("" : "+k"(first));
        asm("" : "+k"(but_first));
        asm("" : "+k"(but_last));
        asm("" : "+k"(high_half));
    }
};

FASTCT_AVX512 __m512i load(const void* p) { return _mm512_loadu_si512(p); }
FASTCT_AVX512 __m512i flipped() { return _mm512_set1_epi16(INT16_MIN); }

// Columns 0 to 31 and 32 to 63.
struct Row {
    __m512i low, high;
};

// ---- unpacking -------------------------------------------------------------------------------------------

// Eight values for each of two rows. `code16` is the block's code times 16, an eighth of its table's place.
FASTCT_AVX512 __m256i unpack_block(const uint8_t* in, uint8_t code16) {
    const auto* tables = reinterpret_cast<const uint8_t*>(TABLES.unpacking);
    const auto& table = *reinterpret_cast<const Unpacking*>(tables + size_t(code16) * (sizeof(Unpacking) / 16));
    const __m256i lanes = _mm256_permutexvar_epi8(avx2::load(table.bytes), avx2::load(in));
    return _mm256_srav_epi16(_mm256_multishift_epi64_epi8(avx2::load(table.begins), lanes), avx2::load(table.below));
}

FASTCT_AVX512 __m512i unpack_two(const uint8_t* in, uint32_t codes16, uint32_t starts) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(unpack_block(in + uint8_t(starts), uint8_t(codes16))),
                              unpack_block(in + uint8_t(starts >> 8), uint8_t(codes16 >> 8)), 1);
}

// Four blocks; a width of zero leaves signs of what lies there, hence the mask: two bits a block.
FASTCT_AVX512 void unpack_four(const uint8_t* in, uint32_t codes16, uint32_t starts, uint32_t some, __m512i& upper,
                               __m512i& lower) {
    const __m512i a = unpack_two(in, codes16, starts), b = unpack_two(in, codes16 >> 16, starts >> 16);
    upper = _mm512_maskz_permutex2var_epi64(__mmask8(some), a, load(TABLES.upper), b);
    lower = _mm512_maskz_permutex2var_epi64(__mmask8(some), a, load(TABLES.lower), b);
}

// Two set bits for each of eight codes that is not zero.
FASTCT_AVX512 uint32_t some_of(uint32_t codes) {
    const uint32_t pairs = codes | codes >> 1, any = pairs | pairs >> 2;
    return _pext_u32((any & 0x11111111) * 3, 0x33333333);
}

// What is left to unpack: its bytes, its codes, and room for a copy of the last ones.
struct Packed {
    const uint8_t *in, *end, *widths;
    uint8_t* room;
};

// Eight blocks hold two rows. Beside the chunk's end they are copied, so that whole vectors can be read.
FASTCT_AVX512 void unpack_rows(Packed& packed, Row* two) {
    constexpr uint64_t ONE = 0x0101010101010101, HIGH = 0xf0f0f0f0f0f0f0f0;
    uint32_t codes;
    std::memcpy(&codes, packed.widths, 4);
    const uint64_t codes16 = _pdep_u64(codes, HIGH), code = codes16 >> 4;
    const uint64_t widths = code + (((code + ONE) >> 4) & ONE), starts = widths * (2 * (ONE - 1));
    const size_t n_bytes = size_t((starts >> 56) + 2 * (widths >> 56));
    const uint8_t* in = packed.in;
    if (__builtin_expect(size_t(packed.end - in) < n_bytes + BLOCK_READ_BYTES, 0)) {
        std::memcpy(packed.room, in, size_t(packed.end - in));
        in = packed.room;
    }
    const uint32_t some = some_of(codes);
    unpack_four(in, uint32_t(codes16), uint32_t(starts), some, two[0].low, two[1].low);
    unpack_four(in, uint32_t(codes16 >> 32), uint32_t(starts >> 32), some >> 8, two[0].high, two[1].high);
    packed.in += n_bytes;
    packed.widths += 4;
}

// ---- prediction ------------------------------------------------------------------------------------------

FASTCT_AVX512 __m512i expected(__m512i left, __m512i middle, __m512i right) {
    return _mm512_avg_epu16(_mm512_avg_epu16(left, right), middle);
}

// The differences of a row, sign bits flipped; its first column has none.
FASTCT_AVX512 Row next_edges(const Row& above, const Row& residuals, const Masks& masks) {
    const __m512i left = load(TABLES.left), right = load(TABLES.right);
    const __m512i low_left = _mm512_mask_permutexvar_epi16(flipped(), masks.but_first, left, above.low);
    const __m512i low_right = _mm512_permutex2var_epi16(above.low, right, above.high);
    const __m512i high_left = _mm512_permutex2var_epi16(above.low, left, above.high);
    const __m512i high_right = _mm512_mask_permutexvar_epi16(flipped(), masks.but_last, right, above.high);
    return {_mm512_mask_add_epi16(flipped(), masks.but_first, residuals.low, expected(low_left, above.low, low_right)),
            _mm512_add_epi16(residuals.high, expected(high_left, above.high, high_right))};
}

// ---- sums ------------------------------------------------------------------------------------------------

// Running sums of four columns, sign bits as they should be: what is shifted in flips that of the first.
FASTCT_AVX512 __m512i sums_of_four(__m512i edges) {
    const __m512i two = _mm512_add_epi16(edges, _mm512_shldi_epi64(edges, flipped(), 16));
    return _mm512_add_epi16(two, _mm512_slli_epi64(two, 32));
}

FASTCT_AVX512 __m256i running_sum(__m256i x, const Masks& masks) {
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 2));
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 4));
    x = _mm256_add_epi16(x, _mm256_slli_si256(x, 8));
    return _mm256_add_epi16(x, _mm256_maskz_permutexvar_epi16(masks.high_half, _mm256_set1_epi16(7), x));
}

template <bool past_caches>
FASTCT_AVX512 void store(int16_t* out, __m512i voxels) {
    if (past_caches)
        _mm512_stream_si512(reinterpret_cast<__m512i*>(out), voxels);
    else
        _mm512_storeu_si512(out, voxels);
}

// A row of differences, and its first voxel in the first lane of `Tables::lasts`.
struct Line {
    Row edges;
    __m512i first_and_lasts;
};

template <bool past_caches>
FASTCT_AVX512 void store_sums(const Line& line, int16_t* out, const Masks& masks) {
    const __m512i low = sums_of_four(line.edges.low), high = sums_of_four(line.edges.high);
    const __m512i ends = _mm512_mask2_permutex2var_epi16(low, line.first_and_lasts, masks.but_first, high);
    const __m512i starts = _mm512_castsi256_si512(running_sum(_mm512_castsi512_si256(ends), masks));
    store<past_caches>(out, _mm512_add_epi16(low, _mm512_permutexvar_epi16(load(TABLES.low_starts), starts)));
    store<past_caches>(out + 32, _mm512_add_epi16(high, _mm512_permutexvar_epi16(load(TABLES.high_starts), starts)));
}

// Rows y and y + 1, as far as they are wanted.
template <bool past_caches>
FASTCT_AVX512 void store_two(const Line* lines, size_t y, const Rows& rows, const Masks& masks) {
    for (size_t k = 0; k < 2 && y + k < rows.end; ++k)
        if (int16_t* out = rows.at(y + k)) {
            if (!past_caches) avx2::fetch_row(out, 64, rows.ahead_bytes);
            store_sums<past_caches>(lines[k], out, masks);
        }
}

FASTCT_AVX512 Line next_line(const Line& above, const Row& residuals, const Masks& masks) {
    const __m512i before = above.first_and_lasts;
    return {next_edges(above.edges, residuals, masks),
            _mm512_mask_add_epi16(before, masks.first, before, residuals.low)};
}

template <bool past_caches>
FASTCT_AVX512 void restore_strip(const PackedPlane& plane, const Rows& rows) {
    alignas(64) uint8_t room[ROOM_BYTES] = {};
    const Masks masks;
    const size_t last = (rows.end - 1) & ~size_t(1);
    Packed packed{plane.body, plane.end, plane.widths, room};
    Line done[2] = {}, now[2] = {};
    now[1] = {{flipped(), flipped()}, _mm512_mask_set1_epi16(load(TABLES.lasts), 1, plane.first)};
    Row two[2];
    unpack_rows(packed, two);
    for (size_t y = 0; y <= last; y += 2) {
        now[0] = next_line(now[1], two[0], masks);
        now[1] = next_line(now[0], two[1], masks);
        if (y < last) unpack_rows(packed, two);
        if (y) store_two<past_caches>(done, y - 2, rows, masks);
        done[0] = now[0], done[1] = now[1];
    }
    store_two<past_caches>(done, last, rows, masks);
}

FASTCT_AVX512 void restore(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch) {
    const Planes& planes = plane.planes;
    if (planes.width != 64 || planes.height % 2) return avx2::restore(plane, rows, scratch);
    rows.past_caches ? restore_strip<true>(plane, rows) : restore_strip<false>(plane, rows);
}

inline constexpr Kernels KERNELS = {avx2::encode, restore};

}  // namespace ctpack::avx512

#pragma GCC diagnostic pop
#endif
