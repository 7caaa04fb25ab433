"""Anatomy of the reference chest, as tables: where each structure lies from the neck to the abdomen.

First number of a row: depth below the top of the lungs, as a share of their height. Then millimetres of
the reference chest, x to the patient's left, y to the front, zero in the middle between the lungs.
Oval: x, y, half axis along x, along y, tilt in degrees. Egg: x of its right and left extreme, y of its
hind and fore extreme, x of the fore, x of the hind, y of the side extremes. A structure is absent
above its first row and below its last.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Half width and half depth of both lungs together, and height from the top of the lungs to the bottom
# of the posterior recess: rounded means of expert contours in LCTSC (TCIA, CC BY 3.0).
HALF_WIDTH_MM, HALF_DEPTH_MM, HEIGHT_MM = 145.0, 100.0, 280.0

# CT numbers without contrast medium at 120 kV, middles of the ranges that textbooks give.
HU = {
    "air": -1000.0,
    "gas": -985.0,
    "fat": -105.0,
    "skin": 10.0,
    "muscle": 52.0,
    "soft": 32.0,
    "blood": 44.0,
    "thyroid": 85.0,
    "liver": 58.0,
    "spleen": 48.0,
    "chyme": 25.0,
    "bone": 640.0,
    "marrow": 210.0,
    "spongiosa": 170.0,
    "disc": 80.0,
    "cartilage": 105.0,
    "shell": -90.0,
    "foam": -975.0,
}


class Structure(NamedTuple):
    """One entry of a table: `what` is a key of HU, or the wall in mm of a tube; rows (n, 1 + columns)."""

    name: str
    what: str
    rows: NDArray[np.float64]


def _read(text: str) -> tuple[Structure, ...]:
    """Read `name, what: row; row; ...` entries, one after the other, rows of numbers."""
    found: list[Structure] = []
    for entry in text.strip().split("\n\n"):
        title, rows = entry.split(":")
        name, what = (word.strip() for word in title.split(","))
        numbers = [[float(number) for number in row.split()] for row in rows.split(";")]
        found.append(Structure(name, what, np.array(numbers)))
    return tuple(found)


# Outlines that are built by rule. lung: egg of the left one; body: half width, back and front of the
# flesh under the fat; core: egg; wedge (of the anterior mediastinum): right, left, back, y of the sides;
# heart: egg; breast: oval; sternum: half axes; spine: y of the vertebra's front, half axes.
_RULED = _read("""
lung, air:
    0 43 45 -16 -14 44 44 -15; 0.006 34 55 -27 -2 44 44 -15; 0.025 26 64 -37 9 44 46 -15;
    0.06 17 78 -51 22 44 48 -15; 0.12 8 95 -64 40 40 52 -14; 0.18 2 107 -74 57 36 56 -11;
    0.24 0 116 -81 71 30 60 -8; 0.3 0 123 -87 80 24 62 -5; 0.4 0 130 -95 87 19 65 -2;
    0.5 0 134 -99 92 17 66 0; 0.6 0 138 -100 95 18 67 2; 0.7 0 141 -100 97 20 67 4;
    0.8 0 144 -98 97 24 67 5; 1 0 145 -94 95 30 66 5; 1.6 0 140 -88 90 30 60 5; 2.6 0 138 -84 90 30 60 5

body, soft:
    -0.6 56 -60 58; -0.34 57 -62 55; -0.28 90 -72 52; -0.21 190 -84 52; -0.14 220 -93 56;
    -0.05 222 -100 60; 0.06 204 -105 70; 0.15 187 -109 80; 0.28 172 -116 97; 0.45 163 -121 110;
    0.6 157 -124 115; 0.75 154 -125 118; 0.9 153 -124 118; 1.1 151 -120 114; 1.4 147 -114 106;
    2.6 146 -112 104

core, soft:
    -0.6 -30 30 -40 30 0 0 0; 0 -24 24 -50 40 0 0 0; 0.12 -22 25 -45 52 0 0 5; 0.2 -25 27 -45 56 0 0 8;
    0.3 -27 29 -45 54 0 0 10; 0.4 -30 29 -45 46 0 0 8; 0.5 -27 28 -45 40 0 0 5; 0.6 -21 25 -45 30 0 0 0;
    0.8 -20 25 -45 26 0 0 -5; 1 -17 20 -46 8 0 0 -14; 1.3 -14 16 -40 0 0 0 -16

