"""MLflow: a run in a tracking server or a local database (extra ``mlflow``).

Everything goes through ``MlflowClient`` with the ID of the run, so that an active run of the calling script stays as it
is. ``MLFLOW_TRACKING_URI``, ``mlflow.set_tracking_uri`` and the credentials are the client's own business.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.jobs.training.trackers.tracker import (
    TrackerRun,
    final_scalars,
    load_tracker_run,
    parameters,
    run_name,
    scalars,
)
from triscale.optional_import import load
from triscale.results.history import Epoch
from triscale.results.metrics import AnyMetrics

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Instead of 7 retries of 120 s: the training waits for them, and the other processes of a group wait for it."""
DEFAULT_EXPERIMENT = "Default"
LOGGED_EVERY_EPOCH = "loss/train"


class MlflowTracker:
    """Records parameters, metrics by step, and the report as an artifact.

    What an earlier process recorded is read from the server, so that no epoch is recorded twice however it ended.
    """

    def __init__(self) -> None:
        self._mlflow = load("mlflow.tracking", "MLflow", "mlflow")
        self._entities = load("mlflow.entities", "MLflow", "mlflow")
        self._client: Any = None
        self._run_id = ""
        self._steps: set[int] = set()
        self._last_step = 0
        self._report = Path()
        self._complete = False

    def start(self, run: RunFolder, spec: RunSpec) -> str:
        """Create a run, or reopen the one of this folder if the server still has it."""
        file = run.tracker_file("mlflow")
        self._report = run.report_file
        with _patience():
            self._client = self._mlflow.MlflowClient()
            known = load_tracker_run(file)
            if known is None or not self._reopen(known.run_id):
                self._create(run, spec)
                TrackerRun(run_id=self._run_id).save(file)
            experiment = self._client.get_run(self._run_id).info.experiment_id
        return f"run {self._run_id} of experiment {experiment} in {self._client.tracking_uri}"

    def _create(self, run: RunFolder, spec: RunSpec) -> None:
        context = load("mlflow.tracking.context.registry", "MLflow", "mlflow")
        tags = context.resolve_tags()  # user, source and Git commit, as mlflow.start_run sets them
        if own := os.environ.get("MLFLOW_RUN_ID"):  # set by `mlflow run`, for the process it started
            self._run_id = own
        else:
            created = self._client.create_run(self._experiment(), run_name=run_name(run), tags=tags)
            self._run_id = created.info.run_id
        values = parameters(run, spec).items()
        self._client.log_batch(self._run_id, params=[self._entities.Param(name, str(value)) for name, value in values])

    def _experiment(self) -> str:
        """Return the ID of the experiment that the environment names; ``mlflow.set_experiment`` sets its variable."""
        if known := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return known
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def _reopen(self, run_id: str) -> bool:
        """Continue a run; false if the server does not have it, for example because it is another one."""
        exceptions = load("mlflow.exceptions", "MLflow", "mlflow")
        try:
            found = self._client.get_run(run_id)
        except exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        self._run_id = run_id
        self._steps = {metric.step for metric in self._client.get_metric_history(run_id, LOGGED_EVERY_EPOCH)}
        self._complete = found.info.status == "FINISHED"
        if not self._complete:
            self._client.set_terminated(run_id, "RUNNING")
        return True

    def write(self, history: tuple[Epoch, ...]) -> None:
        """Record each epoch that the server does not have in one request, which is carried out completely or not."""
        self._last_step = history[-1].step if history else 0
        with _patience():
            for epoch in history:
                if epoch.step not in self._steps:
                    self._log(scalars(epoch), epoch.step)
                    self._steps.add(epoch.step)
                    self._complete = False

    def _log(self, values: dict[str, float], step: int) -> None:
        now = round(time.time() * 1000)
        metrics = [self._entities.Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def finish(self, metrics: AnyMetrics) -> None:
        """Record test metrics and report, and mark the run as finished."""
        if self._complete:
            return
        with _patience():
            self._log(final_scalars(metrics), self._last_step)
            self._client.log_artifact(self._run_id, str(self._report))
            self._client.set_terminated(self._run_id, "FINISHED")

    def stop(self, *, interrupted: bool) -> None:
        """Mark the run as killed or failed."""
        with _patience():
            self._client.set_terminated(self._run_id, "KILLED" if interrupted else "FAILED")


@contextmanager
def _patience() -> Iterator[None]:
    """Wait briefly for a server that does not answer, unless the environment says how long."""
    added = {name: value for name, value in PATIENCE.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
