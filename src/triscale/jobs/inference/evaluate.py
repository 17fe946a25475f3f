"""Evaluate and measure a trained run."""

from __future__ import annotations

import csv
import io

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
    spec, images, device = run.spec, run.split, context.device
    splits = {"train": images.train, "val": images.val, "test": images.test}
    if split not in splits:
        raise RunError(f'there is no split "{split}"; use one of {", ".join(splits)}')
    samples = splits[split]
    if not samples:
        raise RunError(
            f"{run.folder} has no {split} images, so it cannot be evaluated on them{how_to_add_images(spec)}"
        )
    check_present(images, samples)
    context.progress.begin("evaluate", len(samples))
    batch = eval_batch(spec.request.recipe)
    batches = eval_batches(samples, images.root, spec.preprocessing, batch=batch, workers=context.workers)

    def on_images(done: int) -> None:
        if context.should_stop():
            raise Interrupted("stopped during the evaluation; run the same command again to restart it")
        context.progress.advance(done)

    model = run.model().to(device).to(memory_format=torch.channels_last)
    outcome = evaluate(model, batches, spec.preprocessing, device=device, on_images=on_images)
    decision = run.decision
    metrics: AnyMetrics
    if decision.link == "sigmoid":
        thresholds = decision.thresholds or (0.5,) * len(spec.classes)
        metrics = measure_labels(outcome.logits, outcome.labels, spec.classes, thresholds, split)
    else:
        metrics = measure_predictions(outcome.logits, outcome.labels, spec.classes, split)
    if split == "test":
        write_atomic(run.predictions_file, _predictions(samples, outcome, spec.classes, decision).encode())
        metrics.save(run.metrics_file)
    return metrics


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
    rows = probabilities(torch.from_numpy(outcome.logits), decision.link).numpy()
    for sample, row in zip(samples, rows, strict=True):
        best = int(row.argmax())
        predicted = shown_label(decision.chosen(row) if several else best, classes)
        cells = (sample.path, shown_label(sample.label, classes), predicted, f"{row[best]:.6f}")
        writer.writerow((*cells, classes[best]) if several else cells)
    return buffer.getvalue()
