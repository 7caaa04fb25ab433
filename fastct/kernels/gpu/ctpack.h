// ctpack chunks (the bytes are specified in fastct/codecs.py): a block of threads proves one, and unpacks its
// planes side by side, row after row.
//
// Eight lanes share a plane, each with eight columns of it. A lane's columns of two rows are one block of the
// format where its blocks tile the plane, so that a warp unpacks 32 blocks at once.
#pragma once

const int LANES = 8, COLUMNS = 8, WIDEST = LANES * COLUMNS;
const int GROUPS = THREADS / LANES;
const int MOST_PLANES = THREADS;
const int MOST_LABELS = 1 << 15;  // voxels of a chunk of labels: their runs are laid out in shared memory
const unsigned MAGIC = 0x01505443u;  // "CTP", version 1
const int HEADER_WORDS = 5, HEADER_BYTES = 4 * HEADER_WORDS, CHECKSUM_BYTES = 4, TAIL_BYTES = 16;
const int BLOCK = 16;  // voxels packed at one width
enum Method { CONSTANT = 0, STORED = 1, PACKED = 2, RUNS = 3 };

// What is wrong with a chunk; kernels/gpu/chunks.py has a sentence for each.
enum Fault {
  SOUND,
  SHORT,
  CHECKSUM_DIFFERS,
  FOREIGN,
  OTHER_DTYPE,
  UNKNOWN_METHOD,
  OTHER_SHAPE,
  OTHER_LENGTH,
  WIDTH_OF_NO_BLOCK,
  NO_PALETTE_VALUE,
  OTHER_RUNS
};

// A chunk and the box of it that goes to an output; kernels/gpu/chunks.py writes the same fields.
struct Piece {
  const unsigned* source;  // null: a chunk that was left out
  void* out;               // of the box's first voxel
  int64 strides[3];        // of the output along planes, rows and columns, in voxels
  unsigned n_bytes;        // with the checksum
  unsigned extents[3];     // the shape that the header must state
  int planes, height, width;
  int begin[3], end[3];    // the box, in planes, rows and columns
  int fill;                // all voxels of a chunk that was left out
  Line line;
};
static_assert(sizeof(Piece) == 120, "kernels/gpu/chunks.py counts on this");

__device__ __forceinline__ int lane_in_plane() { return threadIdx.x % LANES; }
__device__ __forceinline__ int first_column() { return lane_in_plane() * COLUMNS; }
__device__ __forceinline__ unsigned aligned(unsigned n_bytes) { return (n_bytes + 3) & ~3u; }

// The sum over a plane's lanes up to this one.
__device__ __forceinline__ int sum_to_lane(int value) {
#pragma unroll
  for (int lanes = 1; lanes < LANES; lanes *= 2) {
    const int below = __shfl_up_sync(EVERY_LANE, value, lanes, LANES);
    value += lane_in_plane() >= lanes ? below : 0;
  }
  return value;
}
__device__ __forceinline__ int from_lane(int value, int lane) { return __shfl_sync(EVERY_LANE, value, lane, LANES); }

// The sum over the block's threads before this one, and that of all.
__device__ __forceinline__ unsigned sum_before(unsigned value, unsigned& total) {
  __shared__ unsigned of_warps[WARPS];
  unsigned sum = value;
#pragma unroll
  for (int lanes = 1; lanes < WARP; lanes *= 2) {
    const unsigned below = __shfl_up_sync(EVERY_LANE, sum, lanes);
    sum += threadIdx.x % WARP >= lanes ? below : 0;
  }
  __syncthreads();
  if (threadIdx.x % WARP == WARP - 1) {
    of_warps[threadIdx.x / WARP] = sum;
  }
  __syncthreads();
  total = 0;
#pragma unroll
  for (int warp = 0; warp < WARPS; ++warp) {
    sum += warp < threadIdx.x / WARP ? of_warps[warp] : 0;
    total += of_warps[warp];
  }
  return sum - value;
}

