"""What a study writes down: which jobs there are, how they stand, and how they ended. One process writes.

The file is SQLite in write-ahead mode, flushed to the disk at every change: other processes may read while it is
written, and a killed writer leaves every change whole or absent.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from triscale.errors import RunError, SearchError
from triscale.search.trial import Job, Score

SCHEMA = 1
BUSY_SECONDS = 30.0

_TABLES = """
CREATE TABLE study (name TEXT PRIMARY KEY, settings TEXT NOT NULL) STRICT;
CREATE TABLE job (
  study TEXT NOT NULL REFERENCES study, number INTEGER NOT NULL, network TEXT NOT NULL, training TEXT NOT NULL,
  seed INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'waiting',
  deaths INTEGER NOT NULL DEFAULT 0, worker TEXT, beat REAL, accuracy REAL, error REAL, why TEXT,
  PRIMARY KEY (study, training, start, stop)
) STRICT;
CREATE TABLE event (
  id INTEGER PRIMARY KEY, study TEXT NOT NULL, training TEXT NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
  state TEXT NOT NULL, at REAL NOT NULL
) STRICT;
"""

_WHERE = "study = ? AND training = ? AND start = ? AND stop = ?"


class Entry(NamedTuple):
    """A job as it stands: ``waiting``, ``running``, ``done`` or ``failed``.

    ``deaths``: how many workers died of it since the study was opened. ``beat``: when its worker was last known to
    live, as a time of :func:`time.time`.
    """

    number: int
    network: str
    seed: int
    start: int
    stop: int
    state: str
    deaths: int
    worker: str | None
    beat: float | None
    accuracy: float | None
    error: float | None
    why: str | None


class Ledger(Protocol):
    """Where a study is written down."""

    def add(self, jobs: Sequence[Job]) -> None:
        """Write down jobs that are not known yet, as waiting, in their order."""

    def score(self, job: Job) -> Score | None:
        """Return the score of a job that is done."""

    def begin(self, job: Job, worker: str) -> None:
        """Write down that a worker has a job."""

    def beat(self, worker: str) -> None:
        """Write down that a worker lives."""

    def put_back(self, job: Job) -> None:
        """Write down that a job waits again, through no fault of its own."""

    def lose(self, job: Job) -> int:
        """Write down that a job lost its worker and waits again; return how many it has lost."""

    def end(self, job: Job, score: Score) -> None:
        """Write down the score of a running job, once."""

    def fail(self, job: Job, why: str) -> None:
        """Write down that a running job cannot be carried out."""

    def entries(self) -> tuple[Entry, ...]:
        """Return all jobs as they stand."""


class SqliteLedger:
    """A ledger in one file, which holds any number of studies."""

    def __init__(self, connection: sqlite3.Connection, study: str) -> None:
        self._connection, self._study = connection, study

    def add(self, jobs: Sequence[Job]) -> None:
        """Write down jobs that are not known yet, as waiting, in their order."""
        with self._change() as change:
            known = change.execute("SELECT count(*) FROM job WHERE study = ?", (self._study,)).fetchone()[0]
            for job in jobs:
                known += change.execute(
                    "INSERT OR IGNORE INTO job (study, number, network, training, seed, start, stop) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (self._study, known, job.network.name, job.key, job.seed, job.start, job.stop),
                ).rowcount

    def score(self, job: Job) -> Score | None:
        """Return the score of a job that is done."""
        row = self._connection.execute(
            f"SELECT accuracy, error FROM job WHERE {_WHERE} AND state = 'done'", self._key(job)
        ).fetchone()
        return None if row is None else Score(*row)

    def begin(self, job: Job, worker: str) -> None:
        """Write down that a worker has a job."""
        self._set(job, "running", "worker = ?, beat = ?, why = NULL", worker, time.time())

    def beat(self, worker: str) -> None:
        """Write down that a worker lives."""
        with self._change() as change:
            change.execute(
                "UPDATE job SET beat = ? WHERE study = ? AND worker = ? AND state = 'running'",
                (time.time(), self._study, worker),
            )

    def put_back(self, job: Job) -> None:
        """Write down that a job waits again, through no fault of its own."""
        self._set(job, "waiting", "worker = NULL")

    def lose(self, job: Job) -> int:
        """Write down that a job lost its worker and waits again; return how many it has lost."""
        self._set(job, "waiting", "worker = NULL, deaths = deaths + 1")
        row = self._connection.execute(f"SELECT deaths FROM job WHERE {_WHERE}", self._key(job)).fetchone()
        return int(row[0])

    def end(self, job: Job, score: Score) -> None:
        """Write down the score of a running job, once."""
        self._set(job, "done", "accuracy = ?, error = ?, worker = NULL", score.accuracy, score.error)

    def fail(self, job: Job, why: str) -> None:
        """Write down that a running job cannot be carried out."""
        self._set(job, "failed", "why = ?, worker = NULL", why)

    def entries(self) -> tuple[Entry, ...]:
        """Return all jobs as they stand."""
        rows = self._connection.execute(
            f"SELECT {', '.join(Entry._fields)} FROM job WHERE study = ? ORDER BY number", (self._study,)
        )
        return tuple(Entry(*row) for row in rows)

    def _set(self, job: Job, state: str, change_of: str, *values: object) -> None:
        with self._change() as change:
            changed = change.execute(
                f"UPDATE job SET state = ?, {change_of} WHERE {_WHERE} AND state != 'done'",
                (state, *values, *self._key(job)),
            ).rowcount
            assert changed == 1, f"{job.key} had ended"
            change.execute(
                "INSERT INTO event (study, training, start, stop, state, at) VALUES (?, ?, ?, ?, ?, ?)",
                (*self._key(job), state, time.time()),
            )

    def _key(self, job: Job) -> tuple[str, str, int, int]:
        return (self._study, job.key, job.start, job.stop)

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


@contextmanager
def open_ledger(file: Path, study: str, settings: dict[str, object]) -> Iterator[SqliteLedger]:
    """Open a study for writing, a new one or the same again; jobs that were running or failed wait again.

    Args:
        file: of SQLite; it is made if it does not exist.
        study: name.
        settings: what the results depend on, as plain JSON data; the same name with others is refused.

    Raises:
        RunError: another process writes to the file.
        SearchError: it cannot be opened, holds something else, or a study of this name with other settings.
    """
    with _lock(file):
        connection = _connect(file)
        try:
            _make_tables(connection, file)
            _check_settings(connection, study, settings, file)
            connection.execute(
                "UPDATE job SET state = 'waiting', worker = NULL, deaths = 0 WHERE study = ? AND state != 'done'",
                (study,),
            )
            yield SqliteLedger(connection, study)
        finally:
            connection.close()


def read_entries(file: Path, study: str) -> tuple[Entry, ...]:
    """Return all jobs of a study as they stand, also while it runs.

    Raises:
        SearchError: there is no such file or study.
    """
    if not file.is_file():
        raise SearchError(f"there is no study in {file}; give the file that the search was begun with")
    connection = _connect(file)
    try:
        _check_schema(connection, file)
        names = [name for (name,) in connection.execute("SELECT name FROM study ORDER BY name")]
        if study not in names:
            raise SearchError(f'{file} holds no study "{study}"; it holds {", ".join(names) or "none"}')
        return SqliteLedger(connection, study).entries()
    finally:
        connection.close()


def _connect(file: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as error:
        raise SearchError(f"cannot use {file} as a study: {error}; give another file") from error
    return connection


def _make_tables(connection: sqlite3.Connection, file: Path) -> None:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables == 0:
        connection.executescript(f"BEGIN; {_TABLES} PRAGMA user_version = {SCHEMA}; COMMIT;")
    _check_schema(connection, file)


def _check_schema(connection: sqlite3.Connection, file: Path) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version > SCHEMA:
        raise SearchError(
            f"{file} is a study of schema {version}, and this version of Triscale reads up to schema {SCHEMA}; install "
            "a newer Triscale to go on with it"
        )
    if not {"study", "job", "event"} <= tables:
        raise SearchError(f"{file} is a database of something else; give another file for the study")


def _check_settings(connection: sqlite3.Connection, study: str, settings: dict[str, object], file: Path) -> None:
    text = json.dumps(settings, sort_keys=True)
    connection.execute("INSERT OR IGNORE INTO study VALUES (?, ?)", (study, text))
    known = json.loads(connection.execute("SELECT settings FROM study WHERE name = ?", (study,)).fetchone()[0])
    asked = json.loads(text)
    if known != asked:
        differing = sorted(name for name in known | asked if known.get(name) != asked.get(name))
        raise SearchError(
            f'{file} already holds a study "{study}" with other settings (it differs in {", ".join(differing)}); '
            "give it another name, or the same settings to go on with it"
        )


@contextmanager
def _lock(file: Path) -> Iterator[None]:
    """Be the only writer; the lock goes with the process, also when it is killed."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file.with_name(f".{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise SearchError(f"cannot write to {file.parent}: {error.strerror}; give another file") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            owner = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            raise RunError(f"{file} is in use by {owner}; wait for it, stop it, or give another file") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)
