"""A study in processes that are killed: each job ends exactly once, and the winner is the same."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import sizes
from search.coordinator import NAME, accuracy, candidates, proxy
from triscale.errors import Interrupted, JobError, RunError, SearchError, UserError
from triscale.search.ledger import open_ledger, read_entries
from triscale.search.methods import search_halving
from triscale.search.study import Study
from triscale.search.trial import Found, Job, Score

TESTS = Path(__file__).parent.parent
NUMBER, SEEDS = sizes.size(10, 19), sizes.size(2, 10)
JOBS = sizes.size((10 + 4 + 2) * 2, (19 + 7 + 3) * 10)
"""Candidates of the three rungs, with each seed."""


def start(folder: Path, seconds: float = 0.2) -> subprocess.Popen[bytes]:
    """Start a coordinator."""
    return subprocess.Popen(
        [sys.executable, "-m", "search.coordinator", str(folder), str(NUMBER), str(SEEDS), str(seconds)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stderr=(folder / "stderr").open("ab"),
    )


def undisturbed() -> Found:
    return search_halving(candidates(NUMBER), proxy(SEEDS), lambda jobs: [Score(accuracy(job), 0.005) for job in jobs])


def running(file: Path) -> list[int]:
    """Return the workers that have a job."""
    if not file.is_file():
        return []
    try:
        entries = read_entries(file, NAME)
    except SearchError:
        return []  # it is just being made
    pids = [int(entry.worker.split()[1]) for entry in entries if entry.state == "running" and entry.worker]
    return [pid for pid in pids if alive(pid) and b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def events(file: Path) -> Counter[tuple[object, ...]]:
    with sqlite3.connect(file) as connection:
        rows = connection.execute("SELECT training, start, stop FROM event WHERE state = 'done'").fetchall()
    return Counter(rows)


def test_a_search_that_is_killed_again_and_again_loses_nothing(tmp_path):
    worker_kills, coordinator_kills = sizes.size(10, 100), sizes.size(3, 20)
    random_numbers = random.Random(7)
    plan = ["worker"] * worker_kills + ["coordinator"] * coordinator_kills
    random_numbers.shuffle(plan)
    file, kills = tmp_path / "study.db", Counter[str]()
    coordinator = start(tmp_path)
    until = time.monotonic() + sizes.size(120, 1200)
    while plan and coordinator.poll() is None and time.monotonic() < until:
        time.sleep(random_numbers.uniform(0.05, 0.4))
        victims = running(file)
        if not victims:
            continue
        kills[plan[-1]] += 1
        if plan.pop() == "worker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(random_numbers.choice(victims), signal.SIGKILL)
        else:
            coordinator.kill()
            coordinator.wait()
            coordinator = start(tmp_path)
    assert coordinator.wait(timeout=60) == 0, (tmp_path / "stderr").read_text()

    done = events(file)
    entries = read_entries(file, NAME)
    assert len(entries) == len(done) == JOBS
    assert set(done.values()) == {1}
    assert {entry.state for entry in entries} == {"done"}
    found, expected = Found.load(tmp_path / "found.json"), undisturbed()
    assert found == expected

    # A kill costs the epoch that was not saved yet, and nothing else.
    computed = Counter((tmp_path / "log").read_text().splitlines())
    assert len(computed) == sum(entry.stop - entry.start for entry in entries)
    assert sum(computed.values()) - len(computed) <= kills["worker"] + 2 * kills["coordinator"]
    assert kills["worker"] == worker_kills
    sizes.figure(12, "jobs that ended exactly once", sum(n == 1 for n in done.values()), JOBS, **kills)


def test_a_killed_coordinator_takes_its_workers_with_it(tmp_path):
    coordinator = start(tmp_path, seconds=5)
    until = time.monotonic() + 60
    while len(victims := running(tmp_path / "study.db")) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    coordinator.kill()
    coordinator.wait()
    while any(alive(pid) for pid in victims) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(victims) == 2
    assert not any(alive(pid) for pid in victims)


def alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.is_file() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def some_jobs(number: int) -> list[Job]:
    return [Job(candidate.network, 0, 0, 1) for candidate in candidates(number).candidates]


def at_once(job: Job, folder: Path) -> Score:
    return Score(0.5 + 0.001 * len(job.network.name), 0.01)


def refusing(job: Job, folder: Path, *, name: str) -> Score:
    if job.network.name == name:
        raise JobError("the loss is not finite")
    return at_once(job, folder)


def dying(job: Job, folder: Path) -> Score:
    os.kill(os.getpid(), signal.SIGKILL)
    return at_once(job, folder)


def sleeping(job: Job, folder: Path) -> Score:
    time.sleep(60)
    return at_once(job, folder)


def raising(job: Job, folder: Path) -> Score:
    raise ZeroDivisionError


def test_scores_come_in_the_order_of_the_jobs_and_are_kept(tmp_path):
    jobs, told = some_jobs(4), []
    with open_ledger(tmp_path / "study.db", "a", {}) as ledger:
        study = Study(ledger, tmp_path, at_once, workers=2, on_change=lambda ended, total: told.append((ended, total)))
        scores = study.evaluate(jobs)
        assert scores == [at_once(job, tmp_path) for job in jobs]
        assert told[-1] == (4, 4)
        assert Study(ledger, tmp_path, dying).evaluate(jobs) == scores


def test_a_job_that_fails_stops_the_study_and_is_taken_up_again(tmp_path):
    jobs = some_jobs(3)
    with open_ledger(tmp_path / "study.db", "a", {}) as ledger:
        work = partial(refusing, name=jobs[1].network.name)
        with pytest.raises(JobError, match=rf"{jobs[1].network.name} with seed 0 failed: the loss is not finite"):
            Study(ledger, tmp_path, work).evaluate(jobs)
        assert [entry.state for entry in ledger.entries()] == ["done", "failed", "waiting"]
        assert ledger.entries()[1].why == "the loss is not finite"
    with open_ledger(tmp_path / "study.db", "a", {}) as ledger:
        assert len(Study(ledger, tmp_path, at_once).evaluate(jobs)) == 3


@pytest.mark.parametrize(
    ("work", "words"), [(dying, "died 5 times, the last time with exit code -9"), (raising, "not foreseen")]
)
def test_a_job_that_cannot_be_done_is_given_up(tmp_path, work, words):
    with open_ledger(tmp_path / "study.db", "a", {}) as ledger, pytest.raises(JobError, match=words):
        Study(ledger, tmp_path, work).evaluate(some_jobs(1))


def test_a_stopped_study_goes_on(tmp_path):
    jobs = some_jobs(3)
    with open_ledger(tmp_path / "study.db", "a", {}) as ledger:
        asked = iter([False])
        slow = Study(ledger, tmp_path, sleeping, should_stop=lambda: next(asked, True))
        with pytest.raises(Interrupted, match="the same command goes on"):
            slow.evaluate(jobs)
        assert {entry.state for entry in ledger.entries()} == {"waiting"}
        assert len(Study(ledger, tmp_path, at_once).evaluate(jobs)) == 3


def test_a_study_has_one_coordinator(tmp_path):
    with open_ledger(tmp_path / "study.db", "a", {}):
        with (
            pytest.raises(RunError, match=rf"in use by process {os.getpid()}"),
            open_ledger(tmp_path / "study.db", "a", {}),
        ):
            pass
        assert read_entries(tmp_path / "study.db", "a") == ()


def test_a_study_of_the_same_name_with_other_settings_is_refused(tmp_path):
    file = tmp_path / "study.db"
    with open_ledger(file, "a", {"epochs": 3, "grid": {"step": 0.1}}):
        pass
    with open_ledger(file, "a", {"grid": {"step": 0.1}, "epochs": 3}), pytest.raises(UserError):
        read_entries(file, "b")
    with (
        pytest.raises(SearchError, match=r"other settings \(it differs in epochs\)"),
        open_ledger(file, "a", {"epochs": 4, "grid": {"step": 0.1}}),
    ):
        pass
    with open_ledger(file, "b", {"epochs": 4}) as ledger:
        assert ledger.entries() == ()


def test_a_file_that_is_no_study_is_refused(tmp_path):
    words = tmp_path / "words.db"
    words.write_text("this is no database, but it is longer than the header of one would be" * 4)
    with pytest.raises(SearchError, match="cannot use"), open_ledger(words, "a", {}):
        pass
    assert words.read_text().startswith("this is no database")

    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(SearchError, match="database of something else"), open_ledger(other, "a", {}):
        pass

    newer = tmp_path / "newer.db"
    with open_ledger(newer, "a", {}):
        pass
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 9")
    with pytest.raises(SearchError, match="schema 9"), open_ledger(newer, "a", {}):
        pass

    with pytest.raises(SearchError, match="there is no study in"):
        read_entries(tmp_path / "none.db", "a")
    blocked = tmp_path / "words.db" / "study.db"
    with pytest.raises(SearchError, match="cannot write to"), open_ledger(blocked, "a", {}):
        pass
