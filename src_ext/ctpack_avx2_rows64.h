// ctpack's AVX2 decoder for rows of strips of 64 voxels, each strip in four registers.
//
// Vector k of a strip holds its columns 8 k to 8 k + 7 in its low half and 32 + 8 k to 39 + 8 k in its high
// half, so that neighbours and running sums pass from vector to vector without leaving their half.
#pragma once
#ifdef FASTCT_X86

namespace ctpack::avx2 {

struct Row64 {
    __m256i v[4];
};

FASTCT_AVX2 __m256i first_column() { return _mm256_set_epi64x(0, 0, 0, 0xffff); }

// `before` and `after`: in the row above, last vector of the left strip, first of the right one.
FASTCT_AVX2 Row64 next_edges(const Row64& above, __m256i before, __m256i after, const Row64& residuals) {
    before = _mm256_permute2x128_si256(above.v[3], before, 0x03);  // columns -8 to -1, 24 to 31
    after = _mm256_permute2x128_si256(above.v[0], after, 0x21);    // columns 32 to 39, 64 to 71
    Row64 edges;
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        const __m256i left = _mm256_alignr_epi8(above.v[k], k ? above.v[k - 1] : before, 14);
        const __m256i right = _mm256_alignr_epi8(k < 3 ? above.v[k + 1] : after, above.v[k], 2);
        edges.v[k] = _mm256_add_epi16(residuals.v[k], expected(left, above.v[k], right));
    }
    return edges;
}

// The first column of a row has no difference from the left.
FASTCT_AVX2 void clear_first(Row64& edges) {
    const __m256i none = _mm256_and_si256(first_column(), flipped());
    edges.v[0] = _mm256_or_si256(_mm256_andnot_si256(first_column(), edges.v[0]), none);
}

// `start` goes, by way of the first lane, to all sums; its sign bits are flipped like those of the
// differences. Returns the last sum in all lanes.
FASTCT_AVX2 __m256i store_sums(const Row64& edges, __m256i start, int16_t* out) {
    __m256i sums[4], carry = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        __m256i sum = k ? _mm256_xor_si256(edges.v[k], flipped()) : _mm256_add_epi16(edges.v[0], start);
        sum = _mm256_add_epi16(sum, _mm256_slli_si256(sum, 2));
        sum = _mm256_add_epi16(sum, _mm256_slli_si256(sum, 4));
        sum = _mm256_add_epi16(sum, _mm256_slli_si256(sum, 8));
        sums[k] = _mm256_add_epi16(sum, carry);
        carry = _mm256_shuffle_epi8(sums[k], _mm256_set1_epi16(0x0f0e));
    }
    const __m256i low_sum = _mm256_permute2x128_si256(carry, carry, 0x00);
#pragma GCC unroll 2
    for (int k = 0; k < 4; k += 2) {
        store(out + 8 * k, _mm256_permute2x128_si256(sums[k], sums[k + 1], 0x20));
        const __m256i high = _mm256_permute2x128_si256(sums[k], sums[k + 1], 0x31);
        store(out + 32 + 8 * k, _mm256_add_epi16(high, low_sum));
    }
    return _mm256_add_epi16(low_sum, _mm256_permute2x128_si256(carry, carry, 0x11));
}

// Whether one of eight widths is not narrow: 10 and more have bit 3 set, and bit 2 or 1.
FASTCT_AVX2 bool any_broad(uint32_t codes) { return (codes & (codes << 1 | codes << 2) & 0x88888888u) != 0; }

// Eight blocks hold two rows: their first halves the upper, their second halves the lower one.
FASTCT_AVX2 const uint8_t* unpack_narrow_rows(const uint8_t* in, uint32_t codes, Row64& upper, Row64& lower) {
    const uint32_t even = codes & 0x0f0f0f0f, odd = codes >> 4 & 0x0f0f0f0f, sums = even + odd;
    const uint32_t pairs[4] = {(even | even >> 12) & 255, (odd | odd >> 12) & 255,
                               (even >> 8 | even >> 20) & 255,
                               (odd >> 8 | odd >> 20) & 255};  // widths of blocks k and k + 4
    const uint8_t *low = in, *high = in + 2 * ((sums & 255) + (sums >> 8 & 255));
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
        const uint32_t low_width = pairs[k] & 15, high_width = pairs[k] >> 4;
        upper.v[k] = unpack_narrow(low, high, pairs[k]);
        lower.v[k] = unpack_narrow(low + low_width, high + high_width, pairs[k]);
        low += 2 * low_width, high += 2 * high_width;
    }
    return high;
}

