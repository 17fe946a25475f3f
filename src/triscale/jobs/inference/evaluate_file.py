"""Evaluate an exported file on a data set, whose classes are matched with those of the file by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from triscale.data.images.transforms import normalize
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.errors import DataError, Interrupted, RunError, UserError
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.inference.evaluate import measure_decision
from triscale.jobs.inference.predict import ImageClassifier
from triscale.results.metrics import AnyMetrics
from triscale.training.context import ExecutionContext
from triscale.training.evaluate import EvalOutput
from triscale.weights.class_match import match_classes

BATCH = 8
STOPPED = "stopped during the evaluation; run the same command again to restart it"


def evaluate_file(
    file: Path, images: str | None, context: ExecutionContext, *, split: str = "test", data: DataOptions = DEFAULT_DATA
) -> AnyMetrics:
    """Evaluate an exported file on one split of a data set, or on all images of one without splits.

    The file runs in its engine on the CPU, whatever the device of the context.

    Args:
        file: The exported file.
        images: A data set, which must be given, whose class folders are named by the classes of the file, or by wnids.
        context: Progress and stop flag.
        split: ``train``, ``val`` or ``test``; of a data set without splits only ``test``, the default.
        data: How the images are read, and what is tolerated.

    Returns:
        The metrics over all classes of the file.

    Raises:
        RunError: There is no such split, or the data set has none.
        WeightsError: The class folders do not match the classes of the file.
        DataError: There are no images, or they have any number of labels.
        UserError: No engine runs the file, the engine is not installed, or there are no images.
        Interrupted: ``context.should_stop`` returned true.
    """
    if images is None:
        raise UserError(f"{file} holds no images; give images to evaluate it on: --images IMAGES")
    classifier = ImageClassifier.open(file)
    options = data.replace(
        bit_depth=data.bit_depth or classifier.preprocessing.bit_depth, channels=classifier.preprocessing.channels
    )
    scanned = scan_with_progress(images, context, STOPPED, options, strict=False)
    if scanned.multi_label or classifier.decision.link == "sigmoid":
        raise DataError(
            f"{file} or {images} has any number of labels for an image; such files are not evaluated: evaluate the run "
            "that the file was exported from"
        )
    outputs = match_classes(scanned.classes, classifier.classes, str(file))
    chosen = _images_of(scanned, split, images, context)
    samples = tuple(Sample(image.path, outputs[image.labels[0]]) for image in chosen)
    context.progress.begin("evaluate", len(samples))
    logits, labels = [], []
    for batch in eval_batches(samples, scanned.root, classifier.preprocessing, batch=BATCH, workers=context.workers):
        if context.should_stop():
            raise Interrupted(STOPPED)
        with torch.inference_mode():
            logits.append(classifier.logits(normalize(batch.images, classifier.preprocessing)))
        labels.append(batch.labels.numpy())
        context.progress.advance(sum(map(len, labels)))
    outcome = EvalOutput(np.concatenate(logits), np.concatenate(labels))
    return measure_decision(outcome, classifier.decision, classifier.classes, split)


def _images_of(scanned: Scan, split: str, images: str, context: ExecutionContext) -> tuple[ScannedImage, ...]:
    """Return the images of a split; all images, with a note, if the data set has no splits."""
    if split not in ("train", "val", "test"):
        raise RunError(f'there is no split "{split}"; use one of train, val, test')
    if scanned.unsplit and split != "test":
        raise RunError(f"{images} has no splits, so all its images are evaluated; leave out --split {split}")
    if scanned.unsplit:
        context.progress.note(
            f"{images} has no splits, so all {len(scanned.unsplit)} images are evaluated; images that the network was "
            "trained on make it look better than it is"
        )
        return scanned.unsplit
    chosen = dict(scanned.by_role.items()).get(split, ())  # type: ignore[call-overload]
    if not chosen:
        raise RunError(f"{images} has no {split} images; it has {', '.join(scanned.by_role)}; give one with --split")
    return tuple(chosen)
