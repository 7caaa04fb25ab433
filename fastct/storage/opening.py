"""Which storage a path or URL means."""

import os
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fastct.errors import StoreError
from fastct.storage.bucket import Bucket
from fastct.storage.interface import Storage
from fastct.storage.local import LocalStorage
from fastct.storage.objects import ObjectStorage
from fastct.storage.place import Place, as_place

OBSTORE_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl", "http", "https")
CLIENTS = 32  # kept open, with their connections: a data set has a dozen folders, and each file is asked for thrice


def open_storage(path: str | os.PathLike[str] | Place, storage_options: Mapping[str, Any] | None = None) -> Storage:
    """Storage at a path or URL.

    Parameters
    ----------
    path : a folder; `s3://`, `gs://`, `az://`, `http(s)://` (through obstore, where it is installed); or any other
        URL that fsspec knows.
    storage_options : as obstore or fsspec take them; a local folder needs none and ignores them.

    Raises
    ------
    StoreError
        If the package that the URL takes is not installed.
    OptionError
        If URL and options do not go together.
    """
    place = as_place(path, storage_options)
    if place.is_local:
        return LocalStorage(Path(place.url))
    return ObjectStorage(place, _bucket(place))


@lru_cache(maxsize=CLIENTS)
def _bucket(place: Place) -> Bucket:
    scheme = place.url.partition("://")[0]
    if scheme in OBSTORE_SCHEMES and find_spec("obstore"):
        from fastct.storage.obstore_bucket import ObstoreBucket

        return ObstoreBucket(place)
    if not find_spec("fsspec"):
        wanted = "obstore, or fsspec" if scheme in OBSTORE_SCHEMES else "fsspec"
        finding = f"opening it takes a package that is not installed: {wanted}"
        raise StoreError(place, finding, "In the clone of fastct: pip install -e '.[s3]'")
    from fastct.storage.fsspec_bucket import FsspecBucket

    return FsspecBucket(place)
