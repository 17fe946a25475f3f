"""The ledger of a study: its jobs, their status and their scores, as Optuna trials.

A job is an Optuna trial that is enqueued in advance. A coordinator claims it (``RUNNING``), which the storage grants to
only one, and completes it once::

    WAITING --claim--> RUNNING --end---> COMPLETE   score
       ^                  |----fail----> FAIL       with a reason: not repeated
       |                  `----lose----> FAIL       without a reason: the worker died
       `------ add: a new trial for the same job --------'

A new trial resumes from the checkpoint of the lost one, so that every job ends with one complete trial.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from triscale.errors import SearchError
from triscale.search.shape import ScaledNetwork
from triscale.search.study.entries import FAILURE, Entry, TrialKey, entries_of, newest_trials
from triscale.search.study.storage import BEAT_SECONDS, Result, Storage, open_storage
from triscale.search.study.trial import Job, Score

SCHEMA = 1
ABOUT = "triscale"
"""The user attribute of an Optuna study that holds schema and settings."""

Describe = Callable[[Job], ScaledNetwork]

_DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "depth": FloatDistribution(1e-3, 1e3),
    "width": FloatDistribution(1e-3, 1e3),
    "resolution": FloatDistribution(1e-3, 1e3),
    "epochs": IntDistribution(1, 1_000_000),
    "seed": IntDistribution(0, 2**31 - 1),
}
"""Parameters of a job for Optuna's dashboard: realized multipliers, final epoch, seed."""


class Ledger:
    """The jobs of one study, as read and written by one of its coordinators."""

    def __init__(self, storage: Storage, study: optuna.Study, describe: Describe) -> None:
        self._storage, self._study, self._describe = storage, study, describe
        self._held: dict[TrialKey, int] = {}
        self._worker = f"process {os.getpid()} on {socket.gethostname()}"
        self._beaten = time.monotonic()
        self._last: dict[TrialKey, FrozenTrial] = {}

    @property
    def shared(self) -> bool:
        """Whether other machines may work on the same study."""
        return self._storage.shared

    def add(self, jobs: Sequence[Job]) -> None:
        """Enqueue jobs that are new, failed or lost."""
        self._retrying(lambda: self._add(jobs))

    def record(self, jobs: Sequence[Job], scores: Sequence[Score], source: str) -> None:
        """Record scores that no worker computed, with where they come from; scores that are there already stay."""
        self._retrying(lambda: self._record(jobs, scores, source))

    def refresh(self) -> None:
        """Read changes of other coordinators, and fail the trials of dead ones."""
        self._retrying(self._refresh)

    def scores(self, jobs: Sequence[Job]) -> list[Score | None]:
        """Return the scores of jobs as last read; None for jobs that are not done."""
        return [self._score(job) for job in jobs]

    def failure(self, jobs: Sequence[Job]) -> str | None:
        """Return why one of the jobs failed on another machine, as last read; None if none did."""
        for job in jobs:
            trial = self._last.get(_key(job))
            if trial is not None and trial.state == TrialState.FAIL and FAILURE in trial.user_attrs:
                return f"{job.network.name} with seed {job.seed} failed: {trial.user_attrs[FAILURE]}"
        return None

    def lost(self, jobs: Sequence[Job]) -> bool:
        """Return whether a job has no waiting, running or complete trial because its machine died."""
        return any(
            (trial := self._last.get(_key(job))) is None
            or (trial.state == TrialState.FAIL and FAILURE not in trial.user_attrs)
            for job in jobs
        )

    def claim(self, jobs: Sequence[Job]) -> Job | None:
        """Claim the first waiting job for a worker of this coordinator; None if none is waiting."""
        for job in jobs:
            trial = self._last.get(_key(job))
            if trial is not None and trial.state == TrialState.WAITING and self._retrying(self._claim, job, trial):
                return job
        return None

    def beat(self) -> None:
        """Record a heartbeat for the jobs of this coordinator, at most every few seconds."""
        if self._storage.shared and time.monotonic() - self._beaten >= BEAT_SECONDS / 2:
            for trial_id in self._held.values():
                self._retrying(self._storage.rdb.record_heartbeat, trial_id)
            self._beaten = time.monotonic()

    def put_back(self, job: Job) -> None:
        """Return a claimed job to the queue, for example when the search is stopped."""
        self._change(job, TrialState.WAITING)

    def lose(self, job: Job) -> None:
        """Record that a job lost its worker, and enqueue it again."""
        self._change(job, TrialState.FAIL)
        self.add([job])

    def end(self, job: Job, score: Score) -> None:
        """Record the score of a claimed job, unless another machine has completed it already."""
        self._attribute(job, "error", score.error)
        self._change(job, TrialState.COMPLETE, score.accuracy)

    def fail(self, job: Job, reason: str) -> None:
        """Record that a claimed job failed, with the reason."""
        self._attribute(job, FAILURE, reason)
        self._change(job, TrialState.FAIL)

    def entries(self) -> tuple[Entry, ...]:
        """Return the status of all jobs."""
        return self._retrying(lambda: entries_of(self._study))

    def _retrying(self, call: Callable[..., Result], *arguments: object) -> Result:
        return self._storage.retrying(lambda: call(*arguments))

    def _refresh(self) -> None:
        if self._storage.shared:
            self._storage.fail_stale(self._study)
        self._last = newest_trials(self._study)

    def _add(self, jobs: Sequence[Job]) -> None:
        with self._storage.exclusive(self._study.study_name):
            self._refresh()
            for job in jobs:
                trial = self._last.get(_key(job))
                if trial is None or trial.state == TrialState.FAIL:
                    self._study.add_trial(_trial(job, self._describe(job)))
            self._last = newest_trials(self._study)

    def _record(self, jobs: Sequence[Job], scores: Sequence[Score], source: str) -> None:
        with self._storage.exclusive(self._study.study_name):
            self._refresh()
            for job, score in zip(jobs, scores, strict=True):
                if self._score(job) is None:
                    trial = _trial(job, self._describe(job), score)
                    trial.set_user_attr("worker", source)
                    self._study.add_trial(trial)
            self._last = newest_trials(self._study)

    def _claim(self, job: Job, trial: FrozenTrial) -> bool:
        if self._storage.shared:
            # Before it runs: Optuna never considers a running trial stale that has no heartbeat at all.
            self._storage.rdb.record_heartbeat(trial._trial_id)
        try:
            granted = self._storage.rdb.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False
        if not granted:
            return False
        self._held[_key(job)] = trial._trial_id
        self._storage.rdb.set_trial_user_attr(trial._trial_id, "worker", self._worker)
        self._last[_key(job)] = self._storage.rdb.get_trial(trial._trial_id)
        return True

    def _attribute(self, job: Job, name: str, value: object) -> None:
        def write() -> None:
            # Refused if another machine took over the job while this one missed its heartbeats.
            with contextlib.suppress(UpdateFinishedTrialError):
                self._storage.rdb.set_trial_user_attr(self._held[_key(job)], name, value)

        self._retrying(write)

    def _change(self, job: Job, state: TrialState, value: float | None = None) -> None:
        trial_id = self._held.pop(_key(job))

        def write() -> None:
            # As above; the result of the other machine counts.
            with contextlib.suppress(UpdateFinishedTrialError):
                self._storage.rdb.set_trial_state_values(trial_id, state, None if value is None else [value])
            self._last = newest_trials(self._study)

        self._retrying(write)

    def _score(self, job: Job) -> Score | None:
        trial = self._last.get(_key(job))
        if trial is None or trial.state != TrialState.COMPLETE or trial.value is None:
            return None
        return Score(trial.value, float(trial.user_attrs["error"]))


