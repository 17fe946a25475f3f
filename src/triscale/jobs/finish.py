"""What is done with a trained Run: evaluate, export, measure, explain."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import nn

from triscale.data.decode import decode
from triscale.data.loader import eval_batches
from triscale.data.split import Sample
from triscale.data.store import open_store
from triscale.data.transforms import eval_transform, normalize
from triscale.deploy.engines import Contract, OnnxModel
from triscale.deploy.export import Export, export_onnx
from triscale.errors import Interrupted, RunError
from triscale.explain.cam import class_activation_maps, gradient_maps, overlay, to_png
from triscale.jobs.run import Run
from triscale.jobs.train import eval_batch
from triscale.jobs.watch import Watcher
from triscale.measure.latency import Measurement, measure_latency, torch_threads
from triscale.nn.build import Classifier
from triscale.record import Record, write_atomic
from triscale.training.evaluate import Outcome, evaluate
from triscale.training.metrics import Metrics, measure_predictions

PARITY_IMAGES = 64
MAPS_OF_EACH_KIND = 12
SHOWN_SIDE = 160


class Latencies(Record):
    """What was measured of a Run, by the same protocol."""

    kind_name: ClassVar[str] = "latencies"

    measurements: tuple[Measurement, ...]


class Explained(Record):
    """A test image with its map: files below the Run's ``explain`` folder."""

    file: str
    truth: str
    predicted: str
    confidence: float
    right: bool
    image: str
    overlay: str


class Maps(Record):
    """The images that were explained; ``method`` says how."""

    kind_name: ClassVar[str] = "maps"

    method: str
    images: tuple[Explained, ...]


