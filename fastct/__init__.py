"""fastct: chest CT from gzip NIfTI to scores and training batches at the speed of memory."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastct import codecs as codecs
    from fastct import errors as errors
    from fastct import transforms as transforms
    from fastct.comparison import compare as compare
    from fastct.dataset import Dataset as Dataset
    from fastct.geometry import Geometry as Geometry
    from fastct.kernels.gather import resample as resample
    from fastct.kernels.gather import window as window
    from fastct.lesions import lesion_fraction as lesion_fraction
    from fastct.lesions import opacity_mask as opacity_mask
    from fastct.lesions import severity as severity
    from fastct.loader import Loader as Loader
    from fastct.lungs import lung_mask as lung_mask
    from fastct.nifti import Volume as Volume
    from fastct.nifti import read_nifti as read_nifti
    from fastct.pipeline import convert as convert
    from fastct.pipeline import score as score
    from fastct.store import open as open
    from fastct.verification import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "Geometry": "geometry",
    "Volume": "nifti",
    "read_nifti": "nifti",
    "window": "kernels.gather",
    "resample": "kernels.gather",
    "lung_mask": "lungs",
    "opacity_mask": "lesions",
    "lesion_fraction": "lesions",
    "severity": "lesions",
    "convert": "pipeline",
    "score": "pipeline",
    "compare": "comparison",
    "verify": "verification",
    "open": "store",
    "Dataset": "dataset",
    "Loader": "loader",
}
_MODULES = ("codecs", "errors", "transforms")
__all__ = [*_HOMES, *_MODULES]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name on first use, so that `import fastct` stays quick."""
        if name in _MODULES:
            return import_module(f"fastct.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module 'fastct' has no attribute {name!r}")
        value = getattr(import_module(f"fastct.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
