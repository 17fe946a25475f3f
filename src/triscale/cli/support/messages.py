"""Messages before and after a training: its network, its estimated cost, its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triscale.cli.support.execution import execution
from triscale.cli.support.latency import is_other_device
from triscale.cli.support.terminal import console, print_json
from triscale.network.cost import si
from triscale.results.metrics import guessing_note
from triscale.scaling.budget import format_cost

if TYPE_CHECKING:
    from triscale.jobs.core.run import Request, RunSpec
    from triscale.results.metrics import Metrics


def print_estimate(request: Request, device: str, workers: int, *, json: bool, exports: bool) -> None:
    """Print the estimated time, memory and disk usage of a training."""
    from triscale.jobs.training.estimate import estimate_training
    from triscale.jobs.training.settle import Conditions
    from triscale.progress import format_duration

    with execution(device, workers=workers) as context:
        estimate = estimate_training(request, context, Conditions(offline=True, exports=exports))
    if json:
        print_json(estimate)
        return
    for name, value in (
        (
            "network",
            f"{estimate.network}: {estimate.resolution} px, {si(estimate.macs)} MACs, {si(estimate.params)} params",
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
        f"network {spec.network.name}: {spec.network.resolution} px, {si(cost.macs)} MACs, "
        f"{si(cost.params)} params, {spec.network.classes} classes",
        markup=False,
    )
    if spec.fit is not None:
        for limit in spec.fit.limits:
            error_console.print(f"budget: {limit}", markup=False)
        if spec.fit.predictor is not None:
            error_console.print(f"the latency is predicted for {spec.fit.predictor}", markup=False)
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


def print_guessing(metrics: object) -> None:
    """Print a sentence if a result is not distinguishable from guessing."""
    if note := guessing_note(metrics):
        console.print(note, style="bold red", markup=False)


def summarize(metrics: Metrics, out: Path, images: str) -> None:
    """Print the result of a training, and the next commands."""
    from triscale.data.sources.named import named_dataset

    console.print(
        f"\ntest accuracy {metrics.top1:.1%} on {metrics.count} images "
        f"(95% interval {metrics.top1_low:.1%} to {metrics.top1_high:.1%})",
        style="bold",
    )
    print_guessing(metrics)
    named = named_dataset(images)
    if named is not None and named.metric == "mean_class_accuracy":
        console.print(
            f"mean accuracy over classes {metrics.mean_class_accuracy:.1%}, the usual metric of {named.title}"
        )
    console.print(f"report {out / 'report.html'}", markup=False, soft_wrap=True)
