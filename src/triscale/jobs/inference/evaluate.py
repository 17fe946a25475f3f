"""What is done with a trained Run: evaluate, measure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import torch

from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.errors import Interrupted, RunError
from triscale.jobs.core.progress import ProgressReporter
from triscale.jobs.core.run import Run
from triscale.jobs.profile.measure import measure_one, subject_of
from triscale.jobs.training.train import eval_batch
from triscale.record import write_atomic
from triscale.results.latency import Measurement, RunLatencies
from triscale.results.metrics import Metrics
from triscale.training.evaluate import EvalOutput, evaluate
from triscale.training.metrics import measure_predictions


def evaluate_run(
    run: Run,
    reporter: ProgressReporter,
    *,
    device: torch.device,
    part: str = "test",
    workers: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Metrics:
    """Evaluate the weights on a part of the split; for the test part, write metrics and predictions into the Run.

    Raises:
        RunError: the training has not ended, or there is no such part.
        Interrupted: ``should_stop`` answered true.
    """
    spec, split = run.spec, run.split
    parts = {"train": split.train, "val": split.val, "test": split.test}
    if part not in parts:
        raise RunError(f'there is no part "{part}"; the parts are {", ".join(parts)}')
    samples = parts[part]
    reporter.begin("evaluate", len(samples))
    batch = eval_batch(spec.request.recipe)
    batches = eval_batches(samples, split.root, spec.preprocessing, batch=batch, workers=workers)

    def on_images(done: int) -> None:
        if should_stop():
            raise Interrupted("stopped during the evaluation; the same command goes on from the trained weights")
        reporter.advance(done)

    model = run.model().to(device).to(memory_format=torch.channels_last)
    outcome = evaluate(model, batches, spec.preprocessing, device=device, on_images=on_images)
    metrics = measure_predictions(outcome.logits, outcome.labels, spec.classes, part)
    if part == "test":
        write_atomic(run.predictions_file, _predictions(samples, outcome, spec.classes).encode())
        metrics.save(run.metrics_file)
    return metrics


def measure_run(run: Run, reporter: ProgressReporter) -> tuple[Measurement, ...]:
    """Measure the exported file in ONNX Runtime and the module in torch, some seconds each; a record stays in the Run.

    Raises:
        RunError: nothing has been exported.
    """
    if not run.onnx_file.is_file():
        raise RunError(f"{run.folder} holds no exported file; make one with: triscale export {run.folder}")
    measurements = measure_one(subject_of(run), ("onnxruntime", "torch"), reporter, within=None)
    RunLatencies(measurements=measurements).save(run.latency_file)
    return measurements


def _predictions(samples: tuple[Sample, ...], outcome: EvalOutput, classes: tuple[str, ...]) -> str:
    """Return a CSV table: file, truth, predicted, confidence."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("file", "truth", "predicted", "confidence"))
    probabilities = torch.from_numpy(outcome.logits).double().softmax(1).numpy()
    for sample, row in zip(samples, probabilities, strict=True):
        best = int(row.argmax())
        writer.writerow((sample.path, classes[sample.label], classes[best], f"{row[best]:.6f}"))
    return buffer.getvalue()
