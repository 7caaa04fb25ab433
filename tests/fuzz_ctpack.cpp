// Decodes mutated ctpack chunks and shards under the sanitizers: fuzz_ctpack INPUTS SEED.
//
// Every input lies in heap memory of exactly its length, every output in memory of exactly the voxels'
// length, so that a read or write one byte beyond either is seen.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "shard.h"

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

static size_t below(Random& random, size_t n) { return size_t(random() % n); }

static ctpack::Shape draw_shape(Random& random) {
    static const uint32_t SIDES[] = {1, 2, 3, 7, 8, 9, 16, 17, 24, 31, 32, 33, 64, 65, 128};
    ctpack::Shape shape;
    shape.axes = uint32_t(below(random, 5));
    for (uint32_t a = 0; a < shape.axes; ++a)
        shape.extent[a] = a + 2 < shape.axes ? 1 + uint32_t(below(random, 3)) : SIDES[below(random, 15)];
    return shape;
}

static std::vector<int16_t> draw_voxels(Random& random, size_t n_bytes) {
    std::vector<int16_t> voxels(n_bytes / 2 + 1);
    const int kind = int(below(random, 4)), scale = 1 << below(random, 15);
    int16_t last = 0;
    for (int16_t& voxel : voxels) {
        if (kind == 0 || below(random, 40) == 0) last = int16_t(below(random, size_t(scale)));
        if (kind == 1) last = int16_t(last + int(below(random, 9)) - 4);
        voxel = last;
    }
    return voxels;
}

static const ctpack::Kernels& draw_twin(Random& random) {
    return *ctpack::TWINS.of[below(random, ctpack::TWINS.count)].kernels;
}

static Bytes draw_chunk(Random& random) {
    const ctpack::Shape shape = draw_shape(random);
    const size_t voxel_bytes = 1 + below(random, 2);
    const std::vector<int16_t> voxels = draw_voxels(random, size_t(shape.voxels()) * voxel_bytes);
    Bytes out(ctpack::bound(shape, voxel_bytes));
    ctpack::Scratch scratch;
    const auto* bytes = reinterpret_cast<const uint8_t*>(voxels.data());
    out.resize(ctpack::encode(ctpack::contiguous_source(shape, voxel_bytes, bytes), out.data(), scratch,
                              draw_twin(random)));
    return out;
}

static void mutate(Random& random, Bytes& bytes) {
    for (size_t n = below(random, 2) ? 1 : 2 + below(random, 3); n && !bytes.empty(); --n) {
        const bool early = below(random, 2);
        const size_t at = below(random, early ? std::min<size_t>(bytes.size(), 64) : bytes.size());
        switch (below(random, 12)) {
            case 0:
                bytes[at] = uint8_t(random());
                break;
            case 1:
                bytes[at] = below(random, 2) ? 0xff : 0;
                break;
            case 2:
                bytes.resize(at);
                break;
            case 3:
                bytes.insert(bytes.end(), 1 + below(random, 20), uint8_t(random()));
                break;
            case 4:
                bytes.erase(bytes.begin() + ptrdiff_t(at));
                break;
            case 5:
            case 6:
            case 7:
                bytes[at] ^= uint8_t(1u << below(random, 8));
                break;
            default:
                std::swap(bytes[at], bytes[below(random, bytes.size())]);  // widths that add up as before
        }
    }
}

// True where the chunk was taken for sound; then all of it, by every twin, and a box of it were decoded.
static bool decode(Random& random, const Bytes& bytes) {
    std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), exact.get());
    ctpack::Chunk chunk;
    ctpack::Scratch scratch;
    if (ctpack::parse(exact.get(), bytes.size(), chunk, scratch)) return false;
    const size_t voxels = size_t(chunk.shape.voxels()), size = chunk.voxel_bytes;
    if (voxels == 0 || voxels > (1u << 20)) return true;
    std::unique_ptr<uint8_t[]> out(new uint8_t[voxels * size]);
    ctpack::decode_whole(chunk, out.get(), scratch, ctpack::choose(true));
    for (size_t k = 1; k < ctpack::TWINS.count; ++k) {
        std::unique_ptr<uint8_t[]> twin(new uint8_t[voxels * size]);
        ctpack::decode_whole(chunk, twin.get(), scratch, *ctpack::TWINS.of[k].kernels);
        if (std::memcmp(out.get(), twin.get(), voxels * size) != 0) std::abort();
    }
    const ctpack::Planes& planes = chunk.planes;
    const size_t z = below(random, planes.count), y = below(random, planes.height),
                 x = below(random, planes.width);
    const ctpack::Box box{z, z + 1 + below(random, planes.count - z),
                          y, y + 1 + below(random, planes.height - y),
                          x, x + 1 + below(random, planes.width - x)};
    const size_t row = (box.x1 - box.x0) * size, plane = row * (box.y1 - box.y0);
    std::unique_ptr<uint8_t[]> part(new uint8_t[plane * (box.z1 - box.z0)]);
    ctpack::decode(chunk, box, {part.get(), ptrdiff_t(plane), ptrdiff_t(row)}, scratch, draw_twin(random));
    for (size_t k = box.z0; k < box.z1; ++k)
        for (size_t j = box.y0; j < box.y1; ++j)
            if (std::memcmp(part.get() + (k - box.z0) * plane + (j - box.y0) * row,
                            out.get() + ((k * planes.height + j) * planes.width + box.x0) * size, row) != 0)
                std::abort();
    return true;
}

// A shard of two by one by two chunks with its checksums put right after the mutation, so that lengths are
// reached.
static bool decode_shard(Random& random, Bytes bytes, bool portable) {
    const shard::Grid grid{{2, 1, 2}, {2, 16, 24}};
    std::vector<shard::Entry> index;
    for (int k = 0; k < 4; ++k)
        index.push_back({below(random, bytes.size() + 9), below(random, bytes.size() + 9)});
    const size_t n_sound = bytes.size();
    if (n_sound >= 4) {
        shard::append_checksum(bytes.data(), 0, n_sound - 4, portable);
        index[below(random, 4)] = {0, n_sound};
    }
    std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), exact.get());
    std::vector<int16_t> out(4 * 16 * 48);
    const shard::Region region{
        {0, 0, 0}, {4, 16, 48}, {reinterpret_cast<uint8_t*>(out.data()), 2 * 16 * 48, 2 * 48}, 2};
    return !shard::decode_region({exact.get(), bytes.size(), index.data(), grid}, region, portable).finding;
}

int main(int argc, char** argv) {
    const long inputs = argc > 1 ? std::atol(argv[1]) : 1000;
    Random random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
    long done = 0, accepted = 0;
    Bytes seed;
    for (long i = 0; i < inputs; ++i) {
        const bool portable = i & 1;
        if (i % 8 == 0) seed = draw_chunk(random);
        Bytes bytes = seed;
        mutate(random, bytes);
        accepted += decode(random, bytes);
        bytes.resize(bytes.size() + 4);
        accepted += decode_shard(random, std::move(bytes), portable);
        done += 2;
    }
    for (size_t k = 0; k < ctpack::TWINS.count; ++k) std::fprintf(stderr, "%s\n", ctpack::TWINS.of[k].name);
    std::printf("%ld decoded, %ld of them taken for sound\n", done, accepted);
    return 0;
}
