"""A worker process that runs jobs for a study one after the other, and ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar, NoReturn

from triscale.errors import JobError, TriscaleError
from triscale.locks import LockedError, exclusive_lock
from triscale.record import Record
from triscale.search.study.trial import Job, Score

Work = Callable[[Job, Path], Score]
"""Runs one job in its own folder, which may hold the checkpoints of an interrupted attempt.

It is pickled for other processes, so it has to be a function at the top level of a module, or a partial of one.
"""

ABANDONED = 143
LOCK_SECONDS = 30.0


class Ended(Record):
    """The score of a job, stored with its checkpoints before it is reported."""

    kind_name: ClassVar[str] = "trial"

    start: int
    stop: int
    accuracy: float
    error: float


def serve(jobs: Connection, life: Connection, work: Work) -> NoReturn:
    """Run the jobs that arrive through a pipe until it is closed.

    Args:
        jobs: Pipe for jobs and their results.
        life: Pipe that the study never writes to; the process exits at once when its other end is closed.
        work: Runs a job.
    """
    # Ctrl-C in the terminal reaches all processes; the study decides when its workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with, args=(life,), daemon=True).start()
    while True:
        try:
            job, folder = jobs.recv()
        except EOFError:
            _exit_now()
        try:
            result: Score | str = run_job(work, job, folder)
        except TriscaleError as error:
            result = str(error)
        try:
            jobs.send(result)
        except OSError:
            _exit_now()


def run_job(work: Work, job: Job, folder: Path) -> Score:
    """Run a job, or return its score if it has one.

    Raises:
        JobError: Another process holds the lock of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"score_{job.start}_{job.stop}.json"
    with _locked(folder):
        if file.is_file():
            ended = Ended.load(file)
            return Score(ended.accuracy, ended.error)
        score = work(job, folder)
        Ended(start=job.start, stop=job.stop, accuracy=score.accuracy, error=score.error).save(file)
        return score


def _exit_now() -> NoReturn:
    """Exit without cleanup: shutting down torch takes seconds, and all results are on disk."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _exit_with(life: Connection) -> None:
    """Exit the process when the study ends or is killed, which closes its end of the pipe."""
    try:
        life.recv_bytes()
    except (EOFError, OSError):
        os._exit(ABANDONED)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder; waits for the worker of a killed study, which may take a moment to exit."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(folder / ".worker", seconds=LOCK_SECONDS))
        except LockedError as owner:
            raise JobError(f"{owner} has worked in {folder} for {LOCK_SECONDS:.0f} s; end it, then resume") from None
        yield
