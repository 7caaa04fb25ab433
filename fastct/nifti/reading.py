"""Reads NIfTI files into volumes: each byte inflated once, plain int16 handed on without a copy."""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastct.errors import FileError
from fastct.geometry import Geometry
from fastct.kept import kept_bytes
from fastct.nifti.header import MAX_EXTENSION_BYTES, NiftiHeader, parse_header
from fastct.nifti.inflate import inflate, inflate_head, is_gzip
from fastct.nifti.names import pair_of
from fastct.nifti.sources import AnyFile, as_path, at_url, fetch, fetch_head, too_large

# A chest CT of 1,000 slices of 1024 x 1024 int16 voxels stays below this; twice as much took zlib, which has
# to find out where a bomb ends, more than five seconds.
DEFAULT_LIMIT_BYTES = 2 << 30

PADDING_HU = -1024  # air as the scanners of MosMedData write it; stands in for NaN, which int16 lacks
_HU_RANGE = (-32768, 32767)
_HEAD_BYTES = 544  # a NIfTI-2 header and the four bytes that announce extensions
_FIRST_BYTES = 1 << 16  # gzip that does not give up a header within them is not worth waiting for
_SLAB_VOXELS = 1 << 16  # converted at a time: float64 slabs of 512 KiB stay in the second-level cache

