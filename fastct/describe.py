"""What a store, a data set or one file holds, in a few lines."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastct.mosmed import find_studies
from fastct.nifti import read_header, source_state
from fastct.nifti.names import split_name
from fastct.records import COLUMNS
from fastct.storage import Place, as_place, open_storage
from fastct.store import MANIFEST, Store
from fastct.store import open as open_store

MB = 1e6


def describe(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Facts about what lies at a path, as values that JSON holds; `as_lines` puts them into words.

    Parameters
    ----------
    path : a store, a folder of volumes, or one NIfTI file; a path or a URL.
    storage_options : what opening a URL takes.

    Raises
    ------
    DataSetError, FileError, StoreError
        If it is none of these.
    """
    place = as_place(path, storage_options)
    if open_storage(place).exists(MANIFEST):
        return _describe_store(open_store(path, storage_options))
    if Path(place.url).is_file() or (not place.is_local and split_name(place.name)[1]):
        return _describe_file(place)
    return _describe_data_set(place)


def as_lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """The same facts as a person reads them.

    >>> as_lines({"flags": {"lung_cut": 2, "hu_floor": 1}, "size_bytes": 10_600_000})
    {'flags': 'lung_cut 2, hu_floor 1', 'size': '10.6 MB'}
    """
    return dict(_line(name, value) for name, value in facts.items())


def _line(name: str, value: Any) -> tuple[str, str]:
    match name:
        case "size_bytes":
            return "size", f"{value / MB:.1f} MB" if value >= MB / 10 else f"{value / 1000:.1f} kB"
        case "shape":
            return "shape (z, y, x)", " × ".join(map(str, value))
        case "spacing_mm":
            return "spacing (z, y, x)", " × ".join(f"{size:g}" for size in value) + " mm"
        case "affine":
            return name, "; ".join(" ".join(f"{number:g}" for number in row) for row in value[:3])
    if isinstance(value, Mapping):
        value = ", ".join(f"{word} {count}" for word, count in value.items()) or "none"
    elif isinstance(value, list):
        value = "; ".join(value) or "none"
    return name.replace("_", " "), str(value)


def _describe_store(store: Store) -> dict[str, Any]:
    table, manifest = store.table, store.manifest
    return {
        "store": str(store.storage),
        "written_by": f"fastct {manifest['fastct']}",
        "settings": dict(sorted(manifest["settings"].items())),
        "studies": len(store),
        "status": _counted(row["status"] for row in table),
        "category": _counted(row["category"] for row in table),
        "severity": _counted(row["severity"] for row in table),
        "flags": _counted(flag for row in table for flag in row["flags"].split(";")),
        "columns": len(COLUMNS),
        "size_bytes": sum(size for record in store.records for size, _ in record.keys.values()),
    }


def _describe_data_set(folder: Place) -> dict[str, Any]:
    listing = find_studies(folder)
    return {
        "data_set": str(listing.root),
        "studies": len(listing.studies),
        "category": _counted(study.category for study in listing.studies),
        "masks": sum(study.mask_path is not None for study in listing.studies),
        "size_bytes": sum(study.size_bytes for study in listing.studies),
        "missing": len(listing.missing),
        "not_in_the_registry": len(listing.unlisted),
        "masks_without_a_volume": len(listing.orphan_masks),
        "notes": list(listing.notes),
    }


def _describe_file(file: Place) -> dict[str, Any]:
    header = read_header(file)
    return {
        "file": str(file),
        "shape": header.geometry.shape,
        "spacing_mm": header.geometry.spacing_mm,
        "dtype": header.dtype.name,
        "affine": header.geometry.affine.tolist(),
        "size_bytes": source_state(file)["size_bytes"],
        "notes": list(header.notes),
    }


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(value for value in values if value).items()))
