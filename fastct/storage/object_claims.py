"""Claims on object stores: an object that only one can create, and that its owner keeps changing while he lives.

The rule: an owner puts the claim anew every `BEAT_S`. He counts as dead when his claim has not changed for `SILENT_S`
by the watcher's own clock (no two clocks are ever compared), and on his own machine as soon as his process is no more.
A dead owner's claim is replaced if it is still the same object, so that only one takes it over. Answers may be lost:
a claim is its owner's as long as it bears his name, whatever its tag.
"""

import json
import os
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from fastct.storage.bucket import Bucket
from fastct.storage.interface import Claim
from fastct.storage.processes import is_alive, machine, started

BEAT_S = 10.0
SILENT_S = 60.0  # six beats: a server that answers late is no death
Watched = dict[str, tuple[str, float]]
Told = Callable[[], AbstractContextManager[None]]


class ObjectClaim(Claim):
    """An object that says whose the work is; a thread keeps it fresh."""

    def __init__(self, bucket: Bucket, key: str, text: dict[str, Any], tag: str, told: Told) -> None:
        super().__init__()
        self._bucket, self._key, self._text, self._tag, self._told = bucket, key, text, tag, told
        self._released, self._lost = threading.Event(), False
        self._beat = threading.Thread(target=self._keep_fresh, name=f"claim {key}", daemon=True)
        self._beat.start()

    @property
    def is_held(self) -> bool:
        """Whether it was neither given back nor taken over by another."""
        return super().is_held and not self._lost

    def _give_back(self) -> None:
        """Take the object away, unless another owner has taken it over."""
        self._released.set()
        self._beat.join()
        with self._told():
            if self._own_tag():
                self._bucket.delete([self._key])

    def _keep_fresh(self) -> None:
        beat = 0
        while not self._released.wait(BEAT_S):
            beat += 1
            payload = _bytes({**self._text, "beat": beat})
            try:
                tag = self._bucket.replace(self._key, payload, self._tag) or self._own_tag()
            except Exception:  # noqa: BLE001, S112  a missed beat does no harm, and the next may be heard
                continue
            if not tag:
                self._lost = True  # to one who thought us dead: the claim is his
                return
            self._tag = tag

    def _own_tag(self) -> str:
        """The tag of the claim as it lies there; an empty one where it is not ours any more."""
        try:
            found, tag = self._bucket.get(self._key)
        except FileNotFoundError:
            return ""
        return tag if _name(bytes(found)) == self._text["id"] else ""


def claim_object(bucket: Bucket, key: str, watched: Watched, told: Told) -> Claim | None:
    """Claim a key: None while another, who lives, has it. `watched` is kept from call to call; `told` turns what
    goes wrong as the claim is given back into errors that may be shown."""
    text = {"owner": _owner(), "id": uuid.uuid4().hex, "beat": 0}
    payload = _bytes(text)
    tag = bucket.create(key, payload)
    if not tag:
        try:
            found, old_tag = bucket.get(key)
        except FileNotFoundError:
            return None  # given back at this moment: the next try may have it
        if bytes(found) == payload:
            tag = old_tag  # ours: the answer to our first try was lost, and the client tried again
        elif _is_dead(bytes(found), old_tag, key, watched):
            tag = bucket.replace(key, payload, old_tag)
    return ObjectClaim(bucket, key, text, tag, told) if tag else None


def _bytes(text: dict[str, Any]) -> bytes:
    return json.dumps(text).encode()


def _name(found: bytes) -> object:
    """What tells a claim from every other."""
    try:
        return json.loads(found)["id"]
    except (ValueError, KeyError, TypeError):
        return None


def _owner() -> dict[str, Any]:
    """This process: its machine, its number there, and when it started."""
    return {"machine": machine(), "process": os.getpid(), "started": started(os.getpid())}


def _is_dead(found: bytes, tag: str, key: str, watched: Watched) -> bool:
    last_tag, since = watched.get(key, ("", 0.0))
    if last_tag != tag:
        watched[key] = (tag, monotonic())
    try:
        owner = json.loads(found)["owner"]
        if owner["machine"] == machine() and not is_alive(int(owner["process"]), str(owner["started"])):
            return True
    except (ValueError, KeyError, TypeError):
        pass  # no claim of ours: it dies by its silence
    return last_tag == tag and monotonic() - since > SILENT_S
