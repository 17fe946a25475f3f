"""The main job: images and a budget in; a trained, measured, explained network out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from triscale.data.pipeline.split import Split
from triscale.errors import Interrupted, RunError, TriscaleError, UserError
from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.progress import ProgressReporter
from triscale.jobs.core.run import Request, Run, RunSpec
from triscale.jobs.deploy.export import export_run
from triscale.jobs.inference.evaluate import evaluate_run, measure_run
from triscale.jobs.inference.explain import explain_run
from triscale.jobs.reports.run_report import write_run_report
from triscale.jobs.training.disk_space import check_disk_space
from triscale.jobs.training.prepare import prepare
from triscale.jobs.training.tensorboard import TensorBoardWriter
from triscale.jobs.training.train import Carrying, read_history, train_run
from triscale.results.metrics import Metrics
from triscale.training.distributed.group import ALONE, Group

REPORT_SECONDS_BETWEEN = 15.0
"""The page of a Run is written again after an epoch if the last time is so long ago."""

_PREPARED, _REFUSED = "prepared", "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a job is carried out; nothing here changes its result but the device.

    Attributes:
        reporter: follows the job.
        device: where it computes.
        workers: processes that decode images.
        group: the processes that train together; only the first writes.
        compiled: whether the forward pass is compiled.
        should_stop: polled; true to save and end.
        on_network: told what will be trained before it is.
        command: written down so that it can be repeated.
        allow_leak: whether copies of training images may be tested on.
        tensorboard: whether the history is written for TensorBoard too.
    """

    reporter: ProgressReporter
    device: torch.device
    workers: int = 0
    group: Group = ALONE
    compiled: bool = False
    should_stop: Callable[[], bool] = lambda: False
    on_network: Callable[[RunSpec], None] = lambda spec: None
    command: tuple[str, ...] = ()
    allow_leak: bool = False
    tensorboard: bool = False


def fit(request: Request, out: Path, setting: Setting) -> Metrics | None:
    """Scan, fit, train, evaluate, export, measure, explain and report; everything lies in the Run ``out``.

    The same request takes up a Run wherever it stopped. Of several processes, the first returns the metrics and the
    others None.

    Raises:
        UserError: something in the request cannot be done; each of its kinds says what.
        Interrupted: ``should_stop`` answered true; everything is saved.
        ParityError: the exported file does not compute what the model does.
    """
    run = _place(request, out)
    if not setting.group.is_writer:
        _follow(run, setting)
        return None
    with run.lock():
        metrics = _train(run, request, setting)
        for step in (export_run, measure_run, explain_run):
            if setting.should_stop():
                raise Interrupted("stopped after the training; the same command goes on from the trained weights")
            step(run, setting.reporter)
        _close(run)
    return metrics


def train(request: Request, out: Path, setting: Setting) -> Metrics | None:
    """Scan, fit if there is a budget, train, evaluate and report; of several processes, the first returns metrics.

    Raises:
        UserError: something in the request cannot be done; each of its kinds says what.
        Interrupted: ``should_stop`` answered true; everything is saved.
    """
    run = _place(request, out)
    if not setting.group.is_writer:
        _follow(run, setting)
        return None
    with run.lock():
        metrics = _train(run, request, setting)
        _close(run)
    return metrics


def _place(request: Request, out: Path) -> Run:
    """Return the Run of a folder, which must not lie among the images: nothing is ever written there."""
    images = Path(request.images).resolve()
    if images.is_dir() and out.resolve().is_relative_to(images):
        raise RunError(
            f"{out} lies within the images in {images}, where nothing is written; give another folder with --out"
        )
    return Run(out)


def _train(run: Run, request: Request, setting: Setting) -> Metrics:
    reporter, group = setting.reporter, setting.group
    try:
        spec = prepare(
            run,
            request,
            reporter,
            should_stop=setting.should_stop,
            command=setting.command,
            allow_leak=setting.allow_leak,
        )
        if not run.weights_file.is_file():
            check_disk_space(run.folder, cost_of(spec.network), request.recipe)
    except TriscaleError:
        group.send(_PREPARED, _REFUSED)
        raise
    setting.on_network(spec)
    split = run.split
    if group.size > 1:
        group.send(_PREPARED, "")
        group.share_text(spec.to_json())
        group.share_text(split.to_json())
    board = TensorBoardWriter(run.tensorboard) if setting.tensorboard else None
    page = _Page(run)

    def on_epoch() -> None:
        if board is not None:
            board.show(read_history(run))
        page.renew(reporter)

    train_run(run, spec, split, reporter, _carrying(setting, on_epoch))
    if board is not None:
        board.show(read_history(run))
    return evaluate_run(run, reporter, device=setting.device, workers=setting.workers, should_stop=setting.should_stop)


def _follow(run: Run, setting: Setting) -> None:
    """Train as one of several processes that the first one leads."""
    group = setting.group
    if group.receive(_PREPARED) == _REFUSED:
        raise UserError("process 0 could not begin; its message says why")
    spec = RunSpec.from_json(group.share_text(""))
    split = Split.from_json(group.share_text(""))
    train_run(run, spec, split, setting.reporter, _carrying(setting, lambda: None))


def _carrying(setting: Setting, on_epoch: Callable[[], None]) -> Carrying:
    return Carrying(
        device=setting.device,
        workers=setting.workers,
        group=setting.group,
        compiled=setting.compiled,
        should_stop=setting.should_stop,
        on_epoch=on_epoch,
    )


class _Page:
    """The page of a Run, renewed while it trains; it reloads itself in a browser."""

    def __init__(self, run: Run) -> None:
        self._run, self._renewed = run, 0.0

    def renew(self, reporter: ProgressReporter) -> None:
        if time.monotonic() - self._renewed < REPORT_SECONDS_BETWEEN:
            return
        try:
            write_run_report(self._run, refresh_seconds=max(1, round(REPORT_SECONDS_BETWEEN)))
        except OSError as error:
            reporter.note(f"{self._run.report_file} cannot be written ({error.strerror}); the training goes on")
        self._renewed = time.monotonic()


def _close(run: Run) -> None:
    write_run_report(run)
    run.commit()
