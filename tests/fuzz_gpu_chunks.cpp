// Gives mutated chunks to the CUDA kernels and to the CPU's codec, under the sanitizers: fuzz_gpu_chunks INPUTS SEED.
//
// Chunk, output and fault lie in heap memory of exactly their lengths. Both must take the same chunks for sound,
// and make the same voxels of them; what is not sound must leave the output as it was.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>

#include "../src_ext/shard.h"
#include "cuda_on_cpu/cuda_on_cpu.h"
// The kernels, and names of their own for what the CPU's codec has as well.
#include "chunks.cu"

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;
using Exact = std::unique_ptr<uint8_t[]>;

static size_t below(Random& random, size_t n) { return size_t(random() % n); }

struct Drawn {
  size_t shape[3];
  size_t voxel_bytes;
  Bytes chunk;  // with room for its checksum
};

static Drawn draw(Random& random) {
  static const uint32_t DEPTHS[] = {1, 1, 2, 3, 8, 9, 17}, SIDES[] = {1, 2, 3, 7, 8, 9, 15, 16, 24, 31, 63, 64};
  Drawn drawn{{DEPTHS[below(random, 7)], SIDES[below(random, 12)], SIDES[below(random, 12)]}, 1 + below(random, 2), {}};
  while (drawn.shape[0] * drawn.shape[1] * drawn.shape[2] > 2000) drawn.shape[below(random, 3)] = 1;
  ctpack::Shape shape;
  shape.axes = 3;
  for (int a = 0; a < 3; ++a) shape.extent[a] = uint32_t(drawn.shape[a]);
  std::vector<int16_t> voxels(shape.voxels() + 1);
  const int kind = int(below(random, 4)), scale = 1 << below(random, 15);
  int16_t last = 0;
  for (int16_t& voxel : voxels) {
    if (kind == 0 || below(random, 40) == 0) last = int16_t(below(random, size_t(scale)));
    if (kind == 1) last = int16_t(last + int(below(random, 9)) - 4);
    voxel = last;
  }
  drawn.chunk.resize(ctpack::bound(shape, drawn.voxel_bytes));
  ctpack::Scratch scratch;
  drawn.chunk.resize(ctpack::encode(
      ctpack::contiguous_source(shape, drawn.voxel_bytes, reinterpret_cast<const uint8_t*>(voxels.data())),
      drawn.chunk.data(), scratch, ctpack::choose(false)));
  return drawn;
}

static void mutate(Random& random, Bytes& bytes) {
  for (size_t n = below(random, 2) ? 1 : 2 + below(random, 3); n && !bytes.empty(); --n) {
    const size_t at = below(random, below(random, 2) ? std::min<size_t>(bytes.size(), 64) : bytes.size());
    switch (below(random, 10)) {
      case 0: bytes[at] = uint8_t(random()); break;
      case 1: bytes[at] = below(random, 2) ? 0xff : 0; break;
      case 2: bytes.resize(at); break;
      case 3: bytes.insert(bytes.end(), 4 * (1 + below(random, 5)), uint8_t(random())); break;
      case 4: bytes.resize(bytes.size() - bytes.size() % 8); break;
      case 5: case 6: bytes[at] ^= uint8_t(1u << below(random, 8)); break;
      default: std::swap(bytes[at], bytes[below(random, bytes.size())]);  // widths that add up as before
    }
  }
}

static Exact exact(const uint8_t* bytes, size_t n) {
  Exact copy(new uint8_t[n]);
  std::copy(bytes, bytes + n, copy.get());
  return copy;
}

struct Chosen {
  size_t begin[3], end[3];
  size_t voxels() const { return (end[0] - begin[0]) * (end[1] - begin[1]) * (end[2] - begin[2]); }
};

static Chosen choose_box(Random& random, const size_t* shape) {
  Chosen box;
  for (int a = 0; a < 3; ++a) {
    box.begin[a] = below(random, 2) ? below(random, shape[a]) : 0;
    box.end[a] = below(random, 2) ? box.begin[a] + 1 + below(random, shape[a] - box.begin[a]) : shape[a];
  }
  return box;
}

static bool decode_on_cpu(const Drawn& drawn, const uint8_t* bytes, size_t n, const Chosen& box, uint8_t* out) {
  const shard::Grid grid{{1, 1, 1}, {drawn.shape[0], drawn.shape[1], drawn.shape[2]}};
  const shard::Entry entry{0, n};
  const size_t row = (box.end[2] - box.begin[2]) * drawn.voxel_bytes, plane = row * (box.end[1] - box.begin[1]);
  const shard::Region region{{box.begin[0], box.begin[1], box.begin[2]}, {box.end[0], box.end[1], box.end[2]},
                             {out, ptrdiff_t(plane), ptrdiff_t(row)}, drawn.voxel_bytes};
  return !shard::decode_region({bytes, n, &entry, grid}, region, false).finding;
}

