"""Where voxels lie: shape and affine of a volume, and the views that put it upright."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastct.errors import ArrayError

Shape = tuple[int, int, int]  # voxels along (z, y, x); also where one of them lies
Spacing = tuple[float, float, float]  # mm along (z, y, x)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape and place of a volume.

    Parameters
    ----------
    shape : (z, y, x), three whole numbers of at least 1.
    affine : (4, 4) float64, maps voxel (i, j, k) = (x, y, z index) to RAS millimetres, as NIfTI does.

    Raises
    ------
    ArrayError
        If the shape or the affine is not one of a 3-D volume.

    Examples
    --------
    >>> import numpy as np
    >>> Geometry((40, 512, 512), np.diag([-0.75, 0.75, 8.0, 1.0])).spacing_mm
    (8.0, 0.75, 0.75)
    """

    shape: Shape
    affine: NDArray[np.float64]

    def __init__(self, shape: ArrayLike, affine: ArrayLike) -> None:
        sizes = np.asarray(shape)
        try:
            matrix = np.asarray(affine).astype(np.float64, casting="same_kind")
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if sizes.shape != (3,) or not np.issubdtype(sizes.dtype, np.integer) or sizes.min() < 1:
            raise ArrayError("geometry", f"shape is {shape!r}", "Give (z, y, x), each at least 1")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
            raise ArrayError("geometry", f"affine has shape {matrix.shape} or is not finite", "Give (4, 4) numbers")
        if not np.array_equal(matrix[3], (0, 0, 0, 1)) or not abs(np.linalg.det(matrix[:3, :3])) > 0:
            raise ArrayError("geometry", "affine is singular or its last row is not 0 0 0 1", "Give an invertible one")
        matrix.setflags(write=False)
        object.__setattr__(self, "shape", tuple(int(n) for n in sizes))
        object.__setattr__(self, "affine", matrix)

    @cached_property
    def spacing_mm(self) -> Spacing:
        """Distance between voxel centres along (z, y, x), in millimetres."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        return float(z), float(y), float(x)

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @cached_property
    def anatomical_axes(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """How to look at the array upright: (axes, signs).

        `hu.transpose(axes)` has its axes along (superior, anterior, left), up to direction; where a
        sign is -1 the axis runs the other way (inferior, posterior, right). Oblique volumes take the
        nearest axes, each once.
        """
        world = self.affine[:3, :3] / np.array(self.spacing_mm[::-1])  # columns i, j, k; rows R, A, S
        free, axes, signs = [0, 1, 2], {}, {}
        for _ in range(3):
            row, column = max(((r, c) for r in range(3) if r not in axes for c in free), key=lambda rc: abs(world[rc]))
            axes[row] = column
            signs[row] = 1 if world[row, column] > 0 else -1
            free.remove(column)
        return (2 - axes[2], 2 - axes[1], 2 - axes[0]), (signs[2], signs[1], -signs[0])

    def upright(self, array: NDArray) -> NDArray:  # type: ignore[type-arg]
        """View of a (z, y, x) array with axes (to superior, to anterior, to patient left)."""
        axes, signs = self.anatomical_axes
        return array.transpose(axes)[tuple(slice(None, None, sign) for sign in signs)]

    def upright_spacing_mm(self) -> Spacing:
        """Spacing along the axes of `upright`."""
        axes, _ = self.anatomical_axes
        return tuple(self.spacing_mm[axis] for axis in axes)  # type: ignore[return-value]

    def from_upright(self, array: NDArray) -> NDArray:  # type: ignore[type-arg]
        """View of an upright array back in this volume's own axis order: the inverse of `upright`."""
        axes, signs = self.anatomical_axes
        return array[tuple(slice(None, None, sign) for sign in signs)].transpose(np.argsort(axes))

    def matches(self, other: "Geometry", tolerance_mm: float = 1e-3) -> bool:
        """Whether both have the same shape and place every voxel within `tolerance_mm` of each other."""
        corners = np.array([(i, j, k, 1) for k in (0, 1) for j in (0, 1) for i in (0, 1)], dtype=np.float64)
        corners[:, :3] *= np.array(self.shape[::-1]) - 1
        distance = np.abs((self.affine - other.affine) @ corners.T).max()
        return self.shape == other.shape and bool(distance <= tolerance_mm)
