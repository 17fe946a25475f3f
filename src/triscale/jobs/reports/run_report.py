"""From the records of a Run to its page."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from triscale.data.pipeline.leaks import certain, describe
from triscale.families import FAMILIES
from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.run import Run, RunSpec
from triscale.jobs.reports.run_results import (
    deployed_facts,
    exported_facts,
    latency_rows,
    map_cards,
    measure_command,
    metric_facts,
    wrong_images,
)
from triscale.jobs.training.prepare import DataSummary
from triscale.jobs.training.train import read_history
from triscale.measure.device import Machine
from triscale.network.cost import Cost, cost, si
from triscale.network.custom import AnyNetwork
from triscale.network.describe import PartDescription, describe_parts
from triscale.network.spec import Network
from triscale.record import write_atomic
from triscale.report.draw.format import grouped, milliseconds, share, unbroken
from triscale.report.page import render
from triscale.report.run import run_content as page
from triscale.scaling.budget import LABELS, format_cost
from triscale.scaling.fit import Fit, Limit
from triscale.training.metrics import Metrics
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Epoch

CONVENTION = (
    "MACs: multiply-accumulates of convolutions, squeeze-excite and classifier for one image, no bias, no batch norm; "
    "parameters without batch-norm statistics; size: both as float32"
)

FILES = (
    ("network.json", "the network as data; give it to --network or --baseline"),
    ("run.json", "what was asked, the recipe, the machine"),
    ("split.json", "which image is for what"),
    ("data.json", "what the scan found, and the files that were left out"),
    ("history.jsonl", "one line an epoch"),
    ("model.safetensors", "the trained weights"),
    ("metrics.json", "figures on the test images"),
    ("predictions.csv", "what the network says of each test image"),
    ("model.onnx", "the exported network, with its preprocessing inside"),
    ("export.json", "how the exported file agrees with the model"),
    ("exports.json", "the same of the files for other engines"),
    ("deploy.json", "which file was chosen for a device, and from what"),
    ("latency.json", "measured latency"),
    ("explain/maps.json", "the class activation maps"),
)


def write_run_report(run: Run, refresh_seconds: int | None = None) -> Path:
    """Write the page of a Run from whatever it holds so far, and return its path; it may load itself again."""
    content = collect_content(run).model_copy(update={"refresh_seconds": refresh_seconds})
    write_atomic(run.report_file, render(content).encode("utf-8", errors="replace"))
    return run.report_file


def collect_content(run: Run) -> page.Content:
    """Return everything that the page of a Run shows."""
    spec = run.spec
    figures = cost_of(spec.network)
    metrics = Metrics.load(run.metrics_file) if run.metrics_file.is_file() else None
    latency = latency_rows(run)
    return page.Content(
        title=f"{images_name(spec.request.images)}: {spec.network.name}",
        verdict=_verdict(metrics, spec.fit, figures, read_history(run), spec.request.recipe.epochs),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=_warnings(run),
        asked=_asked(spec.fit, latency),
        scaling=_scaling(spec.fit, spec.network),
        network=_network(spec.network, figures),
        families=published_points(),
        data=_data(run, spec),
        recipe=recipe_rows(spec.request.recipe),
        curve=_curve(run),
        images=images_name(spec.request.images),
        metrics=None if metrics is None else metric_facts(metrics),
        wrong=wrong_images(run, run.split.root) if metrics is not None else (),
        maps=map_cards(run),
        latency=latency,
        measure=measure_command(run),
        exported=exported_facts(run),
        deployed=deployed_facts(run),
        environment=_environment(spec),
        repeat=_repeat(spec),
        files=tuple(page.NamedValue(name=name, value=what) for name, what in FILES if (run.folder / name).exists()),
    )


def percent(value: float) -> str:
    """Return a share as a percentage that no line break divides."""
    return unbroken(share(value))


def _verdict(metrics: Metrics | None, fit: Fit | None, figures: Cost, history: tuple[Epoch, ...], epochs: int) -> str:
    within = (
        f"{si(figures.macs)} MACs and {si(figures.params)} parameters"
        if fit is None
        else " and ".join(
            f"{format_cost(limit.name, limit.achieved)} of the {_allowed(limit)} allowed" for limit in fit.limits
        )
    )
    if metrics is None:
        going = f"In training: {len(history)} of {epochs} epochs done" if history else "Not evaluated yet"
        best = max((epoch.val_top1 for epoch in history), default=None)
        return f"{going}{'' if best is None else f', validation accuracy up to {percent(best)}'}; {within}."
    return (
        f"{percent(metrics.top1)} of {grouped(metrics.count)} {metrics.part} images right (95 % interval "
        f"{percent(metrics.top1_low)} to {percent(metrics.top1_high)}), with {within}."
    )


def _allowed(limit: Limit) -> str:
    return format_cost(limit.name, limit.requested) if limit.name == "latency" else si(limit.requested)


def _warnings(run: Run) -> tuple[str, ...]:
    if not run.data_file.is_file():
        return ()
    leaks = DataSummary.load(run.data_file).leaks
    sure = certain(leaks)
    unsure = tuple(leak for leak in leaks if leak.match == "possible")
    found = []
    if sure:
        found.append(
            f"{len(sure)} test or validation images are copies of training or validation images, which "
            f"--allow-leak let pass; the figures promise more than new images will give: {describe(sure)}"
        )
    if unsure:
        found.append(
            f"{len(unsure)} test or validation images look like training or validation images: {describe(unsure)}"
        )
    return tuple(found)


def _asked(fit: Fit | None, latency: Sequence[page.LatencyRow]) -> tuple[page.LimitRow, ...]:
    if fit is None:
        return ()
    measured = f", measured {milliseconds(latency[0].median_ms)} in {latency[0].engine}" if latency else ""
    return tuple(
        page.LimitRow(
            name=LABELS[limit.name],
            asked=format_cost(limit.name, limit.requested),
            achieved=format_cost(limit.name, limit.achieved),
            used=limit.used,
            binding=limit.name == fit.binding,
            note=f"foretold by the profile{measured}" if limit.name == "latency" else "",
        )
        for limit in fit.limits
    )


def _scaling(fit: Fit | None, network: AnyNetwork) -> page.ScalingFacts | None:
    if fit is None:
        return None
    notes = []
    if fit.scale.resolution != 1:
        notes.append(f"resolution {network.resolution} px, snapped from the law's")
    if fit.steps:
        notes.append(f"steps ahead of the law that use up the budget: {', '.join(fit.steps)}")
    return page.ScalingFacts(
        baseline=fit.baseline,
        law=str(fit.law),
        phi=fit.phi,
        depth=fit.scale.depth,
        width=fit.scale.width,
        resolution=fit.scale.resolution,
        notes=tuple(notes),
    )


def _network(network: AnyNetwork, figures: Cost) -> page.NetworkFacts:
    return page.NetworkFacts(
        name=network.name,
        resolution=network.resolution,
        classes=network.classes,
        params=figures.params,
        macs=figures.macs,
        activations=figures.activations,
        size_bytes=figures.size_bytes,
        convention=CONVENTION,
        stages=tuple(
            page.StageRow(
                name=part.name,
                block=block,
                repeats=repeats,
                width=part.channels,
                stride=stride,
                side=part.side,
                params=part.params,
                macs=part.macs,
                activations=part.activations,
            )
            for part, (block, repeats, stride) in zip(figures.stages, _parts(network, figures), strict=True)
        ),
    )


def _parts(network: AnyNetwork, figures: Cost) -> tuple[PartDescription, ...]:
    """Return block, repeats and stride of each part; nothing is known of those of a person's own network."""
    return (
        describe_parts(network) if isinstance(network, Network) else (PartDescription("", 1, 1),) * len(figures.stages)
    )


