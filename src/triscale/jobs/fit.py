"""The main job: images and a budget in; a trained, measured, explained network out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from triscale.errors import Interrupted, RunError
from triscale.jobs.finish import evaluate_run, explain_run, export_run, measure_run
from triscale.jobs.prepare import prepare
from triscale.jobs.report import report_run
from triscale.jobs.run import Request, Run, RunSpec
from triscale.jobs.train import train_run
from triscale.jobs.watch import Watcher
from triscale.training.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a job is carried out; nothing here changes its result but the device.

    ``on_network`` is told what will be trained before it is; ``command`` is written down so that it can be repeated.
    """

    watcher: Watcher
    device: torch.device
    workers: int = 0
    should_stop: Callable[[], bool] = lambda: False
    on_network: Callable[[RunSpec], None] = lambda spec: None
    command: tuple[str, ...] = ()
    allow_leak: bool = False


def fit(request: Request, out: Path, setting: Setting) -> Metrics:
    """Scan, fit, train, evaluate, export, measure, explain and report; everything lies in the Run ``out``.

    The same request takes up a Run wherever it stopped.

    Raises:
        UserError: something in the request cannot be done; each of its kinds says what.
        Interrupted: ``should_stop`` answered true; everything is saved.
        ParityError: the exported file does not compute what the model does.
    """
    run = _place(request, out)
    with run.lock():
        metrics = _train(run, request, setting)
        for step in (export_run, measure_run, explain_run):
            if setting.should_stop():
                raise Interrupted("stopped after the training; the same command goes on from the trained weights")
            step(run, setting.watcher)
        _close(run)
    return metrics


def train(request: Request, out: Path, setting: Setting) -> Metrics:
    """Scan, fit if there is a budget, train, evaluate and report.

    Raises:
        UserError: something in the request cannot be done; each of its kinds says what.
        Interrupted: ``should_stop`` answered true; everything is saved.
    """
    run = _place(request, out)
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
    watcher, should_stop = setting.watcher, setting.should_stop
    spec = prepare(
        run,
        request,
        watcher,
        should_stop=should_stop,
        command=setting.command,
        allow_leak=setting.allow_leak,
    )
    setting.on_network(spec)
    train_run(run, watcher, device=setting.device, workers=setting.workers, should_stop=should_stop)
    return evaluate_run(run, watcher, device=setting.device, should_stop=should_stop)


def _close(run: Run) -> None:
    report_run(run)
    run.commit()
