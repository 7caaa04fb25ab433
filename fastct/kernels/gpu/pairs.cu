// Pieces of neighbouring slices on a GPU: which lie over each other, and what lies around and below each of them.
#include "table.h"
#include "bitrows.h"
#include "stack.h"
#include "pieces.h"
#include "pairs.h"

// Pieces of each slice over those of the slice below.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    pairs_overlaps(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces, const Pairs* __restrict__ pairs,
                   int* __restrict__ faults) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0 || spot.slice == stack->studies[spot.study].first_slice) {
    return;
  }
  const int below = spot.at - stack->rows * stack->words;
  for_parts(pieces->mask[spot.at] & pieces->mask[below], [&](word part) {
    const int upper = piece_at(*pieces, spot.at, spot.w, part), lower = piece_at(*pieces, below, spot.w, part);
    if (upper < pieces->places && !add_pixels(*pairs, spot.slice, upper, lower, __popcll(part))) {
      faults[spot.study] = 1;
    }
  });
}

// A piece of the table, alone in its slice.
struct Alone {
  const Pieces& pieces;
  Frame frame;
  int first, words;  // first word of its slice, and of a row
  int number;
};

__device__ __forceinline__ Alone alone(const Pieces& pieces, const Stack& stack, int piece) {
  const int slice = (int)measures_of(pieces, piece)[0];
  return {pieces, stack.frames[stack.study_of[slice]], slice * stack.rows * stack.words, stack.words, piece};
}

// Word w of row y, with nothing but the piece in it.
__device__ __forceinline__ word alone_at(const Alone& piece, int y, int w) {
  if (w < piece.frame.w || w >= piece.frame.w_stop) {
    return 0;
  }
  const int at = piece.first + y * piece.words + w;
  word own = 0;
  for_parts(piece.pieces.mask[at], [&](word part) {
    own |= piece_at(piece.pieces, at, w, part) == piece.number ? part : 0;
  });
  return own;
}

// A shape: half widths of its rows from its middle on, none where they are negative.
struct Shape {
  const int* half_widths;
  int rows;
};

// Word w of row y of the piece grown by a shape.
__device__ __forceinline__ word grown_at(const Alone& piece, const Shape& shape, int y, int w) {
  word sum = 0;
  for (int dy = 1 - shape.rows; dy < shape.rows; ++dy) {
    const int reach = shape.half_widths[dy < 0 ? -dy : dy];
    if (reach >= 0 && y + dy >= piece.frame.y && y + dy < piece.frame.y_stop) {
      sum |= smear(alone_at(piece, y + dy, w - 1), alone_at(piece, y + dy, w), alone_at(piece, y + dy, w + 1), reach);
    }
  }
  return sum;
}

// The rows and words that a piece reaches when grown, within its frame.
__device__ __forceinline__ Frame box_of(const Alone& piece, const Shape& shape) {
  const int64* measures = measures_of(piece.pieces, piece.number);
  const int reach = shape.half_widths[0];
  Frame box;
  box.y = max((int)measures[2] - shape.rows + 1, piece.frame.y);
  box.y_stop = min((int)measures[3] + shape.rows - 1, piece.frame.y_stop);
  box.w = max(max((int)measures[4] - reach, 0) / WORD_BITS, piece.frame.w);
  box.w_stop = min(((int)measures[5] + reach - 1) / WORD_BITS + 1, piece.frame.w_stop);
  return box;
}

// Around each wanted piece, between two shapes of its study: pixels, and those set in another mask. A block takes one
// piece after another.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    pairs_rings(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
                const unsigned char* __restrict__ wanted, const int* __restrict__ inner, int inner_rows,
                const int* __restrict__ outer, int outer_rows, const word* __restrict__ other,
                uint64* __restrict__ counts) {
  const int last = count_of(*pieces);
  for (int number = blockIdx.x; number < last; number += gridDim.x) {
    if (wanted[number] == 0) {
      continue;
    }
    const Alone piece = alone(*pieces, *stack, number);
    const int study = study_of(*pieces, *stack, number);
    const Shape near = {inner + study * inner_rows, inner_rows}, far = {outer + study * outer_rows, outer_rows};
    const Frame box = box_of(piece, far);
    const int across = box.w_stop - box.w, n = (box.y_stop - box.y) * across;
    int pixels = 0, inside = 0;
    for (int i = threadIdx.x; i < n; i += THREADS) {
      const int y = box.y + i / across, w = box.w + i % across;
      const word ring = grown_at(piece, far, y, w) & ~grown_at(piece, near, y, w);
      pixels += __popcll(ring);
      inside += __popcll(ring & other[piece.first + y * piece.words + w]);
    }
    if (pixels != 0) {
      atomicAdd(counts + 2 * number, (uint64)pixels);
      atomicAdd(counts + 2 * number + 1, (uint64)inside);
    }
  }
}

// Wanted pieces of the slice below each wanted piece that lie within its study's shape. A block takes one piece after
// another.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    pairs_below(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
                const unsigned char* __restrict__ wanted, const int* __restrict__ half_widths, int shape_rows,
                const Pairs* __restrict__ pairs, int* __restrict__ faults) {
  const int last = count_of(*pieces), plane = stack->rows * stack->words;
  for (int number = blockIdx.x; number < last; number += gridDim.x) {
    const int slice = (int)measures_of(*pieces, number)[0], study = stack->study_of[slice];
    if (wanted[number] == 0 || slice == stack->studies[study].first_slice) {
      continue;
    }
    const Alone piece = alone(*pieces, *stack, number);
    const Shape shape = {half_widths + study * shape_rows, shape_rows};
    const Frame box = box_of(piece, shape);
    const int across = box.w_stop - box.w, n = (box.y_stop - box.y) * across;
    for (int i = threadIdx.x; i < n; i += THREADS) {
      const int y = box.y + i / across, w = box.w + i % across;
      const int at = piece.first - plane + y * piece.words + w;
      if (pieces->mask[at] == 0) {
        continue;
      }
      const word reached = grown_at(piece, shape, y, w);
      for_parts(pieces->mask[at], [&](word part) {
        const int shared = __popcll(part & reached);
        const int lower = shared != 0 ? piece_at(*pieces, at, w, part) : last;
        if (lower < last && wanted[lower] != 0 && !add_pixels(*pairs, slice, number, lower, shared)) {
          faults[study] = 1;
        }
      });
    }
  }
}
