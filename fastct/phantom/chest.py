"""A synthetic patient from skin to bone: which outlines, in which order, in which size."""

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fastct.phantom import anatomy
from fastct.phantom.anatomy import HALF_DEPTH_MM, HU
from fastct.phantom.outlines import (
    BACK,
    FRONT,
    LEFT_X,
    RIGHT_X,
    TILT,
    X_BACK,
    X_FRONT,
    Y_SIDE,
    Outlines,
    grown,
    mirrored,
    shown,
    upright,
    within,
)
from fastct.phantom.painting import LEFT, RIGHT, Layers
from fastct.phantom.patient import Patient

Floats = NDArray[np.float64]

DOME_MARGIN_MM = 5.0  # how far the diaphragm reaches over the lungs' outline where they end
VERTEBRA_MM = 25.0  # from disc to disc
RIBS, FALSE_RIBS = 12, 7  # pairs; from which on they no longer reach the sternum


def chest_layers(patient: Patient, random: Generator) -> Layers:
    """What to paint, in order, for this patient on the couch."""
    sheet = Outlines(patient, random)
    _couch(sheet)
    _trunk(sheet)
    lungs = _lungs(sheet)
    domes = _diaphragm(sheet, lungs)
    _abdomen(sheet, domes)
    _mediastinum(sheet, lungs)
    _airways(sheet)
    _spine(sheet)
    _bones(sheet, lungs)
    return sheet.layers(_ribs(patient))


def _trunk_egg(sheet: Outlines, fat: float) -> Floats:
    """Outline of the trunk's flesh with this share of the fat over it."""
    patient = sheet.patient
    half, back, front = sheet.rows(anatomy.BODY).T
    thick_mm = np.interp(sheet.share, (-0.3, 0.1, 0.8, 1.2), (0.3, 0.7, 1.0, 1.5)) * patient.fat_mm * fat
    half = half * patient.size_x + 1.1 * thick_mm
    back, front = back * patient.size_y - 0.8 * thick_mm, front * patient.size_y + thick_mm
    return upright(-half, half, back, front, np.full_like(half, -0.12 * HALF_DEPTH_MM * patient.size_y))


def _couch(sheet: Outlines) -> None:
    """The couch: two thin shells with foam between, as hollow as the patient is round, or flat."""
    random = sheet.random
    top_mm = np.nanmin(_trunk_egg(sheet, 1.0)[:, BACK]) + sheet.patient.shift_mm[1] - 2.0
    half_mm, rim_mm, deep_mm = random.uniform(215, 250), random.uniform(30, 60), random.uniform(18, 34)
    curve = "boxy" if random.random() < 0.3 else "oval"
    wide, rim = np.full(len(sheet.share), half_mm), np.full(len(sheet.share), top_mm + rim_mm)
    for order, (name, out_mm, down_mm) in enumerate(
        (("shell", 14.0, deep_mm), ("foam", 11.0, deep_mm - 2.6), ("shell", 2.2, 2.2), ("air", 0.0, 0.0))
    ):
        # Open above: each layer's rim is a pixel higher than the one it covers, or a line would be left.
        egg = upright(-wide - out_mm, wide + out_mm, np.full_like(rim, top_mm - down_mm), rim + 1.5 * order)
        egg[:, Y_SIDE] = rim + 1.5 * order
        sheet.put(HU[name], egg, curve, still=True)


def _trunk(sheet: Outlines) -> None:
    """Arms, breasts, skin, fat and muscle: all that is no cavity."""
    fat_mm = sheet.patient.fat_mm
    breast, arm = sheet.oval(anatomy.BREAST), _arm(sheet)
    breast[:, (BACK, FRONT, Y_SIDE)] += 0.8 * fat_mm
    sides = (lambda egg: egg, mirrored)
    for side in sides:
        sheet.put_shells(side(arm), ((HU["skin"], 0.0), (HU["fat"], 1.6), (HU["muscle"], 2.0 + 0.4 * fat_mm)))
        if sheet.patient.female:
            sheet.put(HU["skin"], side(breast))
    skin = grown(_trunk_egg(sheet, 1.0), 1.6)
    sheet.put(HU["skin"], skin, "plump")
    if sheet.patient.female:
        for side in sides:
            sheet.put(HU["fat"], side(grown(breast, -1.6)))
            sheet.put(HU["soft"] - 30.0, side(within(breast, (-0.4, 0.35), (-0.2, 0.75))), wavy=0.12)
    sheet.put(HU["fat"], _trunk_egg(sheet, 1.0), "plump")
    sheet.put(HU["muscle"], _trunk_egg(sheet, 0.0), "plump", wavy=0.008)
    # The furrow along the spine between the shoulder blades: air over the flesh.
    deep_mm = np.interp(sheet.share, (-0.15, 0.1, 0.35, 0.5), (2.0, 9.0, 5.0, 0.0))
    wide_mm = np.full_like(deep_mm, 34.0)
    furrow = upright(-wide_mm, wide_mm, skin[:, BACK] - 1.0, skin[:, BACK] + deep_mm)
    sheet.put(HU["air"], shown(furrow, (sheet.share > -0.15) & (sheet.share < 0.5)))
    for plane in anatomy.FAT_PLANES:
        for side in sides:
            sheet.put(HU["fat"] + 20.0, side(sheet.oval(plane.rows, 2.0)), wavy=0.08)


