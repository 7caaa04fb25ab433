"""A study of a store back as NIfTI: voxels and affine as they came."""

from pathlib import Path

from fastct.errors import OptionError
from fastct.nifti import write_nifti
from fastct.store import Study

ENDINGS = (".nii", ".nii.gz")


def export_study(study: Study, file: Path, *, label: str | None = None, overwrite: bool = False) -> None:
    """Write a study's volume, or one of its labels, as NIfTI.

    Parameters
    ----------
    study : of an open store.
    file : `.nii` or `.nii.gz`.
    label : "lung" or "lesion", or None for the volume.
    overwrite : replace the file if it is there.

    Raises
    ------
    OptionError
        If the file has another ending, or is there.
    StoreError
        If the study cannot be read, or has no such label.
    """
    if not file.name.lower().endswith(ENDINGS):
        raise OptionError(file, "its name ends in neither .nii nor .nii.gz", "Give it one of these endings")
    if file.exists() and not overwrite:
        raise OptionError(file, "it is there already", "Give another name, or --overwrite")
    if label is not None:
        write_nifti(file, study.label(label), study.geometry)
        return
    header, extensions = study.source_header()
    write_nifti(file, study.hu, study.geometry, header=header, extensions=extensions)
