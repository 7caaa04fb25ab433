"""Gaussian noise that depends on a key and the voxel's number alone, in operations that a GPU repeats."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call"

import numpy as np
from numba import njit

from fastct.kernels.cpu.rounding import rounded_for

# Philox4x32-10: Salmon et al., SC11, doi:10.1145/2063384.2063405.
ROUNDS = 10
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)
LOW_WORD, WORD_BITS = np.uint64(0xFFFFFFFF), np.uint64(32)

# Normal quantiles: PPND7 of Wichura, Applied Statistics 37 (1988) 477-484, doi:10.2307/2347330.
TAIL = np.float32(0.075)
CENTRE_TOP = tuple(np.float32(c) for c in (59.109374720, 159.29113202, 50.434271938, 3.3871327179))
CENTRE_BOTTOM = tuple(np.float32(c) for c in (67.187563600, 78.757757664, 17.895169469, 1.0))
TAIL_TOP = tuple(np.float32(c) for c in (0.17023821103, 1.3067284816, 2.7568153900, 1.4234372777))
TAIL_BOTTOM = tuple(np.float32(c) for c in (0.12021132975, 0.73700164250, 1.0))
CENTRE_SPAN, TAIL_SPAN = np.float32(0.180625), np.float32(1.6)

# Natural logarithm of a float32: Cephes (S. L. Moshier), logf.
LOG_TERMS = tuple(
    np.float32(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
LN_2_HIGH, LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # their sum is ln 2
ROOT_HALF_BITS = np.uint32(0x3F3504F3)
FRACTION_MASK = np.uint32(0x007FFFFF)
FRACTION_BITS = np.int32(23)  # of a float32

HALF, TO_UNIT = np.float32(0.5), np.float32(2.0**-32)
SIGN_BIT = np.uint32(31)
ONE = np.float32(1.0)
VOXELS_AT_A_TIME = 1024


@njit(nogil=True, cache=True)
def philox(counter, key):
    """Four random words (uint32) of a 64-bit counter under a 64-bit key."""
    word_0, word_1 = np.uint32(counter & LOW_WORD), np.uint32(counter >> WORD_BITS)
    word_2, word_3 = np.uint32(0), np.uint32(0)
    key_0, key_1 = np.uint32(key & LOW_WORD), np.uint32(key >> WORD_BITS)
    for _ in range(ROUNDS):
        product_0, product_1 = np.uint64(word_0) * MULTIPLIER_0, np.uint64(word_2) * MULTIPLIER_1
        word_0 = np.uint32(np.uint32(product_1 >> WORD_BITS) ^ word_1 ^ key_0)
        word_1 = np.uint32(product_1 & LOW_WORD)
        word_2 = np.uint32(np.uint32(product_0 >> WORD_BITS) ^ word_3 ^ key_1)
        word_3 = np.uint32(product_0 & LOW_WORD)
        key_0, key_1 = np.uint32(key_0 + WEYL_0), np.uint32(key_1 + WEYL_1)
    return word_0, word_1, word_2, word_3


@njit(nogil=True, cache=True)
def _polynomial(x, terms):
    total = terms[0]
    for term in terms[1:]:
        total = total * x + term
    return total


@njit(nogil=True, cache=True)
def _log(value):
    """Natural logarithm of a positive normal float32, in sums and products alone."""
    bits = np.uint32(np.float32(value).view(np.uint32))
    # Moving by sqrt(1/2) puts the fraction in [sqrt(1/2), sqrt(2)).
    moved = np.uint32(bits - ROOT_HALF_BITS)
    power = np.float32(np.int32(moved) >> FRACTION_BITS)
    fraction = np.uint32(np.uint32(moved & FRACTION_MASK) + ROOT_HALF_BITS)
    x = np.float32(fraction.view(np.float32)) - ONE
    square = x * x
    curve = _polynomial(x, LOG_TERMS) * x * square
    curve = curve + LN_2_LOW * power - HALF * square
    return x + curve + LN_2_HIGH * power


@njit(nogil=True, cache=True, error_model="numpy")  # a check of the divisors would forbid vectors
def normal(word):
    """The standard normal quantile (float32) of a random word (uint32)."""
    upper = np.uint32(word >> SIGN_BIT)
    magnitude = np.uint32(word ^ np.uint32(np.uint32(0) - upper))  # the same for a word and its complement
    tail = (np.float32(magnitude) + HALF) * TO_UNIT  # the nearer tail's share, in (0, 0.5]
    middle = HALF - tail
    x = CENTRE_SPAN - middle * middle
    centre = middle * _polynomial(x, CENTRE_TOP) / _polynomial(x, CENTRE_BOTTOM)
    x = np.sqrt(-_log(tail)) - TAIL_SPAN
    outer = _polynomial(x, TAIL_TOP) / _polynomial(x, TAIL_BOTTOM)
    quantile = outer if tail < TAIL else centre
    return quantile if upper == 1 else -quantile


@njit(nogil=True, cache=True)
def add_noise(voxels, out, sigma, key):
    """Write float32 voxels, each with sigma times a normal number added, by its place in the array."""
    words = np.empty(VOXELS_AT_A_TIME, np.uint32)
    for first in range(0, voxels.size, VOXELS_AT_A_TIME):
        for block in range(VOXELS_AT_A_TIME // 4):
            four = philox(np.uint64(first // 4 + block), key)  # four voxels share a counter
            for lane in range(4):
                words[4 * block + lane] = four[lane]
        source, target = voxels[first:], out[first:]
        for x in range(min(source.size, VOXELS_AT_A_TIME)):
            target[x] = rounded_for(out, source[x] + sigma * normal(words[x]))