def _arm(sheet: Outlines) -> Floats:
    """The left arm, raised beside the head or lying beside the trunk."""
    patient, share = sheet.patient, sheet.share
    radius = np.full_like(share, 36.0 * patient.size_x + 0.4 * patient.fat_mm)
    if patient.arms_down:
        x = _trunk_egg(sheet, 1.0)[:, LEFT_X] + radius + 3.0
        where = share > 0.0
    else:
        x = 180.0 * patient.size_x + 90.0 * (share + 0.2)
        where = share < -0.17
    y = np.interp(share, (-0.6, -0.2, 0.0, 1.0), (30.0, 5.0, -20.0, -40.0))
    return shown(upright(x - radius, x + radius, y - radius, y + radius), where)


def _lungs(sheet: Outlines) -> dict[int, Floats]:
    """The cavity of the chest below the domes, then both lungs; their eggs by label."""
    patient, random = sheet.patient, sheet.random
    lungs: dict[int, Floats] = {}
    for label in (RIGHT, LEFT):
        egg = sheet.egg(anatomy.LUNG)
        wide, deep = random.normal(1.0, 0.02), random.normal(1.0, 0.015)
        egg[:, (LEFT_X, X_FRONT, X_BACK)] *= wide
        egg[:, (BACK, FRONT)] *= deep
        top_mm = random.uniform(0.0, 10.0) if label == LEFT else 0.0  # one apex lies lower
        egg = egg if not top_mm else shown(egg, patient.depths_mm > top_mm)
        egg[:, RIGHT_X] = np.maximum(egg[:, RIGHT_X], patient.gap_mm)
        lungs[label] = egg if label == LEFT else mirrored(egg)
    both = upright(
        lungs[RIGHT][:, RIGHT_X] - 2.0,
        lungs[LEFT][:, LEFT_X] + 2.0,
        lungs[LEFT][:, BACK],
        lungs[LEFT][:, FRONT],
    )
    sheet.put(HU["fat"], shown(both, sheet.share > 0.7), "plump")
    for label, egg in lungs.items():
        sheet.put(patient.lung_hu, egg, "lung", role=label, wavy=0.018)
    # Whatever the waves did, the lungs do not meet: a septum parts them where nothing thicker will.
    half = np.full(len(sheet.share), patient.gap_mm)
    septum = upright(-half, half, lungs[LEFT][:, BACK] - 20.0, lungs[LEFT][:, FRONT] + 20.0)
    sheet.put(HU["soft"], septum, "boxy")
    return lungs


def _diaphragm(sheet: Outlines, lungs: dict[int, Floats]) -> dict[int, Floats]:
    """Both domes, muscle with fat within; their eggs by label."""
    patient, domes = sheet.patient, {}
    for label, top_share in zip((RIGHT, LEFT), patient.dome_share, strict=True):
        lung = lungs[label] if label == LEFT else mirrored(lungs[label])
        lowest_mm = (1.0 - top_share) * patient.height_mm

        def reach(part: float, top: float = top_share, lowest_mm: float = lowest_mm) -> Floats:
            """How far the dome has come to the wall that it meets after this part of the way down."""
            way = np.clip((sheet.share - top) * patient.height_mm / (part * lowest_mm), 0.0, 1.0)
            return np.asarray((1.0 - (1.0 - way) ** 1.6) ** 0.7)

        x, y = 0.43 * np.nanmax(lung[:, LEFT_X]), 6.0 * patient.size_y
        dome = np.column_stack(
            [
                x - (x + 12.0) * reach(0.45),
                x + (lung[:, LEFT_X] + DOME_MARGIN_MM - x) * reach(0.85),
                y - (y - lung[:, BACK] + DOME_MARGIN_MM) * reach(1.0) ** 1.7,
                y + (lung[:, FRONT] + DOME_MARGIN_MM - y) * reach(0.55),
                x + (lung[:, X_FRONT] - x) * reach(0.55),
                x + (lung[:, X_BACK] - x) * reach(1.0),
                np.full_like(sheet.share, y),
                np.zeros_like(sheet.share),
            ]
        )
        domes[label] = shown(dome if label == LEFT else mirrored(dome), sheet.share > top_share)
        sheet.put_shells(domes[label], ((HU["muscle"], 0.0), (HU["fat"], 3.0)), "lung")
    return domes


