"""The main jobs over many studies: convert, score, report. One broken study never stops the others."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fastct.batches import Task
from fastct.conversion import ConvertTask, convert_study, is_converted
from fastct.errors import FastctError, StoreError
from fastct.mosmed import Listing, find_studies
from fastct.options import ConvertOptions, RunOptions, choose, refuse_unknown
from fastct.publish import convert_settings, create_store
from fastct.records import UNREADABLE, Record, read_record, read_records, write_listing, write_record, write_table
from fastct.schedule import Crew
from fastct.scoring import ScoreTask, is_scored, score_study
from fastct.storage import WORK, Storage, open_storage
from fastct.store import MANIFEST, read_manifest

AnyPath = str | os.PathLike[str]


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
    src : a MosMedData root, any folder of `.nii`/`.nii.gz`, or one file.
    store : folder of the store; made when it is not there.
    on_event : called after each study.
    crew : workers to share with other jobs; by default the job has its own.
    **options : the fields of `ConvertOptions` and `RunOptions`.

    Raises
    ------
    DataSetError
        If there is no study to convert.
    StoreError
        If the store cannot be written.
    """
    refuse_unknown(options, ConvertOptions, RunOptions)
    how, run = choose(ConvertOptions, options), choose(RunOptions, options)
    listing = find_studies(Path(src))
    storage = open_storage(store, run.storage_options)
    _refuse_foreign_folder(storage)
    tasks = [ConvertTask(source, str(storage), how) for source in listing.studies]
    todo = [task for task in tasks if not (run.skip_finished and is_converted(task, storage))]
    job = _Job("convert", storage, run, on_event or _ignore, crew)
    if not run.dry_run:
        create_store(storage, convert_settings(how))
        kept = {"missing": listing.missing, "unlisted": listing.unlisted, "notes": listing.notes}
        write_listing(storage, kept)
    return job.work(convert_study, tasks, todo, listing)


def score(store: AnyPath, *, on_event: OnEvent | None = None, crew: Crew | None = None, **options: Any) -> Summary:
    """Lung mask, lesion percentages and severity of every study of a store.

    Parameters
    ----------
    store : folder of the store.
    on_event : called after each study.
    crew : workers to share with other jobs; by default the job has its own.
    **options : the fields of `RunOptions`.

    Raises
    ------
    StoreError
        If there is no store, or it cannot be written.
    """
    refuse_unknown(options, RunOptions)
    run = choose(RunOptions, options)
    storage = open_storage(store, run.storage_options)
    read_manifest(storage)
    tasks = [
        ScoreTask(record.study_id, str(storage), sum(size for size, _ in record.keys.values()))
        for record in read_records(storage)
        if (record.keys and record.failed_at != "convert") or record.failed_at == UNREADABLE
    ]
    todo = [task for task in tasks if not (run.skip_finished and is_scored(task, storage))]
    return _Job("score", storage, run, on_event or _ignore, crew).work(score_study, tasks, todo, None)


@dataclass(frozen=True)
class _Job:
    """One stage of work over a store."""

    stage: str
    storage: Storage
    run: RunOptions
    on_event: OnEvent
    crew: Crew | None

    def work(
        self,
        work: Callable[[Any], Record],
        tasks: Sequence[Task],
        todo: Sequence[Task],
        listing: Listing | None,
    ) -> Summary:
        """Do what is to do, and write the table."""
        waiting = {task.study_id for task in todo}
        skipped = tuple(task.study_id for task in tasks if task.study_id not in waiting)
        if self.run.dry_run:
            planned = tuple(task.study_id for task in todo)
            return Summary(self.stage, skipped=skipped, planned=planned, listing=listing)
        self.storage.sweep()
        done: list[str] = []
        failed: list[str] = []
        with nullcontext(self.crew) if self.crew else Crew(self.run) as crew:
            for record in self._settled(crew, work, todo):
                (failed if record.status == "failed" else done).append(record.study_id)
        write_table(self.storage, read_records(self.storage))
        return Summary(self.stage, tuple(sorted(done)), tuple(sorted(failed)), skipped, listing=listing)

    def _settled(self, crew: Crew, work: Callable[[Any], Record], todo: Sequence[Task]) -> Iterator[Record]:
        outcomes = crew.work_through(partial(settle, work, self.stage), todo)
        for number, (task, outcome) in enumerate(outcomes, 1):
            if isinstance(outcome, FastctError):
                record = _failure(self.storage, self.stage, task, str(outcome))
                write_record(self.storage, record)
            else:
                record = outcome
            event = Event(self.stage, record.study_id, record.status, record.error, task.size_bytes, number, len(todo))
            self.on_event(event)
            yield record


def settle(work: Callable[[Any], Record], stage: str, task: Any) -> Record:
    """Do one study's work and write its record; whatever goes wrong with it becomes part of the record."""
    storage = open_storage(task.store)
    try:
        record = work(task)
    except FastctError as error:
        record = _failure(storage, stage, task, str(error))
    except Exception as error:  # noqa: BLE001  one bad study never stops the others
        record = _failure(storage, stage, task, f"{type(error).__name__}: {error}")
    write_record(storage, record)
    return record


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
    if storage.exists(MANIFEST) or storage.exists(WORK):
        return
    if next(storage.names(""), None) is not None:
        cure = "Give a new or empty folder for the store"
        raise StoreError(storage, f"the folder is not empty, and has no {MANIFEST}", cure)


def _ignore(event: Event) -> None:
    """Take no notice."""
