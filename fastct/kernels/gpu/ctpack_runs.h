// ctpack chunks of labels, as runs of one value: proved, laid out in the block's shared memory, and read row by row.
#pragma once

// Residuals of labels as their differences from one to the next in C order; the block's threads share it.
struct LabelSteps {
  uint4 steps[MOST_LABELS / 16];
  unsigned char firsts[MOST_PLANES];  // each plane's first residual
};

struct RunsChunk {
  const unsigned char* payload;
  int planes, height, width, palette_size;
};

// Notes a run where it begins, and the planes that begin within it.
__device__ __forceinline__ void note_run(const RunsChunk& chunk, unsigned begin, unsigned end, int value, int step,
                                         LabelSteps& labels) {
  const unsigned plane_voxels = chunk.height * chunk.width;
  reinterpret_cast<unsigned char*>(labels.steps)[begin] = (unsigned char)step;
  for (unsigned plane = (begin + plane_voxels - 1) / plane_voxels; plane * plane_voxels < end; ++plane) {
    labels.firsts[plane] = (unsigned char)value;
  }
}

// Proves the runs and lays them out; the answer is the same for all threads.
__device__ __forceinline__ Fault lay_out_runs(const RunsChunk& chunk, unsigned payload_bytes, LabelSteps& labels) {
  const unsigned* words = reinterpret_cast<const unsigned*>(chunk.payload);
  const unsigned tokens_at = 4 + aligned(chunk.palette_size), voxels = chunk.planes * chunk.height * chunk.width;
  if (tokens_at > payload_bytes || words[0] > payload_bytes ||
      aligned(tokens_at + 2 * words[0]) != payload_bytes) {
    return OTHER_LENGTH;
  }
  const unsigned short* tokens = reinterpret_cast<const unsigned short*>(chunk.payload + tokens_at);
  const unsigned count = words[0];
  int index_bits = 0;
  while (1 << index_bits < chunk.palette_size) {
    ++index_bits;
  }
  for (int k = threadIdx.x; k < MOST_LABELS / 16; k += THREADS) {
    labels.steps[k] = make_uint4(0, 0, 0, 0);
  }
  const unsigned mask = (1u << index_bits) - 1;
  unsigned begin_of_all = 0, strangers = 0;
  for (unsigned first = 0; first < count && begin_of_all <= voxels; first += THREADS) {
    const unsigned at = first + threadIdx.x;
    const unsigned token = at < count ? tokens[at] : 0, last = at > 0 && at < count ? tokens[at - 1] : 0;
    const bool is_known = (token & mask) < chunk.palette_size && (last & mask) < chunk.palette_size;
    const unsigned length = at < count ? (token >> index_bits) + 1 : 0;
    unsigned of_all, strangers_here;
    const unsigned begin = begin_of_all + sum_before(length, of_all);
    sum_before(is_known ? 0 : 1, strangers_here);
    if (length > 0 && is_known && begin + length <= voxels) {
      const int value = chunk.payload[4 + (token & mask)];
      note_run(chunk, begin, begin + length, value, value - (at > 0 ? chunk.payload[4 + (last & mask)] : 0), labels);
    }
    begin_of_all += of_all;
    strangers += strangers_here;
  }
  __syncthreads();
  return strangers != 0 ? NO_PALETTE_VALUE : begin_of_all != voxels ? OTHER_RUNS : SOUND;
}

struct LabelRows {
  RunsChunk chunk;
  const LabelSteps* labels;
  int at;        // the row's first voxel
  int residual;  // of the voxel before it
  int above[COLUMNS];
  __device__ __forceinline__ void begin(int plane) {
    at = plane * chunk.height * chunk.width;
    residual = labels->firsts[plane];
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      above[k] = 0;
    }
  }
  __device__ __forceinline__ void next(int y, int* values) {
    const unsigned char* steps = reinterpret_cast<const unsigned char*>(labels->steps) + at + first_column();
    int sum = 0;
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      const bool counts = first_column() + k < chunk.width && (y > 0 || first_column() + k > 0);
      sum += counts ? steps[k] : 0;
      values[k] = sum;
    }
    const int sum_here = sum_to_lane(sum), lanes_before = residual + sum_here - sum;
#pragma unroll
    for (int k = 0; k < COLUMNS; ++k) {
      above[k] = (above[k] + lanes_before + values[k]) & 255;
      values[k] = above[k];
    }
    residual = (residual + from_lane(sum_here, LANES - 1)) & 255;
    at += chunk.width;
  }
};
