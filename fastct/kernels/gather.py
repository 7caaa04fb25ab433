"""Window and resample CT volumes: a single read of int16 HU to finished voxels."""

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from fastct.device import span
from fastct.errors import ArrayError, OptionError
from fastct.geometry import Geometry, Shape, Spacing
from fastct.kernels import home
from fastct.kernels.maps import (
    IDENTITY,
    Line,
    Reading,
    geometry_on,
    identity_grid,
    resample_grid,
    window_line,
)

Volume = NDArray[Any]

SOURCE_DTYPES = frozenset(map(np.dtype, ("int16", "uint8", "bool")))
OUTPUT_DTYPES = tuple(map(np.dtype, ("float32", "float16", "uint8", "int16")))
LARGEST_HU = 1e6  # a hundred times what a CT holds; far below where float32 loses whole numbers


@overload
def window(hu: Volume, low_hu: float, high_hu: float, dtype: DTypeLike = ..., out: Volume | None = ...) -> Volume: ...
@overload
def window(
    hu: Sequence[Volume],
    low_hu: float,
    high_hu: float,
    dtype: DTypeLike = ...,
    out: Sequence[Volume] | None = ...,
) -> list[Volume]: ...
def window(
    hu: Volume | Sequence[Volume],
    low_hu: float,
    high_hu: float,
    dtype: DTypeLike = "float32",
    out: Volume | Sequence[Volume] | None = None,
) -> Volume | list[Volume]:
    """Map HU from [low_hu, high_hu] to [0, 1], clamped; to [0, 255] for uint8.

    Parameters
    ----------
    hu : (z, y, x) int16 or uint8, or a list of such volumes of any shapes.
    low_hu, high_hu : HU that become 0 and 1.
    dtype : float32, float16, or uint8 (rounded to the nearest, ties to even).
    out : where to write, of that dtype and the shape of `hu`; an array for each volume of a list.

    Returns
    -------
    The windowed volume, or a list of them; `out` if given.

    Raises
    ------
    ArrayError
        If a volume or `out` has the wrong dtype, shape or place.
    OptionError
        If the window is empty or not finite, or the dtype cannot hold [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> window(np.array([[[-1200, -300, 400]]], dtype="int16"), -1000, 400)
    array([[[0. , 0.5, 1. ]]], dtype=float32)
    """
    volumes, single = _volumes(hu)
    kind = _output_dtype(dtype)
    line = _window_line((low_hu, high_hu), kind)
    return _gather(volumes, [Reading(identity_grid(v.shape), line) for v in volumes], kind, out, single)


@overload
def resample(
    hu: Volume,
    spacing_mm: ArrayLike,
    to_mm: ArrayLike,
    window_hu: tuple[float, float] | None = ...,
    dtype: DTypeLike = ...,
    order: int = ...,
    out: Volume | None = ...,
) -> Volume: ...
@overload
def resample(
    hu: Sequence[Volume],
    spacing_mm: ArrayLike,
    to_mm: ArrayLike,
    window_hu: tuple[float, float] | None = ...,
    dtype: DTypeLike = ...,
    order: int = ...,
    out: Sequence[Volume] | None = ...,
) -> list[Volume]: ...
def resample(
    hu: Volume | Sequence[Volume],
    spacing_mm: ArrayLike,
    to_mm: ArrayLike,
    window_hu: tuple[float, float] | None = None,
    dtype: DTypeLike = "float32",
    order: int = 1,
    out: Volume | Sequence[Volume] | None = None,
) -> Volume | list[Volume]:
    """Resample volumes to a spacing, windowing them first if `window_hu` is given.

    An axis of n voxels gets max(1, round(n * spacing / to)); input and output share their physical
    centre, and places beyond the outer voxels read the outer voxels. `resampled_geometry` tells where
    the result lies.

    Parameters
    ----------
    hu : (z, y, x) int16, uint8 or bool, or a list of such volumes of any shapes.
    spacing_mm : (z, y, x) of `hu`; for a list, one for all or one for each.
    to_mm : (z, y, x) wanted.
    window_hu : (low, high), mapped to [0, 1] before interpolating ([0, 255] for uint8).
    dtype : float32, float16, uint8 or int16 (rounded to the nearest, ties to even). Without a window
        uint8 takes uint8 or bool only; with one, int16 is refused.
    order : 1 linear, for images; 0 nearest, for labels (halfway goes up, as in ITK).
    out : where to write, of that dtype and the resampled shape; an array for each volume of a list.

    Returns
    -------
    The resampled volume, or a list of them; `out` if given.

    Raises
    ------
    ArrayError
        If a volume or `out` has the wrong dtype, shape or place.
    OptionError
        If a spacing, the window, the order or the dtype is not one that can be done.

    Examples
    --------
    >>> import numpy as np
    >>> hu = np.array([[[-1000, -800, -600, -400]]], dtype="int16")
    >>> resample(hu, (8, 0.75, 0.75), (8, 1.5, 1.5), dtype="int16")
    array([[[-900, -500]]], dtype=int16)
    """
    volumes, single = _volumes(hu)
    spacings = _spacings(spacing_mm, len(volumes))
    wanted = _spacing(to_mm, "to_mm")
    if order not in (0, 1):
        raise OptionError("order", f"it is {order!r}", "Give 1 (linear) or 0 (nearest)")
    kind = _output_dtype(dtype)
    line = _resample_line(window_hu, kind, volumes)
    readings = [
        Reading(resample_grid(volume.shape, spacing, wanted), line, order)
        for volume, spacing in zip(volumes, spacings, strict=True)
    ]
    return _gather(volumes, readings, kind, out, single)


