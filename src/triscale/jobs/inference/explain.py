"""Explain a trained network with class activation maps, of a run's test images or of any images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from triscale.data.images.bands import AnyImage, as_picture, from_array
from triscale.data.images.color import BadImage
from triscale.data.images.decode import DEFAULT_LIMITS, NO_LIMITS, ImageLimits, decode
from triscale.data.images.files import read_named
from triscale.data.images.transforms import center_box, eval_transform, normalize
from triscale.data.pipeline.split import Sample, check_present
from triscale.data.sources.store import open_store
from triscale.errors import Interrupted, RunError, nearest
from triscale.explain.cam import class_activation_maps, gradient_maps, overlay, to_png
from triscale.explain.explanation_sheet import SheetEntry, explanation_sheet
from triscale.explain.extent import Box, Extent, extent
from triscale.explain.faithfulness import Faithfulness, faithfulness
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.predict import files_of, is_other_file
from triscale.network.contract import Decision, Link, Preprocessing
from triscale.nn.classifier import Classifier
from triscale.nn.probabilities import probabilities
from triscale.record import write_atomic
from triscale.results.explanation import ExplainedImage, ExplainedImages, Explanation, ImageExplanation
from triscale.results.metrics import GUESSING, load_metrics
from triscale.training.context import ExecutionContext

MAPS_OF_EACH_KIND = 12
SHOWN_SIDE = 160
MAX_ON_SHEET = 120

Method = Literal["auto", "cam", "grad-cam"]
DESCRIPTIONS = {"cam": "exact", "grad-cam": "Grad-CAM"}
"""Names of the methods in reports."""


def explain_run(run: RunFolder, context: ExecutionContext, method: Method = "auto") -> ExplainedImages:
    """Draw class activation maps of misclassified and correct test images of a run, for the predicted class.

    Raises:
        RunError: The run has not been evaluated, or the method does not support its network.
        DataError: Images to explain are no longer there.
    """
    spec, split = run.spec, run.split
    model = run.model()
    resolved = resolve_method(model, method)
    _note_guessing(run, context)
    rows = _select_predictions(run)
    check_present(split, [Sample(row["file"], 0) for row in rows])
    store = open_store(split.root)
    context.progress.begin("explain", len(rows))
    transform = eval_transform(spec.preprocessing)
    depth_and_channels = spec.preprocessing.bit_depth, spec.preprocessing.channels
    run.maps_folder.mkdir(exist_ok=True)
    explained = []
    for number, row in enumerate(rows):
        inputs = transform(decode(store.read(row["file"], NO_LIMITS), NO_LIMITS, *depth_and_channels))
        label = spec.classes.index(row.get("most_probable", row["predicted"]))
        heat = activation_map(model, normalize(inputs[None], spec.preprocessing), label, resolved)
        shown = as_picture(from_array(inputs.permute(1, 2, 0).numpy()))
        shown = cropped(shown, Box(0, 0, shown.width, shown.height), max(SHOWN_SIDE, *shown.size))
        names = {kind: f"{number:02d}-{kind}.png" for kind in ("image", "overlay")}
        write_atomic(run.maps_folder / names["image"], to_png(shown))
        write_atomic(run.maps_folder / names["overlay"], to_png(overlay(shown, heat)))
        explained.append(
            ExplainedImage(
                file=row["file"],
                truth=row["truth"],
                predicted=row["predicted"],
                confidence=float(row["confidence"]),
                right=row["truth"] == row["predicted"],
                **names,
            )
        )
        context.progress.advance(number + 1)
    result = ExplainedImages(method=DESCRIPTIONS[resolved], images=tuple(explained))
    result.save(run.maps_file)
    return result


def explain_images(
    run: RunFolder,
    images: Sequence[Path],
    out: Path,
    context: ExecutionContext,
    *,
    method: Method = "auto",
    label: str | None = None,
    curves: bool = False,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> Explanation:
    """Draw class activation maps of images: an overlay for each image, and a contact sheet of all overlays.

    Args:
        run: A trained run.
        images: Image files or folders of images.
        out: A new folder for ``NUMBER-NAME.png``, ``sheet.png`` and ``explanation.json``.
        context: Progress and stop flag.
        method: ``cam`` is exact for a head of global average pooling and a linear layer, ``grad-cam`` works for any
            network.
        label: Name of the class to explain; the predicted class by default, which is recorded in any case.
        curves: Whether to compute deletion and insertion curves, which takes about 130 forward passes per image.
        limits: Limits on an image file.

    Returns:
        The record of all images.

    Raises:
        RunError: The class does not exist, the method does not support the network, or the folder holds other files.
        DataError: There are no images.
        Interrupted: ``context.should_stop`` returned true.
    """
    spec, decision = run.spec, run.decision
    if label is not None and label not in spec.classes:
        hint = nearest(label, spec.classes) or f"; the classes are {', '.join(spec.classes[:20])}"
        raise RunError(f'there is no class "{label}"{hint}')
    if out.is_dir() and any(out.iterdir()) and not (out / Explanation.file_name).is_file():
        raise RunError(f"{out} is not empty and holds no explanation; give a new folder with --out")
    files, named = files_of(images), set(images)
    model = run.model()
    resolved = resolve_method(model, method)
    _note_guessing(run, context)
    out.mkdir(parents=True, exist_ok=True)
    context.progress.begin("explain", len(files))
    explained: list[ImageExplanation] = []
    shown: list[SheetEntry] = []
    for number, file in enumerate(files):
        if context.should_stop():
            raise Interrupted(f"stopped after {number} of {len(files)} images; their overlays are in {out}")
        try:
            content = read_named(file, limits) if file in named else file
            picture = decode(content, limits, spec.preprocessing.bit_depth, spec.preprocessing.channels)
        except BadImage as error:
            if is_other_file(file, error) and file not in named:
                continue
            explained.append(ImageExplanation(file=str(file), error=str(error)))
            continue
        record, overlaid = _explain(
            model, picture, spec.preprocessing, spec.classes, resolved, label, decision, curves=curves
        )
        name = f"{number:04d}-{file.stem}.png"
        write_atomic(out / name, to_png(overlaid))
        explained.append(record.replace(file=str(file), overlay=name))
        if len(shown) < MAX_ON_SHEET:
            shown.append(SheetEntry(file.name, record.explained, record.probability, overlaid))
        context.progress.advance(number + 1)
    sheet = "sheet.png" if shown else ""
    if shown:
        write_atomic(out / sheet, to_png(explanation_sheet(shown, f"{spec.network.name}, {resolved}")))
    result = Explanation(network=spec.network.name, method=resolved, sheet=sheet, images=tuple(explained))
    result.save(out / Explanation.file_name)
    return result


def _note_guessing(run: RunFolder, context: ExecutionContext) -> None:
    """Say so if the maps explain guesses."""
    if run.metrics_file.is_file() and load_metrics(run.metrics_file).is_guessing:
        context.progress.note(f"the class activation maps explain guesses: the result of the run is {GUESSING}")


def resolve_method(model: nn.Module, method: Method) -> str:
    """Return the method to use; ``auto`` chooses ``cam`` where the model supports it.

    Raises:
        RunError: ``cam`` was requested for a custom model, or for a head with another layer than the classifier.
    """
    if method == "auto":
        return "cam" if _is_linear(model) else "grad-cam"
    if method == "cam" and not _is_linear(model):
        raise RunError("method cam requires a head of global average pooling and a linear layer, which this network "
                       "does not have, or a custom model may not have; give --method grad-cam")  # fmt: skip
    return method


def maps_of(model: nn.Module, images: Tensor, link: Link = "softmax") -> tuple[NDArray[np.float32], int, float]:
    """Predict one normalized image ``[1, 3, H, W]`` and explain the prediction.

    Returns:
        The map ``[h, w]`` of the predicted class, the index of that class, and its probability.
    """
    with torch.inference_mode():
        values = probabilities(model(images), link)[0]
    predicted = int(values.argmax())
    heat = activation_map(model, images, predicted, resolve_method(model, "auto"))
    return heat, predicted, float(values[predicted])


def _is_linear(model: nn.Module) -> bool:
    """Return whether one linear layer follows the pool, so that the maps are exact."""
    return isinstance(model, Classifier) and len(model.head.vector_layers) == 1


def activation_map(model: nn.Module, images: Tensor, label: int, method: str) -> NDArray[np.float32]:
    """Return the map ``[h, w]`` of a class for one normalized image ``[1, 3, H, W]``."""
    classes = torch.tensor([label])
    if method == "cam":
        assert isinstance(model, Classifier)
        return np.asarray(class_activation_maps(model, images, classes)[0][0].numpy())
    return np.asarray(gradient_maps(model, images, classes)[0].numpy())


def _explain(
    model: nn.Module,
    picture: AnyImage,
    preprocessing: Preprocessing,
    classes: tuple[str, ...],
    method: str,
    label: str | None,
    decision: Decision,
    *,
    curves: bool,
) -> tuple[ImageExplanation, Image.Image]:
    """Return the explanation of an image, and the image's center crop with the map as an overlay."""
    inputs = normalize(eval_transform(preprocessing)(picture)[None], preprocessing)
    with torch.inference_mode():
        values = probabilities(model(inputs), decision.link, decision.temperature)[0]
    best = int(values.argmax())
    target = best if label is None else classes.index(label)
    heat = activation_map(model, inputs, target, method)
    square = Box(*center_box(picture.size, preprocessing))
    region: Extent = extent(heat, square)
    areas: Faithfulness | None = (
        faithfulness(model, inputs, torch.from_numpy(heat), target, link=decision.link) if curves else None
    )
    shown = cropped(picture, square, 2 * max(SHOWN_SIDE, *preprocessing.input_shape[1:]))
    record = ImageExplanation(
        file="",
        predicted=classes[best],
        confidence=float(values[best]),
        explained=classes[target],
        probability=float(values[target]),
        peak=region.peak,
        box=region.box,
        share=region.share,
        deletion=None if areas is None else areas.deletion_area,
        insertion=None if areas is None else areas.insertion_area,
        random_deletion=None if areas is None else areas.random_deletion,
        random_insertion=None if areas is None else areas.random_insertion,
    )
    return record, overlay(shown, heat)


