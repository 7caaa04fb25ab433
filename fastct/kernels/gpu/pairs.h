// Pixels that pieces of neighbouring slices share, on a GPU.
#pragma once

// They are found by a key made of both pieces: an open table for each slice, that of the upper piece, which threads
// fill side by side. A key is never 0, which marks a free place. kernels/gpu/pieces.py writes the same fields.
struct Pairs {
  uint64* keys;
  int* pixels;
  int places, unused;  // of a slice, a power of two
};
static_assert(sizeof(Pairs) == 24, "kernels/gpu/pieces.py counts on this");

// Whether there was a place.
__device__ __forceinline__ bool add_pixels(const Pairs& pairs, int slice, int upper, int lower, int pixels) {
  const uint64 key = ((uint64)upper << 32 | (uint64)lower) + 1;
  uint64* keys = pairs.keys + (int64)slice * pairs.places;
  unsigned place = (unsigned)(key * 0x9e3779b97f4a7c15ull >> 40);
  for (int tries = 0; tries < pairs.places; ++tries, ++place) {
    place &= pairs.places - 1;
    uint64 found = ((volatile uint64*)keys)[place];
    if (found == 0) {
      found = atomicCAS(keys + place, (uint64)0, key);
    }
    if (found == 0 || found == key) {
      atomicAdd(pairs.pixels + (int64)slice * pairs.places + place, pixels);
      return true;
    }
  }
  return false;
}

// Calls act(upper, lower, pixels) for the pairs of a slice and the one below it, by all threads of a block.
template <class Action>
__device__ __forceinline__ void for_pairs(const Pairs& pairs, int slice, Action act) {
  for (int i = threadIdx.x; i < pairs.places; i += THREADS) {
    const int64 place = (int64)slice * pairs.places + i;
    const uint64 key = pairs.keys[place];
    if (key != 0) {
      act((int)((key - 1) >> 32), (int)((key - 1) & 0xffffffffu), pairs.pixels[place]);
    }
  }
}
