// Masks as bit rows: pixel x of a row is bit x % 64 of its word x / 64. A volume's slices, or those of many
// volumes, lie one after another.
#pragma once

typedef uint64 word;
const int WORD_BITS = 64;
const int THREADS = 256;

// A volume of voxels at any strides; kernels/gpu/stacks.py writes the same fields in the same order.
struct Volume {
  const void* voxels;
  int64 strides[3];   // in voxels
  int64 first_block;  // volumes share a launch: this one's blocks begin here
  int first_slice;    // where the volume's slices begin among those of the masks
  int shape[3];
};
static_assert(sizeof(Volume) == 56, "kernels/gpu/stacks.py counts on this");

// Masks hold at most 2^26 words in all (512 MiB), so that an int numbers all of them, and their 32 slots each.
__device__ __forceinline__ int thread_index() { return blockIdx.x * blockDim.x + threadIdx.x; }

__device__ __forceinline__ int lowest_bit(word bits) { return __ffsll((int64)bits) - 1; }

// The first `count` bits of a word, 0 <= count < 64.
__device__ __forceinline__ word first_bits(int count) { return ((word)1 << count) - 1; }

// Calls act(bits) for each run of set bits of a word.
template <class Action>
__device__ __forceinline__ void for_parts(word bits, Action act) {
  while (bits != 0) {
    const word part = bits & ~(bits + (bits & (0 - bits)));  // adding the lowest bit clears the lowest run
    act(part);
    bits ^= part;
  }
}

// 64 pixels around a word: what is set within `reach` < 64 pixels to the left or to the right.
__device__ __forceinline__ word smear(word left, word middle, word right, int reach) {
  word up = middle, down = middle;
  for (int done = 0; done < reach;) {
    const int step = min(done + 1, reach - done);  // a wider step would leave a gap
    up |= up << step | left >> (WORD_BITS - step);
    left |= left << step;
    down |= down >> step | right << (WORD_BITS - step);
    right |= right >> step;
    done += step;
  }
  return up | down;
}
