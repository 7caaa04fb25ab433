"""What benchmarks/gpu_timings.py times: every kernel on batches larger than any cache, and peers beside it."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

import fastct
from benchmarks import common
from benchmarks.common import WINDOW_HU
from benchmarks.gpu_timings import Case, Work
from fastct import device
from fastct.carrier import Carrier, Wanted, read_boxes
from fastct.geometry import Shape
from fastct.gpu.opacity import estimate_batches
from fastct.gpu_scoring import examine_together
from fastct.kernels.chunks import ChunkBox, begin_decoding
from fastct.kernels.counts import count_lungs, histogram
from fastct.kernels.gather import gather
from fastct.kernels.maps import IDENTITY, window_line
from fastct.kernels.projections import project
from fastct.nifti import write_nifti
from fastct.shard_layout import ShardLayout
from fastct.shards import array_metadata, read_index, write_shard
from fastct.shelf import Shelf
from fastct.store import Store
from fastct.transforms import Flip, Preprocess, Resample, Rotate, Window

Place = Callable[[Any], Any]
Maker = Callable[[], Case]
SPACINGS_MM = ((8.0, 1.5, 1.5), (1.5, 1.5, 1.5))
SMALL: Shape = (12, 96, 96)
FINE_AFFINE = np.diag([-0.75, 0.75, 8.0, 1.0])
VOLUMES, SMALL_VOLUMES = 32, 2
PATCH, SMALL_PATCH, PATCHES, SMALL_PATCHES = (32, 128, 128), (8, 40, 40), 64, 4
ALIGNMENT_BYTES = 16


class Subjects:
    """The arrays that cases work on, made once, where they are wanted."""

    def __init__(self, place: Place, small: bool) -> None:
        self.place, self.small = place, small
        if small:
            common.SHAPE = SMALL
            common.phantom.cache_clear()
        drawn = common.phantom()
        self.hu, self.geometry, self.lesion = drawn.hu, drawn.geometry, drawn.lesion
        if small:  # a whole chest of so few voxels would grow by resampling
            self.geometry = fastct.Geometry(SMALL, FINE_AFFINE)
        self.count = SMALL_VOLUMES if small else VOLUMES

    def rolled(self, array: Any) -> list[Any]:
        """The batch as it lies on the host: one volume, turned by other steps, so that no two are alike."""
        return [np.roll(array, 13 * number, axis=2) for number in range(self.count)]

    @cached_property
    def volumes(self) -> list[Any]:
        return [self.place(hu) for hu in self.rolled(self.hu)]

    @cached_property
    def labels(self) -> list[Any]:
        return [self.place(labels) for labels in self.rolled((self.hu > -500).astype(np.uint8) + self.lesion)]

    @cached_property
    def stored(self) -> tuple[Any, ShardLayout, list[Any]]:
        """The batch as shards, one after another in one buffer, and their indices."""
        layout = ShardLayout.from_metadata(array_metadata(self.hu.shape, "int16"))
        shards, indices, at = [], [], 0
        for hu in self.rolled(self.hu):
            shard = np.frombuffer(write_shard(hu, layout), np.uint8)
            index = read_index(shard, layout).copy()
            index[..., 0] += np.uint64(at)
            shards.append(np.pad(shard, (0, -shard.size % ALIGNMENT_BYTES)))
            indices.append(index)
            at += shards[-1].size
        return self.place(np.concatenate(shards)), layout, indices

    @cached_property
    def store(self) -> Store:
        """A store of four studies."""
        folder = common.fresh_folder()
        (folder / "studies").mkdir()
        for number, hu in enumerate(self.rolled(self.hu)[:4]):
            write_nifti(folder / "studies" / f"study_{number:04d}.nii.gz", hu, self.geometry)
        fastct.convert(folder / "studies", folder / "store", workers=1, device="cpu")
        return fastct.open(folder / "store")

    def empty(self, shape: Shape, dtype: str) -> Any:
        return device.empty_beside(self.volumes[0], shape, dtype) if not self._is_on_cpu() else np.empty(shape, dtype)

    def _is_on_cpu(self) -> bool:
        return isinstance(self.volumes[0], np.ndarray)


def cases(place: Place, small: bool) -> Iterator[Maker]:
    """Makers of the cases, so that each takes its memory when it is timed."""
    subjects = Subjects(place, small)
    for dtype in ("float32", "float16", "uint8"):
        yield lambda dtype=dtype: _window(subjects, dtype)
    for to_mm in SPACINGS_MM:
        yield lambda to_mm=to_mm: _resample(subjects, to_mm)
    yield lambda: _augment(subjects)
    yield lambda: _nearest(subjects)
    yield lambda: _counts(subjects)
    yield lambda: _histogram(subjects)
    for axis in range(3):
        yield lambda axis=axis: _project(subjects, axis)
    for dtype in ("int16", "float32", "float16", "uint8"):
        yield lambda dtype=dtype: _decode_volumes(subjects, dtype)
    yield lambda: _decode_patches(subjects)
    yield lambda: _carry_patches(subjects)
    yield lambda: _lungs(subjects)
    yield lambda: _opacities(subjects)
    yield lambda: _examined(subjects)


def _bytes_of(*batches: Any) -> int:
    return sum(int(array.nbytes) for batch in batches for array in batch)


def _window(subjects: Subjects, dtype: str) -> Case:
    volumes = subjects.volumes
    outs = [subjects.empty(hu.shape, dtype) for hu in volumes]
    low_hu, high_hu = WINDOW_HU

    def torch_window() -> Work:
        tensors = [_tensor(hu) for hu in volumes]
        return lambda: [((hu.float() - low_hu) / (high_hu - low_hu)).clamp_(0, 1) for hu in tensors]

    peers = {"torch": torch_window} if dtype == "float32" else {}
    own = lambda: fastct.window(volumes, low_hu, high_hu, dtype, out=outs)  # noqa: E731
    return Case(f"window to {dtype}", _bytes_of(volumes, outs), own, peers)


def _resample(subjects: Subjects, to_mm: tuple[float, float, float]) -> Case:
    volumes, spacing_mm = subjects.volumes, subjects.geometry.spacing_mm
    outs = fastct.resample(volumes, spacing_mm, to_mm, WINDOW_HU)
    zooms = [n / m for n, m in zip(outs[0].shape, volumes[0].shape, strict=True)]
    windowed = fastct.window(volumes[:1], *WINDOW_HU)[0]
    scale = len(volumes)  # peers do one volume after another, so that their memory suffices

    def torch_resample() -> Work:
        import torch

        tensor = _tensor(windowed)[None, None]
        interpolate = torch.nn.functional.interpolate
        shape = tuple(outs[0].shape)
        return lambda: [interpolate(tensor, size=shape, mode="trilinear") for _ in range(scale)]

    def zoom() -> Work:
        if isinstance(windowed, np.ndarray):
            from scipy import ndimage
        else:
            from cupyx.scipy import ndimage
        return lambda: [ndimage.zoom(windowed, zooms, order=1) for _ in range(scale)]

    name = f"window and resample to {' x '.join(f'{mm:g}' for mm in to_mm)} mm"
    own = lambda: fastct.resample(volumes, spacing_mm, to_mm, WINDOW_HU, out=outs)  # noqa: E731
    peers = {"torch, windowed before": torch_resample, "ndimage.zoom, windowed before": zoom}
    return Case(name, _bytes_of(volumes, outs), own, peers)


def _augment(subjects: Subjects) -> Case:
    """Window, resample and turn in one pass."""
    chain = Preprocess((Resample((8.0, 1.5, 1.5)), Rotate((10.0, 2.0, -3.0)), Flip((2,)), Window(*WINDOW_HU)))
    reading = chain.readings(subjects.geometry)[0]
    volumes = subjects.volumes
    outs = [subjects.empty(reading.grid.shape, "float32") for _ in volumes]
    own = lambda: gather(volumes, [reading] * len(volumes), "float32", outs)  # noqa: E731
    return Case("window, resample, rotate and flip", _bytes_of(volumes, outs), own, {})


def _nearest(subjects: Subjects) -> Case:
    labels, spacing_mm = subjects.labels, subjects.geometry.spacing_mm
    to_mm = SPACINGS_MM[0]
    outs = fastct.resample(labels, spacing_mm, to_mm, dtype="uint8", order=0)
    own = lambda: fastct.resample(labels, spacing_mm, to_mm, dtype="uint8", order=0, out=outs)  # noqa: E731
    return Case("labels to 8 x 1.5 x 1.5 mm, nearest", _bytes_of(labels, outs), own, {})


def _counts(subjects: Subjects) -> Case:
    labels = subjects.labels
    lesions = labels[1:] + labels[:1]
    return Case("count_lungs", _bytes_of(labels, lesions), lambda: count_lungs(labels, lesions), {})


def _histogram(subjects: Subjects) -> Case:
    volumes, labels = subjects.volumes, subjects.labels
    own = lambda: histogram(volumes, labels, -1024, 1024)  # noqa: E731
    return Case("histogram in a mask", _bytes_of(volumes, labels), own, {})


def _project(subjects: Subjects, axis: int) -> Case:
    volumes = subjects.volumes
    outs = project(volumes, "max", axis)

    def torch_project() -> Work:
        tensors = [_tensor(hu) for hu in volumes]
        return lambda: [hu.amax(axis) for hu in tensors]

    own = lambda: project(volumes, "max", axis)  # noqa: E731
    return Case(f"MIP along {'zyx'[axis]}", _bytes_of(volumes, outs), own, {"torch": torch_project})


def _decode_volumes(subjects: Subjects, dtype: str) -> Case:
    source, layout, indices = subjects.stored
    line = IDENTITY if dtype == "int16" else window_line(*WINDOW_HU, dtype)
    boxes = [ChunkBox(layout, index, (0, 0, 0), layout.shape, line) for index in indices]
    outs = [subjects.empty(box.shape, dtype) for box in boxes]
    begin_decoding(source, boxes, outs).finish()
    name = "decode volumes" if dtype == "int16" else f"decode and window volumes to {dtype}"
    moved = _bytes_of([source], outs)
    return Case(name, moved, lambda: begin_decoding(source, boxes, outs), {})


def _patches(subjects: Subjects) -> tuple[list[tuple[int, Shape]], Shape]:
    """Which volume each patch is of, and where it begins."""
    patch = SMALL_PATCH if subjects.small else PATCH
    patch = tuple(min(n, m) for n, m in zip(patch, subjects.hu.shape, strict=True))
    rng = np.random.default_rng(3)
    room = np.array(subjects.hu.shape) - patch + 1
    draws = [(int(rng.integers(subjects.count)), tuple(rng.integers(room).tolist())) for _ in range(_many(subjects))]
    return draws, patch


def _many(subjects: Subjects) -> int:
    return SMALL_PATCHES if subjects.small else PATCHES


def _decode_patches(subjects: Subjects) -> Case:
    source, layout, indices = subjects.stored
    draws, patch = _patches(subjects)
    boxes = [ChunkBox(layout, indices[k], begin, patch, window_line(*WINDOW_HU)) for k, begin in draws]
    outs = [subjects.empty(patch, "float32") for _ in boxes]
    touched = [box.index[layout.touched(box.begin, box.shape)][..., 1].sum() for box in boxes]
    moved = int(sum(touched)) + _bytes_of(outs)
    own = lambda: begin_decoding(source, boxes, outs)  # noqa: E731
    return Case("decode and window patches", moved, own, {}, samples=len(boxes))


def _carry_patches(subjects: Subjects) -> Case:
    """From the page cache to finished patches; on a GPU with a batch under way while the next is sent."""
    store = subjects.store
    draws, patch = _patches(subjects)
    ids, line = list(store), window_line(*WINDOW_HU)
    wanted = [Wanted(ids[k % len(ids)], begin, patch, "float32", line) for k, begin in draws]
    shelf = Shelf(store.storage, 64)
    moved = len(wanted) * int(np.prod(patch)) * 4
    if subjects._is_on_cpu():
        return Case("patches from a store", moved, lambda: read_boxes(shelf, wanted), {}, samples=len(wanted))
    carrier = Carrier(shelf, ahead=2)
    under_way = [carrier.begin(wanted)]

    def carry() -> Any:
        under_way.append(carrier.begin(wanted))
        return under_way.pop(0).finish()

    return Case("patches from a store to the GPU", moved, carry, {}, samples=len(wanted))


def _lungs(subjects: Subjects) -> Case:
    volumes = subjects.volumes
    geometries = [subjects.geometry] * len(volumes)
    moved = _bytes_of(volumes) + sum(int(hu.size) for hu in volumes)
    return Case("lung masks", moved, lambda: fastct.lung_mask(volumes, geometries), {}, samples=len(volumes))


def _opacities(subjects: Subjects) -> Case:
    volumes, geometry = subjects.volumes, subjects.geometry
    geometries = [geometry] * len(volumes)
    masks = fastct.lung_mask(volumes, geometries)

    def own() -> Any:
        if not subjects._is_on_cpu():
            return estimate_batches(volumes, masks, geometries)
        return [fastct.opacity_mask(hu, lungs, geometry) for hu, lungs in zip(volumes, masks, strict=True)]

    moved = _bytes_of(volumes, masks) + sum(int(hu.size) for hu in volumes)
    return Case("opacity masks", moved, own, {}, samples=len(volumes))


def _examined(subjects: Subjects) -> Case:
    """From the page cache to voxels, lungs and opacities on the host."""
    store = subjects.store
    ids = [list(store)[number % len(store)] for number in range(subjects.count)]

    def own() -> Any:
        if not subjects._is_on_cpu():
            return examine_together(store.storage, ids, 0)
        studies = [store[study_id] for study_id in ids]
        lungs = [fastct.lung_mask(study.hu, study.geometry) for study in studies]
        return [fastct.opacity_mask(study.hu, one, study.geometry) for study, one in zip(studies, lungs, strict=True)]

    moved = 4 * subjects.count * int(np.prod(subjects.geometry.shape))
    return Case("studies of a store examined", moved, own, {}, samples=subjects.count)


def _tensor(array: Any) -> Any:
    import torch

    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.as_tensor(array, device="cuda")
