// ctpack's loops over one plane of int16: prediction and bit packing, in plain C++, and the choice of twin.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "processor.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "ctpack's loads and stores assume little-endian bytes");

namespace ctpack {

constexpr size_t BLOCK = 16;   // voxels packed at one width
constexpr size_t EDGE = 16;    // room on both sides of a row of differences, so that neighbours can be read
constexpr size_t SLACK = 32;   // voxels after a plane's residuals that a vector may touch
constexpr uint32_t WIDE = 15;  // the 4-bit code for 16 bits

inline uint16_t load16(const uint8_t* p) {
    uint16_t value;
    std::memcpy(&value, p, 2);
    return value;
}

inline void store16(uint8_t* p, uint16_t value) { std::memcpy(p, &value, 2); }

struct Planes {
    size_t count, height, width;

    size_t blocks() const { return (height * width + BLOCK - 1) / BLOCK; }  // of one plane
    size_t width_bytes() const { return (blocks() + 1) / 2; }
};

// The order of a plane's residuals in blocks: halves of 8 voxels, `half` voxels apart.
//
// Blocks of 2 rows by 8 columns fit CT noise better than 16 in a row (2-3 % smaller); planes that they do not
// tile are cut in C order instead.
struct BlockOrder {
    size_t strips, strip_pitch, strip_blocks, block_pitch, half;

    explicit BlockOrder(const Planes& planes) {
        const bool tiles = planes.width % 8 == 0 && planes.height % 2 == 0;
        strips = tiles ? planes.height / 2 : 1;
        strip_pitch = tiles ? 2 * planes.width : 0;
        strip_blocks = tiles ? planes.width / 8 : planes.blocks();
        block_pitch = tiles ? 8 : BLOCK;
        half = tiles ? planes.width : 8;
    }

    size_t strips_for(size_t rows) const { return strips == 1 ? 1 : (rows + 1) / 2; }
};

// Room for one plane's residuals, and for the horizontal differences of two rows.
struct PlaneScratch {
    std::vector<int16_t> residuals, edges;

    // `none` is how a twin stores a difference of zero.
    void fit(const Planes& planes, int16_t none) {
        residuals.resize(planes.blocks() * BLOCK + SLACK);
        edges.assign(2 * pitch(planes), none);
    }
    static size_t pitch(const Planes& planes) { return planes.width + 2 * EDGE + SLACK; }
    int16_t* row(const Planes& planes, size_t y) { return edges.data() + (y % 2) * pitch(planes) + EDGE; }
};

struct PackedPlane {
    const uint8_t *widths, *body;
    int16_t first;
    Planes planes;
    const uint8_t* end;  // of what may be read: the chunk's
};

struct Rows {
    size_t begin, end;  // those wanted
    uint8_t* out;       // of the first of them; aligned to int16
    ptrdiff_t row_bytes;
    ptrdiff_t ahead_bytes;  // from a row to the one that is decoded a plane later, to fetch its cache lines; or 0
    bool past_caches;       // rows fill whole cache lines and will have left the caches before they are read: a hint

    int16_t* at(size_t y) const {  // null for a row that is only passed through
        return y < begin ? nullptr : reinterpret_cast<int16_t*>(out + ptrdiff_t(y - begin) * row_bytes);
    }
};

// The voxels of a plane that is to be encoded.
struct VoxelRows {
    const uint8_t* first;  // aligned to int16
    ptrdiff_t row_bytes;

