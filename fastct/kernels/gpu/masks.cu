// Masks as bit rows on a GPU: thresholds, labels, shapes and counts; a launch does all slices of a batch.
#include "table.h"
#include "bitrows.h"

const int PIXELS_AT_ONCE = 8;      // a thread packs a byte of the mask
const int WORDS_OF_A_THREAD = 16;  // that `count` looks at
const int COLUMN_ROWS = 63;        // what six bits can count

// Where a thread's byte of the mask lies.
struct Place {
  int byte;           // in the mask
  const void* voxel;  // the first of eight
  int pixels;         // of the byte that lie in the volume; -1 beyond its last row
};

template <class Voxel>
__device__ __forceinline__ Place place_in(const Volume& own, int words) {
  const int bytes = words * (WORD_BITS / PIXELS_AT_ONCE);
  const int unit = (int)(blockIdx.x - own.first_block) * THREADS + threadIdx.x, row = unit / bytes;
  const int x = unit % bytes * PIXELS_AT_ONCE, y = row % own.shape[1], z = row / own.shape[1];
  Place place;
  place.byte = own.first_slice * own.shape[1] * bytes + unit;
  place.voxel = global(static_cast<const Voxel*>(own.voxels)) + z * own.strides[0] + y * own.strides[1] +
                x * own.strides[2];
  place.pixels = max(min(own.shape[2] - x, PIXELS_AT_ONCE), 0);
  if (z >= own.shape[0]) {
    place.pixels = -1;
  }
  return place;
}

// Eight voxels side by side, or mirrored, in one access.
template <class Voxel>
struct alignas(PIXELS_AT_ONCE * sizeof(Voxel)) Eight {
  Voxel voxels[PIXELS_AT_ONCE];
};

// The pixels of a byte; those beyond the volume are `fill`.
template <class Voxel>
__device__ __forceinline__ void load_pixels(const Place& place, int64 stride, Voxel fill, Voxel* pixels) {
  const Voxel* from = static_cast<const Voxel*>(place.voxel);
  const Voxel* lowest = stride < 0 ? from - (PIXELS_AT_ONCE - 1) : from;
  const bool is_wide = (stride == 1 || stride == -1) && place.pixels == PIXELS_AT_ONCE;
  if (is_wide && reinterpret_cast<uint64>(lowest) % sizeof(Eight<Voxel>) == 0) {
    const Eight<Voxel> eight = *reinterpret_cast<const Eight<Voxel>*>(lowest);
#pragma unroll
    for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
      pixels[i] = stride < 0 ? eight.voxels[PIXELS_AT_ONCE - 1 - i] : eight.voxels[i];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
    pixels[i] = i < place.pixels ? from[i * stride] : fill;
  }
}

// Bits of where HU lie below each level; pixels that pad a row count as air. Levels are `level_bytes` apart.
extern "C" __global__ void __launch_bounds__(THREADS)
    pack_below(const Volume* __restrict__ table, int count, const short* __restrict__ levels, int n_levels, int words,
               int64 level_bytes, unsigned char* __restrict__ out) {
  const Volume& own = row_of(table, count);
  const Place place = place_in<short>(own, words);
  if (place.pixels < 0) {
    return;
  }
  short pixels[PIXELS_AT_ONCE];
  load_pixels<short>(place, own.strides[2], -32768, pixels);
  for (int n = 0; n < n_levels; ++n) {
    const int level = levels[n];
    unsigned bits = 0;
#pragma unroll
    for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
      bits |= (unsigned)(pixels[i] < level) << i;
    }
    out[n * level_bytes + place.byte] = (unsigned char)bits;
  }
}

// Bits of where labels are `label`, or, for 0, anything but 0; pixels that pad a row are never set.
extern "C" __global__ void __launch_bounds__(THREADS)
    pack_label(const Volume* __restrict__ table, int count, int label, int words, unsigned char* __restrict__ out) {
  const Volume& own = row_of(table, count);
  const Place place = place_in<unsigned char>(own, words);
  if (place.pixels < 0) {
    return;
  }
  unsigned char pixels[PIXELS_AT_ONCE];
  load_pixels<unsigned char>(place, own.strides[2], (unsigned char)(label ? label - 1 : 0), pixels);
  unsigned bits = 0;
#pragma unroll
  for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
    bits |= (unsigned)((pixels[i] == label) == (label != 0)) << i;
  }
  out[place.byte] = (unsigned char)bits;
}

// Writes a label into the volume where the mask is set.
extern "C" __global__ void __launch_bounds__(THREADS)
    unpack_label(const Volume* __restrict__ table, int count, int label, int words,
                 const unsigned char* __restrict__ mask) {
  const Volume& own = row_of(table, count);
  const Place place = place_in<unsigned char>(own, words);
  if (place.pixels <= 0) {
    return;
  }
  const unsigned bits = mask[place.byte];
  unsigned char* to = static_cast<unsigned char*>(const_cast<void*>(place.voxel));
#pragma unroll
  for (int i = 0; i < PIXELS_AT_ONCE; ++i) {
    if (i < place.pixels && (bits >> i & 1) != 0) {
      to[i * own.strides[2]] = (unsigned char)label;
    }
  }
}

