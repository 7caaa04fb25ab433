"""Names of NIfTI files: stems, suffixes, and which two files make a pair."""

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
    stem, suffix = split_name(path.name)
    if suffix in SINGLE_SUFFIXES:
        return path, None
    if suffix in HEADER_SUFFIXES:
        return path, _partner(path, stem, IMAGE_SUFFIXES)
    if suffix in IMAGE_SUFFIXES:
        return _partner(path, stem, HEADER_SUFFIXES), path
    raise FileError(path, "its name ends neither in .nii, .nii.gz, .hdr nor .img", "Give a NIfTI file")


def _partner(path: Path, stem: str, suffixes: tuple[str, ...]) -> Path:
    for suffix in (*suffixes, *map(str.upper, suffixes)):
        partner = path.with_name(stem + suffix)
        if partner.exists():
            return partner
    raise FileError(path, f"{stem}{suffixes[0]}, its other half, is missing", "Put both side by side")
