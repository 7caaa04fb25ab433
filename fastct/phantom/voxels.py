"""Fills the lungs of a synthetic chest: vessel trees, disease, texture, and the noise of a scanner."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from fastct.phantom.painting import EDGE

Floats = NDArray[np.float64]
Slices16 = NDArray[np.int16]
Slices8 = NDArray[np.uint8]

TISSUE_HU = np.float32(40.0)  # what fills air spaces, and what vessels hold
DETOUR = 0.15  # how much a millimetre of way back to the root counts beside one of new vessel
BEND_MM = 14.0  # what a right angle between two vessels costs
BINS = 4096  # of the histogram that finds the threshold of a share
BYTES_SD = np.float32(147.8)  # of the sum of four random bytes: 2 * sqrt((256**2 - 1) / 12)


class Disease(NamedTuple):
    """Where lungs are ill: fields over a coarse grid, (z, y, x) float32, `step` voxels apart in-plane.

    Lesion is where `spread` reaches `spread_limit`, its border soft over `soft`; it is solid where
    `solid` reaches `solid_limit`. `filled` is the share of air that ground glass displaces, consolidation
    displaces `solid_filled`.
    """

    spread: NDArray[np.float32]
    solid: NDArray[np.float32]
    filled: NDArray[np.float32]
    step: int
    spread_limit: float
    solid_limit: float
    soft: float
    solid_filled: float


class Lung(NamedTuple):
    """Healthy parenchyma: its HU, rise towards the back in HU per row, and a tile of texture in HU.

    Ground glass is denser where the texture is, by the share `patchy` for each HU.
    """

    hu: float
    gravity: float
    texture: NDArray[np.float32]
    patchy: float


class Scanner(NamedTuple):
    """Noise: seed, mix of neighbours (softness), standard deviation by slice, by row and by column.

    Outside the circle that fits the slice all is `padding_hu`, unless that is 0.
    """

    seed: int
    softness: float
    slice_hu: NDArray[np.float32]
    row: NDArray[np.float32]
    column: NDArray[np.float32]
    padding_hu: int


@njit(nogil=True, cache=True)
def grow_tree(points: Floats) -> NDArray[np.int64]:
    """Parents of a vessel tree over points (n, 3) mm, the root first, the others by distance from it.

    Each point in turn joins the node that costs least: new vessel, way back to the root, and bend.
    """
    count = len(points)
    parents, ways = np.zeros(count, np.int64), np.zeros(count)
    for i in range(1, count):
        least, choice = np.inf, 0
        for j in range(i):
            x, y, z = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1], points[i, 2] - points[j, 2]
            length = math.sqrt(x * x + y * y + z * z)
            cost = length + DETOUR * ways[j]
            if cost >= least:
                continue
            if j:
                p = parents[j]
                u, v, w = (
                    points[j, 0] - points[p, 0],
                    points[j, 1] - points[p, 1],
                    points[j, 2] - points[p, 2],
                )
                before = math.sqrt(u * u + v * v + w * w)
                cost += BEND_MM * (1.0 - (x * u + y * v + z * w) / (length * before + 1e-9))
            if cost < least:
                least, choice = cost, j
        x, y, z = (
            points[i, 0] - points[choice, 0],
            points[i, 1] - points[choice, 1],
            points[i, 2] - points[choice, 2],
        )
        parents[i], ways[i] = choice, ways[choice] + math.sqrt(x * x + y * y + z * z)
    return parents


@njit(nogil=True, cache=True)
def draw_tube(
    plane: Slices16, side: Slices8, tube: Floats, slab: tuple[float, float], pixel: tuple[float, float]
) -> None:
    """Draw what one slab holds of one tube: plane and side (y, x); see `draw_tubes`."""
    x0, y0, z0, r0, x1, y1, z1, r1, hu = tube
    rows, columns = plane.shape
    dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
    flat_2, low_z, high_z = dx * dx + dy * dy, min(z0, z1), max(z0, z1)
    length_2, radius = flat_2 + dz * dz + 1e-9, max(r0, r1)
    lean = math.sqrt(flat_2 / length_2) + 1e-6
    begin, end = 0.0, 1.0  # the part of the axis near the slab
    if abs(dz) > 1e-6:
        a, b = (slab[0] - radius * lean - z0) / dz, (slab[1] + radius * lean - z0) / dz
        begin, end = max(begin, min(a, b)), min(end, max(a, b))
    if end < begin:
        return
    ax, ay, bx, by = x0 + begin * dx, y0 + begin * dy, x0 + end * dx, y0 + end * dy
    reach_x, reach_y = radius + pixel[0], radius + pixel[1]
    left = max(int((min(ax, bx) - reach_x) / pixel[0] + 0.5 * columns), 0)
    right = min(int((max(ax, bx) + reach_x) / pixel[0] + 0.5 * columns) + 1, columns)
    bottom = max(int((min(ay, by) - reach_y) / pixel[1] + 0.5 * rows), 0)
    top = min(int((max(ay, by) + reach_y) / pixel[1] + 0.5 * rows) + 1, rows)
    for row in range(bottom, top):
        y = (row + 0.5 - 0.5 * rows) * pixel[1]
        for column in range(left, right):
            if side[row, column] == 0:
                continue
            x = (column + 0.5 - 0.5 * columns) * pixel[0]
            place = ((x - x0) * dx + (y - y0) * dy) / flat_2 if flat_2 > 1e-9 else 0.5
            place = min(max(place, begin), end)
            off_x, off_y = x - x0 - place * dx, y - y0 - place * dy
            off = math.sqrt(off_x * off_x + off_y * off_y)
            r = r0 + place * (r1 - r0)
            edge = min((r - off) / pixel[0] + 0.5, 1.0)
            if edge <= 0.0:
                continue
            # The chord of the tube along z over this pixel, as far as the slab and the tube's ends reach.
            chord = math.sqrt(max(r * r - off * off, 0.06 * r * r)) / lean
            middle = z0 + place * dz
            upper = min(min(middle + chord, high_z + r), slab[1])
            lower = max(max(middle - chord, low_z - r), slab[0])
            part = edge * max(upper - lower, 0.0) / (slab[1] - slab[0])
            plane[row, column] += np.int16(np.rint((hu - plane[row, column]) * part))


@njit(nogil=True, cache=True)
def draw_tubes(
    hu: Slices16, side: Slices8, tubes: Floats, spacing_mm: tuple[float, float, float], thick_mm: float
) -> None:
    """Blend tubes into the lungs of `hu` (z, y, x), in order, as slices `thick_mm` thick see them.

    tubes : (n, 9), x, y, z and radius of both ends, then HU; mm from the middle of the slice in-plane,
    from the middle of the first slice along z.
    """
    for i in range(len(tubes)):
        radius = max(tubes[i, 3], tubes[i, 7])
        low, high = min(tubes[i, 2], tubes[i, 6]) - radius, max(tubes[i, 2], tubes[i, 6]) + radius
        first = max(math.ceil((low - 0.5 * thick_mm) / spacing_mm[0]), 0)
        last = min(math.floor((high + 0.5 * thick_mm) / spacing_mm[0]), len(hu) - 1)
        for z in range(first, last + 1):
            slab = (z * spacing_mm[0] - 0.5 * thick_mm, z * spacing_mm[0] + 0.5 * thick_mm)
            draw_tube(hu[z], side[z], tubes[i], slab, (spacing_mm[2], spacing_mm[1]))


@njit(nogil=True, cache=True)
def distance_to_wall(side: Slices8, step: int, pixel_mm: float) -> NDArray[np.float32]:
    """Distance in-plane to the outline of the lungs, mm, every `step` voxels; 0 outside (chamfer, 5-7)."""
    slices, rows, columns = (
        side.shape[0],
        (side.shape[1] + step - 1) // step,
        (side.shape[2] + step - 1) // step,
    )
    found = np.zeros((slices, rows, columns), np.float32)
    straight, slanted = np.float32(step * pixel_mm), np.float32(1.4 * step * pixel_mm)
    for z in range(slices):
        plane = found[z]
        for y in range(1, rows - 1):
            for x in range(1, columns - 1):
                if 0 < side[z, y * step, x * step] < EDGE:
                    near = min(plane[y - 1, x], plane[y, x - 1]) + straight
                    plane[y, x] = min(near, min(plane[y - 1, x - 1], plane[y - 1, x + 1]) + slanted)
        for y in range(rows - 2, 0, -1):
            for x in range(columns - 2, 0, -1):
                if plane[y, x] > 0.0:
                    near = min(plane[y + 1, x], plane[y, x + 1]) + straight
                    near = min(near, min(plane[y + 1, x - 1], plane[y + 1, x + 1]) + slanted)
                    plane[y, x] = min(plane[y, x], near)
    return found


@njit(nogil=True, cache=True)
def spline(place: float) -> tuple[float, float, float, float]:
    """Weights of four knots of a uniform cubic B-spline, `place` in [0, 1) between the middle two."""
    rest, square = 1.0 - place, place * place
    cube = square * place
    return (
        rest**3 / 6.0,
        (3.0 * cube - 6.0 * square + 4.0) / 6.0,
        (3.0 * (place + square - cube) + 1.0) / 6.0,
        cube / 6.0,
    )


@njit(nogil=True, cache=True)
def add_waves(field: NDArray[np.float32], knots: NDArray[np.float32]) -> None:
    """Add a cubic B-spline surface through the whole of `field` (z, y, x), knots (at least 4 each way)."""
    slices, rows, columns = field.shape
    wide = knots.shape[2]
    first, weights = np.empty(columns, np.int64), np.empty((columns, 4), np.float32)
    for x in range(columns):
        place = x * (wide - 3.0) / columns
        first[x] = int(place)
        w0, w1, w2, w3 = spline(place - first[x])
        weights[x] = np.array((w0, w1, w2, w3), np.float32)
    line = np.empty(wide, np.float32)
    for z in range(slices):
        place_z = z * (knots.shape[0] - 3.0) / slices
        of_z = spline(place_z - int(place_z))
        for y in range(rows):
            place_y = y * (knots.shape[1] - 3.0) / rows
            of_y = spline(place_y - int(place_y))
            line[:] = np.float32(0.0)
            for i in range(4):
                for j in range(4):
                    weight, row = np.float32(of_z[i] * of_y[j]), knots[int(place_z) + i, int(place_y) + j]
                    for k in range(wide):
                        line[k] += weight * row[k]
            for x in range(columns):
                k = first[x]
                low = weights[x, 0] * line[k] + weights[x, 1] * line[k + 1]
                field[z, y, x] += low + weights[x, 2] * line[k + 2] + weights[x, 3] * line[k + 3]


@njit(nogil=True, cache=True)
def stretch(line: NDArray[np.float32], field: NDArray[np.float32], y: int, span: tuple[int, int], step: int) -> None:
    """Values of one slice of a coarse field along row `y`, columns `span`, bilinear."""
    row, scale = y // step, np.float32(1.0 / step)
    below, last = min(row + 1, field.shape[0] - 1), field.shape[1] - 1
    down = np.float32(y - row * step) * scale
    for column in range(span[0] // step, (span[1] - 1) // step + 1):
        beside = min(column + 1, last)
        here = field[row, column] + down * (field[below, column] - field[row, column])
        rise = (field[row, beside] + down * (field[below, beside] - field[row, beside]) - here) * scale
        for x in range(column * step, min((column + 1) * step, len(line))):
            line[x] = here + rise * np.float32(x - column * step)


@njit(nogil=True, cache=True)
def lung_span(row: NDArray[np.uint8]) -> tuple[int, int]:
    """First column of a row of side codes that is not 0, and the one after the last; (0, 0) if all are."""
    low, high = 0, len(row)
    while low < high and row[low] == 0:
        low += 1
    while high > low and row[high - 1] == 0:
        high -= 1
    return (low, high) if high > low else (0, 0)


@njit(nogil=True, cache=True)
def histogram(
    side: Slices8,
    spread: NDArray[np.float32],
    wanted: NDArray[np.float32],
    least: float,
    step: int,
    ends: tuple[float, float],
) -> NDArray[np.int64]:
    """Histogram, BINS between `ends`, of a coarse field over lung voxels where `spread` is at least `least`.

    Every other row is counted, another one in each slice.
    """
    counts = np.zeros(BINS, np.int64)
    scale = np.float32(BINS / (ends[1] - ends[0]))
    low, floor = np.float32(ends[0]), np.float32(least)
    over, value = np.empty(side.shape[2], np.float32), np.empty(side.shape[2], np.float32)
    for z in range(side.shape[0]):
        for y in range(z % 2, side.shape[1], 2):
            span = lung_span(side[z, y])
            if span[1] == 0:
                continue
            stretch(over, spread[z], y, span, step)
            stretch(value, wanted[z], y, span, step)
            for x in range(span[0], span[1]):
                if 0 < side[z, y, x] < EDGE and over[x] >= floor:
                    counts[min(max(int((value[x] - low) * scale), 0), BINS - 1)] += 1
    return counts


@njit(nogil=True, cache=True)
def fill_lungs(hu: Slices16, side: Slices8, lesion: Slices8, lung: Lung, disease: Disease) -> None:
    """Give lungs their gravity, texture and disease, in place.

    `side` keeps the labels only, `lesion` (uint8, 0 so far) gets 1 where the lungs are ill.
    """
    slices, rows, columns = hu.shape
    span_hu, softness = TISSUE_HU - np.float32(lung.hu), np.float32(1.0 / disease.soft)
    spread_limit, solid_limit = np.float32(disease.spread_limit), np.float32(disease.solid_limit)
    tile, ill = lung.texture.shape[0], disease.spread.shape[0] == slices
    zero, half, one = np.float32(0.0), np.float32(0.5), np.float32(1.0)
    over, dense = np.full(columns, -np.inf, np.float32), np.zeros(columns, np.float32)
    filled = np.zeros(columns, np.float32)
    for z in range(slices):
        for y in range(rows):
            span = lung_span(side[z, y])
            if span[1] == 0:
                continue
            if ill:
                stretch(over, disease.spread[z], y, span, disease.step)
                stretch(dense, disease.solid[z], y, span, disease.step)
                stretch(filled, disease.filled[z], y, span, disease.step)
            fall = np.float32(lung.gravity * (0.5 * rows - y))
            grain = lung.texture[(y + z * 97) % tile]
            for x in range(span[0], span[1]):
                where = side[z, y, x]
                if where == 0:
                    continue
                value, texture = np.float32(hu[z, y, x]), grain[(x + 3 * z) % tile]
                air = min(max((TISSUE_HU - value) / span_hu, zero), one)
                value += air * (fall + texture)
                above = over[x] - spread_limit
                ramp = min(max(above * softness + half, zero), one)
                if ramp > zero:
                    part = ramp * filled[x] * (one + texture * lung.patchy)
                    if above >= zero:
                        solid = min(max((dense[x] - solid_limit) * softness + half, zero), one)
                        part += (np.float32(disease.solid_filled) - part) * solid
                        lesion[z, y, x] = where != EDGE
                    value += part * (TISSUE_HU - value)
                hu[z, y, x] = np.int16(np.rint(value))
                if where == EDGE:
                    side[z, y, x] = 0


@njit(nogil=True, cache=True)
def scramble(number: np.uint32) -> np.uint32:
    """Integer hash lowbias32 (C. Wellons, 2018): every bit of the answer depends on every bit given."""
    h = np.uint32((number ^ (number >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@njit(nogil=True, cache=True)
def white_row(into: NDArray[np.float32], start: np.uint32) -> None:
    """White noise of standard deviation 1: of each voxel's hash, the sum of its four bytes."""
    for x in range(len(into)):
        h = scramble(np.uint32(start + np.uint32(x) * np.uint32(0x9E3779B9)))
        total = (h & np.uint32(255)) + ((h >> np.uint32(8)) & np.uint32(255))
        total += ((h >> np.uint32(16)) & np.uint32(255)) + (h >> np.uint32(24))
        into[x] = (np.float32(np.int32(total)) - np.float32(510.0)) / BYTES_SD


