"""Lesion percentages and severity: from an expert's mask, or from the opacity estimate."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fastct.device import to_host, working_beside
from fastct.errors import ArrayError, OptionError
from fastct.geometry import Geometry
from fastct.kernels import masks, side_by_side
from fastct.kernels.counts import count_lungs, histogram
from fastct.kernels.masks import Bits
from fastct.opacity import opacity_mask
from fastct.sides import beside

__all__ = [
    "NOISE_FLOOR_PERCENT",
    "LesionFraction",
    "LesionProfile",
    "estimated_severity",
    "extend_lungs",
    "lesion_fraction",
    "lesion_profile",
    "opacity_mask",
    "severity",
]

# What the opacity estimate finds in normal lungs: less counts as none. Measured: 0.4 and 0.5 % in two real normal
# chests (LCTSC), up to 0.7 % in these made expiratory with dependent bands, up to 1.3 % in 30 normal phantoms.
NOISE_FLOOR_PERCENT = 1.5
GROUND_GLASS_HU = (-700, -130)  # mean densities of marked regions in MosMedData (doi:10.17816/DD46826, 2020)
PROFILE_HU = (-1100, 3100)  # from air to metal: what lies beyond counts at the ends
GROW_MM = 30.0  # lesion this near to a lung goes to it by distance, beyond by the midline
CLASSES = ("CT-0", "CT-1", "CT-2", "CT-3", "CT-4")


@dataclass(frozen=True)
class LesionFraction:
    """Share of the lungs that is lesion, in percent, and the voxels it was counted from.

    A side without lung counts 0 % and is left out of `percent_max`, the worse side.
    """

    percent: float
    percent_right: float
    percent_left: float
    percent_max: float
    right_voxels: int
    left_voxels: int
    lesion_right_voxels: int
    lesion_left_voxels: int
    lesion_outside_voxels: int


@dataclass(frozen=True)
class LesionProfile:
    """Size and density of a lesion inside the lungs: mean HU is NaN where there is none."""

    volume_ml: float
    mean_hu: float
    ground_glass_percent: float
    consolidation_percent: float


@overload
def lesion_fraction(lesion: NDArray[np.uint8], lungs: NDArray[np.uint8]) -> LesionFraction: ...
@overload
def lesion_fraction(
    lesion: Sequence[NDArray[np.uint8]], lungs: Sequence[NDArray[np.uint8]]
) -> list[LesionFraction]: ...
def lesion_fraction(
    lesion: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], lungs: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]
) -> LesionFraction | list[LesionFraction]:
    """Share of the lungs that is lesion: total, right, left, and of the worse side.

    Parameters
    ----------
    lesion : uint8 (z, y, x), lesion where it is not 0; or a list, one a study.
    lungs : uint8 (z, y, x): 0, 1 right lung, 2 left lung; or a list, one a study.

    Raises
    ------
    ArrayError
        If the masks are not uint8 of one shape, lungs hold other values, or lists are not of one length.

    Examples
    --------
    >>> lungs = np.array([[[1, 1, 1, 1, 2, 2, 0]]], np.uint8)
    >>> fraction = lesion_fraction(np.array([[[1, 0, 0, 0, 1, 0, 1]]], np.uint8), lungs)
    >>> fraction.percent_right, fraction.percent_left, fraction.percent_max, fraction.lesion_outside_voxels
    (25.0, 50.0, 50.0, 1)
    """
    single = not isinstance(lesion, (list, tuple)) and not isinstance(lungs, (list, tuple))
    pairs = [(lesion, lungs)] if single else side_by_side(lesion=lesion, lungs=lungs)
    counts = count_lungs([own for _, own in pairs], [ill for ill, _ in pairs]).tolist() if pairs else []
    for _, own in pairs:
        _check_sides(own)
    found = [_fraction(*row) for row in counts]
    return found[0] if single else found


def _check_sides(lungs: NDArray[np.uint8]) -> None:
    """A mask of 0 and 255, say, would count as no lung at all."""
    if (most := int(lungs.max())) > 2:
        raise ArrayError("lungs", f"the mask holds {most}", "Give 0, 1 for the right lung and 2 for the left")


def _fraction(right: int, left: int, lesion_voxels: int, ill_right: int, ill_left: int) -> LesionFraction:
    sides = [_percent(ill_right, right), _percent(ill_left, left)]
    return LesionFraction(
        percent=_percent(ill_right + ill_left, right + left),
        percent_right=sides[0],
        percent_left=sides[1],
        percent_max=max(sides),
        right_voxels=right,
        left_voxels=left,
        lesion_right_voxels=ill_right,
        lesion_left_voxels=ill_left,
        lesion_outside_voxels=lesion_voxels - ill_right - ill_left,
    )


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0


def severity(percent: float) -> str:
    """Class of involvement: CT-0 none, CT-1 up to 25 %, CT-2 up to 50, CT-3 below 75, CT-4 from 75 on.

    The rule of MosMedData (doi:10.17816/DD46826, table 1) with its edges, which its texts contradict,
    stated.

    Parameters
    ----------
    percent : share of the lungs that is lesion, 0 to 100.

    Raises
    ------
    OptionError
        If `percent` is not between 0 and 100.

    Examples
    --------
    >>> severity(0.0), severity(25.0), severity(50.1), severity(75.0)
    ('CT-0', 'CT-1', 'CT-3', 'CT-4')
    """
    try:
        is_share = isfinite(percent) and 0.0 <= percent <= 100.0
    except TypeError:
        is_share = False
    if not is_share:
        raise OptionError("percent", f"it is {percent!r}", "Give a share between 0 and 100")
    if percent == 0.0:
        return CLASSES[0]
    if percent <= 25.0:
        return CLASSES[1]
    if percent <= 50.0:
        return CLASSES[2]
    return CLASSES[3] if percent < 75.0 else CLASSES[4]


def estimated_severity(percent: float) -> str:
    """Class of an opacity estimate: below NOISE_FLOOR_PERCENT it counts as CT-0.

    >>> estimated_severity(0.9), estimated_severity(12.0)
    ('CT-0', 'CT-1')
    """
    return severity(0.0 if 0.0 <= percent < NOISE_FLOOR_PERCENT else percent)


def lesion_profile(
    hu: NDArray[np.int16], lesion: NDArray[np.uint8], lungs: NDArray[np.uint8], geometry: Geometry
) -> LesionProfile:
    """Volume and mean HU of the lesion inside the lungs, and its shares of ground glass and consolidation.

    `hu` is int16, the masks uint8, all (z, y, x) of the geometry's shape; else ArrayError. Ground glass lies
    between the two GROUND_GLASS_HU, consolidation above the upper; the rest is thinner.
    """
    if not hu.shape == lesion.shape == lungs.shape == geometry.shape:
        raise ArrayError(
            "hu, lesion and lungs",
            f"they are {hu.shape}, {lesion.shape} and {lungs.shape}, the geometry {geometry.shape}",
            "Give arrays of the geometry's shape",
        )
    low, high = GROUND_GLASS_HU
    with working_beside(hu):
        counts = _hu_counts(hu, lesion, lungs)
    floors = np.arange(PROFILE_HU[0], PROFILE_HU[1])
    voxels = int(counts.sum())
    return LesionProfile(
        volume_ml=voxels * geometry.voxel_ml,
        mean_hu=float(counts @ floors) / voxels if voxels else float("nan"),
        ground_glass_percent=_percent(int(counts[(floors >= low) & (floors <= high)].sum()), voxels),
        consolidation_percent=_percent(int(counts[floors > high].sum()), voxels),
    )


def _hu_counts(hu: NDArray[np.int16], lesion: NDArray[np.uint8], lungs: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many voxels of a lesion inside the lungs have each HU of PROFILE_HU; those beyond count at its ends."""
    inside = masks.pack_label(lesion)
    box, held = masks.bounds(inside), np.flatnonzero(masks.count(inside))
    if box is None:
        return np.zeros(PROFILE_HU[1] - PROFILE_HU[0], np.int64)
    part = slice(int(held[0]), int(held[-1]) + 1), box[0], masks.columns_of(box[1], hu.shape[2])
    mask = (lesion[part] != 0) & (lungs[part] != 0)
    clipped = hu[part].clip(PROFILE_HU[0], PROFILE_HU[1] - 1)
    counts: NDArray[np.int64] = to_host(histogram([clipped], [mask.view(np.uint8)], *PROFILE_HU))[0]
    return counts


