"""Metadata documents of a study: one Zarr v3 group that is an OME-Zarr 0.5 image and a NIfTI-Zarr volume.

Sources: OME-NGFF 0.5 (https://ngff.openmicroscopy.org/0.5/), its RFC-4 for anatomical orientation, and the
NIfTI-Zarr specification (https://github.com/neuroscales/nifti-zarr).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastct.geometry import Geometry

NGFF_VERSION = "0.5"
AXES = ("z", "y", "x")
DIRECTIONS = {  # RFC-4 names, by RAS axis: towards plus, towards minus
    0: ("left-to-right", "right-to-left"),
    1: ("posterior-to-anterior", "anterior-to-posterior"),
    2: ("inferior-to-superior", "superior-to-inferior"),
}
LUNG_WINDOW = {"start": -1350.0, "end": 150.0, "min": -2048.0, "max": 3071.0}  # W 1500, L -600
Document = dict[str, Any]


@dataclass(frozen=True)
class LabelStyle:
    """How viewers show a label image: name, colour and meaning of each value."""

    name: str
    colours: Mapping[int, tuple[int, int, int, int]]
    meanings: Mapping[int, str]


LUNG = LabelStyle("lung", {1: (0, 160, 255, 90), 2: (0, 220, 140, 90)}, {1: "right lung", 2: "left lung"})
LESION = LabelStyle("lesion", {1: (255, 60, 0, 140)}, {1: "lesion"})
LABELS = {style.name: style for style in (LUNG, LESION)}


def group(attributes: Mapping[str, Any]) -> Document:
    """Metadata document of a Zarr v3 group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def image_attributes(study_id: str, geometry: Geometry, extra: Mapping[str, Any]) -> Document:
    """Attributes of a study's root group; `extra` goes under the key `fastct`."""
    return {
        "ome": {
            "version": NGFF_VERSION,
            "multiscales": [multiscale(study_id, geometry)],
            "omero": {
                "id": 1,
                "name": study_id,
                "channels": [
                    {
                        "label": "CT (HU)",
                        "color": "FFFFFF",
                        "active": True,
                        "coefficient": 1,
                        "family": "linear",
                        "inverted": False,
                        "window": LUNG_WINDOW,
                    }
                ],
                "rdefs": {"defaultT": 0, "defaultZ": geometry.shape[0] // 2, "model": "greyscale"},
            },
        },
        "fastct": {"schema": 1, "study": study_id, "unit": "HU", "affine_ras": geometry.affine.tolist(), **extra},
    }


def label_attributes(style: LabelStyle, geometry: Geometry, extra: Mapping[str, Any]) -> Document:
    """Attributes of a label image's group."""
    return {
        "ome": {
            "version": NGFF_VERSION,
            "multiscales": [multiscale(style.name, geometry)],
            "image-label": {
                "version": NGFF_VERSION,
                "colors": [{"label-value": value, "rgba": list(rgba)} for value, rgba in style.colours.items()],
                "properties": [{"label-value": value, "class": meaning} for value, meaning in style.meanings.items()],
                "source": {"image": "../../"},
            },
        },
        "fastct": {"schema": 1, **extra},
    }


def labels_attributes(names: list[str]) -> Document:
    """Attributes of the group that lists a study's label images."""
    return {"ome": {"version": NGFF_VERSION, "labels": names}}


def consolidated(root: Document, members: Mapping[str, Document]) -> Document:
    """The root group's document with those of all its members inside: one read opens the study."""
    inline = {"kind": "inline", "must_understand": False, "metadata": dict(members)}
    return {**root, "consolidated_metadata": inline}


def multiscale(name: str, geometry: Geometry) -> Document:
    """The `multiscales` entry of one full-resolution level.

    NGFF 0.5 knows positive scale and translation only: an axis that runs against
    RAS is named so, and its coordinate is minus the RAS one. Oblique volumes: the nifti header is exact.
    """
    import nibabel as nib  # takes long, and reading needs it not

    scale, translation, axes = [], [], []
    orientation = nib.orientations.io_orientation(geometry.affine)
    for name_of_axis, column in zip(AXES, (2, 1, 0), strict=True):
        world, sign = int(orientation[column, 0]), int(orientation[column, 1])
        scale.append(float(np.linalg.norm(geometry.affine[:3, column])))
        translation.append(float(sign * geometry.affine[world, 3]))
        value = DIRECTIONS[world][0 if sign > 0 else 1]
        axes.append(
            {
                "name": name_of_axis,
                "type": "space",
                "unit": "millimeter",
                "orientation": {"type": "anatomical", "value": value},
            }
        )
    transforms = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": translation}]
    return {"name": name, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transforms}]}


def nifti_header(header: bytes, geometry: Geometry) -> bytes:
    """The 348 bytes of a NIfTI-1 header for the stored voxels: int16, slope 1, both affines set.

    All else is as in the header that the file came with.
    """
    import nibabel as nib

    source = _read_header(header)
    stored = nib.Nifti1Header.from_header(source, check=False)
    stored.set_data_shape(geometry.shape[::-1])
    stored.set_data_dtype(np.int16)
    stored.set_slope_inter(1.0, 0.0)
    stored.set_qform(geometry.affine, int(source["qform_code"]) or 1)
    stored.set_sform(geometry.affine, int(source["sform_code"]) or 1)
    stored.set_xyzt_units("mm", "sec")
    stored["magic"] = b"n+1"
    stored["vox_offset"] = 352
    return bytes(stored.binaryblock)


def _read_header(header: bytes) -> Any:
    import nibabel as nib

    kind = nib.Nifti2Header if len(header) >= nib.Nifti2Header.sizeof_hdr else nib.Nifti1Header
    return kind.from_fileobj(io.BytesIO(header), check=False)


def nifti_array(header: bytes, geometry: Geometry) -> Document:
    """Metadata document of the array that holds the header bytes."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [len(header)],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [len(header)]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, {"name": "crc32c"}],
        "dimension_names": ["nifti_byte"],
        "attributes": {
            "NIIHeaderSize": 348,
            "NIIFormat": "n+1",
            "Dim": list(geometry.shape[::-1]),
            "VoxelSize": list(geometry.spacing_mm[::-1]),
            "Unit": {"L": "mm", "T": "s"},
            "DataType": "int16",
            "Affine": geometry.affine[:3].tolist(),
        },
    }
