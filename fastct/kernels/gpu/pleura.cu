// What is drawn into sick lungs on a GPU: lesions told apart from hila, heart, diaphragm and mediastinum.
#include "table.h"
#include "bitrows.h"
#include "stack.h"
#include "pieces.h"
#include "pairs.h"

// The first and the last slice of each study that hold pixels, counted from its first one; (-1, -1) for none.
struct Ends {
  int first, last;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    slice_ends(const Stack* __restrict__ stack, const int64* __restrict__ counts, Ends* __restrict__ ends) {
  const int study = thread_index();
  if (study >= stack->n_studies) {
    return;
  }
  const Study own = stack->studies[study];
  Ends found = {-1, -1};
  for (int z = 0; z < own.slices; ++z) {
    if (counts[own.first_slice + z] != 0) {
      found.first = found.first < 0 ? z : found.first;
      found.last = z;
    }
  }
  ends[study] = found;
}

// Where a heart is looked for; fastct/gpu/pleura.py writes the same fields in the same order.
struct HeartTerms {
  double y_mm, heart_mm, top_share, bridge_slices;
};

// Rows of a frame that lie behind the heart.
__device__ __forceinline__ int back_rows(const Frame& frame, const HeartTerms& own) {
  const double back = (double)(frame.y_stop - frame.y - 1) / 2.0 - own.heart_mm / own.y_mm;
  return (int)max(back, 0.0);
}

// Where tissue between left lung below and left lung above may be the heart.
extern "C" __global__ void __launch_bounds__(THREADS)
    draw_heart_zone(const Stack* __restrict__ stack, const word* __restrict__ left, const Ends* __restrict__ ends,
                    const double* __restrict__ centres, const HeartTerms* __restrict__ terms,
                    word* __restrict__ zone) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  zone[spot.at] = 0;
  const HeartTerms own = terms[spot.study];
  const Ends held = ends[spot.study];
  const Study study = stack->studies[spot.study];
  const int z = spot.slice - study.first_slice, plane = stack->rows * stack->words;
  const int top = held.first + (int)(own.top_share * (double)(held.last - held.first)) + 1;
  if (!spot.is_inside || held.first < 0 || z >= top || spot.y - spot.frame.y < back_rows(spot.frame, own)) {
    return;
  }
  word below = left[spot.at], above = below, side = 0;
  const int steps = min((int)own.bridge_slices, study.slices - 1);
  for (int step = 1; step <= steps; ++step) {
    below |= z >= step ? left[spot.at - step * plane] : 0;
    above |= z + step < study.slices ? left[spot.at + step * plane] : 0;
  }
  for (int i = 0; i < WORD_BITS; ++i) {
    side |= (word)((double)((spot.w - spot.frame.w) * WORD_BITS + i) >= centres[spot.study]) << i;
  }
  zone[spot.at] = side & ~(below & above);
}

// Of a mask, behind the heart, what is not set in another.
extern "C" __global__ void __launch_bounds__(THREADS)
    clear_behind(const Stack* __restrict__ stack, const word* __restrict__ mask, const word* __restrict__ other,
                 const HeartTerms* __restrict__ terms, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study >= 0) {
    const bool is_behind = spot.is_inside && spot.y - spot.frame.y < back_rows(spot.frame, terms[spot.study]);
    out[spot.at] = mask[spot.at] & (is_behind ? ~other[spot.at] : ~(word)0);
  }
}

// Of a mask the slices up to a share of the way from the first that holds lung to the last.
extern "C" __global__ void __launch_bounds__(THREADS)
    keep_lower(const Stack* __restrict__ stack, const word* __restrict__ mask, const Ends* __restrict__ ends,
               const double* __restrict__ shares, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study < 0) {
    return;
  }
  const Ends held = ends[spot.study];
  const int z = spot.slice - stack->studies[spot.study].first_slice;
  const int last = (int)((double)held.first + shares[spot.study] * (double)(held.last - held.first));
  out[spot.at] = held.first >= 0 && z >= held.first && z <= last ? mask[spot.at] : 0;
}

