// ctpack chunks: their shape, and the proof of every length in them. The bytes are specified in
// fastct/codecs.py.
#pragma once
#include <algorithm>

#include "ctpack_kernels.h"

namespace ctpack {

enum Method : uint8_t { CONSTANT = 0, STORED = 1, PACKED = 2, RUNS = 3 };

constexpr uint8_t VERSION = 1;
constexpr size_t MAX_AXES = 32, PREAMBLE_BYTES = 8, TAIL_BYTES = 16;
constexpr uint64_t MAX_VOXELS = uint64_t(1) << 30;  // of one chunk: beyond it, a header is taken for damage

inline size_t align4(size_t n) { return (n + 3) & ~size_t(3); }

struct Shape {
    uint32_t axes = 0, extent[MAX_AXES] = {};

    uint64_t voxels() const {  // MAX_VOXELS + 1 stands for too many
        uint64_t product = 1;
        for (uint32_t a = 0; a < axes; ++a) {
            if (extent[a] == 0) return 0;
            product = std::min(product * extent[a], MAX_VOXELS + 1);
        }
        return product;
    }

    // Axes of length 1 are dropped; the last two of the others span the planes.
    Planes planes() const {
        Planes planes{1, 1, 1};
        uint32_t found = 0;
        for (uint32_t a = axes; a-- > 0;) {
            if (extent[a] == 1) continue;
            size_t& side = found == 0 ? planes.width : found == 1 ? planes.height : planes.count;
            side *= extent[a];
            ++found;
        }
        return planes;
    }