@contextmanager
def open_ledger(
    location: str | Path,
    study: str,
    settings: dict[str, object],
    describe: Describe,
    *,
    grace: int | None = None,
    patience: float | None = None,
) -> Iterator[Ledger]:
    """Open a new or existing study for writing.

    In an SQLite file, running jobs are enqueued again: their coordinator has died. In PostgreSQL they may run on
    another machine, and are enqueued again after the grace period without a heartbeat.

    Args:
        location: An SQLite file, which is created if it does not exist, or the URL of a PostgreSQL database.
        study: Name of the study.
        settings: Everything that the results depend on, as JSON data; an existing study must have the same.
        describe: Returns the scaled network of a job, whose size is stored with it.
        grace: Grace period in seconds; None for the default.
        patience: Seconds that a server may be unreachable; None for the default.

    Raises:
        RunError: Another process writes to the file.
        SearchError: The storage cannot be opened or holds other data, or the study has other settings.
    """
    timeouts = {"grace": grace, "patience": patience}
    options = {name: value for name, value in timeouts.items() if value is not None}
    if "grace" in options:
        options["beat"] = max(1, int(options["grace"]) // 6)
    with open_storage(location, **options) as storage:  # type: ignore[arg-type]
        with storage.exclusive(study):
            opened = optuna.create_study(
                storage=storage.rdb, study_name=study, direction="maximize", load_if_exists=True
            )
            _check_settings(opened, settings, storage.shown)
        if not storage.shared:
            for trial in opened.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                storage.rdb.set_trial_state_values(trial._trial_id, TrialState.WAITING)
        ledger = Ledger(storage, opened, describe)
        ledger.refresh()
        yield ledger


def _key(job: Job) -> TrialKey:
    return (job.key, job.start, job.stop)


def _trial(job: Job, sized: ScaledNetwork, score: Score | None = None) -> FrozenTrial:
    """Return the trial of a job: waiting, or complete if its score is given."""
    params = {
        "depth": sized.realized.depth,
        "width": sized.realized.width,
        "resolution": sized.realized.resolution,
        "epochs": job.stop,
        "seed": job.seed,
    }
    return optuna.trial.create_trial(
        state=TrialState.WAITING if score is None else TrialState.COMPLETE,
        value=None if score is None else score.accuracy,
        params=params,
        distributions=_DISTRIBUTIONS,
        user_attrs={
            "network": job.network.name,
            "training": job.key,
            "seed": job.seed,
            "start": job.start,
            "stop": job.stop,
            "macs": sized.macs,
            "params": sized.params,
            "ratio": sized.ratio,
        }
        | ({} if score is None else {"error": score.error}),
        system_attrs={"fixed_params": params},
    )


def _check_settings(study: optuna.Study, settings: dict[str, object], shown: str) -> None:
    requested = json.loads(json.dumps(settings))
    about = study.user_attrs.get(ABOUT)
    if about is None:
        if study.get_trials(deepcopy=False):
            raise SearchError(
                f'{shown} holds a study "{study.study_name}" that is not Triscale\'s; give it another name with --study'
            )
        study.set_user_attr(ABOUT, {"schema": SCHEMA, "settings": requested})
        return
    if about["schema"] > SCHEMA:
        raise SearchError(
            f'"{study.study_name}" in {shown} is a study of schema {about["schema"]}, and this version of Triscale '
            f"reads up to schema {SCHEMA}; install a newer Triscale to resume it"
        )
    stored = about["settings"]
    if stored != requested:
        differing = sorted(name for name in stored | requested if stored.get(name) != requested.get(name))
        raise SearchError(
            f'{shown} already holds a study "{study.study_name}" with other settings (it differs in '
            f"{', '.join(differing)}); give it another name, or the same settings to resume it"
        )
