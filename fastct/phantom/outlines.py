"""Collects the outlines of a patient, layer by layer, in the order in which they are painted."""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fastct.phantom.painting import HARMONICS, TISSUE, Layers
from fastct.phantom.patient import Patient

Floats = NDArray[np.float64]

POINTS = 64  # of an outline: chords of the widest body leave its curve by 0.2 mm
CURVES = {"oval": 2.0, "lung": 2.15, "plump": 2.4, "boxy": 3.2, "pointed": 1.25}  # exponents of superellipses
RIGHT_X, LEFT_X, BACK, FRONT, X_FRONT, X_BACK, Y_SIDE, TILT = range(8)  # columns of an egg


class Outlines:
    """Layers of one patient, bottom first; every method speaks of all painted planes at once.

    An egg is an array (planes, 8), see the columns above, in millimetres from the middle of the chest;
    a plane where it is not a number has none.
    """

    def __init__(self, patient: Patient, random: Generator) -> None:
        self.patient, self.random = patient, random
        self.share = patient.depths_mm / patient.height_mm  # depth as the anatomy tables count it
        self._eggs: list[Floats] = []
        self._looks: list[tuple[float, float, float, float]] = []
        self._waves: list[Floats] = []

    def rows(self, table: Floats) -> Floats:
        """Columns of an anatomy table at every plane, NaN above and below its rows."""
        found = np.stack([np.interp(self.share, table[:, 0], column) for column in table.T[1:]], axis=1)
        found[(self.share < table[0, 0]) | (self.share > table[-1, 0])] = np.nan
        return found

    def oval(self, table: Floats, jitter_mm: float = 0.0) -> Floats:
        """Eggs of a table of ovals, in this patient's size, strayed a little."""
        x, y, a, b, tilt = self.rows(table).T
        stray_x, stray_y = self.random.normal(0.0, jitter_mm, 2) if jitter_mm else (0.0, 0.0)
        size = float(np.clip(self.random.normal(1.0, 0.06), 0.85, 1.15)) if jitter_mm else 1.0
        x, a = x * self.patient.size_x + stray_x, a * self.patient.size_x * size
        y, b = y * self.patient.size_y + stray_y, b * self.patient.size_y * size
        return np.column_stack([x - a, x + a, y - b, y + b, x, x, y, np.radians(tilt)])

    def egg(self, table: Floats) -> Floats:
        """Eggs of a table of eggs (which leaves out the tilt), in this patient's size."""
        columns = self.rows(table)
        columns[:, (RIGHT_X, LEFT_X, X_FRONT, X_BACK)] *= self.patient.size_x
        columns[:, (BACK, FRONT, Y_SIDE)] *= self.patient.size_y
        return np.column_stack([columns, np.zeros(len(columns))])

    def put(
        self,
        hu: float,
        egg: Floats,
        curve: str = "oval",
        *,
        role: int = TISSUE,
        wavy: float = 0.0,
        still: bool = False,
    ) -> None:
        """Paint next: `wavy` is how far the outline strays, as a share of its radius.

        `role` is TISSUE, or RIGHT or LEFT lung; what is `still` does not turn with the patient.
        """
        waves = np.zeros((HARMONICS, 3))
        if wavy:
            waves[:, 0] = wavy * abs(self.random.normal(0.0, 1.0, HARMONICS)) / np.arange(1, HARMONICS + 1)
            waves[:, 1] = self.random.uniform(0.0, 2.0 * math.pi, HARMONICS)
            waves[:, 2] = self.random.normal(0.0, 0.02, HARMONICS)
        self._eggs.append(np.nan_to_num(egg))
        self._looks.append((hu, float(role), float(list(CURVES).index(curve)), float(still)))
        self._waves.append(waves)

    def put_shells(
        self, egg: Floats, shells: tuple[tuple[float, float], ...], curve: str = "oval", wavy: float = 0.0
    ) -> None:
        """Paint the same outline several times, (HU, millimetres inwards) each, with the same waves."""
        for hu, in_mm in shells:
            self.put(hu, grown(egg, -in_mm), curve, wavy=wavy)
            self._waves[-1] = self._waves[-1] if (hu, in_mm) == shells[0] else self._waves[-2]

    def layers(self, ribs: Floats) -> Layers:
        """Everything collected, bent sideways as this patient's spine is."""
        eggs, looks = np.stack(self._eggs), np.array(self._looks)
        bend_mm = self.patient.bend_mm * np.sin(2.0 * math.pi * (0.55 * self.share + 0.2))
        bent = looks[:, 3] == 0.0
        for column in (RIGHT_X, LEFT_X, X_FRONT, X_BACK):
            eggs[bent, :, column] += bend_mm
        return Layers(eggs, np.stack(self._waves), looks, unit_curves(), ribs, self.patient.depths_mm)


def unit_curves() -> Floats:
    """Points of the unit superellipses of CURVES, with the waves that may run round them."""
    angle = np.arange(POINTS) * (2.0 * math.pi / POINTS)
    turns = np.arange(2, 2 + HARMONICS)[:, None] * angle
    waves = np.concatenate([np.cos(turns), np.sin(turns)]).T
    c, s = np.cos(angle), np.sin(angle)
    return np.stack(
        [
            np.column_stack([np.sign(c) * abs(c) ** (2 / n), np.sign(s) * abs(s) ** (2 / n), waves])
            for n in CURVES.values()
        ]
    )


def upright(right: Floats, left: Floats, back: Floats, front: Floats, y_side: Floats | None = None) -> Floats:
    """An egg from its extremes, foremost and hindmost point in the middle."""
    x = 0.5 * (right + left)
    sides = 0.5 * (back + front) if y_side is None else y_side
    return np.column_stack([right, left, back, front, x, x, sides, 0.0 * x])


def mirrored(egg: Floats) -> Floats:
    """The same egg on the other side of the body."""
    right, left, back, front, x_front, x_back, y_side, tilt = egg.T
    return np.column_stack([-left, -right, back, front, -x_front, -x_back, y_side, -tilt])


def grown(egg: Floats, by_mm: float) -> Floats:
    """The egg with its four extremes moved outwards; NaN where nothing is left."""
    out = egg + by_mm * np.array([-1.0, 1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    out[(out[:, LEFT_X] <= out[:, RIGHT_X]) | (out[:, FRONT] <= out[:, BACK])] = np.nan
    return out


def within(egg: Floats, x: tuple[float, float], y: tuple[float, float]) -> Floats:
    """An oval inside an egg, by shares: 0 is the egg's own middle, -1 and 1 its extremes.

    Along x, shares count away from the middle of the body, so that both sides have their mirror image.
    """
    middle, side = egg[:, X_BACK], egg[:, Y_SIDE]
    outer = np.where(middle >= 0.0, egg[:, LEFT_X], egg[:, RIGHT_X]) - middle
    inner = middle - np.where(middle >= 0.0, egg[:, RIGHT_X], egg[:, LEFT_X])
    ends_x = np.sort(np.stack([middle + (outer if part > 0 else inner) * part for part in x]), axis=0)
    fore, hind = egg[:, FRONT] - side, side - egg[:, BACK]
    ends_y = np.sort(np.stack([side + (fore if part > 0 else hind) * part for part in y]), axis=0)
    return upright(*ends_x, *ends_y)


def shown(egg: Floats, where: NDArray[np.bool_]) -> Floats:
    """The egg in some planes only."""
    return np.where(where[:, None], egg, np.nan)