def extend_lungs(
    lungs: NDArray[np.uint8], lesion: NDArray[np.uint8], geometry: Geometry
) -> tuple[NDArray[np.uint8], int]:
    """Lungs with an expert's lesion added, each voxel to the nearer side, and how many voxels were added.

    What an expert marks as lesion is lung. Both masks are uint8 (z, y, x) of the geometry's shape, else
    ArrayError.

    >>> geometry = Geometry((1, 1, 4), np.diag([-1.0, 1.0, 8.0, 1.0]))
    >>> lungs, added = extend_lungs(
    ...     np.array([[[2, 0, 0, 1]]], np.uint8), np.array([[[0, 1, 0, 0]]], np.uint8), geometry
    ... )
    >>> lungs.tolist(), added
    ([[[2, 2, 0, 1]]], 1)
    """
    if lungs.dtype != np.uint8 or lesion.dtype != np.uint8 or not lungs.shape == lesion.shape == geometry.shape:
        found = f"they are {lungs.dtype} {lungs.shape} and {lesion.dtype} {lesion.shape}"
        raise ArrayError("lungs and lesion", found, f"Give uint8 masks of shape {geometry.shape}")
    out = lungs.copy()
    upright = geometry.upright(out)
    right, left = (masks.pack_label(upright, side) for side in (1, 2))
    outside = masks.pack_label(geometry.upright(lesion)) & ~(right | left)
    added = int(masks.count(outside).sum())
    if added:
        to_right, to_left = _nearest(outside, right, left, geometry)
        masks.unpack_label(to_right, 1, upright)
        masks.unpack_label(to_left, 2, upright)
    return out, added


