"""The report of a run, from the records that the run has saved so far."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from triscale.data.pipeline.leaks import certain, describe, of_groups
from triscale.families import FAMILIES
from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.jobs.reports.advice import advice
from triscale.jobs.reports.run_results import load_if_exists, map_cards, measure_command, measurements, wrong_images
from triscale.jobs.reports.shown_paths import shown_command, shown_path
from triscale.jobs.training.train import read_evaluated, read_history
from triscale.network.cost import Cost, cost, si
from triscale.record import write_atomic
from triscale.report.content import NamedValue
from triscale.report.draw.format import grouped, share, unbroken
from triscale.report.render import render_run
from triscale.report.run.run_content import FamilyPoint, RunContent
from triscale.results.data_summary import DataSummary
from triscale.results.deployment import Deployment, Export
from triscale.results.history import Epoch, kept_note
from triscale.results.machine import Machine
from triscale.results.metrics import GUESSING, AnyMetrics, Metrics, guessing_note, load_metrics
from triscale.results.robustness import Robustness
from triscale.scaling.budget import format_cost
from triscale.scaling.fit import Fit, Limit
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints

FILES = (
    ("network.json", "the network as data; give it to --network or --baseline"),
    ("run.json", "the request with its recipe, the network, the machine"),
    ("split.json", "the split: which image is used for training, validation and test"),
    ("data.json", "the result of the scan, with the skipped files"),
    ("contents.json", "digests of the images, by which they are recognized after they have moved"),
    ("sbom.cdx.json", "the software of the training and the weights it started from, in CycloneDX's format"),
    ("history.jsonl", "one line for each epoch; epoch 0 is the pretrained weights"),
    ("model.safetensors", "the trained weights"),
    ("decision.json", "how probabilities become labels: the threshold of each class"),
    ("calibration.json", "temperature, prediction sets and the threshold of unknown images"),
    ("metrics.json", "metrics on the test images"),
    ("robustness.json", "accuracy on corrupted test images"),
    ("predictions.csv", "the prediction for each test image"),
    ("model.onnx", "the exported network, with its preprocessing inside"),
    ("export.json", "the parity check of the exported file"),
    ("exports.json", "the parity checks of files for other engines"),
    ("deploy.json", "the file chosen for a device, and the alternatives"),
    ("latency.json", "measured latency"),
    ("explain/maps.json", "the class activation maps"),
    ("README.md", "the model card"),
    ("model.sig", "the signature"),
)


def write_run_report(run: RunFolder, refresh_seconds: int | None = None) -> Path:
    """Write the report of a run from the records that it has saved so far, and return its path.

    Args:
        run: The run, finished or not.
        refresh_seconds: Interval at which the report reloads itself in a browser; None for never.
    """
    content = collect_content(run).replace(refresh_seconds=refresh_seconds)
    write_atomic(run.report_file, render_run(content).encode("utf-8", errors="replace"))
    return run.report_file


def collect_content(run: RunFolder, *, pictures: bool = True) -> RunContent:
    """Return everything that the report of a run shows.

    Args:
        run: The run, finished or not.
        pictures: Whether to read its test images and maps.
    """
    spec = run.spec
    counted = cost_of(spec.network)
    metrics = load_metrics(run.metrics_file) if run.metrics_file.is_file() else None
    history, evaluated = read_history(run), read_evaluated(run)
    data = load_if_exists(DataSummary, run.data_file)
    guessing, shows = bool(guessing_note(metrics)), metrics is not None and pictures
    return RunContent(
        title=": ".join(filter(None, (images_name(spec.request.images), spec.network.name))),
        verdict=_verdict(metrics, spec.fit, counted, history, spec.request.recipe.epochs),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=_warnings(run),
        fit=spec.fit,
        network=spec.network,
        cost=counted,
        families=published_points(),
        data=None if data is None else data.replace(root=shown_path(data.root)),
        advice=advice(spec, data, evaluated, metrics),
        split=f"{run.split.how[:1].upper()}{run.split.how[1:]}." if run.data_file.is_file() else "",
        seed=spec.request.seed,
        recipe=recipe_rows(spec.request.recipe) if spec.request.trains else (),
        history=evaluated,
        kept=_kept(run, evaluated),
        images=images_name(spec.request.images),
        metrics=metrics,
        calibration=run.calibration,
        robustness=load_if_exists(Robustness, run.robustness_file),
        wrong=wrong_images(run, run.split.root, with_maps=not guessing) if shows else (),
        maps=() if guessing or not pictures else map_cards(run),
        latency=measurements(run),
        measure=measure_command(run),
        exported=load_if_exists(Export, run.export_file),
        deployed=load_if_exists(Deployment, run.deploy_file),
        environment=_environment(spec),
        repeat=(shown_command(spec.command),) if spec.command else (),
        files=tuple(NamedValue(name=name, value=what) for name, what in FILES if (run.folder / name).exists()),
    )


def _kept(run: RunFolder, evaluated: tuple[Epoch, ...]) -> str:
    """Return whose weights a finished training has kept, by its newest checkpoint; "" if there is none."""
    manifest = Checkpoints(run.checkpoints).newest() if run.weights_file.is_file() else None
    if manifest is None or manifest.best is None or not evaluated:
        return ""
    return kept_note(evaluated, manifest.best, run.spec.request.recipe.kept_epoch)


def percent(value: float) -> str:
    """Return a share as a percentage without line breaks."""
    return unbroken(share(value))


def images_name(images: str) -> str:
    """Return the name of a data set in a report: the last part of its folder or URL."""
    return Path(images).name or images


def published_points() -> tuple[FamilyPoint, ...]:
    """Return the published networks with their cost and their published ImageNet accuracy."""
    points = []
    for family, members in FAMILIES.items():
        for member in members:
            counted = cost(member.network)
            points.append(
                FamilyPoint(
                    family=family,
                    name=member.name,
                    params=counted.params,
                    macs=counted.macs,
                    top1=None if member.top1 is None else member.top1 / 100,
                )
            )
    return tuple(points)


def recipe_rows(recipe: Recipe) -> tuple[NamedValue, ...]:
    """Return every setting of a recipe by its name."""

    def flat(value: object, name: str) -> list[NamedValue]:
        if isinstance(value, dict):
            return [pair for key, inner in value.items() for pair in flat(inner, f"{name}.{key}" if name else str(key))]
        shown = "to ".join(f"{part:g} " for part in value).strip() if isinstance(value, list) else str(value)
        return [NamedValue(name=name.replace("_", " "), value=shown)]

    return tuple(flat(recipe.model_dump(mode="json"), ""))


def machine_rows(machine: Machine) -> tuple[NamedValue, ...]:
    """Return a machine and the packages installed on it as rows of a table."""
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
    return tuple(NamedValue(name=name, value=value) for name, value in rows)


def _verdict(
    metrics: AnyMetrics | None, fit: Fit | None, counted: Cost, history: tuple[Epoch, ...], epochs: int
) -> str:
    cost_text = (
        f"{si(counted.macs)} MACs and {si(counted.params)} parameters"
        if fit is None
        else " and ".join(
            f"{format_cost(limit.name, limit.achieved)} of the {_allowed(limit)} allowed" for limit in fit.limits
        )
    )
    if metrics is None:
        status = f"In training: {len(history)} of {epochs} epochs done" if history else "Not evaluated yet"
        best = max((epoch.val_score for epoch in history), default=None)
        what = "mean average precision" if history and history[0].val_map is not None else "validation accuracy"
        return f"{status}{'' if best is None else f', {what} up to {percent(best)}'}; {cost_text}."
    guessing = f", {GUESSING}" if guessing_note(metrics) else ""
    if not isinstance(metrics, Metrics):
        return (
            f"Mean average precision {percent(metrics.score)} on {grouped(metrics.count)} {metrics.split} images (95% "
            f"interval {percent(metrics.map_low)} to {percent(metrics.map_high)}){guessing}, with {cost_text}."
        )
    balanced = f"; balanced accuracy {percent(metrics.mean_class_accuracy)}" if metrics.is_imbalanced else ""
    return (
        f"{percent(metrics.top1)} of {grouped(metrics.count)} {metrics.split} images correct (95% interval "
        f"{percent(metrics.top1_low)} to {percent(metrics.top1_high)}{balanced}){guessing}, with {cost_text}."
    )


def _allowed(limit: Limit) -> str:
    has_unit = limit.name in ("latency", "memory", "training_memory", "ram", "flash")
    return format_cost(limit.name, limit.requested) if has_unit else si(limit.requested)


def _warnings(run: RunFolder) -> tuple[str, ...]:
    if not run.data_file.is_file():
        return ()
    leaks = DataSummary.load(run.data_file).leaks
    grouped = of_groups(leaks)
    sure = tuple(leak for leak in certain(leaks) if leak not in grouped)
    unsure = tuple(leak for leak in leaks if leak.match == "possible")
    warnings = []
    if sure:
        warnings.append(
            f"{len(sure)} test or validation images are copies of training or validation images, which "
            f"--allow-leak accepted; the metrics overestimate the accuracy on new images: {describe(sure)}"
        )
    if grouped:
        warnings.append(
            f"{len(grouped)} test or validation images are of groups that have images in an earlier split too, which "
            f"--allow-leak accepted; the metrics overestimate the accuracy on new groups: {describe(grouped)}"
        )
    if unsure:
        warnings.append(
            f"{len(unsure)} test or validation images look like training or validation images: {describe(unsure)}"
        )
    return tuple(warnings)


def _environment(spec: RunSpec) -> tuple[NamedValue, ...]:
    rows = [
        ("seed", str(spec.request.seed)),
        ("network digest", spec.network.structure[:16]),
        ("recipe digest", spec.request.recipe.digest[:16]),
        ("split digest", spec.split[:16]),
    ]
    return (*machine_rows(spec.machine), *(NamedValue(name=name, value=value) for name, value in rows))
