// Reading volumes on a GPU: a launch works through a table of jobs, volumes and outputs of any shapes.
#include "table.h"
#include "noise.h"
#include "reading.h"
#include "rounding.h"

const int TILE_X = 32, TILE_Y = 8, TILE_Z = 16;  // what a block writes; its threads lie along x and y
const int VOXELS_AT_ONCE = 8;
const int BLOCKS_OF_EIGHT = 2;  // that a thread of map_volume has under way

// The output voxels of a thread: a column along z.
struct Column {
  int x, y, z, z_stop;
};

__device__ __forceinline__ Column column_of(const Job& job) {
  const int64 across = (job.out_shape[2] + TILE_X - 1) / TILE_X, down = (job.out_shape[1] + TILE_Y - 1) / TILE_Y;
  const int64 tile = blockIdx.x - job.first_block;
  Column column;
  column.x = (int)(tile % across) * TILE_X + threadIdx.x;
  column.y = (int)(tile / across % down) * TILE_Y + threadIdx.y;
  column.z = (int)(tile / (across * down)) * TILE_Z;
  column.z_stop = min(column.z + TILE_Z, job.out_shape[0]);
  if (column.x >= job.out_shape[2] || column.y >= job.out_shape[1]) {
    column.z_stop = column.z;
  }
  return column;
}

template <class Out>
__device__ __forceinline__ void finish(const Job& job, int z, int y, int x, float value) {
  const int64 voxel = ((int64)z * job.out_shape[1] + y) * job.out_shape[2] + x;
  if (job.noise_sigma > 0.0f) {
    value = with_noise(value, voxel, job.noise_sigma, job.noise_key);
  }
  store(global(static_cast<Out*>(job.out)) + voxel, value);
}

// Along the axes: a thread goes through z, and blends each source slice that it comes by once.
template <class Source, class Out>
__device__ __forceinline__ void read_aligned(const Job* __restrict__ jobs, int count) {
  const Job& job = row_of(jobs, count);
  const Column column = column_of(job);
  const Source* source = global(static_cast<const Source*>(job.source));
  const Tap y = tap_at(place_of(job.places[1], 0, column.y, 0), job.shape[1], job.margin);
  const Tap x = tap_at(place_of(job.places[2], 0, 0, column.x), job.shape[2], job.margin);
  int even_slice = -1, odd_slice = -1;  // the source slices that `even` and `odd` are of
  float even = 0.0f, odd = 0.0f;
#pragma unroll 1
  for (int z_out = column.z; z_out < column.z_stop; ++z_out) {
    const Tap z = tap_at(place_of(job.places[0], z_out, 0, 0), job.shape[0], job.margin);
    float value = job.outside;
    if (z.is_inside && y.is_inside && x.is_inside) {
      const int even_needed = z.near + (z.near & 1), odd_needed = z.near + !(z.near & 1);
      if (even_slice != even_needed && even_needed <= z.far) {
        even = read_slice(source + even_needed * job.strides[0], job, y, x);
        even_slice = even_needed;
      }
      if (odd_slice != odd_needed && odd_needed <= z.far) {
        odd = read_slice(source + odd_needed * job.strides[0], job, y, x);
        odd_slice = odd_needed;
      }
      const bool is_odd = z.near & 1;
      value = is_odd ? odd : even;
      if (z.weight > 0.0f) {
        value = blend(value, is_odd ? even : odd, z.weight);
      }
    }
    finish<Out>(job, z_out, column.y, column.x, value);
  }
}

// On any affine grid: along z, then y, then x, as where a plane of the output reads at one z alone.
template <class Source, class Out>
__device__ __forceinline__ void read_askew(const Job* __restrict__ jobs, int count) {
  const Job& job = row_of(jobs, count);
  const Column column = column_of(job);
  const Source* source = global(static_cast<const Source*>(job.source));
#pragma unroll 1
  for (int z_out = column.z; z_out < column.z_stop; ++z_out) {
    const Tap z = tap_at(place_of(job.places[0], z_out, column.y, column.x), job.shape[0], job.margin);
    const Tap y = tap_at(place_of(job.places[1], z_out, column.y, column.x), job.shape[1], job.margin);
    const Tap x = tap_at(place_of(job.places[2], z_out, column.y, column.x), job.shape[2], job.margin);
    float value = job.outside;
    if (z.is_inside && y.is_inside && x.is_inside) {
      const Source* near = source + y.near * job.strides[1];
      const Source* far = source + y.far * job.strides[1];
      const int64 left = x.near * job.strides[2], right = x.far * job.strides[2];
      const float one = blend(read_column(near + left, job, z), read_column(far + left, job, z), y.weight);
      const float other = blend(read_column(near + right, job, z), read_column(far + right, job, z), y.weight);
      value = blend(one, other, x.weight);
    }
    finish<Out>(job, z_out, column.y, column.x, value);
  }
}

