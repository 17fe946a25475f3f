"""One coordinator that hands jobs to worker processes, each until it has ended exactly once.

Methods of search are functions of scores alone. So a search that was stopped or killed is taken up by calling the same
method again with :meth:`Study.evaluate`: what has ended is answered from the ledger, and what was running is begun
again in its folder, from its checkpoint.
"""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from triscale.errors import Interrupted, JobError
from triscale.search.ledger import Ledger
from triscale.search.trial import Job, Score
from triscale.search.worker import Work, serve

BEAT_SECONDS = 5.0
POLL_SECONDS = 0.5
STOP_SECONDS = 30.0
MOST_DEATHS = 5
RAISED = 1
"""Exit code of a worker that ended by an exception: the next one would too."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    jobs: Connection
    life: Connection
    job: Job | None = None

    @property
    def name(self) -> str:
        return f"process {self.process.pid}"


class Study:
    """Carries out the jobs of one search.

    Args:
        ledger: where it is written down.
        folder: holds a folder for each training, with its checkpoints.
        work: carries out a job in its folder, in another process.
        workers: how many processes.
        most_deaths: a job whose workers are killed as often as this, for their memory perhaps, is given up.
        should_stop: polled; true to end.
        on_change: told how many of the jobs of a call have ended, and how many there are.
    """

    def __init__(
        self,
        ledger: Ledger,
        folder: Path,
        work: Work,
        *,
        workers: int = 1,
        most_deaths: int = MOST_DEATHS,
        should_stop: Callable[[], bool] = lambda: False,
        on_change: Callable[[int, int], None] = lambda ended, total: None,
    ) -> None:
        self._ledger, self._folder, self._work, self._count = ledger, folder, work, workers
        self._most_deaths, self._should_stop, self._on_change = most_deaths, should_stop, on_change

    def evaluate(self, jobs: Sequence[Job]) -> list[Score]:
        """Return the scores of jobs in their order, carrying out those that have not ended.

        Raises:
            JobError: a job cannot be carried out; the others that were running have ended and are written down.
            Interrupted: ``should_stop`` answered true; the same call goes on from there.
        """
        self._ledger.add(jobs)
        waiting = deque(job for job in jobs if self._ledger.score(job) is None)
        if waiting:
            self._carry_out(waiting, len(jobs))
        scores = [self._ledger.score(job) for job in jobs]
        return [score for score in scores if score is not None]

    def _carry_out(self, waiting: deque[Job], total: int) -> None:
        workers: list[_Worker] = []
        beaten, failure = time.monotonic(), ""
        try:
            while (waiting and not failure) or any(worker.job is not None for worker in workers):
                if self._should_stop():
                    raise Interrupted("the search was stopped; the same command goes on with it")
                while waiting and not failure and len(workers) < self._count:
                    workers.append(self._start())
                for worker in workers:
                    if worker.job is None and waiting and not failure:
                        self._hand_out(worker, waiting.popleft())
                for ready in wait([worker.jobs for worker in workers], timeout=POLL_SECONDS):
                    worker = next(worker for worker in workers if worker.jobs is ready)
                    failure = self._hear(worker, waiting) or failure
                    if worker.jobs.closed:
                        workers.remove(worker)
                    running = sum(worker.job is not None for worker in workers)
                    self._on_change(total - len(waiting) - running, total)
                if time.monotonic() - beaten > BEAT_SECONDS:
                    beaten = time.monotonic()
                    for worker in workers:
                        self._ledger.beat(worker.name)
        finally:
            for worker in workers:
                self._end(worker)
        if failure:
            raise JobError(failure)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        watched, held = context.Pipe(duplex=False)
        process = context.Process(target=serve, args=(theirs, watched, self._work))
        process.start()
        # With our copies closed, the end of either process closes the pipe for the other.
        theirs.close()
        watched.close()
        return _Worker(process, ours, held)

    def _hand_out(self, worker: _Worker, job: Job) -> None:
        self._ledger.begin(job, worker.name)
        worker.job = job
        try:
            worker.jobs.send((job, self._folder / job.key))
        except OSError:
            return  # It has died; the next wait sees that its pipe has ended.

    def _hear(self, worker: _Worker, waiting: deque[Job]) -> str:
        """Take a worker's answer or its death; return why the study cannot go on, if so."""
        try:
            answer = worker.jobs.recv()
        except (EOFError, OSError):
            return self._bury(worker, waiting)
        job, worker.job = worker.job, None
        assert job is not None
        if isinstance(answer, str):
            self._ledger.fail(job, answer)
            return f"{job.network.name} with seed {job.seed} failed: {answer}"
        self._ledger.end(job, answer)
        return ""

    def _bury(self, worker: _Worker, waiting: deque[Job]) -> str:
        worker.process.join()
        worker.jobs.close()
        worker.life.close()
        job, worker.job = worker.job, None
        if job is None:
            return ""
        if worker.process.exitcode == RAISED:
            why = "its worker ended by an error that was not foreseen; its traceback stands above"
            self._ledger.fail(job, why)
            return f"{job.network.name} with seed {job.seed} failed: {why}"
        deaths = self._ledger.lose(job)
        if deaths >= self._most_deaths:
            why = f"its worker died {deaths} times, the last time with exit code {worker.process.exitcode}"
            self._ledger.fail(job, why)
            return f"{job.network.name} with seed {job.seed} failed: {why}; look for its cause, then resume"
        waiting.append(job)  # behind the others: if it kills its workers, they are done by then
        return ""

    def _end(self, worker: _Worker) -> None:
        if worker.process.exitcode is None:
            worker.jobs.close()
            if worker.job is not None:
                worker.process.terminate()
            worker.process.join(STOP_SECONDS)
        worker.life.close()
        worker.process.join(STOP_SECONDS)
        if worker.job is not None:
            self._ledger.put_back(worker.job)