wedge, soft:
    0.02 -14 14 0 30; 0.1 -20 20 -10 32; 0.2 -27 26 -20 28; 0.3 -33 31 -25 22; 0.4 -40 39 -25 20;
    0.5 -43 50 -25 28; 0.6 -46 60 -25 36; 0.72 -44 68 -25 46; 0.80 -28 56 0 56; 0.86 -8 24 40 66

heart, soft:
    0.445 -8 12 36 46 2 2 41; 0.47 -33 33 16 66 8 -4 36; 0.52 -46 50 2 76 12 -6 34;
    0.57 -51 60 -4 82 14 -8 34; 0.63 -52 69 -8 86 16 -6 36; 0.69 -47 75 -8 87 18 -2 38;
    0.75 -36 76 -4 86 22 2 40; 0.81 -20 74 4 84 28 12 44; 0.86 0 68 18 79 34 24 48;
    0.895 28 46 40 56 38 36 48

breast, soft:
    0.3 72 90 28 8 0; 0.42 76 96 54 20 0; 0.56 80 99 62 25 0; 0.7 80 99 52 20 0; 0.8 78 97 24 8 0

sternum, soft:
    0.1 26 7; 0.16 30 7.5; 0.28 18 6.5; 0.42 17 6; 0.62 19 6; 0.7 8 4; 0.76 5 3

spine, soft:
    -0.6 6 11 9; -0.2 1 13 9.5; 0 -8 14 10.5; 0.15 -18 15 12; 0.4 -32 16 14.5; 0.7 -30 18 16; 1 -22 21 17;
    1.5 -16 24 18; 2.6 -12 26 18
""")
LUNG, BODY, CORE, WEDGE, HEART, BREAST, STERNUM, SPINE = (structure.rows for structure in _RULED)

# Ovals of soft tissue, in the order of painting.
OVALS = _read("""
right brachiocephalic vein, blood:
    0.02 -24 34 7 7 0; 0.22 -23 36 8 8 0

left brachiocephalic vein, blood:
    0.1 22 40 7 6 0; 0.17 12 42 16 5 -15; 0.22 -6 40 20 5 -8

right subclavian, blood:
    -0.08 -46 20 14 5 30; 0 -36 18 12 5 10; 0.06 -24 16 7 6 0

left subclavian, blood:
    -0.08 50 18 14 5 -30; 0 38 10 10 5 -10; 0.08 24 0 6 6 0; 0.27 21 -2 6 7 0

carotids right, blood:
    -0.6 -24 8 7 7 0; -0.1 -20 18 7 6 0; 0.12 -15 22 6 6 0; 0.26 -5 26 7 7 0

carotids left, blood:
    -0.6 24 8 7 7 0; -0.1 20 18 7 6 0; 0.12 17 18 5 5 0; 0.26 10 20 6 6 0

thyroid right, thyroid:
    -0.2 -13 18 5 9 10; -0.1 -15 18 8 10 10; -0.02 -15 20 4 5 0

thyroid left, thyroid:
    -0.2 13 18 5 9 -10; -0.1 15 18 8 10 -10; -0.02 15 20 4 5 0

superior vena cava, blood:
    0.21 -23 32 9 9 0; 0.36 -26 27 9 10 0; 0.48 -30 24 10 11 0

azygos, blood:
    0.31 -14 -22 5 5 0; 0.345 -22 -4 6 16 0; 0.36 -10 -28 4 4 0; 1 -6 -30 3.5 3.5 0

aortic arch, blood:
    0.262 8 6 6 10 25; 0.28 8 8 11 29 25; 0.325 6 8 12.5 36 27; 0.342 8 6 9 26 27

ascending aorta, blood:
    0.325 -8 30 15 16 0; 0.42 -9 34 16 17 0; 0.52 -6 32 15 16 0

