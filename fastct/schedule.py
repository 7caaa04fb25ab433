"""Many studies: spread over this process, local processes or GPUs, or a Dask cluster. Only this file imports Dask."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pkgutil
import signal
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, NamedTuple

from fastct import __version__
from fastct.batches import AnyTask, Result, do_batch, in_batches
from fastct.device import find_gpus
from fastct.errors import FastctError, OptionError, WorkerError
from fastct.options import RunOptions

TRIES = 3
"""Workers that a study may kill before it is set aside: once among others, once in a batch of its own, and once with
nothing beside it that could be the cause."""

FLYING = 4000
"""Batches that the scheduler knows of at a time, at most: it stays quick whatever the number of studies."""

START_S, ANSWER_S = 20, 30
"""How long a scheduler may take to be reached, and to answer, before it counts as gone."""

PULSE_S = 1.0
"""How often it is asked whether scheduler and workers are there."""

SILENT = {"silence_logs": logging.CRITICAL}  # a word that workers started by us take as well
RESUME = "Run the same command again: it goes on from there"
UNGUARDED = 'Call fastct under `if __name__ == "__main__":`, or give workers=1 or pool="threads"'
Outcome = tuple[AnyTask, Result | FastctError]
Batch = Callable[[Sequence[Any]], list[Any]]


class Workforce(NamedTuple):
    """Who works: `kind` is "this process", "threads", "processes", "GPUs" or "cluster"; how many there are at the
    moment; and the address of Dask's dashboard, or ""."""

    kind: str
    workers: int
    dashboard: str = ""


class Crew:
    """The workers of one command: this process, threads or processes of its own, or a Dask cluster.

    Processes and connection are started when work first asks for them, and serve every stage until the crew is left.

    Parameters
    ----------
    options : workers, pool, device, scheduler, worker_wait_s, study_limit_s. Where there are GPUs to work on, each
        process has one: number 0, as it sees them.
    on_start : called with the Workforce, when it is there.
    """

    def __init__(self, options: RunOptions, on_start: Callable[[Workforce], None] | None = None) -> None:
        self.options = options
        self._on_start = on_start
        self._stack = ExitStack()
        self._pool: _Threads | _Cluster | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool = None
        self._stack.close()

    def work_through(
        self, work: Callable[[AnyTask], Result], tasks: Sequence[AnyTask]
    ) -> Iterator[Outcome[AnyTask, Result]]:
        """Do `work` on every task, largest first, and yield each with its result as it comes.

        Parameters
        ----------
        work : importable function. A FastctError that it raises concerns one study; any other ends the whole run.
        tasks : one a study.

        Yields
        ------
        The task with its result, or with the FastctError that came of it: a WorkerError where it killed its worker
        `TRIES` times, or was not done in time.

        Raises
        ------
        WorkerError
            If the cluster cannot be reached, goes away, has no workers, or workers without this fastct.
        """
        do = partial(do_batch, work, limit_s=self.options.study_limit_s)
        if self._pool is None and tasks:
            self._pool = self._start(len(tasks))
        if self._pool is None:
            for (task,) in in_batches(tasks, lambda: len(tasks)):
                yield task, do([task])[0]
        else:
            yield from _spread(self._pool, do, tasks)

    def _start(self, studies: int) -> _Threads | _Cluster | None:
        """The workers that the options ask for; none where this process is enough."""
        options, who = self.options, Workforce("this process", 1)
        pool: _Threads | _Cluster | None = None
        count = min(options.worker_count, studies)
        gpus = _visible_gpus(options)
        if options.in_processes and (options.scheduler or gpus or count > 1):
            pool = cluster = self._stack.enter_context(_cluster(options, gpus))
            kind = "cluster" if options.scheduler else f"processes on {len(gpus)} GPUs" if gpus else "processes"
            who = Workforce(kind, cluster.workers, cluster.dashboard)
        elif count > 1:
            pool = _Threads(self._stack.enter_context(ThreadPoolExecutor(count)), count)
            who = Workforce("threads", count)
        if self._on_start:
            self._on_start(who)
        return pool


class _Killed(Exception):
    """The worker of a batch died, or is taken for dead."""


def _spread(pool: _Threads | _Cluster, do: Batch, tasks: Sequence[AnyTask]) -> Iterator[Outcome[AnyTask, Any]]:
    """All tasks in batches; those whose worker died again, each by itself; and at last one at a time."""
    killed: list[AnyTask] = []
    yield from _flow(pool, do, in_batches(tasks, lambda: pool.workers), killed)
    for attempt in range(2, TRIES + 1):
        suspects, killed = killed, []
        yield from _flow(pool, do, ([task] for task in suspects), killed, alone=attempt == TRIES)
    for task in killed:
        finding = f"it killed its worker {TRIES} times"
        yield task, WorkerError(task.study_id, finding, "Look at the file, or give more memory")


