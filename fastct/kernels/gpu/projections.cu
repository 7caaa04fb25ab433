// Projections on a GPU: a launch works through a table of volumes of any shapes.
#include "table.h"

const int THREADS = 256, WARP = 32;

// A row of the table; kernels/gpu/projections.py writes the same fields in the same order. Axes are the one
// projected along, then the two others in their order.
struct Projection {
  const void* source;
  void* out;
  int64 strides[3];      // in voxels
  int64 out_strides[3];  // in pixels; the first is from slab to slab
  int64 first_block;     // volumes share a launch: this one's blocks begin here
  int shape[3];
  int slab, step, slabs;
};
static_assert(sizeof(Projection) == 96, "kernels/gpu/projections.py counts on this");

// What a pixel is made of, and how: `add` takes a voxel in, `join` what another thread has, `result` ends.
template <class Voxel>
struct Max {
  typedef Voxel Pixel;
  int kept = -32768;
  __device__ __forceinline__ void add(int voxel) { kept = max(kept, voxel); }
  __device__ __forceinline__ void join(int lanes) { add(__shfl_xor_sync(0xffffffffu, kept, lanes)); }
  __device__ __forceinline__ Pixel result(int) const { return (Pixel)kept; }
};

template <class Voxel>
struct Min {
  typedef Voxel Pixel;
  int kept = 32767;
  __device__ __forceinline__ void add(int voxel) { kept = min(kept, voxel); }
  __device__ __forceinline__ void join(int lanes) { add(__shfl_xor_sync(0xffffffffu, kept, lanes)); }
  __device__ __forceinline__ Pixel result(int) const { return (Pixel)kept; }
};

// Sums are whole numbers, so that their order does not matter.
template <class Voxel>
struct Mean {
  typedef float Pixel;
  int64 sum = 0;
  __device__ __forceinline__ void add(int voxel) { sum += voxel; }
  __device__ __forceinline__ void join(int lanes) { sum += __shfl_xor_sync(0xffffffffu, sum, lanes); }
  __device__ __forceinline__ Pixel result(int count) const { return (float)((double)sum / (double)count); }
};

// Along z or y a thread makes a pixel, its neighbours those beside it along x. Along x a warp makes a pixel,
// so that it reads voxels that lie side by side.
template <class Voxel, template <class> class Kind, bool IS_OF_WARP>
__device__ __forceinline__ void project(const Projection* __restrict__ table, int count) {
  const Projection& own = row_of(table, count);
  const int lanes = IS_OF_WARP ? WARP : 1, lane = IS_OF_WARP ? threadIdx.x % WARP : 0;
  const int64 pixel = ((blockIdx.x - own.first_block) * THREADS + threadIdx.x) / lanes;
  const int64 column = pixel % own.shape[2], row = pixel / own.shape[2] % own.shape[1];
  const int64 slab = pixel / own.shape[2] / own.shape[1];
  if (slab >= own.slabs) {
    return;
  }
  const Voxel* source = global(static_cast<const Voxel*>(own.source));
  source += row * own.strides[1] + column * own.strides[2];
  const int first = (int)slab * own.step, stop = min(first + min(own.slab, own.shape[0]), own.shape[0]);
  Kind<Voxel> kept;
#pragma unroll 4
  for (int voxel = first + lane; voxel < stop; voxel += lanes) {
    kept.add(source[voxel * own.strides[0]]);
  }
  if (IS_OF_WARP) {
#pragma unroll
    for (int apart = WARP / 2; apart > 0; apart /= 2) {
      kept.join(apart);
    }
  }
  if (lane == 0) {
    typedef typename Kind<Voxel>::Pixel Pixel;
    Pixel* out = global(static_cast<Pixel*>(own.out));
    out[slab * own.out_strides[0] + row * own.out_strides[1] + column * own.out_strides[2]] =
        kept.result(stop - first);
  }
}

#define FASTCT_PROJECTION(name, Kind, voxel_name, Voxel)                                         \
  extern "C" __global__ void __launch_bounds__(THREADS)                                          \
      project_##name##_##voxel_name(const Projection* __restrict__ table, int count) {           \
    project<Voxel, Kind, false>(table, count);                                                   \
  }                                                                                              \
  extern "C" __global__ void __launch_bounds__(THREADS)                                          \
      project_##name##_along_x_##voxel_name(const Projection* __restrict__ table, int count) {   \
    project<Voxel, Kind, true>(table, count);                                                    \
  }

FASTCT_PROJECTION(max, Max, int16, short)
FASTCT_PROJECTION(max, Max, uint8, unsigned char)
FASTCT_PROJECTION(min, Min, int16, short)
FASTCT_PROJECTION(min, Min, uint8, unsigned char)
FASTCT_PROJECTION(mean, Mean, int16, short)
FASTCT_PROJECTION(mean, Mean, uint8, unsigned char)
