"""Names of NIfTI files: stems, suffixes, and which two files make a pair."""

from collections.abc import Callable
from pathlib import Path

from fastct.errors import FileError

SINGLE_SUFFIXES = (".nii.gz", ".nii")  # the one to take first where both are there
HEADER_SUFFIXES = (".hdr", ".hdr.gz")
IMAGE_SUFFIXES = (".img", ".img.gz")
_LONGEST_FIRST = sorted((*SINGLE_SUFFIXES, *HEADER_SUFFIXES, *IMAGE_SUFFIXES), key=len, reverse=True)


def split_name(name: str) -> tuple[str, str]:
    """Stem and suffix, the suffix in small letters; an empty suffix when this is no name of a NIfTI file.

    Examples
    --------
    >>> split_name("study_0001.NII.GZ")
    ('study_0001', '.nii.gz')
    """
    lower = name.lower()
    for suffix in _LONGEST_FIRST:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], suffix
    return name, ""


def pair_of(path: Path) -> tuple[Path, Path | None]:
    """The file itself and None, or the header and the image of the pair that `path` belongs to.

    Raises
    ------
    FileError
        If the name ends like neither, or half of the pair is missing.
    """
    first, second = pair_names(path.name, lambda name: path.with_name(name).exists(), path)
    return (
        path if first == path.name else path.with_name(first),
        None if second is None else path.with_name(second),
    )


def pair_names(name: str, exists: Callable[[str], bool], where: object) -> tuple[str, str | None]:
    """As `pair_of`, of names in one folder; `where` is what errors say."""
    stem, suffix = split_name(name)
    if suffix in SINGLE_SUFFIXES:
        return name, None
    if suffix in HEADER_SUFFIXES:
        return name, _partner(stem, IMAGE_SUFFIXES, exists, where)
    if suffix in IMAGE_SUFFIXES:
        return _partner(stem, HEADER_SUFFIXES, exists, where), name
    raise FileError(where, "its name ends neither in .nii, .nii.gz, .hdr nor .img", "Give a NIfTI file")


def _partner(stem: str, suffixes: tuple[str, ...], exists: Callable[[str], bool], where: object) -> str:
    for suffix in (*suffixes, *map(str.upper, suffixes)):
        if exists(stem + suffix):
            return stem + suffix
    raise FileError(where, f"{stem}{suffixes[0]}, its other half, is missing", "Put both side by side")
