"""Objects through fsspec: any URL that it knows, such as memory://, and s3:// where obstore is not installed."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fsspec

from fastct.errors import OptionError
from fastct.storage.bucket import Bucket, ReplacedError
from fastct.storage.interface import ByteRange, Bytes, Status
from fastct.storage.place import Place, plain_message

S3FS_NAMES = {  # of options that obstore calls otherwise
    "access_key_id": "key",
    "secret_access_key": "secret",
    "session_token": "token",
    "endpoint": "endpoint_url",
    "skip_signature": "anon",
}
_IN_THIS_PROCESS = ("memory",)  # protocols whose files no other process sees


class FsspecBucket(Bucket):
    """A folder of a file system of fsspec.

    Most of them cannot put or read on condition: where two writers or a reader and a writer meet, they are told
    apart by looking before and after, which leaves a moment that obstore does not.
    """

    def __init__(self, place: Place) -> None:
        options = s3fs_options(place.options) if place.url.startswith(("s3:", "s3a:")) else dict(place.options)
        try:
            self._files, self._root = fsspec.core.url_to_fs(place.url, **options)
        except (ImportError, ValueError, TypeError, OSError) as error:
            finding = f"fsspec cannot open it ({plain_message(error, place.options)})"
            raise OptionError(
                place, finding, "Check the URL and the storage options, and install what it names"
            ) from None
        protocol = self._files.protocol
        self.is_shared = not {protocol, *protocol} & set(_IN_THIS_PROCESS)

    def head(self, key: str) -> Status | None:
        """Size and tag of an object, or None when there is none."""
        self._files.invalidate_cache()
        try:
            found = self._files.info(self._path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _status(found) if found["type"] == "file" else None

    def get(self, key: str, part: ByteRange | None = None, tag: str = "") -> tuple[Bytes, str]:
        """The bytes of an object, or a part of them, and its tag."""
        before = tag or self._tag(key)
        begin, end = part or (None, None)
        payload = self._files.cat_file(self._path(key), start=begin, end=end)
        if self._tag(key) != before:
            raise ReplacedError(key)
        return payload, before

    def put(self, key: str, payload: Bytes) -> None:
        """Put an object."""
        self._make_folder(key)
        self._files.pipe_file(self._path(key), bytes(payload))

    def create(self, key: str, payload: Bytes) -> str:
        """Put an object where there is none, and say its tag; an empty one when there is one."""
        self._make_folder(key)
        if self.head(key) is not None:
            return ""
        try:
            self._files.pipe_file(self._path(key), bytes(payload), mode="create")
        except FileExistsError:
            return ""
        return self._tag_of(key, payload)

    def replace(self, key: str, payload: Bytes, tag: str) -> str:
        """Put an object in place of the one of that tag, and say its own; an empty one when that is gone."""
        found = self.head(key)
        if found is None or found.tag != tag:
            return ""
        self.put(key, payload)
        return self._tag_of(key, payload)

    def _tag_of(self, key: str, payload: Bytes) -> str:
        """The tag of what was put just now; an empty one where another was quicker to put something else there."""
        found, tag = self.get(key)
        return tag if bytes(found) == bytes(payload) else ""

    def delete(self, keys: Sequence[str]) -> None:
        """Take objects away, if they are there."""
        for key in keys:
            if self.head(key) is not None:
                self._files.rm_file(self._path(key))

    def walk(self, folder: str) -> Iterator[tuple[str, Status]]:
        """Key and status of every object below a folder."""
        self._files.invalidate_cache()
        try:
            found = self._files.find(self._path(folder), detail=True)
        except FileNotFoundError:
            return
        for path, info in sorted(found.items()):
            key = path[len(self._root) :].strip("/")
            if key != folder:
                yield key, _status(info)

    def children(self, folder: str) -> list[str]:
        """Names directly inside a folder, of objects and of folders."""
        self._files.invalidate_cache()
        try:
            found = self._files.ls(self._path(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def _path(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}" if key else str(self._root)

    def _tag(self, key: str) -> str:
        found = self.head(key)
        if found is None:
            raise FileNotFoundError(key)
        return found.tag

    def _make_folder(self, key: str) -> None:
        """Folders come of themselves on object stores, and have to be made on file systems."""
        self._files.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)


def s3fs_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for S3 under the names that s3fs knows; those of obstore are taken too."""
    plain = {name.removeprefix("aws_"): value for name, value in options.items()}
    dropped = ("region", "allow_http", "client_options", "retry_config")
    kept = {S3FS_NAMES.get(name, name): value for name, value in plain.items() if name not in dropped}
    if "region" in plain:
        kept["client_kwargs"] = {"region_name": plain["region"], **kept.get("client_kwargs", {})}
    return kept


def _status(found: Mapping[str, Any]) -> Status:
    """Size and a tag made of all that the file system tells of a file: entity tag, times, version."""
    text = repr(sorted((str(name), str(value)) for name, value in found.items()))
    return Status(int(found["size"]), str(found.get("ETag") or hashlib.sha256(text.encode()).hexdigest()[:16]))