// Half widths of a disc's rows from its middle on, -1 for rows that it does not reach; fastct.kernels.masks.disc.
struct DiscTerms {
  double y_mm, x_mm;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    make_discs(const double* __restrict__ radii_mm, const DiscTerms* __restrict__ terms, int studies, int shape_rows,
               int* __restrict__ shapes) {
  const int index = thread_index(), study = index / shape_rows, row = index % shape_rows;
  if (study >= studies) {
    return;
  }
  const DiscTerms own = terms[study];
  const double most = radii_mm[study] * radii_mm[study] + 0.01 * own.x_mm * own.x_mm, rise = row * own.y_mm;
  const int rows = (int)floor(sqrt(most) / own.y_mm) + 1;
  const int half = (int)floor(sqrt(max(most - rise * rise, 0.0)) / own.x_mm);
  shapes[index] = row < rows ? min(half, WORD_BITS - 1) : -1;
}

// Each slice moved up by one, in its study.
extern "C" __global__ void __launch_bounds__(THREADS)
    move_up(const Stack* __restrict__ stack, const word* __restrict__ mask, word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study >= 0) {
    const bool is_lowest = spot.slice == stack->studies[spot.study].first_slice;
    out[spot.at] = is_lowest ? 0 : mask[spot.at - stack->rows * stack->words];
  }
}

// Thick pieces that lesions lie over or under, for the better part of the smaller, are lesions, too, and so on; a block
// a study. `found` begins with the lesions.
extern "C" __global__ void __launch_bounds__(THREADS)
    follow_lesions(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
                   const Pairs* __restrict__ pairs, const int64* __restrict__ thick, unsigned char* found) {
  __shared__ int changes;
  const Study own = stack->studies[blockIdx.x];
  const int bottom = own.first_slice, top = own.first_slice + own.slices - 1;
  for (bool goes_on = true; goes_on;) {
    __syncthreads();
    if (threadIdx.x == 0) {
      changes = 0;
    }
    __syncthreads();
    for (int step = 0; step < 2 * (top - bottom); ++step) {  // up through all slices, then down
      for_pairs(*pairs, step < top - bottom ? bottom + 1 + step : top - (step - (top - bottom)),
                [&](int upper, int lower, int pixels) {
                  const int64 smaller = min(measures_of(*pieces, upper)[1], measures_of(*pieces, lower)[1]);
                  if (thick[upper] != 0 && thick[lower] != 0 && 2 * (int64)pixels > smaller &&
                      found[upper] != found[lower]) {
                    found[upper] = found[lower] = 1;
                    atomicAdd(&changes, 1);
                  }
                });
      __syncthreads();
    }
    goes_on = changes != 0;
  }
}

// What is no lesion; fastct/gpu/pleura.py writes the same fields in the same order.
struct GapTerms {
  double y_mm, x_mm, across, room_share, pocket_mm2[2];
};

// Of each gap its pixels at chords, in holes of a lung, and in the room; a thread a gap. Says which may be lesions, and
// which are holes.
extern "C" __global__ void __launch_bounds__(THREADS)
    judge_gaps(const Stack* __restrict__ stack, const Pieces* __restrict__ gaps, const double* __restrict__ centres,
               const int64* __restrict__ at_chords, const int64* __restrict__ in_holes,
               const int64* __restrict__ in_room, const GapTerms* __restrict__ terms,
               unsigned char* __restrict__ wanted, unsigned char* __restrict__ holes) {
  const int gap = thread_index();
  if (gap >= count_of(*gaps)) {
    return;
  }
  const int study = study_of(*gaps, *stack, gap);
  const GapTerms own = terms[study];
  const int64* measures = measures_of(*gaps, gap);
  const double first = (double)(stack->frames[study].w * WORD_BITS), area = (double)measures[1];
  const bool is_across = (double)measures[4] - first < centres[study] - own.across &&
                         (double)measures[5] - first > centres[study] + own.across;
  const bool is_mediastinal = is_across || at_chords[gap] > 0 || (double)in_room[gap] < own.room_share * area;
  const double area_mm2 = area * own.y_mm * own.x_mm;
  const bool is_sized = area_mm2 >= own.pocket_mm2[0] && area_mm2 <= own.pocket_mm2[1];
  holes[gap] = in_holes[gap] == measures[1];
  wanted[gap] = (holes[gap] || is_sized) && !is_mediastinal;
}

