// Decoding ctpack chunks on a GPU: a launch works through a table of pieces, a block of threads each.
#include "table.h"
#include "reading.h"
#include "rounding.h"
#include "checksum.h"
#include "ctpack.h"
#include "ctpack_runs.h"

// Voxels as they are, or on the piece's line; the type of the output tells them apart from what it holds.
__device__ __forceinline__ void keep_eight(short* out, const int* values) {
  unsigned words[COLUMNS / 2];
#pragma unroll
  for (int k = 0; k < COLUMNS / 2; ++k) {
    words[k] = (values[2 * k] & 0xffffu) | (unsigned)values[2 * k + 1] << 16;
  }
  *reinterpret_cast<uint4*>(out) = make_uint4(words[0], words[1], words[2], words[3]);
}
__device__ __forceinline__ void keep_eight(unsigned char* out, const int* values) {
  unsigned words[2] = {0, 0};
#pragma unroll
  for (int k = 0; k < COLUMNS; ++k) {
    words[k / 4] |= (unsigned)values[k] << (8 * (k % 4));
  }
  *reinterpret_cast<uint2*>(out) = make_uint2(words[0], words[1]);
}

template <class Voxel>
struct AsTheyAre {
  typedef Voxel Out;
  __device__ __forceinline__ static void write_eight(Voxel* out, const int* values, const Line&) {
    keep_eight(out, values);
  }
};

template <class Written>
struct OnLine {
  typedef Written Out;
  __device__ __forceinline__ static void write_eight(Written* out, const int* values, const Line& line) {
    float results[COLUMNS];
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      results[k] = mapped((float)values[k], line);
    }
    store_eight(out, results);
  }
};

// Whether every lane's eight voxels lie inside of the box or outside, and where wide stores can go.
template <class Out>
__device__ __forceinline__ bool is_wide(const Piece& piece) {
  const int64 odd_strides = piece.strides[0] | piece.strides[1] | piece.begin[2] | piece.end[2];
  const uint64 bytes = COLUMNS * sizeof(Out) < 16 ? COLUMNS * sizeof(Out) : 16;
  return piece.strides[2] == 1 && odd_strides % COLUMNS == 0 && reinterpret_cast<uint64>(piece.out) % bytes == 0;
}

// The same address; told nothing about how it came about, the compiler keeps the wide store that it is given.
template <class Item>
__device__ __forceinline__ Item* opaque(Item* pointer) {
#ifdef __CUDACC__
  asm("" : "+l"(pointer));
#endif
  return pointer;
}

// A row of each plane, for boxes that begin or end within a lane's columns.
template <class Out>
__device__ __forceinline__ Out* staged_row() {
  __shared__ uint4 rows[GROUPS][WIDEST * sizeof(Out) / sizeof(uint4)];
  return reinterpret_cast<Out*>(rows[threadIdx.x / LANES]);
}

// Writes the box of a piece; rows above it are only passed through.
template <class Writer, class Rows>
__device__ __forceinline__ void write_box(const Piece& piece, Rows& rows) {
  typedef typename Writer::Out Out;
  Out* own_row = staged_row<Out>();
  const bool wide = is_wide<Out>(piece);
  const bool is_inside = first_column() >= piece.begin[2] && first_column() < piece.end[2];
  for (int first = piece.begin[0]; first < piece.end[0]; first += GROUPS) {
    const int plane = min(first + (int)threadIdx.x / LANES, piece.end[0] - 1);
    const bool is_own = first + (int)threadIdx.x / LANES < piece.end[0];
    Out* out = global(static_cast<Out*>(piece.out)) + (plane - piece.begin[0]) * piece.strides[0];
    rows.begin(plane);
#pragma unroll 1
    for (int y = 0; y < piece.end[1]; ++y) {
      int values[COLUMNS];
      rows.next(y, values);
      if (y < piece.begin[1]) {
        continue;
      }
      Out* row = out + (y - piece.begin[1]) * piece.strides[1];
      if (wide) {
        if (is_own && is_inside) {
          Writer::write_eight(global(opaque(row + (first_column() - piece.begin[2]))), values, piece.line);
        }
        continue;
      }
      Writer::write_eight(own_row + first_column(), values, piece.line);
      __syncwarp();
      for (int x = lane_in_plane(); x < piece.end[2]; x += LANES) {
        if (is_own && x >= piece.begin[2]) {
          row[(x - piece.begin[2]) * piece.strides[2]] = own_row[x];
        }
      }
      __syncwarp();
    }
  }
}