    bool operator==(const Shape& other) const {
        return axes == other.axes && std::equal(extent, extent + axes, other.extent);
    }
};

// Bounds that the header proves: nothing is written before `parse` has filled this in.
struct Chunk {
    Shape shape;
    Planes planes;
    uint8_t voxel_bytes = 0;
    Method method = CONSTANT;
    uint32_t n_tokens = 0, palette_size = 0, index_bits = 0;
    const uint8_t *payload = nullptr, *seeds = nullptr, *palette = nullptr, *tokens = nullptr, *end = nullptr;
};

struct PlaneStart {
    const uint8_t *widths, *body;  // null where every residual of the plane is zero
};

// Memory that calls reuse; it grows to the largest chunk seen.
struct Scratch {
    PlaneScratch plane;
    std::vector<PlaneStart> starts;
    std::vector<uint8_t> voxels;
    std::vector<uint16_t> tokens;
};

inline size_t header_bytes(const Shape& shape) { return PREAMBLE_BYTES + 4 * shape.axes; }

// No encoded chunk is longer than this, intermediate stages included.
inline size_t bound(const Shape& shape, size_t voxel_bytes) {
    const Planes planes = shape.planes();
    const size_t packed = planes.count * (3 + planes.width_bytes() + 2 * BLOCK * planes.blocks()) + 16;
    return header_bytes(shape) + std::max(packed, size_t(shape.voxels()) * voxel_bytes) + TAIL_BYTES + 16;
}

// The sum of block widths given as 4-bit codes, where 15 means 16. Four sums of 16 bits run side by side.
inline size_t width_sum(const uint8_t* codes, size_t n_bytes) {
    constexpr uint64_t LOW = 0x0f0f0f0f0f0f0f0f, ONE = 0x0101010101010101, EVEN = 0x00ff00ff00ff00ff;
    constexpr size_t RUN = 8 * 500;  // bytes after which a sum could overflow: a step adds at most 64 to each
    size_t total = 0;
    for (size_t at = 0; at < n_bytes; at += RUN) {
        const size_t end = std::min(n_bytes, at + RUN);
        uint64_t lanes = 0;
        for (size_t i = at; i < end; i += 8) {
            uint64_t word = 0;
            if (i + 8 <= end)
                std::memcpy(&word, codes + i, 8);
            else
                std::memcpy(&word, codes + i, end - i);
            const uint64_t low = word & LOW, high = (word >> 4) & LOW;
            const uint64_t sums = low + high + (((low + ONE) >> 4) & ONE) + (((high + ONE) >> 4) & ONE);
            lanes += (sums & EVEN) + ((sums >> 8) & EVEN);
        }
        for (int k = 0; k < 4; ++k) total += (lanes >> (16 * k)) & 0xffff;
    }
    return total;
}

inline const char* parse_packed(Chunk& chunk, size_t n_bytes, Scratch& scratch) {
    const Planes& planes = chunk.planes;
    const size_t flags_at = 2 * planes.count, widths_at = align4(flags_at + (planes.count + 7) / 8);
    if (widths_at > n_bytes) return "it ends within its planes' first voxels";
    const uint8_t* flags = chunk.payload + flags_at;
    size_t active = 0;
    for (size_t z = 0; z < planes.count; ++z) active += flags[z / 8] >> (z % 8) & 1;
    const size_t body_at = align4(widths_at + active * planes.width_bytes());
    if (body_at > n_bytes) return "it ends within its block widths";
    scratch.starts.resize(planes.count);
    const uint8_t* widths = chunk.payload + widths_at;
    size_t at = body_at;
    for (size_t z = 0; z < planes.count; ++z) {
        scratch.starts[z] = {nullptr, nullptr};
        if (!(flags[z / 8] >> (z % 8) & 1)) continue;
        if (planes.blocks() % 2 && widths[planes.width_bytes() - 1] >> 4)
            return "a width without a block is set";
        scratch.starts[z] = {widths, chunk.payload + at};
        at += 2 * width_sum(widths, planes.width_bytes());
        widths += planes.width_bytes();
    }
    chunk.seeds = chunk.payload;
    return align4(at + TAIL_BYTES) == n_bytes ? nullptr : "its block widths and its length disagree";
}

inline uint32_t bits_for(uint32_t n) { return n > 1 ? 32 - uint32_t(__builtin_clz(n - 1)) : 0; }

inline const char* parse_runs(Chunk& chunk, size_t n_bytes, uint32_t palette_size) {
    if (n_bytes < 4) return "it ends before its runs are counted";
    std::memcpy(&chunk.n_tokens, chunk.payload, 4);
    const size_t tokens_at = 4 + align4(palette_size);
    if (tokens_at > n_bytes || align4(tokens_at + 2 * size_t(chunk.n_tokens)) != n_bytes)
        return "its count of runs and its length disagree";
    chunk.palette_size = palette_size;
    chunk.index_bits = bits_for(palette_size);
    chunk.palette = chunk.payload + 4;
    chunk.tokens = chunk.payload + tokens_at;
    const uint32_t mask = (1u << chunk.index_bits) - 1;
    uint64_t voxels = 0;
    for (size_t t = 0; t < chunk.n_tokens; ++t) {
        const uint32_t token = load16(chunk.tokens + 2 * t);
        if ((token & mask) >= palette_size) return "a run names a value that is not in the palette";
        voxels += (token >> chunk.index_bits) + 1;
    }
    return voxels == chunk.shape.voxels() ? nullptr : "its runs do not add up to its voxels";
}

inline const char* parse_header(const uint8_t* p, size_t n_bytes, Chunk& chunk) {
    if (n_bytes < PREAMBLE_BYTES) return "it is shorter than a header";
    if (std::memcmp(p, "CTP", 3) != 0) return "it does not begin with CTP";
    if (p[3] != VERSION) return "its format version is not 1";
    chunk.voxel_bytes = p[4];
    chunk.method = Method(p[5]);
    chunk.shape.axes = p[6];
    if (p[4] != 1 && p[4] != 2) return "its voxels are neither uint8 nor int16";
    if (p[5] > RUNS || (p[5] == PACKED && p[4] != 2) || (p[5] == RUNS && p[4] != 1))
        return "its method is unknown";
    if (p[7] != 0 && p[5] != RUNS) return "its reserved byte is set";
    if (p[6] > MAX_AXES) return "it has more than 32 axes";
    if (header_bytes(chunk.shape) > n_bytes) return "it ends within its shape";
    std::memcpy(chunk.shape.extent, p + PREAMBLE_BYTES, 4 * chunk.shape.axes);
    if (chunk.shape.voxels() > MAX_VOXELS) return "its shape holds more than 2^30 voxels";
    return nullptr;
}

// Proves every length in the chunk; returns what is wrong, or null.
inline const char* parse(const uint8_t* p, size_t n_bytes, Chunk& chunk, Scratch& scratch) {
    if (const char* fault = parse_header(p, n_bytes, chunk)) return fault;
    const size_t header = header_bytes(chunk.shape), n_payload = n_bytes - header;
    const size_t voxels = size_t(chunk.shape.voxels());
    if (voxels == 0 && chunk.method != CONSTANT) return "an empty chunk must be constant";
    chunk.planes = chunk.shape.planes();
    chunk.payload = p + header;
    chunk.end = p + n_bytes;
    if (chunk.method == PACKED) return parse_packed(chunk, n_payload, scratch);
    if (chunk.method == RUNS) return parse_runs(chunk, n_payload, p[7] + 1u);
    const size_t wanted = chunk.method == CONSTANT ? 4 : align4(voxels * chunk.voxel_bytes);
    return n_payload == wanted ? nullptr : "its shape and its length disagree";
}

}  // namespace ctpack
