"""The commands ``export`` and ``deploy``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Items, Json, Offline, OptionalOut, SourceArgument, SourceImages, joined
from triscale.cli.support.terminal import console, counted, print_json, table
from triscale.errors import ExportError, JobError, ParityError, QuantizationError, UserError
from triscale.network.cost import si

if TYPE_CHECKING:
    from triscale.deploy.engines import Engine, Precision
    from triscale.results.deployment import Deployment, Exported, Quantized

ALL = "all"


def export(
    source: SourceArgument,
    /,
    images: SourceImages = None,
    *,
    engine: str | None = None,
    precision: Literal["float32", "float16", "bfloat16", "int8"] = "float32",
    bound: float = 0.5,
    calibration: int = 300,
    app: Items = (),
    out: OptionalOut = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Export a run or weights to a file for an inference engine, check the file, and measure its latency.

    The file contains the preprocessing. The outputs of a float32 file must match those of the model. A float16,
    bfloat16 or int8 file may lose half a percentage point of accuracy on validation images; sensitive blocks stay in
    float in int8. What it loses on test images is reported with its interval, and a file that surely loses more than
    allowed is not kept.

    Parameters
    ----------
    engine
        onnxruntime (the default), openvino, executorch, coreml, litert, or all for all that are installed.
    precision
        float32, float16 (onnxruntime, openvino, coreml, litert: half the size), bfloat16 (openvino) or int8
        (onnxruntime, openvino, executorch, litert).
    bound
        Maximum loss of accuracy of files below float32 in percentage points.
    calibration
        Number of training images to calibrate int8 with.
    app
        Also write example projects that classify photos with the exported model: web, python, cpp, android, ios.
    out
        File to write; its suffix may select the engine. By default a file such as model.onnx in the run, or for weights
        a file of their name in the current folder. With --app the folder of the projects, by default apps in the run,
        or for weights NAME-apps in the current folder.
    """
    from triscale.jobs.run_source import open_source
    from triscale.jobs.source_jobs import export_source

    if bound < 0:
        raise UserError(f"--bound {bound:g}: give a loss of accuracy in percentage points, 0 or more")
    if app:
        if engine is not None:
            raise UserError(f"--engine {engine}: each --app has its own engine; leave --engine out")
        _export_apps(source, images, joined(app) or "", precision, bound, calibration, out, offline, json)
        return
    chosen = _chosen(engine, precision, out)
    exported, failed = [], []
    with execution() as context, open_source(source, context, images=images, offline=offline) as opened:
        files = [opened.export_file(one, precision, out) for one in chosen]
        for one, file in zip(chosen, files, strict=True):
            try:
                exported.append(
                    export_source(opened, context, one, precision, file, bound=bound, calibration=calibration)
                )
            except (ExportError, ParityError, QuantizationError) as error:
                if engine != ALL:
                    raise
                failed.append(f"{one.title}: {error}")
                context.progress.note(failed[-1])
    if json:
        print_json(exported[0] if engine != ALL else exported)
    else:
        _print(exported, Path(source) if files[0] is None else files[0].absolute().parent)
    if failed:
        raise JobError(f"the export failed for {counted(len(failed), 'engine')} of {len(chosen)}: {'; '.join(failed)}")


def _export_apps(
    source: str,
    images: str | None,
    names: str,
    precision: Precision,
    bound: float,
    calibration: int,
    out: Path | None,
    offline: bool,
    json: bool,
) -> None:
    """Export example projects, and print where they are and how they are run."""
    from triscale.deploy.apps import get_app
    from triscale.jobs.app_jobs import export_apps
    from triscale.jobs.run_source import open_source

    apps = [get_app(name) for name in dict.fromkeys(word.strip() for word in names.split(","))]
    with execution() as context, open_source(source, context, images=images, offline=offline) as opened:
        made = export_apps(opened, context, apps, precision, out, bound=bound, calibration=calibration)
    if json:
        print_json([record for record, _ in made])
        return
    for record, folder in made:
        console.print(str(folder), style="bold", markup=False, soft_wrap=True)
        note = "" if record.built_here else " (not built by the tests of Triscale; README.md says what it needs)"
        console.print(
            f"  {record.engine}, {record.precision}. In this folder run: {record.run_with}{note}",
            markup=False,
            soft_wrap=True,
        )