template <class Writer>
__device__ __forceinline__ void write_value(const Piece& piece, int value) {
  ConstantRows rows = {value};
  write_box<Writer>(piece, rows);
}

template <class Writer, class Residuals>
__device__ __forceinline__ void write_packed(const Piece& piece, const PackedChunk& chunk, const PackedParts& parts) {
  PackedRows<Residuals> rows;
  rows.chunk = chunk;
  rows.parts = &parts;
  write_box<Writer>(piece, rows);
}

// What only chunks of int16 (packed), or only those of uint8 (runs), can be.
template <class Writer>
__device__ __forceinline__ Fault write_predicted(const Piece& piece, const unsigned char* payload, short) {
  __shared__ PackedParts parts;
  const PackedChunk chunk = {payload, piece.planes, piece.height, piece.width};
  const Fault fault = prove_packed(chunk, piece.n_bytes - HEADER_BYTES - CHECKSUM_BYTES, parts);
  if (fault == SOUND && piece.width % 8 == 0 && piece.height % 2 == 0) {
    write_packed<Writer, TiledResiduals>(piece, chunk, parts);
  } else if (fault == SOUND) {
    write_packed<Writer, OrderedResiduals>(piece, chunk, parts);
  }
  return fault;
}
template <class Writer>
__device__ __forceinline__ Fault write_predicted(const Piece& piece, const unsigned char* payload, unsigned char) {
  __shared__ LabelSteps labels;
  const int palette_size = (int)(global(piece.source)[1] >> 24) + 1;
  const RunsChunk chunk = {payload, piece.planes, piece.height, piece.width, palette_size};
  const Fault fault = lay_out_runs(chunk, piece.n_bytes - HEADER_BYTES - CHECKSUM_BYTES, labels);
  if (fault == SOUND) {
    LabelRows rows;
    rows.chunk = chunk;
    rows.labels = &labels;
    write_box<Writer>(piece, rows);
  }
  return fault;
}

// Nothing of a chunk is written unless it is sound.
template <class Voxel, class Writer>
__device__ __forceinline__ void decode(const Piece* __restrict__ pieces, unsigned* __restrict__ faults) {
  const Piece& piece = pieces[blockIdx.x];
  Fault fault = SOUND;
  if (piece.source == nullptr) {
    write_value<Writer>(piece, piece.fill);
  } else {
    Method method;
    fault = prove_header(piece, sizeof(Voxel), method);
    if (fault == SOUND) {
      const unsigned* payload = global(piece.source) + HEADER_WORDS;
      if (method == CONSTANT) {
        write_value<Writer>(piece, *reinterpret_cast<const Voxel*>(payload));
      } else if (method == STORED) {
        StoredRows<Voxel> rows = {reinterpret_cast<const Voxel*>(payload), piece.height, piece.width, 0};
        write_box<Writer>(piece, rows);
      } else {
        fault = write_predicted<Writer>(piece, reinterpret_cast<const unsigned char*>(payload), Voxel());
      }
    }
  }
  if (threadIdx.x == 0) {
    faults[blockIdx.x] = fault;
  }
}

#define FASTCT_KERNEL(voxel_name, Voxel, out_name, Writer)                                  \
  extern "C" __global__ void __launch_bounds__(THREADS, 12)                                   \
      decode_##voxel_name##_##out_name(const Piece* __restrict__ pieces, unsigned* __restrict__ faults) { \
    decode<Voxel, Writer>(pieces, faults);                                                  \
  }
FASTCT_KERNEL(int16, short, int16, AsTheyAre<short>)
FASTCT_KERNEL(int16, short, float32, OnLine<float>)
FASTCT_KERNEL(int16, short, float16, OnLine<Half>)
FASTCT_KERNEL(int16, short, uint8, OnLine<unsigned char>)
FASTCT_KERNEL(uint8, unsigned char, uint8, AsTheyAre<unsigned char>)
FASTCT_KERNEL(uint8, unsigned char, float32, OnLine<float>)
FASTCT_KERNEL(uint8, unsigned char, float16, OnLine<Half>)
