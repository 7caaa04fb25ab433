// Trachea and main bronchi on a GPU: where they are looked for, what may be one, and the longest chain downwards.
#include "table.h"
#include "bitrows.h"
#include "stack.h"
#include "pieces.h"
#include "pairs.h"

// The words of each study's frame that lie within so many pixels from the midline.
extern "C" __global__ void __launch_bounds__(THREADS)
    airway_corridors(const Stack* __restrict__ stack, const double* __restrict__ centres,
                     const int* __restrict__ reaches, Frame* __restrict__ corridors) {
  const int study = thread_index();
  if (study >= stack->n_studies) {
    return;
  }
  Frame frame = stack->frames[study];
  const int middle = (int)centres[study], words = frame.w_stop - frame.w;
  const int first = max(middle - reaches[study], 0) / WORD_BITS, last = (middle + reaches[study]) / WORD_BITS;
  frame.w_stop = frame.w + min(last + 1, words);
  frame.w += first;
  corridors[study] = frame;
}

// Size and shape of airways; fastct/gpu/airways.py writes the same fields in the same order.
struct AirwayTerms {
  double y_mm, x_mm;
  double lumen_mm2[2], side_mm;                               // of any airway
  double start_mm2[2], start_side_mm, start_box_mm[2], fill;  // of a trachea
};

// Which pieces of air may be airway, and which a trachea; a thread a piece.
extern "C" __global__ void __launch_bounds__(THREADS)
    airway_judge(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces, const int* __restrict__ middles,
                 const AirwayTerms* __restrict__ terms, unsigned char* __restrict__ tubes,
                 unsigned char* __restrict__ starts) {
  const int piece = thread_index();
  if (piece >= count_of(*pieces)) {
    return;
  }
  const int study = study_of(*pieces, *stack, piece);
  const AirwayTerms& own = terms[study];
  const int64* measures = measures_of(*pieces, piece);
  const double area_mm2 = (double)measures[1] * own.y_mm * own.x_mm;
  const double depth_mm = (double)(measures[3] - measures[2]) * own.y_mm;
  const double width_mm = (double)(measures[5] - measures[4]) * own.x_mm;
  const double aside_mm = fabs((double)(measures[4] + measures[5]) / 2.0 - (double)middles[study]) * own.x_mm;
  tubes[piece] = area_mm2 > own.lumen_mm2[0] && area_mm2 < own.lumen_mm2[1] && aside_mm < own.side_mm;
  starts[piece] = area_mm2 > own.start_mm2[0] && area_mm2 < own.start_mm2[1] && aside_mm < own.start_side_mm &&
                  depth_mm < own.start_box_mm[0] && width_mm < own.start_box_mm[1] &&
                  area_mm2 > own.fill * depth_mm * width_mm;
}

// What airways need further; fastct/gpu/airways.py writes the same fields in the same order.
struct ChainTerms {
  double wall_share, most_pixels, reached_share;
};

// Of the tubes those with a wall of tissue; a trachea is one of them. `rings` are pixels around, and solid ones.
extern "C" __global__ void __launch_bounds__(THREADS)
    airway_walls(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces, const int64* __restrict__ rings,
                 const ChainTerms* __restrict__ terms, unsigned char* __restrict__ tubes,
                 unsigned char* __restrict__ starts) {
  const int piece = thread_index();
  if (piece >= count_of(*pieces)) {
    return;
  }
  const ChainTerms& own = terms[study_of(*pieces, *stack, piece)];
  const bool has_wall = (double)rings[2 * piece + 1] > own.wall_share * (double)rings[2 * piece];
  tubes[piece] = tubes[piece] && has_wall;
  starts[piece] = starts[piece] && tubes[piece];
}

// A chain of tubes that a block follows downwards, level by level.
struct Chain {
  const Stack& stack;
  const Pieces& pieces;
  const Pairs& pairs;
  ChainTerms terms;
  int bottom;    // lowest slice of the study
  int* tags;     // of each piece: the chain that it was reached by last
  int* reached;  // of each piece: pixels that the level above covers; 0 between levels

  // Marks all tubes of the chain that begins at a piece; `tag` tells it from all others. Returns how many slices.
  __device__ __forceinline__ int follow(int start, int tag, unsigned char* marks) const {
    __shared__ int64 area;
    __shared__ int count;
    int slice = (int)measures_of(pieces, start)[0], levels = 0;
    if (threadIdx.x == 0) {
      tags[start] = tag;
      area = measures_of(pieces, start)[1];
      count = 1;
    }
    __syncthreads();
    while (count > 0 && (double)area <= terms.most_pixels) {
      ++levels;
      __syncthreads();
      if (threadIdx.x == 0) {
        area = count = 0;
      }
      const int first = first_of(pieces, stack, slice), stop = first_of(pieces, stack, slice + 1);
      for (int piece = first + threadIdx.x; piece < stop; piece += THREADS) {
        if (tags[piece] == tag) {
          marks[piece] = 1;
        }
      }
      if (slice == bottom) {
        break;
      }
      for_pairs(pairs, slice, [&](int upper, int lower, int pixels) {
        if (tags[upper] == tag) {
          atomicAdd(reached + lower, pixels);
        }
      });
      __syncthreads();
      --slice;
      for (int piece = first_of(pieces, stack, slice) + threadIdx.x; piece < first; piece += THREADS) {
        const int64 pixels = measures_of(pieces, piece)[1];
        if (reached[piece] != 0 && (double)reached[piece] > terms.reached_share * (double)pixels) {
          tags[piece] = tag;
          atomicAdd(&count, 1);
          atomicAdd(reinterpret_cast<uint64*>(&area), (uint64)pixels);
        }
        reached[piece] = 0;
      }
      __syncthreads();
    }
    __syncthreads();
    return levels;
  }
};

// Chooses the tubes of the chain that leads through most slices downwards, and those of chains that begin where, after
// one slice without any, it would go on. A block a study; all tables hold a place for each piece, and 0.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    airway_chain(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces, const Pairs* __restrict__ pairs,
                 const unsigned char* __restrict__ starts, const ChainTerms* __restrict__ terms, int* tags,
                 int* reached, int* levels, unsigned char* met, unsigned char* chosen) {
  const Study own = stack->studies[blockIdx.x];
  const Chain chain = {*stack, *pieces, *pairs, terms[blockIdx.x], own.first_slice, tags, reached};
  const int first = first_of(*pieces, *stack, own.first_slice);
  const int stop = first_of(*pieces, *stack, own.first_slice + own.slices);
  int best = -1, most = 0;
  for (int start = stop - 1; start >= first; --start) {
    if (starts[start] == 0 || met[start] != 0) {
      continue;  // a lower start of the same chain is no new one
    }
    const int found = chain.follow(start, 1 + start, met);
    best = found > most ? start : best;
    most = max(found, most);
    if (threadIdx.x == 0) {
      levels[start] = found;
    }
    __syncthreads();
  }
  if (best < 0) {
    return;
  }
  const int again = 1 + pieces->places;
  const int64 resumed = measures_of(*pieces, best)[0] - (most - 1) - 2;
  for (int start = stop - 1; start >= first; --start) {
    if (start == best || (levels[start] != 0 && measures_of(*pieces, start)[0] == resumed)) {
      chain.follow(start, again + start, chosen);
    }
  }
}