def _abdomen(sheet: Outlines, domes: dict[int, Floats]) -> None:
    """Liver, spleen and stomach under the domes, what lies below them, and gas in stomach and bowel."""
    patient, random, share = sheet.patient, sheet.random, sheet.share
    liver = grown(domes[RIGHT], -2.0)
    # Towards its lower edge the liver draws back to the right flank.
    ebb = np.interp(share, (1.05, 1.7), (0.0, 1.0))
    liver[:, LEFT_X] -= ebb * (liver[:, LEFT_X] - liver[:, RIGHT_X]) * 0.75
    liver[:, X_FRONT] = np.minimum(liver[:, X_FRONT], liver[:, LEFT_X])
    liver[:, X_BACK] = np.minimum(liver[:, X_BACK], liver[:, LEFT_X])
    liver_hu = HU["liver"] + random.normal(0.0, 7.0)
    sheet.put(liver_hu, shown(liver, share < 1.75), "lung", wavy=0.006)
    left = grown(domes[LEFT], -3.0)
    below_mm = (share - patient.dome_share[1]) * patient.height_mm
    sheet.put(
        HU["spleen"],
        shown(within(left, (0.35, 0.96), (-0.94, 0.1)), (below_mm > 14) & (share < 1.25)),
        wavy=0.05,
    )
    stomach = shown(within(left, (-0.45, 0.6), (-0.35, 0.92)), (below_mm > 6) & (share < 1.12))
    sheet.put_shells(stomach, ((HU["soft"], 0.0), (HU["chyme"], 4.0)), wavy=0.03)
    for organ in anatomy.ORGANS:
        sheet.put(liver_hu if organ.what == "liver" else HU[organ.what], sheet.oval(organ.rows, 3.0), wavy=0.05)
    deep = below_mm > random.uniform(8.0, 26.0)
    if random.random() < 0.85:
        bubble = within(stomach, (-0.75, 0.7), (random.uniform(0.2, 0.6), 0.9))
        sheet.put(HU["gas"], shown(bubble, deep & (share < 1.06)), "plump", wavy=0.03)
    if random.random() < 0.6:  # the bend of the colon under the left dome
        bend = within(left, (0.5, 0.86), (0.35, 0.72))
        sheet.put(HU["gas"], shown(bend, (below_mm > 22.0) & (share < 1.03)), wavy=0.12)
    for gas in anatomy.BOWEL_GAS:
        if random.random() < 0.75:
            sheet.put(HU["gas"], sheet.oval(gas.rows, 3.0), wavy=0.12)


def _mediastinum(sheet: Outlines, lungs: dict[int, Floats]) -> None:
    """Fat, heart and vessels between the lungs, and the flesh before the spine."""
    random, size_x = sheet.random, sheet.patient.size_x
    fat_hu = float(np.clip(-60.0 - 2.5 * sheet.patient.fat_mm + random.normal(0.0, 25.0), -105.0, 0.0))
    right, left, back, y_side = sheet.rows(anatomy.WEDGE).T * np.array([[size_x], [size_x], [1.0], [1.0]])
    front = np.nan_to_num(lungs[LEFT][:, FRONT], nan=0.0) + 7.0
    wedge = upright(right, left, back, front, y_side)
    wedge[:, X_FRONT] = random.uniform(-4.0, 5.0)
    sheet.put(fat_hu, wedge, "pointed")
    sheet.put(0.5 * (fat_hu + HU["soft"]), sheet.egg(anatomy.CORE), "plump", wavy=0.02)
    front_mm, half, deep = sheet.rows(anatomy.SPINE).T * sheet.patient.size_y
    sheet.put(HU["muscle"], upright(-half - 9.0, half + 9.0, front_mm - 4.6 * deep, front_mm + 1.0), "plump")
    heart = sheet.egg(anatomy.HEART)
    heart[:, (RIGHT_X, LEFT_X)] *= random.normal(1.0, 0.05)
    sheet.put(fat_hu, grown(heart, 3.0 + 0.1 * sheet.patient.fat_mm), wavy=0.02)
    sheet.put(HU["blood"], heart, wavy=0.02)
    for structure in anatomy.OVALS:
        hu = HU[structure.what] + random.normal(0.0, 3.0)
        sheet.put(hu, sheet.oval(structure.rows, 1.2), wavy=0.03)


