// Slices of several studies, one after another in one frame, and the part of it in which a launch works.
#pragma once

// Where a study lies; kernels/gpu/stacks.py writes the same fields in the same order, here and in Stack.
struct Study {
  int first_slice, slices, rows, columns;
};

// Rows and words that hold all that is of interest of a study; beyond it its masks are empty.
struct Frame {
  int y, y_stop, w, w_stop;
};

struct Stack {
  const int* study_of;  // of each slice
  const Study* studies;
  const Frame* frames;  // of each study
  int n_studies, slices, rows, words;
};
static_assert(sizeof(Stack) == 40, "kernels/gpu/stacks.py counts on this");

// Where a word lies.
struct Spot {
  int at, w, y, slice;  // among the words, of its row, of its slice, of all slices
  int study;
  Frame frame;
  bool is_inside;  // of its study's frame
};

// The spot of a thread's word; -1 for a study where there is none.
__device__ __forceinline__ Spot spot_of(const Stack& stack) {
  Spot spot;
  spot.at = thread_index();
  spot.w = spot.at % stack.words;
  spot.y = spot.at / stack.words % stack.rows;
  spot.slice = spot.at / stack.words / stack.rows;
  spot.is_inside = false;
  spot.study = -1;
  if (spot.slice < stack.slices) {
    spot.study = stack.study_of[spot.slice];
    spot.frame = stack.frames[spot.study];
    spot.is_inside = spot.y >= spot.frame.y && spot.y < spot.frame.y_stop && spot.w >= spot.frame.w &&
                     spot.w < spot.frame.w_stop;
  }
  return spot;
}
