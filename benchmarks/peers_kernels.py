"""Window, resampling, rotation, labels, projections and counts beside those who do the same."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastct
from benchmarks.common import WINDOW_HU, WINDOW_WIDTH, Subject
from benchmarks.comparing import Case, Rival, Work, largest_difference
from fastct.kernels.counts import histogram
from fastct.kernels.gather import gather
from fastct.kernels.maps import Grid, Reading, resample_grid, window_line
from fastct.kernels.projections import project

Voxels = NDArray[Any]

SLICES = 40  # as MosMedData has them
HU_WIDTH = 4096 * WINDOW_WIDTH
DEGREES = (7.0, 4.0, -3.0)  # about z, y, x


def cases(subject: Subject) -> Iterator[Case]:
    """What is compared, on the CT brought to 40 slices."""
    missing = max(0, SLICES - len(subject.hu))
    hu = np.pad(subject.hu, ((0, missing), (0, 0), (0, 0)), "symmetric")[:SLICES].copy()
    spacing_mm = subject.geometry.spacing_mm
    yield window_case(hu)
    yield resample_case(hu, spacing_mm, (8.0, 1.5, 1.5), wanted={"torch": 2.5, "MONAI": 20.0, "SimpleITK": 6.0})
    yield resample_case(hu, spacing_mm, (1.5, 1.5, 1.5), wanted={"torch": 2.5})
    yield rotate_case(hu, spacing_mm)
    yield labels_case(hu, spacing_mm)
    yield from threads_cases(hu, spacing_mm)
    yield from projection_cases(hu)
    yield histogram_case(hu)


def floor(name: str, out: Voxels, wanted: float | None = None) -> Rival:
    """Writing the output, and nothing else."""
    return Rival(name, lambda: lambda: out.fill(0), None, None, wanted)


# Window


def window_case(hu: Voxels) -> Case:
    """int16 HU to [0, 1] in float32."""
    out = np.empty(hu.shape, np.float32)
    return Case(
        "window → float32",
        lambda: fastct.window(hu, *WINDOW_HU, out=out),
        [
            floor("memset of the output", np.empty_like(out), wanted=1 / 1.4),
            Rival("NumPy, in place", partial(_numpy_window, hu), "numpy", WINDOW_WIDTH),
            Rival("torch, in place", partial(_torch_window, hu), "torch", WINDOW_WIDTH),
            Rival("SimpleITK", partial(_simpleitk_window, hu), "SimpleITK", WINDOW_WIDTH, array=_voxels),
            Rival("MONAI ScaleIntensityRange", partial(_monai_window, hu), "monai", WINDOW_WIDTH),
            Rival("TorchIO Clamp + RescaleIntensity", partial(_torchio_window, hu), "torchio", WINDOW_WIDTH),
        ],
    )


def _numpy_window(hu: Voxels) -> Work:
    out, (low, high) = np.empty(hu.shape, np.float32), WINDOW_HU

    def work() -> Voxels:
        np.subtract(hu, low, out=out, dtype=np.float32)
        np.multiply(out, np.float32(1 / (high - low)), out=out)
        return np.clip(out, 0, 1, out=out)

    return work


def _torch_window(hu: Voxels) -> Work:
    import torch

    source, out, (low, high) = torch.from_numpy(hu), torch.empty(hu.shape), WINDOW_HU
    return lambda: out.copy_(source).sub_(low).mul_(1 / (high - low)).clamp_(0, 1)


def _simpleitk_window(hu: Voxels) -> Work:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(hu)
    return lambda: sitk.IntensityWindowing(sitk.Cast(image, sitk.sitkFloat32), *WINDOW_HU, 0, 1)


def _voxels(image: Any) -> Voxels:
    import SimpleITK as sitk

    array: Voxels = sitk.GetArrayFromImage(image)
    return array


def _monai_window(hu: Voxels) -> Work:
    from monai.transforms import ScaleIntensityRange

    scale = ScaleIntensityRange(*WINDOW_HU, 0, 1, clip=True)
    return lambda: scale(hu)


def _torchio_window(hu: Voxels) -> Work:
    import torch
    import torchio

    image = torchio.ScalarImage(tensor=torch.from_numpy(hu)[None])
    steps = torchio.Compose(
        [torchio.Clamp(*WINDOW_HU), torchio.RescaleIntensity((0, 1), in_min_max=WINDOW_HU)], copy=False
    )
    return lambda: steps(torchio.ScalarImage(tensor=image.data)).data[0]


# Resampling


def resample_case(
    hu: Voxels,
    spacing_mm: tuple[float, float, float],
    to_mm: tuple[float, float, float],
    wanted: dict[str, float],
) -> Case:
    """Window and trilinear resampling; the peers are given float32 voxels that are windowed already."""
    out = fastct.resample(hu, spacing_mm, to_mm, WINDOW_HU)
    windowed, grid = fastct.window(hu, *WINDOW_HU), resample_grid(hu.shape, spacing_mm, to_mm)
    spacings = (spacing_mm, to_mm)
    return Case(
        f"window + trilinear → {'×'.join(f'{mm:g}' for mm in to_mm)} mm",
        lambda: fastct.resample(hu, spacing_mm, to_mm, WINDOW_HU, out=out),
        [
            floor("memset of the output", np.empty_like(out)),
            Rival(
                "torch interpolate alone", partial(_torch_interpolate, windowed, grid), "torch", wanted=wanted["torch"]
            ),
            Rival(
                "SimpleITK Resample alone",
                partial(_simpleitk_read, windowed, grid),
                "SimpleITK",
                WINDOW_WIDTH,
                wanted.get("SimpleITK"),
                _voxels,
            ),
            Rival(
                "MONAI Spacingd alone", partial(_monai_spacing, windowed, *spacings), "monai", None, wanted.get("MONAI")
            ),
            Rival("TorchIO Resample alone", partial(_torchio_resample, windowed, *spacings), "torchio"),
            Rival("imops zoom alone", partial(_imops_zoom, windowed, grid), "imops"),
            Rival("scipy affine_transform alone", partial(_scipy_read, windowed, grid), "scipy", WINDOW_WIDTH),
        ],
    )


def _torch_interpolate(windowed: Voxels, grid: Grid) -> Work:
    import torch

    source = torch.from_numpy(windowed)[None, None]
    return lambda: torch.nn.functional.interpolate(source, grid.shape, mode="trilinear", align_corners=False)[0, 0]


def _simpleitk_read(windowed: Voxels, grid: Grid) -> Work:
    """The same places, in voxels for millimetres; the edge repeated."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(windowed)
    flipped = grid.affine[::-1]
    places = sitk.AffineTransform(flipped[:, 2::-1].ravel().tolist(), flipped[:, 3].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in grid.shape[::-1]])
    resampler.SetTransform(places)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetUseNearestNeighborExtrapolator(True)
    return lambda: resampler.Execute(image)


