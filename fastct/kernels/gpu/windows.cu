// Box windows over masked slices on a GPU, in whole numbers: mean HU against a level, one mask's share of another.
#include "table.h"
#include "bitrows.h"
#include "stack.h"

const int PIXELS_AT_ONCE = 8;             // a thread's byte of a mask
const int MOST_REACH = 2;                 // of a mean's window
const int COLUMNS = PIXELS_AT_ONCE + 2 * MOST_REACH;
const int AIR_HU = -1000, CAP_HU = 100;   // HU beyond these would drag a mean
const int MEAN_BIN_HU = 4, MEAN_BINS = (CAP_HU - AIR_HU) / MEAN_BIN_HU + 1;
const int COUNT_SHIFT = 16;               // a sum, at most 25 * 1100, and its count share a register
const int ROWS_OF_A_THREAD = 32;          // that share_above goes through
const int CENTRE = 8;                     // weight of a window's own slice; its neighbours have 1

// A thread's eight pixels.
struct Bytes {
  int study, z, y, x;  // x is the first of them
  int at;              // their byte in the masks
  bool is_inside;
};

__device__ __forceinline__ Bytes bytes_in(const Volume& own, int study, const Stack& stack) {
  const int bytes = stack.words * (WORD_BITS / PIXELS_AT_ONCE);
  const int unit = (int)(blockIdx.x - own.first_block) * THREADS + threadIdx.x, row = unit / bytes;
  const int z = row / stack.rows, y = row % stack.rows;
  return {study, z, y, unit % bytes * PIXELS_AT_ONCE, own.first_slice * stack.rows * bytes + unit, z < own.shape[0]};
}

// Pixels that a study's window reaches to each side.
struct Reach {
  int y, x;
};

// Twelve bits of a mask's row: those of a byte, and two to both sides.
__device__ __forceinline__ unsigned twelve_bits(const unsigned char* mask, int at, int x, int columns) {
  const unsigned left = x > 0 ? mask[at - 1] : 0, right = x + PIXELS_AT_ONCE < columns ? mask[at + 1] : 0;
  return (left >> 6 | (unsigned)mask[at] << 2 | right << 10) & 0xfff;
}

// For each of eight pixels, over the mask's pixels in its window: the sum of HU above AIR_HU, and, from bit 16 on,
// how many there are.
__device__ __forceinline__ void window_sums(const Volume& own, const unsigned char* mask, int words, const Bytes& place,
                                            const Reach& reach, int* sums) {
  const int columns = words * WORD_BITS, bytes = columns / PIXELS_AT_ONCE;
  const short* slice = global(static_cast<const short*>(own.voxels)) + place.z * own.strides[0];
  int of_columns[COLUMNS];
#pragma unroll
  for (int i = 0; i < COLUMNS; ++i) {
    of_columns[i] = 0;
  }
  for (int y = max(place.y - reach.y, 0); y <= min(place.y + reach.y, own.shape[1] - 1); ++y) {
    const unsigned bits = twelve_bits(mask, place.at + (y - place.y) * bytes, place.x, columns);
    if (bits == 0) {
      continue;
    }
    const short* row = slice + y * own.strides[1];
#pragma unroll
    for (int i = 0; i < COLUMNS; ++i) {
      if ((bits >> i & 1) != 0) {
        const int x = place.x + i - MOST_REACH;
        const int hu = x < own.shape[2] ? row[x * own.strides[2]] : 0;
        of_columns[i] += (1 << COUNT_SHIFT) + max(min(hu, CAP_HU), AIR_HU) - AIR_HU;
      }
    }
  }
#pragma unroll
  for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
    sums[i] = of_columns[i + MOST_REACH];
#pragma unroll
    for (int aside = 1; aside <= MOST_REACH; ++aside) {
      sums[i] += aside <= reach.x ? of_columns[i + MOST_REACH - aside] + of_columns[i + MOST_REACH + aside] : 0;
    }
  }
}

// Bits of where the window mean exceeds levels, of each study and level one a row; a mask a level, level_bytes apart.
extern "C" __global__ void __launch_bounds__(THREADS)
    means_above(const Volume* __restrict__ table, const Stack* __restrict__ stack,
                const unsigned char* __restrict__ mask, const Reach* __restrict__ reaches,
                const short* __restrict__ levels, int n_levels, int64 level_bytes, unsigned char* __restrict__ out) {
  const Volume& own = row_of(table, stack->n_studies);
  const Bytes place = bytes_in(own, (int)(&own - table), *stack);
  if (!place.is_inside) {
    return;
  }
  int sums[PIXELS_AT_ONCE];
  window_sums(own, mask, stack->words, place, reaches[place.study], sums);
  for (int n = 0; n < n_levels; ++n) {
    const int level = (short)(levels[(place.study * n_levels + n) * stack->rows + place.y] - AIR_HU);
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
      const int pixels = sums[i] >> COUNT_SHIFT, sum = sums[i] & ((1 << COUNT_SHIFT) - 1);
      bits |= (unsigned)((short)(pixels * level - sum) < 0) << i;
    }
    out[n * level_bytes + place.at] = (unsigned char)bits;
  }
}

