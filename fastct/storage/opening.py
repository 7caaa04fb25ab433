"""Which storage a path or URL means."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastct.errors import NotReadyError
from fastct.storage.interface import Storage
from fastct.storage.local import LocalStorage


def open_storage(path: str | os.PathLike[str], storage_options: Mapping[str, Any] | None = None) -> Storage:
    """Storage at a path or URL.

    Raises
    ------
    NotReadyError
        For URLs other than `file://`.
    """
    text = os.fspath(path)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        raise NotReadyError(text, "stores on object stores wait for issue 3", "Give a local folder")
    if storage_options:
        raise NotReadyError(text, "storage options wait for issue 3", "Give none for a local folder")
    return LocalStorage(Path(text))
