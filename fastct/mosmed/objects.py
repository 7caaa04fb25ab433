"""Lists the NIfTI files below a URL, by one listing of all objects there."""

from dataclasses import dataclass

from fastct.errors import DataSetError, StoreError
from fastct.mosmed.scan import STORE_MARK, Found, Scan, choose, is_stray, registry_name
from fastct.nifti.names import split_name
from fastct.storage import Place, open_storage


@dataclass(frozen=True)
class _Object:
    name: str
    size_bytes: int


def scan_url(root: Place) -> Scan:
    """Every NIfTI file below a URL; what `scan_folder` passes over, this does too.

    Raises
    ------
    DataSetError
        If `root` is a fastct store, or cannot be listed.
    """
    try:
        sizes = open_storage(root).sizes("")
    except StoreError as error:
        cure = "Check the URL, the network and the storage options"
        raise DataSetError(root, error.finding, cure) from None
    stores = {key.rpartition("/")[0] for key in sizes if key.rpartition("/")[2] == STORE_MARK}
    if "" in stores:
        raise DataSetError(root, "it is a fastct store, not a source", "Use score, report or verify on it")
    notes: list[str] = []
    volumes: dict[tuple[str, str], dict[str, _Object]] = {}
    strays: dict[str, bool] = {}
    for key in sorted(sizes):
        folder, _, name = key.rpartition("/")
        stem, suffix = split_name(name)
        if suffix and not any(_is_stray(part, stores, strays, notes) for part in _parts(key)):
            volumes.setdefault((folder, stem), {}).setdefault(suffix, _Object(name, sizes[key]))
    files = []
    for (folder, stem), variants in volumes.items():
        where = f"{folder}/" if folder else ""
        if chosen := choose(variants, where, notes):
            files.append(Found(where + chosen[0].name, stem, sum(part.size_bytes for part in chosen)))
    registry = registry_name((key for key in sizes if "/" not in key), notes)
    return Scan(
        tuple(sorted(files, key=lambda found: found.source)),
        root / registry if registry else None,
        tuple(notes),
    )


def _parts(key: str) -> list[str]:
    """The key, and every folder on the way to it."""
    parts = key.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _is_stray(path: str, stores: set[str], strays: dict[str, bool], notes: list[str]) -> bool:
    """Whether a path is none of a data set; each is judged, and noted, once."""
    if path not in strays:
        strays[path] = path in stores or is_stray(path.rpartition("/")[2], notes, path)
    return strays[path]
