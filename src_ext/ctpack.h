// ctpack: encoding and decoding of chunks, over kernels that have a portable, an AVX2 and an AVX-512 twin.
#pragma once
#include "ctpack_format.h"

namespace ctpack {

// Part of a chunk, counted in its planes, rows and columns.
struct Box {
    size_t z0, z1, y0, y1, x0, x1;
};

// Where voxels go: the address of the box's first voxel; strides in bytes; rows are contiguous.
struct Target {
    uint8_t* first;
    ptrdiff_t plane_bytes, row_bytes;
    bool past_caches = false;  // see Rows

    uint8_t* row(size_t z, size_t y) const {
        return first + ptrdiff_t(z) * plane_bytes + ptrdiff_t(y) * row_bytes;
    }
};

inline Box whole(const Planes& planes) { return {0, planes.count, 0, planes.height, 0, planes.width}; }

inline Target contiguous(uint8_t* out, const Planes& planes, size_t voxel_bytes) {
    const ptrdiff_t row_bytes = ptrdiff_t(planes.width * voxel_bytes);
    return {out, ptrdiff_t(planes.height) * row_bytes, row_bytes};
}

inline void fill_row(uint8_t* row, size_t width, const uint8_t* value, size_t voxel_bytes) {
    if (voxel_bytes == 1)
        std::memset(row, *value, width);
    else
        std::fill_n(reinterpret_cast<uint16_t*>(row), width, load16(value));
}

inline void fill_box(const uint8_t* value, size_t voxel_bytes, const Box& box, const Target& target) {
    for (size_t z = box.z0; z < box.z1; ++z)
        for (size_t y = box.y0; y < box.y1; ++y)
            fill_row(target.row(z - box.z0, y - box.y0), box.x1 - box.x0, value, voxel_bytes);
}

// Voxels lie in C order, as many as `planes` says.
inline void copy_box(const uint8_t* voxels, const Planes& planes, size_t voxel_bytes, const Box& box,
                     const Target& target) {
    const size_t pitch = planes.width * voxel_bytes;
    for (size_t z = box.z0; z < box.z1; ++z)
        for (size_t y = box.y0; y < box.y1; ++y)
            std::memcpy(target.row(z - box.z0, y - box.y0),
                        voxels + (z * planes.height + y) * pitch + box.x0 * voxel_bytes,
                        (box.x1 - box.x0) * voxel_bytes);
}

// A residual of a label is the difference from the voxel above it.
inline void decode_runs(const Chunk& chunk, std::vector<uint8_t>& voxels) {
    voxels.resize(size_t(chunk.shape.voxels()));
    const uint32_t mask = (1u << chunk.index_bits) - 1;
    uint8_t* at = voxels.data();
    for (size_t t = 0; t < chunk.n_tokens; ++t) {
        const uint32_t token = load16(chunk.tokens + 2 * t), length = (token >> chunk.index_bits) + 1;
        std::memset(at, chunk.palette[token & mask], length);
        at += length;
    }
    const size_t width = chunk.planes.width, height = chunk.planes.height;
    for (size_t row = 0; row < chunk.planes.count * height; ++row) {
        uint8_t* line = voxels.data() + row * width;
        if (row % height)
            for (size_t x = 0; x < width; ++x)
                line[x] = uint8_t(line[x] + line[ptrdiff_t(x) - ptrdiff_t(width)]);
    }
}

inline void decode_packed(const Chunk& chunk, const Box& box, const Target& target, Scratch& scratch,
                          const Kernels& kernels) {
    const size_t width = chunk.planes.width;
    const bool whole_rows = box.x0 == 0 && box.x1 == width;
    if (!whole_rows) scratch.voxels.resize(2 * width * (box.y1 - box.y0));
    for (size_t z = box.z0; z < box.z1; ++z) {
        uint8_t* out = target.row(z - box.z0, 0);
        const PlaneStart start = scratch.starts[z];
        if (!start.widths) {
            fill_box(chunk.seeds + 2 * z, 2, {0, 1, box.y0, box.y1, box.x0, box.x1},
                     {out, 0, target.row_bytes});
            continue;
        }
        const PackedPlane plane{start.widths, start.body, int16_t(load16(chunk.seeds + 2 * z)), chunk.planes,
                                chunk.end};
        if (whole_rows) {
            const ptrdiff_t ahead_bytes = z + 1 < box.z1 ? target.plane_bytes : 0;
            kernels.restore(plane, {box.y0, box.y1, out, target.row_bytes, ahead_bytes, target.past_caches},
                            scratch.plane);
            continue;
        }
        kernels.restore(plane, {box.y0, box.y1, scratch.voxels.data(), ptrdiff_t(2 * width), 0, false},
                        scratch.plane);
        for (size_t y = 0; y < box.y1 - box.y0; ++y)
            std::memcpy(out + ptrdiff_t(y) * target.row_bytes,
                        scratch.voxels.data() + 2 * (y * width + box.x0), 2 * (box.x1 - box.x0));
    }
}

// Writes the box of a chunk that `parse` has proven with this same scratch.
inline void decode(const Chunk& chunk, const Box& box, const Target& target, Scratch& scratch,
                   const Kernels& kernels) {
    if (chunk.method == CONSTANT) return fill_box(chunk.payload, chunk.voxel_bytes, box, target);
    if (chunk.method == STORED) return copy_box(chunk.payload, chunk.planes, chunk.voxel_bytes, box, target);
    if (chunk.method == PACKED) return decode_packed(chunk, box, target, scratch, kernels);
    decode_runs(chunk, scratch.voxels);
    copy_box(scratch.voxels.data(), chunk.planes, chunk.voxel_bytes, box, target);
}

// The whole chunk, into contiguous memory.
inline void decode_whole(const Chunk& chunk, uint8_t* out, Scratch& scratch, const Kernels& kernels) {
    if (chunk.shape.voxels() == 0) return;
    decode(chunk, whole(chunk.planes), contiguous(out, chunk.planes, chunk.voxel_bytes), scratch, kernels);
}

inline size_t zero_to(uint8_t* out, size_t from, size_t to) {
    std::memset(out + from, 0, to - from);
    return to;
}

// What is encoded: rows are contiguous and aligned to voxel_bytes.
struct Source {
    Shape shape;
    size_t voxel_bytes;
    const uint8_t* voxels;
    ptrdiff_t plane_bytes, row_bytes;  // of the shape's planes