def _nearest(outside: Bits, right: Bits, left: Bits, geometry: Geometry) -> tuple[Bits, Bits]:
    """Parts of `outside` nearer to the right and to the left lung."""
    spacing_mm = geometry.upright_spacing_mm()
    to_right, to_left = np.zeros_like(outside), np.zeros_like(outside)
    radius_mm = 0.0
    while radius_mm < GROW_MM:
        radius_mm += max(spacing_mm[1:])
        near = _around(outside, radius_mm / spacing_mm[1])
        if near is None:
            break
        shape = masks.disc(radius_mm, spacing_mm)
        by_right, by_left = (masks.dilate(side[near], shape) & outside[near] for side in (right, left))
        to_right[near] |= by_right
        to_left[near] |= by_left & ~by_right
        outside[near] &= ~(by_right | by_left)
    middle = _between(right, left)
    far_right = outside & beside(outside, middle, left=False)
    return to_right | far_right, to_left | (outside & ~far_right)


def _around(mask: Bits, reach_rows: float) -> tuple[slice, slice, slice] | None:
    """Slices, rows and words that hold a mask and what may reach it from so far; None where it is empty."""
    box = masks.bounds(mask)
    if box is None:
        return None
    held, margin = np.flatnonzero(to_host(masks.count(mask))), int(reach_rows) + 1
    rows = slice(max(box[0].start - margin, 0), box[0].stop + margin)
    words = slice(max(box[1].start - 1, 0), box[1].stop + 1)  # no shape reaches beyond the next word
    return slice(int(held[0]), int(held[-1]) + 1), rows, words


def _between(right: Bits, left: Bits) -> float:
    """Column half-way between the lungs' centres, or the middle of the frame."""
    columns: int = right.shape[2] * masks.WORD_BITS
    pieces = [masks.find_pieces(side) for side in (right, left)]
    if not all(len(side) for side in pieces):
        return columns / 2
    centres = [float((side.middle_x * side.area).sum() / side.area.sum()) for side in pieces]
    return (centres[0] + centres[1]) / 2
