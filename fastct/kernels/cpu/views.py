"""What the lungs look like from the front: projections, silhouettes and HU counts, slice by slice."""

import numpy as np
from numba import njit

DEEPEST_HU = np.iinfo(np.int16).max
TABLES = 4  # neighbours are counted in tables of their own: adding twice to one place would have to wait


@njit(nogil=True, cache=True)
def lung_views(hu, lungs, lesion, rim, limits_hu, empty_hu):  # type: ignore[no-untyped-def]
    """See the face, `fastct.kernels.views.lung_views`; fastest on C-contiguous arrays."""
    slices, rows, columns = hu.shape
    brightest = np.full((slices, columns), np.int16(empty_hu))
    darkest = np.full((slices, columns), np.int16(DEEPEST_HU))
    outline, shadow = np.zeros((slices, columns), np.uint8), np.zeros((slices, columns), np.uint8)
    inside = np.zeros((TABLES, limits_hu[1] - limits_hu[0]), np.uint32)
    ill, both = np.zeros_like(inside), np.empty(columns, np.uint8)
    lungs_by, lesion_by = _no_counts(hu.shape), _no_counts(hu.shape)
    first, last = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for z in range(slices):
        for y in range(rows):
            first[y], last[y] = columns, _widen(outline[z], lungs[z, y], z, y, lungs_by)
            _widen(shadow[z], lesion[z, y], z, y, lesion_by)
        left, right = _ends(outline[z], 0, columns)
        for y in range(rows):
            if last[y]:
                first[y], last[y] = _ends(lungs[z, y], left, right)
                _count(hu[z, y], lungs[z, y], first[y], last[y], limits_hu[0], inside)
                if _both(lungs[z, y], lesion[z, y], both):
                    _count(hu[z, y], both, first[y], last[y], limits_hu[0], ill)
        for y in range(rim[0], rows - rim[0]):
            start = max(first[y] + rim[1], first[y - rim[0]], first[y + rim[0]])
            stop = min(last[y] - rim[1], last[y - rim[0]], last[y + rim[0]])
            if start < stop:
                around = lungs[z, y - rim[0] : y + rim[0] + 1, start - rim[1] : stop + rim[1]]
                _brighten(brightest[z, start:stop], hu[z, y, start:stop], around, rim, empty_hu)
                _darken(darkest[z, start:stop], hu[z, y, start:stop])
    for z in range(slices):
        for x in range(columns):
            if darkest[z, x] == DEEPEST_HU:
                darkest[z, x] = empty_hu
    counts = np.stack((inside.sum(axis=0), ill.sum(axis=0))).astype(np.int64)
    return brightest, darkest, outline, shadow, counts, lungs_by, lesion_by


@njit(nogil=True, cache=True)
def _no_counts(shape):  # type: ignore[no-untyped-def]
    return np.zeros(shape[0], np.int64), np.zeros(shape[1], np.int64), np.zeros(shape[2], np.int64)


@njit(nogil=True, cache=True)
def _widen(seen, line, z, y, found):  # type: ignore[no-untyped-def]
    """Take the greater of each pair, and count what the line holds; whether it holds anything."""
    any_set = np.uint8(0)
    for x in range(seen.size):
        seen[x] = max(seen[x], line[x])
        any_set |= line[x]
    if any_set:
        by_slice, by_row, by_column = found
        number = 0
        for x in range(seen.size):
            is_set = line[x] != 0
            by_column[x] += is_set
            number += is_set
        by_slice[z] += number
        by_row[y] += number
    return np.int64(any_set)


@njit(nogil=True, cache=True)
def _ends(line, start, stop):  # type: ignore[no-untyped-def]
    """From the first set place to behind the last one; from behind the end to 0 where nothing is set."""
    first, last = line.size, 0
    for x in range(start, stop):
        if line[x]:
            first = x
            break
    for x in range(stop - 1, first - 1, -1):
        if line[x]:
            last = x + 1
            break
    return first, last


@njit(nogil=True, cache=True)
def _brighten(seen, hu, around, rim, empty_hu):  # type: ignore[no-untyped-def]
    """Widen the maximum of a slice by one row, where lung is all around; without a branch, for vector units."""
    size = seen.size
    above, below = around[0, rim[1] : rim[1] + size], around[2 * rim[0], rim[1] : rim[1] + size]
    own = around[rim[0], rim[1] : rim[1] + size]
    left, right = around[rim[0], :size], around[rim[0], 2 * rim[1] : 2 * rim[1] + size]
    for x in range(size):
        deep = min(own[x], min(min(above[x], below[x]), min(left[x], right[x])))
        value = hu[x] if deep != 0 else np.int16(empty_hu)
        seen[x] = max(seen[x], value)


@njit(nogil=True, cache=True)
def _darken(seen, hu):  # type: ignore[no-untyped-def]
    for x in range(seen.size):
        seen[x] = min(seen[x], hu[x])


@njit(nogil=True, cache=True)
def _both(one, other, both):  # type: ignore[no-untyped-def]
    """Where both are set; whether that is anywhere."""
    found = np.uint8(0)
    for x in range(both.size):
        both[x] = min(one[x], other[x])
        found |= both[x]
    return found


@njit(nogil=True, cache=True)
def _count(hu, mask, start, stop, low_hu, tables):  # type: ignore[no-untyped-def]
    """Add a part of a row to a histogram; HU by HU, because dividing costs more than all the rest."""
    top = np.int64(tables.shape[1] - 1)
    for x in range(start, stop):
        place = min(max(np.int64(hu[x]) - low_hu, 0), top)
        tables[x & (TABLES - 1), place] += np.uint32(mask[x] != 0)
