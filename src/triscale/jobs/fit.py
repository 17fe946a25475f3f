"""The main job: turn images and a budget into a trained, exported, measured and explained network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from triscale.data.pipeline.split import Split
from triscale.errors import Interrupted, TriscaleError, UserError
from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.core.run import Request, RunFolder, RunSpec
from triscale.jobs.deploy.export import export_run
from triscale.jobs.inference.calibrate import calibrate_run
from triscale.jobs.inference.evaluate import evaluate_run, measure_run
from triscale.jobs.inference.explain import explain_run
from triscale.jobs.reports.run_report import write_run_report
from triscale.jobs.training.disk_space import check_disk_space
from triscale.jobs.training.forecast import ForecastingReporter
from triscale.jobs.training.prepare import prepare
from triscale.jobs.training.settle import Conditions
from triscale.jobs.training.trackers.log import TrainingLog
from triscale.jobs.training.train import read_evaluated, train_run
from triscale.results.metrics import AnyMetrics
from triscale.training.context import ExecutionContext

REPORT_SECONDS = 15.0
"""Minimum interval between two updates of the report during training."""
REPORT_SHARE = 0.02
"""Share of the time that updates of the report may take: the interval is longer where a report takes longer."""

_PREPARED, _REFUSED = "prepared", "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of a run that do not affect its result.

    Attributes:
        command: The command line, recorded so that it can be repeated.
        allow_leak: Whether to accept test and validation images that are copies of training images; the report
            warns about them.
        log: Names of the experiment trackers that also record the training.
        on_network: Called with the run's specification before training starts.
        check_split: Called with a new split; if it raises, nothing is written.
        offline: Whether to use only the cache for published weights.
        warns: Whether to warn about few images or random weights.
        started: When the job began, on the clock of ``time.monotonic``; a time limit counts from then.
    """

    command: tuple[str, ...] = ()
    allow_leak: bool = False
    log: tuple[str, ...] = ()
    on_network: Callable[[RunSpec], None] = lambda spec: None
    check_split: Callable[[Split], None] = lambda split: None
    offline: bool = False
    warns: bool = True
    started: float = field(default_factory=time.monotonic)


def fit(request: Request, out: Path, context: ExecutionContext, options: RunOptions | None = None) -> AnyMetrics | None:
    """Scan, fit, train, calibrate, evaluate, export, measure, explain and report.

    The same request resumes a run wherever it stopped.

    Args:
        request: Images, baseline, budget and recipe.
        out: Directory of the run.
        context: Device, workers, process group, progress and stop flag.
        options: What to record and to accept; None for the defaults.

    Returns:
        The test metrics; None in processes of a group with a rank other than 0.

    Raises:
        UserError: The request is invalid; the subclass and the message give the reason.
        Interrupted: ``context.should_stop`` returned true; everything is saved.
        ParityError: The outputs of the exported file differ from those of the model.
    """
    return _run_steps(request, out, context, options or RunOptions(), (export_run, measure_run, explain_run))


def train(
    request: Request, out: Path, context: ExecutionContext, options: RunOptions | None = None
) -> AnyMetrics | None:
    """Scan, fit if there is a budget, train, calibrate, evaluate and report.

    Args:
        request: Images, network or baseline, optional budget, and recipe.
        out: Directory of the run.
        context: Device, workers, process group, progress and stop flag.
        options: What to record and to accept; None for the defaults.

    Returns:
        The test metrics; None in processes of a group with a rank other than 0.

    Raises:
        UserError: The request is invalid; the subclass and the message give the reason.
        Interrupted: ``context.should_stop`` returned true; everything is saved.
    """
    return _run_steps(request, out, context, options or RunOptions(), ())


def _run_steps(
    request: Request,
    out: Path,
    context: ExecutionContext,
    options: RunOptions,
    steps: Sequence[Callable[[RunFolder, ExecutionContext], object]],
) -> AnyMetrics | None:
    """Train and evaluate, apply ``steps`` to the trained run, and write the report."""
    refuse_output_in_images(out, request.images)
    run = RunFolder(out)
    if not context.group.is_writer:
        _train_as_follower(run, context)
        return None
    with run.lock():
        log = TrainingLog(options.log, context.progress.note)
        with log.stopped_on_error():
            metrics = _train(run, request, context, options, log, exports=bool(steps))
            for step in steps:
                if context.should_stop():
                    raise Interrupted(
                        "stopped after training; run the same command again to resume from the trained weights"
                    )
                step(run, context)
            write_run_report(run)
            log.finish(metrics)
        run.commit()
    return metrics


def _train(
    run: RunFolder,
    request: Request,
    context: ExecutionContext,
    options: RunOptions,
    log: TrainingLog,
    *,
    exports: bool,
) -> AnyMetrics:
    group = context.group
    conditions = Conditions(offline=options.offline, started=options.started, exports=exports, warns=options.warns)
    try:
        log.load()
        spec = prepare(
            run,
            request,
            context,
            command=options.command,
            allow_leak=options.allow_leak,
            check_split=options.check_split,
            conditions=conditions,
        )
        if not run.weights_file.is_file():
            check_disk_space(run.folder, cost_of(spec.network), spec.request.recipe)
        log.start(run, spec)
    except TriscaleError:
        group.send(_PREPARED, _REFUSED)
        raise
    options.on_network(spec)
    split = run.split
    if group.size > 1:
        group.send(_PREPARED, "")
        group.share_text(spec.to_json())
        group.share_text(split.to_json())
    report = _LiveReport(run, context)

    def on_epoch() -> None:
        log.write(read_evaluated(run))
        report.update()

    train_run(run, spec, split, replace(context, progress=ForecastingReporter(context.progress)), on_epoch)
    log.write(read_evaluated(run))
    if split.val and not run.calibration_file.is_file():  # a resumed job keeps what the user may have calibrated
        calibrate_run(run, context)
    return evaluate_run(run, context)


def _train_as_follower(run: RunFolder, context: ExecutionContext) -> None:
    """Train in a process with a rank other than 0; rank 0 prepares the run and writes its files."""
    group = context.group
    if group.receive(_PREPARED) == _REFUSED:
        raise UserError("process 0 could not start; see its error message")
    spec = RunSpec.from_json(group.share_text(""))
    split = Split.from_json(group.share_text(""))
    train_run(run, spec, split, context)


class _LiveReport:
    """Updates the report of a run during training; the page reloads itself in the browser."""

    def __init__(self, run: RunFolder, context: ExecutionContext) -> None:
        self._run, self._context, self._updated, self._interval = run, context, 0.0, REPORT_SECONDS

    def update(self) -> None:
        started = time.monotonic()
        if started - self._updated < self._interval:
            return
        try:
            write_run_report(self._run, refresh_seconds=max(1, round(self._interval)))
        except OSError as error:
            self._context.progress.note(
                f"cannot write {self._run.report_file} ({error.strerror}); the training continues"
            )
        self._updated = time.monotonic()
        self._interval = max(REPORT_SECONDS, (self._updated - started) / REPORT_SHARE)
