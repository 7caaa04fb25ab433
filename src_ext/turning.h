// Reading volumes on any affine grid, to the bit as read_askew and read_nearest of kernels/gpu/gather.cu do it.
#pragma once
#include <type_traits>
#include <vector>

#include "turning_rows.h"

namespace turning {

constexpr int64_t HALF_VOXEL = int64_t(1) << (FRACTION_BITS - 1);

// Output voxels along (z, y, x) that are read together: the part of the volume that they need is mapped once, and
// stays in the second-level cache. Where a plane of the output is read at one z, it takes a single plane. Where voxels
// are read far apart, tiles are halved until they need no more than so many voxels.
constexpr int64_t DEEP_TILE[3] = {8, 64, 64}, FLAT_TILE[3] = {1, 128, 128}, MOST_VOXELS = 1 << 22;

struct Volume {
    const uint8_t* first;
    ptrdiff_t stride_bytes[3];
    int64_t shape[3];
};

// Where an output voxel (z, y, x, 1) reads, along each axis of the volume; how far beyond its outer centres the volume
// is repeated; what its values become, there and farther off.
struct Reading {
    int64_t places[3][4];
    int64_t margin;
    Line line;
    float outside;
    bool nearest;

    int64_t place(int axis, const int64_t* at) const {
        const int64_t* steps = places[axis];
        return steps[3] + at[0] * steps[0] + at[1] * steps[1] + at[2] * steps[2];
    }
    // Whether all voxels of an output plane read at the same place along z.
    bool is_flat() const { return places[0][1] == 0 && places[0][2] == 0; }
};

struct Out {
    uint8_t* first;
    int64_t shape[3];
    ptrdiff_t plane_bytes, row_bytes;  // voxels of a row are contiguous
};

struct Run {
    int64_t first, stop;
};

inline int64_t floor_divided(int64_t a, int64_t positive) {
    const int64_t quotient = a / positive;
    return quotient - (a % positive < 0);
}

// The voxels of a row, from the first up to a stop, whose places lie up to a margin beyond the outer centres.
inline Run run_inside(const Track& track, int64_t margin, int64_t n) {
    if (track.stays_within(margin, n)) return {0, n};
    if (track.step == 0) return {0, 0};
    const int64_t from = track.low - margin - track.start, to = track.high + margin - track.start;
    const int64_t step = track.step, size = std::abs(step);
    const int64_t first = step > 0 ? -floor_divided(-from, size) : -floor_divided(to, size);
    const int64_t last = step > 0 ? floor_divided(to, size) : floor_divided(-from, size);
    const int64_t kept = std::clamp<int64_t>(first, 0, n);
    return {kept, std::clamp<int64_t>(last + 1, kept, n)};
}

// The part of a volume that a tile of the output needs: the first voxel, and lengths with one voxel more on each far
// side (repeated beyond the edge), so that every voxel can be blended with a next one.
struct Needed {
    int64_t first[3], size[3];

    double voxels(bool flat) const { return double(flat ? 1 : size[0]) * double(size[1]) * double(size[2]); }
};

inline Needed needed_by(const Reading& reading, const int64_t* corner, const int64_t* tile, const int64_t* shape) {
    Needed needed;
    for (int a = 0; a < 3; ++a) {
        int64_t low = reading.place(a, corner), high = low;
        for (int k = 0; k < 3; ++k) {
            const int64_t reach = (tile[k] - 1) * reading.places[a][k];
            low += std::min<int64_t>(reach, 0), high += std::max<int64_t>(reach, 0);
        }
        const int64_t last = shape[a] - 1;
        needed.first[a] = std::clamp<int64_t>(low >> FRACTION_BITS, 0, last);
        needed.size[a] = std::clamp<int64_t>(high >> FRACTION_BITS, 0, last) - needed.first[a] + 2;
    }
    return needed;
}

// ---- tiles ------------------------------------------------------------------------------------------------

// What a volume's tiles are read with; memory is kept from tile to tile.
template <class In, class Out_>
struct Reader {
    const Volume& volume;
    const Reading& reading;
    const Out& out;
    Kernels kernels;
    values::Map finish;  // from float
    values::Map pick;    // from the volume's own type
    std::vector<float> part, row;
    std::vector<In> picked;

