"""Many studies: spread over this process, local worker processes or a Dask cluster. Only this file imports Dask."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

from fastct.errors import WorkerError
from fastct.options import RunOptions

GRAPH_NODES = 2000  # tasks that one run hands to the scheduler at most, so that it stays quick
TRIES = 3  # workers that a study may kill before it is set aside
START_TIMEOUT_S = 20


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
Outcome = tuple[AnyTask, Result | WorkerError]


class Crew:
    """The workers of one command: this process, processes of its own, or a Dask cluster.

    Processes and connection are started when work first asks for them, and serve every stage until the crew is left.

    Parameters
    ----------
    options : workers, scheduler.
    """

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self._stack = ExitStack()
        self._client: Any = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self._client = None
        self._stack.close()

    def work_through(
        self, work: Callable[[AnyTask], Result], tasks: Sequence[AnyTask]
    ) -> Iterator[Outcome[AnyTask, Result]]:
        """Do `work` on every task, largest first, and yield each with its result as it comes.

        Parameters
        ----------
        work : importable function; what it raises ends the whole run, so it should settle what concerns one study.
        tasks : one a study.

        Yields
        ------
        The task with its result; with a WorkerError where it killed its worker `TRIES` times.

        Raises
        ------
        WorkerError
            If the cluster cannot be reached, or goes away.
        """
        queue = sorted(tasks, key=lambda task: (-task.size_bytes, task.study_id))
        if not self.options.scheduler and min(self.options.worker_count, len(queue)) <= 1:
            for task in queue:
                yield task, work(task)
        elif queue:
            if self._client is None:
                self._client = self._stack.enter_context(_client(self.options))
            yield from _spread(self._client, work, queue)


def _spread(client: Any, work: Callable[[AnyTask], Result], queue: list[AnyTask]) -> Iterator[Outcome[AnyTask, Result]]:
    """All tasks side by side; then those whose worker died, one at a time, so that only the guilty are named."""
    from distributed import CancelledError, KilledWorker, as_completed

    size = -(-len(queue) // GRAPH_NODES)
    batches = [queue[start : start + size] for start in range(0, len(queue), size)]
    waiting = {client.submit(_do_batch, work, batch, pure=False): batch for batch in batches}
    suspects: list[AnyTask] = []
    try:
        for future in as_completed(list(waiting)):
            batch = waiting.pop(future)
            try:
                yield from zip(batch, future.result(), strict=True)
            except KilledWorker:
                suspects += batch
        for task in suspects:
            yield task, _try_alone(client, work, task)
    except CancelledError as error:
        cure = "Run the same command again: it goes on from there"
        raise WorkerError("scheduler", "it went away before the work was done", cure) from error


def _try_alone(client: Any, work: Callable[[AnyTask], Result], task: AnyTask) -> Result | WorkerError:
    """Work on a task whose worker died once, with nothing beside it that could be the cause."""
    from distributed import KilledWorker

    for _ in range(TRIES - 1):
        try:
            return client.submit(_do_batch, work, [task], pure=False).result()[0]  # type: ignore[no-any-return]
        except KilledWorker:
            continue
    finding = f"it killed its worker {TRIES} times"
    return WorkerError(task.study_id, finding, "Look at the file, or give more memory")


def _do_batch(work: Callable[[AnyTask], Result], batch: list[AnyTask]) -> list[Result]:
    return [work(task) for task in batch]


@contextmanager
def _client(options: RunOptions) -> Iterator[Any]:
    """A client of the scheduler that is asked for, or of processes of our own on this machine's loopback."""
    import dask
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.daemon": True,
        "distributed.admin.log-length": 0,
        "logging.distributed": "critical",
    }
    with dask.config.set(settings):
        if options.scheduler:
            try:
                client = Client(options.scheduler, timeout=START_TIMEOUT_S)
            except (OSError, ValueError) as error:
                cure = "Check that a Dask scheduler runs at that address"
                raise WorkerError(f"scheduler {options.scheduler}", f"it does not answer ({error})", cure) from error
            with client:
                yield client
            return
        cluster = LocalCluster(
            n_workers=options.worker_count,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
        )
        with cluster, Client(cluster) as client:
            client.run(_leave_interrupts_to_the_client)
            yield client


def _leave_interrupts_to_the_client() -> None:
    """Ctrl-C reaches every process of a terminal; only the client may act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