// ---- proof -----------------------------------------------------------------------------------------------

// Header and checksum; the answer is the same for all threads.
__device__ __forceinline__ Fault prove_header(const Piece& piece, int voxel_bytes, Method& method) {
  if (piece.n_bytes < HEADER_BYTES + CHECKSUM_BYTES || piece.n_bytes % 4 != 0) {
    return SHORT;
  }
  const unsigned* words = global(piece.source);
  const int count = (piece.n_bytes - CHECKSUM_BYTES) / 4;
  if (checksum_of(words, count) != words[count]) {
    return CHECKSUM_DIFFERS;
  }
  const unsigned facts = words[1], kind = facts >> 8 & 255;
  method = (Method)kind;
  if (words[0] != MAGIC) {
    return FOREIGN;
  }
  if ((facts & 255) != voxel_bytes) {
    return OTHER_DTYPE;
  }
  if (kind > RUNS || (kind == PACKED && voxel_bytes != 2) || (kind == RUNS && voxel_bytes != 1) ||
      (kind != RUNS && facts >> 24 != 0)) {
    return UNKNOWN_METHOD;
  }
  if ((facts >> 16 & 255) != 3 || words[2] != piece.extents[0] || words[3] != piece.extents[1] ||
      words[4] != piece.extents[2]) {
    return OTHER_SHAPE;
  }
  const unsigned voxels = piece.planes * piece.height * piece.width;
  const unsigned payload_bytes = piece.n_bytes - HEADER_BYTES - CHECKSUM_BYTES;
  if ((kind == CONSTANT && payload_bytes != 4) || (kind == STORED && payload_bytes != aligned(voxels * voxel_bytes))) {
    return OTHER_LENGTH;
  }
  return SOUND;
}

// ---- every voxel alike, and voxels as they are -------------------------------------------------------------

struct ConstantRows {
  int value;
  __device__ __forceinline__ void begin(int) {}
  __device__ __forceinline__ void next(int, int* values) {
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      values[k] = value;
    }
  }
};

template <class Voxel>
struct StoredRows {
  const Voxel* voxels;
  int height, width, plane;
  __device__ __forceinline__ void begin(int chosen) { plane = chosen; }
  __device__ __forceinline__ void next(int y, int* values) {
    const Voxel* row = voxels + (plane * height + y) * width + first_column();
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      values[k] = first_column() + k < width ? row[k] : 0;
    }
  }
};

// ---- packed ------------------------------------------------------------------------------------------------

// Where the parts of a packed chunk lie, in bytes of its payload; the block's threads share it.
struct PackedParts {
  unsigned starts[MOST_PLANES + 1];  // bodies of each plane's blocks, from the first of all
};

__device__ __forceinline__ bool has_residuals(const unsigned char* payload, int planes, int plane) {
  return payload[2 * planes + plane / 8] >> (plane % 8) & 1;
}

__device__ __forceinline__ int width_at(const unsigned char* widths, int block) {
  const int code = widths[block / 2] >> (4 * (block % 2)) & 15;
  return code + (code == 15);
}

struct PackedChunk {
  const unsigned char* payload;
  int planes, height, width;
  __device__ __forceinline__ int blocks() const { return (height * width + BLOCK - 1) / BLOCK; }  // of a plane
  __device__ __forceinline__ unsigned width_bytes() const { return (blocks() + 1) / 2; }
  __device__ __forceinline__ unsigned widths_at() const { return aligned(2 * planes + (planes + 7) / 8); }
  __device__ __forceinline__ int planes_before(int plane) const {
    int before = 0;
    for (int z = 0; z < plane; ++z) {
      before += has_residuals(payload, planes, z);
    }
    return before;
  }
  __device__ __forceinline__ const unsigned char* widths_of(int plane) const {
    return payload + widths_at() + planes_before(plane) * width_bytes();
  }
  __device__ __forceinline__ unsigned bodies_at() const {
    return aligned(widths_at() + planes_before(planes) * width_bytes());
  }
};

