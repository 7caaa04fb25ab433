"""Writes volumes and labels as NIfTI: as they came where a header is given, whole or not at all."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import deflate
import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from numpy.typing import NDArray

from fastct.errors import ArrayError, FileError
from fastct.geometry import Geometry
from fastct.nifti.header import HEADER_BYTES, NiftiHeader, nibabel_header, parse_header
from fastct.nifti.names import SINGLE_SUFFIXES, split_name
from fastct.nifti.reading import to_int16

_MAGIC = {1: b"n+1", 2: b"n+2"}  # single files
_LARGEST_NIFTI1_SIZE = 32767  # dim is int16 in NIfTI-1
_MOST_PADDING_BYTES = 4096  # between extensions and voxels, kept when a file comes back
_SAME_AXES_MM = 1e-3  # how far qform, which knows no shear, may be from the affine and still be declared
_COMPRESSION_LEVEL = 1  # of libdeflate; on a chest CT level 6 takes 2.4 times as long to save 3.5 % of size


def write_nifti(
    path: str | os.PathLike[str],
    array: NDArray[np.int16] | NDArray[np.uint8],
    geometry: Geometry,
    *,
    header: bytes | None = None,
    extensions: bytes = b"",
) -> None:
    """Write a volume (int16 HU) or a label (uint8) to a .nii or .nii.gz file, atomically.

    Parameters
    ----------
    path : ends in .nii or .nii.gz; replaced whole once every byte of the new file is on the disk.
    array : (z, y, x) int16 or uint8.
    geometry : of the array; sform and qform are set from it where `header` does not say the same.
    header : `Volume.header` of the file that the volume came from. HU then get back the stored type,
        slope and byte order of that file where they fit exactly (plain int16 otherwise), and the affine
        its very bytes. Labels are uint8 whatever the header says.
    extensions : `Volume.extensions`, to go with `header`.

    The same arguments give the same bytes: no time stamp is written.

    Raises
    ------
    ArrayError
        If the array is not int16 or uint8, or not of the geometry's shape.
    FileError
        If the name does not end in .nii or .nii.gz, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> geometry = Geometry((1, 2, 2), np.eye(4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_nifti(f"{folder}/a.nii", np.zeros((1, 2, 2), np.uint8), geometry)
    ...     Path(f"{folder}/a.nii").stat().st_size
    356
    """
    target = Path(path)
    _, suffix = split_name(target.name)
    if suffix not in SINGLE_SUFFIXES:
        raise FileError(target, "its name ends neither in .nii nor in .nii.gz", "Name it STUDY.nii.gz")
    if array.dtype not in (np.int16, np.uint8) or array.shape != geometry.shape:
        raise ArrayError(
            "array to write",
            f"it is {array.dtype} {array.shape}, wanted int16 or uint8 {geometry.shape}",
            "Give HU as int16, labels as uint8, in the shape of the geometry",
        )
    if header is None:
        head = _new_head(array.dtype, geometry)
        stored: NDArray[np.generic] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    else:
        head, stored = _head_as_it_came(array, geometry, parse_header(header, "header", single=False), extensions)
    contents = b"".join((head, np.ascontiguousarray(stored).data))
    _publish(target, deflate.gzip_compress(contents, _COMPRESSION_LEVEL) if suffix == ".nii.gz" else contents)


def _new_head(dtype: np.dtype, geometry: Geometry) -> bytes:
    """A fresh header, little-endian, and zeros up to its voxels."""
    version = 1 if max(geometry.shape) <= _LARGEST_NIFTI1_SIZE else 2
    header = Nifti1Header(endianness="<") if version == 1 else Nifti2Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    _place(header, geometry)
    return _joined(header, version, b"", 0)


def _head_as_it_came(
    array: NDArray[np.int16] | NDArray[np.uint8], geometry: Geometry, source: NiftiHeader, extensions: bytes
) -> tuple[bytes, NDArray[np.generic]]:
    """The source's header, changed only where array or geometry ask for it, and the voxels to store."""
    header = nibabel_header(source.raw, source.version)
    stored: NDArray[np.generic] | None = None
    if array.dtype == np.int16:
        stored = _as_stored(array.view(np.int16), source)
    if stored is None:
        stored = array.astype(array.dtype.newbyteorder(header.endianness))
        header.set_data_dtype(array.dtype)
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["cal_min"], header["cal_max"] = 0, 0  # a display range for HU hides labels
    if not source.geometry.matches(geometry):
        _place(header, geometry)
    return _joined(header, source.version, extensions, source.voxels_at), stored


def _as_stored(hu: NDArray[np.int16], source: NiftiHeader) -> NDArray[np.generic] | None:
    """The values that the source's type, slope and intercept turn into these HU, or None."""
    flat = np.ascontiguousarray(hu).reshape(-1)
    if source.is_plain:
        return flat
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit fails the comparison below
        values = (flat - source.inter) / source.slope
        if source.dtype.kind in "iu":
            limits = np.iinfo(source.dtype)
            values = np.clip(np.rint(values), limits.min, limits.max)
        stored = values.astype(source.dtype)
    again, *_ = to_int16(stored, source.slope, source.inter)
    return stored if np.array_equal(again, flat) else None


def _place(header: Nifti1Header, geometry: Geometry) -> None:
    """Shape, sform, qform, spacing and millimetres."""
    header.set_data_shape(geometry.shape[::-1])
    header.set_sform(geometry.affine, code="scanner")
    header.set_qform(geometry.affine, code="scanner", strip_shears=True)
    if np.abs(header.get_qform() - geometry.affine).max() > _SAME_AXES_MM:
        header["qform_code"] = 0
    header.set_xyzt_units("mm", "sec")


def _joined(header: Nifti1Header, version: int, extensions: bytes, voxels_at: int) -> bytes:
    """Header, extensions (or the four zero bytes that deny them) and zeros up to the voxels."""
    least = HEADER_BYTES[version] + max(4, len(extensions))
    first = -(-least // 16) * 16  # SPM maps the voxels, from 16-byte boundaries
    offset = voxels_at if least <= voxels_at <= first + _MOST_PADDING_BYTES else first
    header["vox_offset"] = offset
    header["magic"] = _MAGIC[version]
    return bytes((header.binaryblock + extensions).ljust(offset, b"\0"))


def _publish(target: Path, contents: bytes | bytearray) -> None:
    """Write in a folder of our own beside the target, sync, and rename: a reader sees the old file or the new one.

    What a writer that was killed has left there, the next one takes up.
    """
    name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    try:
        with _locked_folder(target.with_name(f".{name}.part")) as folder:
            try:
                with (folder / "part").open("wb") as file:
                    file.write(contents)
                    file.flush()
                    os.fsync(file.fileno())
                (folder / "part").replace(target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        _sync_folder(target.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        finding = getattr(error, "strerror", None) or str(error)
        there = target.parent.is_dir()
        cure = "Check space and permissions" if there else f"Make the folder {target.parent} first"
        raise FileError(target, f"it cannot be written ({finding})", cure) from error


@contextmanager
def _locked_folder(path: Path) -> Iterator[Path]:
    """A folder that nobody else may look into, once no other writer has it."""
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # its last writer has just removed it
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _stands(path, descriptor):
                yield path
                return
        finally:
            os.close(descriptor)


def _stands(path: Path, descriptor: int) -> bool:
    """Whether a folder that was opened is still the one at its path."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat(follow_symlinks=False))
    return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