// Histograms of the window means of the mask's own pixels, of every other row of the frame and pixel, for each row of
// each study.
extern "C" __global__ void __launch_bounds__(THREADS, 3)
    means_histograms(const Volume* __restrict__ table, const Stack* __restrict__ stack,
                     const unsigned char* __restrict__ mask, const Reach* __restrict__ reaches,
                     int* __restrict__ counts) {
  const Volume& own = row_of(table, stack->n_studies);
  const Bytes place = bytes_in(own, (int)(&own - table), *stack);
  if (!place.is_inside || (place.y - stack->frames[place.study].y) % 2 != 0 || (mask[place.at] & 0x55) == 0) {
    return;
  }
  int sums[PIXELS_AT_ONCE];
  window_sums(own, mask, stack->words, place, reaches[place.study], sums);
  int* bins = counts + ((int64)place.study * stack->rows + place.y) * MEAN_BINS;
#pragma unroll
  for (int i = 0; i < PIXELS_AT_ONCE; i += 2) {
    if ((mask[place.at] >> i & 1) != 0) {
      const int pixels = sums[i] >> COUNT_SHIFT, sum = sums[i] & ((1 << COUNT_SHIFT) - 1);
      atomicAdd(bins + sum / (pixels * MEAN_BIN_HU), 1);
    }
  }
}

__device__ __forceinline__ word word_of(const word* row, int w, int words) { return w >= 0 && w < words ? row[w] : 0; }

// `count` < 64 bits of a row from column x on, which may lie beyond its ends.
__device__ __forceinline__ word bits_from(const word* row, int words, int x, int count) {
  const int w = x >> 6, shift = x & (WORD_BITS - 1);
  word bits = word_of(row, w, words) >> shift;
  if (shift + count > WORD_BITS) {
    bits |= word_of(row, w + 1, words) << (WORD_BITS - shift);
  }
  return bits & first_bits(count);
}

// Adds to each of eight sums `weight` times the pixels of a row within its window.
__device__ __forceinline__ void add_row(const word* row, int words, int x, int reach, int weight, int* sums) {
  const int wide = 2 * reach + 1, part = min(wide, WORD_BITS - 1);
  int pixels = __popcll(bits_from(row, words, x - reach, part));
  if (wide > part) {
    pixels += __popcll(bits_from(row, words, x - reach + part, wide - part));
  }
  const unsigned leave = (unsigned)bits_from(row, words, x - reach, PIXELS_AT_ONCE);
  const unsigned enter = (unsigned)bits_from(row, words, x + reach + 1, PIXELS_AT_ONCE);
#pragma unroll
  for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
    sums[i] += weight * pixels;
    pixels += (int)(enter >> i & 1) - (int)(leave >> i & 1);
  }
}

// Rows of a study: all of a slice, its first one, and one past its last.
struct Rows {
  int of_slice, first, stop;
};

// The same for a row and its neighbours in the slices below and above.
__device__ __forceinline__ void add_rows(const word* mask, int row, const Rows& rows, int words, int x, int reach,
                                         int sign, int* sums) {
  add_row(mask + row * words, words, x, reach, sign * CENTRE, sums);
  if (row - rows.of_slice >= rows.first) {
    add_row(mask + (row - rows.of_slice) * words, words, x, reach, sign, sums);
  }
  if (row + rows.of_slice < rows.stop) {
    add_row(mask + (row + rows.of_slice) * words, words, x, reach, sign, sums);
  }
}

// Where part fills more than tenths / 10 of the whole in its study's window; a thread goes down through some rows of a
// byte.
extern "C" __global__ void __launch_bounds__(THREADS)
    share_above(const Stack* __restrict__ stack, const word* __restrict__ part, const word* __restrict__ whole,
                int tenths, const Reach* __restrict__ reaches, unsigned char* __restrict__ out) {
  const int rows = stack->rows, words = stack->words, bytes = words * (WORD_BITS / PIXELS_AT_ONCE);
  const int parts = (rows + ROWS_OF_A_THREAD - 1) / ROWS_OF_A_THREAD;
  const int index = thread_index(), slice = index / bytes / parts, first_row = slice * rows;
  if (slice >= stack->slices) {
    return;
  }
  const int byte = index % bytes, x = byte * PIXELS_AT_ONCE;
  const int first = index / bytes % parts * ROWS_OF_A_THREAD, stop = min(first + ROWS_OF_A_THREAD, rows);
  const unsigned char* within = reinterpret_cast<const unsigned char*>(whole);
  unsigned any = 0;
  for (int y = first; y < stop; ++y) {
    any |= within[(first_row + y) * bytes + byte];
    out[(first_row + y) * bytes + byte] = 0;
  }
  if (any == 0) {
    return;
  }
  const int study = stack->study_of[slice], first_slice = stack->studies[study].first_slice;
  const Rows of_study = {rows, first_slice * rows, (first_slice + stack->studies[study].slices) * rows};
  const Reach reach = reaches[study];
  int of_part[PIXELS_AT_ONCE] = {0, 0, 0, 0, 0, 0, 0, 0}, of_whole[PIXELS_AT_ONCE] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll 1
  for (int y = first - reach.y; y < stop + reach.y; ++y) {  // the row that enters the window
    if (y >= 0 && y < rows) {
      add_rows(part, first_row + y, of_study, words, x, reach.x, 1, of_part);
      add_rows(whole, first_row + y, of_study, words, x, reach.x, 1, of_whole);
    }
    const int middle = y - reach.y, leaving = middle - reach.y;
    if (middle < first) {
      continue;
    }
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
      bits |= (unsigned)(tenths * (int)(unsigned short)of_whole[i] < 10 * (int)(unsigned short)of_part[i]) << i;
    }
    const int at = (first_row + middle) * bytes + byte;
    out[at] = (unsigned char)(bits & within[at]);
    if (leaving >= 0) {
      add_rows(part, first_row + leaving, of_study, words, x, reach.x, -1, of_part);
      add_rows(whole, first_row + leaving, of_study, words, x, reach.x, -1, of_whole);
    }
  }
}
