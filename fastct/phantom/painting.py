"""Paints closed outlines into CT slices with exact area coverage: how a synthetic chest is drawn."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HARMONICS = 4  # waves round an outline: 2, 3, 4 and 5 to the turn; the first would only shift it
TISSUE, RIGHT, LEFT = 0, 1, 2  # what a layer is; lungs carry the labels of a lung mask
EDGE = 3  # side code of a voxel that is lung for less than half: no label, but not all tissue either
TRACE = 0.02  # shares of lung below this are rounding
RIB_STEPS = 48  # points along half a chest wall: about 8 mm apart


class Layers(NamedTuple):
    """What is painted, in order: L layers as seen in P planes, several planes to a slice.

    eggs : (L, P, 8) float64, see `trace_egg`. waves : (L, HARMONICS, 3), amplitude as a share of the
    radius, phase, turn per millimetre. looks : (L, 4), HU, TISSUE | RIGHT | LEFT, index of the curve, 1
    where the layer stays put when the patient turns. curves : (C, points, 2 + 2 * HARMONICS), points of
    unit superellipses, then cosines and sines of the waves. ribs : (R, 8), see `trace_rib`, then HU.
    depths_mm : (P,), of the planes below the top of the lungs.
    """

    eggs: Floats
    waves: Floats
    looks: Floats
    curves: Floats
    ribs: Floats
    depths_mm: Floats


class Frame(NamedTuple):
    """From patient to pixels: turn (cosine, sine), shift in mm, mm per pixel along x and y."""

    turn_cos: float
    turn_sin: float
    shift_x_mm: float
    shift_y_mm: float
    pixel_x_mm: float
    pixel_y_mm: float


class Canvas(NamedTuple):
    """Work space of one slice.

    plane_hu, lung : (y, x) float32; `lung` is the share of lung, right above and left below zero.
    cover : (y, x + 2) float32, differences along x of the share covered. span : (y, 2), columns touched.
    points : (n, 2), the outline at hand.
    """

    plane_hu: NDArray[np.float32]
    lung: NDArray[np.float32]
    cover: NDArray[np.float32]
    span: NDArray[np.int64]
    points: Floats


@njit(nogil=True, cache=True)
def canvas_for(rows: int, columns: int) -> Canvas:
    """An empty canvas."""
    span = np.empty((rows, 2), np.int64)
    span[:, 0], span[:, 1] = columns + 2, -1
    plane, lung = np.empty((rows, columns), np.float32), np.empty((rows, columns), np.float32)
    return Canvas(plane, lung, np.zeros((rows, columns + 2), np.float32), span, np.empty((512, 2)))


@njit(nogil=True, cache=True)
def add_step(canvas: Canvas, row: int, low: float, high: float, area: float) -> None:
    """Add one row's part of an edge that runs from column `low` to `high`: `area` to the right of it."""
    cover, span, columns = canvas.cover, canvas.span, canvas.plane_hu.shape[1]
    if low >= columns:  # beyond the picture, but what it closes reaches up to there
        span[row, 1] = columns
        return
    column, stop = max(math.floor(low), 0), min(max(math.ceil(high), 1), columns)
    if high <= column:
        cover[row, column] += area
    elif high <= column + 1 and low >= column:
        right = area * (0.5 * (low + high) - column)
        cover[row, column] += area - right
        cover[row, column + 1] += right
        stop = column + 1
    else:
        slope, before = 1.0 / (high - low), 0.0
        for c in range(column, stop):  # integral of a ramp from 0 at low to 1 at high, pixel by pixel
            begin, end = max(c - low, 0.0), min(c + 1.0, high) - low
            after = 0.5 * slope * (end * end - begin * begin) + max(c + 1.0 - high, 0.0)
            cover[row, c] += area * (after - before)
            before = after
        cover[row, stop] += area * (1.0 - before)
    span[row, 0], span[row, 1] = min(span[row, 0], column), max(span[row, 1], stop)


