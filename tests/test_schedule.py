"""Spreading work: in this process and over worker processes, with workers that are really killed."""

import os

import pytest
from deadly_jobs import Square, square, where

from fastct.errors import WorkerError
from fastct.options import RunOptions
from fastct.schedule import work_through

TASKS = [Square(f"study_{n:04d}", n) for n in range(1, 8)]


def test_one_worker_works_in_this_process_largest_first():
    outcomes = list(work_through(square, TASKS, RunOptions(workers=1)))
    assert [result for _, result in outcomes] == [49, 36, 25, 16, 9, 4, 1]
    assert [result for _, result in work_through(where, TASKS[:2], RunOptions(workers=1))] == [os.getpid()] * 2


def test_nothing_to_do_starts_nothing():
    assert list(work_through(square, [], RunOptions(workers=2))) == []


def test_two_workers_give_the_same_results():
    outcomes = work_through(square, TASKS, RunOptions(workers=2))
    assert {task.study_id: result for task, result in outcomes} == {t.study_id: t.size_bytes**2 for t in TASKS}


def test_a_worker_killed_once_costs_nothing(tmp_path):
    tasks = [*TASKS, Square("deadly", 9, deadly=True, diary=str(tmp_path / "died"))]
    outcomes = {task.study_id: result for task, result in work_through(square, tasks, RunOptions(workers=2))}
    assert outcomes == {t.study_id: t.size_bytes**2 for t in tasks}
    assert (tmp_path / "died").exists()


def test_a_study_that_kills_each_worker_is_set_aside_and_named(monkeypatch):
    monkeypatch.setattr("fastct.schedule.GRAPH_NODES", 4)  # so that it dies in a batch with others
    tasks = [*TASKS, Square("deadly", 9, deadly=True)]
    outcomes = {task.study_id: result for task, result in work_through(square, tasks, RunOptions(workers=2))}
    failure = outcomes.pop("deadly")
    assert isinstance(failure, WorkerError)
    assert "deadly: it killed its worker 3 times" in str(failure)
    assert outcomes == {t.study_id: t.size_bytes**2 for t in TASKS}


def test_no_scheduler_at_the_address(monkeypatch):
    monkeypatch.setattr("fastct.schedule.START_TIMEOUT_S", 1)
    with pytest.raises(WorkerError, match="does not answer"):
        list(work_through(square, TASKS, RunOptions(scheduler="127.0.0.1:9")))
