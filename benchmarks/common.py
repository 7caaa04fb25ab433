"""What the benchmarks work on: phantoms of MosMedData's size, made once a process."""

import tempfile
from functools import cache
from pathlib import Path

from fastct.nifti import write_nifti
from fastct.phantom import Phantom, draw_study

SEED = 7
SHAPE: tuple[int, int, int] | None = None  # as MosMedData has them; the test suite takes a small one


@cache
def phantom(category: str = "CT-2") -> Phantom:
    """A full-size synthetic chest with disease."""
    return draw_study(0, SEED, category=category, shape=SHAPE)


@cache
def nifti_file() -> Path:
    """The phantom as .nii.gz, in a folder that lasts as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="fastct-bench-"))
    drawn = phantom()
    write_nifti(folder / "study.nii.gz", drawn.hu, drawn.geometry)
    return folder / "study.nii.gz"
