"""A coordinator that gives jobs to worker processes, so that each job finishes exactly once.

Search methods are deterministic functions of scores. A search that was stopped or killed therefore resumes by calling
the same method again with :meth:`Study.evaluate`: scores of finished jobs come from the ledger, and interrupted jobs
resume from the checkpoints in their folders. Coordinators on several machines call the same method with one ledger:
each claims jobs for its own workers and waits for the others'.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple, Self

from triscale.errors import Interrupted, JobError
from triscale.search.study.ledger import Ledger
from triscale.search.study.trial import Job, Score
from triscale.search.study.worker import Work, serve

POLL_SECONDS = 0.5
REFRESH_SECONDS = 2.0
STOP_SECONDS = 30.0
MAX_DEATHS = 5
EXCEPTION_EXIT_CODE = 1
"""Exit code of a worker that ended by an exception: a retry would fail the same way."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    jobs: Connection
    life: Connection
    job: Job | None = None


class Pace(NamedTuple):
    """Progress of a call: finished jobs, all jobs, and the estimated seconds left, if known."""

    ended: int
    total: int
    seconds_left: float | None


class Study:
    """Runs the jobs of one search.

    In a ``with`` statement, idle workers wait for the next jobs until its end; otherwise they end with each call.

    Args:
        ledger: Records jobs and scores.
        folder: Holds a folder for each training, with its checkpoints.
        work: Runs a job in its folder, in a worker process.
        workers: Number of worker processes.
        max_deaths: Number of killed workers (out of memory, for example) after which a job fails.
        should_stop: Polled; true stops the search.
        on_change: Called with the progress.
        weigh: Relative cost of a job, for the estimate of the time left.
    """

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        work: Work,
        *,
        workers: int = 1,
        max_deaths: int = MAX_DEATHS,
        should_stop: Callable[[], bool] = lambda: False,
        on_change: Callable[[Pace], None] = lambda pace: None,
        weigh: Callable[[Job], float] = lambda job: job.stop - job.start,
    ) -> None:
        self._ledger, self._folder, self._work, self._count = ledger, folder, work, workers
        self._max_deaths, self._should_stop = max_deaths, should_stop
        self._on_change, self._weigh = on_change, weigh
        self._deaths: Counter[str] = Counter()
        self._workers: list[_Worker] = []
        self._keeps_workers = False

    def __enter__(self) -> Self:
        self._keeps_workers = True
        return self

    def __exit__(self, *raised: object) -> None:
        self._keeps_workers = False
        self._stop_workers()

    def evaluate(self, jobs: Sequence[Job]) -> list[Score]:
        """Return the scores of jobs in their order, and run the jobs that have not finished.

        Raises:
            JobError: A job failed; other jobs that were running have finished and are recorded.
            Interrupted: ``should_stop`` returned true; the same call resumes from there.
        """
        self._ledger.add(jobs)
        if any(score is None for score in self._ledger.scores(jobs)):
            self._run(jobs)
        return [score for score in self._ledger.scores(jobs) if score is not None]

    def _run(self, jobs: Sequence[Job]) -> None:
        failure: str | None = None
        self._remove_dead_workers()
        pace = _Clock(jobs, self._ledger.scores(jobs), self._weigh)
        refreshed = time.monotonic()
        try:
            while True:
                if self._should_stop():
                    raise Interrupted("the search was stopped; the same command resumes it")
                if self._ledger.shared and time.monotonic() - refreshed > REFRESH_SECONDS:
                    self._ledger.refresh()
                    refreshed = time.monotonic()
                    failure = failure or self._ledger.failure(jobs)
                    if failure is None and self._ledger.lost(jobs):
                        self._ledger.add(jobs)
                if failure is None:
                    self._assign_jobs(jobs)
                if not any(worker.job is not None for worker in self._workers):
                    if failure is not None:
                        raise JobError(failure)
                    if all(score is not None for score in self._ledger.scores(jobs)):
                        break
                    time.sleep(POLL_SECONDS)  # Other machines run the remaining jobs.
                else:
                    failure = self._poll() or failure
                self._on_change(pace.now(self._ledger.scores(jobs)))
                self._ledger.beat()
        except BaseException:
            self._stop_workers()
            raise
        if not self._keeps_workers:
            self._stop_workers()

    def _stop_workers(self) -> None:
        for worker in self._workers:
            self._stop(worker)
        self._workers.clear()

    def _remove_dead_workers(self) -> None:
        """Remove idle workers that died between two calls; this is not counted as a job's failure."""
        for worker in [one for one in self._workers if not one.process.is_alive()]:
            self._reap(worker)
            self._workers.remove(worker)

    def _assign_jobs(self, jobs: Sequence[Job]) -> None:
        """Give every idle worker a job, and start workers up to the limit; jobs with local checkpoints come first."""
        local = [job for job in jobs if job.start > 0 and (self._folder / job.key).is_dir()]
        # A job that killed a worker comes last: if it does so again, the others are done by then.
        order = sorted([*local, *jobs], key=lambda job: self._deaths[job.key])
        idle = [worker for worker in self._workers if worker.job is None]
        for _ in range(self._count - len(self._workers) + len(idle)):
            job = self._ledger.claim(order)
            if job is None:
                return
            if not idle:
                self._workers.append(self._start())
                idle.append(self._workers[-1])
            worker = idle.pop()
            worker.job = job
            # A worker may just have died; the next wait then sees that its pipe was closed.
            with contextlib.suppress(OSError):
                worker.jobs.send((job, self._folder / job.key))

    def _poll(self) -> str | None:
        """Wait briefly for results; return why the study cannot continue, if so."""
        failure = None
        for ready in wait([worker.jobs for worker in self._workers], timeout=POLL_SECONDS):
            worker = next(worker for worker in self._workers if worker.jobs is ready)
            failure = self._receive(worker) or failure
            if worker.jobs.closed:
                self._workers.remove(worker)
        return failure

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        watched, held = context.Pipe(duplex=False)
        process = context.Process(target=serve, args=(theirs, watched, self._work))
        process.start()
        # With our copies closed, the exit of either process closes the pipe for the other.
        theirs.close()
        watched.close()
        return _Worker(process, ours, held)

    def _receive(self, worker: _Worker) -> str | None:
        """Handle a worker's result or death; return why the study cannot continue, if so."""
        try:
            result = worker.jobs.recv()
        except (EOFError, OSError):
            return self._reap(worker)
        job, worker.job = worker.job, None
        assert job is not None
        if isinstance(result, str):
            self._ledger.fail(job, result)
            return f"{job.network.name} with seed {job.seed} failed: {result}"
        self._ledger.end(job, result)
        return None

    def _reap(self, worker: _Worker) -> str | None:
        worker.process.join()
        worker.jobs.close()
        worker.life.close()
        job, worker.job = worker.job, None
        if job is None:
            return None
        if worker.process.exitcode == EXCEPTION_EXIT_CODE:
            why = "its worker raised an unexpected error; the traceback is printed above"
            self._ledger.fail(job, why)
            return f"{job.network.name} with seed {job.seed} failed: {why}"
        self._deaths[job.key] += 1
        if self._deaths[job.key] >= self._max_deaths:
            why = f"its worker died {self._deaths[job.key]} times, the last time with exit code"
            why = f"{why} {worker.process.exitcode}"
            self._ledger.fail(job, why)
            return f"{job.network.name} with seed {job.seed} failed: {why}; fix the cause, then resume"
        self._ledger.lose(job)
        return None

    def _stop(self, worker: _Worker) -> None:
        if worker.process.exitcode is None:
            worker.jobs.close()
            if worker.job is not None:
                worker.process.terminate()
            worker.process.join(STOP_SECONDS)
        worker.life.close()
        worker.process.join(STOP_SECONDS)
        if worker.job is not None:
            self._ledger.put_back(worker.job)


class _Clock:
    """Estimates the time left from the time taken, weighted by the cost of jobs."""

    def __init__(self, jobs: Sequence[Job], scores: Sequence[Score | None], weigh: Callable[[Job], float]) -> None:
        self._weights = [weigh(job) for job in jobs]
        self._begun, self._before = time.monotonic(), self._done(scores)

    def now(self, scores: Sequence[Score | None]) -> Pace:
        done = self._done(scores)
        ended = sum(score is not None for score in scores)
        if done <= self._before:
            return Pace(ended, len(scores), None)
        left = (sum(self._weights) - done) * (time.monotonic() - self._begun) / (done - self._before)
        return Pace(ended, len(scores), left)

    def _done(self, scores: Sequence[Score | None]) -> float:
        return sum(weight for weight, score in zip(self._weights, scores, strict=True) if score is not None)
