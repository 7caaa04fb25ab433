// The table that a launch works through: a row for each volume, blocks one row's after another's.
#pragma once

typedef long long int64;
typedef unsigned long long uint64;

// The row that a block works for: the last one that begins at it or before it.
template <class Row>
__device__ __forceinline__ const Row& row_of(const Row* __restrict__ table, int rows) {
  int low = 0, high = rows - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table[middle].first_block <= blockIdx.x) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return table[low];
}

// A row's pointers lead to the GPU's own memory; told so, the compiler picks the instructions for it.
template <class Item>
__device__ __forceinline__ Item* global(Item* pointer) {
  __builtin_assume(__isGlobal(pointer));
  return pointer;
}
