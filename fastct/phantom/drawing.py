"""Synthetic chest CTs with known truth, alone or as a data set in the layout of MosMedData."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator, Philox
from numpy.typing import NDArray

from fastct.errors import OptionError
from fastct.geometry import Geometry
from fastct.phantom import files, painting
from fastct.phantom import voxels as kernels
from fastct.phantom.chest import chest_layers
from fastct.phantom.files import TruthRow
from fastct.phantom.painting import LEFT, RIGHT
from fastct.phantom.parenchyma import disease, healthy, vessel_tubes
from fastct.phantom.patient import Patient, draw_patient

# Studies of each class in MosMedData COVID19_1110 (doi:10.17816/DD46826).
CLASS_COUNTS = {"CT-0": 254, "CT-1": 684, "CT-2": 125, "CT-3": 45, "CT-4": 2}
# Share of the lungs to be drawn ill, by class: half a point off the edges of the severity rule.
LESION_SHARES = {
    "CT-0": (0.0, 0.0),
    "CT-1": (0.005, 0.245),
    "CT-2": (0.255, 0.495),
    "CT-3": (0.505, 0.745),
    "CT-4": (0.755, 0.85),
}
SMALLEST_SHAPE = (12, 64, 64)  # below this, lungs and classes are no longer what they should be
MOST_WORKERS, MOST_STUDIES = 256, 1_000_000
TEXTURE_PIXELS, TEXTURE_HU = 128, 11.0  # tile of mottled parenchyma and its standard deviation
# Standard deviation of the noise amid the body, for a soft and for a sharp kernel. With the constant
# padding round the circle of reconstruction, or without it, gzip reaches the 2.07 of MosMedData.
NOISE_HU = {True: (27.0, 40.0), False: (9.5, 15.0)}
SOFTNESS = (0.22, -0.08)  # weight of each neighbour in the noise of a soft and of a sharp kernel


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic chest CT and its truth, arrays (z, y, x).

    hu : int16. lungs : uint8, 0, 1 right lung, 2 left lung. lesion : uint8, 0, 1.
    """

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]
    lesion: NDArray[np.uint8]
    geometry: Geometry
    row: TruthRow


def draw_study(
    index: int, seed: int = 0, *, category: str = "CT-1", shape: tuple[int, int, int] | None = None
) -> Phantom:
    """Draw study `index` (0, 1, ...) of a seed, ill as its category demands, in memory.

    The patient depends on seed and index alone; where and how much the lungs are ill, also on the category.
    Without `shape` (z, y, x) the volume is as MosMedData's are, 31-72 slices of 512 x 512, 8 mm apart;
    a given shape covers the same field with other voxels. Lesions are lung; trachea, main bronchi and
    the large vessels of the hila are not.

    Raises
    ------
    OptionError
        If index, seed, category or shape is out of range.

    Examples
    --------
    >>> phantom = draw_study(0, seed=1, category="CT-2", shape=(24, 128, 128))
    >>> 25 < phantom.row.lesion_percent <= 50
    True
    """
    _check(index, seed, category, shape)
    # Each stage has a stream of its own, so that none shifts the draws of another.
    of_patient, of_chest, of_vessels, of_disease, of_lung, of_scan = (_stream(seed, index, n) for n in range(6))
    patient = draw_patient(of_patient, shape)
    hu, lungs = np.empty(patient.shape, np.int16), np.empty(patient.shape, np.uint8)
    lesion = np.zeros(patient.shape, np.uint8)
    painting.paint(hu, lungs, chest_layers(patient, of_chest), patient.frame())
    tubes = vessel_tubes(lungs, patient, of_vessels)
    kernels.draw_tubes(hu, lungs, tubes, patient.spacing_mm, patient.thickness_mm)
    ill = _disease(lungs, patient, category, of_disease)
    kernels.fill_lungs(hu, lungs, lesion, _lung(patient, of_lung), ill)
    kernels.scan(hu, _scanner(patient, of_scan))
    header = files.header(patient.shape, _affine(patient, of_scan))
    geometry = Geometry(patient.shape, header.get_best_affine())
    return Phantom(hu, lungs, lesion, geometry, _truth(index, category, lungs, lesion, geometry))


