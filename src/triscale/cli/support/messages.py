"""What is said of a training before and after it: its network, its forecast, its figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from triscale.cli.support.execution import execution
from triscale.cli.support.latency import elsewhere
from triscale.cli.support.terminal import console, print_json
from triscale.network.cost import si
from triscale.scaling.budget import format_cost

if TYPE_CHECKING:
    from triscale.jobs.core.run import Request, RunSpec
    from triscale.results.metrics import Metrics


def print_estimate(request: Request, device: str, workers: int, *, json: bool) -> None:
    """Say what a training will take."""
    from triscale.jobs.training.estimate import estimate_training
    from triscale.progress import format_duration

    with execution(device, workers=workers) as context:
        found = estimate_training(request, context)
    if json:
        print_json(found)
        return
    for name, value in (
        ("network", f"{found.network}: {found.resolution} px, {si(found.macs)} MACs, {si(found.params)} params"),
        ("images", f"{found.train_images} train, {found.val_images} val, {found.test_images} test"),
        ("steps", f"{found.steps} in {found.epochs} epochs, {found.images_per_second:.0f} images/s"),
        (
            "time",
            (
                f"{format_duration(found.seconds)} ({format_duration(found.seconds_low)} to "
                f"{format_duration(found.seconds_high)}) for training"
            ),
        ),
        ("memory", f"{si(found.memory_bytes)}B for weights and a micro-batch, without Python and torch"),
        ("disk", f"{si(found.disk_bytes)}B at most"),
    ):
        console.print(f"{name:<8} {value}", markup=False)


def announce(spec: RunSpec, device: str) -> None:
    """Say what will be trained, before it takes its time."""
    from triscale.cli.support.terminal import error_console
    from triscale.jobs.core.networks import cost_of
    from triscale.jobs.training.memory import memory_of
    from triscale.training.context import choose_device

    figures = cost_of(spec.network)
    error_console.print(
        f"network {spec.network.name}: {spec.network.resolution} px, {si(figures.macs)} MACs, "
        f"{si(figures.params)} params, {spec.network.classes} classes",
        markup=False,
    )
    if spec.fit is not None:
        for limit in spec.fit.limits:
            error_console.print(f"asked and achieved: {limit}", markup=False)
        if spec.fit.predictor is not None:
            error_console.print(f"the time is predicted for {spec.fit.predictor}", markup=False)
    memory = memory_of(spec, choose_device(device))
    if memory is None:
        return
    error_console.print(
        f"memory: {si(memory.needed)}B for {memory.micro_batch} images at a time"
        + (
            ""
            if memory.max_micro_batch is None
            else f"; up to {memory.max_micro_batch} would fit into {si(memory.available or 0)}B"
        ),
        markup=False,
    )
    if memory.max_micro_batch is not None and memory.max_micro_batch < memory.micro_batch:
        error_console.print(
            "that is not enough: parts of the network will be computed twice, or give more --set micro_batches",
            style="bold",
        )


def print_measured(out: Path) -> None:
    """Say of a run with a budget of time what was asked, predicted and measured, if it was on that device."""
    from triscale.jobs.core.run import Run
    from triscale.results.latency import RunLatencies

    run = Run.open(out)
    fitted = run.spec.fit
    if fitted is None or fitted.predictor is None or not run.latency_file.is_file():
        return
    predictor = fitted.predictor
    (limit,) = (limit for limit in fitted.limits if limit.name == "latency")
    words = (
        f"latency: asked {format_cost('latency', limit.requested)}, predicted {format_cost('latency', limit.achieved)}"
    )
    engine = {"onnxruntime": "ONNX Runtime"}.get(predictor.engine, predictor.engine)
    measured = next((item for item in RunLatencies.load(run.latency_file).measurements if item.engine == engine), None)
    if measured is None or elsewhere(predictor) or measured.threads != predictor.threads:
        console.print(f"{words}; the profile is of {predictor}, which was not measured here", markup=False)
        return
    console.print(f"{words}, measured {measured.median_ms:.3g} ms in {engine}", markup=False)
    if measured.noise is not None:
        console.print(f"unreliable: {measured.noise}", style="bold red", markup=False)


def summarize(metrics: Metrics, out: Path, images: str) -> None:
    """Say what a training came to, and what can be done with it."""
    from triscale.data.sources.named import named_dataset

    console.print(
        f"\ntest accuracy {metrics.top1:.1%} on {metrics.count} images "
        f"(95% interval {metrics.top1_low:.1%} to {metrics.top1_high:.1%})",
        style="bold",
    )
    named = named_dataset(images)
    if named is not None and named.metric == "mean_class_accuracy":
        console.print(
            f"mean accuracy over classes {metrics.mean_class_accuracy:.1%}, by which {named.title} is reported"
        )
    console.print(f"report {out / 'report.html'}", markup=False, soft_wrap=True)
