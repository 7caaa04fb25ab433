"""Spreading work: in this process and over worker processes, with workers that are really killed."""

import os

import pytest
from deadly_jobs import Square, square, where

from fastct.errors import WorkerError
from fastct.options import RunOptions
from fastct.schedule import Crew


def results(work, tasks, **options):
    with Crew(RunOptions(**options)) as crew:
        return list(crew.work_through(work, tasks))


TASKS = [Square(f"study_{n:04d}", n) for n in range(1, 8)]


def test_one_worker_works_in_this_process_largest_first():
    outcomes = results(square, TASKS, workers=1)
    assert [result for _, result in outcomes] == [49, 36, 25, 16, 9, 4, 1]
    assert [result for _, result in results(where, TASKS[:2], workers=1)] == [os.getpid()] * 2


def test_nothing_to_do_starts_nothing():
    assert results(square, [], workers=2) == []


def test_two_workers_give_the_same_results():
    outcomes = results(square, TASKS, workers=2)
    assert {task.study_id: result for task, result in outcomes} == {t.study_id: t.size_bytes**2 for t in TASKS}


def test_a_worker_killed_once_costs_nothing(tmp_path):
    tasks = [*TASKS, Square("deadly", 9, deadly=True, diary=str(tmp_path / "died"))]
    outcomes = {task.study_id: result for task, result in results(square, tasks, workers=2)}
    assert outcomes == {t.study_id: t.size_bytes**2 for t in tasks}
    assert (tmp_path / "died").exists()


def test_a_study_that_kills_each_worker_is_set_aside_and_named(monkeypatch):
    monkeypatch.setattr("fastct.schedule.GRAPH_NODES", 4)  # so that it dies in a batch with others
    tasks = [*TASKS, Square("deadly", 9, deadly=True)]
    outcomes = {task.study_id: result for task, result in results(square, tasks, workers=2)}
    failure = outcomes.pop("deadly")
    assert isinstance(failure, WorkerError)
    assert "deadly: it killed its worker 3 times" in str(failure)
    assert outcomes == {t.study_id: t.size_bytes**2 for t in TASKS}


def test_no_scheduler_at_the_address(monkeypatch):
    monkeypatch.setattr("fastct.schedule.START_TIMEOUT_S", 1)
    with pytest.raises(WorkerError, match="does not answer"):
        results(square, TASKS, scheduler="127.0.0.1:9")
