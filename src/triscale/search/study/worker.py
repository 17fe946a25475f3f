"""A process that carries out jobs for a study, one after the other, and does not outlive it."""

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
"""Carries out one job in a folder of its own, which holds what an earlier, interrupted attempt left there.

It is sent to other processes, so that it has to be a function at the top level of a module, or a partial of one.
"""

ABANDONED = 143
LOCK_SECONDS = 30.0


class Ended(Record):
    """The score of a job, beside its checkpoints: written before anyone is told."""

    kind_name: ClassVar[str] = "trial"

    start: int
    stop: int
    accuracy: float
    error: float


def serve(jobs: Connection, life: Connection, work: Work) -> NoReturn:
    """Carry out what comes through ``jobs`` until it is closed; die at once when the other end of ``life`` does."""
    # An interrupt of the terminal reaches all processes; the study decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(life,), daemon=True).start()
    while True:
        try:
            job, folder = jobs.recv()
        except EOFError:
            _leave()
        try:
            answer: Score | str = carry_out(work, job, folder)
        except TriscaleError as error:
            answer = str(error)
        try:
            jobs.send(answer)
        except OSError:
            _leave()


def carry_out(work: Work, job: Job, folder: Path) -> Score:
    """Do a job, or return the score that it already has.

    Raises:
        JobError: Another process works in the folder and does not end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"score_{job.start}_{job.stop}.json"
    with _alone(folder):
        if file.is_file():
            ended = Ended.load(file)
            return Score(ended.accuracy, ended.error)
        score = work(job, folder)
        Ended(start=job.start, stop=job.stop, accuracy=score.accuracy, error=score.error).save(file)
        return score


def _leave() -> NoReturn:
    """End this process at once: taking torch down takes seconds, and all that counts is on the disk."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _die_with(life: Connection) -> None:
    """End this process, whatever it does, when the study has finished or was killed: it closes its end then."""
    try:
        life.recv_bytes()
    except (EOFError, OSError):
        os._exit(ABANDONED)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder; the worker of a study that was killed may take a moment to die."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive_lock(folder / ".worker", seconds=LOCK_SECONDS))
        except LockedError as owner:
            raise JobError(f"{owner} has worked in {folder} for {LOCK_SECONDS:.0f} s; end it, then resume") from None
        yield
