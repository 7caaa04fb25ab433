"""Where files lie, by path or URL, and how to speak of it without giving its secrets away."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_SAFE_OPTIONS = (  # options that tell where something is, and open nothing
    "account_name",
    "bucket",
    "endpoint",
    "endpoint_url",
    "project",
    "region",
    "region_name",
)
_SHORTEST_SECRET = 4  # characters; blotting out shorter ones would only spoil messages
_USER = re.compile(r"(?<=://)[^/\s]*@")  # user:password@ of a URL
_QUERY = re.compile(r"(?<=\S)\?[^\s\"'<>]+")  # where signed URLs keep their signature
_MESSAGE = re.compile(r"<Code>(.*?)</Code>.*?<Message>(.*?)</Message>", re.DOTALL)  # of S3's and Azure's answers
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Place:
    """A path or URL, and the options that opening it takes, which no text ever shows.

    Parameters
    ----------
    url : path or URL; as text, without user names and signatures.
    options : as obstore or fsspec take them.
    """

    url: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.url if self.is_local else without_credentials(self.url)

    def __repr__(self) -> str:
        return f"Place({str(self)!r})"

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return is_local(self.url)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return str(self).rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> "Place":
        """The folder that it lies in."""
        return Place(self.url.rstrip("/").rpartition("/")[0], self.options)

    def __truediv__(self, key: str) -> "Place":
        """What lies under a key of this folder."""
        return Place(f"{self.url.rstrip('/')}/{key}", self.options)


def as_place(path: "str | os.PathLike[str] | Place", options: Mapping[str, Any] | None = None) -> Place:
    """The place of a path or URL; local paths lose `file://` and become absolute."""
    if isinstance(path, Place):
        return path
    text = os.fspath(path)
    if is_local(text):
        return Place(str(Path(_SCHEME_OF_FILES.sub("", text)).absolute()))
    return Place(text, dict(options or {}))


_SCHEME_OF_FILES = re.compile(r"^(file|local)://")


def is_local(text: str) -> bool:
    """Whether a text is a path of this machine, or a `file://` URL."""
    return "://" not in text or _SCHEME_OF_FILES.match(text) is not None


def without_credentials(url: str) -> str:
    """A URL without the user and the query that it may carry."""
    return _QUERY.sub("", _USER.sub("", url))


def plain_message(error: BaseException, options: Mapping[str, Any]) -> str:
    """What an error says, in one line, without a secret that the options or a URL hold."""
    text = str(error).partition("\n\nDebug source")[0]
    if answer := _MESSAGE.search(text):
        text = f"{answer[1]}: {answer[2]}"
    text = without_credentials(" ".join(text.split()))
    for secret in sorted(_secrets(options), key=len, reverse=True):
        text = text.replace(secret, "…")
    return text[:_LONGEST_MESSAGE] or type(error).__name__


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    """Every text of the options that could be a secret."""
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) >= _SHORTEST_SECRET:
            if name.lower().removeprefix("aws_") in _SAFE_OPTIONS:
                yield from (user[:-1] for user in _USER.findall(value) if len(user) > _SHORTEST_SECRET)
            else:
                yield value
