// Which lung is which, on a GPU: the midline, what lies where from it, and the walk from slice to slice.
#include "table.h"
#include "bitrows.h"
#include "stack.h"
#include "pieces.h"
#include "pairs.h"

const double UNREACHED = 1e300;  // a cost beyond all

// How a midline is found; fastct/gpu/sides.py writes the same fields in the same order.
struct MidlineTerms {
  double x_mm, width, centre_weight, valley_mm, farthest_mm;
};

__device__ __forceinline__ int64 window_sum(const int64* counts, int columns, int x, int width) {
  int64 sum = 0;
  for (int i = max(x + width / 2 - width + 1, 0); i <= min(x + width / 2, columns - 1); ++i) {
    sum += counts[i];
  }
  return sum;
}

// The column of each study's midline: the valley of its profile of air near the middle of its body; a block a study.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    find_midline(const Stack* __restrict__ stack, const int64* __restrict__ of_air, const int64* __restrict__ of_body,
                 const MidlineTerms* __restrict__ terms, int* __restrict__ middles) {
  __shared__ uint64 weighted, total;
  __shared__ int64 most;
  __shared__ double costs[THREADS];
  __shared__ int places[THREADS];
  const int study = blockIdx.x;
  const Frame frame = stack->frames[study];
  const MidlineTerms own = terms[study];
  const int first = frame.w * WORD_BITS, columns = (frame.w_stop - frame.w) * WORD_BITS, width = (int)own.width;
  const int64* air = of_air + (int64)study * stack->words * WORD_BITS + first;
  const int64* body = of_body + (int64)study * stack->words * WORD_BITS + first;
  if (threadIdx.x == 0) {
    weighted = total = 0;
    most = 0;
  }
  __syncthreads();
  for (int x = threadIdx.x; x < columns; x += THREADS) {
    atomicAdd(&weighted, (uint64)(body[x] * x));
    atomicAdd(&total, (uint64)body[x]);
    atomicMax(&most, window_sum(air, columns, x, width));
  }
  __syncthreads();
  const double centre = (double)weighted / (double)total, highest = (double)most / own.width;
  double best = UNREACHED;
  int place = columns;
  for (int x = threadIdx.x; x < columns; x += THREADS) {
    const double off_mm = fabs((double)x - centre) * own.x_mm;
    const double smooth = (double)window_sum(air, columns, x, width) / own.width;
    const double cost = smooth + highest * own.centre_weight * off_mm / own.valley_mm;
    if (off_mm <= own.farthest_mm && cost < best) {
      best = cost;
      place = x;
    }
  }
  costs[threadIdx.x] = best;
  places[threadIdx.x] = place;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < THREADS; ++i) {
      const bool is_better = costs[i] < best || (costs[i] == best && places[i] < place);
      place = is_better ? places[i] : place;
      best = is_better ? costs[i] : best;
    }
    middles[study] = first + (place < columns ? place : 0);
  }
}

// The midlines counted from the first column of each study's frame, as numbers with a fraction.
extern "C" __global__ void __launch_bounds__(THREADS)
    centres_of(const Stack* __restrict__ stack, const int* __restrict__ middles, double* __restrict__ centres) {
  const int study = thread_index();
  if (study < stack->n_studies) {
    centres[study] = (double)(middles[study] - stack->frames[study].w * WORD_BITS);
  }
}

// The column of each study's centre of mass, from the counts of its columns, counted likewise.
extern "C" __global__ void __launch_bounds__(THREADS)
    centres_of_mass(const Stack* __restrict__ stack, const int64* __restrict__ counts, double* __restrict__ centres) {
  const int study = thread_index();
  if (study >= stack->n_studies) {
    return;
  }
  const Frame frame = stack->frames[study];
  const int64* own = counts + ((int64)study * stack->words + frame.w) * WORD_BITS;
  int64 weighted = 0, total = 0;
  for (int x = 0; x < (frame.w_stop - frame.w) * WORD_BITS; ++x) {
    weighted += own[x] * x;
    total += own[x];
  }
  centres[study] = total != 0 ? (double)weighted / (double)total : 0.0;
}

