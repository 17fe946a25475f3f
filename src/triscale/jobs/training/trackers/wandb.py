"""Weights & Biases: an online or offline run (extra ``wandb``).

The variables ``WANDB_*`` are read by the package itself; what it is not given here, such as the project, is theirs.
"""

from __future__ import annotations

import os
import secrets
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

KILLED, FAILED = 255, 1
"""Exit codes that W&B shows as killed and as failed."""
FINISH_SECONDS = 120.0
"""How long the end of a training waits for uploads; ``wandb sync`` uploads the rest."""


class WandbTracker:
    """Records parameters, metrics by step, and the report as a file.

    An offline run cannot be asked what it holds, so the last recorded step is kept in the folder of the training.
    """

    def __init__(self) -> None:
        load("wandb.sdk", "W&B", "wandb")  # a folder ./wandb, which W&B itself makes, can be imported too
        self._wandb = load("wandb", "W&B", "wandb")
        self._run: Any = None
        self._file = self._report = Path()
        self._saved = TrackerRun(run_id="")

    def start(self, run: RunFolder, spec: RunSpec) -> str:
        """Begin a run, or continue the one of this folder; a finished one is left alone."""
        self._file, self._report = run.tracker_file("wandb"), run.report_file
        known = load_tracker_run(self._file)
        self._saved = known or TrackerRun(run_id=os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4))
        if self._saved.finished:
            return f"run {self._saved.run_id} is complete"
        made = self._wandb.init(
            id=self._saved.run_id,
            resume="allow",
            name=os.environ.get("WANDB_NAME") or run_name(run),
            dir=os.environ.get("WANDB_DIR") or str(run.folder),
            config=parameters(run, spec),
            allow_val_change=True,  # a resumed folder may have been moved
            reinit="create_new",  # a run of the calling script stays as it is
            settings=self._wandb.Settings(finish_timeout=FINISH_SECONDS, finish_timeout_raises=True),
        )
        if made.disabled:  # WANDB_MODE=disabled
            return "disabled"
        self._run = made
        made.define_metric("accuracy/val_top1", summary="max")
        made.define_metric("loss/val", summary="min")
        self._saved.save(self._file)
        return f"upload it with: wandb sync {Path(made.dir).parent}" if made.offline else str(made.url)

    def write(self, history: tuple[Epoch, ...]) -> None:
        """Record the epochs after the last recorded step; the package sends them in the background."""
        if self._run is None:
            return
        for epoch in history:
            if epoch.step > self._saved.last_step:
                self._run.log(scalars(epoch), step=epoch.step)
                self._saved = self._saved.replace(last_step=epoch.step)
                self._saved.save(self._file)

    def finish(self, metrics: AnyMetrics) -> None:
        """Record test metrics and report, and wait for uploads."""
        if self._run is None:
            return
        self._run.summary.update(final_scalars(metrics))
        self._run.save(str(self._report), base_path=str(self._report.parent), policy="now")
        self._run.finish(exit_code=0)
        self._saved = self._saved.replace(finished=True)
        self._saved.save(self._file)

    def stop(self, *, interrupted: bool) -> None:
        """End the run as killed or failed."""
        if self._run is not None:
            self._run.finish(exit_code=KILLED if interrupted else FAILED)