@njit(nogil=True, cache=True)
def add_outline(canvas: Canvas, count: int, weight: float) -> None:
    """Add the outline at hand (pixel edges), to be laid with this weight.

    Signed areas are gathered as differences along x; a running sum gives the share of every pixel that
    is covered (the accumulation buffer of R. Levien's font-rs).
    """
    rows = len(canvas.plane_hu)
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        x0, y0, x1, y1 = canvas.points[i, 0], canvas.points[i, 1], canvas.points[j, 0], canvas.points[j, 1]
        sign = weight
        if y0 > y1:
            x0, y0, x1, y1, sign = x1, y1, x0, y0, -weight
        if y1 <= 0.0 or y0 >= rows or y1 - y0 < 1e-9:
            continue
        slope, x = (x1 - x0) / (y1 - y0), x0
        if y0 < 0.0:
            x, y0 = x - y0 * slope, 0.0
        for row in range(int(y0), min(rows, math.ceil(y1))):
            height = min(row + 1.0, y1) - max(float(row), y0)
            x_next = x + slope * height
            add_step(canvas, row, min(x, x_next), max(x, x_next), sign * height)
            x = x_next


@njit(nogil=True, cache=True)
def lay(canvas: Canvas, hu: float, lung: float, over_lung: bool) -> None:
    """Blend what was added into the slice, and clear the coverage.

    `lung` is 1 for right lung, -1 for left, 0 for all else, which displaces lung if it lies over it.
    """
    plane, share, cover, span = canvas.plane_hu, canvas.lung, canvas.cover, canvas.span
    rows, columns = plane.shape
    value, target = np.float32(hu), np.float32(lung)
    for row in range(rows):
        low, high = span[row, 0], span[row, 1]
        if high < low:
            continue
        total = np.float32(0.0)
        for column in range(low, min(high + 1, columns)):
            total += cover[row, column]
            cover[row, column] = np.float32(0.0)
            part = min(abs(total), np.float32(1.0))
            plane[row, column] += (value - plane[row, column]) * part
            if over_lung:
                share[row, column] += (target - share[row, column]) * part
        cover[row, columns] = cover[row, columns + 1] = np.float32(0.0)
        span[row, 0], span[row, 1] = columns + 2, -1


@njit(nogil=True, cache=True)
def trace_egg(layers: Layers, layer: int, place: int, points: Floats) -> int:
    """Outline of a layer in one plane, counter-clockwise in patient mm; its number of points, 0 if absent.

    An egg is x of its rightmost and leftmost point, y of its hindmost and foremost, x of the foremost
    and of the hindmost, y of the two at the sides, tilt in radians: four superellipse quarters join them.
    """
    right, left, back, front, x_front, x_back, y_side, tilt = layers.eggs[layer, place]
    if left - right < 1e-3 or front - back < 1e-3:
        return 0
    waves = np.zeros(2 * HARMONICS)
    for k in range(HARMONICS):
        amplitude, phase, turn = layers.waves[layer, k]
        waves[k] = amplitude * math.cos(phase + turn * layers.depths_mm[place])
        waves[HARMONICS + k] = amplitude * math.sin(phase + turn * layers.depths_mm[place])
    curve = layers.curves[int(layers.looks[layer, 2])]
    turn_cos, turn_sin, middle = math.cos(tilt), math.sin(tilt), 0.5 * (x_front + x_back)
    for i in range(curve.shape[0]):
        across, along, wave = curve[i, 0], curve[i, 1], 1.0
        for k in range(2 * HARMONICS):
            wave += waves[k] * curve[i, 2 + k]
        root = x_front if along >= 0.0 else x_back
        x = wave * (root + across * (left - root if across >= 0.0 else root - right) - middle)
        y = wave * along * (front - y_side if along >= 0.0 else y_side - back)
        points[i, 0] = middle + turn_cos * x - turn_sin * y
        points[i, 1] = y_side + turn_sin * x + turn_cos * y
    return len(curve)


@njit(nogil=True, cache=True)
def to_pixels(canvas: Canvas, count: int, frame: Frame, still: bool) -> None:
    """Turn the outline at hand from patient millimetres into pixel edges."""
    rows, columns = canvas.plane_hu.shape
    points = canvas.points
    for i in range(count):
        x, y = points[i, 0], points[i, 1]
        if not still:
            x, y = (
                frame.turn_cos * x - frame.turn_sin * y + frame.shift_x_mm,
                frame.turn_sin * x + frame.turn_cos * y + frame.shift_y_mm,
            )
        points[i, 0] = x / frame.pixel_x_mm + 0.5 * columns
        points[i, 1] = y / frame.pixel_y_mm + 0.5 * rows


