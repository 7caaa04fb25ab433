// Connected pieces of bit rows on a GPU: labels for all runs of a stack of slices, holes, measures and counts.
#include "table.h"
#include "bitrows.h"
#include "stack.h"
#include "pieces.h"
#include "histograms.h"

const int64 FAR_AWAY = 0x7fffffff;
const int BORDER = 2;  // pixels at both ends of a run that a histogram leaves out

extern "C" __global__ void __launch_bounds__(THREADS)
    pieces_start(const word* __restrict__ mask, int words, int n, int* __restrict__ labels) {
  const int at = thread_index();
  if (at >= n) {
    return;
  }
  for (word starts = run_starts(mask, at, at % words); starts != 0; starts &= starts - 1) {
    const int slot = slot_at(at, lowest_bit(starts));
    labels[slot] = slot;
  }
}

// Joins the runs of word `at` with those of a word of another row whose pixels lie `shift` to their right.
__device__ __forceinline__ void join_words(const Runs& runs, int at, int other, int w, int shift) {
  const word own = runs.mask[at], left = before_it(runs.mask, other, w), here = runs.mask[other];
  const word right = w + 1 < runs.words ? runs.mask[other + 1] : 0;
  const word shifted = shift == 0 ? here : shift < 0 ? here << 1 | left : here >> 1 | right << 63;
  word shared = own & shifted;
  if (shift == 0 && (before_it(runs.mask, at, w) & left) != 0) {
    shared &= shared + 1;  // what goes on from the word before has been joined there
  }
  for_parts(shared, [&](word part) {
    const int bit = lowest_bit(part), across = bit + shift;
    const int step = across < 0 ? -1 : across >= WORD_BITS ? 1 : 0;
    const int their = slot_of(runs.mask, other + step, w + step, across - step * WORD_BITS);
    join_sets(runs.labels, slot_of(runs.mask, at, w, bit), their);
  });
}

// Joins the runs of each word with those that they touch in rows before: in the slice by their sides, or, if
// `is_through`, in it and in the slice below by sides, edges and corners.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    pieces_join(const Stack* __restrict__ stack, const word* __restrict__ mask, int is_through, int* labels) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0 || mask[spot.at] == 0) {
    return;
  }
  const int rows = stack->rows, words = stack->words;
  const Runs runs = {mask, labels, rows, words};
  if (spot.y > 0) {
    for (int shift = -is_through; shift <= is_through; ++shift) {
      join_words(runs, spot.at, spot.at - words, spot.w, shift);
    }
  }
  if (is_through == 0 || spot.slice == stack->studies[spot.study].first_slice) {
    return;
  }
  for (int dy = spot.y > 0 ? -1 : 0; dy <= 1 && spot.y + dy < rows; ++dy) {
    for (int shift = -1; shift <= 1; ++shift) {
      join_words(runs, spot.at, spot.at + (dy - rows) * words, spot.w, shift);
    }
  }
}

// Leads every run to its piece's first one, and counts the first ones of each row.
extern "C" __global__ void __launch_bounds__(THREADS)
    pieces_settle(const word* __restrict__ mask, int words, int n, int* labels, int* __restrict__ counts) {
  const int at = thread_index();
  if (at >= n) {
    return;
  }
  int firsts = 0;
  for (word starts = run_starts(mask, at, at % words); starts != 0; starts &= starts - 1) {
    const int slot = slot_at(at, lowest_bit(starts)), root = find_root(labels, slot);
    labels[slot] = root;
    firsts += root == slot;
  }
  if (firsts != 0) {
    atomicAdd(counts + at / words, firsts);
  }
}

// Numbers the pieces in the order of their first runs, `ends` being the sums of all rows' counts so far. From now
// on a label that is a number is its complement: -1 for piece 0. Once more, it changes no label.
//
// It also begins the measures of as many pieces as the table has `places` for; how many there are stands after them.
extern "C" __global__ void __launch_bounds__(THREADS)
    pieces_number(const word* __restrict__ mask, int words, int n_rows, const int* __restrict__ counts,
                  const int* __restrict__ ends, int* __restrict__ labels, int places, int64* __restrict__ table) {
  const int row = thread_index();
  if (row >= n_rows) {
    return;
  }
  for (int piece = row; piece < places; piece += n_rows) {
    const int64 none[MEASURES] = {FAR_AWAY, 0, FAR_AWAY, 0, FAR_AWAY, 0, 0};
#pragma unroll
    for (int i = 0; i < MEASURES; ++i) {
      table[(int64)piece * MEASURES + i] = none[i];
    }
  }
  if (row == n_rows - 1) {
    table[(int64)places * MEASURES] = ends[row];
  }
  int number = ends[row] - counts[row];
  for (int w = 0; w < words && number < ends[row]; ++w) {
    const int at = row * words + w;
    for (word starts = run_starts(mask, at, w); starts != 0; starts &= starts - 1) {
      const int slot = slot_at(at, lowest_bit(starts));
      if (labels[slot] != slot) {
        continue;
      }
      labels[slot] = ~number;
      ++number;
    }
  }
}

