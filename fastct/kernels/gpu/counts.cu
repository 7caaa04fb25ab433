// Counting voxels in masks on a GPU: a launch works through a table of studies of any sizes.
#include "table.h"

const int THREADS = 256, WARPS = THREADS / 32;
const int VOXELS_OF_A_BLOCK = 1 << 16;  // 16 voxels for each thread, 16 times
const int COUNTS = 5;                   // of count_lungs
const int LARGEST_BINS = 8192;

// A row of the table; kernels/gpu/counts.py writes the same fields in the same order.
struct Study {
  const void* volume;
  const unsigned char* mask;
  uint64* counts;
  int64 voxels;
  int64 first_block;  // studies share a launch: this one's blocks begin here
};
static_assert(sizeof(Study) == 40, "kernels/gpu/counts.py counts on this");

// 0x80 in each byte of a word that is 0.
__device__ __forceinline__ unsigned zero_bytes(unsigned word) {
  return ~(((word & 0x7f7f7f7fu) + 0x7f7f7f7fu) | word | 0x7f7f7f7fu);
}

__device__ __forceinline__ void count_word(unsigned lungs, unsigned lesion, unsigned* counts) {
  const unsigned right = zero_bytes(lungs ^ 0x01010101u), left = zero_bytes(lungs ^ 0x02020202u);
  const unsigned found = zero_bytes(lesion) ^ 0x80808080u;
  counts[0] += __popc(right);
  counts[1] += __popc(left);
  counts[2] += __popc(found);
  counts[3] += __popc(right & found);
  counts[4] += __popc(left & found);
}

// Add the counts of all threads of a block to the study's.
__device__ __forceinline__ void add_counts(const unsigned* counts, uint64* total) {
  __shared__ unsigned of_warps[WARPS][COUNTS];
#pragma unroll
  for (int k = 0; k < COUNTS; ++k) {
    unsigned sum = counts[k];
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      sum += __shfl_down_sync(0xffffffffu, sum, lanes);
    }
    if (threadIdx.x % 32 == 0) {
      of_warps[threadIdx.x / 32][k] = sum;
    }
  }
  __syncthreads();
  if (threadIdx.x < COUNTS) {
    uint64 sum = 0;
    for (int warp = 0; warp < WARPS; ++warp) {
      sum += of_warps[warp][threadIdx.x];
    }
    atomicAdd(total + threadIdx.x, sum);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    count_lungs(const Study* __restrict__ studies, int count) {
  const Study& study = row_of(studies, count);
  const unsigned char* lungs = global(static_cast<const unsigned char*>(study.volume));
  const unsigned char* lesion = global(study.mask);
  const int64 start = (blockIdx.x - study.first_block) * VOXELS_OF_A_BLOCK;
  const int64 stop = min(start + VOXELS_OF_A_BLOCK, study.voxels);
  const bool is_wide = (reinterpret_cast<uint64>(lungs) | reinterpret_cast<uint64>(lesion)) % 16 == 0;
  const int64 wide_stop = is_wide ? start + (stop - start) / 16 * 16 : start;
  unsigned counts[COUNTS] = {0, 0, 0, 0, 0};
#pragma unroll 2
  for (int64 voxel = start + 16 * threadIdx.x; voxel < wide_stop; voxel += 16 * THREADS) {
    const uint4 a = *reinterpret_cast<const uint4*>(lungs + voxel);
    const uint4 b = *reinterpret_cast<const uint4*>(lesion + voxel);
    count_word(a.x, b.x, counts);
    count_word(a.y, b.y, counts);
    count_word(a.z, b.z, counts);
    count_word(a.w, b.w, counts);
  }
  for (int64 voxel = wide_stop + threadIdx.x; voxel < stop; voxel += THREADS) {
    // Bytes of 255 beside the voxel are no lung, and the lesion's are 0.
    count_word(0xffffff00u | lungs[voxel], lesion[voxel], counts);
  }
  add_counts(counts, study.counts);
}

// The bins of a block are counted in shared memory, and then added to the study's.
extern "C" __global__ void __launch_bounds__(THREADS)
    histogram(const Study* __restrict__ studies, int count, int low_hu, int bin_hu, int bins) {
  __shared__ unsigned counts[LARGEST_BINS];
  const Study& study = row_of(studies, count);
  const short* hu = global(static_cast<const short*>(study.volume));
  const unsigned char* mask = global(study.mask);
  for (int bin = threadIdx.x; bin < bins; bin += THREADS) {
    counts[bin] = 0;
  }
  __syncthreads();
  const int64 start = (blockIdx.x - study.first_block) * VOXELS_OF_A_BLOCK;
  const int64 stop = min(start + VOXELS_OF_A_BLOCK, study.voxels);
#pragma unroll 4
  for (int64 voxel = start + threadIdx.x; voxel < stop; voxel += THREADS) {
    const int above = hu[voxel] - low_hu;
    if (mask[voxel] != 0 && above >= 0 && above < bins * bin_hu) {
      atomicAdd(&counts[above / bin_hu], 1u);
    }
  }
  __syncthreads();
  uint64* total = global(study.counts);
  for (int bin = threadIdx.x; bin < bins; bin += THREADS) {
    if (counts[bin] != 0) {
      atomicAdd(total + bin, (uint64)counts[bin]);
    }
  }
}
