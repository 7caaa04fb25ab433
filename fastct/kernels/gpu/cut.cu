// The cheapest way down through a slice on a GPU: a block for each cut, its threads side by side in a row.
#include "table.h"
#include "bitrows.h"
#include "stack.h"
#include "pieces.h"

const int REACH = 2;          // pixels that a cut may move sideways from row to row
const int STEP = 20;          // what a pixel sideways costs, in HU
const int MOST_COLUMNS = 2048;
const int FLOOR_HU = -1024, MOST_AIR = 1100;
const int TOO_DEAR = 0x7fffffff / 2;  // beyond both ends lie columns that no path can afford

// A cut to be made; kernels/gpu/masks.py writes the same fields in the same order.
struct Cut {
  const void* hu;    // of the slice
  word* mask;        // of the slice
  int64 strides[2];  // of the HU, in voxels: rows, pixels
  int rows[2];       // first, and one past the last
  int first_column, columns;
};
static_assert(sizeof(Cut) == 48, "kernels/gpu/masks.py counts on this");

// What it costs to cut a pixel that is set: the more the more air it holds.
__device__ __forceinline__ int air_at(const Cut& own, int words, int y, int x) {
  if ((own.mask[(int64)y * words + x / WORD_BITS] >> x % WORD_BITS & 1) == 0) {
    return 0;
  }
  const int hu = global(static_cast<const short*>(own.hu))[y * own.strides[0] + x * own.strides[1]];
  return MOST_AIR - max(0, min(hu - FLOOR_HU, MOST_AIR));
}

// Clears in each row the columns from the path's own to that of the next row: what it parts is not connected.
__device__ __forceinline__ void clear_path(const Cut& own, int words, const signed char* steps, int column) {
  int next = column;
  for (int y = own.rows[1] - 1; y >= own.rows[0]; --y) {
    for (int x = own.first_column + min(column, next); x <= own.first_column + max(column, next); ++x) {
      own.mask[(int64)y * words + x / WORD_BITS] &= ~((word)1 << x % WORD_BITS);
    }
    next = column;
    column += steps[(int64)(y - own.rows[0]) * own.columns + column];
  }
}

// Cuts a slice where it is cheapest; all threads of a block work on it.
__device__ __forceinline__ void cut_slice(const Cut& own, const int* drift, int words, signed char* steps) {
  __shared__ int costs[2][MOST_COLUMNS + 2 * REACH];
  for (int i = threadIdx.x; i < own.columns + 2 * REACH; i += THREADS) {
    costs[0][i] = i < REACH || i >= own.columns + REACH ? TOO_DEAR : 0;
    costs[1][i] = TOO_DEAR;
  }
  __syncthreads();
  for (int y = own.rows[0]; y < own.rows[1]; ++y) {
    const int* before = costs[(y - own.rows[0]) % 2] + REACH;
    int* now = costs[(y - own.rows[0] + 1) % 2] + REACH;
    for (int i = threadIdx.x; i < own.columns; i += THREADS) {
      int best = before[i], from = 0;
#pragma unroll
      for (int aside = 1; aside <= REACH; ++aside) {
        const int low = before[i - aside] + aside * STEP, high = before[i + aside] + aside * STEP;
        from = low < best ? -aside : from;
        best = min(best, low);
        from = high < best ? aside : from;
        best = min(best, high);
      }
      steps[(int64)(y - own.rows[0]) * own.columns + i] = (signed char)from;
      now[i] = best + drift[i] + air_at(own, words, y, own.first_column + i);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    const int* last = costs[(own.rows[1] - own.rows[0]) % 2] + REACH;
    int cheapest = 0;
    for (int i = 1; i < own.columns; ++i) {
      cheapest = last[i] < last[cheapest] ? i : cheapest;
    }
    clear_path(own, words, steps, cheapest);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
    cut_slices(const Cut* __restrict__ cuts, const int* __restrict__ drift, int words, int64 steps_of_a_cut,
               signed char* __restrict__ all_steps) {
  cut_slice(cuts[blockIdx.x], drift, words, all_steps + blockIdx.x * steps_of_a_cut);
}

// Cuts pieces apart, one after another in a slice, a block a slice. `reaches` says for each study how many columns to
// both sides of its midline a cut looks at, `drifts` what it pays there, from the farthest on the right to the left.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    cut_pieces(const Volume* __restrict__ table, const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
               const unsigned char* __restrict__ wanted, const int* __restrict__ middles,
               const int* __restrict__ reaches, const int* __restrict__ drifts, int most_columns,
               word* __restrict__ mask, signed char* __restrict__ all_steps) {
  const int slice = blockIdx.x, study = stack->study_of[slice];
  const Volume& own = table[study];
  const Frame frame = stack->frames[study];
  const int last = first_of(*pieces, *stack, slice + 1);
  for (int piece = first_of(*pieces, *stack, slice); piece < last; ++piece) {
    if (wanted[piece] == 0) {
      continue;
    }
    const int64* measures = measures_of(*pieces, piece);
    const int middle = middles[study], reach = reaches[study], first = max(middle - reach, frame.w * WORD_BITS);
    Cut cut;
    cut.hu = static_cast<const short*>(own.voxels) + (slice - own.first_slice) * own.strides[0];
    cut.mask = mask + (int64)slice * stack->rows * stack->words;
    cut.strides[0] = own.strides[1];
    cut.strides[1] = own.strides[2];
    cut.rows[0] = (int)measures[2];
    cut.rows[1] = (int)measures[3];
    cut.first_column = first;
    cut.columns = min(middle + reach + 1, min(frame.w_stop * WORD_BITS, own.shape[2])) - first;
    const int* drift = drifts + study * most_columns + first - (middle - reach);
    cut_slice(cut, drift, stack->words, all_steps + (int64)slice * stack->rows * most_columns);
    __syncthreads();
  }
}