def evaluate_run(
    run: Run,
    watcher: Watcher,
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
    watcher.begin("evaluate", len(samples))
    batch = eval_batch(spec.request.recipe)
    batches = eval_batches(samples, split.root, spec.preprocessing, batch=batch, workers=workers)

    def on_images(done: int) -> None:
        if should_stop():
            raise Interrupted("stopped during the evaluation; the same command goes on from the trained weights")
        watcher.advance(done)

    model = run.model().to(device).to(memory_format=torch.channels_last)
    outcome = evaluate(model, batches, spec.preprocessing, device=device, on_images=on_images)
    metrics = measure_predictions(outcome.logits, outcome.labels, spec.classes, part)
    if part == "test":
        write_atomic(run.predictions_file, _predictions(samples, outcome, spec.classes).encode())
        metrics.save(run.metrics_file)
    return metrics


def export_run(run: Run, watcher: Watcher, path: Path | None = None) -> Export:
    """Export the weights to ONNX, checked on test images; the record stays in the Run.

    Raises:
        ParityError: the file does not compute what the model does.
    """
    watcher.begin("export")
    spec, split = run.spec, run.split
    contract = Contract(network=spec.network.name, preprocessing=spec.preprocessing, classes=spec.classes)
    samples = _spread(split.test, PARITY_IMAGES)
    batch = next(eval_batches(samples, split.root, spec.preprocessing, batch=len(samples)))
    images = normalize(batch.images, spec.preprocessing)
    export = export_onnx(run.model(), contract, images, path or run.onnx_file)
    export.save(run.export_file)
    return export


def measure_run(run: Run, watcher: Watcher, *, threads: int = 1, batch: int = 1) -> tuple[Measurement, ...]:
    """Measure the exported file in ONNX Runtime, and the module in torch, on the CPU; the record stays in the Run.

    Raises:
        RunError: nothing has been exported.
    """
    watcher.begin("measure")
    spec = run.spec
    if not run.onnx_file.is_file():
        raise RunError(f"{run.folder} holds no exported file; make one with: triscale export {run.folder}")
    side = spec.preprocessing.resolution
    images = np.random.default_rng(0).standard_normal((batch, 3, side, side), dtype=np.float32)
    onnx_model = OnnxModel(run.onnx_file, threads=threads)
    model = run.model().to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    with torch_threads(threads), torch.inference_mode():
        measurements = tuple(
            measure_latency(call, engine=engine, batch=batch, threads=threads, resolution=side)
            for engine, call in (("ONNX Runtime", lambda: onnx_model(images)), ("torch", lambda: model(tensor)))
        )
    Latencies(measurements=measurements).save(run.latency_file)
    return measurements


def explain_run(run: Run, watcher: Watcher) -> Maps:
    """Draw class activation maps of test images, wrong and right ones, for the class that was predicted."""
    spec, split = run.spec, run.split
    model = run.model()
    store = open_store(split.root)
    rows = _chosen(run)
    watcher.begin("explain", len(rows))
    transform = eval_transform(spec.preprocessing)
    run.maps_folder.mkdir(exist_ok=True)
    explained = []
    for number, row in enumerate(rows):
        picture = decode(store.read(row["file"]))
        inputs = transform(picture)
        maps = _maps(model, normalize(inputs[None], spec.preprocessing), spec.classes.index(row["predicted"]))
        shown = Image.fromarray(inputs.permute(1, 2, 0).numpy())
        side = max(SHOWN_SIDE, shown.width)
        shown = shown.resize((side, side), Image.Resampling.BICUBIC)
        names = {kind: f"{number:02d}-{kind}.png" for kind in ("image", "overlay")}
        write_atomic(run.maps_folder / names["image"], to_png(shown))
        write_atomic(run.maps_folder / names["overlay"], to_png(overlay(shown, maps)))
        explained.append(
            Explained(
                file=row["file"],
                truth=row["truth"],
                predicted=row["predicted"],
                confidence=float(row["confidence"]),
                right=row["truth"] == row["predicted"],
                **names,
            )
        )
        watcher.advance(number + 1)
    method = "exact" if isinstance(model, Classifier) else "Grad-CAM"
    result = Maps(method=method, images=tuple(explained))
    result.save(run.maps_file)
    return result


def maps_of(model: nn.Module, images: torch.Tensor) -> tuple[np.ndarray, int, float]:
    """Explain what a model says of one normalized image ``[1, 3, H, W]``.

    Returns:
        The map ``[h, w]`` of the class that it predicts, that class, and its softmax probability.
    """
    with torch.inference_mode():
        probabilities = model(images).double().softmax(1)[0]
    predicted = int(probabilities.argmax())
    return _maps(model, images, predicted), predicted, float(probabilities[predicted])


def _maps(model: nn.Module, images: torch.Tensor, predicted: int) -> np.ndarray:
    classes = torch.tensor([predicted])
    if isinstance(model, Classifier):
        return class_activation_maps(model, images, classes)[0][0].numpy()
    return gradient_maps(model, images, classes)[0].numpy()


def _chosen(run: Run) -> list[dict[str, str]]:
    """Choose wrong predictions, the surest first, and right ones of as many classes as possible."""
    if not run.predictions_file.is_file():
        raise RunError(f"{run.folder} has not been evaluated; do it with: triscale evaluate {run.folder}")
    rows = list(csv.DictReader(io.StringIO(run.predictions_file.read_text())))
    wrong = sorted((row for row in rows if row["truth"] != row["predicted"]), key=lambda row: -float(row["confidence"]))
    right, seen = [], dict.fromkeys((row["truth"] for row in rows), 0)
    for row in rows:
        if row["truth"] == row["predicted"]:
            seen[row["truth"]] += 1
            right.append((seen[row["truth"]], row))
    right.sort(key=lambda pair: pair[0])
    return wrong[:MAPS_OF_EACH_KIND] + [row for _, row in right[:MAPS_OF_EACH_KIND]]


def _predictions(samples: tuple[Sample, ...], outcome: Outcome, classes: tuple[str, ...]) -> str:
    """Return a CSV table: file, truth, predicted, confidence."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("file", "truth", "predicted", "confidence"))
    probabilities = torch.from_numpy(outcome.logits).double().softmax(1).numpy()
    for sample, row in zip(samples, probabilities, strict=True):
        best = int(row.argmax())
        writer.writerow((sample.path, classes[sample.label], classes[best], f"{row[best]:.6f}"))
    return buffer.getvalue()


def _spread(samples: tuple[Sample, ...], number: int) -> tuple[Sample, ...]:
    """Return up to ``number`` samples, evenly spread over a part."""
    stride = max(1, len(samples) // number)
    return samples[::stride][:number]
