// Boxes of voxels mapped on a clamped line and rounded to the type of the output; AVX2 twin chosen at run time.
#pragma once
#include "ctpack_kernels.h"

namespace values {

// (value - anchor) * slope + offset, kept in [floor, ceiling]; every operation is rounded to float.
struct Line {
    float anchor, slope, offset, floor, ceiling;

    float operator()(float value) const {
        const float moved = (value - anchor) * slope + offset;
        const float above = moved > floor ? moved : floor;
        return above < ceiling ? above : ceiling;
    }
};

struct Half {
    uint16_t bits;
};

enum Kind { FLOAT32, FLOAT16, UINT8, INT16 };  // of an output's voxels

// Adding and taking away 1.5 * 2^23 rounds a smaller number to a whole one, ties to even, without a call.
constexpr float ROUNDER = 12582912.0f;

inline float kept_in(float value, float low, float high) {
    const float above = value > low ? value : low;
    return ((above < high ? above : high) + ROUNDER) - ROUNDER;
}

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// The nearest float16, ties to even, of a finite float: as fastct/kernels/cpu/rounding.py does it.
inline uint16_t half_bits(float value) {
    constexpr uint32_t SIGN = 0x80000000u, REBIAS_AND_HALF = 0xC8000FFFu, SMALLEST_NORMAL = 113u << 23,
                       OVERFLOW_FROM = 143u << 23, INFINITE = 0x7C00u, SUBNORMAL_MAGIC = 0x3F000000u;
    const uint32_t bits = bits_of(value), magnitude = bits & ~SIGN, odd = magnitude >> 13 & 1;
    const uint32_t normal = (magnitude + REBIAS_AND_HALF + odd) >> 13;
    const uint32_t subnormal = bits_of(from_bits(magnitude) + from_bits(SUBNORMAL_MAGIC)) - SUBNORMAL_MAGIC;
    uint32_t rounded = magnitude < SMALLEST_NORMAL ? subnormal : normal;
    rounded = magnitude >= OVERFLOW_FROM ? INFINITE : rounded;
    return uint16_t(rounded | (bits & SIGN) >> 16);
}

inline void store(float value, float& out) { out = value; }
inline void store(float value, Half& out) { out.bits = half_bits(value); }
inline void store(float value, uint8_t& out) { out = uint8_t(int32_t(kept_in(value, 0.0f, 255.0f))); }
inline void store(float value, int16_t& out) { out = int16_t(int32_t(kept_in(value, -32768.0f, 32767.0f))); }

struct Extent {
    size_t planes, rows, columns;
};

// The address of a box's first voxel; strides in bytes, against the output's order where they are negative.
template <class Byte>
struct Strided {
    Byte* first;
    ptrdiff_t plane_bytes, row_bytes;

    Byte* row(size_t z, size_t y) const {
        return first + ptrdiff_t(z) * plane_bytes + ptrdiff_t(y) * row_bytes;
    }
};

using From = Strided<const uint8_t>;
using To = Strided<uint8_t>;

using Map = void (*)(const From&, const To&, const Extent&, const Line&);

// Rows of the output run against the source's where `backward`: its first voxel is then the row's last.
template <class In, class Out, bool backward>
inline void map_rows(const From& from, const To& to, const Extent& extent, const Line& given) {
    const Line line = given;  // a copy, as the outputs could lie over it for all that the compiler knows
    for (size_t z = 0; z < extent.planes; ++z)
        for (size_t y = 0; y < extent.rows; ++y) {
            const In* __restrict in = reinterpret_cast<const In*>(from.row(z, y));
            Out* __restrict out = reinterpret_cast<Out*>(to.row(z, y));
            for (size_t x = 0; x < extent.columns; ++x)
                store(line(float(in[x])), out[backward ? -ptrdiff_t(x) : ptrdiff_t(x)]);
        }
}

}  // namespace values

#include "values_avx2.h"

namespace values {

template <class In, class Out>
inline Map choose(bool backward, bool portable) {
#ifdef FASTCT_X86
    if (!portable && avx2::IS_THERE)
        return backward ? avx2::map_rows<In, Out, true> : avx2::map_rows<In, Out, false>;
#endif
    (void)portable;
    return backward ? map_rows<In, Out, true> : map_rows<In, Out, false>;
}

// One value everywhere.
template <class Out>
inline void fill(float value, const To& to, const Extent& extent, bool backward) {
    Out stored;
    store(value, stored);
    for (size_t z = 0; z < extent.planes; ++z)
        for (size_t y = 0; y < extent.rows; ++y)
            std::fill_n(reinterpret_cast<Out*>(to.row(z, y)) - (backward ? extent.columns - 1 : 0),
                        extent.columns, stored);
}

}  // namespace values
