// Patches out of shards in one pass: decode the touched chunks in cache-sized scratch, map, write the output.
#pragma once
#include "shard.h"
#include "values.h"

namespace patches {

using ctpack::Box;
using shard::Fault;
using shard::Grid;
using shard::Shard;
using values::Extent;
using values::Line;
using values::To;

struct Source {
    Shard shard;
    size_t volume[3];  // (z, y, x) voxels
    size_t voxel_bytes;
};

struct Patch {
    ptrdiff_t begin[3];  // its first voxel in the volume, along (z, y, x); it may lie outside
    size_t shape[3];
    bool backward[3];  // whether the output's axis runs against the volume's
    uint8_t* out;
    ptrdiff_t plane_bytes, row_bytes;  // rows are contiguous
};

struct Values {
    Line line;
    float missing, outside;  // of chunks that were left out, and beyond the volume: already mapped
};

// Where the voxel at `at` (counted from the patch's first one, in the volume's order) goes; strides that follow.
template <class Out>
inline To place(const Patch& patch, const size_t* at) {
    size_t to[3];
    for (int a = 0; a < 3; ++a) to[a] = patch.backward[a] ? patch.shape[a] - 1 - at[a] : at[a];
    uint8_t* first = patch.out + ptrdiff_t(to[0]) * patch.plane_bytes + ptrdiff_t(to[1]) * patch.row_bytes +
                     to[2] * sizeof(Out);
    return {first, patch.backward[0] ? -patch.plane_bytes : patch.plane_bytes,
            patch.backward[1] ? -patch.row_bytes : patch.row_bytes};
}

// The voxels of the patch that the volume has; false where there are none.
inline bool within(const Source& source, const Patch& patch, size_t* begin, size_t* end) {
    bool any = true;
    for (int a = 0; a < 3; ++a) {
        const ptrdiff_t n = ptrdiff_t(source.volume[a]), stop = patch.begin[a] + ptrdiff_t(patch.shape[a]);
        begin[a] = size_t(std::clamp<ptrdiff_t>(patch.begin[a], 0, n));
        end[a] = size_t(std::clamp<ptrdiff_t>(stop, 0, n));
        any = any && begin[a] < end[a];
    }
    return any;
}

struct alignas(shard::CACHE_LINE) Line64 {
    uint8_t bytes[shard::CACHE_LINE];
};

struct Scratch {
    ctpack::Scratch ctpack;
    std::vector<Line64> voxels;

    uint8_t* room(size_t n_bytes) {
        if (voxels.size() * sizeof(Line64) < n_bytes) voxels.resize(n_bytes / sizeof(Line64) + 1);
        return voxels.front().bytes;
    }
};

// One chunk: `box` of it goes to the patch from voxel `at` on. Whole rows are decoded, as they cost the least.
template <class In, class Out>
inline const char* read_chunk(const Source& source, size_t number, const Box& box, const Patch& patch,
                              const size_t* at, const Values& mapping, Scratch& scratch, bool portable) {
    const Grid& grid = source.shard.grid;
    const To to = place<Out>(patch, at);
    const Extent extent{box.z1 - box.z0, box.y1 - box.y0, box.x1 - box.x0};
    const shard::Entry entry = source.shard.index[number];
    if (entry.offset == shard::MISSING && entry.n_bytes == shard::MISSING) {
        values::fill<Out>(mapping.missing, to, extent, patch.backward[2]);
        return nullptr;
    }
    ctpack::Chunk chunk;
    if (const char* finding = shard::prove(source.shard, entry, sizeof(In), chunk, scratch.ctpack, portable))
        return finding;
    const ptrdiff_t row_bytes = ptrdiff_t(grid.chunk[2] * sizeof(In));
    const ctpack::Target decoded{scratch.room(extent.planes * extent.rows * size_t(row_bytes)),
                                 ptrdiff_t(extent.rows) * row_bytes, row_bytes};
    shard::decode_box(chunk, grid, {box.z0, box.z1, box.y0, box.y1, 0, grid.chunk[2]}, decoded, scratch.ctpack,
                      portable);
    const values::From from{decoded.first + box.x0 * sizeof(In), decoded.plane_bytes, decoded.row_bytes};
    values::choose<In, Out>(patch.backward[2], portable)(from, to, extent, mapping.line);
    return nullptr;
}

template <class In, class Out>
inline Fault read_as(const Source& source, const Patch& patch, const Values& mapping, bool portable) {
    const Grid& grid = source.shard.grid;
    Scratch scratch;
    size_t begin[3], end[3], chunk[3], lo[3], hi[3], at[3];
    const bool any = within(source, patch, begin, end);
    const size_t held = (end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]);
    if (held < patch.shape[0] * patch.shape[1] * patch.shape[2] || !any) {
        const To whole{patch.out, patch.plane_bytes, patch.row_bytes};
        values::fill<Out>(mapping.outside, whole, {patch.shape[0], patch.shape[1], patch.shape[2]}, false);
    }
    if (!any) return {0, nullptr};
    // The chunk's part of the patch along an axis: from lo up to hi within the chunk, to `at` in the patch.
    const auto cut = [&](int a) {
        const size_t start = chunk[a] * grid.chunk[a];
        lo[a] = std::max(begin[a], start) - start;
        hi[a] = std::min(end[a], start + grid.chunk[a]) - start;
        at[a] = size_t(ptrdiff_t(start + lo[a]) - patch.begin[a]);
    };
    for (chunk[0] = begin[0] / grid.chunk[0]; chunk[0] * grid.chunk[0] < end[0]; ++chunk[0])
        for (chunk[1] = begin[1] / grid.chunk[1]; chunk[1] * grid.chunk[1] < end[1]; ++chunk[1])
            for (chunk[2] = begin[2] / grid.chunk[2]; chunk[2] * grid.chunk[2] < end[2]; ++chunk[2]) {
                for (int a = 0; a < 3; ++a) cut(a);
                const size_t number = (chunk[0] * grid.count[1] + chunk[1]) * grid.count[2] + chunk[2];
                const Box box{lo[0], hi[0], lo[1], hi[1], lo[2], hi[2]};
                if (const char* finding =
                        read_chunk<In, Out>(source, number, box, patch, at, mapping, scratch, portable))
                    return {number, finding};
            }
    return {0, nullptr};
}

template <class In>
inline Fault read_kind(const Source& source, const Patch& patch, const Values& mapping, values::Kind kind, bool portable) {
    switch (kind) {
        case values::FLOAT32: return read_as<In, float>(source, patch, mapping, portable);
        case values::FLOAT16: return read_as<In, values::Half>(source, patch, mapping, portable);
        case values::UINT8: return read_as<In, uint8_t>(source, patch, mapping, portable);
        default: return read_as<In, int16_t>(source, patch, mapping, portable);
    }
}

// Reads a patch (not empty); a fault names the chunk, and leaves the output unfinished.
inline Fault read(const Source& source, const Patch& patch, const Values& mapping, values::Kind kind, bool portable) {
    if (source.voxel_bytes == 2) return read_kind<int16_t>(source, patch, mapping, kind, portable);
    return read_kind<uint8_t>(source, patch, mapping, kind, portable);
}

}  // namespace patches
