"""Small synthetic chests for tests of the chain, quick to write and to score."""

from pathlib import Path

import nibabel as nib
import numpy as np


def small_chest(seed: int, shape: tuple[int, int, int] = (10, 96, 96)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A body with two lungs and one lesion on 8 x 4 x 4 mm voxels: int16 HU, uint8 lesion, affine."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    depth, across = (y - shape[1] / 2) * 4.0, (x - shape[2] / 2) * 4.0  # mm
    hu = np.where((depth / 110) ** 2 + (across / 160) ** 2 < 1, 40, -1000) + np.zeros(shape)
    height = np.sqrt(np.clip(1 - ((z - shape[0] / 2) / (shape[0] / 2 - 0.5)) ** 2, 0, 1))
    for side in (-1, 1):
        hu[(depth / 75) ** 2 + ((across - side * 72) / 52) ** 2 < height] = -860
    near = (depth - 30) ** 2 + (across - 80) ** 2 < (14 + 4 * (seed % 4)) ** 2
    lesion = ((hu == -860) & near & (abs(z - shape[0] // 2) < 3)).astype(np.uint8)
    hu[lesion > 0] = -500
    hu = np.clip(hu + rng.normal(0, 20, shape), -1024, 3071).astype(np.int16)
    affine = np.diag([-4.0, 4.0, 8.0, 1.0])
    affine[:3, 3] = (190, -150, -300)
    return hu, lesion, affine


def write_study(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """A (z, y, x) array as NIfTI, by nibabel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.T, affine)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
