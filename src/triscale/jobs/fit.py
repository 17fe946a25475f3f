"""The main job: images and a budget in; a trained, measured, explained network out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from triscale.errors import Interrupted
from triscale.jobs.finish import evaluate_run, explain_run, export_run, measure_run
from triscale.jobs.prepare import prepare
from triscale.jobs.report import report_run
from triscale.jobs.run import Request, Run, RunSpec
from triscale.jobs.train import train_run
from triscale.jobs.watch import Watcher
from triscale.training.metrics import Metrics


def fit(
    request: Request,
    out: Path,
    watcher: Watcher,
    *,
    device: torch.device,
    workers: int,
    should_stop: Callable[[], bool],
    on_network: Callable[[RunSpec], None] = lambda spec: None,
    command: tuple[str, ...] = (),
) -> Metrics:
    """Scan, fit, train, evaluate, export, measure, explain and report; everything lies in the Run ``out``.

    The same request takes up a Run wherever it stopped.

    Raises:
        UserError: something in the request cannot be done; each of its kinds says what.
        Interrupted: ``should_stop`` answered true; everything is saved.
        ParityError: the exported file does not compute what the model does.
    """
    run = Run(out)
    with run.lock():
        metrics = _train(run, request, watcher, device, workers, should_stop, on_network, command)
        for step in (export_run, measure_run, explain_run):
            if should_stop():
                raise Interrupted("stopped after the training; the same command goes on from the trained weights")
            step(run, watcher)
        report_run(run)
        run.commit()
    return metrics


def train_only(
    request: Request,
    out: Path,
    watcher: Watcher,
    *,
    device: torch.device,
    workers: int,
    should_stop: Callable[[], bool],
    on_network: Callable[[RunSpec], None] = lambda spec: None,
    command: tuple[str, ...] = (),
) -> Metrics:
    """Scan, fit if there is a budget, train, evaluate and report.

    Raises:
        UserError: something in the request cannot be done; each of its kinds says what.
        Interrupted: ``should_stop`` answered true; everything is saved.
    """
    run = Run(out)
    with run.lock():
        metrics = _train(run, request, watcher, device, workers, should_stop, on_network, command)
        report_run(run)
        run.commit()
    return metrics


def _train(
    run: Run,
    request: Request,
    watcher: Watcher,
    device: torch.device,
    workers: int,
    should_stop: Callable[[], bool],
    on_network: Callable[[RunSpec], None],
    command: tuple[str, ...],
) -> Metrics:
    on_network(prepare(run, request, watcher, command))
    train_run(run, watcher, device=device, workers=workers, should_stop=should_stop)
    return evaluate_run(run, watcher, device=device, should_stop=should_stop)
