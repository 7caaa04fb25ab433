// Runs of bit rows on a GPU, and the labels that say what piece they belong to.
//
// A run is known by its slot. Two runs cannot start in neighbouring pixels, so a word has 32 slots, one for every
// other pixel; slots that no run starts in are never touched. There is nothing to count, and nothing to compact.
#pragma once

const int SLOTS = WORD_BITS / 2;  // of a word

// A stack of slices, the label of each of its runs, and where it is looked at.
struct Runs {
  const word* mask;
  int* labels;
  int rows, words;
};

__device__ __forceinline__ word before_it(const word* mask, int at, int w) { return w == 0 ? 0 : mask[at - 1] >> 63; }

// The bits of a word in which runs start.
__device__ __forceinline__ word run_starts(const word* mask, int at, int w) {
  return mask[at] & ~(mask[at] << 1 | before_it(mask, at, w));
}

__device__ __forceinline__ int slot_at(int at, int bit) { return at * SLOTS + bit / 2; }

// The bit at which the run starts that holds bit `bit` of word `at`; moves `at` and `w` to its word.
__device__ __forceinline__ int walk_back(const word* mask, int* at, int* w, int bit) {
  word gaps = ~mask[*at] & first_bits(bit);
  while (gaps == 0 && before_it(mask, *at, *w) != 0) {
    --*at;
    --*w;
    gaps = ~mask[*at];
  }
  return WORD_BITS - __clzll((int64)gaps);
}

// One past the last pixel of the run that holds bit `bit` of word `at`, as a column of its row.
__device__ __forceinline__ int walk_on(const word* mask, int at, int w, int words, int bit) {
  word gaps = ~mask[at] & ~first_bits(bit);
  while (gaps == 0) {
    ++at;
    ++w;
    if (w == words) {
      return words * WORD_BITS;
    }
    gaps = ~mask[at];
  }
  return w * WORD_BITS + lowest_bit(gaps);
}

__device__ __forceinline__ int slot_of(const word* mask, int at, int w, int bit) {
  const int start = walk_back(mask, &at, &w, bit);
  return slot_at(at, start);
}

// Disjoint sets of slots: a label points to an earlier slot of its set, the first one's to itself. Threads join
// sets side by side; what comes out does not depend on who is first.
__device__ __forceinline__ int find_root(int* labels, int slot) {
  volatile int* now = labels;
  int parent = now[slot];
  while (parent != slot) {
    const int above = now[parent];
    if (above != parent) {
      now[slot] = above;  // halves the way for the next one; both are of the set
    }
    slot = parent;
    parent = above;
  }
  return slot;
}

__device__ __forceinline__ void join_sets(int* labels, int one, int other) {
  for (;;) {
    one = find_root(labels, one);
    other = find_root(labels, other);
    if (one == other) {
      return;
    }
    if (one < other) {
      const int swap = one;
      one = other;
      other = swap;
    }
    const int found = atomicMin(labels + one, other);
    if (found == one) {
      return;
    }
    one = found;  // someone else has joined it elsewhere meanwhile
  }
}

const int MEASURES = 7;  // of a piece: first slice, area, y0, y1, x0, x1, sum of twice the x of its pixels

// The pieces of a stack's mask, numbered in the order of their first runs: those of a study, and where they are
// pieces of slices those of a slice, follow one another. kernels/gpu/pieces.py writes the same fields in the same
// order.
struct Pieces {
  const word* mask;
  int* labels;            // of each slot that a run starts in: the complement of its piece's number
  const int64* measures;  // MEASURES for each piece; after all places, how many pieces there are
  const int* ends;        // for each row of the stack, how many pieces begin in it or before it
  int places, unused;     // for pieces: what finds no place is lost, and its study marked as faulty
};
static_assert(sizeof(Pieces) == 40, "kernels/gpu/pieces.py counts on this");

__device__ __forceinline__ int count_of(const Pieces& pieces) {
  const int64 found = pieces.measures[(int64)pieces.places * MEASURES];
  return found < pieces.places ? (int)found : pieces.places;
}

// The first piece of a slice; those of the slice end where those of the next one begin.
__device__ __forceinline__ int first_of(const Pieces& pieces, const Stack& stack, int slice) {
  return slice == 0 ? 0 : min(pieces.ends[slice * stack.rows - 1], pieces.places);
}

__device__ __forceinline__ const int64* measures_of(const Pieces& pieces, int piece) {
  return pieces.measures + (int64)piece * MEASURES;
}

__device__ __forceinline__ int study_of(const Pieces& pieces, const Stack& stack, int piece) {
  return stack.study_of[measures_of(pieces, piece)[0]];
}

// The number of the piece that a part of a word is of; one without a place has a number beyond them.
__device__ __forceinline__ int piece_at(const Pieces& pieces, int at, int w, word part) {
  return ~pieces.labels[slot_of(pieces.mask, at, w, lowest_bit(part))];
}

// Column of a piece's centre of mass, counted from the first one of its study's frame.
__device__ __forceinline__ double centre_of(const Pieces& pieces, const Stack& stack, int piece) {
  const int64* measures = measures_of(pieces, piece);
  const int64 first = stack.frames[stack.study_of[measures[0]]].w * WORD_BITS;
  return (double)(measures[6] - 2 * first * measures[1]) / (2.0 * (double)measures[1]);
}
