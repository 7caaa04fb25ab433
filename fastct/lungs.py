"""Right and left lung in a chest CT, found without a network on runs and bit rows of its slices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fastct.airways import find_airways
from fastct.device import labels_beside, to_host, working_beside
from fastct.errors import ArrayError
from fastct.flags import LUNGLESS
from fastct.geometry import Geometry, Spacing
from fastct.kernels import dtype_and_shape, lie_on_gpu, masks, side_by_side
from fastct.kernels.masks import Bits, Pieces
from fastct.pleura import draw_in_lesions, fill_vessels
from fastct.sides import cut_apart, find_midline, walk_sides

BODY_HU = -400  # half-way between lung and soft tissue: the skin, and the inner wall of the chest
EDGE_HU = -190  # experts draw the lung's border here, well into partial volume (measured on LCTSC contours)
THIN_MM = 3.0  # half thickness of what experts leave out: tips of recesses, clefts beside hilar vessels
AERATED_HU = -500  # lung that holds more air than tissue: tells a lung's own density
TABLE_MM = 4.0  # half thickness of what is cut off the body: table, tubes, folds of cloth
SPIKE_MM = 1.5  # half thickness of bridges that are cut: pleural partial volume between lung and bowel
PIECE_MM2 = 25.0  # smallest piece of lung in a slice
GAS_MIX = 0.6  # gas is darker than this far on the way from the lung's own median to GAS_HU
GAS_HU = -1000
HEALTHY_HU = -800  # lung that is left healthy is no denser, however dense one that is sick nearly everywhere
SMALL_ML = 1000.0  # both lungs of an adult hold more, even breathed out
LARGE_ML = 12_000.0  # and the largest adults', full of air, less
SMALL_SIDE = 0.15  # share of both lungs; a left lung is about 45 % of them
CUT_MM2 = 100.0  # lung in the first or last slice that says that the scan cuts it
MERGED_MM = 60.0  # the junction of both lungs is a line of some 20 mm (Fraser and Pare); more is a guess
FLOOR_HU = (-1500, -900)  # where the darkest voxel of a calibrated scan of a body in air lies
FLOOR_ROWS = 8  # of so many rows one is looked at: padding and outside air fill many
RIGHT, LEFT = 1, 2


@dataclass(frozen=True)
class LungOptions:
    """How lungs are drawn.

    Parameters
    ----------
    keep_consolidation : whether consolidation and tumour at the pleura are drawn in, as scoring needs, or
        left out, as contours for radiotherapy do.
    """

    keep_consolidation: bool = True


@dataclass(frozen=True, eq=False)
class LungMask:
    """Labels, uint8 (z, y, x): 0, 1 right lung, 2 left lung; and the words that say what is doubtful."""

    labels: NDArray[np.uint8]
    flags: tuple[str, ...]


DEFAULT = LungOptions()


@overload
def lung_mask(hu: NDArray[np.int16], geometry: Geometry) -> NDArray[np.uint8]: ...
@overload
def lung_mask(hu: Sequence[NDArray[np.int16]], geometry: Sequence[Geometry]) -> list[NDArray[np.uint8]]: ...
def lung_mask(
    hu: NDArray[np.int16] | Sequence[NDArray[np.int16]], geometry: Geometry | Sequence[Geometry]
) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
    """Right and left lung of a chest CT, without trachea, main bronchi and gas of stomach and bowel.

    Parameters
    ----------
    hu : int16 (z, y, x), HU; or a list of volumes.
    geometry : where its voxels lie; or a list, one a volume. The affine says which side is right.

    Returns
    -------
    uint8 (z, y, x): 0, 1 right lung, 2 left lung; or a list.

    Raises
    ------
    ArrayError
        If `hu` is not int16 (z, y, x) of the geometry's shape, or there is not a geometry for each volume.

    Examples
    --------
    >>> geometry = Geometry((3, 64, 64), np.diag([-5.0, 5.0, 8.0, 1.0]))
    >>> lung_mask(np.full((3, 64, 64), -1000, np.int16), geometry).any()
    np.False_
    """
    if isinstance(geometry, Geometry):
        return segment_lungs(hu, geometry).labels  # type: ignore[arg-type]
    volumes = side_by_side(hu=hu, geometry=geometry)
    for volume in volumes:
        _check(*volume)
    if not lie_on_gpu(*hu):
        return [segment_lungs(*volume).labels for volume in volumes]
    from fastct.gpu.lungs import segment_batches

    return [found.labels for found in segment_batches(list(hu), geometry, DEFAULT)]


def segment_lungs(hu: NDArray[np.int16], geometry: Geometry, options: LungOptions = DEFAULT) -> LungMask:
    """The lung mask of one volume, with flags that say what is doubtful about it.

    Flags: `lung_empty` (no lung found), `lung_cut` (the first or last slice holds lung), `lung_small` (less
    than 1 L), `lung_large` (more than 12 L), `side_small` (a side holds less than 15 % of both), `sides_merged`
    (the cut between the lungs runs far through air), `hu_floor` (the darkest voxels are not air: padding, or
    values that are no HU).
    Errors as for `lung_mask`.
    """
    _check(hu, geometry)
    if lie_on_gpu(hu):
        from fastct.gpu.lungs import segment_batches

        return segment_batches([hu], [geometry], options)[0]
    labels = labels_beside(hu)
    with working_beside(hu):
        upright = geometry.upright(hu)
        found = _find_lungs(upright, geometry.upright_spacing_mm(), options)
        if found is not None:
            rows, words = found.box
            part = geometry.upright(labels)[:, rows, masks.columns_of(words, upright.shape[2])]
            masks.unpack_label(found.right, RIGHT, part)
            masks.unpack_label(found.left, LEFT, part)
        return LungMask(labels, flags_of(_facts(upright, found), geometry))


def _check(hu: NDArray[np.int16], geometry: Geometry) -> None:
    if not isinstance(geometry, Geometry):
        raise ArrayError("geometry", f"it is {type(geometry).__name__}", "Give a fastct.Geometry, shape and affine")
    if getattr(hu, "dtype", None) != np.int16 or hu.shape != geometry.shape:
        found = f"it is {dtype_and_shape(hu)}, wanted int16 {geometry.shape}"
        raise ArrayError("hu", found, "Give HU and their geometry")


def slice_areas_mm2(lungs: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.float64]:
    """Lung area of each slice in mm2: (z, 2) for right and left, along the array's first axis.

    >>> geometry = Geometry((1, 2, 2), np.diag([0.5, 0.5, 8.0, 1.0]))
    >>> slice_areas_mm2(np.array([[[1, 1], [0, 2]]], np.uint8), geometry).tolist()
    [[0.5, 0.25]]
    """
    _, y_mm, x_mm = geometry.spacing_mm
    counts = [masks.count(masks.pack_label(lungs, side)) for side in (1, 2)]
    return np.stack(counts, axis=1) * np.float64(y_mm * x_mm)


def lung_box(lungs: NDArray[np.uint8], geometry: Geometry, margin_mm: float = 10.0) -> tuple[slice, slice, slice]:
    """Slices (z, y, x) of the box around the lungs with a margin; the whole volume where there is no lung.

    >>> geometry = Geometry((1, 5, 5), np.diag([1.0, 1.0, 8.0, 1.0]))
    >>> lungs = np.zeros((1, 5, 5), np.uint8)
    >>> lungs[0, 2, 3] = 1
    >>> lung_box(lungs, geometry, margin_mm=1.0)
    (slice(0, 1, None), slice(1, 4, None), slice(2, 5, None))
    """
    if not lungs.any():
        return slice(0, lungs.shape[0]), slice(0, lungs.shape[1]), slice(0, lungs.shape[2])
    filled = (lungs.any(axis=(1, 2)), lungs.any(axis=(0, 2)), lungs.any(axis=(0, 1)))
    box = []
    for along, size, step_mm in zip(filled, lungs.shape, geometry.spacing_mm, strict=True):
        margin = int(np.ceil(margin_mm / step_mm))
        first, last = np.flatnonzero(to_host(along))[[0, -1]]
        box.append(slice(max(int(first) - margin, 0), min(int(last) + 1 + margin, size)))
    return box[0], box[1], box[2]


@dataclass(frozen=True, eq=False)
class _Found:
    """Bit masks of both lungs within a box (y, words) of the frame, and the longest cut between them."""

    right: Bits
    left: Bits
    box: tuple[slice, slice]
    cut_mm: float


def _find_lungs(hu: NDArray[np.int16], spacing_mm: Spacing, options: LungOptions) -> _Found | None:
    """Both lungs of an upright volume; None where there is none."""
    aerated = _find_aerated(hu, spacing_mm)
    if aerated is None:
        return None
    lungs, room, middle = (aerated.right, aerated.left), aerated.room, aerated.middle
    if options.keep_consolidation:
        right, left = draw_in_lesions(lungs, room, middle, spacing_mm)
    else:
        right, left = fill_vessels(lungs, spacing_mm)
    # Thin parts go last: between lesions that were filled, a thin septum of lung is thin no more.
    thick = masks.disc(THIN_MM, spacing_mm)
    right, left = (masks.open_slices(one & room, thick) for one in (right, left))
    return _Found(right, left & ~right, aerated.box, aerated.cut_mm)


@dataclass(frozen=True, eq=False)
class _Aerated:
    """What holds air of both lungs, and the body less airways and gas: bit masks within a box of the frame."""

    right: Bits
    left: Bits
    room: Bits
    middle: int
    box: tuple[slice, slice]
    cut_mm: float


def _find_aerated(hu: NDArray[np.int16], spacing_mm: Spacing) -> _Aerated | None:
    outer, air = masks.pack_below(hu, (BODY_HU, EDGE_HU))
    body = _find_body(~outer, spacing_mm)
    box = masks.bounds(body)
    if box is None:
        return None
    hu = hu[:, box[0], masks.columns_of(box[1], hu.shape[2])]
    body, air = body[:, *box], air[:, *box]
    air = masks.open_slices(air & body, masks.disc(SPIKE_MM, spacing_mm))
    middle = find_midline(air, body, spacing_mm)
    airways = find_airways(hu, body, middle, spacing_mm)
    air, cut_mm = cut_apart(hu, air & ~airways, middle, spacing_mm)
    right, left, gas = _choose(air, hu, middle, spacing_mm)
    inner = masks.bounds(right | left)
    if inner is None:
        return None
    room = body & ~(airways | gas)
    # Copies, so that the masks of the whole frame go.
    right, left, room = (mask[:, *inner].copy() for mask in (right, left, room))
    return _Aerated(right, left, room, middle - inner[1].start * masks.WORD_BITS, _within(box, inner), cut_mm)


def _within(box: tuple[slice, slice], inner: tuple[slice, slice]) -> tuple[slice, slice]:
    """A box of a box, as a box of the frame."""
    rows, words = (
        slice(of_inner.start + of_box.start, of_inner.stop + of_box.start)
        for of_box, of_inner in zip(box, inner, strict=True)
    )
    return rows, words


def _find_body(tissue: Bits, spacing_mm: Spacing) -> Bits:
    """The trunk of each slice: tissue with all it encloses, less table and arms.

    Thick slices join lung and outside air from slice to slice, never in the plane: so each slice for
    itself. Filled first: a thin chest wall must not be opened away with the table.
    """
    pieces = masks.find_pieces(masks.open_slices(masks.fill_holes(tissue), masks.disc(TABLE_MM, spacing_mm)))
    order = np.lexsort((pieces.area, pieces.slice_index))
    largest = np.zeros(len(pieces), bool)
    largest[order[np.flatnonzero(np.diff(pieces.slice_index[order], append=-1))]] = True
    return pieces.paint(largest)


def _choose(air: Bits, hu: NDArray[np.int16], middle: int, spacing_mm: Spacing) -> tuple[Bits, Bits, Bits]:
    """The air of the right and of the left lung, and gas that is neither."""
    pieces = masks.find_pieces(air)
    large = pieces.area * spacing_mm[1] * spacing_mm[2] >= PIECE_MM2
    lung = large & _is_lung(pieces, hu, middle)
    side = walk_sides(pieces, lung, middle, spacing_mm)
    return pieces.paint(side == RIGHT), pieces.paint(side == LEFT), pieces.paint(large & ~lung)


def _is_lung(pieces: Pieces, hu: NDArray[np.int16], middle: int) -> NDArray[np.bool_]:
    """Pieces that are not as dark as gas beside the patient's own lung of that side."""
    histograms = pieces.histograms(hu)
    aerated = histograms[:, : (AERATED_HU - masks.BIN_FLOOR_HU) // masks.BIN_HU]
    left = pieces.middle_x > middle
    sides = [aerated[left == side].sum(axis=0) for side in (False, True)]
    # A side without air (collapsed, or consolidated through and through) borrows the other's density.
    medians = [_median_hu(own if own.any() else aerated.sum(axis=0)) for own in sides]
    usual = np.minimum(medians, HEALTHY_HU)
    gas = np.where(left, *[GAS_MIX * GAS_HU + (1 - GAS_MIX) * usual[side] for side in (1, 0)])
    lung: NDArray[np.bool_] = _median_hu(histograms) > gas
    return lung


def _median_hu(histograms: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.float64]:
    below = histograms.cumsum(axis=-1)
    middle: NDArray[np.float64] = (2 * below < below[..., -1:]).sum(axis=-1) + np.float64(0.5)
    return masks.BIN_FLOOR_HU + masks.BIN_HU * middle


@dataclass(frozen=True, eq=False)
class Facts:
    """What tells whether a mask is doubtful: pixels of each slice in the right and in the left lung, the longest cut
    between them, and the darkest of the voxels looked at."""

    right: NDArray[np.int64]
    left: NDArray[np.int64]
    cut_mm: float
    lowest_hu: int


def _facts(hu: NDArray[np.int16], found: _Found | None) -> Facts:
    lowest_hu = int(hu[:, ::FLOOR_ROWS].min())
    if found is None:
        none = np.zeros(len(hu), np.int64)
        return Facts(none, none, 0.0, lowest_hu)
    return Facts(masks.count(found.right), masks.count(found.left), found.cut_mm, lowest_hu)


def flags_of(facts: Facts, geometry: Geometry) -> tuple[str, ...]:
    """The words that say what is doubtful about a mask; see `segment_lungs`."""
    z_mm, y_mm, x_mm = geometry.upright_spacing_mm()
    areas = [side * (y_mm * x_mm) for side in (facts.right, facts.left)]
    ml = [area.sum() * z_mm / 1000.0 for area in areas]
    checks = {
        LUNGLESS: not sum(ml),
        "lung_small": 0 < sum(ml) < SMALL_ML,
        "lung_large": sum(ml) > LARGE_ML,
        "side_small": sum(ml) > 0 and min(ml) < SMALL_SIDE * sum(ml),
        "lung_cut": max(area[[0, -1]].max() for area in areas) > CUT_MM2,
        "sides_merged": sum(ml) > 0 and facts.cut_mm > MERGED_MM,
        "hu_floor": not FLOOR_HU[0] <= facts.lowest_hu <= FLOOR_HU[1],
    }
    return tuple(flag for flag, doubtful in checks.items() if doubtful)
