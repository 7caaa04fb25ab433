// Masks as bit rows on a GPU: thresholds, labels, shapes and counts; a launch does all slices of a batch.
#include "table.h"
#include "bitrows.h"
#include "stack.h"

const int PIXELS_AT_ONCE = 8;      // a thread packs a byte of the mask
const int WORDS_OF_A_THREAD = 16;  // that `count` looks at
const int COLUMN_ROWS = 63;        // what six bits can count

// Where a thread's byte of the mask lies.
struct Place {
  int byte;           // in the mask
  const void* voxel;  // the first of eight
  int pixels;         // of the byte that lie in the volume; -1 beyond its last slice
};

template <class Voxel>
__device__ __forceinline__ Place place_in(const Volume& own, int rows, int words) {
  const int bytes = words * (WORD_BITS / PIXELS_AT_ONCE);
  const int unit = (int)(blockIdx.x - own.first_block) * THREADS + threadIdx.x, row = unit / bytes;
  const int x = unit % bytes * PIXELS_AT_ONCE, y = row % rows, z = row / rows;
  Place place;
  place.byte = own.first_slice * rows * bytes + unit;
  place.voxel = global(static_cast<const Voxel*>(own.voxels)) + z * own.strides[0] + y * own.strides[1] +
                x * own.strides[2];
  place.pixels = y < own.shape[1] ? max(min(own.shape[2] - x, PIXELS_AT_ONCE), 0) : 0;
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
    pack_below(const Volume* __restrict__ table, int count, const short* __restrict__ levels, int n_levels, int rows,
               int words, int64 level_bytes, unsigned char* __restrict__ out) {
  const Volume& own = row_of(table, count);
  const Place place = place_in<short>(own, rows, words);
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
    pack_label(const Volume* __restrict__ table, int count, int label, int rows, int words,
               unsigned char* __restrict__ out) {
  const Volume& own = row_of(table, count);
  const Place place = place_in<unsigned char>(own, rows, words);
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
    unpack_label(const Volume* __restrict__ table, int count, int label, int rows, int words,
                 const unsigned char* __restrict__ mask) {
  const Volume& own = row_of(table, count);
  const Place place = place_in<unsigned char>(own, rows, words);
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

// A word of a row, or what stands for it outside of its frame: an erosion is a dilation of what is not set.
template <bool IS_DILATION>
__device__ __forceinline__ word word_at(const word* row, int w, const Frame& frame) {
  const word bits = w >= frame.w && w < frame.w_stop ? row[w] : 0;
  return IS_DILATION ? bits : ~bits;
}

// Each slice grown or shrunk by its study's shape: a row `dy` from its middle reaches half_widths[|dy|] pixels to
// both sides, none where that is negative. Beyond its frame is nothing, and nothing grows there.
template <bool IS_DILATION>
__device__ __forceinline__ void move_border(const word* __restrict__ mask, const Stack& stack,
                                            const int* __restrict__ half_widths, int shape_rows,
                                            word* __restrict__ out) {
  const Spot spot = spot_of(stack);
  if (spot.study < 0) {
    return;
  }
  if (!spot.is_inside) {
    out[spot.at] = 0;
    return;
  }
  const int* half_width = half_widths + spot.study * shape_rows;
  const word* row = mask + (spot.at - spot.w);
  word sum = 0;
  for (int dy = 1 - shape_rows; dy < shape_rows; ++dy) {
    const int reach = half_width[dy < 0 ? -dy : dy];
    if (reach < 0) {
      continue;
    }
    if (spot.y + dy < spot.frame.y || spot.y + dy >= spot.frame.y_stop) {
      sum |= IS_DILATION ? 0 : ~(word)0;
      continue;
    }
    const word* from = row + dy * stack.words;
    sum |= smear(word_at<IS_DILATION>(from, spot.w - 1, spot.frame), word_at<IS_DILATION>(from, spot.w, spot.frame),
                 word_at<IS_DILATION>(from, spot.w + 1, spot.frame), reach);
  }
  out[spot.at] = IS_DILATION ? sum : ~sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    dilate(const Stack* __restrict__ stack, const word* __restrict__ mask, const int* __restrict__ half_widths,
           int shape_rows, word* __restrict__ out) {
  move_border<true>(mask, *stack, half_widths, shape_rows, out);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    erode(const Stack* __restrict__ stack, const word* __restrict__ mask, const int* __restrict__ half_widths,
          int shape_rows, word* __restrict__ out) {
  move_border<false>(mask, *stack, half_widths, shape_rows, out);
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

// Set pixels of each study's columns: a thread adds up some rows of a word in a slice, all 64 columns at once, in
// six binary digits. A slice takes `parts` threads a word.
extern "C" __global__ void __launch_bounds__(THREADS)
    column_counts(const Stack* __restrict__ stack, const word* __restrict__ mask, int parts,
                  uint64* __restrict__ counts) {
  const int index = thread_index(), words = stack->words, rows = stack->rows;
  const int w = index % words, slice = index / words / parts;
  if (slice >= stack->slices) {
    return;
  }
  const int first = index / words % parts * COLUMN_ROWS, stop = min(first + COLUMN_ROWS, rows);
  word ones = 0, twos = 0, fours = 0, eights = 0, sixteens = 0, rest = 0;
  for (int row = first; row < stop; ++row) {
    word carry = mask[(slice * rows + row) * words + w], kept;
    kept = ones & carry, ones ^= carry, carry = kept;
    kept = twos & carry, twos ^= carry, carry = kept;
    kept = fours & carry, fours ^= carry, carry = kept;
    kept = eights & carry, eights ^= carry, carry = kept;
    kept = sixteens & carry, sixteens ^= carry, carry = kept;
    rest ^= carry;
  }
  uint64* own = counts + (int64)stack->study_of[slice] * words * WORD_BITS + w * WORD_BITS;
  for (word any = ones | twos | fours | eights | sixteens | rest; any != 0; any &= any - 1) {
    const int x = lowest_bit(any);
    const word sum = (ones >> x & 1) + 2 * (twos >> x & 1) + 4 * (fours >> x & 1) + 8 * (eights >> x & 1) +
                     16 * (sixteens >> x & 1) + 32 * (rest >> x & 1);
    atomicAdd(own + x, (uint64)sum);
  }
}

// Marks the rows, and after them the words of a row, that hold a pixel in any slice of a study.
extern "C" __global__ void __launch_bounds__(THREADS)
    occupied(const Stack* __restrict__ stack, const word* __restrict__ mask, unsigned char* __restrict__ marks) {
  const Spot spot = spot_of(*stack);
  if (spot.is_inside && mask[spot.at] != 0) {
    unsigned char* own = marks + spot.study * (stack->rows + stack->words);
    own[spot.y] = 1;
    own[stack->rows + spot.w] = 1;
  }
}

// The first place that is marked, and one past the last; (0, 0) for none.
__device__ __forceinline__ void find_ends(const unsigned char* marks, int n, int* first, int* stop) {
  *first = *stop = 0;
  for (int i = 0; i < n; ++i) {
    if (marks[i] != 0) {
      *first = *stop == 0 ? i : *first;
      *stop = i + 1;
    }
  }
}

// The frames about what is marked, a thread a study.
extern "C" __global__ void __launch_bounds__(THREADS)
    bounds(const Stack* __restrict__ stack, const unsigned char* __restrict__ marks, Frame* __restrict__ frames) {
  const int study = thread_index();
  if (study >= stack->n_studies) {
    return;
  }
  const unsigned char* own = marks + study * (stack->rows + stack->words);
  Frame found;
  find_ends(own, stack->rows, &found.y, &found.y_stop);
  find_ends(own + stack->rows, stack->words, &found.w, &found.w_stop);
  frames[study] = found;
}

// What of a mask lies in the frames.
extern "C" __global__ void __launch_bounds__(THREADS)
    within_frames(const Stack* __restrict__ stack, const word* __restrict__ mask, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study >= 0) {
    out[spot.at] = spot.is_inside ? mask[spot.at] : 0;
  }
}

// What is set in a slice of a study or in any before it (or after it, if `is_down`); a block has words of one study.
extern "C" __global__ void __launch_bounds__(THREADS)
    accumulate(const Stack* __restrict__ stack, const word* __restrict__ mask, int parts, int is_down,
               word* __restrict__ out) {
  const int plane = stack->rows * stack->words, index = blockIdx.x % parts * THREADS + threadIdx.x;
  if (index >= plane) {
    return;
  }
  const Study own = stack->studies[blockIdx.x / parts];
  word sum = 0;
  for (int k = 0; k < own.slices; ++k) {
    const int at = (own.first_slice + (is_down ? own.slices - 1 - k : k)) * plane + index;
    sum |= mask[at];
    out[at] = sum;
  }
}
