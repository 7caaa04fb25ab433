"""Studies in batches: how many go together, and how one worker gets through them."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread, local
from typing import Any, Protocol, TypeVar

from fastct.errors import FastctError, WorkerError

BATCH_BYTES = 64 << 20
"""Input of one batch at most: some six studies of MosMedData, so about two seconds of work for messages of a
millisecond, and as much to do again when a worker dies."""

BATCH_STUDIES = 64
"""Studies of one batch at most, however small they are."""


class Task(Protocol):
    """Work on one study: small, picklable, and told apart by its study."""

    @property
    def study_id(self) -> str:
        """Name of the study."""

    @property
    def size_bytes(self) -> int:
        """What decides how long it takes."""


AnyTask = TypeVar("AnyTask", bound=Task)
Result = TypeVar("Result")


def in_batches(tasks: Sequence[AnyTask], workers: Callable[[], int]) -> Iterator[list[AnyTask]]:
    """All tasks, largest first, in batches that are made when they are asked for.

    A batch is at most a worker's share of half of what is left, so that all workers end at about the same time
    (guided self-scheduling: Polychronopoulos and Kuck 1987, doi:10.1109/TC.1987.5009495).

    Parameters
    ----------
    tasks : one a study.
    workers : says how many work at the moment.
    """
    queue = deque(sorted(tasks, key=lambda task: (-task.size_bytes, task.study_id)))
    left_bytes = sum(task.size_bytes for task in queue)
    while queue:
        shares = 2 * max(workers(), 1)
        most_bytes = min(BATCH_BYTES, left_bytes // shares)
        most = min(BATCH_STUDIES, -(-len(queue) // shares))
        batch = [queue.popleft()]
        size_bytes = batch[0].size_bytes
        while queue and len(batch) < most and size_bytes + queue[0].size_bytes <= most_bytes:
            batch.append(queue.popleft())
            size_bytes += batch[-1].size_bytes
        left_bytes -= size_bytes
        yield batch


def do_batch(work: Callable[[AnyTask], Result], batch: Sequence[AnyTask], limit_s: float) -> list[Result | FastctError]:
    """Do the work of each study in turn: its result, or the FastctError that it raised.

    A study that is not done after `limit_s` seconds (a file server that does not answer) becomes a WorkerError, and
    the others go on.
    """
    return [_do(work, task, limit_s) for task in batch]


def _do(work: Callable[[AnyTask], Result], task: AnyTask, limit_s: float) -> Result | FastctError:
    hand = getattr(_own, "hand", None) or _Hand()
    _own.hand = hand
    try:
        return hand.do(work, task, limit_s)  # type: ignore[no-any-return]
    except Empty:
        del _own.hand  # it is left to wait for as long as it likes
        finding = f"it was not done within {limit_s:g} s"
        return WorkerError(task.study_id, finding, "Look at the disk or server that holds it, or allow it more time")
    except FastctError as error:
        return error


class _Hand:
    """A thread that works for another, which can cease to wait for it: no system call can be taken back.

    It ends when nobody refers to this any more.
    """

    def __init__(self) -> None:
        self._given: SimpleQueue[Any] = SimpleQueue()
        self._done: SimpleQueue[Any] = SimpleQueue()
        self._thread = Thread(target=_serve, args=(self._given, self._done), name="fastct-hand", daemon=True)
        self._thread.start()

    def __del__(self) -> None:
        self._given.put(None)

    def do(self, work: Callable[[Any], Any], task: Any, limit_s: float) -> Any:
        """What `work` returns or raises; Empty after `limit_s`."""
        self._given.put((work, task))
        try:
            result, error = self._done.get(timeout=limit_s)
        except BaseException:
            _left_behind.append(self._thread)
            raise
        if error is not None:
            raise error
        return result


def _serve(given: SimpleQueue[Any], done: SimpleQueue[Any]) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))  # they are to wake who waits
    while asked := given.get():
        work, task = asked
        try:
            done.put((work(task), None))
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            done.put((None, error))
        del work, task, asked


def is_left_behind() -> bool:
    """Whether some work may still go on that nobody waits for."""
    return any(thread.is_alive() for thread in _left_behind)


_left_behind: list[Thread] = []
_own = local()  # a hand for each thread, kept from study to study because buffers are kept by thread
