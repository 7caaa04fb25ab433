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
    """Facts about what lies at a path.

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


def _describe_store(store: Store) -> dict[str, Any]:
    table, manifest = store.table, store.manifest
    facts = {
        "store": str(store.storage),
        "written by": f"fastct {manifest['fastct']}",
        "settings": ", ".join(f"{name} {value}" for name, value in sorted(manifest["settings"].items())),
        "studies": len(store),
        "status": _counted(row["status"] for row in table),
        "category": _counted(row["category"] for row in table),
        "severity": _counted(row["severity"] for row in table),
        "flags": _counted(flag for row in table for flag in row["flags"].split(";")),
        "columns": len(COLUMNS),
    }
    size_bytes = sum(size for record in store.records for size, _ in record.keys.values())
    return {**facts, "size": f"{size_bytes / MB:.1f} MB"}


def _describe_data_set(folder: Place) -> dict[str, Any]:
    listing = find_studies(folder)
    return {
        "data set": str(listing.root),
        "studies": len(listing.studies),
        "category": _counted(study.category for study in listing.studies),
        "masks": sum(study.mask_path is not None for study in listing.studies),
        "size": f"{sum(study.size_bytes for study in listing.studies) / MB:.1f} MB",
        "missing": len(listing.missing),
        "not in the registry": len(listing.unlisted),
        "masks without a volume": len(listing.orphan_masks),
    }


def _describe_file(file: Place) -> dict[str, Any]:
    header = read_header(file)
    geometry = header.geometry
    return {
        "file": str(file),
        "shape (z, y, x)": " × ".join(str(size) for size in geometry.shape),
        "spacing (z, y, x)": " × ".join(f"{size:g}" for size in geometry.spacing_mm) + " mm",
        "dtype": header.dtype.name,
        "affine": "; ".join(" ".join(f"{value:g}" for value in row) for row in geometry.affine[:3]),
        "size": f"{source_state(file)['size_bytes'] / MB:.1f} MB",
    }


def _counted(values: Any) -> str:
    counts = Counter(value for value in values if value)
    return ", ".join(f"{value} {count}" for value, count in sorted(counts.items())) or "none"