def _monai_spacing(windowed: Voxels, spacing_mm: tuple[float, ...], to_mm: tuple[float, ...]) -> Work:
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Spacingd

    affine = torch.diag(torch.tensor([*spacing_mm, 1.0], dtype=torch.float64))
    source = torch.from_numpy(windowed)[None]
    step = Spacingd("image", to_mm, mode="bilinear", padding_mode="border", dtype=np.float32)
    return lambda: step({"image": MetaTensor(source, affine=affine)})["image"][0]


def _torchio_resample(windowed: Voxels, spacing_mm: tuple[float, ...], to_mm: tuple[float, ...]) -> Work:
    import torch
    import torchio

    affine = np.diag([*spacing_mm, 1.0])
    source = torch.from_numpy(windowed)[None]
    step = torchio.Resample(to_mm)
    return lambda: step(torchio.ScalarImage(tensor=source, affine=affine)).data[0]


def _imops_zoom(windowed: Voxels, grid: Grid) -> Work:
    import imops

    factors = [to / n for n, to in zip(windowed.shape, grid.shape, strict=True)]
    return lambda: imops.zoom(windowed, factors, num_threads=1, backend="Cython")


def _scipy_read(windowed: Voxels, grid: Grid) -> Work:
    from scipy import ndimage

    square = grid.affine[:, :3]
    matrix = np.diag(square) if np.count_nonzero(square) == 3 else square  # a row lets it go axis by axis
    return lambda: ndimage.affine_transform(
        windowed, matrix, grid.affine[:, 3], grid.shape, order=1, mode="nearest", prefilter=False
    )


