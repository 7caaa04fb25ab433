"""A batch of studies on a GPU: their upright volumes in one stack, and tables with a row for each of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import device
from fastct.geometry import Geometry, Spacing
from fastct.kernels import masks
from fastct.kernels.gpu.pieces import Pairs, PiecesOfStack
from fastct.kernels.gpu.stacks import Stack

# Nobody on the host knows how many pieces and pairs there are, so their tables have a fixed size. In real CT a slice
# has at most 241 pieces (of noise darker than air in the trachea), and 18 pairs; a study that needs more is marked.
PIECES_OF_A_SLICE = 512
PAIRS_OF_A_SLICE = 512
NO_ROW = -1  # half width of rows that a smaller shape does not have


# A batch keeps to so much of a GPU's memory: for each word of a mask its 64 voxels and labels, some thirty masks, the
# labels of the runs of three of them, and a share of the tables of pieces.
BATCH_BYTES, BYTES_OF_A_WORD = 8 << 30, 1 << 10


@dataclass(frozen=True, eq=False)
class Studies:
    """A batch of studies, and the part of their stack in which the work goes on.

    Parameters
    ----------
    volumes : int16 (z, y, x) of each study, upright, on the GPU.
    spacings_mm : of each.
    stack : their slices.
    faults : int32 (studies,) on the GPU; not 0 where a table was too small, so that the masks are wrong.
    """

    volumes: tuple[Any, ...]
    spacings_mm: tuple[Spacing, ...]
    stack: Stack
    faults: Any

    def within(self, stack: Stack) -> "Studies":
        """The same studies in other frames."""
        return replace(self, stack=stack)

    def find_pieces(self, mask: Any, through: bool = False) -> PiecesOfStack:
        """Pieces of a mask, in slices or through all of a study."""
        return PiecesOfStack(self.stack, mask, PIECES_OF_A_SLICE * self.stack.shape[0], self.faults, through)

    def overlaps(self, pieces: PiecesOfStack) -> Pairs:
        """Pieces of slices over each other."""
        return pieces.overlaps(PAIRS_OF_A_SLICE)

    def terms(self, of_spacing: Callable[[Spacing], Sequence[float]]) -> NDArray[np.float64]:
        """A row of numbers for each study, made of its spacing."""
        return np.array([of_spacing(spacing_mm) for spacing_mm in self.spacings_mm], np.float64)

    def discs(self, radius_mm: float) -> NDArray[np.int32]:
        """A disc for each study, as a row of half widths."""
        return self.shapes(lambda spacing_mm: masks.disc(radius_mm, spacing_mm))

    def squares(self, size_mm: float) -> NDArray[np.int32]:
        """A rectangle for each study, likewise."""
        return self.shapes(lambda spacing_mm: masks.square(size_mm, spacing_mm))

    def shapes(self, of_spacing: Callable[[Spacing], NDArray[np.int32]]) -> NDArray[np.int32]:
        """A shape for each study, as a row of half widths, made of its spacing."""
        rows = [of_spacing(spacing_mm) for spacing_mm in self.spacings_mm]
        out = np.full((len(rows), max(map(len, rows))), NO_ROW, np.int32)
        for row, shape in zip(out, rows, strict=True):
            row[: len(shape)] = shape
        return out

    def reaches(self, size_mm: float, most: int) -> NDArray[np.int32]:
        """Pixels (y, x) that a window reaches in each study."""
        return np.array([masks.reach(size_mm, spacing_mm, most) for spacing_mm in self.spacings_mm], np.int32)


def in_batches(shapes: Sequence[tuple[int, int, int]]) -> Iterator[slice]:
    """Parts of a list of studies, in order, each of which fits a GPU's memory if any study does."""
    first = 0
    for stop in range(1, len(shapes) + 1):
        if stop == len(shapes) or _batch_bytes(shapes[first : stop + 1]) > BATCH_BYTES:
            yield slice(first, stop)
            first = stop


def _batch_bytes(shapes: Sequence[tuple[int, int, int]]) -> int:
    """All slices of a batch have the rows of its highest and the words of its widest."""
    slices, rows, columns = zip(*shapes, strict=True)
    words: int = sum(slices) * max(rows) * -(-max(columns) // masks.WORD_BITS)
    return words * BYTES_OF_A_WORD


def gather_studies(volumes: Sequence[Any], geometries: Sequence[Geometry]) -> Studies:
    """The batch of some volumes that lie on one GPU."""
    upright = tuple(geometry.upright(hu) for hu, geometry in zip(volumes, geometries, strict=True))
    stack = Stack([hu.shape for hu in upright], volumes[0])
    spacings_mm = tuple(geometry.upright_spacing_mm() for geometry in geometries)
    return Studies(upright, spacings_mm, stack, device.zeros_beside(volumes[0], (len(volumes),), np.int32))