// Distances in pixels from the midline; columns before the lower or from the upper one on are outside.
struct Offsets {
  double low, high;
};

// All of each frame that lies outside of two distances from the midline.
extern "C" __global__ void __launch_bounds__(THREADS)
    draw_aside(const Stack* __restrict__ stack, const double* __restrict__ centres,
               const Offsets* __restrict__ offsets, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  word bits = 0;
  if (spot.is_inside) {
    const double low = centres[spot.study] + offsets[spot.study].low;
    const double high = centres[spot.study] + offsets[spot.study].high;
    for (int i = 0; i < WORD_BITS; ++i) {
      const double x = (double)((spot.w - spot.frame.w) * WORD_BITS + i);
      bits |= (word)(x < low || x >= high) << i;
    }
  }
  out[spot.at] = bits;
}

// Half axes of an ellipse; fastct/gpu/sides.py writes the same fields in the same order.
struct EllipseTerms {
  double y_mm, x_mm, half_y_mm, half_x_mm;
};

// All of each frame outside an ellipse half-way from its back to its front.
extern "C" __global__ void __launch_bounds__(THREADS)
    draw_outside_ellipse(const Stack* __restrict__ stack, const double* __restrict__ centres,
                         const EllipseTerms* __restrict__ terms, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  word bits = 0;
  if (spot.is_inside) {
    const EllipseTerms own = terms[spot.study];
    const double half = (double)(spot.frame.y_stop - spot.frame.y - 1) / 2.0;
    const double dy = ((double)(spot.y - spot.frame.y) - half) * own.y_mm / own.half_y_mm;
    for (int i = 0; i < WORD_BITS; ++i) {
      const double x = (double)((spot.w - spot.frame.w) * WORD_BITS + i);
      const double dx = (x - centres[spot.study]) * own.x_mm / own.half_x_mm;
      bits |= (word)(dy * dy + dx * dx > 1.0) << i;
    }
  }
  out[spot.at] = bits;
}

// When a piece spans both sides; fastct/gpu/sides.py writes the same fields in the same order.
struct SpanTerms {
  double y_mm, x_mm, least_mm2, least_share;
};

// Pieces that span both sides, `right` being their pixels to the right of the midline; a thread a piece.
extern "C" __global__ void __launch_bounds__(THREADS)
    tell_spans(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces, const int64* __restrict__ right,
               const SpanTerms* __restrict__ terms, unsigned char* __restrict__ spans) {
  const int piece = thread_index();
  if (piece >= count_of(*pieces)) {
    return;
  }
  const SpanTerms own = terms[study_of(*pieces, *stack, piece)];
  const int64 area = measures_of(*pieces, piece)[1];
  const double smaller = (double)min(right[piece], area - right[piece]);
  spans[piece] = smaller * own.y_mm * own.x_mm > own.least_mm2 && smaller > own.least_share * (double)area;
}

// How sides are told; fastct/gpu/sides.py writes the same fields in the same order.
struct WalkTerms {
  double y_mm, x_mm, sure_mm, overlap, start_mm2;
};

// The walk of a study from slice to slice, by all threads of a block.
struct Walk {
  const Stack& stack;
  const Pieces& pieces;
  const Pairs& pairs;
  const unsigned char* wanted;
  int* over;  // of each piece: pixels over what is right, over what is left, and of all that they belong to
  unsigned char* side;
  WalkTerms terms;
  double middle;

  __device__ __forceinline__ int surely(int piece) const {
    const double aside_mm = (centre_of(pieces, stack, piece) - middle) * terms.x_mm;
    return aside_mm < -terms.sure_mm ? 1 : aside_mm > terms.sure_mm ? 2 : 0;
  }