# Rotation


def rotate_case(hu: Voxels, spacing_mm: tuple[float, float, float]) -> Case:
    """Window and a turn about all three axes; the peers are given windowed float32 voxels."""
    grid = turned_grid(hu.shape, spacing_mm)
    reading = Reading(grid, window_line(*WINDOW_HU))
    out, windowed = np.empty(hu.shape, np.float32), fastct.window(hu, *WINDOW_HU)
    places = _places(grid)
    inside = ((places >= 0) & (places <= np.array(hu.shape).reshape(3, 1, 1, 1) - 1)).all(axis=0)
    return Case(
        "window + rotation about three axes",
        lambda: gather([hu], [reading], out=[out])[0],
        [
            floor("memset of the output", np.empty_like(out)),
            Rival(
                "torch grid_sample alone", partial(_torch_grid_sample, windowed, grid), "torch", 20 * WINDOW_WIDTH, 3.0
            ),
            Rival(
                "SimpleITK Resample alone",
                partial(_simpleitk_read, windowed, grid),
                "SimpleITK",
                WINDOW_WIDTH,
                array=_voxels,
            ),
            Rival("MONAI Affine alone", partial(_monai_affine, windowed, grid), "monai"),
            Rival("scipy affine_transform alone", partial(_scipy_read, windowed, grid), "scipy", WINDOW_WIDTH),
        ],
        lambda own, other: largest_difference(own[inside], other[inside]),  # beyond the edge each has its way
    )


def _places(grid: Grid) -> Voxels:
    """The source index (z, y, x) that each output voxel reads."""
    return np.tensordot(grid.affine[:, :3], np.indices(grid.shape), 1) + grid.affine[:, 3].reshape(3, 1, 1, 1)


def turned_grid(shape: tuple[int, ...], spacing_mm: tuple[float, float, float]) -> Grid:
    """The grid that fastct's own Rotate makes."""
    from fastct.transforms import Preprocess, Rotate

    geometry = fastct.Geometry((shape[0], shape[1], shape[2]), np.diag([*spacing_mm[::-1], 1.0]))
    return Preprocess((Rotate(DEGREES),)).frame(geometry).grid


def _torch_grid_sample(windowed: Voxels, grid: Grid) -> Work:
    """Its places are float32 and worked out beforehand: they cost it digits, and it no time here."""
    import torch

    size = np.array(windowed.shape).reshape(3, 1, 1, 1)
    scaled = ((2 * _places(grid) + 1) / size - 1)[::-1].transpose(1, 2, 3, 0)
    at, source = torch.from_numpy(scaled.astype(np.float32))[None], torch.from_numpy(windowed)[None, None]
    return lambda: torch.nn.functional.grid_sample(source, at, padding_mode="border", align_corners=False)[0, 0]


def _monai_affine(windowed: Voxels, grid: Grid) -> Work:
    import torch
    from monai.transforms import Affine

    affine = np.eye(4)
    affine[:3, :3] = grid.affine[:, :3]  # MONAI turns about the centre by itself
    step, source = Affine(affine=affine, padding_mode="border", image_only=True), torch.from_numpy(windowed)[None]
    return lambda: step(source)[0]


# Labels, threads, projections, counts


def labels_case(hu: Voxels, spacing_mm: tuple[float, float, float]) -> Case:
    """Nearest-neighbour resampling of a mask."""
    labels, to_mm = (hu < -500).astype(np.uint8), (8.0, 1.5, 1.5)
    grid = resample_grid(hu.shape, spacing_mm, to_mm)
    out = fastct.resample(labels, spacing_mm, to_mm, dtype="uint8", order=0)
    return Case(
        "labels, nearest → 8×1.5×1.5 mm",
        lambda: fastct.resample(labels, spacing_mm, to_mm, dtype="uint8", order=0, out=out),
        [
            floor("memset of the output", np.empty_like(out)),
            Rival("torch interpolate", partial(_torch_nearest, labels, grid), "torch"),
        ],
    )


