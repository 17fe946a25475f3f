"""Evaluate and measure a trained run."""

from __future__ import annotations

import csv
import io

import numpy as np
import torch

from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample, check_present
from triscale.data.sources.labels import shown_label
from triscale.errors import Interrupted, RunError
from triscale.jobs.core.run import RunFolder, how_to_add_images
from triscale.jobs.profile.measure import measure_one, subject_of
from triscale.jobs.training.train import eval_batch
from triscale.network.contract import Decision
from triscale.nn.probabilities import probabilities
from triscale.record import write_atomic
from triscale.results.latency import Measurement, RunLatencies
from triscale.results.metrics import AnyMetrics
from triscale.training.calibration import check_confidence
from triscale.training.context import ExecutionContext
from triscale.training.evaluate import EvalOutput, evaluate
from triscale.training.metrics import measure_predictions
from triscale.training.multi_label import measure_labels


def evaluate_run(
    run: RunFolder,
    context: ExecutionContext,
    *,
    split: str = "test",
) -> AnyMetrics:
    """Evaluate the weights of a run on one split; for the test split, write metrics and predictions into the run.

    Args:
        run: A trained run.
        context: Device, workers, progress and stop flag.
        split: ``train``, ``val`` or ``test``.

    Returns:
        The metrics.

    Raises:
        RunError: The training has not finished, or the split does not exist.
        DataError: Images of the split are no longer there.
        Interrupted: ``context.should_stop`` returned true.
    """
    spec, images = run.spec, run.split
    splits = {"train": images.train, "val": images.val, "test": images.test}
    if split not in splits:
        raise RunError(f'there is no split "{split}"; use one of {", ".join(splits)}')
    samples = splits[split]
    if not samples:
        raise RunError(
            f"{run.folder} has no {split} images, so it cannot be evaluated on them{how_to_add_images(spec)}"
        )
    outcome = outputs_of(run, samples, context, "evaluate")
    metrics = measure_decision(outcome, run.decision, spec.classes, split)
    if split == "test":
        write_atomic(run.predictions_file, _predictions(samples, outcome, spec.classes, run.decision).encode())
        metrics.save(run.metrics_file)
    return metrics


def outputs_of(run: RunFolder, samples: tuple[Sample, ...], context: ExecutionContext, title: str) -> EvalOutput:
    """Return the logits of a run's network for images of one of its splits, with their labels.

    Args:
        run: A trained run.
        samples: The images, at least one.
        context: Device, workers, progress and stop flag.
        title: What the progress says.

    Raises:
        RunError: The training has not finished.
        DataError: Images are no longer there.
        Interrupted: ``context.should_stop`` returned true.
    """
    spec, split = run.spec, run.split
    check_present(split, samples)
    context.progress.begin(title, len(samples))
    batch = eval_batch(spec.request.recipe)
    batches = eval_batches(samples, split.root, spec.preprocessing, batch=batch, workers=context.workers)

    def on_images(done: int) -> None:
        if context.should_stop():
            raise Interrupted("stopped during the evaluation; run the same command again to restart it")
        context.progress.advance(done)

    model = run.model().to(context.device).to(memory_format=torch.channels_last)
    return evaluate(model, batches, spec.preprocessing, device=context.device, on_images=on_images)


def measure_decision(outcome: EvalOutput, decision: Decision, classes: tuple[str, ...], split: str) -> AnyMetrics:
    """Compute the metrics of the answers that a decision gives, and what its calibration is worth.

    Args:
        outcome: The logits of the images, with their labels.
        decision: How the logits become answers.
        classes: Names of the classes.
        split: Name of the split.
    """
    # In float64 a division keeps the order of all float32 logits, so that it changes no prediction.
    logits = outcome.logits.astype(np.float64) / decision.temperature
    check = check_confidence(outcome.logits, outcome.labels, decision)
    if decision.link == "sigmoid":
        thresholds = decision.thresholds or (0.5,) * len(classes)
        return measure_labels(logits, outcome.labels, classes, thresholds, split).replace(confidence=check)
    return measure_predictions(logits, outcome.labels, classes, split).replace(confidence=check)


def measure_run(run: RunFolder, context: ExecutionContext) -> tuple[Measurement, ...]:
    """Measure the latency of the exported file in ONNX Runtime and of the module in torch; save it in the run.

    Raises:
        RunError: The run has not been exported.
    """
    if not run.onnx_file.is_file():
        raise RunError(f"{run.folder} has not been exported; export it with: triscale export {run.folder}")
    measurements = measure_one(subject_of(run), ("onnxruntime", "torch"), context, within=None)
    RunLatencies(measurements=measurements).save(run.latency_file)
    return measurements


def _predictions(samples: tuple[Sample, ...], outcome: EvalOutput, classes: tuple[str, ...], decision: Decision) -> str:
    """Return a CSV table with the columns file, truth, predicted and confidence.

    For images with any number of labels, there is also the most probable label, whose probability the confidence is.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    several = ("most_probable",) if decision.link == "sigmoid" else ()
    writer.writerow(("file", "truth", "predicted", "confidence", *several))
    rows = probabilities(torch.from_numpy(outcome.logits), decision.link, decision.temperature).numpy()
    for sample, row in zip(samples, rows, strict=True):
        best = int(row.argmax())
        predicted = shown_label(decision.chosen(row) if several else best, classes)
        cells = (sample.path, shown_label(sample.label, classes), predicted, f"{row[best]:.6f}")
        writer.writerow((*cells, classes[best]) if several else cells)
    return buffer.getvalue()
