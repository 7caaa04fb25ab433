// Convex hulls of both lungs on a GPU, slice by slice, and those of their chords that face the mediastinum.
#include "table.h"
#include "bitrows.h"
#include "stack.h"

// Of a row of a slice: first and last column that either lung holds (-1 if none), and which lungs it holds.
struct Extent {
  int first, last, has_right, has_left;
};

// Of a row within the hull: its first and last column, and whether the chords from here to the next row cross.
struct Span {
  int first, last, low_crosses, high_crosses;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    hull_extents(const word* __restrict__ right, const word* __restrict__ left, int words, int rows,
                 Extent* __restrict__ extents) {
  const int row = thread_index();
  if (row >= rows) {
    return;
  }
  Extent extent = {-1, -1, 0, 0};
  for (int w = 0; w < words; ++w) {
    const word of_right = right[row * words + w], of_left = left[row * words + w], any = of_right | of_left;
    extent.has_right |= of_right != 0;
    extent.has_left |= of_left != 0;
    if (any != 0) {
      extent.first = extent.first < 0 ? w * WORD_BITS + lowest_bit(any) : extent.first;
      extent.last = w * WORD_BITS + WORD_BITS - 1 - __clzll((int64)any);
    }
  }
  extents[row] = extent;
}

// One side of a slice's hull, which one thread draws.
struct Side {
  const Extent* extents;
  Span* spans;
  int* chain;  // rows of its corners
  const word* right;
  int words;
  bool is_low;  // towards small columns

  __device__ __forceinline__ int column(int y) const { return is_low ? extents[y].first : extents[y].last; }
  __device__ __forceinline__ bool is_of_right(int y) const {
    const int x = column(y);
    return (right[y * words + x / WORD_BITS] >> x % WORD_BITS & 1) != 0;
  }
  __device__ __forceinline__ void set_column(int y, int x) { (is_low ? spans[y].first : spans[y].last) = x; }
  __device__ __forceinline__ void set_crosses(int y, bool crosses) {
    (is_low ? spans[y].low_crosses : spans[y].high_crosses) = crosses;
  }

  // Whether the corner b lies outside of the line from a to c.
  __device__ __forceinline__ bool bends_out(int a, int b, int c) const {
    const int64 turn = (int64)(column(b) - column(a)) * (c - a) - (int64)(column(c) - column(a)) * (b - a);
    return is_low ? turn < 0 : turn > 0;
  }

  // The corners, along y; returns how many.
  __device__ __forceinline__ int find_corners(int rows) {
    int n = 0;
    for (int y = 0; y < rows; ++y) {
      if (extents[y].first < 0) {
        continue;
      }
      while (n > 1 && !bends_out(chain[n - 2], chain[n - 1], y)) {
        --n;
      }
      chain[n++] = y;
    }
    return n;
  }