@njit(nogil=True, cache=True)
def trace_rib(wall: Floats, is_left: bool, rib: Floats, depth_mm: float, band: Floats) -> int:
    """Cut of one rib by one plane: a band along the lung's outline `wall`; its number of points.

    rib : depth at the spine, drop on the way to the sternum, half height, half thickness, distance from
    the lung, all in mm; first and last share of that way which is drawn.
    """
    spine_mm, drop_mm, half_height_mm, half_thick_mm, gap_mm, begin, end = rib[:7]
    rounds, count, last = len(wall), 0, 2 * RIB_STEPS - 1
    for step in range(RIB_STEPS):
        way = step / (RIB_STEPS - 1.0)
        off = (spine_mm + drop_mm * way**1.15 - depth_mm) / half_height_mm
        if way < begin or way > end or abs(off) >= 1.0:
            continue
        # From behind (a little on the spine's side) round the flank to the front, in turns of the outline.
        turn = 0.685 + 0.55 * way if is_left else 0.815 - 0.55 * way
        i = int(turn * rounds)
        part, i = turn * rounds - i, i % rounds
        j, before = (i + 1) % rounds, (i + rounds - 1) % rounds
        x = wall[i, 0] + part * (wall[j, 0] - wall[i, 0])
        y = wall[i, 1] + part * (wall[j, 1] - wall[i, 1])
        along_x, along_y = wall[j, 0] - wall[before, 0], wall[j, 1] - wall[before, 1]
        length = math.sqrt(along_x * along_x + along_y * along_y) + 1e-9
        thick = half_thick_mm * math.sqrt(1.0 - off * off)
        for side, row in ((-1.0, count), (1.0, last - count)):
            reach = (gap_mm + half_thick_mm + side * thick) / length
            band[row, 0], band[row, 1] = x + reach * along_y, y - reach * along_x
        count += 1
    for i in range(count):  # the way back follows the way there
        band[count + i] = band[last + 1 - count + i]
    return 2 * count if count > 1 else 0


@njit(nogil=True, cache=True)
def paint_ribs(canvas: Canvas, layers: Layers, frame: Frame, lung: int, places: tuple[int, int]) -> None:
    """Paint the ribs of one side, bone first, then what lies in it."""
    walls = np.empty((places[1] - places[0], len(layers.curves[0]), 2))
    for i in range(len(walls)):
        if not trace_egg(layers, lung, places[0] + i, walls[i]):
            return
    is_left = layers.looks[lung, 1] == LEFT
    for rib in layers.ribs:
        seen = False
        for i in range(len(walls)):
            depth_mm = layers.depths_mm[places[0] + i]
            count = trace_rib(walls[i], is_left, rib, depth_mm, canvas.points)
            to_pixels(canvas, count, frame, False)
            add_outline(canvas, count, 1.0 / len(walls))
            seen = seen or count > 0
        if seen:
            lay(canvas, rib[7], 0.0, True)


@njit(nogil=True, cache=True)
def paint(hu: NDArray[np.int16], side: NDArray[np.uint8], layers: Layers, frame: Frame) -> None:
    """Paint a chest: `hu` (z, y, x) int16 without noise, `side` uint8 0, RIGHT, LEFT or EDGE.

    The P planes of `layers` are shared out over the slices in order and averaged within each.
    """
    slices, rows, columns = hu.shape
    per_slice = layers.eggs.shape[1] // slices
    canvas = canvas_for(rows, columns)
    for z in range(slices):
        canvas.plane_hu[:] = -1000.0
        canvas.lung[:] = 0.0
        over_lung = False
        for layer in range(len(layers.eggs)):
            seen = False
            for place in range(z * per_slice, (z + 1) * per_slice):
                count = trace_egg(layers, layer, place, canvas.points)
                to_pixels(canvas, count, frame, layers.looks[layer, 3] != 0.0)
                add_outline(canvas, count, 1.0 / per_slice)
                seen = seen or count > 0
            role = layers.looks[layer, 1]
            if seen:
                over_lung = over_lung or role != TISSUE
                lung = 1.0 if role == RIGHT else -1.0 if role == LEFT else 0.0
                lay(canvas, layers.looks[layer, 0], lung, over_lung)
        for layer in range(len(layers.eggs)):
            if layers.looks[layer, 1] != TISSUE:
                paint_ribs(canvas, layers, frame, layer, (z * per_slice, (z + 1) * per_slice))
        for y in range(rows):
            for x in range(columns):
                share = canvas.lung[y, x]
                hu[z, y, x] = np.int16(np.rint(canvas.plane_hu[y, x]))
                side[z, y, x] = RIGHT if share >= 0.5 else LEFT if share <= -0.5 else EDGE if abs(share) > TRACE else 0
