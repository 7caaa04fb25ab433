"""NIfTI files: read as int16 HU with each byte inflated once, and written back as they came."""

from fastct.nifti.header import NiftiHeader, parse_header
from fastct.nifti.reading import (
    Source,
    Volume,
    load_source,
    mask_of,
    read_header,
    read_mask,
    read_nifti,
    read_nifti_bytes,
)
from fastct.nifti.sources import source_state
from fastct.nifti.writing import write_nifti

__all__ = [
    "NiftiHeader",
    "Source",
    "Volume",
    "load_source",
    "mask_of",
    "parse_header",
    "read_header",
    "read_mask",
    "read_nifti",
    "read_nifti_bytes",
    "source_state",
    "write_nifti",
]
