"""Preprocessing: a list of steps, folded into one reading of each volume and its masks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.draws import Draws, Uniform
from fastct.errors import ArrayError, OptionError
from fastct.frame import Frame
from fastct.geometry import Geometry
from fastct.kernels.gather import gather
from fastct.kernels.maps import Reading, geometry_on, identity_grid
from fastct.steps import (
    Crop,
    Flip,
    Intensity,
    Noise,
    Pad,
    Resample,
    Rotate,
    Scale,
    Shift,
    Sometimes,
    Step,
    Window,
)

__all__ = [
    "Crop",
    "Flip",
    "Intensity",
    "Noise",
    "Pad",
    "Preprocess",
    "Preprocessed",
    "Resample",
    "Rotate",
    "Scale",
    "Shift",
    "Sometimes",
    "Step",
    "Uniform",
    "Window",
]

Volume = NDArray[Any]

AIR_HU = -1024.0  # what lies outside of a volume: where the CT scale starts, and air at most


@dataclass(frozen=True)
class Preprocessed:
    """A volume after its steps, its labels on the same voxels, and where these lie.

    Examples
    --------
    >>> hu, geometry = np.zeros((1, 2, 4), "int16"), Geometry((1, 2, 4), np.eye(4))
    >>> result = Preprocess((Crop((0, 0, 1), (1, 2, 3)),))(hu, geometry, labels=[hu == 0])
    >>> result.hu.shape, result.labels[0].shape, result.geometry.shape
    ((1, 2, 2), (1, 2, 2), (1, 2, 2))
    """

    hu: Volume
    labels: tuple[Volume, ...]
    geometry: Geometry


@dataclass(frozen=True)
class Preprocess:
    """Steps that are done all at once: each output voxel is read, mapped and written a single time.

    Geometric steps compose to one affine map of indices, intensity steps to one clamped linear map. So
    nothing is interpolated twice, a Rotate after a Crop still sees what lies outside of the box, and
    values are windowed before they are interpolated. Labels take the geometric steps alone, and the
    nearest voxel.

    Parameters
    ----------
    steps : in the order in which they are meant.
    dtype : of the output: float32, float16, int16 (HU, without a Window), uint8 ([0, 1] times 255).
    fill_hu : what is read outside of the volume; labels are 0 there.

    Raises
    ------
    OptionError
        If steps do not go together, or with the dtype, or are still to be drawn.

    Examples
    --------
    >>> hu = np.full((2, 4, 4), -300, dtype="int16")
    >>> geometry = Geometry(hu.shape, np.diag([-0.75, 0.75, 8, 1]))
    >>> chain = Preprocess((Resample(spacing_mm=(None, 1.5, 1.5)), Window(-1000, 400)))
    >>> chain(hu, geometry).hu.shape
    (2, 2, 2)
    >>> shaken = Preprocess((*chain.steps, Rotate((Uniform(-10, 10), 0, 0)), Sometimes(Flip((2,)))))
    >>> shaken.drawn(seed=7, epoch=0, index=3).steps[-1]
    Sometimes(step=Flip(axes=(2,)), chance=1.0)
    """

    steps: tuple[Step, ...]
    dtype: str = "float32"
    fill_hu: float = AIR_HU

    def __post_init__(self) -> None:
        if not (isinstance(self.steps, Sequence) and all(isinstance(step, Step) for step in self.steps)):
            raise OptionError("steps", f"they are {self.steps}", "Give a tuple of steps")

    def drawn(self, seed: int, epoch: int = 0, index: int = 0) -> "Preprocess":
        """These steps with a number in place of all that is random: printed, it can be done again."""
        steps = tuple(step.drawn(Draws(seed, epoch, index, number)) for number, step in enumerate(self.steps))
        return replace(self, steps=steps)

    def frame(self, geometry: Geometry) -> Frame:
        """What the steps come to for a volume of that geometry."""
        frame = Frame(identity_grid(geometry.shape), geometry.spacing_mm)
        for step in self.steps:
            frame = step.on(frame)
        return self._scaled(frame)

    def readings(self, geometry: Geometry) -> tuple[Reading, Reading]:
        """How to read a volume of that geometry, and how to read its labels."""
        frame = self.frame(geometry)
        image = Reading(frame.grid, frame.line, 1, self.fill_hu, frame.noise_sigma, frame.noise_key)
        return image, Reading(frame.grid, order=0, fill=0.0)

    def __call__(
        self, hu: Volume, geometry: Geometry, labels: Sequence[Volume] = (), out: Volume | None = None
    ) -> Preprocessed:
        """Preprocess a volume and its labels: see `batch`."""
        outs = None if out is None else [out]
        return self.batch([hu], [geometry], [labels], outs)[0]

    def batch(
        self,
        volumes: Sequence[Volume],
        geometries: Sequence[Geometry],
        labels: Sequence[Sequence[Volume]] | None = None,
        out: Sequence[Volume] | None = None,
    ) -> list[Preprocessed]:
        """Preprocess volumes of any shapes.

        Parameters
        ----------
        volumes : (z, y, x) int16 each.
        geometries : of each.
        labels : for each volume its masks, (z, y, x) uint8 or bool, on its voxels.
        out : where to write each volume's result.

        Returns
        -------
        A Preprocessed for each volume.

        Raises
        ------
        ArrayError
            If a volume, mask or output does not fit its geometry or the steps.
        """
        every_label = [()] * len(volumes) if labels is None else labels
        _check(volumes, geometries, every_label)
        readings = [self.readings(geometry) for geometry in geometries]
        images = gather(volumes, [image for image, _ in readings], self.dtype, out)
        masks = iter(
            gather(
                [mask for masks in every_label for mask in masks],
                [own for (_, own), masks in zip(readings, every_label, strict=True) for _ in masks],
                "uint8",
            )
        )
        return [
            Preprocessed(image, tuple(next(masks) for _ in own), geometry_on(reading.grid, geometry))
            for image, own, (reading, _), geometry in zip(images, every_label, readings, geometries, strict=True)
        ]

    def _scaled(self, frame: Frame) -> Frame:
        """The frame in the units of the dtype: uint8 holds [0, 1] as [0, 255], int16 holds HU."""
        bounded = frame.line.floor >= 0 and frame.line.ceiling <= 1
        if self.dtype == "uint8":
            if not bounded:
                raise OptionError("dtype", "uint8 holds [0, 1], and these steps leave it", "Add a Window")
            line = frame.line.then(255.0, 0.0)
            return replace(frame, line=line, noise_sigma=frame.noise_sigma * 255.0)
        if self.dtype == "int16" and np.isfinite(frame.line.floor):
            raise OptionError("dtype", "int16 holds HU, not the results of a Window", "Ask for float32")
        return frame


def _check(volumes: Sequence[Volume], geometries: Sequence[Geometry], labels: Sequence[Sequence[Volume]]) -> None:
    if not len(volumes) == len(geometries) == len(labels):
        raise ArrayError(
            "batch",
            f"it has {len(volumes)} volumes, {len(geometries)} geometries and {len(labels)} sets of labels",
            "Give one for each volume",
        )
    for number, (hu, geometry, masks) in enumerate(zip(volumes, geometries, labels, strict=True)):
        for array in (hu, *masks):
            if getattr(array, "shape", None) != geometry.shape:
                raise ArrayError(
                    f"volume {number}",
                    f"a volume or mask is {getattr(array, 'shape', None)}, its geometry {geometry.shape}",
                    "Give the geometry of these voxels",
                )