// What makes a gap a dome; fastct/gpu/pleura.py writes the same fields in the same order.
struct DomeTerms {
  double z_mm, y_mm, x_mm, small_mm2, top_share, supported_share, taper, hole_dome_mm, pocket_dome_mm;
};

const int NO_GAP = 0x7fffffff;

// The wanted gaps of a study, from below upwards, less domes of the diaphragm, by all threads of a block.
struct Domes {
  const Stack& stack;
  const Pieces& gaps;
  const Pairs& pairs;
  const unsigned char* wanted;
  const unsigned char* holes;
  const int64* rests;
  int64* supported;  // of each gap: pixels over lesions below it
  int* under;        // of each gap: the first dome that it lies over for the better part
  double* height_mm;
  unsigned char* lesion;
  DomeTerms terms;
  double top;  // slice below which domes are looked for

  __device__ __forceinline__ double area_mm2(int gap) const {
    return (double)measures_of(gaps, gap)[1] * terms.y_mm * terms.x_mm;
  }

  __device__ __forceinline__ void look_at(int gap, bool has_lung_below) const {
    const double area = (double)measures_of(gaps, gap)[1];
    if (has_lung_below && (double)(rests[gap] + supported[gap]) >= terms.supported_share * area) {
      return;
    }
    const bool goes_on = under[gap] != NO_GAP;
    const double height = terms.z_mm + (goes_on ? height_mm[under[gap]] : 0.0);
    const double most_mm = holes[gap] != 0 ? terms.hole_dome_mm : terms.pocket_dome_mm;
    const bool has_shrunk_little =
        goes_on && holes[gap] != 0 && area_mm2(gap) >= terms.taper * area_mm2(under[gap]);
    if (!goes_on || !(height > most_mm || has_shrunk_little)) {
      height_mm[gap] = height;
      lesion[gap] = 0;
    }
  }

  __device__ __forceinline__ void enter(int slice, int z, bool has_lung_below) const {
    const int first = first_of(gaps, stack, slice), stop = first_of(gaps, stack, slice + 1);
    for (int gap = first + threadIdx.x; gap < stop; gap += THREADS) {
      under[gap] = NO_GAP;
    }
    __syncthreads();
    for_pairs(pairs, slice, [&](int upper, int lower, int pixels) {
      if (lesion[lower] != 0) {
        atomicAdd(reinterpret_cast<uint64*>(supported + upper), (uint64)pixels);
      }
      if (height_mm[lower] > 0.0 && (double)pixels > 0.5 * (double)measures_of(gaps, upper)[1]) {
        atomicMin(under + upper, lower);
      }
    });
    __syncthreads();
    for (int gap = first + threadIdx.x; gap < stop; gap += THREADS) {
      if (wanted[gap] != 0 && (holes[gap] == 0 || area_mm2(gap) > terms.small_mm2) && (double)z < top) {
        look_at(gap, has_lung_below);
      }
    }
    __syncthreads();
  }
};

