"""What a gather needs to know: where each output voxel reads (Grid) and what its value becomes (Line)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastct.errors import OptionError
from fastct.geometry import Geometry, Shape, Spacing

# Indices are counted in steps of 2^-32 voxel, in whole numbers: adding them is exact, so a CPU, a GPU
# and any order of the loops read the same place. Over 512 voxels the rounding of a step is 6e-8 voxel.
FRACTION_BITS = 32
# Places of up to 2^29 voxels leave room in 64 bits for adding two of them.
LARGEST_INDEX = 2**29
LARGEST_VOXELS = 2**40  # no machine has the memory for more
# A volume ends half a voxel beyond its outer centres, as in ITK: up to there the edge is repeated.
FLOAT32_OVERFLOW = 2.0**128 - 2.0**103  # rounds to infinity
INSIDE_MARGIN = 1 << (FRACTION_BITS - 1)
ENDLESS_MARGIN = 1 << 62
OWN_PLACES = np.eye(3, 4, dtype=np.int64) << FRACTION_BITS  # of a grid that reads each voxel at its own index


@dataclass(frozen=True, eq=False)
class Grid:
    """Output voxels and the places of the source volume that they read.

    Parameters
    ----------
    shape : (z, y, x) of the output.
    affine : (3, 4) float64, maps an output index (z, y, x, 1) to a source index (z, y, x).

    Raises
    ------
    OptionError
        If a place is not finite, or lies too far off to be counted.

    Examples
    --------
    >>> Grid((2, 2, 2), np.eye(3, 4)).places[0] / 2**32
    array([1., 0., 0., 0.])
    """

    shape: Shape
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        reach = np.abs(self.affine) @ (*self.shape, 1.0)
        farthest = max(*reach.tolist(), *self.shape)
        if not farthest < LARGEST_INDEX:
            raise OptionError(
                "grid",
                f"it is {farthest:g} voxels long or reads that far away, and the most is {LARGEST_INDEX}",
                "Check the spacings and the affine",
            )
        if prod(self.shape) > LARGEST_VOXELS:
            raise OptionError("grid", f"it has {prod(self.shape):,} voxels", "Check the spacings: they are millimetres")

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """`affine` in whole steps of 2^-32 voxel: (3, 4) int64."""
        return np.rint(np.ldexp(self.affine, FRACTION_BITS)).astype(np.int64)

    @cached_property
    def source_axes(self) -> tuple[int, int, int] | None:
        """The source axis that each output axis runs along, or None where one runs askew."""
        along = self.places[:, :3] != 0
        if (along.sum(axis=0) != 1).any() or (along.sum(axis=1) != 1).any():
            return None
        z, y, x = along.argmax(axis=0).tolist()
        return z, y, x

    @cached_property
    def is_whole(self) -> bool:
        """Whether every place is a voxel's own, so that there is nothing to interpolate."""
        return not (self.places & ((1 << FRACTION_BITS) - 1)).any()

    def needed(self, shape: Shape) -> tuple[Shape, Shape]:
        """The box of a volume of that shape that is read: its first voxel and its shape, of one voxel at least."""
        reach = self.places[:, :3] * (np.array(self.shape) - 1)
        low = self.places[:, 3] + np.minimum(reach, 0).sum(axis=1)
        high = self.places[:, 3] + np.maximum(reach, 0).sum(axis=1)
        last = np.array(shape) - 1
        first = np.clip(low >> FRACTION_BITS, 0, last)
        stop = np.clip((high >> FRACTION_BITS) + 1, 0, last) + 1  # a neighbour more, to be blended with
        (z, y, x), (depth, height, width) = first.tolist(), (stop - first).tolist()
        return (z, y, x), (depth, height, width)

    def copies(self, shape: Sequence[int]) -> bool:
        """Whether every output voxel is the voxel of the same index in a volume of that shape."""
        return self.shape == tuple(shape) and bool((self.places == OWN_PLACES).all())


@dataclass(frozen=True)
class Line:
    """A clamped linear map of intensities: (value - anchor) * slope + offset, kept in [floor, ceiling].

    Every operation is rounded to float32 in that order. The value `anchor` becomes `offset` exactly, and
    values near it keep all their digits, which `value * slope + bias` would lose far from 0 HU.

    Raises
    ------
    OptionError
        If a term is not a number that float32 holds, or the map of an int16 overflows.
    """

    anchor: float = 0.0
    slope: float = 1.0
    offset: float = 0.0
    floor: float = -np.inf
    ceiling: float = np.inf

    def __post_init__(self) -> None:
        extreme = (2.0**15 + abs(self.anchor)) * abs(self.slope) + abs(self.offset)
        if not extreme < FLOAT32_OVERFLOW or not self.floor <= self.ceiling:
            raise OptionError("intensity", f"{self} overflows float32", "Give smaller scales and shifts")

    @cached_property
    def scalars(self) -> tuple[np.float32, ...]:
        """Anchor, slope, offset, floor and ceiling as the kernels take them (0 is never -0)."""
        terms = (self.anchor, self.slope, self.offset, self.floor, self.ceiling)
        return tuple(np.float32(term + 0.0) for term in terms)

    def __call__(self, value: float) -> np.float32:
        """The map of one value, as a kernel works it out."""
        anchor, slope, offset, floor, ceiling = self.scalars
        return min(max((np.float32(value) - anchor) * slope + offset, floor), ceiling)

    def then(self, scale: float, shift: float) -> "Line":
        """This map, its results multiplied by `scale` and moved by `shift`."""
        ends = sorted((_scaled(self.floor, scale, shift), _scaled(self.ceiling, scale, shift)))
        return Line(self.anchor, self.slope * scale, self.offset * scale + shift, *ends)

    def windowed(self, low: float, high: float) -> "Line":
        """This map, then [low, high] of its results to [0, 1], clamped."""
        if self == IDENTITY:
            return _window_of_hu(low, high)
        scale = 1.0 / (high - low)
        moved = self.then(scale, -low * scale)
        floor, ceiling = np.clip((moved.floor, moved.ceiling), 0.0, 1.0).tolist()
        return Line(moved.anchor, moved.slope, moved.offset, floor, ceiling)


