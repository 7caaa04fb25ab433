"""Projections as radiologists read them: maximum, minimum and mean, of whole volumes or of slabs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastct.errors import ArrayError, OptionError
from fastct.kernels import home

Volume = NDArray[Any]

KINDS = ("max", "min", "mean")


def project(
    volumes: Sequence[Volume], kind: str, axis: int = 0, slab: int | None = None, step: int | None = None
) -> list[Volume]:
    """Project volumes along an axis: "max" is a MIP, "min" a MinIP.

    Parameters
    ----------
    volumes : (z, y, x) int16 HU or uint8 each, of any shapes.
    kind : "max", "min" or "mean".
    axis : 0 along z, 1 along y, 2 along x.
    slab : voxels along the axis that go into one picture; all of them if None.
    step : voxels from the start of a slab to that of the next; slabs lie side by side if None. The last
        ones may be thinner.

    Returns
    -------
    For each volume an array in which the axis counts the slabs, ceil(n / step) of them: of the volume's
    dtype, float32 for the mean.

    Raises
    ------
    ArrayError
        If a volume has the wrong dtype, shape or place.
    OptionError
        If the kind, axis, slab or step is none that there is.

    Examples
    --------
    >>> hu = np.arange(6, dtype="int16").reshape(3, 1, 2)
    >>> project([hu], "max")
    [array([[[4, 5]]], dtype=int16)]
    >>> project([hu], "mean", slab=2)[0].tolist()
    [[[1.0, 2.0]], [[4.0, 5.0]]]
    """
    if kind not in KINDS or axis not in (0, 1, 2):
        raise OptionError("projection", f"it is {kind!r} along {axis!r}", f"Give {KINDS} along 0, 1 or 2")
    if not all(length is None or length >= 1 for length in (slab, step)):
        raise OptionError("projection", f"slab is {slab}, step is {step}", "Give voxels, at least 1")
    for number, volume in enumerate(volumes):
        found = str(getattr(volume, "dtype", type(volume).__name__))
        if found not in ("int16", "uint8") or volume.ndim != 3 or 0 in volume.shape:
            shape = getattr(volume, "shape", None)
            raise ArrayError(f"volume[{number}]", f"it is {found} of shape {shape}", "Give (z, y, x) int16")
    slabs = [slabs_of(volume.shape[axis], slab, step) for volume in volumes]
    twin = home("projections", *volumes)
    outs = []
    for volume, own in zip(volumes, slabs, strict=True):
        shape = (*volume.shape[:axis], own.pictures, *volume.shape[axis + 1 :])
        dtype = np.dtype(np.float32) if kind == "mean" else volume.dtype
        outs.append(twin.empty_beside(volume, shape, dtype))
    twin.project(volumes, outs, kind, axis, slabs)
    return outs


class Slabs(NamedTuple):
    """How an axis is cut: slab k goes from voxel k * step on, up to `voxels` of them."""

    voxels: int
    step: int
    pictures: int


def slabs_of(n: int, slab: int | None, step: int | None) -> Slabs:
    """How an axis of n voxels is cut."""
    voxels = slab or n
    step = step or voxels
    return Slabs(voxels, step, -(-n // step))