def write_phantoms(
    folder: str | os.PathLike[str],
    studies: int = 8,
    seed: int = 0,
    *,
    workers: int = 1,
    overwrite: bool = False,
    shape: tuple[int, int, int] | None = None,
) -> list[TruthRow]:
    """Write a data set in MosMedData's layout with known truth, and return the rows of its `truth.csv`.

    The same seed and number of studies give the same bytes in every file, whatever the number of
    workers (threads). A study depends on the number of studies only through the class that its place
    gives it: classes are mixed as in MosMedData, each at least once from five studies on, numbered in
    order. Every other ill study has an expert mask. Called again after an interruption, it goes on.

    Raises
    ------
    DataSetError
        If the folder holds anything but this very set, unless `overwrite`, which replaces files of the
        same names and removes studies and masks of another phantom set, but never foreign files; or if it
        cannot be written.
    OptionError
        If a number or the shape is out of range.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = write_phantoms(folder, studies=2, seed=3, shape=(16, 64, 64))
    >>> [row.category for row in rows]
    ['CT-0', 'CT-1']
    """
    return list(iter_phantoms(folder, studies, seed, workers=workers, overwrite=overwrite, shape=shape))


def iter_phantoms(
    folder: str | os.PathLike[str],
    studies: int = 8,
    seed: int = 0,
    *,
    workers: int = 1,
    overwrite: bool = False,
    shape: tuple[int, int, int] | None = None,
) -> Iterator[TruthRow]:
    """Do what `write_phantoms` does, and yield each row of truth, in order, once its study is written.

    Options are checked and the folder is made ready by the call; the last `next` writes the tables.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise OptionError("workers", f"it is {workers}", f"Give 1 to {MOST_WORKERS}")
    categories = class_mix(studies)
    _check(0, seed, categories[0], shape)
    with files.told(Path(folder)):
        done = files.prepare(Path(folder), files.readme(studies, seed, shape), overwrite)

    def make(index: int) -> TruthRow:
        row = done.get(files.stem(index))
        if row is None:
            phantom = draw_study(index, seed, category=categories[index], shape=shape)
            row = phantom.row
            header = files.header(phantom.geometry.shape, phantom.geometry.affine)
            files.write_study(Path(folder), row, header, phantom.hu, phantom.lesion if masked[index] else None)
        return row

    masked = _masked(categories)
    return _written(Path(folder), make, masked, workers)


def _written(root: Path, make: Callable[[int], TruthRow], masked: list[bool], workers: int) -> Iterator[TruthRow]:
    rows: list[TruthRow] = []
    pool = ThreadPoolExecutor(workers)
    with files.told(root):
        try:
            for row in pool.map(make, range(len(masked))):
                rows.append(row)
                files.note(root, row, first=len(rows) == 1)
                yield row
        finally:
            pool.shutdown(cancel_futures=True)
        files.finish(root, rows, masked)


def class_mix(studies: int) -> list[str]:
    """Category of each of so many studies, in order: MosMedData's shares, none left out from five on."""
    if not 1 <= studies <= MOST_STUDIES:
        raise OptionError("studies", f"it is {studies}", f"Give 1 to {MOST_STUDIES}")
    names, counts = list(CLASS_COUNTS), np.array(list(CLASS_COUNTS.values()), dtype=np.float64)
    if studies < len(names):
        # CT-1 alone, then with CT-0, then the milder classes first.
        return ["CT-1"] if studies == 1 else names[:studies]
    exact = studies * counts / counts.sum()
    whole = np.maximum(np.floor(exact), 1.0)
    while whole.sum() != studies:
        step = 1.0 if whole.sum() < studies else -1.0
        short = np.where((whole > 1.0) | (step > 0.0), step * (exact - whole), -np.inf)
        whole[short.argmax()] += step
    return [name for name, count in zip(names, whole, strict=True) for _ in range(int(count))]


def _masked(categories: list[str]) -> list[bool]:
    """Which studies have an expert mask: every other one of the ill, the first included."""
    ill = np.array([category != "CT-0" for category in categories])
    return [bool(flag) for flag in ill & (np.cumsum(ill) % 2 == 1)]


def _check(index: int, seed: int, category: str, shape: tuple[int, int, int] | None) -> None:
    """Refuse what cannot be drawn."""
    for name, value in (("index", index), ("seed", seed)):
        if not 0 <= value < 2**63:
            raise OptionError(name, f"it is {value}", "Give 0 or more, below 2**63")
    if category not in LESION_SHARES:
        raise OptionError("category", f"it is {category!r}", f"Give one of {', '.join(LESION_SHARES)}")
    if shape is None:
        return
    if len(shape) != 3 or not all(low <= n <= 2048 for low, n in zip(SMALLEST_SHAPE, shape, strict=True)):
        raise OptionError("shape", f"it is {shape}", f"Give (z, y, x), from {SMALLEST_SHAPE} to 2048 each")


