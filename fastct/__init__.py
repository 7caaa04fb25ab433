"""fastct: chest CT from gzip NIfTI to scores and training batches at the speed of memory."""

from importlib import import_module
from typing import Any

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
    "verify": "verification",
    "open": "store",
}
_MODULES = ("codecs", "errors")
__all__ = [*_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import fastct` stays quick."""
    if name in ("Dataset", "Loader"):
        errors = import_module("fastct.errors")
        raise errors.NotReadyError(f"fastct.{name}", "the loader waits for issue 6", "Read patches with Study.read")
    if name in _MODULES:
        return import_module(f"fastct.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'fastct' has no attribute {name!r}")
    value = getattr(import_module(f"fastct.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
