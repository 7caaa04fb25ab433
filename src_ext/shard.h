// Zarr v3 shards ("sharding_indexed", index last, crc32c everywhere) of ctpack chunks, a volume at a time.
#pragma once
#include <vector>

#include "crc32c.h"
#include "ctpack.h"

namespace shard {

using ctpack::Box;
using ctpack::Target;

constexpr uint64_t MISSING = ~uint64_t(0);
constexpr size_t CHECKSUM_BYTES = 4, CACHE_LINE = 64;

// From this size on, a region's first voxels leave the caches of a core (1 to 2 MB) while its last are decoded;
// stores past them save reading every line first: whole CTs take a quarter less time, with or without a pass over
// their voxels afterwards.
constexpr size_t PAST_CACHES_BYTES = 8 << 20;

struct Entry {  // as the index holds it
    uint64_t offset, n_bytes;
};

struct Grid {
    size_t count[3], chunk[3];  // chunks along (z, y, x); voxels of a chunk

    size_t chunks() const { return count[0] * count[1] * count[2]; }
    size_t voxels() const { return chunk[0] * chunk[1] * chunk[2]; }
    ctpack::Planes planes() const { return {chunk[0], chunk[1], chunk[2]}; }
    ctpack::Shape shape() const {
        ctpack::Shape shape;
        shape.axes = 3;
        for (int a = 0; a < 3; ++a) shape.extent[a] = uint32_t(chunk[a]);
        return shape;
    }
};

// ---- writing ---------------------------------------------------------------------------------------------

struct Volume {
    const uint8_t* first;
    size_t shape[3];
    ptrdiff_t plane_bytes, row_bytes;  // voxels of a row are contiguous
    size_t voxel_bytes;
    uint16_t fill;
    bool omit_fill;  // leave out chunks that hold nothing but the fill value
};

inline void repeat(uint8_t* row, size_t from, size_t to, const uint8_t* value, size_t voxel_bytes) {
    if (from < to) ctpack::fill_row(row + from * voxel_bytes, to - from, value, voxel_bytes);
}

// Rows below the volume are those that cost next to nothing: level ones, or copies for labels.
inline void pad_row(uint8_t* row, size_t width, size_t voxel_bytes) {
    const uint8_t* above = row - width * voxel_bytes;
    if (voxel_bytes == 1)
        std::memcpy(row, above, width);
    else
        repeat(row, 0, width, above, voxel_bytes);
}

// Copies a chunk that begins at voxel (z, y, x); what lies outside the volume is made up, and cheap.
inline void gather(const Volume& volume, const Grid& grid, const size_t* begin, uint8_t* out) {
    const size_t size = volume.voxel_bytes, width = grid.chunk[2], height = grid.chunk[1];
    const size_t planes = std::min(grid.chunk[0], volume.shape[0] - begin[0]);
    const size_t rows = std::min(height, volume.shape[1] - begin[1]),
                 columns = std::min(width, volume.shape[2] - begin[2]);
    for (size_t z = 0; z < planes; ++z)
        for (size_t y = 0; y < height; ++y, out += width * size) {
            if (y >= rows) {
                pad_row(out, width, size);
                continue;
            }
            const uint8_t* row = volume.first + ptrdiff_t(begin[0] + z) * volume.plane_bytes +
                                 ptrdiff_t(begin[1] + y) * volume.row_bytes + begin[2] * size;
            for (size_t ahead = 0; ahead < columns * size; ahead += CACHE_LINE)  // the next chunk's row
                __builtin_prefetch(row + columns * size + ahead);
            std::memcpy(out, row, columns * size);
            repeat(out, columns, width, out + (columns - 1) * size, size);
        }
    uint8_t fill[2];
    std::memcpy(fill, &volume.fill, 2);
    repeat(out, 0, (grid.chunk[0] - planes) * height * width, fill, size);
}

inline bool is_fill(const ctpack::Source& source, const Volume& volume) {
    return std::memcmp(source.voxels, &volume.fill, volume.voxel_bytes) == 0 &&
           ctpack::is_constant(source, source.shape.planes());
}

inline size_t append_checksum(uint8_t* out, size_t begin, size_t end, bool portable) {
    const uint32_t sum = crc32c::of(out + begin, end - begin, portable);
    std::memcpy(out + end, &sum, CHECKSUM_BYTES);
    return end + CHECKSUM_BYTES;
}

inline size_t bound(const Grid& grid, size_t voxel_bytes) {
    return grid.chunks() * (ctpack::bound(grid.shape(), voxel_bytes) + CHECKSUM_BYTES + sizeof(Entry)) +
           CHECKSUM_BYTES;
}

// Whether a chunk lies within the volume, so that it can be encoded where it is.
inline bool is_inside(const Volume& volume, const Grid& grid, const size_t* begin) {
    const ctpack::Planes own = grid.planes(), planes = grid.shape().planes();  // axes of length 1 are dropped
    return own.count == planes.count && own.height == planes.height && own.width == planes.width &&
           begin[0] + grid.chunk[0] <= volume.shape[0] && begin[1] + grid.chunk[1] <= volume.shape[1] &&
           begin[2] + grid.chunk[2] <= volume.shape[2];
}

// The voxels of a chunk: those of the volume, or a copy in `room` with the rest made up.
inline ctpack::Source source_of(const Volume& volume, const Grid& grid, const size_t* begin,
                                std::vector<int16_t>& room) {
    const size_t size = volume.voxel_bytes;
    if (is_inside(volume, grid, begin))
        return {grid.shape(), size,
                volume.first + ptrdiff_t(begin[0]) * volume.plane_bytes + ptrdiff_t(begin[1]) * volume.row_bytes +
                    begin[2] * size,
                volume.plane_bytes, volume.row_bytes};
    room.resize(grid.voxels());
    uint8_t* copy = reinterpret_cast<uint8_t*>(room.data());
    gather(volume, grid, begin, copy);
    return ctpack::contiguous_source(grid.shape(), size, copy);
}

// Writes the shard of a volume to `out`, which has room for `bound`; returns its length.
inline size_t encode_volume(const Volume& volume, const Grid& grid, uint8_t* out, bool portable) {
    std::vector<int16_t> room;  // int16 for its alignment
    std::vector<Entry> index;
    index.reserve(grid.chunks());
    ctpack::Scratch scratch;
    const ctpack::Kernels& kernels = ctpack::choose(portable);
    size_t end = 0;
    for (size_t z = 0; z < grid.count[0]; ++z)
        for (size_t y = 0; y < grid.count[1]; ++y)
            for (size_t x = 0; x < grid.count[2]; ++x) {
                const size_t begin[3] = {z * grid.chunk[0], y * grid.chunk[1], x * grid.chunk[2]};
                const ctpack::Source source = source_of(volume, grid, begin, room);
                if (volume.omit_fill && is_fill(source, volume)) {
                    index.push_back({MISSING, MISSING});
                    continue;
                }
                const size_t start = end;
                end += ctpack::encode(source, out + end, scratch, kernels);
                end = append_checksum(out, start, end, portable);
                index.push_back({start, end - start});
            }
    std::memcpy(out + end, index.data(), index.size() * sizeof(Entry));
    return append_checksum(out, end, end + index.size() * sizeof(Entry), portable);
}

// ---- reading ---------------------------------------------------------------------------------------------

struct Shard {
    const uint8_t* bytes;
    size_t n_bytes;
    const Entry* index;  // C order
    Grid grid;
};

struct Region {
    size_t begin[3], end[3];
    Target target;
    size_t voxel_bytes;
};

struct Fault {
    size_t chunk;         // C order
    const char* finding;  // null: none
};

// Proves one chunk: its place, checksum, lengths, shape and dtype.
inline const char* prove(const Shard& shard, const Entry& entry, size_t voxel_bytes, ctpack::Chunk& chunk,
                         ctpack::Scratch& scratch, bool portable) {
    if (entry.offset > shard.n_bytes || entry.n_bytes > shard.n_bytes - entry.offset ||
        entry.n_bytes < CHECKSUM_BYTES)
        return "the index places it outside the shard";
    const uint8_t* bytes = shard.bytes + entry.offset;
    const size_t n_bytes = size_t(entry.n_bytes) - CHECKSUM_BYTES;
    uint32_t sum;
    std::memcpy(&sum, bytes + n_bytes, CHECKSUM_BYTES);
    if (sum != crc32c::of(bytes, n_bytes, portable)) return "its checksum (crc32c) does not match its bytes";
    if (const char* finding = ctpack::parse(bytes, n_bytes, chunk, scratch)) return finding;
    if (chunk.voxel_bytes != voxel_bytes) return "its dtype is not the array's";
    return chunk.shape == shard.grid.shape() ? nullptr : "its shape is not the array's chunk shape";
}

// ctpack drops axes of length 1, so its planes need not be the chunk's.
inline void decode_box(const ctpack::Chunk& chunk, const Grid& grid, const Box& box, const Target& target,
                       ctpack::Scratch& scratch, bool portable) {
    const ctpack::Planes planes = grid.planes();
    if (chunk.planes.count == planes.count && chunk.planes.height == planes.height &&
        chunk.planes.width == planes.width)
        return ctpack::decode(chunk, box, target, scratch, ctpack::choose(portable));
    std::vector<int16_t> voxels(grid.voxels());
    uint8_t* bytes = reinterpret_cast<uint8_t*>(voxels.data());
    ctpack::decode_whole(chunk, bytes, scratch, ctpack::choose(portable));
    ctpack::copy_box(bytes, planes, chunk.voxel_bytes, box, target);
}

// The part of chunk (z, y, x) = `at` that the region wants, and where it goes.
inline Box overlap(const Grid& grid, const Region& region, const size_t* at, Target& target) {
    size_t lo[3], hi[3], to[3];
    for (int a = 0; a < 3; ++a) {
        const size_t start = at[a] * grid.chunk[a];
        lo[a] = std::max(region.begin[a], start) - start;
        hi[a] = std::min(region.end[a], start + grid.chunk[a]) - start;
        to[a] = start + lo[a] - region.begin[a];
    }
    target = region.target;
    target.first = region.target.row(to[0], to[1]) + to[2] * region.voxel_bytes;
    return {lo[0], hi[0], lo[1], hi[1], lo[2], hi[2]};
}

inline bool fills_lines(const Target& target) {
    return (reinterpret_cast<uintptr_t>(target.first) | uintptr_t(target.row_bytes) | uintptr_t(target.plane_bytes)) %
               CACHE_LINE == 0;
}

// Stores past the caches are seen by other threads once this has gone, also where a fault ends the work.
struct Fence {
    Fence() = default;
    Fence(const Fence&) = delete;
    Fence& operator=(const Fence&) = delete;
    ~Fence() {
#ifdef FASTCT_X86
        _mm_sfence();
#endif
    }
};

// Decodes the chunks that a region (not empty, within the grid) touches, but for missing ones.
inline Fault decode_region(const Shard& shard, const Region& region, bool portable) {
    const Fence fence;
    const Grid& grid = shard.grid;
    ctpack::Scratch scratch;
    size_t first[3], last[3], at[3], n_bytes = region.voxel_bytes;
    for (int a = 0; a < 3; ++a)
        n_bytes *= region.end[a] - region.begin[a], first[a] = region.begin[a] / grid.chunk[a],
            last[a] = (region.end[a] - 1) / grid.chunk[a];
    for (at[0] = first[0]; at[0] <= last[0]; ++at[0])
        for (at[1] = first[1]; at[1] <= last[1]; ++at[1])
            for (at[2] = first[2]; at[2] <= last[2]; ++at[2]) {
                const size_t number = (at[0] * grid.count[1] + at[1]) * grid.count[2] + at[2];
                const Entry entry = shard.index[number];
                if (entry.offset == MISSING && entry.n_bytes == MISSING) continue;
                ctpack::Chunk chunk;
                if (const char* finding = prove(shard, entry, region.voxel_bytes, chunk, scratch, portable))
                    return {number, finding};
                Target target;
                const Box box = overlap(grid, region, at, target);
                target.past_caches = n_bytes >= PAST_CACHES_BYTES && fills_lines(target);
                decode_box(chunk, grid, box, target, scratch, portable);
            }
    return {0, nullptr};
}

}  // namespace shard
