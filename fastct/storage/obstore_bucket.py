"""Objects through obstore: S3, Google Cloud Storage, Azure and HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from fastct.errors import OptionError
from fastct.storage.bucket import Bucket, ReplacedError
from fastct.storage.interface import ByteRange, Bytes, Status
from fastct.storage.place import Place

OBSTORE_NAMES = {  # of options that s3fs and boto3 call otherwise
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
    "endpoint_url": "endpoint",
    "region_name": "region",
    "anon": "skip_signature",
}
_S3 = ("s3", "s3a")
_MULTIPART_BYTES = 64 << 20  # larger objects go up in parts; they too appear whole
_RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
_CLIENT = {"allow_http": True, "timeout": "120s"}  # plain HTTP is spoken only to a server that is named so


class ObstoreBucket(Bucket):
    """A prefix of an object store."""

    def __init__(self, place: Place) -> None:
        scheme = place.url.partition("://")[0]
        options: Any = obstore_options(place.options) if scheme in _S3 else dict(place.options)
        client: Any = {**_CLIENT, **options.pop("client_options", {})}
        retries: Any = {**_RETRIES, **options.pop("retry_config", {})}
        try:
            self._store = from_url(place.url, client_options=client, retry_config=retries, **options)
        except (BaseError, TypeError, ValueError) as error:
            named = ", ".join(sorted(place.options)) or "none"
            finding = f"obstore cannot open it with the storage options {named} ({type(error).__name__})"
            raise OptionError(place, finding, "Check the URL, and give options that obstore or fsspec know") from None

    def head(self, key: str) -> Status | None:
        """Size and tag of an object, or None when there is none."""
        try:
            return _status(obstore.head(self._store, key))
        except FileNotFoundError:
            return None

    def get(self, key: str, part: ByteRange | None = None, tag: str = "") -> tuple[Bytes, str]:
        """The bytes of an object, or a part of them, and its tag."""
        options: dict[str, Any] = {}
        if part is not None:
            options["range"] = part
        if tag.startswith('"'):  # a strong entity tag, as RFC 9110 has it: others never match
            options["if_match"] = tag
        try:
            answer = obstore.get(self._store, key, options=options)  # type: ignore[arg-type]  # a plain dict
        except PreconditionError:
            raise ReplacedError(key) from None
        found = _status(answer.meta).tag
        if tag not in ("", found):
            raise ReplacedError(key)
        return memoryview(answer.bytes()), found

    def put(self, key: str, payload: Bytes) -> None:
        """Put an object, whole or not at all."""
        obstore.put(self._store, key, payload, use_multipart=len(payload) > _MULTIPART_BYTES)

    def create(self, key: str, payload: Bytes) -> str:
        """Put an object where there is none, and say its tag; an empty one when there is one."""
        try:
            return self._put_if(key, payload, "create")
        except AlreadyExistsError:
            return ""

    def replace(self, key: str, payload: Bytes, tag: str) -> str:
        """Put an object in place of the one of that tag, and say its own; an empty one when that is gone."""
        try:
            return self._put_if(key, payload, {"e_tag": tag})
        except (PreconditionError, AlreadyExistsError, FileNotFoundError):
            return ""

    def _put_if(self, key: str, payload: Bytes, mode: Any) -> str:
        return str(obstore.put(self._store, key, payload, mode=mode, use_multipart=False)["e_tag"])

    def delete(self, keys: Sequence[str]) -> None:
        """Take objects away, if they are there."""
        if keys:
            obstore.delete(self._store, list(keys))

    def walk(self, folder: str) -> Iterator[tuple[str, Status]]:
        """Key and status of every object below a folder."""
        for found in obstore.list(self._store, folder or None, chunk_size=1000):
            for meta in found:
                yield meta["path"], _status(meta)

    def children(self, folder: str) -> list[str]:
        """Names directly inside a folder, of objects and of folders."""
        found = obstore.list_with_delimiter(self._store, folder or None)
        paths = [*found["common_prefixes"], *(meta["path"] for meta in found["objects"])]
        return [path.rstrip("/").rpartition("/")[2] for path in paths]


def obstore_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for S3 under the names that obstore knows; those of s3fs and boto3 are taken too."""
    flat = {**options, **options.get("client_kwargs", {})}
    flat.pop("client_kwargs", None)
    return {OBSTORE_NAMES.get(name, name): value for name, value in flat.items()}


def _status(meta: Any) -> Status:
    return Status(meta["size"], meta["e_tag"] or meta["last_modified"].isoformat())
