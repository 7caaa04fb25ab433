"""Opacity estimate: ground glass and consolidation inside given lungs, from HU alone."""

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fastct.device import labels_beside, working_beside
from fastct.errors import ArrayError
from fastct.geometry import Geometry, Spacing
from fastct.kernels import dtype_and_shape, lie_on_gpu, masks, side_by_side
from fastct.kernels.masks import Bits
from fastct.sides import outside_ellipse

RIM_MM = 1.5  # pleural partial volume, not looked at, refilled from inside at the end
DEEP_MM = 6.0  # what stays nearer to the border than that, in lungs that are hardly sick, is the border itself
SMOOTH_MM = 1.1  # reach of the in-plane mean against noise: 3 x 3 pixels at 0.7 to 1.0 mm
PEAK_HU = (-1000, -650)  # where the subject's own healthy lung has its commonest density
PEAK_BINS = 5  # of 4 HU, over which the histogram is smoothed
DARK_SHARE, PEAK_ABOVE_HU = 0.05, 150  # ... and it is no denser than the darkest share of the lungs by more than that
TISSUE_HU = 40  # what displaces the air
DISPLACED = 0.19  # share of a healthy lung's air: half of what ground glass displaces, from about -860 to -520
# Share of lung above that threshold from which on the subject's own ground glass says where half of it is ...
OWN_SICK = (0.15, 0.30)
OWN_DISPLACED = (0.13, 0.25)  # ... within these guards
LEVEL_HU = (-760, -580)  # guards of that threshold in over-inflated and in expiratory chests
GRAVITY_SHARE = 0.25  # a row's baseline is this quantile of its density: disease rarely fills more
GRAVITY_HU = 80  # dependent density lifts the baseline by no more
GRAVITY_SMOOTH_MM = 10.0  # standard deviation along y
SICK = (0.15, 0.40)  # share of lung above threshold between which the baseline of rows loses its meaning
DENSE_HU = -130  # above: vessel or consolidation, never ground glass by itself (MosMedData: -700 .. -130)
WINDOW_MM = 4.5  # reach of the window that an opacity fills and a vessel's blurred ring does not
FILLED_TENTHS = 7  # of that window
NEAR_MM = 8.0  # dense pixels count when this near to ground glass
CORE_MM = 4.0  # ... or around bodies this thick to all sides: so thick are vessels in the hila only ...
HILAR_CORE_MM = 8.0  # ... and there they are no thicker than this
HILA_MM = (70.0, 75.0)  # half axes of the ellipse about the hila, front to back and sideways
HALO_MM = 3.0  # what such a body's blurred border reaches beyond it
CAP_REACH_MM = 3.0  # an opacity this near in the slice beyond says that this is not the end of the lung
CLOSE_MM = 2.0  # vessels and noise holes inside a lesion belong to it
SPECK_ML = 0.5  # smaller bodies are dropped
MOST_REACH = 40  # pixels, which keeps window sums below 2 ** 16


@overload
def opacity_mask(hu: NDArray[np.int16], lungs: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]: ...
@overload
def opacity_mask(
    hu: Sequence[NDArray[np.int16]], lungs: Sequence[NDArray[np.uint8]], geometry: Sequence[Geometry]
) -> list[NDArray[np.uint8]]: ...
def opacity_mask(
    hu: NDArray[np.int16] | Sequence[NDArray[np.int16]],
    lungs: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    geometry: Geometry | Sequence[Geometry],
) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
    """Ground glass and consolidation inside the lungs, less vessels, walls, fissures and dependent density.

    Parameters
    ----------
    hu : int16 (z, y, x), HU; or a list of volumes.
    lungs : uint8 (z, y, x), lung where it is not 0, as `lung_mask` makes it; or a list, one a volume.
    geometry : where the voxels lie; or a list, one a volume.

    Returns
    -------
    uint8 (z, y, x): 0, 1 opacity; or a list. An estimate: see `NOISE_FLOOR_PERCENT` of `fastct.lesions`.

    Raises
    ------
    ArrayError
        If the arrays are not int16 and uint8 of the geometry's shape, or lists are not of one length.

    Examples
    --------
    >>> geometry = Geometry((3, 64, 64), np.diag([-5.0, 5.0, 8.0, 1.0]))
    >>> hu, lungs = np.full((3, 64, 64), -860, np.int16), np.ones((3, 64, 64), np.uint8)
    >>> opacity_mask(hu, lungs, geometry).any()
    np.False_
    """
    single = isinstance(geometry, Geometry)
    volumes = [(hu, lungs, geometry)] if single else side_by_side(hu=hu, lungs=lungs, geometry=geometry)
    for volume in volumes:
        _check(*volume)
    if lie_on_gpu(*(array for volume in volumes for array in volume[:2])):
        from fastct.gpu.opacity import estimate_batches

        found = estimate_batches(*map(list, zip(*volumes, strict=True)))
    else:
        found = [_estimate(*volume) for volume in volumes]
    return found[0] if single else found