// Gives every run its piece's number, and adds it to the piece's measures, if there is a place for them.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    pieces_measure(const Stack* __restrict__ stack, const Pieces* __restrict__ table, int* __restrict__ faults) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  const Pieces pieces = *table;
  for (word starts = run_starts(pieces.mask, spot.at, spot.w); starts != 0; starts &= starts - 1) {
    const int bit = lowest_bit(starts), slot = slot_at(spot.at, bit);
    int label = pieces.labels[slot];
    if (label >= 0) {
      label = pieces.labels[label];
      pieces.labels[slot] = label;
    }
    if (~label >= pieces.places) {
      faults[spot.study] = 1;
      continue;
    }
    const int64 from = spot.w * WORD_BITS + bit, to = walk_on(pieces.mask, spot.at, spot.w, stack->words, bit);
    int64* measures = const_cast<int64*>(measures_of(pieces, ~label));
    atomicMin(measures, (int64)spot.slice);
    atomicAdd(reinterpret_cast<uint64*>(measures + 1), (uint64)(to - from));
    atomicMin(measures + 2, (int64)spot.y);
    atomicMax(measures + 3, (int64)spot.y + 1);
    atomicMin(measures + 4, from);
    atomicMax(measures + 5, to);
    atomicAdd(reinterpret_cast<uint64*>(measures + 6), (uint64)((to - from) * (to + from - 1)));
  }
}

// What a mask leaves of its frame.
extern "C" __global__ void __launch_bounds__(THREADS)
    holes_gaps(const Stack* __restrict__ stack, const word* __restrict__ mask, word* __restrict__ gaps) {
  const Spot spot = spot_of(*stack);
  if (spot.study >= 0) {
    gaps[spot.at] = spot.is_inside ? ~mask[spot.at] : 0;
  }
}

// Of runs that are gaps between pixels: those that reach the frame put their piece outside, marked by -1.
extern "C" __global__ void __launch_bounds__(THREADS)
    holes_mark(const Stack* __restrict__ stack, const word* __restrict__ gaps, int* labels) {
  const Spot spot = spot_of(*stack);
  if (!spot.is_inside) {
    return;
  }
  word reaching = gaps[spot.at];
  if (spot.y > spot.frame.y && spot.y < spot.frame.y_stop - 1) {
    reaching &= (spot.w == spot.frame.w ? (word)1 : 0) | (spot.w == spot.frame.w_stop - 1 ? (word)1 << 63 : 0);
  }
  for_parts(reaching, [&](word part) {
    const int root = labels[slot_of(gaps, spot.at, spot.w, lowest_bit(part))];
    if (root >= 0) {
      labels[root] = -1;
    }
  });
}

// The mask with all gaps that are not outside.
extern "C" __global__ void __launch_bounds__(THREADS)
    holes_fill(const Stack* __restrict__ stack, const word* __restrict__ gaps, const int* __restrict__ labels,
               word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  word outside = 0;
  for_parts(gaps[spot.at], [&](word part) {
    const int root = labels[slot_of(gaps, spot.at, spot.w, lowest_bit(part))];
    outside |= root < 0 || labels[root] < 0 ? part : 0;
  });
  out[spot.at] = spot.is_inside ? ~outside : 0;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    pieces_paint(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
                 const unsigned char* __restrict__ chosen, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  word painted = 0;
  for_parts(pieces->mask[spot.at], [&](word part) {
    const int piece = piece_at(*pieces, spot.at, spot.w, part);
    painted |= piece < pieces->places && chosen[piece] != 0 ? part : 0;
  });
  out[spot.at] = painted;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    pieces_count_inside(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
                        const word* __restrict__ other, uint64* __restrict__ counts) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0 || (pieces->mask[spot.at] & other[spot.at]) == 0) {
    return;
  }
  for_parts(pieces->mask[spot.at], [&](word part) {
    const int inside = __popcll(part & other[spot.at]);
    if (inside != 0) {
      const int piece = piece_at(*pieces, spot.at, spot.w, part);
      if (piece < pieces->places) {
        atomicAdd(counts + piece, (uint64)inside);
      }
    }
  });
}

// HU histograms of pieces, of every other row of the frame and pixel, without the ends of runs, which hold partial
// volume.
extern "C" __global__ void __launch_bounds__(THREADS)
    pieces_histograms(const Volume* __restrict__ table, int count, const Stack* __restrict__ stack,
                      const Pieces* __restrict__ pieces, int* __restrict__ counts) {
  const Volume& own = row_of(table, count);
  const int words = stack->words, rows = stack->rows;
  const int unit = (int)(blockIdx.x - own.first_block) * THREADS + threadIdx.x, row = unit / words;
  const int w = unit % words, y = row % rows, z = row / rows;
  const int at = own.first_slice * rows * words + unit;
  const word* mask = pieces->mask;
  if (z >= own.shape[0] || y >= own.shape[1] || mask[at] == 0 ||
      (y - stack->frames[stack->study_of[own.first_slice]].y) % 2 != 0) {
    return;
  }
  const short* voxels = global(static_cast<const short*>(own.voxels)) + z * own.strides[0] + y * own.strides[1];
  for_parts(mask[at], [&](word part) {
    int first = at;
    int first_w = w;
    const int bit = lowest_bit(part), start = walk_back(mask, &first, &first_w, bit);
    const int from = first_w * WORD_BITS + start, to = walk_on(mask, at, w, words, bit);
    const int border = min(BORDER, (to - from - 1) / 2);
    const int last = min(min(to - border, own.shape[2]), w * WORD_BITS + bit + __popcll(part));
    const int piece = ~pieces->labels[slot_at(first, start)];
    int x = max(from + border, w * WORD_BITS + bit);
    x += (x - from - border) % 2;
    for (; x < last && piece < pieces->places; x += 2) {
      const int bin = (voxels[x * own.strides[2]] - BIN_FLOOR_HU) >> BIN_SHIFT;
      atomicAdd(counts + (int64)piece * BINS + max(0, min(bin, BINS - 1)), 1);
    }
  });
}
