// What lung masks decide about pieces on a GPU: the trunk of each slice, and lung or gas by density.
#include "table.h"
#include "bitrows.h"
#include "stack.h"
#include "pieces.h"
#include "histograms.h"

// The largest piece of each slice, the last one of equals; a thread a slice.
extern "C" __global__ void __launch_bounds__(THREADS)
    choose_largest(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
                   unsigned char* __restrict__ chosen) {
  const int slice = thread_index();
  if (slice >= stack->slices) {
    return;
  }
  const int first = first_of(*pieces, *stack, slice), stop = first_of(*pieces, *stack, slice + 1);
  int64 most = 0;
  int largest = -1;
  for (int piece = first; piece < stop; ++piece) {
    const int64 area = measures_of(*pieces, piece)[1];
    largest = area >= most ? piece : largest;
    most = max(area, most);
  }
  if (largest >= 0) {
    chosen[largest] = 1;
  }
}

// A median's bin is its middle; of a histogram without counts it is the first one.
template <class Count>
__device__ __forceinline__ double median_hu(const Count* counts, int bins) {
  int64 total = 0, below = 0;
  for (int bin = 0; bin < bins; ++bin) {
    total += counts[bin];
  }
  int middle = 0;
  for (int bin = 0; bin < bins; ++bin) {
    below += counts[bin];
    middle += 2 * below < total;
  }
  return BIN_FLOOR_HU + BIN_HU * (middle + 0.5);
}

// For each study the median densities of aerated lung to the right and to the left of the midline, a block a study. A
// side without such lung borrows the other's.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    usual_density(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
                  const int* __restrict__ histograms, const double* __restrict__ centres, int aerated_bins,
                  double* __restrict__ usual) {
  __shared__ int64 sums[3][BINS];  // right, left, both
  const int study = blockIdx.x, bin = threadIdx.x;
  const Study own = stack->studies[study];
  const int first = first_of(*pieces, *stack, own.first_slice);
  const int stop = first_of(*pieces, *stack, own.first_slice + own.slices);
  if (bin < aerated_bins) {
    int64 of_sides[2] = {0, 0};
    for (int piece = first; piece < stop; ++piece) {
      const bool is_left = centre_of(*pieces, *stack, piece) > centres[study];
      const int found = histograms[(int64)piece * BINS + bin];
      of_sides[0] += is_left ? 0 : found;
      of_sides[1] += is_left ? found : 0;
    }
    sums[0][bin] = of_sides[0];
    sums[1][bin] = of_sides[1];
    sums[2][bin] = of_sides[0] + of_sides[1];
  }
  __syncthreads();
  if (threadIdx.x < 2) {
    int64 found = 0;
    for (int i = 0; i < aerated_bins; ++i) {
      found += sums[threadIdx.x][i];
    }
    usual[2 * study + threadIdx.x] = median_hu(sums[found != 0 ? threadIdx.x : 2], aerated_bins);
  }
}

// What tells lung from gas; fastct/gpu/lungs.py writes the same fields in the same order.
struct DensityTerms {
  double y_mm, x_mm, least_mm2, healthy_hu, gas_part_hu, usual_share;
};

// Pieces that are lung, and those that are as dark as gas beside it; a thread a piece.
extern "C" __global__ void __launch_bounds__(THREADS)
    tell_lung(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces, const int* __restrict__ histograms,
              const double* __restrict__ centres, const double* __restrict__ usual,
              const DensityTerms* __restrict__ terms, unsigned char* __restrict__ lung,
              unsigned char* __restrict__ gas) {
  const int piece = thread_index();
  if (piece >= count_of(*pieces)) {
    return;
  }
  const int study = study_of(*pieces, *stack, piece);
  const DensityTerms own = terms[study];
  const double area_mm2 = (double)measures_of(*pieces, piece)[1] * own.y_mm * own.x_mm;
  const int side = centre_of(*pieces, *stack, piece) > centres[study];
  const double gas_hu = own.gas_part_hu + own.usual_share * min(usual[2 * study + side], own.healthy_hu);
  const bool is_lung = median_hu(histograms + (int64)piece * BINS, BINS) > gas_hu, is_large = area_mm2 >= own.least_mm2;
  lung[piece] = is_large && is_lung;
  gas[piece] = is_large && !is_lung;
}

// The darkest voxel of every so many rows of each study; 32 threads look through a row.
extern "C" __global__ void __launch_bounds__(THREADS)
    darkest(const Volume* __restrict__ table, int count, int rows, int step, int* lowest) {
  const Volume& own = row_of(table, count);
  const int unit = (int)(blockIdx.x - own.first_block) * THREADS + threadIdx.x, row = unit / 32;
  const int y = row % rows, z = row / rows;
  if (z >= own.shape[0] || y >= own.shape[1] || y % step != 0) {
    return;
  }
  const short* voxels = global(static_cast<const short*>(own.voxels)) + z * own.strides[0] + y * own.strides[1];
  int found = 0x7fff;
  for (int x = unit % 32; x < own.shape[2]; x += 32) {
    found = min(found, (int)voxels[x * own.strides[2]]);
  }
  int* of_study = lowest + (int)(&own - table);
  if (found < *static_cast<volatile int*>(of_study)) {  // most need not ask for more
    atomicMin(of_study, found);
  }
}
