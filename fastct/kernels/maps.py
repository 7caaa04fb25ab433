"""The two maps of a gather: where each output voxel reads (Grid), and what its value becomes (Line)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastct.errors import OptionError
from fastct.geometry import Geometry

# Indices are counted in steps of 2^-32 voxel, in whole numbers: adding them is exact, so a CPU, a GPU
# and any order of the loops read the same place. Over 512 voxels the rounding of a step is 6e-8 voxel.
FRACTION_BITS = 32
# Volumes end half a voxel beyond their outer centres; beyond 2^30 voxels a place overflows 64 bits.
LARGEST_INDEX = 2**30

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


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
        reach = np.abs(self.affine) @ np.array([*self.shape, 1.0])
        farthest = max(*reach, *self.shape)
        if not farthest < LARGEST_INDEX:
            raise OptionError(
                "grid",
                f"it is {farthest:g} voxels long or reads that far away, and the most is {LARGEST_INDEX}",
                "Check the spacings and the affine",
            )

    @property
    def places(self) -> NDArray[np.int64]:
        """`affine` in whole steps of 2^-32 voxel: (3, 4) int64."""
        return np.rint(np.ldexp(self.affine, FRACTION_BITS)).astype(np.int64)


@dataclass(frozen=True)
class Line:
    """A clamped linear map of intensities: (value - anchor) * slope + offset, kept in [floor, ceiling].

    Every operation is rounded to float32 in that order. The value `anchor` becomes `offset` exactly, and
    values near it keep all their digits, which `value * slope + bias` would lose far from 0 HU.
    """

    anchor: float = 0.0
    slope: float = 1.0
    offset: float = 0.0
    floor: float = -np.inf
    ceiling: float = np.inf

    @property
    def scalars(self) -> tuple[np.float32, ...]:
        """Anchor, slope, offset, floor and ceiling as the kernels take them."""
        return tuple(np.float32(term) for term in (self.anchor, self.slope, self.offset, self.floor, self.ceiling))


def window_line(low_hu: float, high_hu: float, dtype: DTypeLike = np.float32) -> Line:
    """The map of a window to [0, 1], or to the whole range of an integer `dtype`.

    The anchor is a whole number, so that taking it from a voxel is exact whatever the window.
    """
    top = float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0
    slope = top / (high_hu - low_hu)
    anchor = float(round(low_hu))
    return Line(anchor, slope, (anchor - low_hu) * slope, 0.0, top)


def resampled_shape(shape: Sequence[int], spacing_mm: Triple, to_mm: Triple) -> Shape:
    """Voxels along (z, y, x) once the spacing is `to_mm`."""
    z, y, x = (max(1, round(n * spacing / to)) for n, spacing, to in zip(shape, spacing_mm, to_mm, strict=True))
    return z, y, x


def resample_grid(shape: Sequence[int], spacing_mm: Triple, to_mm: Triple) -> Grid:
    """The grid of spacing `to_mm` that shares its physical centre with a volume of `spacing_mm`."""
    resampled = resampled_shape(shape, spacing_mm, to_mm)
    ratio = np.array(to_mm, dtype=np.float64) / np.array(spacing_mm, dtype=np.float64)
    centre, resampled_centre = (np.array(shape) - 1) / 2, (np.array(resampled) - 1) / 2
    return Grid(resampled, np.column_stack([np.diag(ratio), centre - resampled_centre * ratio]))


def geometry_on(grid: Grid, geometry: Geometry) -> Geometry:
    """Where the output voxels of a grid lie, if `geometry` is that of the volume it reads."""
    flipped = grid.affine[::-1]  # NIfTI counts (x, y, z)
    source_from_output = np.eye(4)
    source_from_output[:3] = np.column_stack([flipped[:, 2::-1], flipped[:, 3]])
    return Geometry(grid.shape, geometry.affine @ source_from_output)
