"""Jobs on a run or on weights; what they make of weights, which have no run folder, goes where the user says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from triscale.data.pipeline.split import check_present
from triscale.deploy.engines import Engine
from triscale.deploy.export import atomic_output, copy_exported
from triscale.deploy.quantize.guard import BOUND
from triscale.errors import DataError, RunError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.export import Precision, export_for
from triscale.jobs.deploy.quantize import CALIBRATION
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.inference.explain import Method, explain_run
from triscale.jobs.run_source import RunSource
from triscale.results.deployment import Deployment, Exported
from triscale.results.explanation import ExplainedImages
from triscale.results.metrics import AnyMetrics
from triscale.training.context import ExecutionContext

DEPLOYED = Path("deployed")
"""Default folder of a deployment of weights."""
EXPLAINED = Path("explained")
"""Default folder of maps."""
_DEPLOYMENT = "deploy.json"


def evaluate_source(source: RunSource, context: ExecutionContext, split: str = "test") -> AnyMetrics:
    """Evaluate a run, which keeps the result, or weights on one split of their images.

    The arguments are those of :func:`triscale.jobs.inference.evaluate.evaluate_run`.

    Raises:
        WeightsError: Weights were given without images.
        RunError: The training has not finished, or there is no such split.
        Interrupted: ``context.should_stop`` returned true.
    """
    source.require_images("evaluate")
    with source.update() as run:
        return evaluate_run(run, context, split=split)


def explain_source(
    source: RunSource, context: ExecutionContext, method: Method = "auto", out: Path | None = None
) -> tuple[ExplainedImages, Path]:
    """Draw class activation maps of misclassified and correct test images.

    Args:
        source: A run, into which the maps are written, or weights with images.
        context: Progress and stop flag.
        method: See :func:`triscale.jobs.inference.explain.explain_images`.
        out: Folder for the maps of weights; by default :data:`EXPLAINED`.

    Returns:
        The record of the maps, and their folder.

    Raises:
        WeightsError: Weights were given without images.
        RunError: The run has not been evaluated, or the folder holds other files.
        UserError: A folder was given for a run.
        Interrupted: ``context.should_stop`` returned true.
    """
    if source.weights is None:
        if out is not None:
            raise UserError("--out requires images or weights; the maps of test images are written into the run")
        with source.update() as run:
            return explain_run(run, context, method), run.maps_folder
    source.require_images("explain")
    folder = out or EXPLAINED
    _refuse_other_files(folder, "maps.json", "maps of test images")
    with source.update() as run:
        evaluate_run(run, context)
        maps = explain_run(run, context, method)
        shutil.copytree(run.maps_folder, folder, dirs_exist_ok=True)
    return maps, folder


def export_source(
    source: RunSource,
    context: ExecutionContext,
    engine: Engine,
    precision: Precision,
    out: Path | None,
    *,
    bound: float = BOUND,
    calibration: int = CALIBRATION,
) -> Exported:
    """Export a run or weights for an engine; see :func:`triscale.jobs.deploy.export.export_for`.

    Args:
        source: A run or weights.
        context: Progress and stop flag.
        engine: The engine that will run the file.
        precision: Its precision.
        out: The file, as :meth:`RunSource.export_file` returns it.
        bound: Maximum loss of test accuracy of int8 in percentage points.
        calibration: Number of images to calibrate int8 with.

    Raises:
        WeightsError: Weights were given without images, which int8 requires.
        DataError: Images of the run are no longer there, which int8 requires.
        ParityError: The outputs of the file differ from those of the model.
        QuantizationError: int8 loses more accuracy than ``bound``.
    """
    if precision != "float32":
        source.require_images(f"evaluate {precision} of")
        check_present(source.run.split)
    with source.update() as run:
        return export_for(run, context, engine, precision, out, bound=bound, calibration=calibration)


def deploy_source(
    source: RunSource,
    context: ExecutionContext,
    deploy: Callable[[RunFolder], Deployment],
    precisions: Sequence[Precision],
    out: Path | None = None,
) -> tuple[Deployment, Path]:
    """Choose a file of a run or weights for a device.

    Args:
        source: A run, into which the file is written, or weights.
        context: Progress and stop flag.
        deploy: Chooses the file of a run, see :func:`triscale.jobs.deploy.deploy.deploy_run`.
        precisions: The precisions that it tries.
        out: Folder for the file of weights; by default :data:`DEPLOYED`.

    Returns:
        The deployment, and the folder that its file is relative to.

    Raises:
        WeightsError: Weights were given without images, which int8 requires.
        RunError: The folder holds other files.
        UserError: A folder was given for a run.
        BudgetError: No file is within the budget.
        Interrupted: ``context.should_stop`` returned true.
    """
    if source.weights is None:
        if out is not None:
            raise UserError("--out is for weights; the file of a run is written into the run")
        _note_missing_images(source.run, context, precisions)
        with source.update() as run:
            return deploy(run), run.folder
    if set(precisions) - {"float32"}:
        source.require_images("evaluate lower precisions of", or_else="deploy only --precisions float32")
    folder = out or DEPLOYED
    _refuse_other_files(folder, _DEPLOYMENT, "deployment")
    with source.update() as run:
        if run.split.test:
            evaluate_run(run, context)
        return _kept(deploy(run), run, source.weights, folder), folder


def _note_missing_images(run: RunFolder, context: ExecutionContext, precisions: Sequence[Precision]) -> None:
    """Say so if int8 cannot be had because the images have moved; the float32 files of a run are deployed even so."""
    if "int8" not in precisions:
        return
    try:
        check_present(run.split)
    except DataError as error:
        context.progress.note(f"no int8: {error}")


def _kept(deployment: Deployment, run: RunFolder, weights: str, folder: Path) -> Deployment:
    """Copy the file of a deployment out of the run of weights; its name begins with that of the weights."""
    chosen = run.folder / deployment.file
    file = folder / chosen.name.replace("model", weights, 1)
    with atomic_output(file) as draft:
        copy_exported(chosen, draft)
    kept = deployment.replace(file=file.name)
    kept.save(folder / _DEPLOYMENT)
    return kept


def _refuse_other_files(folder: Path, record: str, what: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; give a new folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / record).is_file():
        raise RunError(f"{folder} is not empty and holds no {what}; give a new folder with --out")