def _chosen(engine: str | None, precision: Precision, out: Path | None) -> list[Engine]:
    """Return the engines to export for.

    Raises:
        UserError: There is no such engine, or the file does not fit it.
    """
    from triscale.deploy.engines import DEFAULT_ENGINE, engine_of, get_engine

    if engine == ALL:
        if out is not None:
            raise UserError(
                "--out names one file, but --engine all writes several; leave --out out to write into the run"
            )
        return _installed_with(precision)
    if engine is None:
        return [DEFAULT_ENGINE if out is None else engine_of(out)]
    chosen = get_engine(engine)
    if out is not None and out.suffix != chosen.suffix:
        raise UserError(f"--out {out}: files for {chosen.title} must end in {chosen.suffix}")
    return [chosen]


def _installed_with(precision: Precision) -> list[Engine]:
    """Return the installed engines with a precision.

    Raises:
        UserError: There are none.
    """
    from triscale.deploy.engines import ENGINES

    able = [one for one in ENGINES.values() if precision in one.precisions]
    chosen = [one for one in able if one.installed]
    if not chosen:
        ways = " or ".join(f"{one.title} ({one.install})" for one in able)
        raise UserError(f"no installed engine has {precision}; install {ways}, or export another --precision")
    return chosen


def deploy(
    source: SourceArgument,
    /,
    images: SourceImages = None,
    *,
    device: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = ("cpu",),
    budget: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    bound: float = 0.5,
    calibration: int = 300,
    precisions: Items = ("float32", "bfloat16", "int8"),
    threads: int = 1,
    time_limit: str | None = None,
    out: OptionalOut = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Choose the fastest file of a run or weights for a device: try engines and precisions, evaluate and time files.

    Parameters
    ----------
    device
        cpu for this machine, or profiles of another device, one per engine, to predict latency with.
    budget
        Limits that the file must meet: a latency such as 20ms, a file size such as 5MB.
    bound
        Maximum loss of accuracy of files below float32 in percentage points.
    calibration
        Number of training images to calibrate int8 with.
    precisions
        Precisions to try: float32, float16, bfloat16, int8. For another device only float32 is tried.
    threads
        Threads of each engine, on as many cores.
    time_limit
        Begin no further file so that everything ends within this time, such as 90s or 5m, and choose among those that
        were made.
    out
        Folder for the file of weights and deploy.json; by default deployed. The file of a run is written into the run.
    """
    started = time.monotonic()  # loading torch and the engines takes a part of the time
    from triscale.deploy.engines import PRECISIONS
    from triscale.jobs.core.durations import seconds_of
    from triscale.jobs.deploy.deploy import deploy_run
    from triscale.jobs.run_source import open_source
    from triscale.jobs.source_jobs import deploy_source
    from triscale.network.latency import load_predictor
    from triscale.scaling.budget import Budget

    if threads < 1 or bound < 0:
        raise UserError(f"--threads {threads} --bound {bound:g}: give 1 or more threads, and a bound of 0 or more")
    names = tuple(word.strip() for word in (joined(precisions) or "").split(","))
    if set(names) - set(PRECISIONS) or len(set(names)) < len(names):
        raise UserError(f"--precisions {' '.join(precisions)}: give one or more of {', '.join(PRECISIONS)}, each once")
    if "cpu" in device and len(device) > 1:
        raise UserError("--device: give cpu or profiles of another device, not both")
    predictors = [load_predictor(Path(file)) for file in device if file != "cpu"]
    made = ("float32",) if predictors else names
    limits = Budget.of(*budget) if budget else None
    with execution() as context, open_source(source, context, images=images, offline=offline) as opened:
        deploy_folder = partial(
            deploy_run,
            context=context,
            predictors=predictors,
            budget=limits,
            bound=bound,
            calibration=calibration,
            precisions=names,  # type: ignore[arg-type]
            threads=threads,
            time_limit=None if time_limit is None else seconds_of("--time-limit", time_limit),
            started=started,
        )
        deployment, folder = deploy_source(opened, context, deploy_folder, made, out)  # type: ignore[arg-type]
    if json:
        print_json(deployment)
        return
    _print_deployment(deployment, folder)


def _print_deployment(deployment: Deployment, folder: Path) -> None:
    timed = [one for one in deployment.candidates if one.milliseconds is not None]
    table(
        ("engine", "precision", "verdict", "size", "accuracy", "points lost", "ms"),
        [
            (
                one.engine,
                one.precision,
                one.verdict,
                "-" if one.size_bytes is None else f"{si(one.size_bytes)}B",
                "-" if one.accuracy is None else f"{one.accuracy:.2%}",
                "-" if one.loss is None else f"{one.loss.points:.2f} ({one.loss.low:.2f} to {one.loss.high:.2f})",
                f"{one.milliseconds:.3g}",
            )
            for one in sorted(timed, key=lambda one: one.milliseconds or 0.0)
        ],
        left=3,
    )
    for one in deployment.candidates:
        if one.milliseconds is None:
            console.print(f"no file: {one.engine}, {one.precision}: {one.verdict}", markup=False)
    if deployment.quantized is not None:
        _print_loss(deployment.file, deployment.quantized)
    how = "predicted by the profile of" if deployment.predicted else "measured on"
    console.print(
        f"ms: batch size 1, {deployment.threads} thread{'s' if deployment.threads > 1 else ''}, {how} "
        f"{deployment.device}",
        style="dim",
        markup=False,
    )
    console.print(f"{folder / deployment.file}", style="bold", markup=False, soft_wrap=True)
    if deployment.open_with:
        console.print(f"opened by other programs with: {deployment.open_with}", markup=False, soft_wrap=True)


def _print_loss(file: str, result: Quantized) -> None:
    """Print what a file of lower precision loses, by what it was chosen, and which blocks stay in float."""
    float_blocks = [block for block in result.blocks if block.kept_float]
    slow = [block.name for block in float_blocks if block.for_speed]
    sensitive = [block.name for block in float_blocks if not block.for_speed]
    console.print(
        f"{file}: {_score(result)}, in float {result.float_accuracy:.2%}: {result.loss}; {result.chosen_by}"
        + (f"; in float for accuracy: {', '.join(sensitive)}" if sensitive else "")
        + (f"; in float since int8 is not faster: {', '.join(slow)}" if slow else ""),
        style="yellow" if result.exceeds_bound else None,
        markup=False,
    )


def _score(result: Quantized) -> str:
    if result.metric == "top1":
        return f"{result.accuracy:.2%} of {result.images} test images correct"
    return f"mean average precision {result.accuracy:.2%} on {result.images} test images"


def _print(exported: Sequence[Exported], folder: Path) -> None:
    table(
        ("file", "precision", "size", "error", "same class", "ms"),
        [
            (
                item.export.file,
                item.export.precision,
                f"{si(item.export.size_bytes)}B",
                f"{item.export.max_error:.0e}" if item.export.precision == "float32" and item.export.verified else "-",
                "-" if item.export.agreement is None else f"{item.export.agreement:.1%}",
                "-" if item.latency is None else f"{item.latency.median_ms:.3g}",
            )
            for item in exported
        ],
        left=2,
    )
    for item in exported:
        if item.quantized is not None:
            _print_loss(item.export.file, item.quantized)
        if not item.export.verified:
            console.print(
                f"not verified: {item.export.engine} does not run {item.export.precision} on this machine; compare the "
                f"outputs of {item.export.file} with those of the run on a machine where it does",
                style="bold",
                markup=False,
            )
    console.print(
        f"in {folder}. error: maximum error of a logit, relative to the largest logit; ms: latency with batch size 1 "
        "on one core of this machine",
        style="dim",
        markup=False,
    )
