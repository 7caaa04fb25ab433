"""Spreading work: threads, processes, GPUs and clusters, with workers and schedulers that are really killed."""

import contextlib
import os
import signal
import threading
import time
from collections import Counter

import pytest
from deadly_jobs import Square, deaths, square, square_or_refuse, visible, where
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from machines import Machines

from fastct import schedule
from fastct.batches import BATCH_BYTES, BATCH_STUDIES, do_batch, in_batches
from fastct.errors import FileError, OptionError, WorkerError
from fastct.options import RunOptions
from fastct.schedule import Crew

TASKS = [Square(f"study_{n:04d}", n) for n in range(1, 8)]
SQUARES = {task.study_id: task.size_bytes**2 for task in TASKS}


def results(work, tasks, **options):
    with Crew(RunOptions(**options)) as crew:
        return list(crew.work_through(work, tasks))


def by_study(outcomes):
    return {task.study_id: result for task, result in outcomes}


@given(sizes=st.lists(st.integers(0, 3 * BATCH_BYTES) | st.integers(0, 20), max_size=400), workers=st.integers(0, 40))
def test_batches_hold_each_study_once_within_their_budget(sizes, workers):
    tasks = [Square(f"study_{n:04d}", size) for n, size in enumerate(sizes)]
    batches = list(in_batches(tasks, lambda: workers))
    flat = [task for batch in batches for task in batch]
    assert Counter(flat) == Counter(tasks)
    assert [task.size_bytes for task in flat] == sorted(sizes, reverse=True)
    for number, batch in enumerate(batches):
        assert 1 <= len(batch) <= BATCH_STUDIES
        assert len(batch) == 1 or sum(task.size_bytes for task in batch) <= BATCH_BYTES
        left = sum(len(later) for later in batches[number:])
        assert len(batch) <= max(1, -(-left // (2 * max(workers, 1)))), "at the end all are busy"


def test_a_million_studies_are_few_batches_at_a_time():
    tasks = [Square(f"study_{n:07d}", 10_600_000) for n in range(20_000)]
    assert len(next(in_batches(tasks, lambda: 64))) == BATCH_BYTES // 10_600_000


def test_one_worker_works_in_this_process_largest_first():
    outcomes = results(square, TASKS, workers=1)
    assert [result for _, result in outcomes] == [49, 36, 25, 16, 9, 4, 1]
    assert [result for _, result in results(where, TASKS[:2], workers=1)] == [os.getpid()] * 2


def test_nothing_to_do_starts_nothing():
    assert results(square, [], workers=2) == []


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_two_workers_give_the_same_results(pool):
    assert by_study(results(square, TASKS, workers=2, pool=pool)) == SQUARES
    pids = set(by_study(results(where, TASKS, workers=2, pool=pool)).values())
    assert (pids == {os.getpid()}) == (pool == "threads")


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 2, "pool": "threads"}])
def test_an_error_about_a_study_is_its_outcome(options):
    outcomes = by_study(results(square_or_refuse, TASKS, **options))
    assert isinstance(outcomes.pop("study_0003"), FileError)
    assert outcomes == {name: n for name, n in SQUARES.items() if name != "study_0003"}


def hang_at_five(task):
    time.sleep(60 if task.size_bytes == 5 else 0)
    return task.size_bytes


def test_a_study_that_hangs_fails_and_the_others_go_on():
    outcomes = do_batch(hang_at_five, TASKS, 0.2)
    assert [n for n in outcomes if isinstance(n, int)] == [1, 2, 3, 4, 6, 7]
    assert "study_0005: it was not done within 0.2 s" in str(outcomes[4])


def test_the_threads_of_a_job_end_with_it():
    def hands():
        return sum(thread.name == "fastct-hand" for thread in threading.enumerate())

    assert by_study(results(square, TASKS, workers=1)) == SQUARES
    before, deadline = hands(), time.monotonic() + 30
    for _ in range(3):
        assert by_study(results(square, TASKS, workers=2, pool="threads")) == SQUARES
    while hands() > before:
        assert time.monotonic() < deadline, "they wait for work that never comes"
        time.sleep(0.01)


@pytest.mark.parametrize(("device", "found", "seen"), [("cuda", (0, 1), {"5", "GPU-b"}), ("cuda:1", (1,), {"GPU-b"})])
def test_each_process_has_a_gpu_of_its_own(monkeypatch, device, found, seen):
    monkeypatch.setattr(schedule, "find_gpus", {device: found}.get)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-b")
    tasks = [Square(f"study_{n}", 1, waits_s=0.2) for n in range(8)]
    with Crew(RunOptions(workers=2, device=device)) as crew:
        assert set(by_study(crew.work_through(visible, tasks)).values()) == seen
        assert len(set(by_study(crew.work_through(where, tasks)).values())) == 2


