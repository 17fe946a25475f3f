"""Commands that make files for engines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json
from triscale.cli.support.terminal import console, counted, print_json, table
from triscale.errors import ExportError, JobError, ParityError, QuantizationError, UserError
from triscale.network.cost import si

if TYPE_CHECKING:
    from triscale.results.deployment import Deployment, Exported

ALL = "all"


def export(
    run: Path,
    /,
    *,
    engine: str | None = None,
    precision: Literal["float32", "int8"] = "float32",
    bound: float = 0.5,
    calibration: int = 300,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Export a run for an engine: one file with its preprocessing inside, checked, timed here.

    A float32 file must compute what the model does, an int8 file may lose
    half a point of test accuracy; blocks that break stay float.

    Parameters
    ----------
    run
        Folder of a run.
    engine
        onnxruntime (the default), openvino, executorch, coreml, litert, or all that are installed.
    precision
        float32 or int8 (onnxruntime, openvino, executorch).
    bound
        Points of test accuracy that int8 may lose.
    calibration
        Images of the training split that int8 is calibrated with.
    out
        File to write, whose ending may name the engine; model.onnx and the like in the run by default.
    """
    from triscale.deploy.engines import DEFAULT_ENGINE, ENGINES, engine_of, get_engine
    from triscale.jobs.core.run import Run
    from triscale.jobs.deploy.export import export_for

    if bound < 0:
        raise UserError(f"--bound {bound:g}: give the points of accuracy that may be lost, 0 or more")
    if engine == ALL:
        if out is not None:
            raise UserError("--out names one file, but --engine all makes several; they go into the run")
        chosen = [one for one in ENGINES.values() if one.installed and precision in one.precisions]
    elif engine is not None:
        chosen = [get_engine(engine)]
        if out is not None and out.suffix != chosen[0].suffix:
            raise UserError(f"--out {out}: files for {chosen[0].title} end in {chosen[0].suffix}")
    else:
        chosen = [DEFAULT_ENGINE if out is None else engine_of(out)]
    opened = Run.open(run)
    made, failed = [], []
    with opened.update(), execution() as context:
        for one in chosen:
            try:
                made.append(export_for(opened, context, one, precision, out, bound=bound, calibration=calibration))
            except (ExportError, ParityError, QuantizationError) as error:
                if engine != ALL:
                    raise
                failed.append(f"{one.title}: {error}")
                context.progress.note(failed[-1])
    if json:
        print_json(made[0] if engine != ALL else made)
    else:
        _print(made, out.parent if out is not None else run)
    if failed:
        raise JobError(f"{counted(len(failed), 'engine')} of {len(chosen)} made no file: {'; '.join(failed)}")


def deploy(
    run: Path,
    /,
    *,
    device: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = ("cpu",),
    budget: Annotated[tuple[str, ...], Parameter(negative="", consume_multiple=True)] = (),
    bound: float = 0.5,
    calibration: int = 300,
    precisions: str = "float32,int8",
    threads: int = 1,
    json: Json = False,
) -> None:
    """Find the fastest file of a run for a device: engines and precisions tried, judged, timed, the choice explained.

    Parameters
    ----------
    run
        Folder of a run.
    device
        cpu (this machine), or files of triscale profile from another device, one for each engine, whose forecasts are
        used.
    budget
        Limits that the file must keep: a time such as 20ms, a size such as 5MB.
    bound
        Points of test accuracy that int8 may lose.
    calibration
        Images of the training split that int8 is calibrated with.
    precisions
        Which are tried, with commas: float32, int8.
    threads
        Threads of each engine, on as many cores.
    """
    from triscale.jobs.core.run import Run
    from triscale.jobs.deploy.deploy import deploy_run
    from triscale.network.latency import load_predictor
    from triscale.scaling.budget import Budget

    if threads < 1 or bound < 0:
        raise UserError(f"--threads {threads} --bound {bound:g}: give 1 or more threads, and a bound of 0 or more")
    tried = tuple(word.strip() for word in precisions.split(","))
    if not tried or set(tried) - {"float32", "int8"} or len(set(tried)) < len(tried):
        raise UserError(f'--precisions "{precisions}": give float32, int8 or both with a comma')
    opened = Run.open(run)
    if "cpu" in device and len(device) > 1:
        raise UserError("--device: give cpu or profiles of another device, not both")
    predictors = [load_predictor(Path(file)) for file in device if file != "cpu"]
    limits = Budget.of(*budget) if budget else None
    with opened.update(), execution() as context:
        made = deploy_run(
            opened,
            context,
            predictors=predictors,
            budget=limits,
            bound=bound,
            calibration=calibration,
            precisions=tried,  # type: ignore[arg-type]
            threads=threads,
        )
    if json:
        print_json(made)
        return
    _print_deployment(made, run)


def _print_deployment(made: Deployment, run: Path) -> None:
    tried = [one for one in made.candidates if one.milliseconds is not None]
    table(
        ("engine", "precision", "size", "accuracy", "ms", "verdict"),
        [
            (
                one.engine,
                one.precision,
                "-" if one.size_bytes is None else f"{si(one.size_bytes)}B",
                "-" if one.accuracy is None else f"{one.accuracy:.2%}",
                f"{one.milliseconds:.3g}",
                one.verdict,
            )
            for one in sorted(tried, key=lambda one: one.milliseconds or 0.0)
        ],
        left=2,
    )
    for one in made.candidates:
        if one.milliseconds is None:
            console.print(f"not tried: {one.engine}, {one.precision}: {one.verdict}", markup=False)
    how = "predicted by the profile of" if made.predicted else "measured in turns on"
    console.print(
        f"ms: one image, {made.threads} thread{'s' if made.threads > 1 else ''}, {how} {made.device}",
        style="dim",
        markup=False,
    )
    console.print(f"{run / made.file}", style="bold", markup=False, soft_wrap=True)


def _print(made: Sequence[Exported], folder: Path) -> None:
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
            for item in made
        ],
        left=2,
    )
    for item in made:
        if item.quantized is not None:
            found = item.quantized
            whole = [block for block in found.blocks if block.kept_float]
            slow = [block.name for block in whole if block.for_speed]
            broken = [block.name for block in whole if not block.for_speed]
            console.print(
                f"{item.export.file}: {found.accuracy:.2%} of {found.images} test images right, in float "
                f"{found.float_accuracy:.2%}: {found.lost_points:.2f} points lost (± {found.lost_error:.2f}; "
                f"{found.bound_points:g} allowed)"
                + (f"; in float for accuracy: {', '.join(broken)}" if broken else "")
                + (f"; in float since int8 is no faster there: {', '.join(slow)}" if slow else ""),
                markup=False,
            )
        if not item.export.verified:
            console.print(
                f"not verified: {item.export.engine} does not run on this machine; compare {item.export.file} with the "
                "Run where it does",
                style="bold",
                markup=False,
            )
    console.print(
        f"in {folder}. error: of a logit, relative to the largest; ms: one image, one core of this machine",
        style="dim",
        markup=False,
    )
