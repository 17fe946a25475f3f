"""The served network: classifies one image at a time, and scales its baseline to budgets."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Protocol, TypedDict

import torch

from triscale.data.images.bands import AnyImage
from triscale.data.images.decode import NO_LIMITS, decode
from triscale.data.images.transforms import center_box, eval_transform, normalize
from triscale.errors import BudgetError
from triscale.explain.cam import overlay, to_png
from triscale.explain.extent import Box, extent
from triscale.jobs.core.networks import count_of, fit_any
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.explain import SHOWN_SIDE, activation_map, cropped, resolve_method
from triscale.jobs.inference.predict import ImageClassifier, Prediction, prediction_of
from triscale.jobs.run_source import short_name
from triscale.network.contract import Decision
from triscale.network.custom import AnyNetwork
from triscale.network.latency import Predictor, predict
from triscale.network.spec import Network
from triscale.record import Record
from triscale.results.image_size import sides_of
from triscale.results.metrics import Metrics, MultiLabelMetrics, load_metrics
from triscale.scaling.apply import scale_by_law
from triscale.scaling.budget import Budget
from triscale.scaling.law import EFFICIENTNET

MAX_PHI = 6.0


class ClassScore(Record):
    """A class and its probability, from 0 to 1."""

    name: str
    probability: float


class Answer(Record):
    """The prediction for an image.

    ``peak`` is the maximum of the first class's activation map, in pixels from the left and top of the image; ``map``
    is the image with that map overlaid, a PNG in base64, if requested. ``milliseconds``: decoding and inference.
    ``file`` is the name of the file, if it was sent in a form. ``labels``: the labels of an image that may have any
    number of them, the classes above their thresholds; None if every image has one class. ``prediction_set``: the
    classes that contain the right one, or all right labels, for the share ``coverage`` of images that the description
    of the network states. ``unknown``: whether the image is unlike those that the network was trained for. Both are
    None if the network's calibration does not give them.
    """

    classes: tuple[ClassScore, ...]
    width: int
    height: int
    peak: tuple[float, float] | None = None
    map: str | None = None
    milliseconds: float
    file: str | None = None
    labels: tuple[str, ...] | None = None
    prediction_set: tuple[str, ...] | None = None
    unknown: bool | None = None


class Answers(Record):
    """The predictions for the images of a request, in their order."""

    predictions: tuple[Answer, ...]


class Served(Record):
    """The served network, its classes, and the range of MACs that its baseline can be scaled to.

    Of an exported file, costs and baseline are unknown and None; it has no class activation maps.

    ``dataset`` is the name of the data set that the network was trained on, without its folder; for a run of weights
    without images, that of the weights. ``test_accuracy`` is top-1 accuracy on the test images; it is None for images
    with any number of labels, for which ``test_mean_average_precision`` is given. ``resolution`` is the side of an
    image in pixels, or its height if it is not square; ``image_width`` is then its width. ``coverage`` is the share of
    images whose prediction set contains the class, or all labels; None without sets.
    """

    dataset: str
    network: str
    resolution: int
    image_width: int | None = None
    classes: tuple[str, ...]
    macs: int | None = None
    params: int | None = None
    test_accuracy: float | None = None
    test_mean_average_precision: float | None = None
    baseline: str | None = None
    min_macs: int | None = None
    max_macs: int | None = None
    coverage: float | None = None


class Scaled(Record):
    """The network scaled to a budget; multipliers are relative to the baseline, before rounding.

    ``resolution`` is the side of an image in pixels, or its height if it is not square; ``image_width`` is then its
    width.

    ``milliseconds`` is the predicted latency with batch size 1, if the server has a device profile.
    """

    budget: str
    network: str
    phi: float
    depth: float
    width: float
    resolution_multiplier: float
    resolution: int
    image_width: int | None = None
    blocks: int | None
    params: int
    macs: int
    used: float
    milliseconds: float | None = None


class Servable(Protocol):
    """What can be served.

    Attributes:
        about: Its description.
    """

    about: Served

    def answer(self, content: bytes, top: int, *, with_map: bool) -> Answer:
        """Classify an image; see :meth:`ServedModel.answer`."""

    def scaled(self, budget: Budget) -> Scaled:
        """Scale the baseline to a budget; see :meth:`ServedModel.scaled`."""


class ServedFile:
    """An exported file, ready to classify images in its engine.

    Args:
        file: The file.
        pixels: Maximum number of pixels of an image.
        threads: Threads of the engine.

    Raises:
        UserError: No engine runs the file, or the engine is not installed.
        RecordError: The engine cannot read the file, or it has no preprocessing inside.
    """

    def __init__(self, file: Path, pixels: int, threads: int = 1) -> None:
        self._classifier = ImageClassifier.open(file, threads)
        self._limits = NO_LIMITS.replace(pixels=pixels)  # a request has a limit on its size
        preprocessing = self._classifier.preprocessing
        self.about = Served(
            dataset=file.stem,
            network=file.name,
            resolution=preprocessing.resolution,
            image_width=sides_of(preprocessing.input_shape)["width"],
            classes=self._classifier.classes,
            coverage=_coverage(self._classifier.decision),
        )

    def answer(self, content: bytes, top: int, *, with_map: bool) -> Answer:
        """Classify an image; an exported file has no class activation maps, so ``with_map`` has no effect.

        Args:
            content: The bytes of an image file.
            top: Number of classes.
            with_map: Without effect.

        Raises:
            BadImage: The content is not a readable image, or exceeds a limit.
        """
        del with_map
        start = time.perf_counter()
        picture = self._classifier.read(content, self._limits)
        found = self._classifier.classify(picture, top, "")
        return Answer(
            width=picture.width,
            height=picture.height,
            milliseconds=1e3 * (time.perf_counter() - start),
            **_answered(found),
        )

    def scaled(self, budget: Budget) -> Scaled:
        """Refuse to scale.

        Raises:
            BudgetError: Always.
        """
        raise BudgetError(f"an exported file cannot be scaled to {budget}; serve the run that it was exported from")


class ServedModel:
    """A run's network, ready to classify images.

    Args:
        run: A trained run.
        pixels: Maximum number of pixels of an image.
        predictor: Predicts the latency of scaled networks.

    Raises:
        RunError: The run has no weights yet.
    """

    def __init__(self, run: RunFolder, pixels: int, predictor: Predictor | None = None) -> None:
        self._predictor = predictor
        self._spec, self._model, self._decision = run.spec, run.model().eval(), run.decision
        self._limits = NO_LIMITS.replace(pixels=pixels)  # a request has a limit on its size
        self._transform = eval_transform(self._spec.preprocessing)
        self._method = resolve_method(self._model, "auto")
        self._metrics = load_metrics(run.metrics_file) if run.metrics_file.is_file() else None
        self._baseline: AnyNetwork = self._spec.request.network.replace(classes=len(self._spec.classes))
        self._law = self._spec.request.law or EFFICIENTNET
        self.about = self._about()

    def answer(self, content: bytes, top: int, *, with_map: bool) -> Answer:
        """Classify an image.

        Args:
            content: The bytes of an image file.
            top: Number of classes.
            with_map: Also return the class activation map of the first class.

        Raises:
            BadImage: The content is not a readable image, or exceeds a limit.
        """
        start = time.perf_counter()
        preprocessing = self._spec.preprocessing
        picture = decode(content, self._limits, preprocessing.bit_depth, preprocessing.channels)
        inputs = normalize(self._transform(picture)[None], self._spec.preprocessing)
        with torch.inference_mode():
            found = prediction_of(self._model(inputs)[0], self._spec.classes, self._decision, top)
        seconds = time.perf_counter() - start
        best = self._spec.classes.index(found.classes[0].name)
        peak, shown = self._map(picture, inputs, best) if with_map else (None, None)
        return Answer(
            width=picture.width,
            height=picture.height,
            peak=peak,
            map=shown,
            milliseconds=1e3 * seconds,
            **_answered(found),
        )

    def scaled(self, budget: Budget) -> Scaled:
        """Scale the run's baseline to a budget.

        Raises:
            BudgetError: No network meets the budget, or it limits the latency of a custom model, which would have to be
                measured for a minute.
        """
        if budget.latency is not None and not isinstance(self._baseline, Network):
            raise BudgetError("the server does not measure custom models; limit MACs, or run triscale scale")
        fit = fit_any(self._baseline, self._law, budget, self._predictor)
        counts = count_of(fit.network)
        return Scaled(
            budget=str(budget),
            network=fit.network.name,
            phi=fit.phi,
            depth=fit.scale.depth,
            width=fit.scale.width,
            resolution_multiplier=fit.scale.resolution,
            resolution=fit.network.resolution,
            image_width=sides_of(fit.network.input_shape)["width"],
            blocks=fit.network.num_blocks if isinstance(fit.network, Network) else None,
            params=counts.params,
            macs=counts.macs,
            used=max(limit.achieved / limit.requested for limit in fit.limits),
            milliseconds=predict(self._predictor, fit.network)
            if self._predictor is not None and isinstance(fit.network, Network)
            else None,
        )

    def _map(self, picture: AnyImage, inputs: torch.Tensor, label: int) -> tuple[tuple[float, float] | None, str]:
        heat = activation_map(self._model, inputs, label, self._method)
        preprocessing = self._spec.preprocessing
        square = Box(*center_box(picture.size, preprocessing))
        shown = cropped(picture, square, max(SHOWN_SIDE, 2 * max(preprocessing.input_shape[1:])))
        return extent(heat, square).peak, base64.b64encode(to_png(overlay(shown, heat))).decode()

    def _weights_name(self) -> str:
        """Return the name of the weights of a run without images."""
        start = self._spec.request.start
        return self._spec.network.name if start is None else short_name(start.run)

    def _about(self) -> Served:
        network, counts = self._spec.network, count_of(self._spec.network)
        images, metrics = self._spec.request.images, self._metrics
        return Served(
            dataset=Path(images).name or images or self._weights_name(),
            network=network.name,
            resolution=network.resolution,
            image_width=sides_of(network.input_shape)["width"],
            classes=self._spec.classes,
            macs=counts.macs,
            params=counts.params,
            test_accuracy=metrics.top1 if isinstance(metrics, Metrics) else None,
            test_mean_average_precision=metrics.score if isinstance(metrics, MultiLabelMetrics) else None,
            baseline=self._baseline.name,
            min_macs=min(
                counts.macs, count_of(scale_by_law(self._baseline, self._law, max(-MAX_PHI, self._law.min_phi))).macs
            ),
            max_macs=max(
                counts.macs, count_of(scale_by_law(self._baseline, self._law, min(MAX_PHI, self._law.max_phi))).macs
            ),
            coverage=_coverage(self._decision),
        )


class _Answered(TypedDict):
    classes: tuple[ClassScore, ...]
    labels: tuple[str, ...] | None
    prediction_set: tuple[str, ...] | None
    unknown: bool | None


def _answered(found: Prediction) -> _Answered:
    """Return the fields of an answer that a prediction gives."""
    return {
        "classes": tuple(ClassScore(name=one.name, probability=one.probability) for one in found.classes),
        "labels": found.labels,
        "prediction_set": found.prediction_set,
        "unknown": found.unknown,
    }


def _coverage(decision: Decision) -> float | None:
    """Return the coverage of the prediction sets; None without sets."""
    confidence = decision.confidence
    return None if confidence is None or confidence.set_threshold is None else confidence.coverage
