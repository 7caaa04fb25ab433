// What opacities are told by on a GPU: the threshold of each row, and what goes on below and above.
#include "table.h"
#include "bitrows.h"
#include "stack.h"

const int MEAN_BINS = 276, MEAN_FLOOR_HU = -1000, MEAN_BIN_HU = 4;

// How thresholds are found; fastct/gpu/opacity.py writes the same fields in the same order.
struct LevelTerms {
  double peak_hu[2], tissue_hu, displaced, level_hu[2];
  double dark_share, peak_above_hu, own_sick, own_sick_range, own_displaced[2];
  double gravity_share, gravity_hu, sick, sick_range, dense_hu, peak_bins, taps;
};

// What is the same in all rows of a study.
struct Level {
  double peak_hu, level_hu, most_hu;
};

// A bin's lower end.
__device__ __forceinline__ double floor_of(int bin) {
  return MEAN_FLOOR_HU + MEAN_BIN_HU * bin;
}

// Bins are gone through one by one: unrolled, these loops would keep their densities in local memory.
// The commonest density of a study's healthy lung.
__device__ __forceinline__ double peak_of(const int64* total, int64 all, const LevelTerms& own) {
  const int aside = (int)own.peak_bins / 2;
  int64 below = 0, highest = -2;
  int dark = 0, commonest = 0;
#pragma unroll 1
  for (int bin = 0; bin < MEAN_BINS; ++bin) {
    below += total[bin];
    dark += (double)below < own.dark_share * (double)all;
  }
#pragma unroll 1
  for (int bin = 0; bin < MEAN_BINS; ++bin) {
    const double hu = floor_of(bin);
    const bool is_searched =
        hu >= own.peak_hu[0] && hu < own.peak_hu[1] && hu <= floor_of(dark) + own.peak_above_hu;
    int64 smooth = is_searched ? 0 : -1;
    for (int i = max(bin - aside, 0); smooth >= 0 && i <= min(bin + aside, MEAN_BINS - 1); ++i) {
      smooth += total[i];
    }
    commonest = smooth > highest ? bin : commonest;
    highest = max(smooth, highest);
  }
  return floor_of(commonest) + MEAN_BIN_HU / 2.0;
}

// The median of what lies between two densities: ground glass.
__device__ __forceinline__ double median_between(const int64* total, double low_hu, double high_hu) {
  int64 all = 0, below = 0;
  int first = MEAN_BINS, middle = 0;
#pragma unroll 1
  for (int bin = MEAN_BINS - 1; bin >= 0; --bin) {
    const bool is_between = floor_of(bin) > low_hu && floor_of(bin) < high_hu;
    all += is_between ? total[bin] : 0;
    first = is_between ? bin : first;
  }
#pragma unroll 1
  for (int bin = first; bin < MEAN_BINS && floor_of(bin) < high_hu; ++bin) {
    below += total[bin];
    middle += 2 * below < all;
  }
  return floor_of(first + middle);
}

// The study's own threshold, by the histogram of all its rows.
__device__ __forceinline__ Level level_of(const int64* total, const LevelTerms& own, double* sick) {
  int64 all = 0, above = 0;
#pragma unroll 1
  for (int bin = 0; bin < MEAN_BINS; ++bin) {
    all += total[bin];
  }
  Level level;
  level.peak_hu = peak_of(total, all, own);
  const double air_hu = own.tissue_hu - level.peak_hu;
  const double usual_hu = min(max(level.peak_hu + own.displaced * air_hu, own.level_hu[0]), own.level_hu[1]);
#pragma unroll 1
  for (int bin = 0; bin < MEAN_BINS; ++bin) {
    above += floor_of(bin) > usual_hu ? total[bin] : 0;
  }
  *sick = all != 0 ? (double)above / (double)all : 0.0;
  const double half = (median_between(total, usual_hu, own.dense_hu) - level.peak_hu) / 2.0 / air_hu;
  const double displaced = min(max(half, own.own_displaced[0]), own.own_displaced[1]);
  const double weight = min(max((*sick - own.own_sick) / own.own_sick_range, 0.0), 1.0);
  level.level_hu = level.peak_hu + ((1.0 - weight) * own.displaced + weight * displaced) * air_hu;
  level.level_hu = min(max(level.level_hu, own.level_hu[0]), own.level_hu[1]);
  level.most_hu = own.gravity_hu * min(max((own.sick - *sick) / own.sick_range, 0.0), 1.0);
  return level;
}