    Reader(const Volume& volume, const Reading& reading, const Out& out, bool portable)
        : volume(volume), reading(reading), out(out), kernels(choose<In>(portable)),
          finish(values::choose<float, Out_>(false, portable)), pick(values::choose<In, Out_>(false, portable)),
          row(size_t(out.shape[2])), picked(size_t(out.shape[2])) {}

    const uint8_t* voxel(int64_t z, int64_t y, int64_t x) const {
        return volume.first + z * volume.stride_bytes[0] + y * volume.stride_bytes[1] + x * volume.stride_bytes[2];
    }

    uint8_t* target(int64_t z, int64_t y, int64_t x) const {
        return out.first + z * out.plane_bytes + y * out.row_bytes + x * int64_t(sizeof(Out_));
    }

    void fill(uint8_t* to, int64_t n) const {
        if (n > 0) values::fill<Out_>(reading.outside, {to, 0, 0}, {1, 1, size_t(n)}, false);
    }

    // The tracks of the row from an output voxel on, counted from a voxel of the volume.
    void follow(const int64_t* at, const int64_t* first, Track* tracks) const {
        for (int a = 0; a < 3; ++a) {
            const int64_t moved = first[a] << FRACTION_BITS;
            tracks[a] = {reading.place(a, at) - moved, reading.places[a][2], -moved,
                         ((volume.shape[a] - 1) << FRACTION_BITS) - moved};
        }
    }

    // Keeps the voxels of a row that lie inside, and writes the others: where they begin, how many they are.
    Run keep_inside(Track* tracks, const int64_t* at, int64_t n) const {
        Run inside{0, n};
        for (int a = 0; a < 3; ++a) {
            const Run own = run_inside(tracks[a], reading.margin, n);
            inside = {std::max(inside.first, own.first), std::min(inside.stop, own.stop)};
        }
        inside.stop = std::max(inside.first, inside.stop);
        fill(target(at[0], at[1], at[2]), inside.first);
        fill(target(at[0], at[1], at[2] + inside.stop), n - inside.stop);
        for (int a = 0; a < 3; ++a) tracks[a].start = tracks[a].at(inside.first);
        return inside;
    }

    // Maps the part that is needed to float. Where a tile is flat its planes are blended along z.
    void map(const Needed& needed, bool flat, int64_t z_place) {
        const int64_t planes = flat ? 1 : needed.size[0], width = needed.size[2];
        const size_t size = size_t(planes * needed.size[1] * width);
        if (part.size() < size) part.resize(size);
        const int64_t columns = std::min(width, volume.shape[2] - needed.first[2]);
        const float weight = weight_of(z_place);
        float* to = part.data();
        for (int64_t k = 0; k < planes; ++k)
            for (int64_t j = 0; j < needed.size[1]; ++j, to += width) {
                const int64_t z = std::min(needed.first[0] + k, volume.shape[0] - 1);
                const int64_t y = std::min(needed.first[1] + j, volume.shape[1] - 1);
                const uint8_t* near = voxel(z, y, needed.first[2]);
                const uint8_t* far = flat && weight > 0 ? near + volume.stride_bytes[0] : near;
                kernels.map(near, far, volume.stride_bytes[2], columns, reading.line, weight, to);
                std::fill(to + columns, to + width, to[columns - 1]);
            }
    }

    void read_halves(const int64_t* corner, const int64_t* tile) {
        const int longest = int(std::max_element(tile, tile + 3) - tile);
        int64_t at[3] = {corner[0], corner[1], corner[2]}, half[3] = {tile[0], tile[1], tile[2]};
        half[longest] = tile[longest] / 2;
        read_tile(at, half);
        at[longest] += half[longest], half[longest] = tile[longest] - half[longest];
        read_tile(at, half);
    }