// A block a study; `held` are the lung's pixels of each slice, `lesion` begins as what is wanted, the rest with 0.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    take_out_domes(const Stack* __restrict__ stack, const Pieces* __restrict__ gaps, const Pairs* __restrict__ pairs,
                   const unsigned char* const* __restrict__ flags, const int64* __restrict__ rests,
                   const int64* __restrict__ held, const Ends* __restrict__ ends, const DomeTerms* __restrict__ terms,
                   int64* supported, int* under, double* height_mm, unsigned char* lesion) {
  const int study = blockIdx.x;
  const Study own = stack->studies[study];
  const Ends filled = ends[study];
  Domes domes = {*stack,    *gaps, *pairs,    flags[0], flags[1],     rests,
                 supported, under, height_mm, lesion,   terms[study], 0.0};
  domes.top = (double)filled.first + domes.terms.top_share * (double)(filled.last - filled.first);
  for (int z = 0; z < own.slices; ++z) {
    const int slice = own.first_slice + z;
    domes.enter(slice, z, z > 0 && held[slice - 1] != 0);
  }
}

// Pieces between two sizes; a thread a piece. fastct/gpu/pleura.py writes the same fields in the same order.
struct SizeTerms {
  double first_mm, second_mm, least, most;
};

extern "C" __global__ void __launch_bounds__(THREADS)
    tell_sizes(const Stack* __restrict__ stack, const Pieces* __restrict__ pieces,
               const SizeTerms* __restrict__ terms, unsigned char* __restrict__ chosen) {
  const int piece = thread_index();
  if (piece < count_of(*pieces)) {
    const SizeTerms own = terms[study_of(*pieces, *stack, piece)];
    const double size = (double)measures_of(*pieces, piece)[1] * own.first_mm * own.second_mm;
    chosen[piece] = size >= own.least && size <= own.most;
  }
}

// How near to the midline lesions are looked for; fastct/gpu/pleura.py writes the same fields in the same order.
struct LimitTerms {
  double x_mm, little, range, cautious_mm[3], generous_mm[3];  // for bridges, for gaps, for bases
};

struct Offsets {
  double low, high;
};

// Of what was drawn in the share that is lesion; where that is more than little, the frame in which it is looked for
// once more, else none, at what distances from the midline, for bridges and for gaps, and how wide bases are closed. A
// thread a study.
extern "C" __global__ void __launch_bounds__(THREADS)
    second_look(const Stack* __restrict__ stack, const int64* __restrict__ lesions, const int64* __restrict__ drawn,
                const LimitTerms* __restrict__ terms, Frame* __restrict__ frames, Offsets* __restrict__ bridges,
                Offsets* __restrict__ aside, double* __restrict__ bases_mm) {
  const int study = thread_index();
  if (study >= stack->n_studies) {
    return;
  }
  const Study own = stack->studies[study];
  const LimitTerms& limits = terms[study];
  int64 ill = 0, all = 0;
  for (int z = 0; z < own.slices; ++z) {
    ill += lesions[own.first_slice + z];
    all += drawn[own.first_slice + z];
  }
  const double share = (double)ill / (double)max(all, (int64)1);
  const bool is_sick = share > limits.little;
  const double weight = min((share - limits.little) / limits.range, 1.0);
  const Frame none = {0, 0, 0, 0};
  frames[study] = is_sick ? stack->frames[study] : none;
  double mm[3];
  for (int i = 0; i < 3; ++i) {
    mm[i] = (1.0 - weight) * limits.cautious_mm[i] + weight * limits.generous_mm[i];
  }
  bridges[study] = {-(mm[0] / limits.x_mm), mm[0] / limits.x_mm};
  aside[study] = {-(mm[1] / limits.x_mm), mm[1] / limits.x_mm};
  bases_mm[study] = mm[2];
}

// Of two masks the second one where a study has a frame, else the first.
extern "C" __global__ void __launch_bounds__(THREADS)
    choose_second(const Stack* __restrict__ stack, const word* __restrict__ first, const word* __restrict__ second,
                  word* __restrict__ out) {
  const Spot spot = spot_of(*stack);
  if (spot.study >= 0) {
    out[spot.at] = spot.frame.y_stop > spot.frame.y ? second[spot.at] : first[spot.at];
  }
}
