"""Classify images with a trained run or an exported file."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from triscale.data.images.bands import AnyImage
from triscale.data.images.color import BadImage, NotAnImage
from triscale.data.images.decode import DEFAULT_LIMITS, ImageLimits, decode
from triscale.data.images.files import read_named
from triscale.data.images.other_formats import is_named_as_image
from triscale.data.images.transforms import eval_transform, normalize
from triscale.deploy.contract import read_contract
from triscale.deploy.engines import open_file
from triscale.errors import DataError, Interrupted, RunError
from triscale.jobs.core.run import RunFolder
from triscale.network.contract import SOFTMAX, Decision, Preprocessing
from triscale.nn.probabilities import negative_energy, probabilities
from triscale.progress import NO_PROGRESS
from triscale.record import Record, SparseRecord
from triscale.training.context import DEFAULT_CONTEXT, ExecutionContext

MIN_SHOWN = 20
"""Number of images from which progress is shown."""


class ClassProbability(Record):
    """A class and its probability."""

    name: str
    probability: float


class Prediction(SparseRecord):
    """The most probable classes of one image in descending order, or the reason why it cannot be read.

    ``labels`` are the labels of an image that may have any number of them: the classes above their thresholds. It is
    None, and left out of JSON, if every image has one class. ``prediction_set`` are the classes that are to contain the
    right one, or all right labels, and ``unknown`` is whether the image is unlike the validation images; both are None,
    and left out of JSON, for networks whose calibration does not give them.
    """

    kind_name: ClassVar[str] = "prediction"
    sparse: ClassVar[tuple[str, ...]] = ("labels", "prediction_set", "unknown")
    schema_number: ClassVar[int] = 2

    file: str
    classes: tuple[ClassProbability, ...] = ()
    error: str | None = None
    labels: tuple[str, ...] | None = None
    prediction_set: tuple[str, ...] | None = None
    unknown: bool | None = None


def predict(
    source: Path | ImageClassifier, images: tuple[Path, ...], context: ExecutionContext = DEFAULT_CONTEXT, *,
    top: int = 5, skip: Container[str] = (), limits: ImageLimits = DEFAULT_LIMITS,
) -> Iterator[Prediction]:  # fmt: skip
    """Yield a prediction for each image, in the given order; folders are walked in alphabetical order.

    Args:
        source: A run or an exported file, which contain the preprocessing and the class names; or one that is open.
        images: Image files or folders.
        context: Progress and stop flag.
        top: Number of classes per image.
        skip: Files to leave out, because they were predicted before.
        limits: Limits on an image file.

    Raises:
        RunError: ``source`` does not exist.
        UserError: No engine runs the file, or the engine is not installed.
        RecordError: The engine cannot read the file.
        DataError: An image or folder does not exist, or there are no images.
        Interrupted: ``context.should_stop`` returned true.
    """
    files = files_of(images)
    classifier = source if isinstance(source, ImageClassifier) else ImageClassifier.open(source)
    progress = context.progress if len(files) >= MIN_SHOWN else NO_PROGRESS
    progress.begin("predict", len(files))
    named, others = {path for path in images if not path.is_dir()}, 0
    for number, file in enumerate(files):
        if context.should_stop():
            raise Interrupted(f"stopped after {number} of {len(files)} images")
        if str(file) in skip:
            continue
        try:
            content = read_named(file, limits) if file in named else file
            prediction = classifier.classify(classifier.read(content, limits), top, str(file))
        except BadImage as error:
            if is_other_file(file, error) and file not in named:
                others += 1
                continue
            yield Prediction(file=str(file), error=str(error))
        else:
            yield prediction
        progress.advance(number + 1)
    if others:
        context.progress.note(f"files that are not images are ignored: {others}")


@dataclass(frozen=True, slots=True)
class ImageClassifier:
    """A trained network or an exported file, with its preprocessing and class names.

    Attributes:
        logits: From normalized images ``[N, channels, height, width]``, float32, to logits ``[N, classes]``.
        preprocessing: How an image becomes its input.
        classes: Class names in the order of the logits.
        decision: How its logits become an answer.
    """

    logits: Callable[[torch.Tensor], np.ndarray]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    decision: Decision = SOFTMAX

    @classmethod
    def open(cls, source: Path, threads: int = 0) -> ImageClassifier:
        """Open a run or an exported file.

        Args:
            source: The folder of a run, or the file.
            threads: Threads of the engine of a file; 0 leaves it to the engine.

        Raises:
            RunError: It does not exist, or its training has not finished.
            UserError: No engine runs the file, or the engine is not installed.
            RecordError: The engine cannot read the file.
        """
        if source.is_dir() and source.suffix != ".mlpackage":
            run = RunFolder.open(source)
            spec, model = run.spec, run.model()

            def logits_of_model(batch: torch.Tensor) -> np.ndarray:
                with torch.inference_mode():
                    return np.asarray(model(batch).float().numpy())

            return cls(logits_of_model, spec.preprocessing, spec.classes, run.decision)
        if source.exists():
            exported = open_file(source, threads)
            contract = read_contract(exported.contract_text, source)
            return cls(
                lambda batch: exported(batch.numpy()), contract.preprocessing, contract.classes, contract.decision
            )
        raise RunError(f"{source} does not exist; give the folder of a run or an exported file")

    def read(self, file: Path | bytes, limits: ImageLimits = DEFAULT_LIMITS) -> AnyImage:
        """Decode an image file, or its content, with the bit depth and the channels of the training images.

        Raises:
            BadImage: It is not a readable image, exceeds a limit, or has another number of channels.
        """
        return decode(file, limits, self.preprocessing.bit_depth, self.preprocessing.channels)

    def classify(self, image: AnyImage, top: int, name: str) -> Prediction:
        """Return the prediction for an image.

        Args:
            image: An image with the channels of the network.
            top: Number of classes.
            name: What the prediction says is its file.
        """
        tensor = eval_transform(self.preprocessing)(image)
        logits = torch.from_numpy(self.logits(normalize(tensor[None], self.preprocessing))[:1])
        return prediction_of(logits[0], self.classes, self.decision, top, name)


def prediction_of(
    logits: torch.Tensor, classes: Sequence[str], decision: Decision, top: int, name: str = ""
) -> Prediction:
    """Return the prediction for the logits of an image.

    Args:
        logits: ``[classes]``.
        classes: Names of the classes.
        decision: How the logits become an answer.
        top: Number of classes.
        name: The file of the image.

    Example:
        >>> prediction_of(torch.tensor([0.0, 3.0]), ("cat", "dog"), SOFTMAX, 1).classes[0].name
        'dog'
    """
    values = probabilities(logits[None], decision.link, decision.temperature)[0]
    listed: list[float] = values.tolist()
    energy = negative_energy(logits[None], decision.link).item()
    likely = values.argsort(descending=True)[:top].tolist()
    members = decision.prediction_set(listed)
    return Prediction(
        file=name,
        classes=tuple(ClassProbability(name=classes[index], probability=listed[index]) for index in likely),
        labels=None if decision.link == "softmax" else tuple(classes[index] for index in decision.chosen(listed)),
        prediction_set=None if members is None else tuple(classes[index] for index in members),
        unknown=decision.is_unknown(energy),
    )


def is_other_file(file: Path, error: BadImage) -> bool:
    """Return whether a file neither is an image nor is named like one, such as notes beside photos.

    Args:
        file: The file.
        error: Why it cannot be read.
    """
    return isinstance(error, NotAnImage) and not is_named_as_image(file.name)


def files_of(images: Sequence[Path]) -> list[Path]:
    """Return image files in the given order; folders are walked in alphabetical order.

    Raises:
        DataError: A path does not exist, or there are no files.
    """
    files = list(_files(images))
    if not files:
        raise DataError(f"no files in {', '.join(map(str, images))}; give images or folders of images")
    return files


def _files(images: Sequence[Path]) -> Iterator[Path]:
    for path in images:
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))
        elif path.exists():
            yield path
        else:
            raise DataError(f"{path} does not exist; give images or folders of images")
