"""What the header of a NIfTI file says of its voxels, read through nibabel and checked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from fastct.errors import FileError
from fastct.geometry import Geometry

HEADER_BYTES = {1: 348, 2: 540}  # of NIfTI-1 and NIfTI-2
_MAGIC_AT = {1: 344, 2: 4}
_MAGICS = {1: (b"n+1\0", b"ni1\0"), 2: (b"n+2\0", b"ni2\0")}
_CLASSES: dict[tuple[int, bool], Callable[..., Nifti1Header]] = {
    (1, True): Nifti1Header,
    (1, False): Nifti1PairHeader,
    (2, True): Nifti2Header,
    (2, False): Nifti2PairHeader,
}
_MM_PER_UNIT = {1: ("metres", 1000.0), 3: ("microns", 0.001)}  # NIFTI_UNITS_METER, NIFTI_UNITS_MICRON
_XFORM_CODES = range(1, 6)  # NIFTI_XFORM_SCANNER_ANAT .. NIFTI_XFORM_TEMPLATE_OTHER

# Between header and voxels stand a few KiB of extensions, if any; whole DICOM headers reach a few MiB.
MAX_EXTENSION_BYTES = 64 << 20

# An affine beyond these is a slip of its writer (a kilometre; a nanometre), not a place in a scanner.
_LARGEST_MM, _LEAST_SPACING_MM = 1e6, 1e-6
_SAME_PLACE_MM = 0.1  # rounding of quaternions stays far below it
# Determinant of the axes, each scaled to length 1: below this they lie in one plane but for rounding.
_LEAST_DETERMINANT = 1e-6


@dataclass(frozen=True, eq=False)
class NiftiHeader:
    """Where the voxels of a file lie, how they are stored, and where in the patient they are.

    Parameters
    ----------
    raw : the header as it came, 348 bytes (NIfTI-1) or 540 (NIfTI-2).
    version : 1 or 2.
    geometry : shape (z, y, x) and affine to RAS millimetres.
    dtype : of the stored voxels, with their byte order.
    voxels_at : offset of the first voxel, in bytes of the inflated file.
    slope, inter : stored value * slope + inter is the value that is meant.
    notes : what had to be settled, in words.
    """

    raw: bytes
    version: int
    geometry: Geometry
    dtype: np.dtype
    voxels_at: int
    slope: float
    inter: float
    notes: tuple[str, ...]

    @cached_property
    def voxel_count(self) -> int:
        """Number of voxels."""
        return prod(self.geometry.shape)

    @cached_property
    def end_bytes(self) -> int:
        """Inflated bytes from the start of the file to the end of the last voxel."""
        return self.voxels_at + self.voxel_count * int(self.dtype.itemsize)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the stored bytes are int16 HU already, as this package keeps them."""
        return self.dtype == np.int16 and (self.slope, self.inter) == (1.0, 0.0)

    @cached_property
    def memory_bytes(self) -> int:
        """What reading takes: the inflated file, and int16 beside it where voxels must be converted."""
        return self.end_bytes + (0 if self.is_plain else 2 * self.voxel_count)


def parse_header(block: bytes, name: str, *, single: bool = True) -> NiftiHeader:
    """The checked header at the start of `block`.

    Parameters
    ----------
    block : the first bytes of a .nii file, or of the .hdr of a pair (`single=False`); 544 suffice.
    name : what errors call the file.

    Raises
    ------
    FileError
        If this is no NIfTI header, or one of something that cannot be a CT volume.
    """
    version = _version(block, name)
    raw = block[: HEADER_BYTES[version]]
    header = nibabel_header(raw, version, single=single)
    notes: list[str] = []
    shape = _shape(header, name, notes)
    dtype = _dtype(header, name)
    slope, inter = _scaling(header, name)
    voxels_at = _offset(header, name, HEADER_BYTES[version] + 4 if single else 0)
    geometry = _geometry(header, shape, name, notes)
    return NiftiHeader(raw, version, geometry, dtype, voxels_at, slope, inter, tuple(notes))


def nibabel_header(raw: bytes, version: int, *, single: bool = True) -> Nifti1Header:
    """nibabel's own header object of these bytes, unchecked and not mended: this module does that."""
    return _CLASSES[version, single](raw, check=False)


def _version(block: bytes, name: str) -> int:
    for version, magics in _MAGICS.items():
        at = _MAGIC_AT[version]
        if len(block) >= HEADER_BYTES[version] and block[at : at + 4] in magics:
            return version
    if not block:
        raise FileError(name, "it is empty", "Get the file again")
    if len(block) < HEADER_BYTES[1]:
        raise FileError(name, f"{len(block)} bytes are too few for a NIfTI header", "Get the file again")
    raise FileError(
        name, "it has no NIfTI header (the magic n+1 or n+2 is missing)", "Convert it to NIfTI with dcm2niix"
    )