def _flow(
    pool: _Threads | _Cluster,
    do: Batch,
    batches: Iterator[list[AnyTask]],
    killed: list[AnyTask],
    alone: bool = False,
) -> Iterator[Outcome[AnyTask, Any]]:
    """Keep the pool busy with batches, and yield their outcomes; the tasks of those that died go to `killed`."""
    arrived: SimpleQueue[int] = SimpleQueue()
    flying: dict[int, tuple[Any, list[AnyTask]]] = {}
    number, checked = 0, monotonic()
    try:
        while True:
            room = 1 if alone else min(2 * max(pool.workers, 1), FLYING)
            while len(flying) < room and (batch := next(batches, None)):
                number += 1
                flying[number] = (pool.submit(do, batch), batch)
                flying[number][0].add_done_callback(partial(_tell, arrived, number))
            if not flying:
                return
            if monotonic() - checked > PULSE_S:
                pool.check()
                checked = monotonic()
            try:
                future, batch = flying.pop(arrived.get(timeout=PULSE_S))
            except Empty:
                continue
            try:
                yield from zip(batch, pool.result(future), strict=True)
            except _Killed:
                killed += batch
    finally:
        for future, _ in flying.values():
            future.cancel()


def _tell(arrived: SimpleQueue[int], number: int, _: object) -> None:
    """Say that a batch has ended; called by another thread."""
    arrived.put(number)


class _Threads:
    """Threads of this process: they start at once, share its memory, and die with it."""

    def __init__(self, executor: ThreadPoolExecutor, workers: int) -> None:
        self.executor, self.workers = executor, workers

    def submit(self, do: Batch, batch: Sequence[Any]) -> Any:
        """A future of the batch's outcomes."""
        return self.executor.submit(do, batch)

    def result(self, future: Any) -> list[Any]:
        """The outcomes of a batch that has ended."""
        return future.result()  # type: ignore[no-any-return]

    def check(self) -> None:
        """They are there as long as we are."""


class _Cluster:
    """The workers of a Dask scheduler; raises WorkerError where they or it are not there."""

    def __init__(self, client: Any, wait_s: float) -> None:
        self.client, self.wait_s, self.workers = client, wait_s, 0
        self.dashboard = str(client.dashboard_link or "") if find_spec("bokeh") else ""  # which it is drawn with
        self._seen = monotonic()

    def muster(self) -> None:
        """Wait for a worker; then see that scheduler and workers have this version of fastct."""
        while not self.workers:
            sleep(PULSE_S)
            self.check()
        name = "fastct:__version__"  # found by a function of the standard library, which every Python has
        found = {"the scheduler": _outcome(partial(self.client.run_on_scheduler, pkgutil.resolve_name, name))}
        asked = {
            f"worker {worker}": self.client.submit(pkgutil.resolve_name, name, workers=[worker], pure=False)
            for worker in self.client.nthreads(callback_timeout=ANSWER_S)
        }
        deadline = monotonic() + ANSWER_S
        for who, future in asked.items():
            found[who] = _outcome(partial(future.result, timeout=max(deadline - monotonic(), 0.1)))
        for who, version in found.items():
            if version not in (__version__, None):
                finding = f"fastct {__version__} was wanted, and {who} has {version}"
                raise WorkerError("cluster", finding, f"Install fastct {__version__} there, in every environment")

    def submit(self, do: Batch, batch: Sequence[Any]) -> Any:
        """A future of the batch's outcomes."""
        return self.client.submit(_do_once, f"fastct-{uuid.uuid4().hex}", do, batch, pure=False)

    def result(self, future: Any) -> list[Any]:
        """The outcomes of a batch that has ended; _Killed where its worker did not outlive it."""
        from distributed import CancelledError, KilledWorker

        try:
            return future.result(timeout=ANSWER_S)  # type: ignore[no-any-return]
        except (KilledWorker, TimeoutError) as error:  # too late: the worker died with the outcomes that it had
            raise _Killed from error
        except CancelledError as error:
            raise WorkerError("scheduler", "it went away before the work was done", RESUME) from error
        except (ImportError, AttributeError) as error:
            finding = f"a worker cannot do the work ({type(error).__name__}: {error})"
            raise WorkerError("cluster", finding, f"Install fastct {__version__} there as it is here") from error

    def check(self) -> None:
        """Count the workers, and see that the scheduler answers."""
        try:
            self.workers = sum(self.client.nthreads(callback_timeout=ANSWER_S).values())
        except (OSError, RuntimeError, AttributeError) as error:
            found = f"it went away or does not answer within {ANSWER_S} s"
            raise WorkerError("scheduler", found, RESUME) from error
        if self.workers:
            self._seen = monotonic()
        elif monotonic() - self._seen > self.wait_s:
            cure = f"Start workers there, or allow more time. {RESUME}"
            raise WorkerError("cluster", f"it has had no worker for {self.wait_s:g} s", cure)