FASTCT_AVX2 const uint8_t* unpack_any_rows(const uint8_t* in, uint32_t codes, Row64& upper, Row64& lower) {
    __m256i blocks[8];
    for (int b = 0; b < 8; ++b, codes >>= 4) {
        const uint32_t width = width_of(codes & 15);
        blocks[b] = unpack16(in, width);
        in += 2 * width;
    }
    for (int k = 0; k < 4; ++k) {
        upper.v[k] = _mm256_permute2x128_si256(blocks[k], blocks[k + 4], 0x20);
        lower.v[k] = _mm256_permute2x128_si256(blocks[k], blocks[k + 4], 0x31);
    }
    return in;
}

FASTCT_AVX2 const uint8_t* unpack_strip(const uint8_t* in, const uint8_t* widths, Row64* two) {
    uint32_t codes;
    std::memcpy(&codes, widths, 4);
    return any_broad(codes) ? unpack_any_rows(in, codes, two[0], two[1])
                            : unpack_narrow_rows(in, codes, two[0], two[1]);
}

// Rows of a volume lie too far apart for the processor to foresee; without this, whole reads wait for memory.
FASTCT_AVX2 void fetch_row(const int16_t* row, size_t width, ptrdiff_t ahead_bytes) {
    for (size_t x = 0; x < width; x += 32)
        __builtin_prefetch(reinterpret_cast<const char*>(row + x) + ahead_bytes, 1);
}

FASTCT_AVX2 __m256i flipped_first(int16_t first) {
    return _mm256_xor_si256(_mm256_and_si256(_mm256_set1_epi16(first), first_column()), flipped());
}

FASTCT_AVX2 void restore_strip(const PackedPlane& plane, const Rows& rows) {
    const uint8_t* in = plane.body;
    __m256i first = flipped_first(plane.first);
    Row64 edges = {{flipped(), flipped(), flipped(), flipped()}}, two[2];
    for (size_t y = 0; y < rows.end; y += 2) {
        in = unpack_strip(in, plane.widths + 2 * y, two);
        for (size_t k = 0; k < 2 && y + k < rows.end; ++k) {
            first = _mm256_add_epi16(first, _mm256_and_si256(two[k].v[0], first_column()));
            edges = next_edges(edges, flipped(), flipped(), two[k]);
            clear_first(edges);
            if (int16_t* out = rows.at(y + k)) {
                fetch_row(out, 64, rows.ahead_bytes);
                store_sums(edges, first, out);
            }
        }
    }
}

FASTCT_AVX2 Row64 load_row64(const int16_t* p) {
    return {{load(p), load(p + 16), load(p + 32), load(p + 48)}};
}
FASTCT_AVX2 void store_row64(int16_t* p, const Row64& row) {
    for (int k = 0; k < 4; ++k) store(p + 16 * k, row.v[k]);
}

// A row of several strips: its differences go through memory, and the last sum from strip to strip.
FASTCT_AVX2 void restore_row64(const int16_t* in, const int16_t* above, int16_t* edges, int16_t* out,
                               size_t width, int16_t first) {
    __m256i start = flipped_first(first);
    for (size_t x = 0; x < width; x += 64) {
        Row64 strip =
            next_edges(load_row64(above + x), load(above + x - 16), load(above + x + 64), load_row64(in + x));
        if (x == 0) clear_first(strip);
        store_row64(edges + x, strip);
        if (!out) continue;
        const __m256i last = store_sums(strip, start, out + x);
        start = _mm256_xor_si256(_mm256_and_si256(last, first_column()), flipped());
    }
}

FASTCT_AVX2 void restore_strips(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch) {
    const Planes& planes = plane.planes;
    scratch.fit(planes, INT16_MIN);
    const uint8_t *in = plane.body, *widths = plane.widths;
    int16_t first = plane.first, *residuals = scratch.residuals.data();
    for (size_t y = 0; y < rows.end; y += 2) {
        for (size_t x = 0; x < planes.width; x += 64, widths += 4) {
            Row64 two[2];
            in = unpack_strip(in, widths, two);
            store_row64(residuals + x, two[0]);
            store_row64(residuals + planes.width + x, two[1]);
        }
        for (size_t k = 0; k < 2 && y + k < rows.end; ++k) {
            const int16_t *row = residuals + k * planes.width, *above = scratch.row(planes, y + k + 1);
            int16_t* out = rows.at(y + k);
            if (out) fetch_row(out, planes.width, rows.ahead_bytes);
            first = int16_t(first + row[0]);
            restore_row64(row, above, scratch.row(planes, y + k), out, planes.width, first);
        }
    }
}

}  // namespace ctpack::avx2

#endif