IDENTITY = Line()  # values stay as they are


@lru_cache
def _window_of_hu(low: float, high: float) -> Line:
    """The map of [low, high] to [0, 1], clamped."""
    # A whole anchor can be taken from a voxel exactly, whatever the window.
    anchor, scale = float(round(low)), 1.0 / (high - low)
    return Line(anchor, scale, (anchor - low) * scale, 0.0, 1.0)


def _scaled(end: float, scale: float, shift: float) -> float:
    """An end of a map after scaling; where the scale is 0 an endless one ends at the shift."""
    return shift if scale == 0 else end * scale + shift


@dataclass(frozen=True, eq=False)
class Reading:
    """How one output is read from one volume.

    Parameters
    ----------
    grid : the output voxels and their places.
    line : the map of intensities, before interpolating.
    order : 1 linear, for images; 0 nearest, for labels.
    fill : the value read half a voxel and more outside of the volume; None repeats the edge.
    noise_sigma, noise_key : added Gaussian noise after the map, drawn from a 64-bit key.
    """

    grid: Grid
    line: Line = IDENTITY
    order: int = 1
    fill: float | None = None
    noise_sigma: float = 0.0
    noise_key: int = 0

    @cached_property
    def settings(self) -> "Settings":
        """How values are mapped, inside and outside of the volume, as the kernels take it."""
        endless = self.fill is None
        return Settings(
            line=self.line.scalars,
            margin=np.int64(ENDLESS_MARGIN if endless else INSIDE_MARGIN),
            outside=self.line(0.0 if self.fill is None else self.fill),
        )

    @cached_property
    def turn(self) -> tuple[NDArray[np.int64], tuple[tuple[float, ...], int, float, int]]:
        """Places and settings as `fastct._ext.patches` takes them."""
        line, margin, outside = self.settings
        order = 0 if self.grid.is_whole else self.order
        return self.grid.places, (tuple(map(float, line)), int(margin), float(outside), order)


class Settings(NamedTuple):
    """The plain numbers of a Reading.

    `line` holds the scalars of a Line; `margin` is how far beyond the outer centres the edge is
    repeated, in steps of 2^-32 voxel; farther off an output voxel becomes `outside`.
    """

    line: tuple[np.float32, ...]
    margin: np.int64
    outside: np.float32


@lru_cache
def window_line(low_hu: float, high_hu: float, dtype: DTypeLike = np.float32) -> Line:
    """The map of a window to [0, 1], or to [0, 255] for uint8."""
    line = IDENTITY.windowed(low_hu, high_hu)
    return line.then(255.0, 0.0) if np.dtype(dtype) == np.uint8 else line


def resampled_shape(shape: Sequence[int], spacing_mm: Spacing, to_mm: Spacing) -> Shape:
    """Voxels along (z, y, x) once the spacing is `to_mm`."""
    z, y, x = (max(1, round(n * spacing / to)) for n, spacing, to in zip(shape, spacing_mm, to_mm, strict=True))
    return z, y, x


def centred_grid(shape: Sequence[int], resized: Shape, ratio: NDArray[np.float64]) -> Grid:
    """The grid of `resized` voxels, each `ratio` source voxels apart, that shares the volume's centre."""
    centre, resized_centre = (np.array(shape) - 1) / 2, (np.array(resized) - 1) / 2
    return Grid(resized, np.column_stack([np.diag(ratio), centre - resized_centre * ratio]))


@lru_cache
def resample_grid(shape: Shape, spacing_mm: Spacing, to_mm: Spacing) -> Grid:
    """The grid of spacing `to_mm` that shares its physical centre with a volume of `spacing_mm`."""
    ratio = np.array(to_mm, dtype=np.float64) / np.array(spacing_mm, dtype=np.float64)
    return _shared(centred_grid(shape, resampled_shape(shape, spacing_mm, to_mm), ratio))


@lru_cache
def identity_grid(shape: Shape) -> Grid:
    """The grid that reads every voxel of a volume once."""
    return _shared(Grid(shape, np.eye(3, 4)))


def _shared(grid: Grid) -> Grid:
    """A grid that several callers are given, and none may change."""
    grid.affine.flags.writeable = grid.places.flags.writeable = False
    return grid


def geometry_on(grid: Grid, geometry: Geometry) -> Geometry:
    """Where the output voxels of a grid lie, if `geometry` is that of the volume it reads."""
    return Geometry(grid.shape, affine_on(grid, geometry.affine))


def affine_on(grid: Grid, affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """What maps output voxels (x, y, z) of a grid to RAS mm, if `affine` does so for those of the volume it reads."""
    source_from_output = np.zeros((4, 4))
    source_from_output[:3] = grid.affine[::-1, (2, 1, 0, 3)]  # NIfTI counts (x, y, z)
    source_from_output[3, 3] = 1.0
    return affine @ source_from_output