pulmonary trunk, blood:
    0.375 20 24 8 8 0; 0.4 20 32 14 15 0; 0.5 18 44 14 14 0

left pulmonary artery, blood:
    0.362 32 4 8 8 0; 0.385 34 10 17 10 -38; 0.425 38 4 15 10 -40; 0.445 42 -6 8 8 0

right pulmonary artery, blood:
    0.415 -14 8 20 6 0; 0.435 -16 9 32 10 6; 0.47 -22 8 30 9 8; 0.485 -34 4 12 8 0

left atrium, blood:
    0.475 0 4 20 8 0; 0.51 1 4 38 14 0; 0.57 2 5 40 17 0; 0.62 4 6 28 12 0

right upper vein, blood:
    0.43 -44 20 6 6 20; 0.49 -38 13 15 6.5 20; 0.52 -30 8 10 5 0

left upper vein, blood:
    0.42 45 20 6 6 -20; 0.47 41 16 14 6.5 -25; 0.5 32 10 10 5 0

right lower vein, blood:
    0.55 -34 -6 10 6 -10; 0.58 -42 -14 17 6 28; 0.6 -46 -20 6 5 0

left lower vein, blood:
    0.54 36 -6 10 6 10; 0.57 42 -14 16 6 -28; 0.59 46 -20 6 5 0

right interlobar artery, blood:
    0.45 -47 0 9 10 0; 0.52 -51 -8 8.5 9 0; 0.6 -53 -18 7 7.5 0; 0.66 -56 -26 5 5 0

left interlobar artery, blood:
    0.41 46 -6 9 10 0; 0.5 50 -14 8.5 9 0; 0.58 52 -22 7 7.5 0; 0.65 55 -30 5 5 0

inferior vena cava, blood:
    0.67 -25 4 11 10 0; 0.78 -26 2 13 11 0; 1.2 -26 -12 12 10 0; 2.6 -20 -22 11 9 0

descending aorta, blood:
    0.325 19 -22 13 13 0; 0.55 18 -21 12.5 12.5 0; 0.8 13 -18 12 12 0; 1.05 4 -12 11 11 0;
    2.6 4 -12 9 9 0

oesophagus, soft:
    -0.12 3 -2 7 5 0; 0.3 5 -16 7 6 0; 0.7 6 -6 8 6 0; 0.9 12 4 9 7 0; 0.98 20 12 9 8 0
""")

# Planes of fat between the muscles of the left side, mirrored for the right.
FAT_PLANES = _read("""
armpit, fat:
    0.02 138 6 9 6 -30; 0.15 142 6 17 22 -15; 0.34 141 4 8 22 0; 0.5 146 0 4 20 0

under pectoral, fat:
    0.05 84 56 26 2.5 -20; 0.2 80 76 26 2.5 -22; 0.35 80 88 22 2 -22

under trapezius, fat:
    -0.15 70 -62 40 3 -10; 0.1 60 -90 30 2.2 -4; 0.4 62 -106 28 2 4

under latissimus, fat:
    0.25 140 -52 22 2.5 52; 0.5 140 -46 24 2.2 58; 0.8 138 -36 20 1.8 62
""")

# Organs below the diaphragm, then the gas in them.
ORGANS = _read("""
left kidney, soft:
    1.02 58 -50 14 12 20; 1.1 60 -52 26 22 20; 1.35 62 -54 28 24 20; 1.45 60 -54 16 14 20

right kidney, soft:
    1.1 -56 -52 14 12 -20; 1.18 -58 -54 26 22 -20; 1.42 -60 -56 28 24 -20; 1.52 -58 -56 16 14 -20

left lobe of liver, liver:
    0.80 -6 58 22 14 0; 0.86 2 58 44 24 -6; 0.96 0 58 52 26 -8; 1.08 -6 58 40 24 -8; 1.16 -14 58 24 16 0

pancreas, soft:
    1.12 20 2 30 8 20; 1.22 0 6 38 10 16; 1.34 -22 10 18 12 0

bowel right, chyme:
    1.22 -70 58 16 14 0; 1.4 -84 46 24 22 0; 2.6 -84 30 26 24 0