// The thresholds of each study's rows, (studies, 2, rows): of opacities and of dense tissue; how sick it is; and its
// frame, or none if nothing was counted. A block a study; `weights` are those of a smoothing along the rows, most_taps
// a study, and `rows_of_study` two numbers for each row: its pixels, and those times its baseline.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    opacity_levels(const Stack* __restrict__ stack, const int* __restrict__ histograms,
                   const LevelTerms* __restrict__ terms, const double* __restrict__ weights, int most_taps,
                   double* rows_of_study, short* __restrict__ levels, double* __restrict__ sick,
                   Frame* __restrict__ frames) {
  __shared__ int64 total[MEAN_BINS];
  __shared__ Level level;
  const int study = blockIdx.x;
  const LevelTerms& own = terms[study];
  const Frame frame = stack->frames[study];
  const int* counts = histograms + (int64)study * stack->rows * MEAN_BINS;
  double* of_rows = rows_of_study + (int64)study * stack->rows * 2;
  for (int bin = threadIdx.x; bin < MEAN_BINS; bin += THREADS) {
    int64 sum = 0;
    for (int y = frame.y; y < frame.y_stop; ++y) {
      sum += counts[y * MEAN_BINS + bin];
    }
    total[bin] = sum;
  }
  for (int y = frame.y + threadIdx.x; y < frame.y_stop; y += THREADS) {
    int64 pixels = 0, below = 0;
    for (int bin = 0; bin < MEAN_BINS; ++bin) {
      pixels += counts[y * MEAN_BINS + bin];
    }
    int baseline = MEAN_FLOOR_HU;
    for (int bin = 0; bin < MEAN_BINS; ++bin) {
      below += counts[y * MEAN_BINS + bin];
      baseline += (double)below < own.gravity_share * (double)pixels ? MEAN_BIN_HU : 0;
    }
    of_rows[2 * y] = (double)pixels;
    of_rows[2 * y + 1] = (double)baseline * (double)pixels;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    level = level_of(total, own, sick + study);
    int64 all = 0;
    for (int bin = 0; bin < MEAN_BINS; ++bin) {
      all += total[bin];
    }
    const Frame none = {0, 0, 0, 0};
    frames[study] = all != 0 ? frame : none;
  }
  __syncthreads();
  const double* weight = weights + (int64)study * most_taps;
  const int taps = (int)own.taps;
  for (int y = frame.y + threadIdx.x; y < frame.y_stop; y += THREADS) {
    double pixels = 0.0, hu = 0.0;
    for (int k = 0; k < taps; ++k) {
      const int from = y + k - taps / 2;
      const bool is_inside = from >= frame.y && from < frame.y_stop;
      pixels += weight[k] * (is_inside ? of_rows[2 * from] : 0.0);
      hu += weight[k] * (is_inside ? of_rows[2 * from + 1] : 0.0);
    }
    const double lift = hu / max(pixels, 1e-3) - level.peak_hu;
    short* own_levels = levels + (int64)study * 2 * stack->rows + y;
    own_levels[0] = (short)rint(level.level_hu + min(max(lift, 0.0), level.most_hu));
    own_levels[stack->rows] = (short)own.dense_hu;
  }
}

// Of two shapes the first for studies as sick as that, else the second.
extern "C" __global__ void __launch_bounds__(THREADS)
    choose_shapes(const double* __restrict__ sick, const double* __restrict__ limits, const int* __restrict__ of_sick,
                  const int* __restrict__ usual, int studies, int shape_rows, int* __restrict__ shapes) {
  const int index = thread_index(), study = index / shape_rows;
  if (study < studies) {
    shapes[index] = sick[study] > limits[study] ? of_sick[index] : usual[index];
  }
}

// Of two masks the first for studies less sick than that, else the second.
extern "C" __global__ void __launch_bounds__(THREADS)
    choose_healthy(const Stack* __restrict__ stack, const double* __restrict__ sick, const double* __restrict__ limits,
                   const word* __restrict__ healthy, const word* __restrict__ usual, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study >= 0) {
    out[spot.at] = sick[spot.study] < limits[spot.study] ? healthy[spot.at] : usual[spot.at];
  }
}

// Of what was found what goes on in the slices below and above, where the study has them: where there is lung, or more
// of it near. In studies as sick as that one that goes on to one side does.
extern "C" __global__ void __launch_bounds__(THREADS)
    keep_going_on(const Stack* __restrict__ stack, const double* __restrict__ sick, const double* __restrict__ limits,
                  const word* __restrict__ found, const word* __restrict__ near, const word* __restrict__ lung,
                  word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  const Study own = stack->studies[spot.study];
  const int plane = stack->rows * stack->words, z = spot.slice - own.first_slice;
  const bool has_below = z > 0, has_above = z < own.slices - 1, one_will_do = sick[spot.study] > limits[spot.study];
  const word near_below = has_below ? near[spot.at - plane] : 0, near_above = has_above ? near[spot.at + plane] : 0;
  word kept = found[spot.at];
  if (has_below) {
    kept &= near_below | lung[spot.at - plane] | (one_will_do ? near_above : 0);
  }
  if (has_above) {
    kept &= near_above | lung[spot.at + plane] | (one_will_do ? near_below : 0);
  }
  out[spot.at] = kept;
}