template <class Source, class Out>
__device__ __forceinline__ void read_nearest(const Job* __restrict__ jobs, int count) {
  const Job& job = row_of(jobs, count);
  const Column column = column_of(job);
  const Source* source = global(static_cast<const Source*>(job.source));
#pragma unroll 1
  for (int z_out = column.z; z_out < column.z_stop; ++z_out) {
    int64 voxel = 0;
    bool inside = true;
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      const int64 place = place_of(job.places[axis], z_out, column.y, column.x);
      inside = inside && is_inside(place, job.shape[axis], job.margin);
      voxel += nearest_at(place, job.shape[axis]) * job.strides[axis];
    }
    const float value = inside ? mapped((float)source[voxel], job.line) : job.outside;
    finish<Out>(job, z_out, column.y, column.x, value);
  }
}

// Voxel for voxel, between arrays without gaps.
template <class Source, class Out>
__device__ __forceinline__ void map_volume(const Job* __restrict__ jobs, int count) {
  const Job& job = row_of(jobs, count);
  const Source* source = global(static_cast<const Source*>(job.source));
  Out* out = global(static_cast<Out*>(job.out));
  const int64 voxels = (int64)job.out_shape[0] * job.out_shape[1] * job.out_shape[2];
  const int64 block = (blockIdx.x - job.first_block) * blockDim.x * BLOCKS_OF_EIGHT;
  const bool is_wide = (reinterpret_cast<uint64>(source) | reinterpret_cast<uint64>(out)) % 16 == 0;
  float values[BLOCKS_OF_EIGHT][VOXELS_AT_ONCE];
  if (is_wide && (block + BLOCKS_OF_EIGHT * blockDim.x) * VOXELS_AT_ONCE <= voxels) {
#pragma unroll
    for (int k = 0; k < BLOCKS_OF_EIGHT; ++k) {
      load_eight(source + (block + k * blockDim.x + threadIdx.x) * VOXELS_AT_ONCE, values[k]);
    }
#pragma unroll
    for (int k = 0; k < BLOCKS_OF_EIGHT; ++k) {
#pragma unroll
      for (int i = 0; i < VOXELS_AT_ONCE; ++i) {
        values[k][i] = mapped(values[k][i], job.line);
      }
      store_eight(out + (block + k * blockDim.x + threadIdx.x) * VOXELS_AT_ONCE, values[k]);
    }
    return;
  }
  const int64 stop = min(voxels, (block + BLOCKS_OF_EIGHT * (int64)blockDim.x) * VOXELS_AT_ONCE);
  for (int64 voxel = block * VOXELS_AT_ONCE + threadIdx.x; voxel < stop; voxel += blockDim.x) {
    store(out + voxel, mapped((float)source[voxel], job.line));
  }
}

#define FASTCT_KERNEL(reader, source_name, Source, out_name, Out)                          \
  extern "C" __global__ void __launch_bounds__(256)                                        \
      reader##_##source_name##_##out_name(const Job* __restrict__ jobs, int count) {       \
    reader<Source, Out>(jobs, count);                                                      \
  }
#define FASTCT_OUTPUTS(reader, source_name, Source)                      \
  FASTCT_KERNEL(reader, source_name, Source, float32, float)             \
  FASTCT_KERNEL(reader, source_name, Source, float16, Half)              \
  FASTCT_KERNEL(reader, source_name, Source, uint8, unsigned char)       \
  FASTCT_KERNEL(reader, source_name, Source, int16, short)
#define FASTCT_SOURCES(reader)            \
  FASTCT_OUTPUTS(reader, int16, short)    \
  FASTCT_OUTPUTS(reader, uint8, unsigned char)

FASTCT_SOURCES(map_volume)
FASTCT_SOURCES(read_aligned)
FASTCT_SOURCES(read_askew)
FASTCT_SOURCES(read_nearest)