def images_name(images: str) -> str:
    """Return what a page calls the images that a job was given: the last part of their folder or address."""
    return Path(images).name or images


def published_points() -> tuple[page.FamilyPoint, ...]:
    """Return the published networks with their exact cost and what their authors reached on ImageNet."""
    points = []
    for family, members in FAMILIES.items():
        for member in members:
            figures = cost(member.network)
            points.append(
                page.FamilyPoint(
                    family=family,
                    name=member.name,
                    params=figures.params,
                    macs=figures.macs,
                    top1=None if member.top1 is None else member.top1 / 100,
                )
            )
    return tuple(points)


def _data(run: Run, spec: RunSpec) -> page.DataFacts | None:
    if not run.data_file.is_file():
        return None
    summary = DataSummary.load(run.data_file)
    return page.DataFacts(
        root=summary.root,
        classes=tuple(
            page.ClassCount(name=row.name, train=row.train, val=row.val, test=row.test) for row in summary.classes
        ),
        how=f"{run.split.how[:1].upper()}{run.split.how[1:]}.",
        bad=tuple(page.BadFileRow(path=bad.path, reason=bad.reason) for bad in summary.bad),
        seed=spec.request.seed,
    )


def recipe_rows(recipe: Recipe) -> tuple[page.NamedValue, ...]:
    """Return every setting of a recipe by its name."""

    def flat(value: object, name: str) -> list[page.NamedValue]:
        if isinstance(value, dict):
            return [pair for key, inner in value.items() for pair in flat(inner, f"{name}.{key}" if name else str(key))]
        shown = "to ".join(f"{part:g} " for part in value).strip() if isinstance(value, list) else str(value)
        return [page.NamedValue(name=name.replace("_", " "), value=shown)]

    return tuple(flat(recipe.model_dump(mode="json"), ""))


def _curve(run: Run) -> tuple[page.CurvePoint, ...]:
    if not run.history_file.is_file():
        return ()
    return tuple(
        page.CurvePoint(
            epoch=epoch.epoch,
            train_loss=epoch.train_loss,
            val_loss=epoch.val_loss,
            val_top1=epoch.val_top1,
            learning_rate=epoch.learning_rate,
            images_per_second=epoch.images_per_second,
        )
        for epoch in read_history(run)
    )


def machine_rows(machine: Machine) -> tuple[page.NamedValue, ...]:
    """Return what a page says of the machine and the packages on it."""
    rows = [
        ("processor", f"{machine.processor}, {machine.cores} cores"),
        ("memory", f"{machine.memory_bytes / 2**30:.0f} GiB"),
        ("accelerator", machine.accelerator or "none"),
        ("system", machine.system),
        ("Python", machine.python),
        *machine.packages,
        ("torch threads", str(machine.threads)),
        ("training kernels", machine.kernels or "torch"),
    ]
    return tuple(page.NamedValue(name=name, value=value) for name, value in rows)


def _environment(spec: RunSpec) -> tuple[page.NamedValue, ...]:
    rows = [
        ("seed", str(spec.request.seed)),
        ("network digest", spec.network.structure[:16]),
        ("recipe digest", spec.request.recipe.digest[:16]),
        ("split digest", spec.split[:16]),
    ]
    return (*machine_rows(spec.machine), *(page.NamedValue(name=name, value=value) for name, value in rows))


def _repeat(spec: RunSpec) -> tuple[str, ...]:
    return (shlex.join(spec.command),) if spec.command else ()
