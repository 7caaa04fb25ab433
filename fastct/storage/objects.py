"""Storage on an object store: single objects are put whole, so the order of the puts makes a study whole.

What is promised, to readers and writers of fastct, wherever putting one object is atomic and seen at once (S3,
Google Cloud Storage, Azure):

1. A study is there when its root `zarr.json` is. It is put last, and only where none stands (if-none-match).
2. To replace a study, its root document goes first: nobody finds the study until the new one is whole. A writer
   that dies in between leaves objects without a root, which nobody sees and the next run replaces.
3. The root document names size and checksum of every array's shard, and stands only while these shards do. Who
   finds the same root before and after he opened a shard (`fastct.store` looks) has the right one; from then on
   he asks for ranges of that very object (if-match), and gets an error, never a part of another one.
4. One run at a time works on a study: it claims it first (`fastct.storage.object_claims`). Should a claim be taken
   from one who was only held up for long, both put the same bytes, unless their settings differ: then the root that
   stands first stays, the later writer fails, and the next run finds the sizes wrong and puts the study anew.
5. Readers other than fastct that keep an old root document through a replacement are not protected: they should
   open the study again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cached_property, partial

from fastct.errors import FastctError, StoreError
from fastct.storage.bucket import Bucket, ReplacedError
from fastct.storage.interface import CLAIMS, Answer, ByteRange, Bytes, Claim, Item, Status, Storage
from fastct.storage.object_claims import claim_object
from fastct.storage.place import Place, plain_message

THREADS = 8  # requests of one process at a time: enough to hide the latency of one, and no burden to a server
ROOT = "zarr.json"
_READ_CURE = "Check the address, the network and the storage options"
_WRITE_CURE = "Check address, rights and room, then run the same command"


class ObjectStorage(Storage):
    """A prefix of an object store; see this module for what is promised."""

    is_local = False

    def __init__(self, place: Place, bucket: Bucket) -> None:
        self.place, self.bucket = place, bucket
        self._watched: dict[str, tuple[str, float]] = {}  # claims of other machines: last tag, and when it changed

    def __reduce__(self) -> tuple[Callable[[Place], Storage], tuple[Place]]:
        from fastct.storage.opening import open_storage

        return open_storage, (self.place,)

    @property
    def is_shared(self) -> bool:  # type: ignore[override]  # a constant of the other kinds
        """Whether other processes see the same objects."""
        return self.bucket.is_shared

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""
        with self._reading(key):
            return self.bucket.head(key) is not None

    def status(self, key: str) -> Status:
        """Size and tag of the object under a key."""
        with self._reading(key):
            found = self.bucket.head(key)
        if found is None:
            raise self._missing(key)
        return found

    def sizes(self, folder: str) -> dict[str, int]:
        """Size in bytes of every object below a folder, by key."""
        with self._reading(folder):
            return {key: status.size_bytes for key, status in self.bucket.walk(folder)}

    def names(self, folder: str) -> Iterator[str]:
        """Names directly inside a folder."""
        with self._reading(folder):
            found = self.bucket.children(folder)
        return iter(found)

    def groups(self, folder: str) -> Iterator[str]:
        """Names of the folders directly inside a folder whose root document is there."""
        depth = folder.count("/") + 3 if folder else 2
        for key in self.sizes(folder):
            parts = key.split("/")
            if len(parts) == depth and parts[-1] == ROOT:
                yield parts[-2]

    def read(self, key: str) -> bytes:
        """The bytes under a key."""
        return self.read_tagged(key)[0]

    def find(self, key: str) -> bytes | None:
        """The bytes under a key, or None where there is nothing."""
        with self._reading(key):
            try:
                return bytes(self.bucket.get(key)[0])
            except FileNotFoundError:
                return None

    def read_tagged(self, key: str) -> tuple[bytes, str]:
        """The bytes under a key, and the tag of the object that they came from."""
        with self._reading(key):
            payload, tag = self.bucket.get(key)
        return bytes(payload), tag

    def view(self, key: str) -> Bytes:
        """The bytes under a key, fetched whole."""
        with self._reading(key):
            return self.bucket.get(key)[0]

    def read_range(self, key: str, begin: int, end: int) -> tuple[Bytes, str]:
        """The bytes from `begin` to `end` under a key, and the tag of the object that they came from."""
        with self._reading(key):
            return self.bucket.get(key, (begin, end))

    def read_ranges(self, key: str, ranges: Sequence[ByteRange], tag: str) -> list[Bytes]:
        """Several parts of the object of that tag, fetched side by side."""
        with self._reading(key):
            return self.side_by_side(lambda part: self.bucket.get(key, part, tag)[0], ranges)

    def write(self, key: str, payload: Bytes) -> None:
        """Put bytes under a key."""
        with self._writing(key):
            self.bucket.put(key, payload)

    def publish(self, folder: str, files: Mapping[str, Bytes]) -> None:
        """Put a folder in place of what stood there: the old root document goes first, the new one comes last."""
        new = {f"{folder}/{key}": payload for key, payload in files.items()}
        root = f"{folder}/{ROOT}"
        with self._writing(folder):
            old = {key for key, _ in self.bucket.walk(folder)}
            self.bucket.delete([root] if root in old else [])
            for rank in _ranks(new, root):
                self.side_by_side(lambda key: self.bucket.put(key, new[key]), rank)
            self.bucket.delete(sorted(old - set(new) - {root}))
            if not self.bucket.create(root, new[root]) and bytes(self.bucket.get(root)[0]) != bytes(new[root]):
                finding = "another run has put a different study there at the same moment"
                raise StoreError(self.location(folder), finding, "Run the same command again, with the same settings")

    def remove(self, key: str) -> None:
        """Take an object and all that lies below it away."""
        with self._writing(key):
            self.bucket.delete([key, *(below for below, _ in self.bucket.walk(key))])

    def sweep(self) -> None:
        """Give back what processes of this machine that are no more had claimed."""
        for key in list(self.keys(CLAIMS)):
            if claim := self.claim(key.removeprefix(f"{CLAIMS}/")):
                claim.release()

    def claim(self, name: str) -> Claim | None:
        """The right to work on what has that name: an object that only one can create."""
        key = f"{CLAIMS}/{name}"
        with self._writing(key):
            return claim_object(self.bucket, key, self._watched, partial(self._writing, key))

    def side_by_side(self, ask: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
        """The answer for each item, asked for at the same time."""
        if len(items) <= 1 or not self.bucket.is_shared:
            return [ask(item) for item in items]
        asked = [self._pool.submit(ask, item) for item in items]
        try:
            return [future.result() for future in asked]
        finally:  # none is on its way any more when this ends: it could overwrite what is put next
            for future in asked:
                future.cancel()
            wait(asked)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS, "fastct-storage")

    @contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        with self._told(key, "read", _READ_CURE):
            try:
                yield
            except FileNotFoundError:
                raise self._missing(key) from None

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        with self._told(key, "written", _WRITE_CURE):
            yield

    @contextmanager
    def _told(self, key: str, doing: str, cure: str) -> Iterator[None]:
        """Turn whatever a client lets out into a StoreError without secrets, and without the error that has them."""
        try:
            yield
        except FastctError:
            raise
        except ReplacedError:
            finding = "it was replaced while it was read"
            raise StoreError(self.location(key), finding, "Open the study again") from None
        except Exception as error:  # noqa: BLE001  clients let out errors of many kinds, and some tell secrets
            finding = f"it cannot be {doing} ({plain_message(error, self.place.options)})"
            raise StoreError(self.location(key), finding, cure) from None

    def _missing(self, key: str) -> StoreError:
        return StoreError(self.location(key), "there is no such object", "Run `fastct verify` on the store")


def _ranks(keys: Iterable[str], root: str) -> list[list[str]]:
    """Keys but the root, in the order in which they are put: voxels, then documents from the deepest up."""
    ranks: dict[int, list[str]] = {}
    for key in keys:
        if key != root:
            rank = -key.count("/") if key.endswith(f"/{ROOT}") else -(10**6)
            ranks.setdefault(rank, []).append(key)
    return [ranks[rank] for rank in sorted(ranks)]
