"""What the lungs look like from the front: projections, silhouettes and HU histograms in one pass."""

import numpy as np
from numba import njit

DEEPEST_HU = np.iinfo(np.int16).max


@njit(nogil=True, cache=True)
def lung_views(hu, lungs, lesion, rim, limits_hu, empty_hu):  # type: ignore[no-untyped-def]
    """See the face, `fastct.kernels.views.lung_views`; fastest on C-contiguous arrays."""
    slices, rows, columns = hu.shape
    brightest = np.full((slices, columns), np.int16(empty_hu))
    darkest = np.full((slices, columns), np.int16(DEEPEST_HU))
    outline = np.zeros((slices, columns), np.uint8)
    shadow = np.zeros((slices, columns), np.bool_)
    counts = np.zeros((2, limits_hu[1] - limits_hu[0]), np.int64)
    for z in range(slices):
        first, last = _ends_of_rows(lungs[z])
        for y in range(rows):
            _add_lungs(hu[z], lungs[z], y, (first[y], last[y]), rim, (brightest[z], outline[z]))
            _count(hu[z, y], lungs[z, y], lesion[z, y], (first[y], last[y]), limits_hu, counts)
            for x in range(columns):
                shadow[z, x] |= lesion[z, y, x]
            if rim[0] <= y < rows - rim[0]:
                before, after = first[y] + rim[1], last[y] - rim[1]
                for near in (y - rim[0], y + rim[0]):
                    before, after = max(before, first[near]), min(after, last[near])
                for x in range(before, after + 1):
                    darkest[z, x] = min(darkest[z, x], hu[z, y, x])
        for x in range(columns):
            if darkest[z, x] == DEEPEST_HU:
                darkest[z, x] = empty_hu
    return brightest, darkest, outline, shadow, counts


@njit(nogil=True, cache=True)
def _ends_of_rows(labels):  # type: ignore[no-untyped-def]
    """First and last set column of each row; the first lies behind the last where none is set."""
    rows, columns = labels.shape
    first, last = np.full(rows, columns), np.full(rows, -1)
    for y in range(rows):
        for x in range(columns):
            if labels[y, x]:
                first[y] = x
                break
        for x in range(columns - 1, first[y] - 1, -1):
            if labels[y, x]:
                last[y] = x
                break
    return first, last


@njit(nogil=True, cache=True)
def _add_lungs(hu, labels, y, ends, rim, seen):  # type: ignore[no-untyped-def]
    """Widen the maximum and the outline that are `seen` by one row of a slice."""
    rows, columns = hu.shape
    deep = rim[0] <= y < rows - rim[0]
    brightest, outline = seen
    for x in range(ends[0], ends[1] + 1):
        label = labels[y, x]
        if not label:
            continue
        outline[x] = max(outline[x], label)
        if (
            deep
            and hu[y, x] > brightest[x]
            and rim[1] <= x < columns - rim[1]
            and labels[y - rim[0], x]
            and labels[y + rim[0], x]
            and labels[y, x - rim[1]]
            and labels[y, x + rim[1]]
        ):
            brightest[x] = hu[y, x]


@njit(nogil=True, cache=True)
def _count(hu, labels, lesion, ends, limits_hu, counts):  # type: ignore[no-untyped-def]
    """Add one row to the histograms; HU by HU, because dividing costs more than all the rest."""
    low, high = np.int64(limits_hu[0]), np.int64(limits_hu[1]) - 1
    for x in range(ends[0], ends[1] + 1):
        if labels[x]:
            place = min(max(np.int64(hu[x]), low), high) - low
            counts[0, place] += 1
            counts[1, place] += lesion[x]