def _outcome(ask: Callable[[], Any]) -> str | None:
    """The version that someone answers with, or why there is none; None when the answer does not come in time."""
    try:
        return str(ask())
    except TimeoutError:
        return None
    except Exception as error:  # noqa: BLE001  whatever a foreign environment raises
        return f"none ({type(error).__name__}: {error})"


def _do_once(name: str, do: Batch, batch: Sequence[Any]) -> list[Any]:
    """Do a batch, unless a worker has begun it before: that one died, and a scheduler would let it kill others."""
    from distributed import Event, get_client

    begun = Event(name, client=get_client())
    if begun.is_set():
        begun.clear()
        raise _Killed
    begun.set()
    try:
        return do(batch)
    finally:
        begun.clear()


@contextmanager
def _cluster(options: RunOptions, gpus: Sequence[str]) -> Iterator[_Cluster]:
    """The cluster that is asked for, or processes of our own on this machine's loopback, found fit to work."""
    import dask
    import distributed  # noqa: F401  before the settings are changed: it brings its own, which are to stay

    settings = {
        "distributed.worker.daemon": True,
        "distributed.admin.log-length": 0,
        "distributed.comm.timeouts.connect": START_S,
        # A process that is started again may take longer than 15 s on a busy machine, and is not given up for it.
        "distributed.deploy.lost-worker-timeout": options.worker_wait_s,
    }
    with dask.config.set(settings), _no_words_of_dask(), ExitStack() as stack:
        cluster = _Cluster(_client(options, gpus, stack), options.worker_wait_s)
        cluster.check()
        if options.scheduler:
            cluster.muster()
        yield cluster


@contextmanager
def _no_words_of_dask() -> Iterator[None]:
    """What matters of a lost worker or scheduler is said by us, once."""
    handlers = {handler: handler.level for handler in logging.getLogger("distributed").handlers}
    for handler in handlers:
        handler.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for handler, level in handlers.items():
            handler.setLevel(level)


def _client(options: RunOptions, gpus: Sequence[str], stack: ExitStack) -> Any:
    """A client that the stack closes; one that the caller gave stays open."""
    from distributed import Client

    if isinstance(options.scheduler, Client):
        if options.scheduler.asynchronous:
            raise OptionError("scheduler", "it is an asynchronous Client", "Give one made without asynchronous=True")
        return options.scheduler
    if options.scheduler:
        _check_address(options.scheduler)
        try:
            return stack.enter_context(Client(options.scheduler, timeout=START_S, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            cure = "Check that a Dask scheduler runs at that address"
            raise WorkerError(f"scheduler {options.scheduler}", f"it does not answer ({error})", cure) from error
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise WorkerError("this script", "a worker process that it started runs it again", UNGUARDED)
    try:
        workers = stack.enter_context(_processes(options.worker_count, gpus))
    except RuntimeError as error:
        raise WorkerError("worker processes", f"they do not start ({error})", UNGUARDED) from error
    client = stack.enter_context(Client(workers, set_as_default=False))
    client.run(_leave_interrupts_to_the_client)
    return client


def _check_address(scheduler: Any) -> None:
    """Refuse what is no address; a Client of it would be left half made, and be waited for at the end."""
    from distributed.comm.addressing import get_address_host_port

    if isinstance(scheduler, str) and not scheduler.startswith("inproc://"):
        try:
            get_address_host_port(scheduler)
        except ValueError as error:
            cure = "Give the address that `dask scheduler` tells, such as tcp://10.0.0.5:8786"
            raise OptionError("scheduler", f"{scheduler} is no address ({error})", cure) from error


def _visible_gpus(options: RunOptions) -> tuple[str, ...]:
    """Names of the GPUs that processes of our own work on, as CUDA_VISIBLE_DEVICES spells them."""
    if options.scheduler or not options.in_processes:
        return ()
    numbers = find_gpus(options.device)
    names = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return tuple(names[number] if names else str(number) for number in numbers)


def _processes(count: int, gpus: Sequence[str]) -> Any:
    """Worker processes of one thread each, which are started again when they die; each sees its own GPU, if any."""
    from distributed import Nanny, Scheduler, SpecCluster

    workers = {}
    for number in range(count):
        environment = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        options = {"nthreads": 1, "host": "127.0.0.1", "memory_limit": 0, "dashboard_address": None, **SILENT}
        workers[number] = {"cls": Nanny, "options": {**options, "env": environment}}
    where = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    return SpecCluster(scheduler={"cls": Scheduler, "options": where}, workers=workers, **SILENT)


def _leave_interrupts_to_the_client() -> None:
    """Ctrl-C reaches every process of a terminal; only the client may act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