    void read_tile(const int64_t* corner, const int64_t* tile) {
        const bool flat = reading.is_flat();
        const Needed needed = needed_by(reading, corner, tile, volume.shape);
        if (needed.voxels(flat) > double(MOST_VOXELS) && tile[0] * tile[1] * tile[2] > 1)
            return read_halves(corner, tile);
        const int64_t z_end = (volume.shape[0] - 1) << FRACTION_BITS;
        map(needed, flat, std::clamp<int64_t>(reading.place(0, corner), 0, z_end));
        const Part mapped{part.data(), int32_t(needed.size[1] * needed.size[2]), int32_t(needed.size[2])};
        Track tracks[3];
        for (int64_t z = 0; z < tile[0]; ++z)
            for (int64_t y = 0; y < tile[1]; ++y) {
                const int64_t at[3] = {corner[0] + z, corner[1] + y, corner[2]};
                follow(at, needed.first, tracks);
                const Run inside = keep_inside(tracks, at, tile[2]);
                const int64_t n = inside.stop - inside.first;
                if (n > 0) write_row(mapped, tracks, n, target(at[0], at[1], at[2] + inside.first), flat);
            }
    }

    void write_row(const Part& mapped, const Track* tracks, int64_t n, uint8_t* to, bool flat) {
        constexpr bool as_it_is = std::is_same_v<Out_, float>;
        float* floats = as_it_is ? reinterpret_cast<float*>(to) : row.data();
        (flat ? kernels.flat : kernels.deep)(mapped, tracks, n, floats);
        if (as_it_is) return;
        const Line same{0, 1, 0, -__builtin_inff(), __builtin_inff()};
        finish({reinterpret_cast<const uint8_t*>(floats), 0, 0}, {to, 0, 0}, {1, 1, size_t(n)}, same);
    }

    // Halfway goes up, as in ITK.
    void pick_row(const int64_t* at) {
        const int64_t from_first[3] = {0, 0, 0};
        Track tracks[3];
        follow(at, from_first, tracks);
        const Run inside = keep_inside(tracks, at, out.shape[2]);
        const int64_t n = inside.stop - inside.first;
        int64_t index[3];
        for (int64_t i = 0; i < n; ++i) {
            for (int a = 0; a < 3; ++a)
                index[a] = std::clamp<int64_t>((tracks[a].at(i) + HALF_VOXEL) >> FRACTION_BITS, 0, volume.shape[a] - 1);
            picked[size_t(i)] = *reinterpret_cast<const In*>(voxel(index[0], index[1], index[2]));
        }
        if (n == 0) return;
        const values::From from{reinterpret_cast<const uint8_t*>(picked.data()), 0, 0};
        pick(from, {target(at[0], at[1], inside.first), 0, 0}, {1, 1, size_t(n)}, reading.line);
    }

    void read_all() {
        const int64_t* whole = reading.nearest ? nullptr : reading.is_flat() ? FLAT_TILE : DEEP_TILE;
        int64_t at[3], tile[3];
        if (reading.nearest) {
            for (at[0] = 0, at[2] = 0; at[0] < out.shape[0]; ++at[0])
                for (at[1] = 0; at[1] < out.shape[1]; ++at[1]) pick_row(at);
            return;
        }
        for (at[0] = 0; at[0] < out.shape[0]; at[0] += whole[0])
            for (at[1] = 0; at[1] < out.shape[1]; at[1] += whole[1])
                for (at[2] = 0; at[2] < out.shape[2]; at[2] += whole[2]) {
                    for (int a = 0; a < 3; ++a) tile[a] = std::min(whole[a], out.shape[a] - at[a]);
                    read_tile(at, tile);
                }
    }
};

template <class In>
inline void read_as(const Volume& volume, const Reading& reading, const Out& out, values::Kind kind, bool portable) {
    switch (kind) {
        case values::FLOAT32: return Reader<In, float>(volume, reading, out, portable).read_all();
        case values::FLOAT16: return Reader<In, values::Half>(volume, reading, out, portable).read_all();
        case values::UINT8: return Reader<In, uint8_t>(volume, reading, out, portable).read_all();
        default: return Reader<In, int16_t>(volume, reading, out, portable).read_all();
    }
}

// Reads a volume of int16 or uint8 voxels into `out`; neither is empty.
inline void read(const Volume& volume, size_t voxel_bytes, const Reading& reading, const Out& out, values::Kind kind,
                 bool portable) {
    if (voxel_bytes == 2) return read_as<int16_t>(volume, reading, out, kind, portable);
    read_as<uint8_t>(volume, reading, out, kind, portable);
}

}  // namespace turning