// A word of a slice, or what stands for it outside: an erosion is a dilation of what is not set.
template <bool IS_DILATION>
__device__ __forceinline__ word word_at(const word* row, int w, int words) {
  const word bits = w >= 0 && w < words ? row[w] : 0;
  return IS_DILATION ? bits : ~bits;
}

// Each slice grown or shrunk by a shape: a row `dy` from its middle reaches half_widths[|dy|] pixels to both
// sides, none where that is negative. Shapes of slices are `shape_step` apart (0: one for all).
template <bool IS_DILATION>
__device__ __forceinline__ void move_border(const word* __restrict__ mask, const int* __restrict__ half_widths,
                                            int shape_rows, int shape_step, int rows, int words, int n,
                                            word* __restrict__ out) {
  const int index = thread_index();
  if (index >= n) {
    return;
  }
  const int row = index / words;
  const int w = index % words, y = row % rows;
  const int* half_width = half_widths + row / rows * shape_step;
  word sum = 0;
  for (int dy = 1 - shape_rows; dy < shape_rows; ++dy) {
    const int reach = half_width[dy < 0 ? -dy : dy];
    if (reach < 0) {
      continue;
    }
    if (y + dy < 0 || y + dy >= rows) {
      sum |= IS_DILATION ? 0 : ~(word)0;
      continue;
    }
    const word* from = mask + (row + dy) * words;
    sum |= smear(word_at<IS_DILATION>(from, w - 1, words), word_at<IS_DILATION>(from, w, words),
                 word_at<IS_DILATION>(from, w + 1, words), reach);
  }
  out[index] = IS_DILATION ? sum : ~sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dilate(const word* __restrict__ mask, const int* __restrict__ half_widths, int shape_rows, int shape_step, int rows,
           int words, int n, word* __restrict__ out) {
  move_border<true>(mask, half_widths, shape_rows, shape_step, rows, words, n, out);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    erode(const word* __restrict__ mask, const int* __restrict__ half_widths, int shape_rows, int shape_step, int rows,
          int words, int n, word* __restrict__ out) {
  move_border<false>(mask, half_widths, shape_rows, shape_step, rows, words, n, out);
}

// Set pixels of each slice; a slice takes `parts` blocks.
extern "C" __global__ void __launch_bounds__(THREADS)
    count(const word* __restrict__ mask, int plane, int parts, uint64* __restrict__ counts) {
  const int slice = blockIdx.x / parts, start = blockIdx.x % parts * (THREADS * WORDS_OF_A_THREAD) + threadIdx.x;
  const word* from = mask + slice * plane;
  int sum = 0;
#pragma unroll
  for (int k = 0; k < WORDS_OF_A_THREAD; ++k) {
    const int at = start + k * THREADS;
    sum += at < plane ? __popcll(from[at]) : 0;
  }
  if (sum != 0) {
    atomicAdd(counts + slice, (uint64)sum);
  }
}

// Set pixels of each column: a thread adds up 63 rows of a word, all 64 columns at once, in six binary digits.
extern "C" __global__ void __launch_bounds__(THREADS)
    column_counts(const word* __restrict__ mask, int rows, int words, uint64* __restrict__ counts) {
  const int index = thread_index();
  const int first = index / words * COLUMN_ROWS, stop = min(first + COLUMN_ROWS, rows);
  const int w = index % words;
  word ones = 0, twos = 0, fours = 0, eights = 0, sixteens = 0, rest = 0;
  for (int row = first; row < stop; ++row) {
    word carry = mask[row * words + w], kept;
    kept = ones & carry, ones ^= carry, carry = kept;
    kept = twos & carry, twos ^= carry, carry = kept;
    kept = fours & carry, fours ^= carry, carry = kept;
    kept = eights & carry, eights ^= carry, carry = kept;
    kept = sixteens & carry, sixteens ^= carry, carry = kept;
    rest ^= carry;
  }
  for (word any = ones | twos | fours | eights | sixteens | rest; any != 0; any &= any - 1) {
    const int x = lowest_bit(any);
    const word sum = (ones >> x & 1) + 2 * (twos >> x & 1) + 4 * (fours >> x & 1) + 8 * (eights >> x & 1) +
                     16 * (sixteens >> x & 1) + 32 * (rest >> x & 1);
    atomicAdd(counts + (w * WORD_BITS + x), (uint64)sum);
  }
}

// Marks the rows, and after them the words of a row, that hold a pixel in any slice.
extern "C" __global__ void __launch_bounds__(THREADS)
    occupied(const word* __restrict__ mask, int rows, int words, int n, unsigned char* __restrict__ marks) {
  const int index = thread_index();
  if (index < n && mask[index] != 0) {
    marks[index / words % rows] = 1;
    marks[rows + index % words] = 1;
  }
}

// What is set in a slice or in any before it (or after it, if `is_down`).
extern "C" __global__ void __launch_bounds__(THREADS)
    accumulate(const word* __restrict__ mask, int slices, int plane, int is_down, word* __restrict__ out) {
  const int index = thread_index();
  if (index >= plane) {
    return;
  }
  word sum = 0;
  for (int k = 0; k < slices; ++k) {
    const int at = (is_down ? slices - 1 - k : k) * plane + index;
    sum |= mask[at];
    out[at] = sum;
  }
}
