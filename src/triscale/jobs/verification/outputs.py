"""Verify what a run says and gives away: evaluate it again, and export its files again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triscale.deploy.engines import ENGINES, Engine
from triscale.deploy.parity import TOLERANCE, logits_of, parity_inputs
from triscale.errors import DataError, ParityError, RecordError, RunError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.export import export_for, exportable, real_images
from triscale.jobs.deploy.run_images import BATCH
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.verification.stored import judged, unchecked
from triscale.results.deployment import Export, Exports
from triscale.results.metrics import load_metrics
from triscale.results.verification import VerifiedCheck
from triscale.training.context import ExecutionContext

SCORE_TOLERANCE = 0.01
"""Largest difference of accuracy, as a share, and of the loss relative to 1 + loss, between machines."""


def check_evaluation(run: RunFolder, work: RunFolder, context: ExecutionContext, *, exact: bool) -> VerifiedCheck:
    """Evaluate a run again on its test images, and compare metrics and predictions.

    Args:
        run: The run.
        work: A copy of it, which the results are written into.
        context: Device, workers, progress and stop flag.
        exact: Whether they must be equal; otherwise they may differ by a tolerance.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    name = "evaluation"
    if not run.metrics_file.is_file() or not run.weights_file.is_file():
        return unchecked(name, "the run has not been evaluated on test images")
    try:
        before = load_metrics(run.metrics_file)
        now = evaluate_run(work, context)
    except (DataError, RunError) as error:
        return unchecked(name, str(error))
    except RecordError as error:
        return judged(name, [str(error)], "")
    pairs = ((run.metrics_file, work.metrics_file), (run.predictions_file, work.predictions_file))
    wrong = [
        f"{one.name} differs" for one, other in pairs if not one.is_file() or one.read_bytes() != other.read_bytes()
    ]
    if not wrong or exact:
        return judged(name, wrong, f"{before.summary}, and all predictions")
    largest = max(abs(now.score - before.score), abs(now.loss - before.loss) / (1 + abs(before.loss)))
    detail = f"{now.summary} instead of {before.summary}, with {SCORE_TOLERANCE:g} allowed"
    outcome = "within tolerance" if largest <= SCORE_TOLERANCE else "failed"
    return VerifiedCheck(name=name, outcome=outcome, detail=detail)


def check_exports(run: RunFolder, work: RunFolder, context: ExecutionContext, folder: Path) -> list[VerifiedCheck]:
    """Export each file of a run again, and compare its bytes; if they differ, the outputs of both files.

    Args:
        run: The run.
        work: A copy of it.
        context: Progress and stop flag.
        folder: Where the files are written.

    Raises:
        Interrupted: ``context.should_stop`` returned true.
    """
    try:
        records = _exported(run)
    except RecordError as error:
        return [judged("exported files", [str(error)], "")]
    if not records:
        return [unchecked("exported files", "the run has none")]
    return [_check_export(run, work, context, record, folder) for record in records]


def _exported(run: RunFolder) -> list[Export]:
    """Return the records of exported files, each file once."""
    found = [Export.load(run.export_file)] if run.export_file.is_file() else []
    if run.exports_file.is_file():
        found += [one.export for one in Exports.load(run.exports_file).files]
    return [record for record in {one.file: one for one in found}.values() if (run.folder / record.file).exists()]


def _check_export(
    run: RunFolder, work: RunFolder, context: ExecutionContext, record: Export, folder: Path
) -> VerifiedCheck:
    name = f"export {record.file}"
    engine = next((one for one in ENGINES.values() if one.title == record.engine), None)
    if engine is None:
        return unchecked(name, f"{record.engine} is not an engine of this version")
    if record.precision != "float32":
        return unchecked(
            name, f"{record.precision} depends on measured speeds; its digest is checked with the other files"
        )
    file, made = run.folder / record.file, folder / record.file
    try:
        export_for(work, context, engine, path=made, timed=False)
    except (ParityError, RecordError) as error:
        return judged(name, [str(error)], "")
    except UserError as error:  # the engine is not installed
        return unchecked(name, str(error))
    if _contents(file) == _contents(made):
        return judged(name, [], "the same bytes")
    if engine.obstacle("float32"):
        return unchecked(name, f"other bytes, and {engine.obstacle('float32')}, so their outputs cannot be compared")
    return _compare_outputs(name, work, context, engine, (file, made))


def _contents(path: Path) -> dict[str, bytes]:
    """Return the content of an exported file or folder, with the weights file of OpenVINO."""
    if path.is_dir():
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    weights = path.with_suffix(".bin")
    parts = [path, weights] if path.suffix == ".xml" and weights.is_file() else [path]
    return {part.name: part.read_bytes() for part in parts}


def _compare_outputs(
    name: str, work: RunFolder, context: ExecutionContext, engine: Engine, files: tuple[Path, Path]
) -> VerifiedCheck:
    """Compare the outputs of two files on the images of the parity check."""
    contract = exportable(work).contract
    inputs = engine.inputs(parity_inputs(real_images(work, context), contract.preprocessing), contract)
    try:
        one, other = (logits_of(engine.open(file, 1), inputs, BATCH) for file in files)
    except RecordError as error:
        return judged(name, [str(error)], "")
    if np.array_equal(one, other):
        return judged(name, [], f"other bytes, and the same outputs for {len(inputs)} images")
    largest = float(np.abs(one - other).max() / max(1e-12, np.abs(other).max()))
    detail = f"outputs differ by {largest:.1e} of the largest, {TOLERANCE:g} allowed"
    return VerifiedCheck(name=name, outcome="within tolerance" if largest <= TOLERANCE else "failed", detail=detail)
