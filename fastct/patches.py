"""One sample read out of its study: plain ones in a single compiled call, all others through one gather."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.carrier import Wanted
from fastct.draws import Draws
from fastct.errors import StoreError
from fastct.geometry import Geometry, Shape
from fastct.kept import kept_bytes
from fastct.kernels.gather import add_noise, gather
from fastct.kernels.maps import FRACTION_BITS, Grid, Reading, affine_on
from fastct.sampling import PLACE, Box, SampleOptions, draw_box, slice_box
from fastct.shelf import OpenArray, Shelf, Signs
from fastct.store import IMAGE
from fastct.transforms import AIR_HU, Preprocess

Voxels = NDArray[Any]
FORWARD: Signs = (False, False, False)


@dataclass(frozen=True)
class Place:
    """Which part of which study a sample is: plain values, drawn from the seed, the epoch and its number.

    `origin` is the first voxel along (z, y, x), on the study's grid or on that of the resampled volume; `shape` and
    `affine` are the sample's own. `readings` tell how the image and its label are read, or are None where the box
    at `origin` is copied.
    """

    study_id: str
    origin: Shape
    shape: Shape
    affine: NDArray[np.float64]
    readings: tuple[Reading, Reading] | None = None


class Reader:
    """Reads samples into arrays that are given; threads share it."""

    def __init__(self, shelf: Shelf, options: SampleOptions, label: str) -> None:
        self.shelf = shelf
        self.options = options
        self.label = label
        one_voxel = Geometry((1, 1, 1), np.eye(4))
        self._copies = not options.augment and not options.resampled(one_voxel.shape)
        self._copied = replace(options, augment=()).chain(one_voxel.shape, None).readings(one_voxel)
        self._values = [_values(reading, fill) for reading, fill in zip(self._copied, (AIR_HU, 0.0), strict=True)]

    def place(self, study_id: str, number: int, draws: tuple[int, int, int]) -> Place:
        """Where a sample lies; `number` counts those of its study, `draws` are seed, epoch and index.

        Raises
        ------
        StoreError
            If the study's metadata are damaged.
        """
        geometry = self.shelf.card(study_id).geometry
        if self._copies:
            box = self._box(study_id, number, draws, geometry.shape, None)
            affine = geometry.affine.copy()
            affine[:3, 3] += affine[:3, :3] @ box.start[::-1]
            return Place(study_id, box.start, box.shape, affine)
        grid = Preprocess(self.options.resampled(geometry.shape)).frame(geometry).grid
        box = self._box(study_id, number, draws, grid.shape, grid)
        readings = self.options.chain(geometry.shape, box).drawn(*draws).readings(geometry)
        grid = readings[0].grid
        return Place(study_id, box.start, grid.shape, affine_on(grid, geometry.affine), readings)

    def read(self, place: Place, image: Voxels, label: Voxels | None) -> None:
        """Read a sample's image, and its label where it has one: (z, y, x) each.

        Raises
        ------
        StoreError
            That names the study and the chunk that is damaged.
        """
        arrays = (IMAGE, image), (f"labels/{self.label}/0", label)
        for number, (name, out) in enumerate(arrays):
            if out is None:
                continue
            array = self.shelf.array(place.study_id, name)
            if place.readings is not None:
                self._gather(array, place.readings[number], out)
            elif array.layout.codec == "ctpack":
                array.read_mapped(place.origin, FORWARD, self._values[number], out)
            else:
                grid = Grid(place.shape, np.column_stack([np.eye(3), place.origin]))
                self._gather(array, replace(self._copied[number], grid=grid), out)

    def source(self, place: Place, number: int) -> tuple[Wanted, Reading]:
        """The box that a sample's image (`number` 0) or label (1) is gathered from, and how: for `gather`.

        Raises
        ------
        StoreError
            If the study's metadata are damaged.
        """
        name = IMAGE if number == 0 else f"labels/{self.label}/0"
        layout = self.shelf.array(place.study_id, name).layout
        if place.readings is not None:
            reading = place.readings[number]
        else:
            grid = Grid(place.shape, np.column_stack([np.eye(3), place.origin]))
            reading = replace(self._copied[number], grid=grid)
        begin, shape = reading.grid.needed(layout.shape)
        return Wanted(place.study_id, begin, shape, layout.dtype, array=name), _moved(reading, begin)

    def _box(self, study_id: str, number: int, draws: tuple[int, int, int], shape: Shape, grid: Grid | None) -> Box:
        options = self.options
        if options.kind == "volumes":
            return Box((0, 0, 0), shape)
        if options.kind == "slices":
            if number >= shape[0]:
                finding = f"it has {shape[0]} slices, the store's table says more"
                raise StoreError(f"study {study_id}", finding, "Run `fastct report` on the store")
            return slice_box(options, number, shape)
        foreground = self.shelf.foreground(study_id, options.balance) if options.balance else None
        return draw_box(options, Draws(*draws, PLACE), grid or shape, foreground)

    def _gather(self, array: OpenArray, reading: Reading, out: Voxels) -> None:
        if reading.noise_sigma > 0:
            self._gather_with_noise(array, reading, out)
        elif array.layout.codec != "ctpack":
            self._gather_stored(array, reading, out)
        elif (plain := _plain_box(reading)) is not None:
            array.read_mapped(*plain, _values(reading, array.layout.fill_value), out)
        elif reading.grid.source_axes is None:
            array.read_turned(reading, out)
        else:
            self._gather_stored(array, reading, out)

    def _gather_stored(self, array: OpenArray, reading: Reading, out: Voxels) -> None:
        """Decode the box that is needed as it is stored, then gather from it."""
        begin, shape = reading.grid.needed(array.layout.shape)
        n_bytes = shape[0] * shape[1] * shape[2] * array.layout.voxel_bytes
        voxels = kept_bytes("box", n_bytes).view(array.layout.dtype).reshape(shape)
        array.read(begin, voxels)
        gather([voxels], [_moved(reading, begin)], out.dtype, [out])

    def _gather_with_noise(self, array: OpenArray, reading: Reading, out: Voxels) -> None:
        """Noise is added before rounding to the type of the output, so that one is read in float32 first."""
        finished = out
        if out.dtype != np.float32:
            finished = kept_bytes("noise", 4 * out.size).view(np.float32).reshape(out.shape)
        self._gather(array, replace(reading, noise_sigma=0.0), finished)
        add_noise(finished, reading, out)


def _values(reading: Reading, fill_value: float) -> tuple[float, ...]:
    """What `OpenArray.read_mapped` takes: the line, and what missing chunks and voxels outside become."""
    settings = reading.settings
    return (*(float(term) for term in settings.line), float(reading.line(fill_value)), float(settings.outside))


def _plain_box(reading: Reading) -> tuple[Shape, Signs] | None:
    """First voxel of the box that a reading copies, and which axes it turns round; None where it does more."""
    grid = reading.grid
    if reading.noise_sigma > 0 or reading.fill is None or not grid.is_whole or grid.source_axes != (0, 1, 2):
        return None
    whole = grid.places >> FRACTION_BITS
    steps, start = whole[:, :3].diagonal(), whole[:, 3]
    if (abs(steps) != 1).any():
        return None
    z, y, x = np.where(steps > 0, start, start - np.array(grid.shape) + 1).tolist()
    backward = (bool(steps[0] < 0), bool(steps[1] < 0), bool(steps[2] < 0))
    return (z, y, x), backward


def _moved(reading: Reading, begin: Shape) -> Reading:
    """The reading of a box that begins there, so that each place stays the same to the last bit."""
    # Places are counted in whole steps, so that the affine that they stand for is exact, and taking away too.
    affine = np.ldexp(reading.grid.places.astype(np.float64), -FRACTION_BITS)
    affine[:, 3] -= begin
    return replace(reading, grid=Grid(reading.grid.shape, affine))
