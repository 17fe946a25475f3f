"""A study shared by several coordinators, as on several machines, on a PostgreSQL server."""

from __future__ import annotations

import importlib.util
import sys
import threading
import time
from collections import Counter

import pytest

import sizes
from search.coordinator import describe
from search.postgres import find_server, run_server
from search.test_study import at_once, check_nothing_was_lost, disturb, sleeping, some_jobs
from triscale.errors import JobError, SearchError
from triscale.search.study.entries import read_entries
from triscale.search.study.ledger import open_ledger
from triscale.search.study.study import Study

PROGRAMS = find_server()
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL (initdb) is not installed"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg") is None, reason="psycopg is not installed"),
]


@pytest.fixture(scope="module")
def server():
    assert PROGRAMS is not None
    with run_server(PROGRAMS) as started:
        yield started


@pytest.mark.stress
def test_repeatedly_killed_machines_lose_no_results(server, tmp_path):
    kills = disturb(tmp_path, [server.url] * 2, sizes.size(5, 100), sizes.size(2, 20), seconds=0.1)
    check_nothing_was_lost(tmp_path, server.url, kills)
    assert len(list(tmp_path.glob("found-*.json"))) == 2


def test_machines_share_jobs_and_run_each_once(server, tmp_path):
    jobs = some_jobs(6)
    done: Counter[str] = Counter()

    def coordinate(number: int) -> None:
        with open_ledger(server.url, "shared", {}, describe) as ledger:
            work = Study(ledger, tmp_path / str(number), at_once).evaluate(jobs)
            assert work == [at_once(job, tmp_path) for job in jobs]
        done.update(path.parent.name for path in (tmp_path / str(number)).glob("*/score_*.json"))

    both = [threading.Thread(target=coordinate, args=(number,)) for number in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(timeout=120)
    assert done == {job.key: 1 for job in jobs}


@pytest.mark.stress
def test_study_survives_server_outage(server, tmp_path):
    jobs = some_jobs(3)
    with open_ledger(server.url, "away", {}, describe, patience=60) as ledger:
        ledger.add(jobs)
        server.stop()
        threading.Timer(3, server.start).start()
        assert len(Study(ledger, tmp_path, at_once).evaluate(jobs)) == 3
    with open_ledger(server.url, "gone", {}, describe, patience=2) as ledger:
        ledger.add(jobs)
        server.stop()
        with pytest.raises(SearchError, match="is unreachable"):
            Study(ledger, tmp_path, at_once).evaluate(jobs)
    server.start()


def test_failed_job_ends_search_on_all_machines(server, tmp_path):
    jobs = some_jobs(2)
    failures: list[str] = []
    waiting = threading.Event()

    def keep_waiting() -> bool:
        waiting.set()
        return bool(failures)

    def wait_for_the_other() -> None:
        with open_ledger(server.url, "failing", {}, describe) as ledger:
            try:
                Study(ledger, tmp_path / "slow", sleeping, should_stop=keep_waiting).evaluate(jobs[:1])
            except JobError as error:
                failures.append(str(error))

    with open_ledger(server.url, "failing", {}, describe) as ledger:
        ledger.add(jobs)
        assert ledger.claim(jobs[:1]) == jobs[0]
        other = threading.Thread(target=wait_for_the_other)
        other.start()
        assert waiting.wait(timeout=60)
        ledger.fail(jobs[0], "the loss is not finite")
        other.join(timeout=60)
    assert failures == [f"{jobs[0].network.name} with seed 0 failed: the loss is not finite"]


def test_result_after_lease_expiry_is_ignored(server):
    jobs = some_jobs(1)
    with (
        open_ledger(server.url, "late", {}, describe, grace=1) as late,
        open_ledger(server.url, "late", {}, describe, grace=1) as other,
    ):
        late.add(jobs)
        assert late.claim(jobs) == jobs[0]
        other.refresh()
        assert other.claim(jobs) is None
        until = time.monotonic() + 30
        while not other.lost(jobs) and time.monotonic() < until:
            time.sleep(0.2)
            other.refresh()
        other.add(jobs)
        assert other.claim(jobs) == jobs[0]
        late.end(jobs[0], at_once(jobs[0], None)._replace(accuracy=0.1))
        other.end(jobs[0], at_once(jobs[0], None))
        assert [entry.accuracy for entry in other.entries()] == [at_once(jobs[0], None).accuracy]
        assert other.entries()[0].attempts == 2


def test_job_of_dead_machine_is_claimed_by_another(server, monkeypatch):
    """The machine is killed after it claimed the job, before it writes anything else."""
    jobs = some_jobs(1)
    with (
        open_ledger(server.url, "claiming", {}, describe, grace=1) as dying,
        open_ledger(server.url, "claiming", {}, describe, grace=1) as other,
    ):
        dying.add(jobs)
        monkeypatch.setattr(dying._storage.rdb, "set_trial_user_attr", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            dying.claim(jobs)
        until = time.monotonic() + 30
        other.refresh()
        while not other.lost(jobs) and time.monotonic() < until:
            time.sleep(0.2)
            other.refresh()
        other.add(jobs)
        assert other.claim(jobs) == jobs[0]


def test_invalid_shared_studies_are_rejected(server):
    for address, words in (
        ("postgresql://triscale@127.0.0.1:1/postgres", "cannot reach postgresql://triscale@127.0.0.1:1/postgres"),
        (server.url.replace("/postgres", "/none", 2).replace("none:", "postgres:"), "cannot reach"),
        ("mysql://somebody@somewhere/some", "cannot be shared by machines"),
        ("study.db", "cannot be shared by machines"),
    ):
        with pytest.raises(SearchError, match=words), open_ledger(address, "a", {}, describe):
            pass
    with (
        pytest.raises(SearchError, match="cannot be shared") as caught,
        open_ledger("mysql://a:secret@b/c", "a", {}, describe),
    ):
        pass
    assert "secret" not in str(caught.value)
    with open_ledger(server.url, "settings", {"epochs": 1}, describe):
        pass
    with (
        pytest.raises(SearchError, match=r"other settings \(it differs in epochs\)"),
        open_ledger(server.url, "settings", {"epochs": 2}, describe),
    ):
        pass
    with pytest.raises(SearchError, match='holds no study "none"; it holds'):
        read_entries(server.url, "none")