def _stream(seed: int, index: int, stage: int) -> Generator:
    """Random numbers of one stage of one study, the same however many others are drawn from others."""
    return Generator(Philox(key=[seed, index], counter=[0, 0, 0, stage]))


def _affine(patient: Patient, random: Generator) -> NDArray[np.float64]:
    """Voxel to RAS mm, axes to left, anterior, superior, somewhere in the scanner's room."""
    z_mm, y_mm, x_mm = patient.spacing_mm
    affine = np.diag([-x_mm, y_mm, z_mm, 1.0])
    affine[0, 3] = 0.5 * x_mm * patient.shape[2] + round(random.normal(0.0, 8.0), 1)
    affine[1, 3] = -0.5 * y_mm * patient.shape[1] + round(random.normal(-30.0, 20.0), 1)
    affine[2, 3] = round(random.uniform(-1200.0, -100.0), 1)
    return affine


def _disease(lungs: NDArray[np.uint8], patient: Patient, category: str, random: Generator) -> kernels.Disease:
    """Disease as this category has it; within CT-1 most patients have little."""
    low, high = LESION_SHARES[category]
    if high == 0.0:
        return healthy()
    share = low + (high - low) * random.random() ** (2 if category == "CT-1" else 1)
    return disease(lungs, patient, share, random)


def _lung(patient: Patient, random: Generator) -> kernels.Lung:
    """Parenchyma of this patient: the emptier of air, the denser towards the back."""
    white = random.standard_normal((TEXTURE_PIXELS, TEXTURE_PIXELS))
    texture = np.mean([np.roll(white, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    gravity_hu_per_mm = random.uniform(0.1, 0.3) + 0.004 * max(patient.lung_hu + 840.0, 0.0)
    return kernels.Lung(
        hu=patient.lung_hu,
        gravity=float(gravity_hu_per_mm * patient.spacing_mm[1]),
        texture=(3.0 * TEXTURE_HU * texture).astype(np.float32),
        patchy=float(random.uniform(0.002, 0.01)),
    )


def _scanner(patient: Patient, random: Generator) -> kernels.Scanner:
    """Noise of this scan: strongest amid the body and across the shoulders."""
    softness = float(np.interp(patient.sharpness, (0.0, 1.0), SOFTNESS))
    noise_hu = np.interp(patient.sharpness, (0.0, 1.0), NOISE_HU[bool(patient.padding_hu)])
    shares = patient.depths_mm[:: patient.planes_per_slice] / patient.height_mm
    by_slice = noise_hu * np.interp(shares, (-0.1, 0.08, 0.25), (1.5, 1.4, 1.0)) / (1.0 + 2.0 * softness**2)
    row, column = (
        (0.45 + 0.55 * np.exp(-3.0 * np.linspace(-1.0, 1.0, count) ** 2)).astype(np.float32)
        for count in patient.shape[1:]
    )
    seed = int(random.integers(2**32))
    return kernels.Scanner(seed, softness, by_slice.astype(np.float32), row, column, patient.padding_hu)


def _truth(
    index: int, category: str, lungs: NDArray[np.uint8], lesion: NDArray[np.uint8], geometry: Geometry
) -> TruthRow:
    """Count the masks."""
    right, left, ill = lungs == RIGHT, lungs == LEFT, lesion != 0
    lung_right, lung_left = np.count_nonzero(right), np.count_nonzero(left)
    ill_right, ill_left = np.count_nonzero(right & ill), np.count_nonzero(left & ill)
    lung, sick = (lung_right + lung_left, lung_right, lung_left), (ill_right + ill_left, ill_right, ill_left)
    ml = [round(int(count) * geometry.voxel_ml, 3) for count in (*lung, sick[0])]
    percent = [round(100.0 * int(part) / max(int(whole), 1), 4) for part, whole in zip(sick, lung, strict=True)]
    spacing_mm = [round(step, 4) for step in geometry.spacing_mm]
    return TruthRow(
        study_id=files.stem(index),
        category=category,
        lung_ml=ml[0],
        lung_right_ml=ml[1],
        lung_left_ml=ml[2],
        lesion_ml=ml[3],
        lesion_percent=percent[0],
        lesion_percent_right=percent[1],
        lesion_percent_left=percent[2],
        shape_z=geometry.shape[0],
        shape_y=geometry.shape[1],
        shape_x=geometry.shape[2],
        spacing_z_mm=spacing_mm[0],
        spacing_y_mm=spacing_mm[1],
        spacing_x_mm=spacing_mm[2],
    )