def _airways(sheet: Outlines) -> None:
    """Throat, trachea and main bronchi: all walls, then all that is hollow, so that branches join."""
    lumens = [(float(tube.what), sheet.oval(tube.rows, 0.4)) for tube in anatomy.AIRWAYS]
    for wall_mm, egg in lumens:
        sheet.put(HU["soft"], grown(egg, wall_mm))
    for _, egg in lumens:
        sheet.put(HU["gas"], egg, wavy=0.03)


def _spine(sheet: Outlines) -> None:
    """Vertebrae with disc, arch and processes."""
    patient = sheet.patient
    front, half, deep = sheet.rows(anatomy.SPINE).T * patient.size_y
    phase = (patient.depths_mm / (VERTEBRA_MM * patient.size_y) + sheet.random.random()) % 1.0
    disc, arch = phase < 0.24, (phase > 0.3) & (phase < 0.8)
    body = upright(-half, half, front - 2.0 * deep, front)
    canal_y = front - 2.0 * deep - 9.0
    ring = upright(-half * 0.95, half * 0.95, canal_y - 14.0, canal_y + 12.0)
    cross = upright(half - 6.0, half + 20.0, canal_y - 15.0, canal_y - 5.0)
    cross[:, TILT] = -0.35
    spine = upright(np.full_like(half, -4.0), np.full_like(half, 4.0), canal_y - 34.0, canal_y - 8.0)
    for egg, where in ((cross, arch), (mirrored(cross), arch), (spine, phase > 0.35), (ring, ~disc)):
        sheet.put_shells(shown(egg, where), ((HU["bone"], 0.0), (HU["marrow"] + 60.0, 2.2)))
    sheet.put_shells(shown(body, ~disc), ((HU["bone"] - 220.0, 0.0), (HU["spongiosa"], 1.4)), "plump")
    sheet.put(HU["disc"], shown(body, disc), "plump")
    wide = np.full_like(half, 9.5)
    sheet.put(HU["chyme"], upright(-wide, wide, canal_y - 7.5, canal_y + 7.5))


def _bones(sheet: Outlines, lungs: dict[int, Floats]) -> None:
    """Shoulder girdle of both sides, and the sternum before the lungs."""
    for bone in anatomy.BONES:
        if bone.name == "humerus" and sheet.patient.arms_down:
            continue
        for side in (lambda egg: egg, mirrored):
            shells = ((HU["bone"], 0.0), (HU["marrow"], float(bone.what)))
            sheet.put_shells(side(sheet.oval(bone.rows, 1.5)), shells, wavy=0.03)
    if sheet.patient.arms_down:
        shaft = grown(_arm(sheet), -0.68 * 36.0 * sheet.patient.size_x - 0.4 * sheet.patient.fat_mm)
        for side in (lambda egg: egg, mirrored):
            sheet.put_shells(side(shaft), ((HU["bone"] + 300.0, 0.0), (HU["fat"] + 60.0, 4.5)))
    half, thick = sheet.rows(anatomy.STERNUM).T * sheet.patient.size_x
    middle = np.nan_to_num(lungs[LEFT][:, FRONT]) + 9.0
    sternum = upright(-half, half, middle - thick, middle + thick)
    sheet.put_shells(sternum, ((HU["bone"] - 150.0, 0.0), (HU["spongiosa"] - 20.0, 1.6)), "boxy")


def _ribs(patient: Patient) -> Floats:
    """Rows for the painter: each rib's bone, the marrow in it, and its cartilage."""
    rows = []
    for number in range(RIBS):
        spine_mm = (-0.055 + 0.079 * number) * patient.height_mm
        drop_mm = min(0.09 + 0.022 * number, 0.26) * patient.height_mm
        end = 1.0 if number < FALSE_RIBS else 0.94 - 0.16 * max(number - 8, 0)
        bone_end = min(0.8, end)
        rows.append((spine_mm, drop_mm, 7.0, 3.6, 2.2, 0.0, bone_end, HU["bone"]))
        rows.append((spine_mm, drop_mm, 4.6, 2.0, 3.8, 0.0, bone_end - 0.01, HU["marrow"]))
        if end > bone_end:
            rows.append((spine_mm, drop_mm, 7.5, 4.4, 2.2, bone_end, end, HU["cartilage"]))
    scale = np.array([1.0, 1.0, *[math.sqrt(patient.size_x)] * 3, 1.0, 1.0, 1.0])
    return np.asarray(np.array(rows) * scale)
