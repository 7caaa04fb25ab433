"""Documents and pages that bear the checksum of their own bytes: whoever reads one knows that none has changed."""

import json
from collections.abc import Mapping
from typing import Any

from fastct._ext.shard import crc32c

SCHEMA = 2  # raised whenever a document of a store changes its form
_HEAD = '{{"crc32c": "{:08x}",\n'
_HEAD_BYTES = len(_HEAD.format(0))
_FOOT = "<!-- crc32c {:08x} -->\n"
_FOOT_BYTES = len(_FOOT.format(0))


def seal(body: Mapping[str, Any]) -> bytes:
    """A JSON document that opens with the CRC-32C of all bytes behind it; its schema, then the body, by key.

    Examples
    --------
    >>> print(seal({"codec": "ctpack"}).decode(), end="")
    {"crc32c": "601ebd4e",
     "codec": "ctpack",
     "schema": 2
    }
    """
    members = sorted({"schema": SCHEMA, **body}.items())  # a line each: with an indent, json leaves its encoder in C
    lines = [f" {json.dumps(name)}: {json.dumps(member, sort_keys=True)}" for name, member in members]
    rest = (",\n".join(lines) + "\n}\n").encode()
    return _HEAD.format(crc32c(rest)).encode() + rest


def unseal(text: bytes) -> dict[str, Any]:
    """The body of a sealed document.

    Raises
    ------
    ValueError
        If it is none, or of another schema, or a bit of it has changed.

    Examples
    --------
    >>> unseal(seal({"codec": "ctpack"}))
    {'codec': 'ctpack'}
    """
    document = parsed(text)
    schema, sealed = document.pop("schema", None), document.pop("crc32c", None)
    if schema != SCHEMA:
        raise ValueError(f"its schema is {schema!r:.40}, this fastct reads {SCHEMA}")
    if sealed is None or text[:_HEAD_BYTES] != _HEAD.format(crc32c(text[_HEAD_BYTES:])).encode():
        raise ValueError("its checksum does not match its bytes")
    return document


def parsed(text: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises
    ------
    ValueError
        If the text is anything else.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    return document


def seal_page(page: str) -> bytes:
    """An HTML page that ends with a comment: the CRC-32C of all bytes before it."""
    text = page.encode()
    return text + _FOOT.format(crc32c(text)).encode()


def check_page(page: bytes) -> None:
    """Raise ValueError unless a page is as `seal_page` made it."""
    if page[-_FOOT_BYTES:] != _FOOT.format(crc32c(page[:-_FOOT_BYTES])).encode():
        raise ValueError("its checksum does not match its bytes")