    const uint8_t* row(const Planes& planes, size_t y) const {  // counted through all planes
        return voxels + ptrdiff_t(y / planes.height) * plane_bytes + ptrdiff_t(y % planes.height) * row_bytes;
    }
};

inline Source contiguous_source(const Shape& shape, size_t voxel_bytes, const uint8_t* voxels) {
    const Planes planes = shape.planes();
    const ptrdiff_t row_bytes = ptrdiff_t(planes.width * voxel_bytes);
    return {shape, voxel_bytes, voxels, ptrdiff_t(planes.height) * row_bytes, row_bytes};
}

// Bodies are packed where they come to lie if no plane is level, and moved up otherwise.
inline size_t encode_packed(const Source& source, const Planes& planes, uint8_t* out, Scratch& scratch,
                            const Kernels& kernels) {
    const size_t flags_at = 2 * planes.count, widths_at = align4(flags_at + (planes.count + 7) / 8);
    zero_to(out, flags_at, widths_at);
    const size_t body_room = align4(widths_at + planes.count * planes.width_bytes());
    size_t widths_end = widths_at, body_end = body_room;
    for (size_t z = 0; z < planes.count; ++z) {
        const VoxelRows rows{source.row(planes, z * planes.height), source.row_bytes};
        std::memcpy(out + 2 * z, rows.first, 2);
        zero_to(out, widths_end, widths_end + planes.width_bytes());
        const size_t n_body = kernels.encode(rows, planes, scratch.plane, out + widths_end, out + body_end);
        if (n_body == 0) continue;
        out[flags_at + z / 8] |= uint8_t(1u << (z % 8));
        body_end += n_body;
        widths_end += planes.width_bytes();
    }
    const size_t body_at = zero_to(out, widths_end, align4(widths_end));
    if (body_at != body_room) std::memmove(out + body_at, out + body_room, body_end - body_room);
    body_end -= body_room - body_at;
    return zero_to(out, body_end, align4(body_end + TAIL_BYTES));
}

inline size_t run_length(const uint8_t* p, size_t n) {
    const uint64_t pattern = 0x0101010101010101u * *p;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        std::memcpy(&word, p + i, 8);
        if (word != pattern) return i + size_t(__builtin_ctzll(word ^ pattern)) / 8;
    }
    while (i < n && p[i] == *p) ++i;
    return i;
}

inline void label_residuals(const Source& source, const Planes& planes, std::vector<uint8_t>& residuals) {
    residuals.resize(planes.count * planes.height * planes.width);
    for (size_t y = 0; y < planes.count * planes.height; ++y) {
        const uint8_t* line = source.row(planes, y);
        uint8_t* out = residuals.data() + y * planes.width;
        if (y % planes.height == 0)
            std::memcpy(out, line, planes.width);
        else
            for (size_t x = 0; x < planes.width; ++x) out[x] = uint8_t(line[x] - line[ptrdiff_t(x) - source.row_bytes]);
    }
}