def cropped(picture: AnyImage, box: Box, most: int) -> Image.Image:
    """Return a part of an image in RGB, its longer side at least :data:`SHOWN_SIDE` and at most ``most`` pixels."""
    width, height = box.right - box.left, box.bottom - box.top
    longer = max(width, height)
    factor = min(max(SHOWN_SIDE, longer), most) / longer
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return as_picture(picture.resize(size, Image.Resampling.BICUBIC, box))


def _select_predictions(run: RunFolder) -> list[dict[str, str]]:
    """Select the most confident mistakes, and correct predictions of as many classes as possible."""
    if not run.split.test:
        raise RunError(f"{run.folder} has no test images; give images: triscale explain {run.folder} IMAGES")
    if not run.predictions_file.is_file():
        raise RunError(f"{run.folder} has not been evaluated; evaluate it with: triscale evaluate {run.folder}")
    rows = list(csv.DictReader(io.StringIO(run.predictions_file.read_text())))
    wrong = sorted((row for row in rows if row["truth"] != row["predicted"]), key=lambda row: -float(row["confidence"]))
    right, seen = [], dict.fromkeys((row["truth"] for row in rows), 0)
    for row in rows:
        if row["truth"] == row["predicted"]:
            seen[row["truth"]] += 1
            right.append((seen[row["truth"]], row))
    right.sort(key=lambda pair: pair[0])
    return wrong[:MAPS_OF_EACH_KIND] + [row for _, row in right[:MAPS_OF_EACH_KIND]]
