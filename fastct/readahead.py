"""Threads that read ahead: they fill batches in a ring of buffers, which come out in order, faults among them."""

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Condition, Thread, current_thread
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastct.errors import FastctError, WorkerError
from fastct.geometry import Shape

WATCH_S = 0.5  # how often a batch that does not come makes us look whether its readers live
Arrays = dict[str, NDArray[Any]]


@dataclass(eq=False)
class Batch:
    """A batch on its way: which samples, the arrays that they are read into, what is known of each."""

    samples: Sequence[int]
    arrays: Arrays
    known: list[Any]
    started: int = 0
    finished: int = 0
    fault: BaseException | None = None


class Ring:
    """Arrays of batches that are used again as soon as nobody refers to them any more.

    A batch is whoever's holds it: its memory is reused only once the arrays, and all views and tensors of them, are
    gone. So a loop reuses the same few buffers, and a list of batches is safe.
    """

    def __init__(self, rows: int, kinds: dict[str, DTypeLike]) -> None:
        self._rows, self._kinds = rows, kinds
        self._buffers: list[tuple[Shape, Arrays]] = []

    def take(self, shape: Shape, n: int) -> Arrays:
        """Arrays (n, 1, z, y, x) of each kind: views of a buffer that nobody else refers to."""
        for own_shape, buffer in self._buffers:
            if own_shape == shape and self._is_idle(buffer):
                return {name: array[:n] for name, array in buffer.items()}
        self._buffers = [(own, buffer) for own, buffer in self._buffers if own == shape or not self._is_idle(buffer)]
        buffer = {name: np.empty((self._rows, 1, *shape), dtype) for name, dtype in self._kinds.items()}
        for array in buffer.values():
            array.fill(0)  # touches its pages here and not in the midst of a batch
        self._buffers.append((shape, buffer))
        return {name: array[:n] for name, array in buffer.items()}

    def _is_idle(self, buffer: Arrays) -> bool:
        """Whether only this ring refers to the arrays: each view of NumPy, and each tensor, counts as one more."""
        return all(_references(buffer, name) == _UNSHARED for name in buffer)


def _references(arrays: Arrays, name: str) -> int:
    return sys.getrefcount(arrays[name])


_UNSHARED = _references({"": np.empty(0)}, "")


class Source(Protocol):
    """What is read ahead: samples by number, from any thread."""

    def shape_of(self, sample: int) -> Shape:
        """Shape (z, y, x) of a sample."""

    def read(self, sample: int, arrays: Arrays, row: int) -> Any:
        """Read a sample into a row of its batch's arrays; return what else is known of it."""

    def name(self, sample: int) -> str:
        """What an error calls a sample."""


class ReadAhead:
    """Reader threads of one pass over some batches.

    Parameters
    ----------
    batches : numbers of the samples of each batch, in order.
    source : what is read.
    ring : where batches are read into.
    threads : how many.
    ahead : batches that may be begun before the one that is waited for is taken.
    """

    def __init__(self, batches: Sequence[Sequence[int]], source: Source, ring: Ring, threads: int, ahead: int) -> None:
        self._todo = deque(batches)
        self._source, self._ring, self._ahead = source, ring, ahead
        self._begun: deque[Batch] = deque()
        self._changed = Condition()  # reentrant: the garbage collector may close it in the midst of its work
        self._closed = False
        self._fault: BaseException | None = None
        self._holding: dict[Thread, int] = {}
        self._left: set[Thread] = set()
        self._threads = [Thread(target=self._work, name=f"fastct-reader-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def take(self) -> Batch | None:
        """The next batch, once it is read; None after the last one.

        Raises
        ------
        Exception
            What reading it raised; the same again on every further call.
        WorkerError
            If a thread has ended before its work.
        """
        with self._changed:
            while True:
                if self._fault is not None:
                    raise self._fault
                if not self._begun and (self._closed or not self._todo):
                    return None
                head = self._begun[0] if self._begun else None
                if head is not None and head.fault is not None:
                    self._fail(head.fault)
                elif head is not None and head.finished == len(head.samples):
                    self._begun.popleft()
                    self._changed.notify_all()
                    return head
                elif not self._find_the_dead():
                    self._changed.wait(WATCH_S)

    def close(self) -> None:
        """Have the threads end after the sample that each one reads."""
        with self._changed:
            self._closed = True
            self._todo.clear()
            self._begun.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until all threads have ended."""
        for thread in self._threads:
            thread.join()

    def _fail(self, fault: BaseException) -> None:
        self.close()
        self._fault = fault

    def _find_the_dead(self) -> bool:
        """Whether a thread is no more that had work to do, which is a fault."""
        for thread in self._threads:
            if not thread.is_alive() and thread not in self._left:
                held = self._holding.get(thread)
                subject = "a reader thread" if held is None else f"the reader thread of {self._source.name(held)}"
                self._fail(WorkerError(subject, "it ended before its work was done", "Start the epoch again"))
                return True
        return False

    def _work(self) -> None:
        thread = current_thread()
        while (task := self._next_task(thread)) is not None:
            batch, row = task
            try:
                batch.known[row] = self._source.read(batch.samples[row], batch.arrays, row)
            except BaseException as error:  # noqa: BLE001 -- whatever it is, the training loop is told
                self._report(batch, error, batch.samples[row])
                return
            with self._changed:
                batch.finished += 1
                del self._holding[thread]
                if batch.finished == len(batch.samples):
                    self._changed.notify_all()

    def _next_task(self, thread: Thread) -> tuple[Batch, int] | None:
        with self._changed:
            while True:
                batch = self._open_batch()
                if batch is not None:
                    self._holding[thread] = batch.samples[batch.started]
                    batch.started += 1
                    return batch, batch.started - 1
                if not self._todo or any(begun.fault for begun in self._begun):
                    self._left.add(thread)
                    return None
                self._changed.wait()

    def _open_batch(self) -> Batch | None:
        """A batch that has samples left to read, begun if need be; None while there is no room for one."""
        if any(begun.fault for begun in self._begun):
            return None
        if self._begun and self._begun[-1].started < len(self._begun[-1].samples):
            return self._begun[-1]
        if not self._todo or len(self._begun) > self._ahead:
            return None
        samples = self._todo.popleft()
        batch = Batch(samples, {}, [None] * len(samples))
        self._begun.append(batch)
        try:
            batch.arrays = self._ring.take(self._source.shape_of(samples[0]), len(samples))
        except Exception as error:  # noqa: BLE001 -- the training loop is told
            batch.fault = error
            self._changed.notify_all()
            return None
        return batch

    def _report(self, batch: Batch, error: BaseException, sample: int) -> None:
        """Leave an error where the training loop will find it, after the batches before."""
        fault = error
        if not isinstance(error, Exception):
            finding = f"it was ended by {type(error).__name__}"
            fault = WorkerError(f"the reader thread of {self._source.name(sample)}", finding, "Start the epoch again")
            fault.__cause__ = error
        elif not isinstance(error, FastctError):
            error.add_note(f"while {self._source.name(sample)} was read")
        with self._changed:
            batch.fault = batch.fault or fault
            self._left.add(current_thread())
            self._changed.notify_all()
