// Which processor the loops are compiled for. FASTCT_PORTABLE leaves out all that x86 alone can do, as other processors
// do: `CPPFLAGS=-DFASTCT_PORTABLE python setup.py build_ext --inplace --force` makes the twins the tests can then run.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(FASTCT_PORTABLE)
#define FASTCT_X86 1
#include <immintrin.h>
#endif
