"""Jobs on a run or on weights; what they make of weights, which have no run folder, goes where the user says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from triscale.data.pipeline.split import check_present
from triscale.deploy.apps import APPS
from triscale.deploy.engines import ENGINES, Engine, file_name
from triscale.deploy.export import atomic_output, copy_exported, remove
from triscale.deploy.quantize.guard import BOUND
from triscale.errors import DataError, RecordError, RunError, UserError, WeightsError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.export import Precision, export_for
from triscale.jobs.deploy.quantize import CALIBRATION
from triscale.jobs.inference.calibrate import COVERAGE, KEPT, calibrate_run
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.inference.explain import Method, explain_run
from triscale.jobs.inference.robustness import LIMIT, measure_robustness
from triscale.jobs.reports.run_report import write_run_report
from triscale.jobs.run_source import RunSource
from triscale.results.confidence import Calibration
from triscale.results.deployment import Deployment, Exported
from triscale.results.explanation import ExplainedImages
from triscale.results.metrics import AnyMetrics
from triscale.results.robustness import Robustness
from triscale.training.context import ExecutionContext

APPS_FOLDER = "apps"
"""Default folder of example projects in a run."""
DEPLOYED = Path("deployed")
"""Default folder of a deployment of weights."""
EXPLAINED = Path("explained")
"""Default folder of maps."""
EXPORTED_FILES = tuple(file_name(engine, one) for engine in ENGINES.values() for one in engine.precisions)
"""Default names of the exported files of a run."""
_DEPLOYMENT = "deploy.json"
_MAPS = "maps.json"


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


def calibrate_source(
    source: RunSource,
    context: ExecutionContext,
    *,
    coverage: float = COVERAGE,
    kept: float = KEPT,
    unknown_images: Path | None = None,
) -> tuple[Calibration, AnyMetrics | None]:
    """Calibrate a run, evaluate it on its test images with the calibration, and write its report again.

    The arguments are those of :func:`triscale.jobs.inference.calibrate.calibrate_run`.

    Returns:
        The calibration, and the metrics on the test images; None without test images.

    Raises:
        WeightsError: Weights were given.
        RunError: The training has not finished, or the run has no validation images.
        UserError: A share is not between 0 and 1, or the other images are those of the run.
        DataError: Images are no longer there.
        Interrupted: ``context.should_stop`` returned true.
    """
    if source.weights is not None:
        raise WeightsError(
            f"{source.reference} is weights, which have no validation images to calibrate with; give the folder of a "
            "trained run"
        )
    split = source.run.split
    check_present(split, (*split.val, *split.test))  # so that calibration and metrics change together
    with source.update() as run:
        calibration = calibrate_run(run, context, coverage=coverage, kept=kept, unknown_images=unknown_images)
        metrics = evaluate_run(run, context) if run.split.test else None
        write_run_report(run)
        outdated = [name for name in EXPORTED_FILES if (run.folder / name).exists()]
        outdated += [f"{APPS_FOLDER}/{name}" for name in APPS if (run.folder / APPS_FOLDER / name).exists()]
        if outdated:
            context.progress.note(
                f"files exported before have no or another calibration inside ({', '.join(outdated)}); export them "
                f"again: triscale export {run.folder}"
            )
    return calibration, metrics


def robustness_of_source(
    source: RunSource, context: ExecutionContext, *, limit: int = LIMIT, seed: int = 0
) -> Robustness:
    """Measure the accuracy on corrupted test images, and write the report of a run again.

    The arguments are those of :func:`triscale.jobs.inference.robustness.measure_robustness`.

    Raises:
        WeightsError: Weights were given without images.
        UserError: ``limit`` or ``seed`` is out of range.
        RunError: The training has not finished, there are no test images, or images have any number of labels.
        DataError: Images are no longer there.
        Interrupted: ``context.should_stop`` returned true.
    """
    source.require_images("measure the robustness of")
    with source.update() as run:
        result = measure_robustness(run, context, limit=limit, seed=seed)
        if source.weights is None:
            write_run_report(run)
    return result


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
    _refuse_other_files(folder, _MAPS, "maps of test images")
    with source.update() as run:
        evaluate_run(run, context)
        maps = explain_run(run, context, method)
        previous = _files_of_maps(folder)
        shutil.copytree(run.maps_folder, folder, dirs_exist_ok=True)
    for name in previous - _files_of_maps(folder):
        (folder / name).unlink(missing_ok=True)
    return maps, folder


def _files_of_maps(folder: Path) -> set[str]:
    """Return the names of the images that maps in a folder list; none if there are no maps, or of another version."""
    try:
        maps = ExplainedImages.load(folder / _MAPS) if (folder / _MAPS).is_file() else None
    except RecordError:
        return set()
    return set() if maps is None else {Path(name).name for one in maps.images for name in (one.image, one.overlay)}


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
        WeightsError: Weights were given without images, which lower precisions require if they run here.
        DataError: Images of the run are no longer there, which they require likewise.
        UserError: The engine has no files of the precision.
        ParityError: The outputs of the file differ from those of the model.
        QuantizationError: int8 loses more accuracy than ``bound``.
    """
    engine.check_makes(precision)
    if precision != "float32" and not engine.obstacle(precision):  # otherwise the file is written without a check
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
        WeightsError: Weights were given without images, which lower precisions require.
        RunError: The folder holds other files, or the deployment of other weights.
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
    _refuse_other_weights(folder, source.weights)
    with source.update() as run:
        if run.split.test:
            evaluate_run(run, context)
        return _kept(deploy(run), run, source.weights, folder), folder


def _note_missing_images(run: RunFolder, context: ExecutionContext, precisions: Sequence[Precision]) -> None:
    """Say so if the images have moved, which lower precisions require; float32 files are deployed even so."""
    if not set(precisions) - {"float32"}:
        return
    try:
        check_present(run.split)
    except DataError as error:
        context.progress.note(f"no lower precisions: {error}")


def _kept(deployment: Deployment, run: RunFolder, weights: str, folder: Path) -> Deployment:
    """Copy the file of a deployment out of the run of weights; its name begins with that of the weights."""
    chosen, previous = run.folder / deployment.file, _previous_file(folder)
    file = folder / _named_by(weights, chosen.name)
    with atomic_output(file) as draft:
        copy_exported(chosen, draft)
    quantized = deployment.quantized
    kept = deployment.replace(
        file=file.name,
        open_with=deployment.open_with.replace(chosen.name, file.name),
        quantized=None if quantized is None else quantized.replace(file=file.name),
    )
    kept.save(folder / _DEPLOYMENT)
    if previous not in ("", file.name):
        remove(folder / previous)
    return kept


def _named_by(weights: str, name: str) -> str:
    return name.replace("model", weights, 1)


def _previous_file(folder: Path) -> str:
    """Return the name of the file of an earlier deployment; empty if there is none, or another version recorded it."""
    try:
        return Deployment.load(folder / _DEPLOYMENT).file if (folder / _DEPLOYMENT).is_file() else ""
    except RecordError:
        return ""


def _refuse_other_weights(folder: Path, weights: str) -> None:
    """Refuse a folder with the deployment of other weights, whose file would be replaced."""
    file = _previous_file(folder)
    own = {_named_by(weights, file_name(engine, one)) for engine in ENGINES.values() for one in engine.precisions}
    if file and file not in own:
        raise RunError(f"{folder} holds {file}, which was not made of {weights}; give another folder with --out")


def _refuse_other_files(folder: Path, record: str, what: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; give a new folder with --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / record).is_file():
        raise RunError(f"{folder} is not empty and holds no {what}; give a new folder with --out")
