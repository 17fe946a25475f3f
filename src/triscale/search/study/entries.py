"""The current status of the jobs of a study, read from Optuna's trials; a trial is one attempt at a job."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from triscale.errors import SearchError
from triscale.search.study.storage import read_storage

State = Literal["waiting", "running", "done", "failed"]
TrialKey = tuple[str, int, int]

_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "done",
    TrialState.FAIL: "failed",
    TrialState.PRUNED: "failed",
}


FAILURE = "failure"
"""The attribute of a trial that holds the reason why it failed."""


class Entry(NamedTuple):
    """The status of a job: ``waiting``, ``running``, ``done`` or ``failed``.

    ``attempts`` is the number of its trials, ``worker`` the process of the last one, ``failure`` the reason of
    its failure. ``began`` and ``ended`` are local times. ``macs`` is the network's, for one image.
    """

    number: int
    network: str
    training: str
    seed: int
    start: int
    stop: int
    macs: int
    ratio: float
    state: State
    attempts: int
    worker: str | None
    accuracy: float | None
    error: float | None
    failure: str | None
    began: datetime | None
    ended: datetime | None


def read_entries(location: str | Path, study: str) -> tuple[Entry, ...]:
    """Return the status of all jobs of a study, also while it runs.

    Raises:
        SearchError: The storage or the study does not exist.
    """
    with read_storage(location) as storage:
        names = optuna.get_all_study_names(storage.rdb)
        if study not in names:
            raise SearchError(f'{storage.shown} holds no study "{study}"; it holds {", ".join(names) or "none"}')
        return entries_of(optuna.load_study(study_name=study, storage=storage.rdb))


def trials_of_jobs(study: optuna.Study) -> Iterator[tuple[TrialKey, FrozenTrial]]:
    """Yield all trials with the keys of their jobs, in order of creation."""
    for trial in study.get_trials(deepcopy=False):
        about = trial.user_attrs
        if "training" in about:
            yield (about["training"], about["start"], about["stop"]), trial


def newest_trials(study: optuna.Study) -> dict[TrialKey, FrozenTrial]:
    """Return the completed trial of every job, or else its last trial."""
    newest: dict[TrialKey, FrozenTrial] = {}
    for key, trial in trials_of_jobs(study):
        # A completed trial is final; otherwise a later trial replaces an earlier one.
        if key not in newest or newest[key].state != TrialState.COMPLETE:
            newest[key] = trial
    return newest


def entries_of(study: optuna.Study) -> tuple[Entry, ...]:
    """Return the status of all jobs of an open study."""
    attempts: dict[TrialKey, int] = {}
    first: dict[TrialKey, int] = {}
    for key, trial in trials_of_jobs(study):
        attempts[key] = attempts.get(key, 0) + 1
        first.setdefault(key, trial.number)
    newest = newest_trials(study)
    return tuple(
        _entry(newest[key], number, attempts[key])
        for number, key in enumerate(sorted(newest, key=lambda key: first[key]))
    )


def _entry(trial: FrozenTrial, number: int, attempts: int) -> Entry:
    about, done = trial.user_attrs, trial.state == TrialState.COMPLETE
    return Entry(
        number=number,
        network=about["network"],
        training=about["training"],
        seed=about["seed"],
        start=about["start"],
        stop=about["stop"],
        macs=about["macs"],
        ratio=about["ratio"],
        state=_STATES[trial.state],
        attempts=attempts,
        worker=about.get("worker"),
        accuracy=trial.value if done else None,
        error=about.get("error") if done else None,
        failure=about.get(FAILURE),
        began=trial.datetime_start,
        ended=trial.datetime_complete,
    )