def _shape(header: Nifti1Header, name: str, notes: list[str]) -> tuple[int, int, int]:
    """(z, y, x), after dropping axes of length 1 behind the third."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise FileError(name, f"its header claims {count} axes", "Get the file again: its header is damaged")
    try:
        sizes = [int(size) for size in header.get_data_shape()]
    except HeaderDataError as error:
        raise FileError(name, f"its shape cannot be read ({error})", "Get the file again") from error
    if min(sizes) < 1:
        raise FileError(name, f"its shape is {tuple(sizes)}", "Get the file again: its header is damaged")
    if len(sizes) < 2 or prod(sizes[3:]) != 1:
        raise FileError(
            name,
            f"its shape is {tuple(sizes)} (x first), where a CT volume has three axes",
            "Give one volume a file: split the series, or leave the file out",
        )
    if len(sizes) > 3:
        notes.append(f"{len(sizes) - 3} axes of length 1 behind the third dropped")
    elif len(sizes) == 2:
        notes.append("2-D image read as one slice")
        sizes.append(1)
    return sizes[2], sizes[1], sizes[0]


def _dtype(header: Nifti1Header, name: str) -> np.dtype:
    code = int(header["datatype"])
    try:
        dtype: np.dtype = np.dtype(header.get_data_dtype())
    except (KeyError, HeaderDataError) as error:
        raise FileError(
            name, f"its data type code {code} is unknown", "Get the file again: its header is damaged"
        ) from error
    if dtype.kind not in "iuf":
        kind = {"c": "complex numbers", "V": "colours, or of a type that no CT has"}.get(dtype.kind, str(dtype))
        raise FileError(
            name,
            f"its voxels are {kind} (data type code {code}), where a CT has one real number each",
            "Export the CT itself, as int16",
        )
    return dtype


def _scaling(header: Nifti1Header, name: str) -> tuple[float, float]:
    """Slope and intercept; a slope of 0, NaN or infinity means none, as in nibabel."""
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise FileError(name, f"its intercept is unusable ({error})", "Set scl_inter to a finite number") from error
    return (1.0, 0.0) if slope is None else (float(slope), float(inter))


def _offset(header: Nifti1Header, name: str, least: int) -> int:
    offset = float(header["vox_offset"])
    if not least <= offset <= MAX_EXTENSION_BYTES:  # NaN is not either
        raise FileError(
            name,
            f"its voxels would start at byte {offset:g}, not between {least} and {MAX_EXTENSION_BYTES}",
            "Write it anew with a vox_offset of 352 (544 for NIfTI-2)",
        )
    return int(header["vox_offset"])


def _geometry(header: Nifti1Header, shape: tuple[int, int, int], name: str, notes: list[str]) -> Geometry:
    """sform before qform before pixdim, as nibabel chooses; the next best where one is unusable."""
    _mend_spacing(header, notes)
    unit, to_mm = _MM_PER_UNIT.get(int(header["xyzt_units"]) % 8, ("", 1.0))
    with np.errstate(all="ignore"):  # what wild numbers come to is seen in the result
        for label, affine in _candidates(header):
            affine[:3] *= to_mm
            if not _is_usable(affine):
                notes.append(f"{label} unusable")
                continue
            if unit:
                notes.append(f"affine converted from {unit} to millimetres")
            if label == "pixdim":
                notes.append("place, and which side is left, guessed: neither sform nor qform is usable")
            geometry = Geometry(shape, affine)
            if label == "sform":
                _compare_qform(header, geometry, to_mm, notes)
            return geometry
    spacing = tuple(float(value) for value in header["pixdim"][1:4])
    raise FileError(
        name,
        f"its spacing (x, y, z) is {spacing}, and neither sform nor qform places its voxels",
        "Set spacing and affine in the header, or convert the DICOM series again with dcm2niix",
    )


def _compare_qform(header: Nifti1Header, geometry: Geometry, to_mm: float, notes: list[str]) -> None:
    """Say so where the qform, which was not taken, would place the voxels elsewhere."""
    if int(header["qform_code"]) not in _XFORM_CODES:
        return
    affine = _computed(header.get_qform)
    affine[:3] *= to_mm
    if _is_usable(affine) and not geometry.matches(Geometry(geometry.shape, affine), _SAME_PLACE_MM):
        notes.append("sform taken: qform places the voxels elsewhere")


def _mend_spacing(header: Nifti1Header, notes: list[str]) -> None:
    """As nibabel does on loading: an invalid qfac is 1, a negative spacing its absolute value."""
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1
    if (header["pixdim"][1:4] < 0).any():
        header["pixdim"][1:4] = np.abs(header["pixdim"][1:4])
        notes.append("negative spacing taken as positive")


def _candidates(header: Nifti1Header) -> list[tuple[str, NDArray[np.float64]]]:
    """The affines that the header declares, best first."""
    candidates = []
    if int(header["sform_code"]) in _XFORM_CODES:
        candidates.append(("sform", _computed(header.get_sform)))
    if int(header["qform_code"]) in _XFORM_CODES:
        candidates.append(("qform", _computed(header.get_qform)))
    candidates.append(("pixdim", _computed(header.get_base_affine)))
    return candidates


def _computed(affine: Callable[[], NDArray[np.float64]]) -> NDArray[np.float64]:
    try:
        return np.array(affine(), dtype=np.float64)
    except (HeaderDataError, ValueError, ArithmeticError):  # a quaternion longer than 1, say
        return np.full((4, 4), np.nan)


def _is_usable(affine: NDArray[np.float64]) -> bool:
    if not np.isfinite(affine).all() or np.abs(affine).max() > _LARGEST_MM:
        return False
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if lengths.min() < _LEAST_SPACING_MM:
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > _LEAST_DETERMINANT)
