"""Disease of known size planted into a healthy chest: blobs of ground glass and of consolidation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SOLID_HU, GLASS_HU = (20.0, 50.0), (-620.0, -380.0)  # from which a blob's density is drawn
RADIUS_MM = (12.0, 40.0)  # mean radius of a blob
WOBBLE = 0.25  # how far its surface departs from an ellipsoid, as a share of its radius
GRAIN_HU = 25.0  # texture inside
EDGE_PIXELS = 0.8  # blur of its border in the plane: what a scanner and its kernel do
HILUM_MM = 60.0  # costal surface lies farther than this from the midline, or ...
COSTAL_SHARE = 0.5  # of blobs that sit on the chest wall


@dataclass(frozen=True, eq=False)
class Planted:
    """HU, int16 (z, y, x), and where the disease lies, bool of the same shape."""

    hu: NDArray[np.int16]
    lesion: NDArray[np.bool_]


def plant(hu, lung, spacing_mm, share, seed, solid_share=0.5):
    """Put disease into `share` of the lung, `solid_share` of it consolidation, the rest ground glass.

    `hu` int16 and `lung` bool are (z, y, x). Every blob is cut off at the lung's border. Vessels inside ground
    glass stay as they are. Both kinds are filled up in turn until each has its share of voxels.
    """
    rng = np.random.default_rng(seed)
    box = tuple(slice(max(at.min() - 8, 0), at.max() + 9) for at in np.nonzero(lung))
    whole, whole_lung, hu, lung = hu, lung, hu[box], lung[box]
    solid, glass = np.zeros(lung.shape, bool), np.zeros(lung.shape, bool)
    density = np.full(lung.shape, -2000.0)
    total = int(lung.sum() * share)
    costal, inside = np.argwhere(costal_surface(lung, spacing_mm)), np.argwhere(lung)
    for mask, wanted, range_hu in (
        (solid, round(total * solid_share), SOLID_HU),
        (glass, total - round(total * solid_share), GLASS_HU),
    ):
        while mask.sum() < wanted:
            centres = costal if rng.random() < COSTAL_SHARE else inside
            centre = centres[rng.integers(len(centres))]
            blob, place = draw_blob(lung, centre, spacing_mm, rng, wanted - mask.sum())
            fresh = blob & ~solid[place] & ~glass[place]
            mask[place] |= fresh
            density[place][fresh] = rng.uniform(*range_hu)
    sick, lesion = whole.copy(), np.zeros_like(whole_lung)
    sick[box], lesion[box] = paint(hu, solid | glass, density, rng), solid | glass
    return Planted(sick, lesion)


def costal_surface(lung, spacing_mm):
    """The lung's outer pixels in each slice that face the chest wall, not heart and mediastinum."""
    border = lung & ~ndimage.binary_erosion(lung, np.ones((1, 3, 3), bool), border_value=1)
    y, x = (np.arange(n) for n in lung.shape[1:])
    _, rows, columns = np.nonzero(lung)
    aside_mm = np.abs(x - columns.mean()) * spacing_mm[2]
    ahead_mm = (y[:, None] - rows.mean()) * spacing_mm[1]
    behind = np.abs(ahead_mm) > 0.6 * np.abs(ahead_mm[rows]).max()
    return border & ((aside_mm > HILUM_MM) | behind)


def draw_blob(lung, centre, spacing_mm, rng, most):
    """A wobbly ellipsoid in mm, cut off at the lung and to its `most` innermost voxels; and its box."""
    radii_mm = rng.uniform(*RADIUS_MM) * rng.uniform(0.7, 1.3, 3)
    reach = np.ceil(radii_mm * (1 + WOBBLE) / spacing_mm).astype(int)
    low, high = np.maximum(centre - reach, 0), np.minimum(centre + reach + 1, lung.shape)
    place = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    at = np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high, strict=True)), indexing="ij")
    steps = [(i - c) * mm / radius for i, c, mm, radius in zip(at, centre, spacing_mm, radii_mm, strict=True)]
    waves = ndimage.gaussian_filter(rng.standard_normal(steps[0].shape), 8.0 / np.array(spacing_mm))
    far = np.sqrt(sum(step**2 for step in steps)) + WOBBLE * waves / max(waves.std(), 1e-9)
    blob = (far < 1) & lung[place]
    if blob.sum() > most:
        blob &= far <= np.partition(far[blob], int(most) - 1)[int(most) - 1]
    return blob, place


def paint(hu, lesion, density, rng):
    """HU with the disease: denser tissue stays, borders are blurred in the plane."""
    density, hu = density.astype(np.float32), hu.astype(np.float32)
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape).astype(np.float32), (0, 0.7, 0.7))
    sick = np.where(lesion, np.maximum(hu, density + GRAIN_HU / grain.std() * grain), hu)
    weight = ndimage.gaussian_filter(lesion.astype(np.float32), (0, EDGE_PIXELS, EDGE_PIXELS))
    soft = ndimage.gaussian_filter(sick, (0, EDGE_PIXELS, EDGE_PIXELS))
    edge = (weight > 0.02) & (weight < 0.98)
    return np.where(edge, soft, sick).round().astype(np.int16)
