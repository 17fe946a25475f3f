"""Calibrate a trained run by its validation images, and measure it on images of other things."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triscale.data.images.color import BadImage
from triscale.data.images.transforms import eval_transform, normalize
from triscale.data.pipeline.split import Split
from triscale.errors import DataError, Interrupted, RunError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.evaluate import outputs_of
from triscale.jobs.inference.predict import ImageClassifier, files_of, is_other_file
from triscale.network.contract import Decision
from triscale.results.confidence import Calibration, UnknownImages
from triscale.training.calibration import auroc, called_unknown, fit_calibration, negative_energies
from triscale.training.context import ExecutionContext

COVERAGE = 0.9
"""Default share of images whose prediction set contains the class."""
KEPT = 0.95
"""Default share of images like the validation images that are not called unknown."""
STOPPED = "stopped during the calibration, which changed nothing; run the same command again"


def calibrate_run(
    run: RunFolder,
    context: ExecutionContext,
    *,
    coverage: float = COVERAGE,
    kept: float = KEPT,
    unknown_images: Path | None = None,
) -> Calibration:
    """Fit temperature, prediction sets and the threshold of unknown images to the validation images; save them.

    Test images have no part in it.

    Args:
        run: A trained run.
        context: Device, workers, progress and stop flag.
        coverage: Share of images whose prediction set is to contain the class, or all labels.
        kept: Share of images like the validation images that are not to be called unknown.
        unknown_images: A folder of images of other things, to measure how many of them are called unknown; nothing is
            fitted to them.

    Returns:
        The record, which the run keeps.

    Raises:
        UserError: A share is not between 0 and 1, or the other images are those of the run.
        RunError: The training has not finished, or the run has no validation images.
        DataError: Images are no longer there, or the folder has none.
        Interrupted: ``context.should_stop`` returned true; nothing was written.
    """
    for name, value in (("coverage", coverage), ("kept", kept)):
        if not 0 < value < 1:
            raise UserError(f"{name} {value:g} is not a share between 0 and 1; give one such as 0.9")
    split = run.split
    if not split.val:
        raise RunError(f"{run.folder} has no validation images to calibrate with; give the folder of a trained run")
    others = [] if unknown_images is None else _other_files(unknown_images, split)
    outcome = outputs_of(run, split.val, context, "calibrate")
    calibration = fit_calibration(outcome.logits, outcome.labels, run.uncalibrated_decision, coverage, kept)
    if unknown_images is not None:
        decision = run.uncalibrated_decision.calibrated(calibration.confidence)
        known = negative_energies(outcome.logits, decision.link)
        measured = _measure_unknown(run, decision, known, unknown_images, others, context)
        calibration = calibration.replace(unknown=measured)
    calibration.save(run.calibration_file)
    return calibration


def _other_files(folder: Path, split: Split) -> list[Path]:
    """Return the files of a folder of other images, which must not be those of the run."""
    files, root = files_of((folder.resolve(),)), Path(split.root).resolve()
    own = {root / sample.path for sample in (*split.train, *split.val, *split.test)}
    shared = sum(file in own for file in files)
    if shared:
        raise UserError(
            f"{folder} holds {shared} images of the run itself; give a folder of images that show none of its classes"
        )
    return files


def _measure_unknown(
    run: RunFolder, decision: Decision, known: np.ndarray, folder: Path, files: list[Path], context: ExecutionContext
) -> UnknownImages:
    """Compare the negative energies of images of other things with those of the validation images."""
    classifier = ImageClassifier.open(run.folder)
    transform = eval_transform(classifier.preprocessing)
    context.progress.begin("classify images of other things", len(files))
    logits, unreadable = [], 0
    for number, file in enumerate(files, 1):
        if context.should_stop():
            raise Interrupted(STOPPED)
        try:
            inputs = normalize(transform(classifier.read(file))[None], classifier.preprocessing)
            logits.append(classifier.logits(inputs))
        except BadImage as error:
            unreadable += not is_other_file(file, error)
        context.progress.advance(number)
    if not logits:
        raise DataError(f"none of the {len(files)} files in {folder} could be read as an image; give other images")
    values = negative_energies(np.concatenate(logits), decision.link)
    area, low, high = auroc(known, values)
    assert decision.confidence is not None
    threshold = decision.confidence.unknown_threshold
    return UnknownImages(
        folder=folder.name or str(folder),
        images=len(values),
        unreadable=unreadable,
        auroc=area,
        auroc_low=low,
        auroc_high=high,
        **({} if threshold is None else called_unknown(values, threshold)),
    )