    const int16_t* at(size_t y) const {
        return reinterpret_cast<const int16_t*>(first + ptrdiff_t(y) * row_bytes);
    }
};

struct Kernels {
    // Sets a plane's widths, which were zero, and its body; returns the bytes of the body, 0 where every residual
    // is zero. May write 16 bytes beyond them.
    size_t (*encode)(const VoxelRows& rows, const Planes& planes, PlaneScratch& scratch, uint8_t* widths,
                     uint8_t* body);
    // Decodes the wanted rows of a plane. May read 16 bytes beyond its body.
    void (*restore)(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch);
};

inline uint32_t code_at(const uint8_t* widths, size_t block) {
    return widths[block / 2] >> (4 * (block % 2)) & 15;
}
inline uint32_t width_of(uint32_t code) { return code + (code == WIDE); }

// The code of a block whose zigzagged residuals (small for small values of either sign) are or-ed in `bits`.
inline uint32_t code_for(uint32_t bits) {
    const uint32_t width = bits ? 32 - uint32_t(__builtin_clz(bits)) : 0;
    return width < WIDE ? width : WIDE;
}

namespace portable {

// What the differences of the row above let expect: the mean of two, then of that and the third, rounded up.
inline int16_t expected(const int16_t* above) {
    return int16_t((((above[-1] + above[1] + 1) >> 1) + above[0] + 1) >> 1);
}

inline void residuals(const VoxelRows& rows, const Planes& planes, PlaneScratch& scratch) {
    scratch.fit(planes, 0);
    int16_t first = *rows.at(0);
    for (size_t y = 0; y < planes.height; ++y) {
        const int16_t *voxels = rows.at(y), *above = scratch.row(planes, y + 1);
        int16_t *edges = scratch.row(planes, y), *out = scratch.residuals.data() + y * planes.width;
        for (size_t x = 1; x < planes.width; ++x) {
            edges[x] = int16_t(voxels[x] - voxels[x - 1]);
            out[x] = int16_t(edges[x] - expected(above + x));
        }
        out[0] = int16_t(voxels[0] - first);
        first = voxels[0];
    }
    const size_t n = planes.height * planes.width;
    std::memset(scratch.residuals.data() + n, 0, 2 * (scratch.residuals.size() - n));
}

inline uint32_t block_code(const int16_t* low, const int16_t* high) {
    uint32_t bits = 0;
    for (int i = 0; i < 8; ++i)
        bits |= uint16_t(low[i] * 2 ^ low[i] >> 15) | uint16_t(high[i] * 2 ^ high[i] >> 15);
    return code_for(bits);
}

// Eight values of `width` bits take `width` bytes.
inline void pack8(const int16_t* values, uint32_t width, uint8_t* out) {
    uint64_t word = 0;
    uint32_t filled = 0;
    for (int i = 0; i < 8; ++i) {
        word |= uint64_t(uint16_t(values[i]) & ((1u << width) - 1)) << filled;
        for (filled += width; filled >= 8; filled -= 8, word >>= 8) *out++ = uint8_t(word);
    }
}

inline size_t encode(const VoxelRows& rows, const Planes& planes, PlaneScratch& scratch, uint8_t* widths,
                     uint8_t* body) {
    residuals(rows, planes, scratch);
    const BlockOrder order(planes);
    uint8_t* out = body;
    size_t block = 0;
    for (size_t strip = 0; strip < order.strips; ++strip)
        for (size_t b = 0; b < order.strip_blocks; ++b, ++block) {
            const int16_t* low = scratch.residuals.data() + strip * order.strip_pitch + b * order.block_pitch;
            const uint32_t code = block_code(low, low + order.half), width = width_of(code);
            widths[block / 2] |= uint8_t(code << (4 * (block % 2)));
            pack8(low, width, out);
            pack8(low + order.half, width, out + width);
            out += 2 * width;
        }
    return size_t(out - body);
}

// Eight values of two's complement, `width` bits each.
inline void unpack8(const uint8_t* in, uint32_t width, int16_t* out) {
    for (uint32_t i = 0; i < 8; ++i) {
        uint32_t word;
        std::memcpy(&word, in + i * width / 8, 4);
        const uint32_t left = 32 - width;
        out[i] = width ? int16_t(int32_t(word >> (i * width % 8) << left) >> left) : int16_t(0);
    }
}

inline void unpack(const PackedPlane& plane, size_t rows, int16_t* residuals) {
    const BlockOrder order(plane.planes);
    const uint8_t* in = plane.body;
    size_t block = 0;
    for (size_t strip = 0; strip < order.strips_for(rows); ++strip)
        for (size_t b = 0; b < order.strip_blocks; ++b, ++block) {
            int16_t* low = residuals + strip * order.strip_pitch + b * order.block_pitch;
            const uint32_t width = width_of(code_at(plane.widths, block));
            unpack8(in, width, low);
            unpack8(in + width, width, low + order.half);
            in += 2 * width;
        }
}

inline void restore(const PackedPlane& plane, const Rows& rows, PlaneScratch& scratch) {
    const Planes& planes = plane.planes;
    scratch.fit(planes, 0);
    unpack(plane, rows.end, scratch.residuals.data());
    int16_t first = plane.first;
    for (size_t y = 0; y < rows.end; ++y) {
        const int16_t *above = scratch.row(planes, y + 1), *in = scratch.residuals.data() + y * planes.width;
        int16_t *edges = scratch.row(planes, y), *out = rows.at(y);
        for (size_t x = 1; x < planes.width; ++x) edges[x] = int16_t(in[x] + expected(above + x));
        first = int16_t(first + in[0]);
        if (!out) continue;
        out[0] = first;
        for (size_t x = 1; x < planes.width; ++x) out[x] = int16_t(out[x - 1] + edges[x]);
    }
}

inline constexpr Kernels KERNELS = {encode, restore};

}  // namespace portable
}  // namespace ctpack

#include "ctpack_avx2.h"

#include "ctpack_avx512.h"

namespace ctpack {

inline bool has_avx2() {
#ifdef FASTCT_X86
    return __builtin_cpu_supports("avx2");
#else
    return false;
#endif
}

inline bool has_avx512() {
#ifdef FASTCT_X86
    return has_avx2() && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vbmi2");
#else
    return false;
#endif
}

struct Twin {
    const char* name;
    const Kernels* kernels;
};

// The twins that this processor runs, the plain one first and the fastest last.
struct Twins {
    Twin of[3] = {{"portable", &portable::KERNELS}};
    size_t count = 1;

    Twins() {
#ifdef FASTCT_X86
        if (has_avx2()) of[count++] = {"avx2", &avx2::KERNELS};
        if (has_avx512()) of[count++] = {"avx512", &avx512::KERNELS};
#endif
    }
};

inline const Twins TWINS;

// The fastest twin; `portable` forces the plain one.
inline const Kernels& choose(bool portable) { return *TWINS.of[portable ? 0 : TWINS.count - 1].kernels; }

}  // namespace ctpack