def _check(hu: NDArray[np.int16], lungs: NDArray[np.uint8], geometry: Geometry) -> None:
    if not isinstance(geometry, Geometry):
        raise ArrayError("geometry", f"it is {type(geometry).__name__}", "Give a fastct.Geometry, shape and affine")
    typed = getattr(hu, "dtype", None) == np.int16 and getattr(lungs, "dtype", None) == np.uint8
    if not typed or not hu.shape == lungs.shape == geometry.shape:
        raise ArrayError(
            "hu and lungs",
            f"they are {dtype_and_shape(hu)} and {dtype_and_shape(lungs)}, the geometry {geometry.shape}",
            "Give int16 HU and uint8 lungs of the geometry's shape",
        )


def _estimate(hu: NDArray[np.int16], lungs: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """The opacities of one volume, on the CPU."""
    out: NDArray[np.uint8] = labels_beside(hu)
    with working_beside(hu):
        upright, lung = geometry.upright(hu), masks.pack_label(geometry.upright(lungs))
        box = masks.bounds(lung)
        if box is not None:
            rows, columns = box[0], masks.columns_of(box[1], upright.shape[2])
            found = _find_opacities(upright[:, rows, columns], lung[:, *box], geometry)
            masks.unpack_label(found, 1, geometry.upright(out)[:, rows, columns])
        return out


def _find_opacities(hu: NDArray[np.int16], lung: Bits, geometry: Geometry) -> Bits:
    """Bit mask of the opacities of an upright volume."""
    spacing_mm = geometry.upright_spacing_mm()
    inner = masks.erode(lung, masks.square(RIM_MM, spacing_mm))
    window = masks.reach(SMOOTH_MM, spacing_mm, 2)
    histograms = masks.mean_histograms(hu, inner, window)
    if not histograms.any():
        return np.zeros_like(lung)
    rows_hu, sick = _levels_hu(histograms, spacing_mm[1])
    levels_hu = np.stack([rows_hu, np.full(len(rows_hu), DENSE_HU, np.int16)])
    opaque, dense = masks.means_above(hu, inner, window, levels_hu) & lung
    found = _plateaus(opaque, dense, lung, spacing_mm)
    found |= _consolidation(opaque, dense, lung, sick, spacing_mm)
    found |= masks.dilate(found & inner, masks.square(RIM_MM + 0.8, spacing_mm)) & lung & ~inner
    if sick < SICK[0]:
        found = _without_rims(found, lung, spacing_mm)
    found = _without_caps(found, lung, sick, spacing_mm)
    found = masks.close_slices(found, masks.square(CLOSE_MM, spacing_mm)) & lung
    bodies = masks.find_pieces(found, through_slices=True)
    return bodies.paint(bodies.area * geometry.voxel_ml >= SPECK_ML)


def _levels_hu(histograms: NDArray[np.int32], row_mm: float) -> tuple[NDArray[np.int16], float]:
    """Threshold of each row: above the subject's own peak, lifted where gravity makes lung denser.

    Also the share of the lung above the threshold before it was lifted.
    """
    peak, level, sick = _own_level_hu(histograms.sum(axis=0))
    most = GRAVITY_HU * float(np.clip((SICK[1] - sick) / (SICK[1] - SICK[0]), 0.0, 1.0))
    pixels = histograms.sum(axis=1)
    below = histograms.cumsum(axis=1) < GRAVITY_SHARE * pixels[:, None]
    baseline = masks.MEAN_FLOOR_HU + masks.MEAN_BIN_HU * below.sum(axis=1)
    weights = gravity_weights(row_mm)
    around = _smooth(pixels.astype(np.float64), weights)
    lift = _smooth(baseline * pixels.astype(np.float64), weights) / np.maximum(around, 1e-3) - peak
    return np.rint(level + np.clip(lift, 0.0, most)).astype(np.int16), sick


def _own_level_hu(total: NDArray[np.int64]) -> tuple[float, float, float]:
    """The subject's own peak, its threshold, and the share of the lung above the usual threshold."""
    floors = masks.MEAN_FLOOR_HU + masks.MEAN_BIN_HU * np.arange(len(total))
    smooth = np.convolve(total, np.ones(PEAK_BINS, np.int64), "same")
    dark = floors[(total.cumsum() < DARK_SHARE * total.sum()).sum()]
    searched = (floors >= PEAK_HU[0]) & (floors < PEAK_HU[1]) & (floors <= dark + PEAK_ABOVE_HU)
    peak = float(floors[np.where(searched, smooth, -1).argmax()] + masks.MEAN_BIN_HU / 2)
    usual = float(np.clip(peak + DISPLACED * (TISSUE_HU - peak), *LEVEL_HU))
    sick = float(total[floors > usual].sum() / total.sum())
    glass = (floors > usual) & (floors < DENSE_HU)
    below = total[glass].cumsum()
    middle = floors[glass][(2 * below < below[-1]).sum()]
    own = float(np.clip((middle - peak) / 2 / (TISSUE_HU - peak), *OWN_DISPLACED))
    weight = float(np.clip((sick - OWN_SICK[0]) / (OWN_SICK[1] - OWN_SICK[0]), 0.0, 1.0))
    displaced = (1 - weight) * DISPLACED + weight * own
    return peak, float(np.clip(peak + displaced * (TISSUE_HU - peak), *LEVEL_HU)), sick


def gravity_weights(row_mm: float) -> NDArray[np.float64]:
    """Gaussian weights of the rows around one."""
    sigma = GRAVITY_SMOOTH_MM / row_mm
    reach = int(4.0 * sigma + 0.5)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights: NDArray[np.float64] = bell / bell.sum()
    return weights


def _smooth(row: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted sums around each place, zero beyond the ends; added in order, so that every machine finds the same."""
    padded, sums = np.pad(row, len(weights) // 2), np.zeros(len(row))
    for first, weight in enumerate(weights):
        sums += weight * padded[first : first + len(row)]
    return sums


def _plateaus(opaque: Bits, dense: Bits, lung: Bits, spacing_mm: Spacing) -> Bits:
    """Opaque regions that fill a window, and the dense pixels near them.

    Dense cores are taken out first: else a vessel fills its window with its own blurred ring.
    """
    window = masks.reach(WINDOW_MM, spacing_mm, MOST_REACH)
    glass = masks.share_above(opaque & ~dense, lung, FILLED_TENTHS, window)
    found = masks.dilate(glass, masks.square(WINDOW_MM, spacing_mm)) & opaque
    return found | (dense & masks.dilate(glass, masks.square(WINDOW_MM + NEAR_MM, spacing_mm)))


def _consolidation(opaque: Bits, dense: Bits, lung: Bits, sick: float, spacing_mm: Spacing) -> Bits:
    """Dense bodies too thick for a vessel, with their blurred border.

    Vessels are thicker in the hila; but in lungs as sick as SICK[0], what is thick there is disease.
    """
    found = np.zeros_like(lung)
    outside = outside_ellipse(lung, _middle(lung), HILA_MM, spacing_mm)
    for core_mm, where in ((CORE_MM, outside), (HILAR_CORE_MM, ~outside)):
        core_mm = CORE_MM if sick > SICK[0] else core_mm
        cores = masks.erode(dense, masks.disc(core_mm, spacing_mm)) & where
        found |= masks.dilate(cores, masks.disc(core_mm + HALO_MM, spacing_mm)) & opaque
    return found


def _middle(lung: Bits) -> float:
    """Column half-way between the lungs, by their centre of mass."""
    counts = masks.column_counts(lung)
    return float((counts * np.arange(len(counts))).sum() / counts.sum())


def _without_rims(found: Bits, lung: Bits, spacing_mm: Spacing) -> Bits:
    """Less what stays within DEEP_MM of the lung's border: a heart that beats blurs it farther than RIM_MM.

    What lies deeper keeps what it has at the border. Where the lung is thinner, all stays.
    """
    depth = masks.disc(DEEP_MM, spacing_mm)
    deep = masks.erode(lung, depth)
    keeps = masks.dilate(found & deep, masks.disc(DEEP_MM + HALO_MM, spacing_mm))
    return found & (keeps | ~masks.dilate(deep, depth))


def _without_caps(found: Bits, lung: Bits, sick: float, spacing_mm: Spacing) -> Bits:
    """Less what ends with the lung: thick slices blur the diaphragm's dome, and the apex of the lung.

    An opacity stays where, both below and above, lung goes on or another opacity lies near; as a whole if
    most of it does. In lungs as sick as SICK[0] one that goes on to one side is disease that ends with the lung.
    """
    near = masks.dilate(found, masks.square(CAP_REACH_MM, spacing_mm))
    below, above = (near | lung for _ in range(2))
    below[1:] = below[:-1].copy()
    above[:-1] = above[1:].copy()
    if sick > SICK[0]:
        below[:-1] |= near[1:]
        above[1:] |= near[:-1]
    stays = found.copy()  # the scan's own ends say nothing
    stays[1:] &= below[1:]
    stays[:-1] &= above[:-1]
    pieces = masks.find_pieces(found)
    return stays | pieces.paint(2 * pieces.count_inside(stays) > pieces.area)