// Half the bytes of a plane's blocks, known to its last lane.
__device__ __forceinline__ int sum_of_widths(const PackedChunk& chunk, int plane) {
  int sum = 0;
  if (plane < chunk.planes && has_residuals(chunk.payload, chunk.planes, plane)) {
    const unsigned char* widths = chunk.widths_of(plane);
    for (int pair = lane_in_plane(); pair < chunk.width_bytes(); pair += LANES) {
      sum += width_at(widths, 2 * pair) + width_at(widths, 2 * pair + 1);
    }
  }
  return sum_to_lane(sum);
}

// Proves every length before a body is read; the answer is the same for all threads.
__device__ __forceinline__ Fault prove_packed(const PackedChunk& chunk, unsigned payload_bytes, PackedParts& parts) {
  __shared__ unsigned sums[MOST_PLANES];
  __shared__ int has_odd_width;
  if (chunk.widths_at() > payload_bytes || chunk.bodies_at() > payload_bytes) {
    return OTHER_LENGTH;
  }
  if (threadIdx.x == 0) {
    has_odd_width = 0;
  }
  __syncthreads();
  for (int first = 0; first < chunk.planes; first += GROUPS) {
    const int plane = first + threadIdx.x / LANES;
    const int sum = sum_of_widths(chunk, plane);
    if (plane < chunk.planes && lane_in_plane() == LANES - 1) {
      sums[plane] = sum;
      if (chunk.blocks() % 2 != 0 && has_residuals(chunk.payload, chunk.planes, plane) &&
          chunk.widths_of(plane)[chunk.width_bytes() - 1] >> 4 != 0) {
        has_odd_width = 1;
      }
    }
  }
  __syncthreads();
  for (int plane = threadIdx.x; plane <= chunk.planes; plane += THREADS) {
    unsigned start = 0;
    for (int z = 0; z < plane; ++z) {
      start += 2 * sums[z];
    }
    parts.starts[plane] = start;
  }
  __syncthreads();
  if (has_odd_width) {
    return WIDTH_OF_NO_BLOCK;
  }
  return aligned(chunk.bodies_at() + parts.starts[chunk.planes] + TAIL_BYTES) == payload_bytes ? SOUND : OTHER_LENGTH;
}

// Four values of `width` bits each, in two's complement, from a bit of the payload on.
__device__ __forceinline__ void unpack_four(const unsigned* words, unsigned bit, int width, int* values) {
  const unsigned at = bit / 32, shift = bit % 32;
  const unsigned one = words[at], two = words[at + 1], three = words[at + 2];
  const unsigned low = width ? __funnelshift_r(one, two, shift) : 0;
  const unsigned high = width ? __funnelshift_r(two, three, shift) : 0;
  const unsigned some = width ? width : 1;  // no width: 1 bit, 0
  const unsigned upper = __funnelshift_rc(low, high, 2 * some), left = 32 - some, far_left = left - some;
  values[0] = (int)(low << left) >> left;
  values[1] = (int)(low << far_left) >> left;
  values[2] = (int)(upper << left) >> left;
  values[3] = (int)(upper << far_left) >> left;
}

__device__ __forceinline__ int unpack_one(const unsigned* words, unsigned bit, int width) {
  if (width == 0) {
    return 0;
  }
  const unsigned bits = __funnelshift_r(words[bit / 32], words[bit / 32 + 1], bit % 32);
  return (int)(bits << (32 - width)) >> (32 - width);
}

