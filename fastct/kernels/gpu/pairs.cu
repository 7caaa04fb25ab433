// Pieces of neighbouring slices on a GPU: which lie over each other, and what lies around and below each of them.
#include "table.h"
#include "bitrows.h"
#include "pieces.h"

// Pixels that pieces share, found by a key made of both: an open table that threads fill side by side. A key is
// never 0, which marks a free place; if the table is full, the place after its last says so.
struct Pairs {
  uint64* keys;
  uint64* pixels;
  uint64 places;  // a power of two
};

__device__ __forceinline__ void add_pixels(const Pairs& pairs, int upper, int lower, int pixels) {
  const uint64 key = ((uint64)upper << 32 | (uint64)lower) + 1;
  uint64 place = key * 0x9e3779b97f4a7c15ull >> 32;
  for (uint64 tries = 0; tries < pairs.places; ++tries, ++place) {
    place &= pairs.places - 1;
    uint64 found = ((volatile uint64*)pairs.keys)[place];
    if (found == 0) {
      found = atomicCAS(pairs.keys + place, (uint64)0, key);
    }
    if (found == 0 || found == key) {
      atomicAdd(pairs.pixels + place, (uint64)pixels);
      return;
    }
  }
  pairs.keys[pairs.places] = 1;
}

__device__ __forceinline__ int piece_at(const Runs& runs, int at, int w, word part) {
  return ~runs.labels[slot_of(runs.mask, at, w, lowest_bit(part))];
}

// Pieces of each slice over those of the slice below.
extern "C" __global__ void __launch_bounds__(THREADS)
    pairs_overlaps(const word* __restrict__ mask, int plane, int words, int n, int* __restrict__ labels,
                   uint64* keys, uint64* pixels, uint64 places) {
  const int at = thread_index() + plane;
  if (at >= n || (mask[at] & mask[at - plane]) == 0) {
    return;
  }
  const Runs runs = {mask, labels, 0, words};
  const Pairs pairs = {keys, pixels, places};
  const int w = at % words;
  for_parts(mask[at] & mask[at - plane], [&](word part) {
    add_pixels(pairs, piece_at(runs, at, w, part), piece_at(runs, at - plane, w, part), __popcll(part));
  });
}

// A piece of the table, alone in its slice.
struct Alone {
  Runs runs;
  int first;  // word of its slice
  int label;
};

// Word w of row y, with nothing but the piece in it.
__device__ __forceinline__ word alone_at(const Alone& piece, int y, int w) {
  if (w < 0 || w >= piece.runs.words) {
    return 0;
  }
  const int at = piece.first + y * piece.runs.words + w;
  word own = 0;
  for_parts(piece.runs.mask[at], [&](word part) {
    own |= ~piece_at(piece.runs, at, w, part) == piece.label ? part : 0;
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
    if (reach >= 0 && y + dy >= 0 && y + dy < piece.runs.rows) {
      sum |= smear(alone_at(piece, y + dy, w - 1), alone_at(piece, y + dy, w), alone_at(piece, y + dy, w + 1), reach);
    }
  }
  return sum;
}

// The rows and words that a piece reaches when grown.
struct Box {
  int y, y_stop, w, w_stop;
};

__device__ __forceinline__ Box box_of(const int64* measures, const Runs& runs, const Shape& shape) {
  const int reach = shape.half_widths[0];
  Box box;
  box.y = max((int)measures[2] - shape.rows + 1, 0);
  box.y_stop = min((int)measures[3] + shape.rows - 1, runs.rows);
  box.w = max((int)measures[4] - reach, 0) / WORD_BITS;
  box.w_stop = min(((int)measures[5] + reach - 1) / WORD_BITS + 1, runs.words);
  return box;
}

// Around each of some pieces, one a block, between two shapes: pixels, and those set in another mask.
extern "C" __global__ void __launch_bounds__(THREADS)
    pairs_rings(const word* __restrict__ mask, int rows, int words, int* __restrict__ labels,
                const int64* __restrict__ table, const int* __restrict__ chosen, const int* __restrict__ inner,
                int inner_rows, const int* __restrict__ outer, int outer_rows, const word* __restrict__ other,
                uint64* __restrict__ counts) {
  const int number = chosen[blockIdx.x];
  const int64* measures = table + (int64)number * 7;
  const Alone piece = {{mask, labels, rows, words}, (int)measures[0] * rows * words, ~number};
  const Shape near = {inner, inner_rows}, far = {outer, outer_rows};
  const Box box = box_of(measures, piece.runs, far);
  const int across = box.w_stop - box.w, n = (box.y_stop - box.y) * across;
  int pixels = 0, inside = 0;
  for (int i = threadIdx.x; i < n; i += THREADS) {
    const int y = box.y + i / across, w = box.w + i % across;
    const word ring = grown_at(piece, far, y, w) & ~grown_at(piece, near, y, w);
    pixels += __popcll(ring);
    inside += __popcll(ring & other[piece.first + y * words + w]);
  }
  if (pixels != 0) {
    atomicAdd(counts + 2 * number, (uint64)pixels);
    atomicAdd(counts + 2 * number + 1, (uint64)inside);
  }
}

// Wanted pieces of the slice below each of some pieces, one a block, that lie within its reach.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    pairs_below(const word* __restrict__ mask, int rows, int words, int* __restrict__ labels,
                const int64* __restrict__ table, const int* __restrict__ chosen,
                const unsigned char* __restrict__ wanted, const int* __restrict__ half_widths, int shape_rows,
                uint64* keys, uint64* pixels, uint64 places) {
  const int number = chosen[blockIdx.x];
  const int64* measures = table + (int64)number * 7;
  const Alone piece = {{mask, labels, rows, words}, (int)measures[0] * rows * words, ~number};
  const Shape shape = {half_widths, shape_rows};
  const Pairs pairs = {keys, pixels, places};
  const Box box = box_of(measures, piece.runs, shape);
  const int across = box.w_stop - box.w, n = measures[0] > 0 ? (box.y_stop - box.y) * across : 0;
  for (int i = threadIdx.x; i < n; i += THREADS) {
    const int y = box.y + i / across, w = box.w + i % across;
    const int at = piece.first + (y - rows) * words + w;
    if (mask[at] == 0) {
      continue;
    }
    const word reached = grown_at(piece, shape, y, w);
    for_parts(mask[at], [&](word part) {
      const int shared = __popcll(part & reached);
      if (shared != 0) {
        const int lower = piece_at(piece.runs, at, w, part);
        if (wanted[lower] != 0) {
          add_pixels(pairs, number, lower, shared);
        }
      }
    });
  }
}