  // Tells the sides of a slice's pieces by those of the slice below it, or above it; of slices above the start, too.
  __device__ __forceinline__ void enter(int slice, bool is_upwards, bool is_above) const {
    for_pairs(pairs, is_upwards ? slice : slice + 1, [&](int upper, int lower, int pixels) {
      const int to = is_upwards ? upper : lower, from = is_upwards ? lower : upper;
      if (side[to] == 0 && side[from] != 0 && wanted[to] != 0 && wanted[from] != 0) {
        atomicAdd(over + 3 * to + side[from] - 1, pixels);
        atomicAdd(over + 3 * to + 2, (int)measures_of(pieces, from)[1]);
      }
    });
    __syncthreads();
    const int stop = first_of(pieces, stack, slice + 1);
    for (int piece = first_of(pieces, stack, slice) + threadIdx.x; piece < stop; piece += THREADS) {
      const int right = over[3 * piece], left = over[3 * piece + 1], sure = surely(piece);
      const int64 own = measures_of(pieces, piece)[1], found = over[3 * piece + 2];
      const int64 smaller = is_above && sure != 0 ? min(own, found) : own;
      if (side[piece] == 0 && (double)(right + left) > terms.overlap * (double)smaller) {
        side[piece] = sure != 0 ? sure : right >= left ? 1 : 2;
      }
      over[3 * piece] = over[3 * piece + 1] = over[3 * piece + 2] = 0;
    }
    __syncthreads();
  }

  // The slice around which most lies.
  __device__ __forceinline__ int fullest(const int64* held, int slices) const {
    int64 most = -1;
    int found = 0;
    for (int z = 0; z < slices; ++z) {
      const int64 around = held[max(z - 1, 0)] + held[z] + held[min(z + 1, slices - 1)];
      found = around > most ? z : found;
      most = max(around, most);
    }
    return found;
  }
};

// Side of each piece: 0 none, 1 right, 2 left. A block a study; `held` has a place for each slice, `over` three for each
// piece, and both are 0 to begin with.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    walk_sides(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces, const Pairs* __restrict__ pairs,
               const unsigned char* __restrict__ wanted, const double* __restrict__ centres,
               const WalkTerms* __restrict__ terms, int64* held, int* over, unsigned char* side) {
  __shared__ int start;
  const int study = blockIdx.x;
  const Study own = stack->studies[study];
  const Walk walk = {*stack, *pieces, *pairs, wanted, over, side, terms[study], centres[study]};
  int64* of_slices = held + own.first_slice;
  for (int z = threadIdx.x; z < own.slices; z += THREADS) {
    const int stop = first_of(*pieces, *stack, own.first_slice + z + 1);
    for (int piece = first_of(*pieces, *stack, own.first_slice + z); piece < stop; ++piece) {
      of_slices[z] += wanted[piece] != 0 ? measures_of(*pieces, piece)[1] : 0;
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    start = own.first_slice + walk.fullest(of_slices, own.slices);
  }
  __syncthreads();
  const int stop = first_of(*pieces, *stack, start + 1);
  for (int piece = first_of(*pieces, *stack, start) + threadIdx.x; piece < stop; piece += THREADS) {
    const double area_mm2 = (double)measures_of(*pieces, piece)[1] * walk.terms.y_mm * walk.terms.x_mm;
    if (wanted[piece] != 0 && area_mm2 > walk.terms.start_mm2) {
      side[piece] = centre_of(*pieces, *stack, piece) < walk.middle ? 1 : 2;
    }
  }
  __syncthreads();
  const int bottom = own.first_slice, top = own.first_slice + own.slices - 1;
  for (int round = 0; round < 2; ++round) {
    for (int slice = round == 0 ? start + 1 : bottom + 1; slice <= top; ++slice) {
      walk.enter(slice, true, slice > start);
    }
    for (int slice = round == 0 ? start - 1 : top - 1; slice >= bottom; --slice) {
      walk.enter(slice, false, slice > start);
    }
  }
}
