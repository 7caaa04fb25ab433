// CRC-32C (Castagnoli, RFC 3720): folding by carry-less products, three interleaved SSE4.2 streams, and a table
// twin, all with the same answers.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "processor.h"

namespace crc32c {

constexpr uint32_t POLYNOMIAL = 0x82F63B78u;            // reflected
constexpr size_t LONG_BYTES = 8192, SHORT_BYTES = 256;  // length of one of the three streams

// The product of two polynomials modulo the CRC's: registers are reflected, so bit 31 is the power 0.
constexpr uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

// x to the power 8 * n_bytes: multiplying a register by it appends that many zero bytes.
constexpr uint32_t zeros(size_t n_bytes) {
    uint32_t result = 1u << 31, square = 1u << 23;  // x^0 and x^8
    for (; n_bytes; n_bytes >>= 1) {
        if (n_bytes & 1) result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

template <size_t N>
using Tables = std::array<std::array<uint32_t, 256>, N>;

// Tables that append n_bytes zeros to a register, a byte of it at a time.
constexpr Tables<4> append_tables(size_t n_bytes) {
    Tables<4> tables{};
    const uint32_t factor = zeros(n_bytes);
    for (uint32_t k = 0; k < 4; ++k)
        for (uint32_t byte = 0; byte < 256; ++byte) tables[k][byte] = multiply(factor, byte << (8 * k));
    return tables;
}

// tables[k][byte]: the register after that byte and k zero bytes ("slicing by eight").
constexpr Tables<8> slicing_tables() {
    Tables<8> tables{};
    for (uint32_t k = 0; k < 8; ++k) {
        const uint32_t factor = zeros(k + 1);
        for (uint32_t byte = 0; byte < 256; ++byte) tables[k][byte] = multiply(factor, byte);
    }
    return tables;
}

inline constexpr Tables<8> SLICING = slicing_tables();

inline uint64_t load64(const uint8_t* p) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    return word;
}

inline uint32_t update_portable(uint32_t state, const uint8_t* p, size_t n) {
    for (; n >= 8; p += 8, n -= 8) {
        const uint64_t word = load64(p) ^ state;
        state = 0;
        for (int k = 0; k < 8; ++k) state ^= SLICING[7 - k][(word >> (8 * k)) & 255];
    }
    for (; n; ++p, --n) state = SLICING[0][(state ^ *p) & 255] ^ (state >> 8);
    return state;
}

#ifdef FASTCT_X86
inline constexpr Tables<4> APPEND_LONG = append_tables(LONG_BYTES), APPEND_SHORT = append_tables(SHORT_BYTES);

inline uint32_t append(const Tables<4>& tables, uint32_t state) {
    return tables[0][state & 255] ^ tables[1][(state >> 8) & 255] ^ tables[2][(state >> 16) & 255] ^
           tables[3][state >> 24];
}

// The instruction takes three cycles and starts one a cycle, hence three streams side by side.
__attribute__((target("sse4.2"))) inline uint32_t update_three(uint32_t state, const uint8_t* p,
                                                               size_t stream, const Tables<4>& tables) {
    uint64_t a = state, b = 0, c = 0;
    for (size_t i = 0; i < stream; i += 8) {
        a = _mm_crc32_u64(a, load64(p + i));
        b = _mm_crc32_u64(b, load64(p + stream + i));
        c = _mm_crc32_u64(c, load64(p + 2 * stream + i));
    }
    return append(tables, append(tables, uint32_t(a)) ^ uint32_t(b)) ^ uint32_t(c);
}

__attribute__((target("sse4.2"))) inline uint32_t update_sse42(uint32_t state, const uint8_t* p, size_t n) {
    for (; n >= 3 * LONG_BYTES; p += 3 * LONG_BYTES, n -= 3 * LONG_BYTES)
        state = update_three(state, p, LONG_BYTES, APPEND_LONG);
    for (; n >= 3 * SHORT_BYTES; p += 3 * SHORT_BYTES, n -= 3 * SHORT_BYTES)
        state = update_three(state, p, SHORT_BYTES, APPEND_SHORT);
    for (; n >= 8; p += 8, n -= 8) state = uint32_t(_mm_crc32_u64(state, load64(p)));
    for (; n; ++p, --n) state = _mm_crc32_u8(state, *p);
    return state;
}

// ---- folding (Gopal et al., Fast CRC Computation for Generic Polynomials Using PCLMULQDQ, Intel 2009) ------------

#pragma GCC diagnostic push  // see ctpack_avx512.h
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#define FASTCT_FOLD __attribute__((target("avx512f,avx512vl,vpclmulqdq,pclmul,sse4.2"))) inline

constexpr size_t FOLD_BYTES = 256;          // four registers, folded side by side
constexpr size_t LEAST_FOLDED_BYTES = 512;  // below it the streams are as fast

// Factors that carry the halves of 128 bits over n_bits: x^(n_bits + 32) and x^(n_bits - 32), reflected, one bit up
// as the product of reflected polynomials wants it.
struct alignas(16) Carry {
    uint64_t low, high;

    constexpr explicit Carry(size_t n_bits)
        : low(uint64_t(zeros(n_bits / 8 + 4)) << 1), high(uint64_t(zeros(n_bits / 8 - 4)) << 1) {}
};

inline constexpr Carry OVER_2048(2048), OVER_512(512), OVER_384(384), OVER_256(256), OVER_128(128);

FASTCT_FOLD __m128i factors(const Carry& carry) { return _mm_load_si128(reinterpret_cast<const __m128i*>(&carry)); }

FASTCT_FOLD __m512i fold(__m512i sum, __m512i by, __m512i next) {
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(sum, by, 0x00), _mm512_clmulepi64_epi128(sum, by, 0x11),
                                     next, 0x96);  // the sum of the three
}

FASTCT_FOLD __m128i carried(__m128i sum, const Carry& carry) {
    const __m128i by = factors(carry);
    return _mm_xor_si128(_mm_clmulepi64_si128(sum, by, 0x00), _mm_clmulepi64_si128(sum, by, 0x11));
}

FASTCT_FOLD uint32_t reduce(__m512i sum) {
    const __m128i a = carried(_mm512_extracti32x4_epi32(sum, 0), OVER_384),
                  b = carried(_mm512_extracti32x4_epi32(sum, 1), OVER_256),
                  c = carried(_mm512_extracti32x4_epi32(sum, 2), OVER_128), d = _mm512_extracti32x4_epi32(sum, 3);
    const __m128i whole = _mm_xor_si128(_mm_xor_si128(a, b), _mm_xor_si128(c, d));
    return uint32_t(_mm_crc32_u64(_mm_crc32_u64(0, uint64_t(_mm_cvtsi128_si64(whole))),
                                  uint64_t(_mm_extract_epi64(whole, 1))));
}

// At least LEAST_FOLDED_BYTES.
FASTCT_FOLD uint32_t update_folded(uint32_t state, const uint8_t* p, size_t n) {
    const __m512i by_2048 = _mm512_broadcast_i32x4(factors(OVER_2048)),
                  by_512 = _mm512_broadcast_i32x4(factors(OVER_512));
    __m512i sums[4];
    for (int k = 0; k < 4; ++k) sums[k] = _mm512_loadu_si512(p + 64 * k);
    sums[0] = _mm512_xor_si512(sums[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(int(state))));
    for (p += FOLD_BYTES, n -= FOLD_BYTES; n >= FOLD_BYTES; p += FOLD_BYTES, n -= FOLD_BYTES)
        for (int k = 0; k < 4; ++k) sums[k] = fold(sums[k], by_2048, _mm512_loadu_si512(p + 64 * k));
    __m512i sum = sums[0];
    for (int k = 1; k < 4; ++k) sum = fold(sum, by_512, sums[k]);
    for (; n >= 64; p += 64, n -= 64) sum = fold(sum, by_512, _mm512_loadu_si512(p));
    return update_sse42(reduce(sum), p, n);
}

#pragma GCC diagnostic pop
#endif

inline bool has_instruction() {
#ifdef FASTCT_X86
    return __builtin_cpu_supports("sse4.2");
#else
    return false;
#endif
}

inline bool has_folding() {
#ifdef FASTCT_X86
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("pclmul") && has_instruction();
#else
    return false;
#endif
}

// The checksum of n bytes, or of those that gave `before` and these; `portable` forces the table twin.
inline uint32_t of(const uint8_t* p, size_t n, bool portable, uint32_t before = 0) {
#ifdef FASTCT_X86
    if (!portable && n >= LEAST_FOLDED_BYTES && has_folding()) return ~update_folded(~before, p, n);
    if (!portable && has_instruction()) return ~update_sse42(~before, p, n);
#endif
    (void)portable;
    return ~update_portable(~before, p, n);
}

}  // namespace crc32c
