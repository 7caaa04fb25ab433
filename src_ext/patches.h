// Patches out of shards: decode the touched chunks in cache-sized scratch, map, write the output; or turn a box.
#pragma once
#include <cmath>

#include "shard.h"
#include "turning.h"

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
inline Fault read_kind(const Source& source, const Patch& patch, const Values& mapping, values::Kind kind,
                       bool portable) {
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

// ---- on any affine grid -----------------------------------------------------------------------------------

// The box of the volume that a reading needs, whole chunks along x, so that their rows are decoded where they lie.
struct Room {
    size_t begin[3], end[3];

    size_t width() const { return end[2] - begin[2]; }
    size_t voxels() const { return (end[0] - begin[0]) * (end[1] - begin[1]) * width(); }
};

inline Room room_of(const Source& source, const turning::Reading& reading, const turning::Out& out) {
    int64_t volume[3];
    for (int a = 0; a < 3; ++a) volume[a] = int64_t(source.volume[a]);
    const int64_t corner[3] = {0, 0, 0};
    const turning::Needed needed = turning::needed_by(reading, corner, out.shape, volume);
    Room room;
    for (int a = 0; a < 3; ++a) {
        room.begin[a] = size_t(needed.first[a]);
        room.end[a] = std::min(size_t(needed.first[a] + needed.size[a]), source.volume[a]);
    }
    const size_t chunk = source.shard.grid.chunk[2];
    room.begin[2] -= room.begin[2] % chunk;
    room.end[2] += (chunk - room.end[2] % chunk) % chunk;
    return room;
}

// Which voxels of a volume the output comes near: its places span a parallelepiped.
class Span {
  public:
    Span(const Source& source, const turning::Reading& reading, const turning::Out& out) : source(source) {
        double m[3][3];
        for (int a = 0; a < 3; ++a) {
            start[a] = std::ldexp(double(reading.places[a][3]), -turning::FRACTION_BITS);
            for (int k = 0; k < 3; ++k) m[a][k] = std::ldexp(double(reading.places[a][k]), -turning::FRACTION_BITS);
            last[a] = double(out.shape[a] - 1);
        }
        double determinant = 0;
        for (int k = 0; k < 3; ++k)
            for (int a = 0; a < 3; ++a) {  // cofactors, taken in turn
                const int a1 = (a + 1) % 3, a2 = (a + 2) % 3, k1 = (k + 1) % 3, k2 = (k + 2) % 3;
                back[k][a] = m[a1][k1] * m[a2][k2] - m[a1][k2] * m[a2][k1];
                determinant += k == 0 ? back[k][a] * m[a][k] : 0;
            }
        known = std::abs(determinant) > 1e-6;
        for (auto& row : back)
            for (double& cell : row) cell /= known ? determinant : 1;
    }

    // False where no voxel of a box, nor one beside it, is read: seen from the output, the box lies beyond one side.
    bool touches(const size_t* begin, const size_t* end) const {
        for (int k = 0; known && k < 3; ++k) {
            double middle = 0, reach = ROUNDING;
            for (int a = 0; a < 3; ++a) {  // at its edge the volume is repeated
                const double low = begin[a] == 0 ? -FAR : double(begin[a]) - 1;
                const double high = end[a] >= source.volume[a] ? FAR + double(end[a]) : double(end[a]);
                middle += back[k][a] * ((low + high) / 2 - start[a]);
                reach += std::abs(back[k][a]) * (high - low) / 2;
            }
            if (middle + reach < 0 || middle - reach > last[k]) return false;
        }
        return true;
    }

  private:
    static constexpr double FAR = 1 << 30, ROUNDING = 1e-3;
    const Source& source;
    double back[3][3], start[3], last[3];
    bool known;
};

// Decodes the chunks of a room that the output comes near, as they are stored; missing ones become `fill`.
template <class In>
inline Fault decode_room(const Source& source, const Room& room, const Span& span, In fill, In* voxels, bool portable) {
    const Grid& grid = source.shard.grid;
    ctpack::Scratch scratch;
    const ptrdiff_t row_bytes = ptrdiff_t(room.width() * sizeof(In));
    const shard::Region region{{room.begin[0], room.begin[1], room.begin[2]},
                               {room.end[0], room.end[1], room.end[2]},
                               {reinterpret_cast<uint8_t*>(voxels),
                                ptrdiff_t(room.end[1] - room.begin[1]) * row_bytes, row_bytes},
                               sizeof(In)};
    size_t at[3], begin[3], end[3];
    const auto cut = [&](int a) {
        begin[a] = std::max(at[a] * grid.chunk[a], room.begin[a]);
        end[a] = std::min((at[a] + 1) * grid.chunk[a], room.end[a]);
        return at[a] * grid.chunk[a] < room.end[a];
    };
    for (at[0] = room.begin[0] / grid.chunk[0]; cut(0); ++at[0])
        for (at[1] = room.begin[1] / grid.chunk[1]; cut(1); ++at[1])
            for (at[2] = room.begin[2] / grid.chunk[2]; cut(2); ++at[2]) {
                if (!span.touches(begin, end)) continue;
                const size_t number = (at[0] * grid.count[1] + at[1]) * grid.count[2] + at[2];
                const shard::Entry entry = source.shard.index[number];
                ctpack::Target target;
                const Box box = shard::overlap(grid, region, at, target);
                if (entry.offset == shard::MISSING && entry.n_bytes == shard::MISSING) {
                    for (size_t z = 0; z < box.z1 - box.z0; ++z)
                        for (size_t y = 0; y < box.y1 - box.y0; ++y)
                            std::fill_n(reinterpret_cast<In*>(target.row(z, y)), box.x1 - box.x0, fill);
                    continue;
                }
                ctpack::Chunk chunk;
                if (const char* finding =
                        shard::prove(source.shard, entry, sizeof(In), chunk, scratch, portable))
                    return {number, finding};
                shard::decode_box(chunk, grid, box, target, scratch, portable);
            }
    return {0, nullptr};
}

// Reads a grid of voxels by way of `memory`, which holds the room's voxels.
template <class In>
inline Fault turn_as(const Source& source, turning::Reading reading, In fill, void* memory, const turning::Out& out,
                     values::Kind kind, bool portable) {
    const Room room = room_of(source, reading, out);
    In* voxels = static_cast<In*>(memory);
    const Fault fault = decode_room(source, room, Span(source, reading, out), fill, voxels, portable);
    if (fault.finding != nullptr) return fault;
    turning::Volume box;
    box.first = static_cast<const uint8_t*>(memory);
    const ptrdiff_t strides[3] = {ptrdiff_t((room.end[1] - room.begin[1]) * room.width() * sizeof(In)),
                                  ptrdiff_t(room.width() * sizeof(In)), sizeof(In)};
    for (int a = 0; a < 3; ++a) {
        box.stride_bytes[a] = strides[a];
        box.shape[a] = int64_t(std::min(room.end[a], source.volume[a]) - room.begin[a]);
        reading.places[a][3] -= int64_t(room.begin[a]) << turning::FRACTION_BITS;
    }
    turning::read(box, sizeof(In), reading, out, kind, portable);
    return {0, nullptr};
}

inline Fault turn(const Source& source, const turning::Reading& reading, int fill, void* memory,
                  const turning::Out& out, values::Kind kind, bool portable) {
    if (source.voxel_bytes == 2)
        return turn_as<int16_t>(source, reading, int16_t(fill), memory, out, kind, portable);
    return turn_as<uint8_t>(source, reading, uint8_t(fill), memory, out, kind, portable);
}

}  // namespace patches
