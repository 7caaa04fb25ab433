"""The steps of preprocessing: each is a few plain values, and what they do to a Frame."""

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from fastct.draws import Draws, Number, Numbers, are_numbers, drawn, ends, plain
from fastct.errors import OptionError
from fastct.frame import UPRIGHT, Frame, Matrix
from fastct.geometry import Shape, Spacing
from fastct.kernels.maps import centred_grid, resampled_shape


class Step(ABC):
    """One step: a frozen dataclass of plain values that overrides `on`.

    Fields that may be drawn at random are typed Number. A step is only done once they have been drawn.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Transpose(Step):
    ...     'Exchange the axes y and x.'
    ...     def on(self, frame):
    ...         return frame.turned(np.eye(3)[[0, 2, 1]])
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu = np.arange(4, dtype="int16").reshape(1, 2, 2)
    >>> Preprocess((Transpose(),), "int16")(hu, Geometry(hu.shape, np.eye(4))).hu
    array([[[0, 2],
            [1, 3]]], dtype=int16)
    """

    @abstractmethod
    def on(self, frame: Frame) -> Frame:
        """The frame with this step done."""

    def drawn(self, draws: Draws) -> Self:
        """This step with a number in place of each Uniform."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        values = {name: drawn(value, draws) for name, value in own.items()}
        return self if all(map(operator.is_, own.values(), values.values())) else replace(self, **values)  # type: ignore[type-var]


def _refuse(step: object, cure: str) -> OptionError:
    return OptionError(type(step).__name__, f"it is {step}", cure)


def _refuse_unless(step: object, cure: str, holds: Callable[[], bool]) -> None:
    """Refuse a step whose values are not what they should be, or of a type that cannot even be asked."""
    with suppress(TypeError, ValueError):
        if holds():
            return
    raise _refuse(step, cure)


def _least_of(voxels: Iterable[SupportsIndex]) -> int:
    """The least of three whole numbers; TypeError or ValueError where they are not that."""
    z, y, x = map(operator.index, voxels)
    return min(z, y, x)


@dataclass(frozen=True)
class Window(Step):
    """Map [low_hu, high_hu] to [0, 1], clamped.

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Window(-1000, 400),))(hu, geometry).hu
    array([[[0. , 0.5, 1. , 1. ]]], dtype=float32)
    """

    low_hu: Number
    high_hu: Number

    def __post_init__(self) -> None:
        _refuse_unless(
            self,
            "Give numbers, low_hu below high_hu",
            lambda: are_numbers(self.low_hu, self.high_hu) and ends(self.low_hu)[1] < ends(self.high_hu)[0],
        )

    def on(self, frame: Frame) -> Frame:
        return frame.mapped(frame.line.windowed(plain(self.low_hu), plain(self.high_hu)))


@dataclass(frozen=True)
class Intensity(Step):
    """Multiply values by `scale`, then add `shift`.

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Window(-1000, 400), Intensity(scale=2, shift=-1)))(hu, geometry).hu
    array([[[-1.,  0.,  1.,  1.]]], dtype=float32)
    """

    scale: Number = 1.0
    shift: Number = 0.0

    def __post_init__(self) -> None:
        _refuse_unless(self, "Give two numbers", lambda: are_numbers(self.scale, self.shift))

    def on(self, frame: Frame) -> Frame:
        return frame.mapped(frame.line.then(plain(self.scale), plain(self.shift)))


@dataclass(frozen=True)
class Noise(Step):
    """Add Gaussian noise of standard deviation `sigma`, in the units of the output of the steps before.

    The key is drawn; each voxel's number under it gives the noise, on a CPU and a GPU alike.

    Examples
    --------
    >>> from fastct.transforms import Preprocess
    >>> Preprocess((Window(-1000, 400), Noise(0.1))).drawn(seed=7).steps[-1].key is not None
    True
    """

    sigma: Number
    key: int | None = None

    def __post_init__(self) -> None:
        _refuse_unless(self, "Give a sigma of at least 0", lambda: are_numbers(self.sigma) and ends(self.sigma)[0] >= 0)

    def drawn(self, draws: Draws) -> Self:
        step = super().drawn(draws)
        return replace(step, key=draws.word()) if step.key is None else step

    def on(self, frame: Frame) -> Frame:
        if frame.noise_sigma > 0:
            raise OptionError("steps", "there are two Noise steps", "Give one, of their joint sigma")
        if self.key is None:
            raise OptionError("Noise", "its key is still to be drawn", "Call drawn(seed, epoch, index) first")
        return replace(frame, noise_sigma=plain(self.sigma), noise_key=self.key)


@dataclass(frozen=True)
class Resample(Step):
    """Change the spacing to `spacing_mm`, or the voxels to `shape`; the centre stays in place.

    Axes are (z, y, x); a None in `spacing_mm` leaves its axis as it is.

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Resample((None, None, 2.0)),), "int16")(hu, geometry).hu
    array([[[-650,  750]]], dtype=int16)
    """

    spacing_mm: tuple[Number | None, Number | None, Number | None] | None = None
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if (self.spacing_mm is None) == (self.shape is None):
            raise _refuse(self, "Give spacing_mm or shape")
        _refuse_unless(self, "Give (z, y, x), each above 0; a shape in whole numbers", self._is_above_0)

    def _is_above_0(self) -> bool:
        if self.shape is not None:
            return _least_of(self.shape) > 0
        axes = self.spacing_mm or ()
        return len(axes) == 3 and all(axis is None or (are_numbers(axis) and ends(axis)[0] > 0) for axis in axes)

    def on(self, frame: Frame) -> Frame:
        before = frame.grid.shape
        if self.shape is not None:
            shape = self.shape
            ratio = np.array(before) / np.array(shape)
        else:
            wanted = zip(self.spacing_mm or (), frame.spacing_mm, strict=True)
            z, y, x = (own if to is None else plain(to) for to, own in wanted)
            shape = resampled_shape(before, frame.spacing_mm, (z, y, x))
            ratio = np.array((z, y, x)) / np.array(frame.spacing_mm)
        grid = centred_grid(before, shape, ratio)
        z, y, x = (ratio * frame.spacing_mm).tolist()
        return frame.read_on(shape, grid.affine[:, :3], grid.affine[:, 3], (z, y, x))


@dataclass(frozen=True)
class Crop(Step):
    """Keep the voxels from `start` up to `stop` along (z, y, x).

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Crop((0, 0, 1), (1, 1, 3)),), "int16")(hu, geometry).hu
    array([[[-300,  400]]], dtype=int16)
    """

    start: Shape
    stop: Shape

    def __post_init__(self) -> None:
        _refuse_unless(
            self,
            "Give a start of at least 0, below the stop, along (z, y, x)",
            lambda: (
                _least_of(self.start) >= 0 and _least_of(self.stop) > 0 and all(map(operator.lt, self.start, self.stop))
            ),
        )

    def on(self, frame: Frame) -> Frame:
        if any(stop > n for stop, n in zip(self.stop, frame.grid.shape, strict=True)):
            raise _refuse(self, f"Stay within the {frame.grid.shape} voxels there are, or Pad first")
        z, y, x = (stop - start for start, stop in zip(self.start, self.stop, strict=True))
        return frame.read_on((z, y, x), UPRIGHT, self.start)

    @classmethod
    def around(cls, mask: NDArray[Any], spacing_mm: Spacing, margin_mm: float = 0.0) -> "Crop":
        """The box of all voxels of a mask that are not 0, with a margin as far as the volume goes.

        A lung box is `Crop.around(lungs, geometry.spacing_mm, margin_mm=10)`. It counts voxels of the
        mask, so that it comes before a Resample.
        """
        start, stop = [], []
        for axis, spacing in enumerate(spacing_mm):
            others = tuple(other for other in range(3) if other != axis)
            found = np.flatnonzero(mask.any(axis=others))
            if found.size == 0:
                raise OptionError("mask", "it is empty", "Check it, or leave out the Crop")
            margin = math.ceil(margin_mm / spacing)
            start.append(max(int(found[0]) - margin, 0))
            stop.append(min(int(found[-1]) + 1 + margin, mask.shape[axis]))
        return cls((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


@dataclass(frozen=True)
class Pad(Step):
    """Add voxels before and after along (z, y, x); they read what lies there, or the fill.

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Pad(after=(0, 0, 1)),), "int16")(hu, geometry).hu
    array([[[-1000,  -300,   400,  1100, -1024]]], dtype=int16)
    """

    before: Shape = (0, 0, 0)
    after: Shape = (0, 0, 0)

    def __post_init__(self) -> None:
        _refuse_unless(
            self,
            "Give whole numbers of at least 0 along (z, y, x), or Crop",
            lambda: _least_of(self.before) >= 0 and _least_of(self.after) >= 0,
        )

    def on(self, frame: Frame) -> Frame:
        widths = zip(frame.grid.shape, self.before, self.after, strict=True)
        z, y, x = (n + before + after for n, before, after in widths)
        return frame.read_on((z, y, x), UPRIGHT, -np.array(self.before))


@dataclass(frozen=True)
class Flip(Step):
    """Turn the order of voxels round along some axes: 0 is z, 1 is y, 2 is x.

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Flip((2,)),), "int16")(hu, geometry).hu
    array([[[ 1100,   400,  -300, -1000]]], dtype=int16)
    """

    axes: tuple[int, ...]

    def __post_init__(self) -> None:
        _refuse_unless(self, "Give a tuple of axes from 0, 1 and 2", lambda: set(self.axes) <= {0, 1, 2})

    def on(self, frame: Frame) -> Frame:
        return frame.turned(np.diag([-1.0 if axis in self.axes else 1.0 for axis in range(3)]))


@dataclass(frozen=True)
class Rotate(Step):
    """Turn the picture about its centre by degrees about (z, y, x), in that order, in millimetres.

    A positive angle turns x towards y (about z), z towards x (about y), y towards z (about x).

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Rotate((180, 0, 0)),), "int16")(hu, geometry).hu
    array([[[ 1100,   400,  -300, -1000]]], dtype=int16)
    """

    degrees: Numbers

    def __post_init__(self) -> None:
        _refuse_unless(
            self, "Give degrees about (z, y, x)", lambda: len(self.degrees) == 3 and are_numbers(*self.degrees)
        )

    def on(self, frame: Frame) -> Frame:
        matrix = UPRIGHT
        for axis, angle in enumerate(map(plain, self.degrees)):
            if angle != 0:
                matrix = _rotation(axis, math.radians(angle)) @ matrix
        spacing = np.array(frame.spacing_mm)
        return frame.turned(matrix.T * spacing / spacing[:, None])  # reads where a voxel came from


def _rotation(axis: int, angle: float) -> Matrix:
    """Rotation of (z, y, x) about an axis: 0 turns x towards y, 1 z towards x, 2 y towards z."""
    source, target = ((2, 1), (0, 2), (1, 0))[axis]
    matrix = np.eye(3)
    matrix[source, source] = matrix[target, target] = math.cos(angle)
    matrix[target, source], matrix[source, target] = math.sin(angle), -math.sin(angle)
    return matrix


@dataclass(frozen=True)
class Scale(Step):
    """Enlarge the picture about its centre; a factor below 1 makes it smaller.

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Scale(2.0),), "int16")(hu, geometry).hu
    array([[[-475, -125,  225,  575]]], dtype=int16)
    """

    factor: Number

    def __post_init__(self) -> None:
        _refuse_unless(self, "Give a factor above 0", lambda: are_numbers(self.factor) and ends(self.factor)[0] > 0)

    def on(self, frame: Frame) -> Frame:
        return frame.turned(UPRIGHT / plain(self.factor))


@dataclass(frozen=True)
class Shift(Step):
    """Move the picture by millimetres along (z, y, x).

    Examples
    --------
    >>> from fastct.transforms import Geometry, Preprocess
    >>> hu, geometry = np.array([[[-1000, -300, 400, 1100]]], "int16"), Geometry((1, 1, 4), np.eye(4))
    >>> Preprocess((Shift((0, 0, 1.0)),), "int16")(hu, geometry).hu
    array([[[-1024, -1000,  -300,   400]]], dtype=int16)
    """

    distance_mm: Numbers

    def __post_init__(self) -> None:
        cure = "Give millimetres along (z, y, x)"
        _refuse_unless(self, cure, lambda: len(self.distance_mm) == 3 and are_numbers(*self.distance_mm))

    def on(self, frame: Frame) -> Frame:
        distance = np.array([plain(distance) for distance in self.distance_mm])
        return frame.read_on(frame.grid.shape, UPRIGHT, -distance / frame.spacing_mm)


@dataclass(frozen=True)
class Sometimes(Step):
    """Another step, done with a chance; once drawn the chance is 0 or 1.

    Examples
    --------
    >>> Sometimes(Flip((2,)), chance=0.5).drawn(Draws(seed=7, epoch=0, index=0, step=0))
    Sometimes(step=Flip(axes=(2,)), chance=0.0)
    """

    step: Step
    chance: float = 0.5

    def __post_init__(self) -> None:
        _refuse_unless(
            self, "Give a step, and a chance from 0 to 1", lambda: isinstance(self.step, Step) and 0 <= self.chance <= 1
        )

    def drawn(self, draws: Draws) -> Self:
        return replace(self, chance=float(draws.share() < self.chance), step=self.step.drawn(draws))

    def on(self, frame: Frame) -> Frame:
        if self.chance not in (0, 1):
            raise OptionError("Sometimes", "it is still to be drawn", "Call drawn(seed, epoch, index) first")
        return self.step.on(frame) if self.chance == 1 else frame