// Values in the order of their first run, and where each stands.
struct Palette {
    uint8_t values[256], place[256];
    uint32_t size = 0;

    explicit Palette(const std::vector<uint8_t>& residuals) {
        bool known[256] = {};
        for (size_t i = 0; i < residuals.size(); i += run_length(&residuals[i], residuals.size() - i)) {
            const uint8_t value = residuals[i];
            if (known[value]) continue;
            known[value] = true;
            place[value] = uint8_t(size);
            values[size++] = value;
        }
    }
};

// The payload goes to `out`; returns its bytes, or 0 where they would be `limit` or more.
inline size_t encode_runs(const std::vector<uint8_t>& residuals, const Palette& palette, uint8_t* out,
                          size_t limit) {
    const uint32_t bits = bits_for(palette.size);
    const size_t longest = size_t(1) << (16 - bits), tokens_at = 4 + align4(palette.size);
    size_t end = zero_to(out, 0, tokens_at);
    for (size_t i = 0; i < residuals.size();) {
        const size_t length = std::min(run_length(&residuals[i], residuals.size() - i), longest);
        if (end + 4 > limit) return 0;
        store16(out + end, uint16_t((length - 1) << bits | palette.place[residuals[i]]));
        end += 2, i += length;
    }
    const uint32_t n_tokens = uint32_t((end - tokens_at) / 2);
    std::memcpy(out, &n_tokens, 4);
    std::memcpy(out + 4, palette.values, palette.size);
    return zero_to(out, end, align4(end));
}

inline void write_header(const Shape& shape, size_t voxel_bytes, Method method, size_t parameter,
                         uint8_t* out) {
    const uint8_t preamble[PREAMBLE_BYTES] = {
        'C', 'T', 'P', VERSION, uint8_t(voxel_bytes), method, uint8_t(shape.axes), uint8_t(parameter)};
    std::memcpy(out, preamble, PREAMBLE_BYTES);
    std::memcpy(out + PREAMBLE_BYTES, shape.extent, 4 * shape.axes);
}

inline size_t encode_constant(const Source& source, uint8_t* out) {
    write_header(source.shape, source.voxel_bytes, CONSTANT, 0, out);
    const size_t header = header_bytes(source.shape);
    zero_to(out, header, header + 4);
    if (source.shape.voxels()) std::memcpy(out + header, source.voxels, source.voxel_bytes);
    return header + 4;
}

inline bool is_constant(const Source& source, const Planes& planes) {
    const size_t size = source.voxel_bytes, row_bytes = planes.width * size;
    if (std::memcmp(source.voxels, source.voxels + size, row_bytes - size) != 0) return false;
    for (size_t y = 1; y < planes.count * planes.height; ++y)
        if (std::memcmp(source.voxels, source.row(planes, y), row_bytes) != 0) return false;
    return true;
}

inline size_t encode_stored(const Source& source, const Planes& planes, uint8_t* out) {
    write_header(source.shape, source.voxel_bytes, STORED, 0, out);
    const size_t row_bytes = planes.width * source.voxel_bytes;
    size_t end = header_bytes(source.shape);
    for (size_t y = 0; y < planes.count * planes.height; ++y, end += row_bytes)
        std::memcpy(out + end, source.row(planes, y), row_bytes);
    return zero_to(out, end, align4(end));
}

// Encodes a chunk into `out`, which has room for `bound`; returns its length, a multiple of four.
inline size_t encode(const Source& source, uint8_t* out, Scratch& scratch, const Kernels& kernels) {
    const Planes planes = source.shape.planes();
    if (source.shape.voxels() == 0 || is_constant(source, planes)) return encode_constant(source, out);
    const size_t header = header_bytes(source.shape), n_bytes = size_t(source.shape.voxels()) * source.voxel_bytes;
    size_t parameter = 0, n_payload = 0;
    if (source.voxel_bytes == 2) {
        n_payload = encode_packed(source, planes, out + header, scratch, kernels);
    } else {
        label_residuals(source, planes, scratch.voxels);
        const Palette palette(scratch.voxels);
        parameter = palette.size - 1;
        n_payload = encode_runs(scratch.voxels, palette, out + header, n_bytes);
    }
    if (n_payload == 0 || n_payload >= align4(n_bytes)) return encode_stored(source, planes, out);
    write_header(source.shape, source.voxel_bytes, source.voxel_bytes == 2 ? PACKED : RUNS, parameter, out);
    return header + n_payload;
}

}  // namespace ctpack
