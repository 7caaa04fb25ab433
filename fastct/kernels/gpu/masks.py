"""Bit-row masks of one study on a GPU, as the CPU's twins make them; small tables of counts come to the host."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastct import device
from fastct.kernels.gpu import bitrows
from fastct.kernels.gpu import pieces as of_stack
from fastct.kernels.gpu.pieces import Pairs, PiecesOfStack
from fastct.kernels.gpu.stacks import Stack, stack_of

if TYPE_CHECKING:
    from fastct.kernels.masks import Pieces

USUAL_PIECES = 2048  # of a mask; where there are more, their table is made a second time
USUAL_PAIRS = 32  # of a slice; likewise

# A cut to be made: `Cut` in cut.cu.
CUT = np.dtype(
    [
        ("hu", np.uint64),
        ("mask", np.uint64),
        ("strides", np.int64, 2),
        ("rows", np.int32, 2),
        ("first_column", np.int32),
        ("columns", np.int32),
    ]
)


def pack_below(hu: Any, levels: Any) -> Any:
    """As the CPU's twin."""
    return bitrows.pack_below(Stack([hu.shape], hu), [hu], levels)


def pack_label(labels: Any, label: int) -> Any:
    """As the CPU's twin."""
    return bitrows.pack_label(Stack([labels.shape], labels), [labels], label)


def place(bits: Any, beside: Any) -> Any:
    """As the CPU's twin."""
    return device.copy_beside(beside, bits)


def unpack_label(mask: Any, label: int, out: Any) -> None:
    """As the CPU's twin."""
    bitrows.unpack_label(stack_of(mask), mask, label, [out])


def dilate(mask: Any, half_width: Any) -> Any:
    """As the CPU's twin."""
    return bitrows.dilate(stack_of(mask), mask, half_width[None])


def erode(mask: Any, half_width: Any) -> Any:
    """As the CPU's twin."""
    return bitrows.erode(stack_of(mask), mask, half_width[None])


def count(mask: Any) -> Any:
    """As the CPU's twin."""
    return device.to_host(bitrows.count(stack_of(mask), mask))


def column_counts(mask: Any) -> Any:
    """As the CPU's twin."""
    return device.to_host(bitrows.column_counts(stack_of(mask), mask))[0]


def occupied(mask: Any) -> tuple[Any, Any]:
    """As the CPU's twin."""
    found = device.to_host(bitrows.occupied(stack_of(mask), mask))[0] > 0
    return found[: mask.shape[1]], found[mask.shape[1] :]


def accumulate(mask: Any, downwards: bool) -> Any:
    """As the CPU's twin."""
    return bitrows.accumulate(stack_of(mask), mask, downwards)


def fill_holes(mask: Any) -> Any:
    """As the CPU's twin."""
    return of_stack.fill_holes(stack_of(mask), mask)


def find_pieces(mask: Any, through: bool) -> tuple[tuple[Any, PiecesOfStack], Any]:
    """As the CPU's twin; what is kept are the mask and what the GPU knows of its pieces."""
    stack, places = stack_of(mask), USUAL_PIECES
    while True:
        found = PiecesOfStack(stack, mask, places, stack.zeros((1,), np.int32), through)
        table = device.to_host(found.measures)
        pieces = int(table[-1, 0])
        if pieces <= places:
            return (mask, found), table[:pieces]
        places = pieces


def paint(pieces: "Pieces", chosen: Any) -> Any:
    """As the CPU's twin."""
    return _kept(pieces).paint(chosen)


def counts_inside(pieces: "Pieces", others: Sequence[Any]) -> Any:
    """As the CPU's twin."""
    return np.stack([device.to_host(_kept(pieces).count_inside(other))[: len(pieces)] for other in others])


def histograms(pieces: "Pieces", hu: Any) -> Any:
    """As the CPU's twin."""
    return device.to_host(_kept(pieces).histograms([hu]))[: len(pieces)]


def overlaps(pieces: "Pieces") -> Any:
    """As the CPU's twin."""
    return _sorted_pairs(_kept(pieces), lambda places: _kept(pieces).overlaps(places))


def count_rings(pieces: "Pieces", wanted: Any, shapes: tuple[Any, Any], other: Any) -> Any:
    """As the CPU's twin."""
    inner, outer = (shape[None] for shape in shapes)
    return device.to_host(_kept(pieces).count_rings(wanted, inner, outer, other))[: len(pieces)]


def reach_down(pieces: "Pieces", wanted: Any, half_width: Any) -> Any:
    """As the CPU's twin."""
    return _sorted_pairs(_kept(pieces), lambda places: _kept(pieces).reach_down(wanted, half_width[None], places))


def _kept(pieces: "Pieces") -> PiecesOfStack:
    _, found = pieces.parts
    return found  # type: ignore[return-value]


def _sorted_pairs(pieces: PiecesOfStack, find: Any) -> Any:
    """Rows (upper piece, lower piece, pixels) in their order, from tables that are made larger until they fit."""
    places = USUAL_PAIRS
    while True:
        pieces.faults = pieces.stack.zeros((1,), np.int32)
        pairs: Pairs = find(places)
        if not device.to_host(pieces.faults)[0]:
            keys, pixels = (device.to_host(table).ravel() for table in (pairs.keys, pairs.pixels))
            used = np.flatnonzero(keys)
            used = used[np.argsort(keys[used])]
            upper, lower = np.divmod(keys[used].astype(np.int64) - 1, 1 << 32)
            return np.stack([upper, lower, pixels[used].astype(np.int64)], axis=1)
        places *= 8


def hull(right: Any, left: Any) -> tuple[Any, Any]:
    """As the CPU's twin."""
    return bitrows.hull(stack_of(right), right, left)


def heights(mask: Any, directions: Any) -> Any:
    """As the CPU's twin."""
    return device.to_host(bitrows.heights(stack_of(mask), mask, directions[None]))


def draw_convex(heights: Any, directions: Any, mask: Any) -> Any:
    """As the CPU's twin."""
    return bitrows.draw_convex(stack_of(mask), heights, directions[None])


def cut(hu: Any, mask: Any, rows: tuple[int, int], first_column: int, drift: Any) -> None:
    """As the CPU's twin."""
    columns, height = len(drift), rows[1] - rows[0]
    bitrows.check_cut(columns)
    own = np.zeros(1, CUT)
    own["hu"], own["mask"] = device.address(hu), device.address(mask)
    own["strides"] = [stride // hu.itemsize for stride in hu.strides[1:]]
    own["rows"], own["first_column"], own["columns"] = rows, first_column, columns
    steps = device.empty_beside(mask, (height, columns), np.int8)
    stack = stack_of(mask)
    stack.launch("cut", "cut_slices", 1, own.view(np.uint8), drift, mask.shape[2], np.int64(height * columns), steps)


def mean_histograms(hu: Any, mask: Any, reach: tuple[int, int]) -> Any:
    """As the CPU's twin."""
    return device.to_host(bitrows.mean_histograms(stack_of(mask), [hu], mask, np.array([reach], np.int32)))[0]


def means_above(hu: Any, mask: Any, reach: tuple[int, int], levels: Any) -> Any:
    """As the CPU's twin."""
    return bitrows.means_above(stack_of(mask), [hu], mask, np.array([reach], np.int32), levels[None])


def share(part: Any, whole: Any, tenths: int, reach: tuple[int, int]) -> Any:
    """As the CPU's twin."""
    return bitrows.share_above(stack_of(part), part, whole, tenths, np.array([reach], np.int32))
