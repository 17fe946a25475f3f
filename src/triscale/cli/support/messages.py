"""Messages before and after a training: its network, its estimated cost, its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triscale.cli.support.amounts import percentage
from triscale.cli.support.execution import execution
from triscale.cli.support.latency import is_other_device
from triscale.cli.support.terminal import console, print_json, table
from triscale.network.cost import si
from triscale.network.spec import Network
from triscale.results.metrics import guessing_note
from triscale.scaling.budget import format_cost

if TYPE_CHECKING:
    from triscale.jobs.core.run import Request, RunSpec
    from triscale.results.confidence import ConfidenceCheck
    from triscale.results.folds import FoldsSummary
    from triscale.results.metrics import AnyMetrics
    from triscale.scaling.fit import Fit


def print_estimate(
    request: Request, device: str, workers: int, folds: int | None, *, json: bool, exports: bool
) -> None:
    """Print the estimated time, memory and disk usage of a training, or of the first of several folds."""
    from triscale.data.pipeline.folds import Fold
    from triscale.jobs.training.estimate import estimate_training
    from triscale.jobs.training.settle import Conditions
    from triscale.progress import format_duration

    if folds is not None:
        request = request.replace(fold=Fold(number=1, count=folds))
    with execution(device, workers=workers) as context:
        estimate = estimate_training(request, context, Conditions(offline=True, exports=exports))
    if json:
        print_json(estimate)
        return
    for name, value in (
        (
            "network",
            f"{estimate.network}: {estimate.size} px, {si(estimate.macs)} MACs, {si(estimate.params)} params",
        ),
        ("images", f"{estimate.train_images} train, {estimate.val_images} val, {estimate.test_images} test"),
        ("steps", f"{estimate.steps} in {estimate.epochs} epochs, {estimate.images_per_second:.0f} images/s"),
        (
            "time",
            (
                f"{format_duration(estimate.seconds)} ({format_duration(estimate.seconds_low)} to "
                f"{format_duration(estimate.seconds_high)}) for training"
            ),
        ),
        ("memory", f"{si(estimate.memory_bytes)}B for weights, optimizer and a micro-batch, without Python and torch"),
        ("disk", f"{si(estimate.disk_bytes)}B at most"),
        *(() if folds is None else (("folds", f"{folds}; time and disk are those of one"),)),
    ):
        console.print(f"{name:<8} {value}", markup=False)


def announce(spec: RunSpec, device: str) -> None:
    """Print the network and its memory usage before training starts."""
    from triscale.jobs.core.networks import cost_of
    from triscale.jobs.training.memory import memory_of
    from triscale.progress_bars import error_console
    from triscale.training.context import choose_device

    cost = cost_of(spec.network)
    error_console.print(
        f"network {spec.network.name}: {spec.network.size} px, {si(cost.macs)} MACs, "
        f"{si(cost.params)} params, {spec.network.classes} classes",
        markup=False,
    )
    if spec.fit is not None:
        for limit in spec.fit.limits:
            error_console.print(f"budget: {limit}", markup=False)
        for part in spec.fit.pruned:
            error_console.print(f"pruned: {part}", markup=False)
        if reason := _why_slack(spec, spec.fit):
            error_console.print(f"the rest of the budget stays unused: {reason}", markup=False)
        if spec.fit.predictor is not None:
            error_console.print(f"the latency is predicted for {spec.fit.predictor}", markup=False)
        if spec.fit.measured is not None:
            error_console.print(f"the latency is {spec.fit.measured}", markup=False)
    memory = memory_of(spec, choose_device(device))
    if memory is None:
        return
    error_console.print(
        f"memory: {si(memory.needed)}B for a micro-batch of {memory.micro_batch} images"
        + (
            ""
            if memory.max_micro_batch is None
            else f"; up to {memory.max_micro_batch} images fit into the available {si(memory.available or 0)}B"
        ),
        markup=False,
    )
    if memory.max_micro_batch is not None and memory.max_micro_batch < memory.micro_batch:
        error_console.print(
            "this micro-batch does not fit, so activation checkpointing will be used, which is slower; to avoid it, "
            "increase --set micro_batches",
            style="bold",
        )


def _why_slack(spec: RunSpec, fit: Fit) -> str | None:
    from triscale.jobs.training.resolve import for_classes
    from triscale.scaling.slack import why_slack

    request = spec.request
    baseline = for_classes(request.network, len(spec.classes), request.recipe)
    if request.budget is None or fit.pruned or not isinstance(baseline, Network):
        return None
    return why_slack(baseline, fit, request.budget, fit.predictor)


def print_measured(out: Path) -> None:
    """Print the requested, predicted and measured latency of a run with a latency budget."""
    from triscale.deploy.engines import title_of
    from triscale.jobs.core.run import RunFolder
    from triscale.results.latency import RunLatencies

    run = RunFolder.open(out)
    fitted = run.spec.fit
    if fitted is None or fitted.predictor is None or not run.latency_file.is_file():
        return
    predictor = fitted.predictor
    (limit,) = (limit for limit in fitted.limits if limit.name == "latency")
    text = (
        f"latency: requested {format_cost('latency', limit.requested)}, predicted "
        f"{format_cost('latency', limit.achieved)}"
    )
    engine = title_of(predictor.engine)
    measured = next((item for item in RunLatencies.load(run.latency_file).measurements if item.engine == engine), None)
    if measured is None or is_other_device(predictor) or measured.threads != predictor.threads:
        console.print(f"{text}; not measured, since the profile belongs to {predictor}", markup=False)
        return
    console.print(f"{text}, measured {measured.median_ms:.3g} ms in {engine}", markup=False)
    if measured.noise is not None:
        console.print(f"unreliable: {measured.noise}", style="bold red", markup=False)


def print_guessing(metrics: AnyMetrics) -> None:
    """Print a sentence if a result is not distinguishable from guessing."""
    if note := guessing_note(metrics):
        console.print(note, style="bold red", markup=False)


def notes_on(metrics: AnyMetrics) -> tuple[str, ...]:
    """Return sentences on what a single figure hides: imbalanced classes, classes that are never recognized."""
    from triscale.results.metrics import Metrics, missed_classes

    sentences = []
    if not isinstance(metrics, Metrics):
        sentences.append(
            f"F1 {metrics.micro_f1:.1%} over all labels, {metrics.macro_f1:.1%} over classes; exactly the right labels "
            f"for {metrics.exact_match:.1%} of the images"
        )
    elif metrics.is_imbalanced:
        sentences.append(
            f"balanced accuracy {metrics.mean_class_accuracy:.1%}: the classes are imbalanced, and this is the mean of "
            "their accuracies"
        )
    if missed := missed_classes(metrics):
        named = ", ".join(missed[:5]) + (f" and {len(missed) - 5} more" if len(missed) > 5 else "")
        sentences.append(f"no image of {named} was recognized")
    return tuple(sentences)


def confidence_sentences(metrics: AnyMetrics, check: ConfidenceCheck) -> tuple[str, ...]:
    """Return sentences on what a calibration changes on the images of an evaluation."""
    from triscale.results.metrics import Metrics

    single = isinstance(metrics, Metrics)
    sentences = []
    if check.temperature != 1:
        sentences.append(
            f"calibration error {check.calibration_error_before:.1%} before and {metrics.calibration_error:.1%} after "
            f"the temperature {check.temperature:.3f}; loss {check.loss_before:.4f} before and {metrics.loss:.4f} after"
        )
    if check.coverage is not None:
        sentences.append(
            f"prediction sets for {percentage(check.coverage)}: {check.covered:.1%} contain "
            f"{'the right class' if single else 'all right labels'} (95% interval {check.covered_low:.1%} to "
            f"{check.covered_high:.1%}); {check.mean_set_size:.2f} classes on average, one class for "
            f"{check.single_share:.1%} of images"
        )
    if check.kept is not None:
        sentences.append(
            f"called unknown {check.called_unknown:.1%} (95% interval {check.called_unknown_low:.1%} to "
            f"{check.called_unknown_high:.1%}), meant to be {percentage(1 - check.kept)}"
        )
    return tuple(sentences)


def print_folds(summary: FoldsSummary, out: Path, *, everything: bool) -> None:
    """Print the result of a cross-validation, and how to train the network to use."""
    console.print()
    table(
        ("fold", "test images", "accuracy", "over classes", "loss"),
        [
            (row.folder, f"{row.count:,}", f"{row.top1:.1%}", f"{row.mean_class_accuracy:.1%}", f"{row.loss:.3f}")
            for row in summary.folds
        ],
    )
    interval = "no interval, since all folds have the same accuracy"
    if summary.mean_low is not None:
        interval = f"95% interval {summary.mean_low:.1%} to {summary.mean_high:.1%} by Student's t"
    console.print(
        f"\nmean accuracy {summary.mean:.1%}, standard deviation over folds {summary.deviation:.1%} ({interval})",
        style="bold",
    )
    verb = "fit" if everything else "train"
    for line in (
        (
            f"all {summary.count:,} tested images: accuracy {summary.top1:.1%} (95% Wilson interval "
            f"{summary.top1_low:.1%} to {summary.top1_high:.1%})"
        ),
        summary.how,
        summary.caution,
        f"written to {out}: folds.json, and a run with its report for each fold",
        f"to {verb} the network to use, run the same command without --folds (and with another --out if you gave one)",
    ):
        console.print(line, markup=False)


def summarize(metrics: AnyMetrics, out: Path, images: str) -> None:
    """Print the result of a training, and the next commands."""
    from triscale.data.sources.named import named_dataset
    from triscale.results.metrics import Metrics

    low, high = metrics.interval
    if isinstance(metrics, Metrics):
        headline = f"test accuracy {metrics.top1:.1%} on {metrics.count} images"
    else:
        headline = f"mean average precision {metrics.mean_average_precision:.1%} on {metrics.count} test images"
    console.print(f"\n{headline} (95% interval {low:.1%} to {high:.1%})", style="bold")
    for sentence in notes_on(metrics):
        console.print(sentence, markup=False)
    print_guessing(metrics)
    named = named_dataset(images)
    if isinstance(metrics, Metrics) and named is not None and named.metric == "mean_class_accuracy":
        console.print(
            f"mean accuracy over classes {metrics.mean_class_accuracy:.1%}, the usual metric of {named.title}"
        )
    console.print(f"report {out / 'report.html'}", markup=False, soft_wrap=True)