// Residuals of blocks of two rows by eight columns: a lane has one of them for itself.
struct TiledResiduals {
  const unsigned* words;  // of the payload
  const unsigned char* widths;
  unsigned body;  // of the row's first block, in bytes of the payload
  unsigned start;
  int columns, width;
  __device__ __forceinline__ bool holds(int) const { return first_column() < columns; }
  __device__ __forceinline__ void next(int y, int* residuals) {
    if (y % 2 == 0) {
      width = widths && holds(0) ? width_at(widths, y / 2 * (columns / COLUMNS) + lane_in_plane()) : 0;
      const int sum = sum_to_lane(width);
      start = body + 2 * (sum - width);
      body += 2 * from_lane(sum, LANES - 1);
    }
    const unsigned bit = 8 * (y % 2 == 0 ? start : start + width);
    unpack_four(words, bit, width, residuals);
    unpack_four(words, bit + 4 * width, width, residuals + 4);
  }
};

// Residuals of blocks in C order: a row is in several of them, and a lane's columns in one or two.
struct OrderedResiduals {
  const unsigned* words;
  const unsigned char* widths;
  unsigned body;  // of the block that the row begins in
  unsigned start;
  int columns, width;
  __device__ __forceinline__ bool holds(int k) const { return first_column() + k < columns; }
  __device__ __forceinline__ void next(int y, int* residuals) {
    const int first = y * columns / BLOCK, next_first = (y + 1) * columns / BLOCK;
    const bool is_mine = first + lane_in_plane() <= ((y + 1) * columns - 1) / BLOCK;
    width = widths && is_mine ? width_at(widths, first + lane_in_plane()) : 0;
    start = body + 2 * (sum_to_lane(width) - width);
    body = from_lane(start, next_first - first);
    const int place = y * columns + first_column(), near = min(place / BLOCK - first, LANES - 1);
    const int far = min(near + 1, LANES - 1);
    const int near_width = from_lane(width, near), far_width = from_lane(width, far);
    const unsigned near_bit = 8 * from_lane(start, near), far_bit = 8 * from_lane(start, far);
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      const int value = place % BLOCK + k;
      const bool is_near = value < BLOCK;
      const int bits = is_near ? near_width : far_width;
      const unsigned bit = (is_near ? near_bit : far_bit) + value % BLOCK * bits;
      residuals[k] = holds(k) ? unpack_one(words, bit, bits) : 0;
    }
  }
};

template <class Residuals>
struct PackedRows {
  PackedChunk chunk;
  const PackedParts* parts;
  Residuals residuals;
  int first;           // v[y][0], in the plane's first lane; 0 in others
  int edges[COLUMNS];  // e of the row above
  __device__ __forceinline__ void begin(int plane) {
    const bool is_level = !has_residuals(chunk.payload, chunk.planes, plane);
    residuals.words = reinterpret_cast<const unsigned*>(chunk.payload);
    residuals.widths = is_level ? nullptr : chunk.widths_of(plane);
    residuals.body = chunk.bodies_at() + parts->starts[plane];
    residuals.columns = chunk.width;
    residuals.start = residuals.width = 0;
    first = lane_in_plane() == 0 ? reinterpret_cast<const short*>(chunk.payload)[plane] : 0;
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      edges[k] = 0;
    }
  }
  __device__ __forceinline__ void next(int y, int* values) {
    int found[COLUMNS];
    residuals.next(y, found);
    const int before = __shfl_up_sync(EVERY_LANE, edges[COLUMNS - 1], 1, LANES);
    const int after = __shfl_down_sync(EVERY_LANE, edges[0], 1, LANES);
    const bool is_first = lane_in_plane() == 0, is_last = lane_in_plane() == LANES - 1;
    int left = is_first ? 0 : before;
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      const int right = k < COLUMNS - 1 ? edges[k + 1] : is_last ? 0 : after;
      const int expected = (((left + right + 1) >> 1) + edges[k] + 1) >> 1;
      left = edges[k];
      edges[k] = residuals.holds(k) ? (short)(found[k] + expected) : 0;
    }
    first += is_first ? found[0] : 0;
    edges[0] = is_first ? 0 : edges[0];
    int sum = first;
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      sum += edges[k];
      values[k] = sum;
    }
    const int lanes_before = sum_to_lane(sum) - sum;
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      values[k] = (short)(values[k] + lanes_before);
    }
  }
};
