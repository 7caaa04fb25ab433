"""Opacity estimate, for a batch on a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import device, opacity
from fastct.geometry import Geometry, Spacing
from fastct.gpu.pleura import choose_sizes
from fastct.gpu.sides import find_centres_of_mass, outside_ellipse
from fastct.gpu.studies import Studies, gather_studies, in_batches
from fastct.kernels.gpu import bitrows
from fastct.kernels.gpu.stacks import THREADS
from fastct.kernels.masks import MAX_REACH


def find_opacities(studies: Studies, lung: Any, voxels_ml: Sequence[float]) -> Any:
    """Bit mask of the opacities in the lungs of a batch."""
    studies = studies.within(bitrows.bounds(studies.stack, lung))
    inner = bitrows.erode(studies.stack, lung, studies.squares(opacity.RIM_MM))
    window = studies.reaches(opacity.SMOOTH_MM, 2)
    histograms = bitrows.mean_histograms(studies.stack, studies.volumes, inner, window)
    levels, sick, frames = _levels_hu(studies, histograms)
    studies = studies.within(studies.stack.within(frames))
    stack = studies.stack
    lung = bitrows.within_frames(stack, lung)
    above = bitrows.means_above(stack, studies.volumes, inner, window, levels)
    opaque, dense = above[0] & lung, above[1] & lung
    found = _plateaus(studies, opaque, dense, lung) | _consolidation(studies, opaque, dense, lung, sick)
    rim = bitrows.dilate(stack, found & inner, studies.squares(opacity.RIM_MM + 0.8))
    found = _without_rims(studies, found | (rim & lung & ~inner), lung, sick)
    found = _without_caps(studies, found, lung, sick)
    found = bitrows.close_slices(stack, found, studies.squares(opacity.CLOSE_MM)) & lung
    bodies = studies.find_pieces(found, through=True)
    sizes = [(voxel_ml, 1.0, opacity.SPECK_ML, np.inf) for voxel_ml in voxels_ml]
    return bodies.paint(choose_sizes(bodies, np.array(sizes, np.float64)))


def _levels_hu(studies: Studies, histograms: Any) -> tuple[Any, Any, Any]:
    """Thresholds of each study's rows, how sick it is, and its frame, or none where nothing was counted."""
    stack = studies.stack
    rows = stack.zeros((len(stack), stack.shape[1], 2), np.float64)
    levels = stack.zeros((len(stack), 2, stack.shape[1]), np.int16)
    sick, frames = stack.zeros((len(stack),), np.float64), stack.zeros((len(stack), 4), np.int32)
    weights = _gravity_weights(studies)
    arguments = (histograms, studies.terms(_level_terms), weights, weights.shape[1], rows, levels, sick, frames)
    stack.over_studies("opacity", "opacity_levels", stack, *arguments)
    return levels, sick, frames


def _level_terms(spacing_mm: Spacing) -> tuple[float, ...]:
    level = (*opacity.PEAK_HU, opacity.TISSUE_HU, opacity.DISPLACED, *opacity.LEVEL_HU)
    sick = (opacity.OWN_SICK[0], opacity.OWN_SICK[1] - opacity.OWN_SICK[0])
    own = (opacity.DARK_SHARE, opacity.PEAK_ABOVE_HU, *sick, *opacity.OWN_DISPLACED)
    gravity = (opacity.GRAVITY_SHARE, opacity.GRAVITY_HU, opacity.SICK[1], opacity.SICK[1] - opacity.SICK[0])
    taps = len(opacity.gravity_weights(spacing_mm[1]))
    return (*level, *own, *gravity, opacity.DENSE_HU, opacity.PEAK_BINS, taps)


def _gravity_weights(studies: Studies) -> NDArray[np.float64]:
    rows = [opacity.gravity_weights(spacing_mm[1]) for spacing_mm in studies.spacings_mm]
    out = np.zeros((len(rows), max(map(len, rows))))
    for row, weights in zip(out, rows, strict=True):
        row[: len(weights)] = weights
    return out


def _plateaus(studies: Studies, opaque: Any, dense: Any, lung: Any) -> Any:
    """Opaque regions that fill a window, and the dense pixels near them."""
    stack = studies.stack
    window = studies.reaches(opacity.WINDOW_MM, opacity.MOST_REACH)
    glass = bitrows.share_above(stack, opaque & ~dense, lung, opacity.FILLED_TENTHS, window)
    found = bitrows.dilate(stack, glass, studies.squares(opacity.WINDOW_MM)) & opaque
    near = bitrows.dilate(stack, glass, studies.squares(opacity.WINDOW_MM + opacity.NEAR_MM))
    return found | (dense & near)


