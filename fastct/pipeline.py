"""The main jobs over many studies: convert, score, report. One broken study never stops the others."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from socket import gethostname
from threading import Timer
from time import monotonic, sleep
from typing import Any

from fastct.batches import Task
from fastct.conversion import ConvertTask, convert_study, is_converted
from fastct.device import find_gpus
from fastct.errors import FastctError, OptionError, StoreError, WorkerError
from fastct.mosmed import Listing, find_studies
from fastct.options import ConvertOptions, RunOptions, choose, refuse_unknown
from fastct.publish import convert_settings, create_store
from fastct.records import (
    UNREADABLE,
    Record,
    known_record,
    read_record,
    read_records,
    record_ids,
    write_listing,
    write_record,
)
from fastct.schedule import RESUME, Crew
from fastct.scoring import ScoreTask, is_scored, score_study
from fastct.storage import WORK, Claim, Storage, as_place, open_storage
from fastct.store import MANIFEST, STUDIES, check_records, read_manifest
from fastct.tables import TABLE, write_tables

AnyPath = str | os.PathLike[str]
POLL_S = 0.25  # how often a study that another run works on is asked after


@dataclass(frozen=True)
class Event:
    """One study has ended a stage: what became of it, and how far the stage is."""

    stage: str
    study_id: str
    status: str
    error: str
    size_bytes: int
    done: int
    total: int


@dataclass(frozen=True)
class Summary:
    """What a job did: ids of the studies done, failed and left out because an earlier run had done them."""

    stage: str
    done: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    planned: tuple[str, ...] = ()
    listing: Listing | None = None


OnEvent = Callable[[Event], None]


def convert(
    src: AnyPath, store: AnyPath, *, on_event: OnEvent | None = None, crew: Crew | None = None, **options: Any
) -> Summary:
    """Convert a data set's volumes into a Zarr store, without loss.

    Parameters
    ----------
    src : a MosMedData root, any folder of `.nii`/`.nii.gz`, or one file; a path or a URL.
    store : folder or URL of the store; made when it is not there.
    on_event : called after each study.
    crew : workers to share with other jobs; by default the job has its own.
    **options : the fields of `ConvertOptions` and `RunOptions`.

    Raises
    ------
    DataSetError
        If there is no study to convert.
    StoreError
        If the store cannot be written.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     convert(f"{folder}/ct", f"{folder}/store", codec="ctpack", workers=1).done
    ('study_0001', 'study_0002')
    """
    refuse_unknown(options, ConvertOptions, RunOptions)
    how, run = choose(ConvertOptions, options), choose(RunOptions, options)
    _gpu(run)  # one that scoring will not find is better missed now
    listing = find_studies(src, run.storage_options)
    storage = open_storage(store, run.storage_options)
    _refuse_foreign_folder(storage)
    origin = str(as_place(src))
    tasks = [ConvertTask(source, storage.place, how, origin) for source in listing.studies]
    run = _within_reach(run, crew, storage, open_storage(src, run.storage_options))
    job = Job(CONVERT, storage, run, on_event or ignore, crew)
    if not run.dry_run:
        create_store(storage, convert_settings(how))
        write_listing(storage, origin, listing.told)
    return job.work(tasks, listing)


def score(store: AnyPath, *, on_event: OnEvent | None = None, crew: Crew | None = None, **options: Any) -> Summary:
    """Lung mask, lesion percentages and severity of every study of a store.

    Parameters
    ----------
    store : folder or URL of the store.
    on_event : called after each study.
    crew : workers to share with other jobs; by default the job has its own.
    **options : the fields of `RunOptions`.

    Raises
    ------
    StoreError
        If there is no store, one whose records are gone, or it cannot be written.

    Examples
    --------
    >>> import tempfile, fastct.phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = fastct.phantom.write_phantoms(f"{folder}/ct", studies=2, shape=(12, 64, 64))
    ...     _ = fastct.convert(f"{folder}/ct", f"{folder}/store", workers=1)
    ...     score(f"{folder}/store", workers=1).failed
    ...     [row["severity"] for row in fastct.open(f"{folder}/store").table]
    ()
    ['CT-0', 'CT-1']
    """
    refuse_unknown(options, RunOptions)
    run = choose(RunOptions, options)
    storage = open_storage(store, run.storage_options)
    gpu = _gpu(run)
    read_manifest(storage)
    check_records(storage)
    tasks = [
        ScoreTask(record.study_id, storage.place, sum(size for size, _ in record.keys.values()), gpu)
        for record in read_records(storage)
        if (record.keys and record.failed_at != "convert") or record.failed_at == UNREADABLE
    ]
    run = _within_reach(run, crew, storage)
    return Job(SCORE, storage, run, on_event or ignore, crew).work(tasks)


@dataclass(frozen=True)
class Stage:
    """What is done with one study, and what tells that an earlier run, or one beside this, has done it."""

    name: str
    work: Callable[[Any], Record]
    is_done: Callable[[Any, Storage], bool]

    def has_done(self, task: Any, storage: Storage) -> bool:
        """Whether it is done; what cannot be looked at is not."""
        try:
            return self.is_done(task, storage)
        except StoreError:
            return False


CONVERT = Stage("convert", convert_study, is_converted)
SCORE = Stage("score", score_study, is_scored)


def _gpu(run: RunOptions) -> int | None:
    """Number of the GPU that studies are scored on, as those who do it see it; None for the CPU.

    Worker processes have one each, as number 0; work in this process stays on the first.
    """
    if run.scheduler:  # the cluster's own, whatever this machine has
        return int(run.device.partition(":")[2] or 0) if run.device.startswith("cuda") else None
    gpus = find_gpus(run.device)
    return None if not gpus else 0 if run.in_processes else gpus[0]


@dataclass(frozen=True)
class Job:
    """One stage of work over a store."""

    stage: Stage
    storage: Storage
    run: RunOptions
    on_event: OnEvent
    crew: Crew | None = None

    def work(self, tasks: Sequence[Any], listing: Listing | None = None) -> Summary:
        """Do what is to do, and write the table."""
        todo = self._todo(tasks) if self.run.skip_finished else list(tasks)
        waiting = {task.study_id for task in todo}
        skipped = [task.study_id for task in tasks if task.study_id not in waiting]
        if self.run.dry_run:
            planned = tuple(task.study_id for task in todo)
            return Summary(self.stage.name, skipped=tuple(skipped), planned=planned, listing=listing)
        self.storage.sweep()
        done: list[str] = []
        failed: list[str] = []
        with nullcontext(self.crew) if self.crew else Crew(self.run) as crew:
            for outcome in self._settled(crew, todo):
                into = skipped if outcome.by_another else failed if outcome.record.status == "failed" else done
                into.append(outcome.record.study_id)
        # One at a time, so that whoever writes the tables last has read the records of all.
        with _wait_for(self.storage, TABLE, self.run.study_limit_s):
            write_tables(self.storage, read_records(self.storage))
        self.storage.sweep()  # once more: workers of a run that was killed may have outlived it for a while
        return Summary(self.stage.name, _sorted(done), _sorted(failed), _sorted(skipped), listing=listing)

    def _todo(self, tasks: Sequence[Any]) -> list[Any]:
        """The tasks that no earlier run has done."""
        known = set(record_ids(self.storage))
        seen = [task for task in tasks if task.study_id in known]
        is_done = self.storage.side_by_side(lambda task: self.stage.has_done(task, self.storage), seen)
        done = {task.study_id for task, yes in zip(seen, is_done, strict=True) if yes}
        return [task for task in tasks if task.study_id not in done]

    def _settled(self, crew: Crew, todo: Sequence[Task]) -> Iterator["Settled"]:
        """The outcome of every study, told as it comes."""
        for number, (task, outcome) in enumerate(self._outcomes(crew, todo), 1):
            self.on_event(_event(self.stage.name, outcome.record, task.size_bytes, number, len(todo)))
            yield outcome

    def _outcomes(self, crew: Crew, todo: Sequence[Task]) -> Iterator[tuple[Task, "Settled"]]:
        """Every task with its outcome; those that another run works on come last, when it is through with them."""
        left = list(todo)
        while left:
            busy: list[Task] = []
            for task, outcome in self._round(crew, left):
                if outcome is None:
                    busy.append(task)
                else:
                    yield task, outcome
            left = busy
            if busy and not self._one_is_free(busy):
                finding = f"another run, or a worker that hangs, has had it for {self.run.study_limit_s:g} s"
                for task in busy:
                    yield task, self._failed(task, WorkerError(task.study_id, finding, f"End that one. {RESUME}"))
                return

    def _round(self, crew: Crew, tasks: Sequence[Task]) -> Iterator[tuple[Task, "Settled | None"]]:
        work = partial(settle, self.stage, self.run.skip_finished, self.run.study_limit_s)
        for task, outcome in crew.work_through(work, tasks):
            yield task, self._failed(task, outcome) if isinstance(outcome, FastctError) else outcome

    def _failed(self, task: Task, error: FastctError) -> "Settled":
        record = _failure(self.storage, self.stage.name, task, str(error))
        write_record(self.storage, record)
        return Settled(record)

    def _one_is_free(self, busy: Sequence[Task]) -> bool:
        """Wait until nobody works on one of the studies any more; not for longer than a study may take."""
        deadline = monotonic() + self.run.study_limit_s
        while monotonic() < deadline:
            sleep(POLL_S)
            for task in busy:
                if claim := self.storage.claim(_claim_name(task.study_id)):
                    claim.release()
                    return True
        return False


@dataclass(frozen=True)
class Settled:
    """What became of a study, and whether another run did it."""

    record: Record
    by_another: bool = False


def settle(stage: Stage, skip_finished: bool, limit_s: float, task: Any) -> Settled | None:
    """Claim a study, do its work, and write its record; None where another run has claimed it.

    Whatever goes wrong with the study becomes part of its record. What another run has finished since this one
    looked is left as it is. After `limit_s` nobody waits for the work any more, and the claim lapses.

    Raises
    ------
    StoreError
        If this worker does not find the store, or cannot write it.
    """
    storage = open_storage(task.store)
    if storage.is_local and not storage.exists(MANIFEST):
        finding = f"the worker on {gethostname()} finds no store there"
        raise StoreError(storage, finding, "Give a folder or URL that every worker reaches under this name")
    claim = storage.claim(_claim_name(task.study_id))
    if claim is None:
        return None
    with claim, _lapsing(claim, limit_s):
        known = known_record(storage, task.study_id) if skip_finished else None
        if known and stage.has_done(task, storage):
            return Settled(known, by_another=True)
        try:
            record = stage.work(task)
        except FastctError as error:
            record = _failure(storage, stage.name, task, str(error))
        except Exception as error:  # noqa: BLE001  one bad study never stops the others
            record = _failure(storage, stage.name, task, f"{type(error).__name__}: {error}")
        if not claim.is_held:
            return None  # it lapsed, or was taken over: the record is another's to write
        write_record(storage, record)
    return Settled(record)


@contextmanager
def _lapsing(claim: Claim, limit_s: float) -> Iterator[None]:
    """Give a claim back after a time, should the work still go on."""
    timer = Timer(limit_s, claim.release)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _wait_for(storage: Storage, name: str, limit_s: float) -> Iterator[None]:
    """Have a claim, once another run gives it back."""
    deadline = monotonic() + limit_s
    while (claim := storage.claim(name)) is None:
        if monotonic() > deadline:
            finding = f"another run that hangs has had it for {limit_s:g} s"
            raise StoreError(storage.location(name), finding, f"End that run. {RESUME}")
        sleep(POLL_S)
    with claim:
        yield


def _claim_name(study_id: str) -> str:
    return f"{STUDIES}/{study_id}"


def _within_reach(run: RunOptions, crew: Crew | None, *storages: Storage) -> RunOptions:
    """The options, with workers that see the same files: where these lie in this process's memory, its threads.

    Raises
    ------
    OptionError
        If the workers were chosen already, and do not see them.
    """
    hidden = [storage for storage in storages if not storage.is_shared]
    if not hidden or run.worker_count == 1:
        return run
    if run.scheduler or (crew and run.pool != "threads"):
        raise OptionError(hidden[0], "only this process sees it", "Give --pool threads, or -j 1")
    return replace(run, pool="threads")


def _failure(storage: Storage, stage: str, task: Any, error: str) -> Record:
    """The study's record with a failure in it; what an earlier run knew of the study stays."""
    try:
        known = read_record(storage, task.study_id)
    except StoreError:
        known = None  # a broken record: the failure replaces it
    if known is None:
        source = getattr(task, "source", None)
        known = Record(task.study_id, getattr(source, "category", ""), source=getattr(source, "source", ""))
    return known.failed(stage, error)


def _refuse_foreign_folder(storage: Storage) -> None:
    """Raise for a folder that holds something, and no store; another run may be making the store right now."""
    names = set(storage.names(""))
    if names and not names & {MANIFEST, WORK} and not storage.exists(MANIFEST):
        cure = "Give a new or empty folder for the store"
        raise StoreError(storage, f"the folder is not empty, and has no {MANIFEST}", cure)


def _event(stage: str, record: Record, size_bytes: int, done: int, total: int) -> Event:
    return Event(stage, record.study_id, record.status, record.error, size_bytes, done, total)


def _sorted(study_ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(study_ids))


def ignore(event: Event) -> None:
    """Take no notice."""
