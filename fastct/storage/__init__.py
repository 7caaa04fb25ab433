"""Where the bytes of a store or a source lie: a local folder, an object store, or whatever fsspec reaches."""

from fastct.storage.interface import CLAIMS, STAGING, WORK, ByteRange, Bytes, Claim, Status, Storage
from fastct.storage.local import LocalStorage
from fastct.storage.opening import open_storage
from fastct.storage.place import Place, as_place

__all__ = [
    "CLAIMS",
    "STAGING",
    "WORK",
    "ByteRange",
    "Bytes",
    "Claim",
    "LocalStorage",
    "Place",
    "Status",
    "Storage",
    "as_place",
    "open_storage",
]
