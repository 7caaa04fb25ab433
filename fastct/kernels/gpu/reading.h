// One output read from one volume: the job a block finds in a table, and the arithmetic of its voxels.
//
// Every product and sum is rounded by itself (-fmad=false), in the order of kernels/cpu: results are the
// same to the bit.
#pragma once

const int FRACTION_BITS = 32;  // places are counted in steps of 2^-32 voxel, as kernels/maps.py says
const int64 HALF_VOXEL = 1LL << (FRACTION_BITS - 1);
const float WEIGHT_UNIT = 5.9604644775390625e-08f;  // 2^-24: a float holds 24 bits, so weights are exact

// A clamped linear map of intensities.
struct Line {
  float anchor, slope, offset, floor, ceiling;
};

// A row of the table; kernels/gpu/gather.py writes the same fields in the same order.
struct Job {
  const void* source;
  void* out;
  int64 strides[3];    // of the source, in voxels
  int64 places[3][4];  // where an output voxel (z, y, x, 1) reads, along each source axis
  int64 margin;        // how far beyond the outer centres the edge is repeated
  int64 first_block;   // jobs share a launch: this one's blocks begin here
  uint64 noise_key;
  int shape[3];
  int out_shape[3];
  Line line;
  float outside;  // what an output voxel outside of the volume becomes
  float noise_sigma;
  int unused;
};
static_assert(sizeof(Job) == 216, "kernels/gpu/gather.py counts on this");

// Where along an axis a voxel reads: the index at or below, the next one if it counts, its weight.
struct Tap {
  int near, far;
  float weight;
  bool is_inside;
};

__device__ __forceinline__ float mapped(float value, const Line& line) {
  return fminf(fmaxf((value - line.anchor) * line.slope + line.offset, line.floor), line.ceiling);
}

__device__ __forceinline__ float blend(float near, float far, float weight) {
  return near + weight * (far - near);
}

__device__ __forceinline__ int64 place_of(const int64* row, int z, int y, int x) {
  return row[3] + z * row[0] + y * row[1] + x * row[2];
}

__device__ __forceinline__ bool is_inside(int64 place, int n, int64 margin) {
  return place >= -margin && place <= ((int64)(n - 1) << FRACTION_BITS) + margin;
}

__device__ __forceinline__ Tap tap_at(int64 place, int n, int64 margin) {
  const int64 end = (int64)(n - 1) << FRACTION_BITS;
  const int64 kept = place < 0 ? 0 : place > end ? end : place;
  Tap tap;
  tap.near = (int)(kept >> FRACTION_BITS);
  tap.weight = (float)((unsigned)kept >> 8) * WEIGHT_UNIT;
  tap.far = tap.near + (tap.weight > 0.0f);
  tap.is_inside = is_inside(place, n, margin);
  return tap;
}

// Index of the nearest voxel; halfway goes up, as in ITK.
__device__ __forceinline__ int nearest_at(int64 place, int n) {
  const int64 index = (place + HALF_VOXEL) >> FRACTION_BITS;
  return (int)(index < 0 ? 0 : index > n - 1 ? n - 1 : index);
}

// Four voxels of a slice, blended along y, then along x.
template <class Source>
__device__ __forceinline__ float read_slice(const Source* __restrict__ slice, const Job& job, const Tap& y,
                                            const Tap& x) {
  const Source* near = slice + y.near * job.strides[1];
  const Source* far = slice + y.far * job.strides[1];
  const int64 left = x.near * job.strides[2], right = x.far * job.strides[2];
  const float one = blend(mapped((float)near[left], job.line), mapped((float)far[left], job.line), y.weight);
  const float other = blend(mapped((float)near[right], job.line), mapped((float)far[right], job.line), y.weight);
  return blend(one, other, x.weight);
}

// A voxel and the next one along z, blended; `column` is where the one at index 0 lies.
template <class Source>
__device__ __forceinline__ float read_column(const Source* __restrict__ column, const Job& job, const Tap& z) {
  const float near = mapped((float)column[z.near * job.strides[0]], job.line);
  return z.weight > 0.0f ? blend(near, mapped((float)column[z.far * job.strides[0]], job.line), z.weight) : near;
}