def gather(
    volumes: Sequence[Volume],
    readings: Sequence[Reading],
    dtype: DTypeLike = "float32",
    out: Sequence[Volume] | None = None,
) -> list[Volume]:
    """Read a batch: for each volume its Reading, a volume as often as there are patches to take from it.

    Parameters
    ----------
    volumes : (z, y, x) int16, uint8 or bool each.
    readings : where and how to read each of them.
    dtype : float32, float16, uint8 or int16; whole numbers are rounded (ties to even) and kept in range.
    out : where to write, an array of that dtype for each reading; `batch` of shape (n, z, y, x) will do.

    Returns
    -------
    A list of the arrays written.

    Raises
    ------
    ArrayError
        If a volume or `out` has the wrong dtype, shape or place, or there is not a reading for each.
    OptionError
        If the dtype is not one of the four.

    Examples
    --------
    >>> import numpy as np
    >>> from fastct.kernels.maps import Grid
    >>> hu = np.arange(8, dtype="int16").reshape(1, 2, 4)
    >>> flip = Grid((1, 2, 4), np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 3]]))
    >>> gather([hu], [Reading(flip)], "int16")
    [array([[[3, 2, 1, 0],
            [7, 6, 5, 4]]], dtype=int16)]
    """
    sources, _ = _volumes(list(volumes))
    if len(readings) != len(sources):
        raise ArrayError(
            "readings", f"there are {len(readings)} for {len(sources)} volumes", "Give one for each volume"
        )
    outs = _gather(sources, list(readings), _output_dtype(dtype), out, single=False)
    return list(outs)


def add_noise(voxels: Volume, reading: Reading, out: Volume) -> None:
    """Write float32 voxels with a reading's noise added, rounded to the dtype of `out`; both without gaps, on a CPU.

    Examples
    --------
    >>> from fastct.kernels.maps import Grid
    >>> voxels = np.zeros((1, 1, 4), np.float32)
    >>> add_noise(voxels, Reading(Grid((1, 1, 4), np.eye(3, 4)), noise_sigma=1.0, noise_key=7), voxels)
    >>> bool(voxels.all())
    True
    """
    bits = out.view(np.uint16) if out.dtype == np.float16 else out
    sigma, key = np.float32(reading.noise_sigma), np.uint64(reading.noise_key)
    home("noise", voxels, out).add_noise(voxels.reshape(-1), bits.reshape(-1), sigma, key)


def resampled_geometry(geometry: Geometry, to_mm: ArrayLike) -> Geometry:
    """Where the voxels of `resample(hu, geometry.spacing_mm, to_mm)` lie.

    Raises
    ------
    OptionError
        If `to_mm` is not three positive numbers.

    Examples
    --------
    >>> import numpy as np
    >>> resampled_geometry(Geometry((40, 512, 512), np.diag([-0.75, 0.75, 8, 1])), (8, 1.5, 1.5)).shape
    (40, 256, 256)
    """
    wanted = _spacing(to_mm, "to_mm")
    return geometry_on(resample_grid(geometry.shape, geometry.spacing_mm, wanted), geometry)


def _volumes(hu: Volume | Sequence[Volume]) -> tuple[list[Volume], bool]:
    """The volumes as a list, and whether there was a single one."""
    single = not isinstance(hu, (list, tuple))
    volumes: list[Volume] = [hu] if single else list(hu)  # type: ignore[list-item]
    for number, volume in enumerate(volumes):
        name = "hu" if single else f"hu[{number}]"
        if getattr(volume, "dtype", None) not in SOURCE_DTYPES:
            found = getattr(volume, "dtype", type(volume).__name__)
            raise ArrayError(name, f"it is {found}, not int16, uint8 or bool", 'Convert it: hu.round().astype("int16")')
        if volume.ndim != 3 or 0 in volume.shape:
            raise ArrayError(name, f"its shape is {volume.shape}", "Give (z, y, x) with at least one voxel an axis")
    return [volume.view("uint8") if volume.dtype == bool else volume for volume in volumes], single


def _output_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    try:
        kind = np.dtype(dtype)
    except TypeError:
        kind = None
    if kind not in OUTPUT_DTYPES:
        raise OptionError("dtype", f"it is {dtype!r}", f"Give one of {', '.join(map(str, OUTPUT_DTYPES))}")
    return kind