bowel middle, chyme:
    1.16 16 66 34 10 0; 1.3 -6 70 52 13 4; 1.42 0 66 60 14 -4; 1.52 10 64 30 10 0

bowel left, chyme:
    1.05 92 30 14 14 0; 1.2 96 20 20 20 0; 2.6 92 0 19 18 0

small bowel, chyme:
    1.3 30 40 26 20 10; 1.5 26 36 38 26 0; 2.6 20 40 46 30 -6
""")
BOWEL_GAS = _read("""
right colon gas, gas:
    1.24 -72 64 11 7 0; 1.38 -84 56 16 9 0; 1.5 -84 56 10 6 0

transverse colon gas, gas:
    1.2 14 71 26 5.5 0; 1.32 -4 76 38 7 0; 1.42 6 74 24 6 0

left colon gas, gas:
    1.02 92 36 8 7 0; 1.1 94 33 12 9 0; 1.18 96 28 8 6 0

small bowel gas, gas:
    1.46 30 52 12 6 0; 1.56 26 54 17 7 0; 1.66 24 52 9 5 0
""")

# Airways, ovals of the lumen; the wall, in mm, is painted first.
AIRWAYS = _read("""
pharynx, 3.0:
    -0.62 0 8 15 7 0; -0.4 0 10 12 8 0; -0.31 0 14 6 9 0; -0.28 0 14 7 9 0

trachea, 2.0:
    -0.3 0 14 7 8.5 0; -0.1 0 13 8 9 0; 0.1 -2 9 8.5 9 0; 0.3 -6 0 9 9 0; 0.375 -4 -3 10.5 8.5 0;
    0.395 -3 -4 15 7.5 0

right main bronchus, 1.8:
    0.385 -12 -4 7.5 7.5 0; 0.42 -21 -4 8 7 0; 0.46 -31 -5 7.5 6.5 0; 0.485 -36 -6 6.5 6.5 0

left main bronchus, 1.8:
    0.385 7 -4 7.5 7 0; 0.42 14 -5 8 6.5 0; 0.46 24 -6 8 6 0; 0.495 34 -7 7.5 6 0; 0.51 37 -8 6 5.5 0

right upper bronchus, 1.5:
    0.415 -26 -5 7 4 0; 0.43 -37 -5 13 4.5 8; 0.445 -44 -4 8 3.5 10

intermediate bronchus, 1.5:
    0.48 -36 -7 6 6 0; 0.54 -41 -14 5.5 5.8 0; 0.6 -46 -22 4.4 4.6 0

left upper bronchus, 1.5:
    0.48 40 -3 9 4 20; 0.495 45 -1 9 4 25; 0.51 46 1 6 3.5 20

left lower bronchus, 1.5:
    0.5 39 -11 5.5 5.5 0; 0.54 42 -17 5 5.2 0; 0.6 46 -27 4 4.4 0
""")

# Bones of the left side, ovals, with the thickness of their cortex in mm; mirrored for the right.
BONES = _read("""
humerus, 2.2:
    -0.4 186 8 11 11 0; -0.16 186 4 14 14 0; -0.11 182 -6 23 22 0; -0.02 180 -9 24 23 0;
    0.02 184 -10 17 17 0

glenoid, 1.8:
    -0.1 148 -26 10 14 20; 0.03 146 -30 10 17 15; 0.08 145 -36 8 16 15

acromion, 1.6:
    -0.2 168 -22 16 6 40; -0.1 158 -42 26 5 42; 0 138 -66 32 4.5 32; 0.1 118 -86 26 3.8 16;
    0.16 112 -92 12 3 8

scapula, 1.2:
    -0.02 122 -58 18 4.5 35; 0.1 118 -68 32 3.6 36; 0.2 118 -74 37 3.4 36; 0.3 120 -80 38 3.4 38;
    0.5 124 -82 28 3.6 44; 0.62 130 -80 12 3 50

clavicle, 1.8:
    -0.1 112 18 26 6 -14; -0.02 76 36 27 6.5 -28; 0.06 44 50 22 7 -32; 0.13 24 60 13 9 -20
""")
