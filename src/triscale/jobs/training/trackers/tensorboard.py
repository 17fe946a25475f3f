"""TensorBoard: event files in the folder of the run (extra ``tensorboard``)."""

from __future__ import annotations

import shutil
from typing import Any

from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.jobs.training.trackers.tracker import Value, final_scalars, parameters, scalars
from triscale.optional_import import load
from triscale.results.history import Epoch
from triscale.results.metrics import AnyMetrics


class TensorBoardTracker:
    """Writes each epoch once to event files.

    Event files cannot be changed, so a resumed training deletes those of earlier processes and writes the whole history
    again; ``purge_step`` makes a TensorBoard that is open forget the deleted ones.
    """

    def __init__(self) -> None:
        load("tensorboard", "TensorBoard", "tensorboard")
        self._events = load("torch.utils.tensorboard", "TensorBoard", "tensorboard")
        self._writer: Any = None
        self._parameters: dict[str, Value] = {}
        self._written = self._last_step = 0

    def start(self, run: RunFolder, spec: RunSpec) -> str:
        """Write the parameters as a table."""
        shutil.rmtree(run.tensorboard, ignore_errors=True)
        self._writer = self._events.SummaryWriter(str(run.tensorboard), purge_step=0)
        self._parameters = parameters(run, spec)
        rows = "\n".join(f"| {name} | {value} |" for name, value in self._parameters.items())
        self._writer.add_text("parameters", f"| name | value |\n|---|---|\n{rows}", 0)
        self._writer.flush()
        return f"tensorboard --logdir {run.tensorboard}"

    def write(self, history: tuple[Epoch, ...]) -> None:
        """Write the epochs that were not written before."""
        for epoch in history[self._written :]:
            for name, value in scalars(epoch).items():
                self._writer.add_scalar(name, value, epoch.step)
            self._last_step = epoch.step
        self._written = len(history)
        self._writer.flush()

    def finish(self, metrics: AnyMetrics) -> None:
        """Write the test metrics, also as the result of the parameters in the tab HPARAMS."""
        self._writer.add_hparams(
            self._parameters, final_scalars(metrics), run_name=".", global_step=self._last_step
        )  # run_name "." is the same folder; the default is one more run
        self._writer.close()

    def stop(self, *, interrupted: bool) -> None:
        """Close the files; TensorBoard has no state of a run."""
        del interrupted
        self._writer.close()
