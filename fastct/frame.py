"""A Frame: what the steps of preprocessing have come to so far."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import OptionError
from fastct.geometry import Shape, Spacing
from fastct.kernels.maps import IDENTITY, Grid, Line

Matrix = NDArray[np.float64]
UPRIGHT: Matrix = np.eye(3)  # turns nothing
UPRIGHT.setflags(write=False)


@dataclass(frozen=True)
class Frame:
    """What the steps so far have come to: where the output reads, and what becomes of the values.

    `spacing_mm` is the distance of output voxels along (z, y, x), as the steps count millimetres.
    """

    grid: Grid
    spacing_mm: Spacing
    line: Line = IDENTITY
    noise_sigma: float = 0.0
    noise_key: int = 0

    def read_on(self, shape: Shape, matrix: Matrix, start: Any, spacing_mm: Spacing | None = None) -> "Frame":
        """This frame, each voxel o of the output now read at `matrix @ o + start` of what was before."""
        before, affine = self.grid.affine[:, :3], np.empty((3, 4))
        np.matmul(before, matrix, out=affine[:, :3])
        np.add(before @ start, self.grid.affine[:, 3], out=affine[:, 3])
        return replace(self, grid=Grid(shape, affine), spacing_mm=spacing_mm or self.spacing_mm)

    def turned(self, matrix: Matrix) -> "Frame":
        """This frame, read through a matrix about its centre."""
        centre = np.array([(n - 1) / 2 for n in self.grid.shape])
        return self.read_on(self.grid.shape, matrix, centre - matrix @ centre)

    def mapped(self, line: Line) -> "Frame":
        """This frame with another map of intensities."""
        if self.noise_sigma > 0:
            raise OptionError("steps", "an intensity step comes after Noise", "Put Noise last")
        return replace(self, line=line)