def test_deaths_of_workers_cost_nothing_and_the_guilty_are_named(tmp_path):
    """One study kills one worker, one kills two, one kills each that it meets; all in batches with others."""
    tasks = [Square(f"study_{n:04d}", 10) for n in range(60)]
    kills = {"once": 1, "twice": 2, "always": 1000}
    tasks += [Square(name, 10, n, str(tmp_path / name)) for name, n in kills.items()]
    outcomes = by_study(results(square, tasks, workers=2))
    failure = outcomes.pop("always")
    assert isinstance(failure, WorkerError)
    assert "always: it killed its worker 3 times" in str(failure)
    assert outcomes == {task.study_id: 100 for task in tasks if task.study_id != "always"}
    assert [deaths(tmp_path / name) for name in kills] == [1, 2, 3]


@pytest.fixture
def machines(tmp_path):
    with contextlib.closing(Machines(tmp_path)) as found:
        yield found


def test_a_deadly_study_costs_a_cluster_three_workers_and_no_more(machines, tmp_path):
    for n in range(5):
        machines.worker(f"worker{n}")
    machines.wait_for(5)
    tasks = [*TASKS, Square("deadly", 9, 1000, str(tmp_path / "diary"))]
    outcomes = by_study(results(square, tasks, scheduler=machines.address))
    assert "killed its worker 3 times" in str(outcomes.pop("deadly"))
    assert outcomes == SQUARES
    assert deaths(tmp_path / "diary") == 3
    machines.wait_for(2)


def test_a_worker_lost_for_good_and_a_client_of_the_callers_own(machines):
    machines.worker("worker0")
    machines.worker("worker1")
    machines.wait_for(2)
    tasks = [Square(f"study_{n:04d}", 10, waits_s=0.05) for n in range(40)]
    with Client(machines.address, set_as_default=False) as client, Crew(RunOptions(scheduler=client)) as crew:
        outcomes = crew.work_through(square, tasks)
        found = [next(outcomes)]
        machines.kill("worker1")
        found += outcomes
        assert by_study(found) == {task.study_id: 100 for task in tasks}
        assert client.status == "running", "it is the caller's to close"


def test_a_cluster_that_loses_all_workers_ends_with_an_error(machines):
    machines.worker("worker0")
    machines.wait_for(1)
    tasks = [Square(f"study_{n:04d}", 10, waits_s=0.05) for n in range(40)]
    with Crew(RunOptions(scheduler=machines.address, worker_wait_s=1.5)) as crew:
        outcomes = crew.work_through(square, tasks)
        next(outcomes)
        machines.kill("worker0")
        with pytest.raises(WorkerError, match=r"no worker for 1\.5 s.*goes on from there"):
            list(outcomes)


def test_a_cluster_that_never_has_a_worker(machines):
    with pytest.raises(WorkerError, match="no worker for 1 s"):
        results(square, TASKS, scheduler=machines.address, worker_wait_s=1)


def test_a_cluster_without_fastct_is_named(tmp_path):
    """Scheduler and worker that find another version of fastct, then none that the work could be done with."""
    (tmp_path / "old" / "fastct").mkdir(parents=True)
    (tmp_path / "old" / "fastct" / "__init__.py").write_text("__version__ = '0.0.1'\n")
    with contextlib.closing(Machines(tmp_path)) as machines:
        machines.worker("worker0", path=[tmp_path / "old"])
        machines.wait_for(1)
        with pytest.raises(WorkerError, match=r"was wanted, and worker tcp://.* has 0\.0\.1"):
            results(square, TASKS, scheduler=machines.address)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_scheduler_that_goes_away(machines, monkeypatch, blow):
    monkeypatch.setattr(schedule, "ANSWER_S", 2)
    machines.worker("worker0")
    machines.wait_for(1)
    tasks = [Square(f"study_{n:04d}", 10, waits_s=0.1) for n in range(100)]
    with Crew(RunOptions(scheduler=machines.address)) as crew:
        outcomes = crew.work_through(square, tasks)
        next(outcomes)
        machines.kill("scheduler", blow)
        with pytest.raises(WorkerError, match=r"scheduler: it (went away|does not answer).*goes on from there"):
            list(outcomes)


def test_no_scheduler_at_the_address(monkeypatch):
    monkeypatch.setattr(schedule, "START_S", 1)
    with pytest.raises(WorkerError, match="does not answer"):
        results(square, TASKS, scheduler="127.0.0.1:9")


@pytest.mark.parametrize("options", [{"pool": "fork"}, {"worker_wait_s": 0}, {"study_limit_s": float("nan")}])
def test_other_options_are_refused(options):
    with pytest.raises(OptionError):
        RunOptions(**options)
