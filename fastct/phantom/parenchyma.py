"""What fills the lungs of a synthetic chest: vessels and bronchi, and ground glass and consolidation."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fastct.phantom import voxels as kernels
from fastct.phantom.anatomy import HU
from fastct.phantom.painting import LEFT, RIGHT
from fastct.phantom.patient import Patient

Floats = NDArray[np.float64]
Field = NDArray[np.float32]

# Hilum of each lung in the reference chest: x, y in mm, depth as a share of the lungs' height.
HILUM = {RIGHT: (-46.0, -8.0, 0.50), LEFT: (46.0, -12.0, 0.48)}
TREES = ((760, 0.0), (560, 9.0))  # ends of the arteries and veins of a lung; how much lower their root lies
END_RADIUS_MM, MURRAY = 0.66, 2.6  # of the last branches; exponent of Murray's law, as measured in lungs
PLEURA_MM = 5.0  # no vessel ends nearer to the wall
BRONCHUS_MM = 1.3  # arteries thicker than this go with a visible bronchus
COARSE_MM = 4.0  # grid on which disease is laid out
GLASS_FILLED = (0.23, 0.43)  # air displaced by ground glass: -650 to -470 HU in lungs of -860 HU
SPREAD_WAVES = ((75.0, 0.8), (34.0, 0.6), (15.0, 0.4), (9.0, 0.25))  # mm and weight: patches within patches
SOLID_WAVES = ((30.0, 1.0),)
FILLED_WAVES = ((28.0, 0.04), (10.0, 0.03))
SPLINE_SD = 0.33  # cubic B-splines in 3-D leave a third of the spread of their numbers
SOLID_FILLED = (0.86, 1.0)  # air displaced by consolidation: -80 HU to 40 HU


def vessel_tubes(side: NDArray[np.uint8], patient: Patient, random: Generator) -> Floats:
    """Tubes for `draw_tubes`: arteries, veins, then the walls and lumens of bronchi beside arteries."""
    vessels, walls, lumens = [], [], []
    for label, (x, y, share) in HILUM.items():
        for ends, lower_mm in TREES:
            root = patient.to_image_mm(x * patient.size_x, y * patient.size_y, share * patient.height_mm + lower_mm)
            points = _points(side, label, patient, ends, random)
            if len(points) < 2:
                continue
            points = points[np.argsort(((points - root) ** 2).sum(axis=1))]
            points = np.concatenate([root[None], points])
            parents = kernels.grow_tree(points)
            radius = _radii(parents)
            start, end = points[parents[1:]], points[1:]
            near = np.minimum(radius[parents[1:]], 1.15 * radius[1:])
            vessels.append(_tubes(start, end, near, 0.92 * radius[1:], HU["blood"]))
            if not lower_mm:
                wide = radius[1:] > BRONCHUS_MM
                beside = _beside(start[wide], end[wide]) * (1.9 * radius[1:][wide] + 0.6)[:, None]
                lumen = 0.85 * radius[1:][wide]
                walls.append(
                    _tubes(start[wide] + beside, end[wide] + beside, 1.25 * lumen + 0.3, 1.25 * lumen + 0.3, 0.0)
                )
                lumens.append(_tubes(start[wide] + beside, end[wide] + beside, lumen, lumen, -940.0))
    return np.concatenate(vessels + walls + lumens) if vessels else np.empty((0, 9))


def _points(side: NDArray[np.uint8], label: int, patient: Patient, count: int, random: Generator) -> Floats:
    """Places (n, 3) in one lung, off its wall, in mm as `draw_tubes` counts them; about `count`."""
    found = np.argwhere(side[:, ::8, ::8] == label)
    if not len(found):
        return np.empty((0, 3))
    low, high = found.min(axis=0) * (1, 8, 8), found.max(axis=0) * (1, 8, 8) + (0, 7, 7)
    places = random.integers(low, np.minimum(high, np.array(side.shape) - 1) + 1, (6 * count, 3))
    margin = [max(1, round(PLEURA_MM / step)) for step in patient.spacing_mm[1:]]
    inside = np.ones(len(places), bool)
    for y, x in ((0, 0), (margin[0], 0), (-margin[0], 0), (0, margin[1]), (0, -margin[1])):
        rows = np.clip(places[:, 1] + y, 0, side.shape[1] - 1)
        columns = np.clip(places[:, 2] + x, 0, side.shape[2] - 1)
        inside &= side[places[:, 0], rows, columns] == label
    kept = places[inside][:count] + random.uniform(-0.5, 0.5, (min(int(inside.sum()), count), 3))
    kept[:, 1:] -= 0.5 * (np.array(side.shape[1:]) - 1.0)
    return np.asarray((kept * patient.spacing_mm)[:, ::-1])


def _radii(parents: NDArray[np.int64]) -> Floats:
    """Radius of the vessel to each node, from how many ends it feeds (Murray's law)."""
    ends = np.zeros(len(parents))
    ends[np.setdiff1d(np.arange(len(parents)), parents)] = 1.0
    for node in range(len(parents) - 1, 0, -1):
        ends[parents[node]] += ends[node]
    return np.asarray(END_RADIUS_MM * ends ** (1.0 / MURRAY))


def _tubes(start: Floats, end: Floats, near: Floats, far: Floats, hu: float) -> Floats:
    return np.column_stack([start, near, end, far, np.full(len(start), hu)])


def _beside(start: Floats, end: Floats) -> Floats:
    """Unit vectors across the tubes, all turned the same way."""
    across = np.cross(end - start, (0.35, -0.2, 1.0))
    return np.asarray(across / (np.linalg.norm(across, axis=1, keepdims=True) + 1e-9))


def healthy() -> kernels.Disease:
    """No disease."""
    none = np.zeros((0, 1, 1), np.float32)
    return kernels.Disease(none, none, none, 1, 0.0, 0.0, 1.0, 0.0)


def disease(side: NDArray[np.uint8], patient: Patient, lesion_share: float, random: Generator) -> kernels.Disease:
    """Disease over this share of both lungs, mostly pleural, basal, posterior and on both sides."""
    step = max(1, round(COARSE_MM / patient.spacing_mm[2]))
    wall_mm = kernels.distance_to_wall(side, step, patient.spacing_mm[2])
    size_mm = np.array(wall_mm.shape) * (
        patient.spacing_mm[0],
        step * patient.spacing_mm[1],
        step * patient.spacing_mm[2],
    )
    z, y, x = _lung_axes(wall_mm)
    costal = np.clip(1.6 * np.hypot(x, 0.9 * y[:, None] + 0.1) - 0.5, 0.0, 1.0)  # not where the mediastinum is near
    spread = np.float32(random.uniform(0.5, 1.8)) * costal * np.exp(wall_mm * np.float32(-1.0 / 20.0))
    spread -= np.float32(random.uniform(0.2, 1.2)) * z[:, None, None]
    spread -= np.float32(random.uniform(0.3, 1.6)) * y[:, None]
    spread += np.float32(random.normal(0.0, 0.6)) * x
    _add_waves(spread, size_mm, SPREAD_WAVES, random)
    limit = _limit(side, spread, spread, -np.inf, step, lesion_share)
    solid = np.float32(0.7) * spread
    _add_waves(solid, size_mm, SOLID_WAVES, random)
    solid_share = random.uniform(0.0, 0.12) + 0.35 * lesion_share * random.random()
    solid_limit = _limit(side, spread, solid, limit, step, solid_share)
    filled = np.full(wall_mm.shape, random.uniform(*GLASS_FILLED), np.float32)
    _add_waves(filled, size_mm, FILLED_WAVES, random)
    return kernels.Disease(
        spread=spread,
        solid=solid,
        filled=np.clip(filled, np.float32(0.22), np.float32(0.5)),
        step=step,
        spread_limit=limit,
        solid_limit=solid_limit,
        soft=float(random.uniform(0.18, 0.4)),
        solid_filled=float(random.uniform(*SOLID_FILLED)),
    )


def _lung_axes(wall_mm: Field) -> list[Field]:
    """Coordinates along z, y and x, -1 and 1 where the lungs end."""
    axes = []
    for axis, count in enumerate(wall_mm.shape):
        inside = np.nonzero(wall_mm.any(axis=tuple(other for other in range(3) if other != axis)))[0]
        low, high = (inside[0], inside[-1]) if len(inside) else (0, count - 1)
        axes.append(((2.0 * np.arange(count) - low - high) / max(high - low, 1)).astype(np.float32))
    return axes


def _add_waves(field: Field, size_mm: Floats, waves: Sequence[tuple[float, float]], random: Generator) -> None:
    """Add smooth noise of mean 0: for each wave length in mm a standard deviation."""
    for wave_mm, deviation in waves:
        knots = [max(math.ceil(size / wave_mm), 1) + 3 for size in size_mm]
        numbers = random.standard_normal(knots, dtype=np.float32)
        kernels.add_waves(field, numbers * np.float32(deviation / SPLINE_SD))


def _limit(side: NDArray[np.uint8], spread: Field, wanted: Field, least: float, step: int, share: float) -> float:
    """The value that this share of lung voxels reaches, of those where `spread` is at least `least`."""
    ends = (float(wanted.min()), float(wanted.max()) + 1e-3)
    counts = kernels.histogram(side, spread, wanted, least, step, ends)
    above = np.concatenate([[0], np.cumsum(counts[::-1])])[::-1]  # reached by so many, at each bin's edge
    edges = np.linspace(*ends, len(above))
    return float(np.interp(share * above[0], above[::-1], edges[::-1]))