def _window_line(window_hu: tuple[float, float], kind: np.dtype[Any]) -> Line:
    """The map of a window, once it is known to be one."""
    try:
        low_hu, high_hu = (float(bound) for bound in window_hu)
    except (TypeError, ValueError):
        raise OptionError("window", f"it is {window_hu!r}", "Give two numbers, (low_hu, high_hu)") from None
    # Equal in float32 counts as empty: kernels see no other numbers.
    if not np.float32(low_hu) < np.float32(high_hu) or max(abs(low_hu), abs(high_hu)) > LARGEST_HU:
        raise OptionError(
            "window",
            f"it goes from {low_hu:g} to {high_hu:g} HU",
            "Give low_hu below high_hu, both in HU, such as -1000 and 400",
        )
    if kind == np.int16:
        raise OptionError(
            "dtype",
            "int16 holds HU, and a window makes [0, 1] of them",
            "Ask for float32, float16 or uint8, or leave out the window",
        )
    return window_line(low_hu, high_hu, kind)


def _resample_line(window_hu: tuple[float, float] | None, kind: np.dtype[Any], volumes: list[Volume]) -> Line:
    if window_hu is not None:
        return _window_line(window_hu, kind)
    if kind == np.uint8 and any(volume.dtype != np.uint8 for volume in volumes):
        raise OptionError(
            "dtype",
            "uint8 cannot hold int16 HU",
            'Give window_hu, or convert labels first: labels.astype("uint8")',
        )
    return IDENTITY


def _spacing(spacing_mm: ArrayLike, name: str) -> Spacing:
    """Three positive numbers, in millimetres."""
    try:
        spacing = np.asarray(spacing_mm, dtype=np.float64)
    except (TypeError, ValueError):
        spacing = np.empty(0)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise OptionError(name, f"it is {spacing_mm!r}", "Give (z, y, x) in millimetres, each above 0")
    z, y, x = spacing.tolist()
    return z, y, x


def _spacings(spacing_mm: ArrayLike, count: int) -> list[Spacing]:
    """A spacing for each volume, from one for all or one for each."""
    try:
        one_for_all = np.ndim(spacing_mm) < 2
    except ValueError:  # ragged: some spacing is no triple, and `_spacing` will name it
        one_for_all = False
    if one_for_all:
        return [_spacing(spacing_mm, "spacing_mm")] * count
    spacings = [_spacing(spacing, f"spacing_mm[{n}]") for n, spacing in enumerate(spacing_mm)]  # type: ignore[arg-type]
    if len(spacings) != count:
        raise OptionError(
            "spacing_mm", f"there are {len(spacings)} for {count} volumes", "Give one for all or one for each"
        )
    return spacings


def _gather(
    volumes: list[Volume],
    readings: list[Reading],
    kind: np.dtype[Any],
    out: Volume | Sequence[Volume] | None,
    single: bool,
) -> Volume | list[Volume]:
    """Read every volume into `out`, or into fresh arrays beside the volumes, and answer as asked."""
    shapes = [reading.grid.shape for reading in readings]
    if out is None:
        outs = [home("gather", v).empty_beside(v, shape, kind) for v, shape in zip(volumes, shapes, strict=True)]
    else:
        outs = [out] if single else list(out)
        _check_outputs(outs, shapes, kind, volumes)
    home("gather", *volumes, *outs).gather(volumes, outs, readings)
    if out is not None:
        return out  # type: ignore[return-value]
    return outs[0] if single else outs


def _check_outputs(outs: list[Volume], shapes: list[Shape], kind: np.dtype[Any], volumes: list[Volume]) -> None:
    if len(outs) != len(volumes):
        raise ArrayError("out", f"it holds {len(outs)} arrays for {len(volumes)} volumes", "Give one for each volume")
    for number, (out, shape) in enumerate(zip(outs, shapes, strict=True)):
        _check_output(out, shape, kind, f"out[{number}]")
    _check_memory(volumes, outs)


def _check_memory(volumes: list[Volume], outs: list[Volume]) -> None:
    """Whether each output has memory of its own; looks at arrays in the order of their addresses."""
    spans = [(*span(volume), False) for volume in volumes] + [(*span(out), True) for out in outs]
    volumes_stop = outs_stop = 0
    for start, stop, is_out in sorted(spans):
        if start < (max(volumes_stop, outs_stop) if is_out else outs_stop):
            raise ArrayError("out", "it lies in the memory of a volume, or of another output", "Give memory of its own")
        if is_out:
            outs_stop = max(outs_stop, stop)
        else:
            volumes_stop = max(volumes_stop, stop)


def _check_output(out: Volume, shape: tuple[int, ...], kind: np.dtype[Any], name: str) -> None:
    found = getattr(out, "shape", None), getattr(out, "dtype", type(out).__name__)
    if found != (shape, kind):
        raise ArrayError(name, f"it is {found[0]} {found[1]}", f"Give an array of shape {shape}, {kind}")
    if not out.flags.c_contiguous or not getattr(out.flags, "writeable", True):
        raise ArrayError(name, "it is read-only or not contiguous", "Give a plain array: numpy.empty(...)")