Bytes = bytes | bytearray | memoryview | NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume as int16 HU, and what is needed to write it back as it came.

    Parameters
    ----------
    hu : (z, y, x) int16, C order.
    geometry : shape and affine to RAS millimetres.
    header : the NIfTI header exactly as it came, 348 or 540 bytes.
    extensions : the bytes between header and voxels, empty when all are zero.
    source_dtype : name of the stored type, such as "int16" or "float32".
    slope, inter : stored value * slope + inter gave the HU.
    exact : False when a voxel was rounded, clamped or NaN.
    notes : what was done to get int16 HU, in words.

    Examples
    --------
    >>> import tempfile
    >>> from fastct.nifti import read_nifti, write_nifti
    >>> hu = np.full((2, 3, 4), -1000, "int16")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(f"{folder}/study.nii.gz", hu, Geometry(hu.shape, np.diag([-0.75, 0.75, 8, 1])))
    ...     volume = read_nifti(f"{folder}/study.nii.gz")
    >>> volume.hu.shape, volume.source_dtype, volume.exact
    ((2, 3, 4), 'int16', True)
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    header: bytes
    extensions: bytes
    source_dtype: str
    slope: float
    inter: float
    exact: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Source:
    """The bytes of a .nii or .nii.gz file, or of both files of a .hdr/.img pair, read once."""

    name: str
    raw: NDArray[np.uint8]
    image: NDArray[np.uint8] | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return self.raw.size + (0 if self.image is None else self.image.size)

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the bytes on disk, of a pair .hdr before .img."""
        digest = hashlib.sha256(self.raw.data)
        if self.image is not None:
            digest.update(self.image.data)
        return digest.hexdigest()


def read_nifti(
    path: AnyFile, *, limit_bytes: int = DEFAULT_LIMIT_BYTES, storage_options: Mapping[str, Any] | None = None
) -> Volume:
    """Read a NIfTI file of any kind as int16 HU.

    Parameters
    ----------
    path : a .nii or .nii.gz file, or either file of a .hdr/.img pair (gzip or not); on this machine or at a URL.
    storage_options : what opening a URL takes.
    limit_bytes : most memory that the inflated file and its int16 copy may take together.

    Returns
    -------
    Volume
        With stored * slope + inter in float64, rounded half to even, clamped to int16, NaN as -1024 HU.

    Raises
    ------
    FileError
        If there is no such file, or it is damaged, too large, or cannot be a CT volume.

    Examples
    --------
    >>> import tempfile
    >>> from fastct.nifti import write_nifti
    >>> geometry = Geometry((2, 3, 4), np.diag([-0.8, 0.8, 8.0, 1.0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(f"{folder}/air.nii.gz", np.full((2, 3, 4), -1000, np.int16), geometry)
    ...     volume = read_nifti(f"{folder}/air.nii.gz")
    >>> volume.hu.shape, volume.hu.dtype, int(volume.hu.max()), volume.geometry.spacing_mm[0]
    ((2, 3, 4), dtype('int16'), -1000, 8.0)
    """
    place = at_url(path, storage_options)
    first, second = (None, None) if place else pair_of(as_path(path))
    if first is None or second is not None or not first.name.lower().endswith(".gz"):
        source = load_source(place or path, limit_bytes=limit_bytes)
        return read_nifti_bytes(source.raw, source.name, image=source.image, limit_bytes=limit_bytes)
    # Nothing of the compressed bytes outlives this call, so each thread keeps its buffer for them.
    return read_nifti_bytes(_file_bytes(first, limit_bytes, use="inflating"), str(path), limit_bytes=limit_bytes)


def load_source(path: AnyFile, *, limit_bytes: int = DEFAULT_LIMIT_BYTES, use: str | None = None) -> Source:
    """The bytes of the file or pair at a path or URL, for `read_nifti_bytes` and for hashing.

    With a `use`, those of a single file lie in this thread's buffer for it: see `fastct.kept`.

    Raises
    ------
    FileError
        If there is no such file, it cannot be read, or it is larger than `limit_bytes`.
    """
    place = at_url(path)
    if place is not None:
        return Source(str(place), *fetch(place, limit_bytes))
    first, second = pair_of(as_path(path))
    raw = _file_bytes(first, limit_bytes, use=use)
    return Source(str(path), raw, None if second is None else _file_bytes(second, limit_bytes))


def read_nifti_bytes(
    raw: Bytes,
    name: str,
    *,
    image: Bytes | None = None,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    use: str | None = None,
) -> Volume:
    """`read_nifti` for bytes already in memory: of a whole file, or of .hdr (`raw`) and .img (`image`).

    Plain int16 voxels of bytes that are not compressed are a view of them; `name` is what errors say. With a `use`,
    voxels may lie in this thread's buffer for it: see `fastct.kept`.
    """
    file = np.frombuffer(raw, np.uint8)
    voxels = file if image is None else np.frombuffer(image, np.uint8)
    header = _header_of(file, name, single=image is None)
    _check_limit(header, name, limit_bytes)
    try:
        payload, notes = _inflated(voxels, header.end_bytes, name, use)
        hu, exact, changes = _hu(payload, header)
    except MemoryError as error:
        raise FileError(
            name, f"reading it takes {header.memory_bytes:,} bytes of memory", "Use a machine with more"
        ) from error
    if image is None:
        extensions = payload[len(header.raw) : header.voxels_at].tobytes()
    else:
        extensions = _head(file, MAX_EXTENSION_BYTES, name)[len(header.raw) :]
    return Volume(
        hu.reshape(header.geometry.shape),
        header.geometry,
        header.raw,
        extensions if extensions.strip(b"\0") else b"",
        header.dtype.name,
        header.slope,
        header.inter,
        exact,
        header.notes + notes + changes,
    )


def read_header(path: AnyFile) -> NiftiHeader:
    """Shape, affine and stored type of a file, on this machine or at a URL, from its first bytes alone.

    Raises
    ------
    FileError
        As `read_nifti`, but for what only the voxels can show.
    """
    place = at_url(path)
    if place is not None:
        head, single = fetch_head(place, _FIRST_BYTES)
        return _header_of(head, str(place), single=single)
    first, second = pair_of(as_path(path))
    return _header_of(_file_bytes(first, _FIRST_BYTES, cut=True), str(path), single=second is None)


def read_mask(path: AnyFile, geometry: Geometry, *, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> NDArray[np.uint8]:
    """Read the mask that belongs to a volume: (z, y, x) uint8 of 0 and 1.

    Raises
    ------
    FileError
        As `read_nifti`; if shape or affine (within 1e-3 mm) are not those of `geometry`; if there are
        values other than 0 and 1.
    """
    return mask_of(read_nifti(path, limit_bytes=limit_bytes), path, geometry)


def mask_of(mask: Volume, path: AnyFile, geometry: Geometry) -> NDArray[np.uint8]:
    """`read_mask` for a mask that was read as a volume, from `path`."""
    cure = "Give the mask of this very volume, resampled onto it with nearest neighbours"
    if mask.geometry.shape != geometry.shape:
        raise FileError(path, f"the mask is {mask.geometry.shape}, its volume {geometry.shape}", cure)
    if not mask.geometry.matches(geometry):
        distance_mm = np.abs(mask.geometry.affine - geometry.affine).max()
        raise FileError(path, f"mask and volume have affines that differ by up to {distance_mm:.4g}", cure)
    if not mask.exact or mask.hu.view(np.uint16).max() > 1:
        low, high = int(mask.hu.min()), int(mask.hu.max())
        found = f"whole numbers from {low} to {high}" if mask.exact else "fractions or NaN"
        raise FileError(path, f"the mask holds {found}", "Save it with 0 and 1 only")
    return mask.hu.astype(np.uint8)


def _file_bytes(path: Path, limit_bytes: int, *, cut: bool = False, use: str | None = None) -> NDArray[np.uint8]:
    """The file's bytes, or the first `limit_bytes` of them if `cut`, in a buffer of their own or the one for that use.

    Mapping the file would save a millisecond, and end the process when another cuts the file short.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before opening, which waits for ever on a pipe
            raise FileError(path, "it is a folder or a device", "Give a NIfTI file")
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit_bytes and not cut:
                raise too_large(path, size, limit_bytes)
            size = min(size, limit_bytes)
            raw = np.empty(size, np.uint8) if use is None else kept_bytes(use, size)
            filled = 0
            while filled < raw.size and (count := file.readinto(raw[filled:].data)):
                filled += count
            return raw[:filled]
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        finding = getattr(error, "strerror", None) or str(error)
        raise FileError(path, f"it cannot be read ({finding})", "Check path and permissions") from error


def _header_of(file: NDArray[np.uint8], name: str, *, single: bool) -> NiftiHeader:
    return parse_header(_head(file, _HEAD_BYTES, name), name, single=single)


def _head(file: NDArray[np.uint8], count_bytes: int, name: str) -> bytes:
    """The first bytes of what the file holds, inflated where need be."""
    return inflate_head(file, count_bytes, name) if is_gzip(file) else file[:count_bytes].tobytes()


def _check_limit(header: NiftiHeader, name: str, limit_bytes: int) -> None:
    if header.memory_bytes > limit_bytes:
        raise too_large(name, header.memory_bytes, limit_bytes)


def _inflated(
    file: NDArray[np.uint8], wanted_bytes: int, name: str, use: str | None
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The file's contents up to the last voxel at least, and notes."""
    contents, notes = inflate(file, wanted_bytes, name, use) if is_gzip(file) else (file, ())
    if contents.size < wanted_bytes:
        raise FileError(
            name,
            f"it ends after {contents.size:,} of the {wanted_bytes:,} bytes that its header promises",
            "Get the file again: it is cut off, or its header is damaged",
        )
    surplus = contents.size - wanted_bytes
    return contents, notes + ((f"{surplus} bytes after the last voxel ignored",) if surplus else ())


def _hu(payload: NDArray[np.uint8], header: NiftiHeader) -> tuple[NDArray[np.int16], bool, tuple[str, ...]]:
    """The voxels as flat int16, whether each is what was stored, and what was done."""
    if header.is_plain:
        hu = np.frombuffer(payload, np.int16, header.voxel_count, header.voxels_at)
        return (hu if hu.flags.aligned else hu.copy()), True, ()
    stored = np.frombuffer(payload, header.dtype, header.voxel_count, header.voxels_at)
    hu, rounded, clamped, missing = to_int16(stored, header.slope, header.inter)
    changes = []
    if header.dtype.itemsize > 1 and not header.dtype.isnative:
        changes.append("big-endian bytes swapped")
    if header.dtype.name != "int16":
        changes.append(f"{header.dtype.name} {'rounded' if rounded else 'converted'} to int16")
    if (header.slope, header.inter) != (1.0, 0.0):
        changes.append(f"slope {header.slope:g} and intercept {header.inter:g} applied")
    if clamped:
        changes.append(f"{clamped} voxels clamped to int16")
    if missing:
        changes.append(f"{missing} NaN voxels set to {PADDING_HU}")
    return hu, not (rounded or clamped or missing), tuple(changes)


def to_int16(stored: NDArray[np.generic], slope: float, inter: float) -> tuple[NDArray[np.int16], bool, int, int]:
    """Flat int16 of `stored` * slope + inter; whether one was rounded; how many were clamped, and NaN.

    The arithmetic is nibabel's: float64, or long double where the file holds that.
    """
    hu = np.empty(stored.size, np.int16)
    if (slope, inter) == (1.0, 0.0) and np.can_cast(stored.dtype, np.int16):
        hu[:] = stored
        return hu, False, 0, 0
    rounded, clamped, missing = False, 0, 0
    for start in range(0, stored.size, _SLAB_VOXELS):
        slab = slice(start, start + _SLAB_VOXELS)
        values = _scaled(stored[slab], slope, inter)
        if stored.dtype.kind == "f" and (absent := np.isnan(values)).any():
            missing += int(np.count_nonzero(absent))
            values[absent] = PADDING_HU
        whole = np.rint(values)
        rounded = rounded or not np.array_equal(whole, values)
        if whole.min() < _HU_RANGE[0] or whole.max() > _HU_RANGE[1]:
            clamped += int(np.count_nonzero((whole < _HU_RANGE[0]) | (whole > _HU_RANGE[1])))
            np.clip(whole, *_HU_RANGE, out=whole)
        hu[slab] = whole
    return hu, rounded, clamped, missing


def _scaled(part: NDArray[np.generic], slope: float, inter: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # what leaves the floats is clamped with the rest
        values = part.astype(np.promote_types(part.dtype, np.float64))
        if slope != 1.0:
            values *= slope
        if inter != 0.0:
            values += inter
        return values.astype(np.float64, copy=False)