// As kernels/gpu/chunks.py fills in a row of the table.
static Piece describe(const Drawn& drawn, const uint8_t* bytes, size_t n, const Chosen& box, void* out) {
  Piece piece = {};
  piece.source = reinterpret_cast<const unsigned*>(bytes);
  piece.out = out;
  piece.n_bytes = unsigned(n);
  int* planes[] = {&piece.planes, &piece.height, &piece.width};
  for (int a = 0; a < 3; ++a) *planes[a] = 1, piece.end[a] = 1, piece.extents[a] = unsigned(drawn.shape[a]);
  int64 stride = 1;
  for (int a = 2, place = 2; a >= 0; --a) {
    if (drawn.shape[a] > 1) {
      *planes[place] = int(drawn.shape[a]);
      piece.begin[place] = int(box.begin[a]), piece.end[place] = int(box.end[a]);
      piece.strides[place--] = stride;
    }
    stride *= int64(box.end[a] - box.begin[a]);
  }
  piece.line = {0.0f, 1.0f, 0.0f, -1e9f, 1e9f};
  return piece;
}

static unsigned decode_on_gpu(Random& random, const char* voxel_kind, const Piece& piece) {
  void* kernel = voxel_kind[0] == 'f' ? (voxel_kind[1] == '2' ? (void*)decode_int16_float32 : (void*)decode_uint8_float32)
                 : voxel_kind[1] == '2' ? (void*)decode_int16_int16
                                        : (void*)decode_uint8_uint8;
  std::unique_ptr<Piece> table(new Piece(piece));
  std::unique_ptr<unsigned> fault(new unsigned(99));
  const unsigned launch[3] = {1, THREADS, 1};
  const uint64_t arguments[12] = {reinterpret_cast<uint64_t>(table.get()), reinterpret_cast<uint64_t>(fault.get())};
  run_kernel(kernel, launch, arguments, 1, int(below(random, 2)));
  return *fault;
}

#define DEMAND(fact) \
  if (!(fact)) std::printf("not so: %s\n", #fact), std::abort()

// True where the chunk was taken for sound.
static bool compare(Random& random, const Drawn& drawn, const Bytes& bytes) {
  const Exact source = exact(bytes.data(), bytes.size());
  const Chosen box = choose_box(random, drawn.shape);
  const bool as_float = below(random, 3) == 0;
  const size_t n = box.voxels(), out_bytes = n * (as_float ? 4 : drawn.voxel_bytes);
  const Bytes before(std::max(out_bytes, n * drawn.voxel_bytes), 0x5a);
  const Exact wanted = exact(before.data(), n * drawn.voxel_bytes), found = exact(before.data(), out_bytes);
  const bool is_sound = decode_on_cpu(drawn, source.get(), bytes.size(), box, wanted.get());
  const char kind[] = {as_float ? 'f' : 'v', drawn.voxel_bytes == 2 ? '2' : '1', 0};
  const Piece piece = describe(drawn, source.get(), bytes.size(), box, found.get());
  const unsigned fault = decode_on_gpu(random, kind, piece);
  DEMAND((fault == SOUND) == is_sound);
  if (!is_sound) {
    DEMAND(std::memcmp(found.get(), before.data(), out_bytes) == 0);
    return false;
  }
  for (size_t k = 0; k < n; ++k) {
    int value = wanted[k];
    if (drawn.voxel_bytes == 2) value = reinterpret_cast<const int16_t*>(wanted.get())[k];
    const float as_written = as_float ? reinterpret_cast<const float*>(found.get())[k] : 0.0f;
    const int own = as_float                  ? int(as_written)
                    : drawn.voxel_bytes == 2 ? reinterpret_cast<const int16_t*>(found.get())[k]
                                             : found[k];
    DEMAND(own == value);
  }
  return true;
}

int main(int argc, char** argv) {
  const long inputs = argc > 1 ? std::atol(argv[1]) : 1000;
  Random random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1);
  long accepted = 0, whole = 0;
  Drawn drawn;
  for (long i = 0; i < inputs; ++i) {
    if (i % 8 == 0) drawn = draw(random);
    Bytes bytes = drawn.chunk;
    if (i % 8) mutate(random, bytes);
    else ++whole;
    const size_t n = bytes.size();
    bytes.resize(n + 4);
    if (below(random, 16) || i % 8 == 0) shard::append_checksum(bytes.data(), 0, n, false);
    const bool is_sound = compare(random, drawn, bytes);
    DEMAND(is_sound || i % 8);
    accepted += is_sound;
  }
  std::printf("%ld chunks, %ld of them mutated; %ld taken for sound, by both alike\n", inputs, inputs - whole, accepted);
  return 0;
}