def _torch_nearest(labels: Voxels, grid: Grid) -> Work:
    import torch

    source = torch.from_numpy(labels)[None, None]
    return lambda: torch.nn.functional.interpolate(source, grid.shape, mode="nearest-exact")[0, 0]


def threads_cases(hu: Voxels, spacing_mm: tuple[float, float, float]) -> Iterator[Case]:
    """Four volumes on two threads, beside one; and what the machine's cores and memory make of two threads."""
    to_mm = (8.0, 1.5, 1.5)
    sources = [hu.copy() for _ in range(4)]
    windowed = fastct.window(sources, *WINDOW_HU)
    resampled = fastct.resample(sources, spacing_mm, to_mm, WINDOW_HU)
    few = [np.linspace(1, 2, 2**14) for _ in range(4)]  # they stay in a core's own cache

    def reach_roots(n: int) -> None:
        for _ in range(400):
            np.sqrt(few[n], out=few[n])

    def window(n: int) -> None:
        fastct.window(sources[n], *WINDOW_HU, out=windowed[n])

    def resample(n: int) -> None:
        fastct.resample(sources[n], spacing_mm, to_mm, WINDOW_HU, out=resampled[n])

    yield threads_case("square roots in the cache (the cores' limit)", reach_roots)
    yield threads_case("memset of four outputs (the memory's limit)", lambda n: windowed[n].fill(0))
    yield threads_case("window, four volumes", window, wanted=1.7)
    yield threads_case("window + 8×1.5×1.5 mm, four volumes", resample, wanted=1.7)


def threads_case(name: str, do: Callable[[int], None], wanted: float | None = None) -> Case:
    """Four pieces of work on two threads, beside one."""
    pool = ThreadPoolExecutor(2)
    return Case(
        f"threads: {name}",
        lambda: list(pool.map(do, range(4))),
        [Rival("one thread", lambda: lambda: [do(n) for n in range(4)], wanted=wanted)],
        by="two threads",
    )


def projection_cases(hu: Voxels) -> Iterator[Case]:
    """Maximum and mean along each axis."""
    for axis, name in enumerate("zyx"):
        yield Case(
            f"MIP along {name}",
            partial(_squeezed, hu, "max", axis),
            [
                Rival("NumPy max", lambda axis=axis: lambda: hu.max(axis), "numpy", 0.0),  # type: ignore[misc]
                Rival("torch amax", partial(_torch_amax, hu, axis), "torch", 0.0),
            ],
        )
        yield Case(
            f"mean along {name}",
            partial(_squeezed, hu, "mean", axis),
            [Rival("NumPy mean", lambda axis=axis: lambda: hu.mean(axis, np.float32), "numpy", HU_WIDTH)],  # type: ignore[misc]
        )


def _squeezed(hu: Voxels, kind: str, axis: int) -> Voxels:
    return project([hu], kind, axis)[0].squeeze(axis)


def _torch_amax(hu: Voxels, axis: int) -> Work:
    import torch

    source = torch.from_numpy(hu)
    return lambda: source.amax(axis)


def histogram_case(hu: Voxels) -> Case:
    """HU inside of a mask, HU by HU."""
    mask = (hu < -500).astype(np.uint8)
    low, high = -1100, 1900
    return Case(
        "histogram in a mask",
        lambda: histogram([hu], [mask], low, high)[0],
        [
            Rival("NumPy bincount", lambda: partial(_numpy_histogram, hu, mask, low, high), "numpy", 0.0),
        ],
    )


def _numpy_histogram(hu: Voxels, mask: Voxels, low: int, high: int) -> Any:
    bins = np.clip(hu[mask != 0], low - 1, high) - (low - 1)
    return np.bincount(bins, minlength=high - low + 2)[1:-1]
