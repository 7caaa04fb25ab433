"""A synthetic patient and a scan, drawn at random as plain numbers."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fastct.phantom.anatomy import HALF_WIDTH_MM, HEIGHT_MM
from fastct.phantom.painting import Frame

Floats = NDArray[np.float64]

# Spacings and slice counts as MosMedData has them: 0.58-1.15 mm, 0.782 commonest; 31-72 slices of 8 mm.
COMMON_PIXEL_MM, COMMON_SHARE, PIXELS = 0.782, 0.3, 512
SLICE_MM = 1.0  # MosMedData keeps every tenth of slices 1 mm thick: their edges are sharp (doi:10.17816/DD46826)
THICK_SHARE, THICK_MM = 0.1, 5.0  # a few from another protocol
SLICE_STEP_MM = 8.0
LEAST_GAP_PIXELS = 1.3  # half a septum: wide enough that no voxels of both lungs touch


@dataclass(frozen=True)
class Patient:
    """What was drawn for one patient and one scan; lengths in mm, shares of the lungs' height in `_share`."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    thickness_mm: float
    height_mm: float
    top_mm: float  # of the uppermost slice above the top of the lungs
    size_x: float  # multiples of the reference chest
    size_y: float
    female: bool
    fat_mm: float
    gap_mm: float  # half the tissue between the lungs where nothing else parts them
    dome_share: tuple[float, float]  # where the right and left dome of the diaphragm begin
    turn_deg: float
    shift_mm: tuple[float, float]
    bend_mm: float
    arms_down: bool
    lung_hu: float
    padding_hu: int  # outside the circle of reconstruction; 0: reconstructed up to the corners
    sharpness: float  # 0 soft-tissue kernel, 1 lung kernel

    @property
    def planes_per_slice(self) -> int:
        """How many planes are painted to average one slice."""
        return 1 if self.thickness_mm < 2.0 else 3

    @property
    def depths_mm(self) -> Floats:
        """Depth of every painted plane below the top of the lungs, the lowest slice first."""
        count, step_mm = self.shape[0], self.spacing_mm[0]
        inside = (np.arange(self.planes_per_slice) + 0.5) / self.planes_per_slice - 0.5
        slices = (count - 1 - np.arange(count)) * step_mm - self.top_mm
        return np.asarray(slices[:, None] - inside * self.thickness_mm).ravel()

    def to_image_mm(self, x_mm: float, y_mm: float, depth_mm: float) -> Floats:
        """A place in the patient, turned and shifted: (x, y, z) mm from the middle of the lowest slice."""
        turn = np.radians(self.turn_deg)
        return np.array(
            [
                np.cos(turn) * x_mm - np.sin(turn) * y_mm + self.shift_mm[0],
                np.sin(turn) * x_mm + np.cos(turn) * y_mm + self.shift_mm[1],
                (self.shape[0] - 1) * self.spacing_mm[0] - self.top_mm - depth_mm,
            ]
        )

    def frame(self) -> Frame:
        """How the painter gets from this patient to voxels."""
        turn = np.radians(self.turn_deg)
        _, y_mm, x_mm = self.spacing_mm
        return Frame(float(np.cos(turn)), float(np.sin(turn)), *self.shift_mm, x_mm, y_mm)


def draw_patient(random: Generator, shape: tuple[int, int, int] | None) -> Patient:
    """Draw a patient and a scan; `shape` keeps the field of view and changes the voxels."""
    pixel_mm = COMMON_PIXEL_MM if random.random() < COMMON_SHARE else random.normal(0.715, 0.07)
    pixel_mm = random.uniform(0.85, 1.15) if random.random() < 0.06 else pixel_mm
    pixel_mm = round(float(np.clip(pixel_mm, 0.58, 1.15)), 3)
    slices = random.integers(48, 73) if random.random() < 0.07 else round(random.normal(40.8, 3.2))
    slices = int(np.clip(slices, 31, 72))
    field_mm, extent_mm = PIXELS * pixel_mm, slices * SLICE_STEP_MM
    size_x = random.normal(0.86 + (field_mm - 300.0) / 700.0, 0.05)
    size_x = float(np.clip(size_x, 0.8, min(1.16, 0.92 * field_mm / (2 * HALF_WIDTH_MM))))
    breath = random.beta(5.0, 2.0)  # 1 is full inspiration
    height_mm = HEIGHT_MM * random.normal(0.93 + 0.12 * breath, 0.05)
    height_mm = float(np.clip(height_mm, 200.0, 0.88 * extent_mm))
    rest_mm = extent_mm - height_mm
    top_mm = min(rest_mm * random.uniform(0.3, 0.55), 80.0)
    if random.random() < 0.06:  # the last slice cuts the lungs
        top_mm = rest_mm + random.uniform(8.0, 24.0)
    dome = 0.60 + 0.08 * breath + random.normal(0.0, 0.012)
    step_mm = (SLICE_STEP_MM, pixel_mm, pixel_mm)
    if shape is not None:
        step_mm = (extent_mm / shape[0], field_mm / shape[1], field_mm / shape[2])
    gap_mm = random.uniform(0.4, 0.8) if random.random() < 0.15 else random.uniform(1.2, 4.0)
    thick = random.random() < THICK_SHARE
    return Patient(
        shape=shape or (slices, PIXELS, PIXELS),
        spacing_mm=step_mm,
        thickness_mm=THICK_MM if thick else SLICE_MM,
        height_mm=height_mm,
        top_mm=float(top_mm - 0.5 * SLICE_STEP_MM),
        size_x=size_x,
        size_y=float(size_x * random.normal(1.0, 0.05)),
        female=bool(random.random() < 0.56),
        fat_mm=float(3.0 + 24.0 * random.beta(1.5, 3.0)),
        gap_mm=max(float(gap_mm), LEAST_GAP_PIXELS * step_mm[2]),
        dome_share=(float(dome), float(dome + random.uniform(0.025, 0.055))),
        turn_deg=float(np.clip(random.normal(0.0, 2.5), -6.0, 6.0)),
        shift_mm=(float(random.uniform(-6.0, 6.0)), float(random.uniform(2.0, 20.0))),
        bend_mm=float(random.normal(0.0, 1.5)),
        arms_down=bool(random.random() < 0.2),
        lung_hu=float(-770.0 - 110.0 * breath + random.normal(0.0, 12.0)),
        padding_hu=int(random.choice((0, 0, -1024, -2048))),
        sharpness=float(random.uniform(0.0, 1.0)),
    )