  // The columns from corner to corner, rounded to the inside of the hull.
  __device__ __forceinline__ void walk(int a, int b, bool crosses) {
    const int height = b - a, width = column(b) - column(a);
    for (int y = a; y <= b; ++y) {
      const int64 rise = (int64)width * (y - a) + (is_low ? height - 1 : 0);
      set_column(y, column(a) + (int)(rise >= 0 ? rise / height : -((-rise + height - 1) / height)));
      set_crosses(y, crosses && y < b);
    }
  }
};

// Threads 2 z and 2 z + 1 draw the low and the high side of slice z. `ends` are its first and last row, (-1, -1)
// where there is no hull; `chains` hold a row a side.
extern "C" __global__ void __launch_bounds__(THREADS)
    hull_sides(const Extent* __restrict__ extents, const word* __restrict__ right, int slices, int rows, int words,
               int* __restrict__ chains, Span* __restrict__ spans, int* __restrict__ ends) {
  const int index = thread_index();
  if (index >= 2 * slices) {
    return;
  }
  const int z = index / 2;
  Side side = {extents + z * rows, spans + z * rows, chains + index * rows, right + z * rows * words, words,
               index % 2 == 0};
  bool has_right = false, has_left = false;
  for (int y = 0; y < rows; ++y) {
    has_right |= side.extents[y].has_right != 0;
    has_left |= side.extents[y].has_left != 0;
  }
  const int corners = side.find_corners(rows);
  // Where one lung stands alone, all of its inner side faces the mediastinum.
  const bool all_cross = side.is_low ? !has_right : !has_left;
  for (int i = 0; i + 1 < corners; ++i) {
    const int a = side.chain[i], b = side.chain[i + 1];
    side.walk(a, b, all_cross || side.is_of_right(a) != side.is_of_right(b));
  }
  if (side.is_low) {
    ends[2 * z] = corners > 1 ? side.chain[0] : -1;
    ends[2 * z + 1] = corners > 1 ? side.chain[corners - 1] : -1;
  }
}

// The bits of word w from column `from` to column `to`, both included.
__device__ __forceinline__ word span_bits(int from, int to, int w) {
  const int first = max(from - w * WORD_BITS, 0), last = min(to - w * WORD_BITS, WORD_BITS - 1);
  if (first > last) {
    return 0;
  }
  return ~(word)0 >> (WORD_BITS - 1 - last) & ~first_bits(first);
}

// Bits of word w on the way from a column of one row to that of the next.
__device__ __forceinline__ word step_bits(int from, int to, int w) {
  return span_bits(min(from, to), max(from, to), w);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    hull_draw(const Span* __restrict__ spans, const int* __restrict__ ends, const word* __restrict__ right, int rows,
              int words, int n, word* __restrict__ inside, word* __restrict__ chords) {
  const int at = thread_index();
  if (at >= n) {
    return;
  }
  const int row = at / words, z = row / rows;
  const int w = at % words, y = row % rows, first = ends[2 * z], last = ends[2 * z + 1];
  word within = 0, marked = 0;
  if (first >= 0 && y >= first && y <= last) {
    const Span own = spans[row];
    within = span_bits(own.first, own.last, w);
    if (y < last) {
      const Span next = spans[row + 1];
      marked |= own.low_crosses != 0 ? step_bits(own.first, next.first, w) : 0;
      marked |= own.high_crosses != 0 ? step_bits(own.last, next.last, w) : 0;
    }
    if (y > first) {
      const Span before = spans[row - 1];
      marked |= before.low_crosses != 0 ? step_bits(before.first, own.first, w) : 0;
      marked |= before.high_crosses != 0 ? step_bits(before.last, own.last, w) : 0;
    }
    if (y == first || y == last) {  // this chord runs along the row
      const word* bits = right + row * words;
      const bool low = (bits[own.first / WORD_BITS] >> own.first % WORD_BITS & 1) != 0;
      const bool high = (bits[own.last / WORD_BITS] >> own.last % WORD_BITS & 1) != 0;
      marked |= low != high ? within : 0;
    }
  }
  inside[at] = within;
  chords[at] = marked & within;
}

// A direction in whole numbers: what a pixel along y, and along x, adds to a height.
struct Direction {
  int y, x;
};

const int64 NO_HEIGHT = -(1LL << 40);  // of an empty slice

// How far each slice reaches in each of its study's directions, a thread each.
extern "C" __global__ void __launch_bounds__(THREADS)
    outline_heights(const Stack* __restrict__ stack, const Extent* __restrict__ extents,
                    const Direction* __restrict__ directions, int n, int64* __restrict__ heights) {
  const int index = thread_index(), slice = index / n;
  if (slice >= stack->slices) {
    return;
  }
  const Direction own = directions[stack->study_of[slice] * n + index % n];
  const Extent* rows = extents + slice * stack->rows;
  int64 height = NO_HEIGHT;
  for (int y = 0; y < stack->rows; ++y) {
    const Extent row = rows[y];
    if (row.first >= 0) {
      const int64 along = max((int64)row.first * own.x, (int64)row.last * own.x);
      height = max(height, (int64)y * own.y + along);
    }
  }
  heights[index] = height;
}

__device__ __forceinline__ int64 floor_ratio(int64 part, int64 whole) { return part / whole - (part % whole < 0); }

// How far a study's slices below and above are looked at, and in what steps.
struct Reach {
  int step, most;
};

// Heights of which none lies below the line between any two slices of the study on both sides of it.
extern "C" __global__ void __launch_bounds__(THREADS)
    outline_raise(const Stack* __restrict__ stack, const int64* __restrict__ heights, int n,
                  const Reach* __restrict__ reaches, int64* __restrict__ raised) {
  const int index = thread_index(), slice = index / n;
  if (slice >= stack->slices) {
    return;
  }
  const int study = stack->study_of[slice];
  const Study own = stack->studies[study];
  const Reach reach = reaches[study];
  const int low = slice - own.first_slice, high = own.slices - 1 - low;
  int64 height = heights[index];
  for (int below = reach.step; below <= min(reach.most, low); below += reach.step) {
    for (int above = reach.step; above <= min(reach.most, high); above += reach.step) {
      const int64 line = heights[index - (int64)below * n] * above + heights[index + (int64)above * n] * below;
      height = max(height, floor_ratio(line, below + above));
    }
  }
  raised[index] = height;
}

// The pixels of each slice's frame that lie no higher than its height in any direction; a thread draws a row.
extern "C" __global__ void __launch_bounds__(THREADS)
    outline_draw(const Stack* __restrict__ stack, const int64* __restrict__ heights,
                 const Direction* __restrict__ directions, int n, word* __restrict__ out) {
  const int row = thread_index(), slice = row / stack->rows, y = row % stack->rows;
  if (slice >= stack->slices) {
    return;
  }
  const int study = stack->study_of[slice];
  const Frame frame = stack->frames[study];
  const int64* own = heights + (int64)slice * n;
  int64 first = frame.w * WORD_BITS, last = y < frame.y || y >= frame.y_stop ? -1 : frame.w_stop * WORD_BITS - 1;
  for (int d = 0; d < n; ++d) {
    const Direction direction = directions[study * n + d];
    const int64 rest = own[d] - (int64)y * direction.y, step = direction.x;
    if (step > 0) {
      last = min(last, floor_ratio(rest, step));
    } else if (step < 0) {
      first = max(first, -floor_ratio(rest, -step));
    } else if (rest < 0) {
      last = -1;
    }
  }
  for (int w = 0; w < stack->words; ++w) {
    out[row * stack->words + w] = first <= last ? span_bits((int)first, (int)last, w) : 0;
  }
}
