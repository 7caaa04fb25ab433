"""Rounding float32 results to the type of the output: float32, float16 (its bits), uint8, int16."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"
# ruff: noqa: ARG001, ARG005 -- Numba picks a body by the type of `out`, and all must take the same names.

import numpy as np
from numba import njit, types
from numba.extending import overload

SIGN = np.uint32(0x80000000)
FRACTION_SHIFT = np.uint32(13)  # float32 has 23 bits of fraction, float16 has 10
ONE = np.uint32(1)
# Moves the exponent's bias from 127 to 15 (modulo 2^32), and adds just under half of the last place.
REBIAS_AND_HALF = np.uint32(0xC8000FFF)
SMALLEST_NORMAL = np.uint32(113 << 23)  # 2^-14; below it float16 has a fixed last place, 2^-24,
SUBNORMAL_MAGIC = np.float32(0.5)  # which is the last place of a float32 in [0.5, 1)
SUBNORMAL_MAGIC_BITS = np.uint32(0x3F000000)
OVERFLOW = np.uint32(143 << 23)  # 2^16: beyond the largest float16
INFINITY_BITS = np.uint32(0x7C00)
TO_SIGN = np.uint32(16)


@njit(nogil=True, cache=True)
def half_bits(value):
    """The bits of the float16 nearest to a finite float32, ties to even.

    Whole-number arithmetic without branches, so that LLVM turns it into vectors on any processor.
    """
    bits = np.uint32(np.float32(value).view(np.uint32))
    magnitude = np.uint32(bits & ~SIGN)
    odd = np.uint32(np.uint32(magnitude >> FRACTION_SHIFT) & ONE)
    normal = np.uint32(np.uint32(magnitude + REBIAS_AND_HALF + odd) >> FRACTION_SHIFT)
    shifted = np.float32(np.float32(np.uint32(magnitude).view(np.float32)) + SUBNORMAL_MAGIC)
    subnormal = np.uint32(np.uint32(shifted.view(np.uint32)) - SUBNORMAL_MAGIC_BITS)
    rounded = subnormal if magnitude < SMALLEST_NORMAL else normal
    rounded = INFINITY_BITS if magnitude >= OVERFLOW else rounded
    return np.uint16(rounded | np.uint32(np.uint32(bits & SIGN) >> TO_SIGN))


@njit(nogil=True, cache=True)
def _kept_in(value, low, high):
    return min(max(np.rint(value), np.float32(low)), np.float32(high))


def rounded_for(out, value):
    """`value` (float32) as the elements of `out` hold it; uint16 stands for the bits of a float16.

    Whole numbers are rounded to the nearest, ties to even, and kept in the range of the type.
    """
    raise NotImplementedError("compiled code only")


@overload(rounded_for)
def _rounded_for(out, value):
    if out.dtype == types.float32:
        return lambda out, value: value
    if out.dtype == types.uint16:
        return lambda out, value: half_bits(value)
    if out.dtype == types.uint8:
        return lambda out, value: np.uint8(_kept_in(value, 0, 255))
    if out.dtype == types.int16:
        return lambda out, value: np.int16(_kept_in(value, -32768, 32767))
    return None


@njit(nogil=True, cache=True)
def store_row(row, out):
    """Write a row of float32 results."""
    for x in range(out.size):
        out[x] = rounded_for(out, row[x])
