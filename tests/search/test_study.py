"""A study whose processes are killed: each job ends exactly once, and the result is the same."""

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

import optuna
import pytest
from optuna.trial import TrialState

import sizes
from search.coordinator import NAME, accuracy, candidates, describe, proxy
from triscale.errors import Interrupted, JobError, RunError, SearchError, UserError
from triscale.search.coefficients.methods import search_halving
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.study.entries import read_entries
from triscale.search.study.ledger import open_ledger
from triscale.search.study.storage import read_storage
from triscale.search.study.study import Study
from triscale.search.study.trial import Job, Score

TESTS = Path(__file__).parent.parent
FILE = "study.db"
NUMBER, SEEDS = sizes.size(10, 19), sizes.size(2, 10)
JOBS = sizes.size((10 + 4 + 2) * 2, (19 + 7 + 3) * 10)
"""Candidates of the three rungs, with each seed."""


def start(folder: Path, seconds: float = 0.2, place: str = FILE) -> subprocess.Popen[bytes]:
    """Start a coordinator."""
    return subprocess.Popen(
        [sys.executable, "-m", "search.coordinator", str(folder), place, str(NUMBER), str(SEEDS), str(seconds)],
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        stderr=(folder / "stderr").open("ab"),
    )


def undisturbed() -> CoefficientSearchResult:
    return search_halving(candidates(NUMBER), proxy(SEEDS), lambda jobs: [Score(accuracy(job), 0.005) for job in jobs])


def workers_of(coordinator: subprocess.Popen[bytes]) -> list[int]:
    """Return the worker processes of a coordinator."""
    result = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == coordinator.pid and b"spawn_main" in (process / "cmdline").read_bytes():
                result.append(int(process.name))
    return result


def disturb(folder: Path, places: list[str], worker_kills: int, coordinator_kills: int, seconds: float) -> Counter[str]:
    """Run one coordinator per storage, kill them and their workers a given number of times, and let them finish."""
    random_numbers = random.Random(7)
    plan = ["worker"] * worker_kills + ["coordinator"] * coordinator_kills
    random_numbers.shuffle(plan)
    kills: Counter[str] = Counter()
    running = [start(folder, seconds, place) for place in places]
    until = time.monotonic() + sizes.size(180, 1800)
    while plan and any(one.poll() is None for one in running) and time.monotonic() < until:
        time.sleep(random_numbers.uniform(0.05, 0.4))
        number = random_numbers.randrange(len(running))
        victims = workers_of(running[number])
        if not victims or not (folder / "log").is_file():
            continue
        kills[plan[-1]] += 1
        if plan.pop() == "worker":
            with contextlib.suppress(ProcessLookupError):
                os.kill(random_numbers.choice(victims), signal.SIGKILL)
        else:
            running[number].kill()
            running[number].wait()
            running[number] = start(folder, seconds, places[number])
    for one in running:
        assert one.wait(timeout=sizes.size(300, 1200)) == 0, (folder / "stderr").read_text()
    return kills


def check_nothing_was_lost(folder: Path, place: str | Path, kills: Counter[str]) -> None:
    """Check that each job finished exactly once with the undisturbed result, and no saved epoch was repeated."""
    entries = read_entries(place, NAME)
    with read_storage(place) as storage:
        complete = Counter(
            (trial.user_attrs["training"], trial.user_attrs["start"], trial.user_attrs["stop"])
            for trial in optuna.load_study(study_name=NAME, storage=storage.rdb).trials
            if trial.state == TrialState.COMPLETE
        )
    assert len(entries) == len(complete) == JOBS
    assert set(complete.values()) == {1}
    assert {entry.state for entry in entries} == {"done"}
    result = [CoefficientSearchResult.load(path) for path in folder.glob("found-*.json")]
    assert result
    assert all(one == undisturbed() for one in result)
    # A kill costs only the unsaved epoch.
    computed = Counter((folder / "log").read_text().splitlines())
    assert len(computed) == sum(entry.stop - entry.start for entry in entries)
    assert sum(computed.values()) - len(computed) <= kills["worker"] + 2 * kills["coordinator"]
    sizes.figure(12, "jobs that ended exactly once", sum(n == 1 for n in complete.values()), JOBS, **kills)


@pytest.mark.process
def test_repeatedly_killed_search_loses_no_results(tmp_path):
    worker_kills, coordinator_kills = sizes.size(5, 100), sizes.size(2, 20)
    kills = disturb(tmp_path, [FILE], worker_kills, coordinator_kills, seconds=0.2)
    check_nothing_was_lost(tmp_path, tmp_path / FILE, kills)
    assert kills["worker"] == worker_kills


@pytest.mark.process
@pytest.mark.stress
def test_killed_coordinator_ends_its_workers(tmp_path):
    coordinator = start(tmp_path, seconds=5)
    until = time.monotonic() + 60
    while (len(victims := workers_of(coordinator)) < 2 or not read_any(tmp_path / FILE)) and time.monotonic() < until:
        time.sleep(0.05)
    coordinator.kill()
    coordinator.wait()
    while any(alive(pid) for pid in victims) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(victims) == 2
    assert not any(alive(pid) for pid in victims)


def read_any(file: Path) -> bool:
    """Return whether a study has started."""
    try:
        return any(entry.state == "running" for entry in read_entries(file, NAME))
    except SearchError:
        return False


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


def naming_itself(job: Job, folder: Path) -> Score:
    return Score(float(os.getpid()), 0.01)


def raising(job: Job, folder: Path) -> Score:
    raise ZeroDivisionError


