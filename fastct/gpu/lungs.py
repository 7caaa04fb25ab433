"""Right and left lungs of a batch on a GPU: the recipe of fastct.lungs, each step a launch for all studies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct import device, lungs
from fastct.geometry import Geometry, Spacing
from fastct.gpu.airways import find_airways
from fastct.gpu.pleura import draw_in_lesions, fill_vessels
from fastct.gpu.sides import cut_apart, find_centres, find_midlines, walk_sides
from fastct.gpu.studies import Studies, gather_studies, in_batches
from fastct.kernels import masks
from fastct.kernels.gpu import bitrows
from fastct.kernels.gpu.pieces import fill_holes
from fastct.kernels.gpu.stacks import THREADS

WARP = 32  # threads that look through a row side by side


@dataclass(frozen=True, eq=False)
class Found:
    """What a batch's lungs are told by, all of it still on the GPU: bit masks, and pixels of each slice.

    `cut` are the pixels that were cut between lungs, `lowest_hu` the darkest voxel looked at of each study.
    """

    right: Any
    left: Any
    cut: Any
    lowest_hu: Any


def find_lungs(studies: Studies, options: lungs.LungOptions) -> Found:
    """Both lungs of each study; empty where there is none."""
    levels = np.array([lungs.BODY_HU, lungs.EDGE_HU], np.int16)
    outer, air = bitrows.pack_below(studies.stack, studies.volumes, levels)
    lowest_hu = _darkest(studies)
    body = _find_body(studies, ~outer)
    studies = studies.within(bitrows.bounds(studies.stack, body))
    air = bitrows.open_slices(studies.stack, air & body, studies.discs(lungs.SPIKE_MM))
    middles = find_midlines(studies, air, body)
    centres = find_centres(studies, middles)
    airways = find_airways(studies, body, middles, centres)
    air, cut = cut_apart(studies, air & ~airways, middles)
    right, left, gas = _choose(studies, air, centres)
    room = body & ~(airways | gas)
    studies = studies.within(bitrows.bounds(studies.stack, right | left))
    room = bitrows.within_frames(studies.stack, room)
    if options.keep_consolidation:
        right, left = draw_in_lesions(studies, (right, left), room, middles)
    else:
        right, left = fill_vessels(studies, (right, left))
    # Thin parts go last: between lesions that were filled, a thin septum of lung is thin no more.
    thick = studies.discs(lungs.THIN_MM)
    right, left = (bitrows.open_slices(studies.stack, one & room, thick) for one in (right, left))
    return Found(right, left & ~right, cut, lowest_hu)


def _darkest(studies: Studies) -> Any:
    """The darkest voxel of every so many rows of each study."""
    stack = studies.stack
    lowest = device.copy_beside(stack.beside, np.full(len(stack), np.iinfo(np.int16).max, np.int32))
    table, blocks = stack.volumes(studies.volumes, WARP)
    stack.launch("lungs", "darkest", blocks, *table, stack.shape[1], lungs.FLOOR_ROWS, lowest)
    return lowest


def _find_body(studies: Studies, tissue: Any) -> Any:
    """The trunk of each slice: tissue with all it encloses, less table and arms."""
    filled = fill_holes(studies.stack, tissue)
    pieces = studies.find_pieces(bitrows.open_slices(studies.stack, filled, studies.discs(lungs.TABLE_MM)))
    largest = pieces.per_piece(np.uint8)
    blocks = -(-studies.stack.shape[0] // THREADS[0])
    studies.stack.launch("lungs", "choose_largest", blocks, studies.stack, pieces, largest)
    return pieces.paint(largest)


def _choose(studies: Studies, air: Any, centres: Any) -> tuple[Any, Any, Any]:
    """The air of right and left lungs, and gas that is neither."""
    stack = studies.stack
    pieces = studies.find_pieces(air)
    histograms = pieces.histograms(studies.volumes)
    aerated_bins = (lungs.AERATED_HU - masks.BIN_FLOOR_HU) // masks.BIN_HU
    usual = stack.zeros((len(stack), 2), np.float64)
    stack.over_studies("lungs", "usual_density", stack, pieces, histograms, centres, aerated_bins, usual)

    def of_study(spacing_mm: Spacing) -> tuple[float, ...]:
        density = (lungs.HEALTHY_HU, lungs.GAS_MIX * lungs.GAS_HU, 1 - lungs.GAS_MIX)
        return (*spacing_mm[1:], lungs.PIECE_MM2, *density)

    lung, gas = pieces.per_piece(np.uint8), pieces.per_piece(np.uint8)
    pieces.over_pieces("lungs", "tell_lung", histograms, centres, usual, studies.terms(of_study), lung, gas)
    side = walk_sides(studies, pieces, lung, centres)
    return pieces.paint(side == lungs.RIGHT), pieces.paint(side == lungs.LEFT), pieces.paint(gas)


def segment_batches(
    volumes: Sequence[Any], geometries: Sequence[Geometry], options: lungs.LungOptions
) -> list[lungs.LungMask]:
    """Lung masks of volumes that lie on one GPU, in batches that fit its memory."""
    found: list[lungs.LungMask] = []
    for part in in_batches([geometry.shape for geometry in geometries]):
        with device.working_beside(volumes[0]):
            found += _segment_batch(volumes[part], geometries[part], options)
    return found


def _segment_batch(
    volumes: Sequence[Any], geometries: Sequence[Geometry], options: lungs.LungOptions
) -> list[lungs.LungMask]:
    """Lung masks of a batch; the GPU is waited for once, at the end."""
    studies = gather_studies(volumes, geometries)
    found = find_lungs(studies, options)
    labels = draw_labels(studies, found, geometries)
    facts = device.to_host_together(*collect_facts(studies, found))
    flags = flags_by(studies, facts, geometries)
    return [
        lungs.LungMask(one, words) if words is not None else _on_cpu(hu, geometry, options)
        for one, words, hu, geometry in zip(labels, flags, volumes, geometries, strict=True)
    ]


def _on_cpu(hu: Any, geometry: Geometry, options: lungs.LungOptions) -> lungs.LungMask:
    """The mask of a study that needs larger tables than the GPU had."""
    found = lungs.segment_lungs(device.to_host(hu), geometry, options)
    return lungs.LungMask(device.copy_beside(hu, found.labels), found.flags)


def draw_labels(studies: Studies, found: Found, geometries: Sequence[Geometry]) -> list[Any]:
    """The labels of each study, uint8 (z, y, x) in its own order."""
    labels = [device.zeros_beside(found.right, geometry.shape, np.uint8) for geometry in geometries]
    upright = [geometry.upright(one) for one, geometry in zip(labels, geometries, strict=True)]
    for mask, label in ((found.right, lungs.RIGHT), (found.left, lungs.LEFT)):
        bitrows.unpack_label(studies.stack, mask, label, upright)
    return labels


def collect_facts(studies: Studies, found: Found) -> tuple[Any, ...]:
    """The arrays that `flags_by` reads, on the GPU."""
    sides = (bitrows.count(studies.stack, side) for side in (found.right, found.left))
    return (*sides, found.cut, found.lowest_hu, studies.faults)


def flags_by(
    studies: Studies, facts: Sequence[NDArray[Any]], geometries: Sequence[Geometry]
) -> list[tuple[str, ...] | None]:
    """The flags of each study, by what `collect_facts` collected, on the host; None where a table was too small."""
    *of_slices, lowest_hu, faults = facts
    flags: list[tuple[str, ...] | None] = []
    for number, (study, geometry) in enumerate(zip(studies.stack.studies, geometries, strict=True)):
        part = slice(study["first_slice"], study["first_slice"] + study["slices"])
        right, left, cut = (counts[part] for counts in of_slices)
        cut_mm = float(cut.max()) * geometry.upright_spacing_mm()[1]
        fact = lungs.Facts(right, left, cut_mm, int(lowest_hu[number]))
        flags.append(None if faults[number] else lungs.flags_of(fact, geometry))
    return flags