@njit(nogil=True, cache=True)
def scan(hu: Slices16, scanner: Scanner) -> None:
    """Add the noise of a scanner to `hu` (z, y, x), in place, and pad what it does not reconstruct."""
    slices, rows, columns = hu.shape
    soft = np.float32(scanner.softness)
    white, mixed = np.empty((3, columns), np.float32), np.empty(columns + 2, np.float32)
    lowest = np.float32(-1024.0)
    for z in range(slices):
        start_of_slice = scramble(np.uint32(scramble(np.uint32(scanner.seed)) + np.uint32(z)))
        for y in range(-2, rows):
            # One row ahead, so that a row and both its neighbours are at hand.
            start = scramble(np.uint32(start_of_slice + np.uint32(y + 2)))
            white_row(white[(y + 1) % 3], start)
            if y < 0:
                continue
            above, here, below = white[(y + 2) % 3], white[y % 3], white[(y + 1) % 3]
            for x in range(columns):
                mixed[x + 1] = here[x] + soft * (above[x] + below[x])
            mixed[0], mixed[columns + 1] = mixed[1], mixed[columns]
            level = scanner.slice_hu[z] * scanner.row[y]
            line = hu[z, y]
            for x in range(columns):
                grain = mixed[x + 1] + soft * (mixed[x] + mixed[x + 2])
                value = np.float32(line[x]) + level * scanner.column[x] * grain
                line[x] = np.int16(np.rint(max(value, lowest)))
            if scanner.padding_hu:
                off = (y + 0.5) / (0.5 * rows) - 1.0
                edge = int(0.5 * columns * (1.0 - math.sqrt(max(1.0 - off * off, 0.0))))
                line[:edge] = scanner.padding_hu
                line[columns - edge :] = scanner.padding_hu