@pytest.mark.process
def test_scores_follow_job_order_and_are_cached(tmp_path):
    jobs, changes = some_jobs(4), []
    with open_ledger(tmp_path / "study.db", "a", {}, describe) as ledger:
        study = Study(ledger, tmp_path, at_once, workers=2, on_change=changes.append)
        scores = study.evaluate(jobs)
        assert scores == [at_once(job, tmp_path) for job in jobs]
        assert changes[-1][:2] == (4, 4)
        assert Study(ledger, tmp_path, dying).evaluate(jobs) == scores


@pytest.mark.process
def test_workers_are_reused_until_study_ends(tmp_path):
    jobs = some_jobs(4)
    with open_ledger(tmp_path / "study.db", "a", {}, describe) as ledger:
        with Study(ledger, tmp_path, naming_itself) as study:
            (first,), (second,) = study.evaluate(jobs[:1]), study.evaluate(jobs[1:2])
            os.kill(int(first.accuracy), signal.SIGKILL)  # the death of an idle worker is not counted against a job
            (third,) = study.evaluate(jobs[2:3])
            assert all(entry.state == "done" for entry in ledger.entries())
        (fourth,) = Study(ledger, tmp_path, naming_itself).evaluate(jobs[3:])
    assert first == second
    assert len({first.accuracy, third.accuracy, fourth.accuracy}) == 3
    assert not any(alive(int(score.accuracy)) for score in (first, third, fourth))


def test_failed_job_stops_study_and_is_retried_on_resume(tmp_path):
    jobs = some_jobs(3)
    with open_ledger(tmp_path / "study.db", "a", {}, describe) as ledger:
        work = partial(refusing, name=jobs[1].network.name)
        with pytest.raises(JobError, match=rf"{jobs[1].network.name} with seed 0 failed: the loss is not finite"):
            Study(ledger, tmp_path, work).evaluate(jobs)
        assert [entry.state for entry in ledger.entries()] == ["done", "failed", "waiting"]
        assert ledger.entries()[1].failure == "the loss is not finite"
    with open_ledger(tmp_path / "study.db", "a", {}, describe) as ledger:
        assert len(Study(ledger, tmp_path, at_once).evaluate(jobs)) == 3


@pytest.mark.process
@pytest.mark.parametrize(
    ("work", "words"), [(dying, "died 5 times, the last time with exit code -9"), (raising, "unexpected error")]
)
@pytest.mark.stress
def test_impossible_job_is_abandoned(tmp_path, work, words):
    with open_ledger(tmp_path / "study.db", "a", {}, describe) as ledger, pytest.raises(JobError, match=words):
        Study(ledger, tmp_path, work).evaluate(some_jobs(1))


def test_stopped_study_resumes(tmp_path):
    jobs = some_jobs(3)
    with open_ledger(tmp_path / "study.db", "a", {}, describe) as ledger:
        answers = iter([False])
        slow = Study(ledger, tmp_path, sleeping, should_stop=lambda: next(answers, True))
        with pytest.raises(Interrupted, match="the same command resumes"):
            slow.evaluate(jobs)
        assert {entry.state for entry in ledger.entries()} == {"waiting"}
        assert len(Study(ledger, tmp_path, at_once).evaluate(jobs)) == 3


def test_study_has_one_coordinator(tmp_path):
    with open_ledger(tmp_path / "study.db", "a", {}, describe):
        with (
            pytest.raises(RunError, match=rf"in use by process {os.getpid()}"),
            open_ledger(tmp_path / "study.db", "a", {}, describe),
        ):
            pass
        assert read_entries(tmp_path / "study.db", "a") == ()


def test_study_with_other_settings_is_rejected(tmp_path):
    file = tmp_path / "study.db"
    with open_ledger(file, "a", {"epochs": 3, "grid": {"step": 0.1}}, describe):
        pass
    with open_ledger(file, "a", {"grid": {"step": 0.1}, "epochs": 3}, describe), pytest.raises(UserError):
        read_entries(file, "b")
    with (
        pytest.raises(SearchError, match=r"other settings \(it differs in epochs\)"),
        open_ledger(file, "a", {"epochs": 4, "grid": {"step": 0.1}}, describe),
    ):
        pass
    with open_ledger(file, "b", {"epochs": 4}, describe) as ledger:
        assert ledger.entries() == ()


def test_file_that_is_not_a_study_is_rejected(tmp_path):
    words = tmp_path / "words.db"
    words.write_text("this is no database, but it is longer than the header of one would be" * 4)
    with pytest.raises(SearchError, match="cannot use"), open_ledger(words, "a", {}, describe):
        pass
    assert words.read_text().startswith("this is no database")

    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (a)")
    with pytest.raises(SearchError, match="database of another application"), open_ledger(other, "a", {}, describe):
        pass

    for name, statement, words in (
        ("newer.db", "UPDATE study_user_attributes SET value_json = '{\"schema\": 9}'", "schema 9"),
        ("optuna.db", "UPDATE alembic_version SET version_num = 'v9.0.0.a'", "another version of Optuna"),
    ):
        newer = tmp_path / name
        with open_ledger(newer, "a", {}, describe):
            pass
        with sqlite3.connect(newer) as connection:
            connection.execute(statement)
        with pytest.raises(SearchError, match=words), open_ledger(newer, "a", {}, describe):
            pass

    mine = tmp_path / "mine.db"
    optuna.create_study(storage=f"sqlite:///{mine}", study_name="a").add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(SearchError, match="is not Triscale's"), open_ledger(mine, "a", {}, describe):
        pass

    with pytest.raises(SearchError, match="there is no study in"):
        read_entries(tmp_path / "none.db", "a")
    blocked = tmp_path / "words.db" / "study.db"
    with pytest.raises(SearchError, match="cannot write to"), open_ledger(blocked, "a", {}, describe):
        pass