def _consolidation(studies: Studies, opaque: Any, dense: Any, lung: Any, sick: Any) -> Any:
    """Dense bodies too thick for a vessel, with their blurred border."""
    stack = studies.stack
    outside = outside_ellipse(studies, find_centres_of_mass(studies, lung), opacity.HILA_MM)
    found = stack.zeros(stack.shape, np.uint64)
    for core_mm, where in ((opacity.CORE_MM, outside), (opacity.HILAR_CORE_MM, ~outside)):
        cores = bitrows.erode(stack, dense, _for_sick(studies, sick, opacity.CORE_MM, core_mm)) & where
        halo = opacity.HALO_MM
        reach = _for_sick(studies, sick, opacity.CORE_MM + halo, core_mm + halo)
        found |= bitrows.dilate(stack, cores, reach) & opaque
    return found


def _for_sick(studies: Studies, sick: Any, of_sick_mm: float, usual_mm: float) -> Any:
    """Discs of one size for studies that are sick, and of another for the others."""
    both = np.full((2, len(studies.stack), MAX_REACH + 1), -1, np.int32)
    for shapes, size_mm in zip(both, (of_sick_mm, usual_mm), strict=True):
        discs = studies.discs(size_mm)
        shapes[:, : discs.shape[1]] = discs
    both = both[..., : max(int((both >= 0).any(axis=(0, 1)).sum()), 1)]
    of_sick, usual = (np.ascontiguousarray(shapes) for shapes in both)
    chosen = studies.stack.zeros(usual.shape, np.int32)
    sizes = (len(studies.stack), usual.shape[1])
    blocks = -(-usual.size // THREADS[0])
    studies.stack.launch(
        "opacity", "choose_shapes", blocks, sick, _sick_limits(studies), of_sick, usual, *sizes, chosen
    )
    return chosen


def _sick_limits(studies: Studies) -> NDArray[np.float64]:
    """From which share on each study counts as sick."""
    return np.full(len(studies.stack), opacity.SICK[0], np.float64)


def _without_rims(studies: Studies, found: Any, lung: Any, sick: Any) -> Any:
    """In lungs that are hardly sick, less what stays within DEEP_MM of the lung's border."""
    stack, depth = studies.stack, studies.discs(opacity.DEEP_MM)
    deep = bitrows.erode(stack, lung, depth)
    keeps = bitrows.dilate(stack, found & deep, studies.discs(opacity.DEEP_MM + opacity.HALO_MM))
    without, out = found & (keeps | ~bitrows.dilate(stack, deep, depth)), stack.empty()
    stack.over_words("opacity", "choose_healthy", stack, sick, _sick_limits(studies), without, found, out)
    return out


def _without_caps(studies: Studies, found: Any, lung: Any, sick: Any) -> Any:
    """Less what ends with the lung: thick slices blur the diaphragm's dome, and the apex of the lung."""
    stack = studies.stack
    near = bitrows.dilate(stack, found, studies.squares(opacity.CAP_REACH_MM))
    stays = stack.empty()
    stack.over_words("opacity", "keep_going_on", stack, sick, _sick_limits(studies), found, near, lung, stays)
    pieces = studies.find_pieces(found)
    return stays | pieces.paint(2 * pieces.count_inside(stays) > pieces.areas)


def estimate_batches(volumes: Sequence[Any], lungs: Sequence[Any], geometries: Sequence[Geometry]) -> list[Any]:
    """Opacity masks of volumes that lie on one GPU, with their lungs, in batches that fit its memory."""
    parts = in_batches([geometry.shape for geometry in geometries])
    return [found for part in parts for found in _estimate_batch(volumes[part], lungs[part], geometries[part])]


def _estimate_batch(volumes: Sequence[Any], lungs: Sequence[Any], geometries: Sequence[Geometry]) -> list[Any]:
    """Opacity masks of a batch; the GPU is waited for once, at the end."""
    with device.working_beside(volumes[0]):
        studies = gather_studies(volumes, geometries)
        upright = [geometry.upright(one) for one, geometry in zip(lungs, geometries, strict=True)]
        outs = draw_opacities(studies, bitrows.pack_label(studies.stack, upright, 0), geometries)
        faults = device.to_host(studies.faults)
    jobs = zip(outs, faults, volumes, lungs, geometries, strict=True)
    return [_on_cpu(hu, one, geometry) if fault else out for out, fault, hu, one, geometry in jobs]


def draw_opacities(studies: Studies, lung: Any, geometries: Sequence[Geometry]) -> list[Any]:
    """The opacities of each study, uint8 (z, y, x) in its own order."""
    found = find_opacities(studies, lung, [geometry.voxel_ml for geometry in geometries])
    outs = [device.zeros_beside(lung, geometry.shape, np.uint8) for geometry in geometries]
    upright = [geometry.upright(out) for out, geometry in zip(outs, geometries, strict=True)]
    bitrows.unpack_label(studies.stack, found, 1, upright)
    return outs


def _on_cpu(hu: Any, lungs: Any, geometry: Geometry) -> Any:
    """The mask of a study that needs larger tables than the GPU had."""
    found = opacity.opacity_mask(device.to_host(hu), device.to_host(lungs), geometry)
    return device.copy_beside(hu, found)
