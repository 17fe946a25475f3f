"""Core ML packages for Apple devices: written on any system, run on macOS only.

An app developer's tools (Xcode, Vision, Create ML) expect an image as input, and a label with probabilities as output.
So a package takes an image with values from 0 to 255 and normalizes it inside, and gives probabilities instead of
logits. A network of one class per image is a Core ML classifier with the outputs ``classLabel`` and
``classLabel_probs``; with any number of labels, the output is the array ``probabilities``. Core ML has no images of
other than one or three channels; such a network takes the normalized array and gives logits, like the files of other
engines.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from triscale.deploy.contract import CONTRACT_KEY, Contract, read_contract
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.engines.session import fixed_shape
from triscale.deploy.exportable import Exportable
from triscale.deploy.graph import INPUT
from triscale.deploy.onnx_file import plain_metadata
from triscale.errors import ExportError, RecordError
from triscale.network.contract import Decision, Preprocessing
from triscale.optional_import import load
from triscale.version import __version__

IMAGE, LABEL, LABEL_PROBABILITIES, PROBABILITIES = "image", "classLabel", "classLabel_probs", "probabilities"
IMAGE_CHANNELS = (1, 3)
"""Channels of images in Core ML: gray and RGB."""
MIN_PROBABILITY = 1e-7
"""Smaller probabilities count as this one: their logarithms are beyond the precision of float32."""
_LOGITS = "logits"


class ClassifierOfImages(nn.Module):
    """A network from an image with values from 0 to 255 to probabilities.

    Args:
        model: From normalized images to logits.
        contract: Mean, standard deviation, temperature, and how logits become probabilities.

    Shape:
        ``[N, C, H, W]`` to ``[N, classes]``.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.model = model
        self.link, self.temperature = contract.decision.link, contract.decision.temperature
        mean, std = (
            torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1, 1)
            for values in (contract.preprocessing.mean, contract.preprocessing.std)
        )
        # (x / 255 - mean) / std: Core ML itself has one scale for all channels.
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (mean / std).float())

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities."""
        logits: Tensor = self.model(images * self.scale - self.shift)
        if self.temperature != 1:
            logits = logits / self.temperature
        return logits.softmax(1) if self.link == "softmax" else logits.sigmoid()


class CoreMlSession:
    """A Core ML package, one image at a time.

    Raises:
        RecordError: The file is not a Core ML package.
        ExportError: The system is not macOS.
        UserError: coremltools is not installed.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:  # noqa: ARG002 - Core ML chooses its threads
        tools = _load()
        with quiet_process():
            try:
                self._model = tools.models.MLModel(str(file), skip_model_load=not runs_here())
            except (RuntimeError, OSError, ValueError, DecodeError) as error:
                raise RecordError(f"{file} is not a Core ML package") from error
        if not runs_here():
            raise ExportError(f"{file} runs on macOS only; export for another engine to run it here")
        self.contract_text: str | None = self._model.user_defined_metadata.get(CONTRACT_KEY)
        self._contract = read_contract(self.contract_text, file)
        self.input_shape = fixed_shape(self._contract.preprocessing.input_shape)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits for normalized images ``[N, C, H, W]``: those of the network up to a constant per image."""
        return np.concatenate([self._one(image) for image in images])

    def _one(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        preprocessing = self._contract.preprocessing
        if preprocessing.channels not in IMAGE_CHANNELS:
            logits: NDArray[np.float32] = self._model.predict({INPUT: image[None]})[_LOGITS]
            return logits
        found = self._model.predict({IMAGE: picture_of(image, preprocessing)})
        return logits_of_outputs(found, self._contract)[None]


def picture_of(image: NDArray[np.float32], preprocessing: Preprocessing) -> Image.Image:
    """Return the picture whose normalized form is ``[C, H, W]``, rounded to 8 bits.

    Example:
        >>> preprocessing = Preprocessing(resolution=2, mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> picture_of(np.ones((3, 2, 2), np.float32), preprocessing).getpixel((0, 0))
        (255, 255, 255)
    """
    mean, std = (np.array(values).reshape(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    values = np.clip(np.rint(255 * (image * std + mean)), 0, 255).astype(np.uint8)
    return Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0))


def in_eight_bits(images: NDArray[np.float32], contract: Contract) -> NDArray[np.float32]:
    """Return the normalized images ``[N, C, H, W]`` that a package can be given, nearest to these."""
    preprocessing = contract.preprocessing
    if preprocessing.channels not in IMAGE_CHANNELS:
        return images
    mean, std = (
        np.array(values, dtype=np.float32).reshape(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    values = np.clip(np.rint(255 * (images * std + mean)), 0, 255) / 255
    return np.asarray((values - mean) / std, dtype=np.float32)


def logits_of_outputs(found: Mapping[str, Any], contract: Contract) -> NDArray[np.float32]:
    """Return logits ``[classes]`` that give the probabilities of a package's outputs.

    Example:
        >>> contract = Contract(network="net", preprocessing=Preprocessing(resolution=2), classes=("a", "b"))
        >>> np.exp(logits_of_outputs({LABEL_PROBABILITIES: {"b": 0.25, "a": 0.75}}, contract)).round(4).tolist()
        [0.75, 0.25]
    """
    if contract.decision.link == "softmax":
        listed = found[LABEL_PROBABILITIES]
        return _logits(np.array([listed[name] for name in contract.classes]), contract.decision)
    return _logits(np.asarray(found[PROBABILITIES]).reshape(-1), contract.decision)


def comparable(logits: NDArray[np.float32], contract: Contract) -> NDArray[np.float32]:
    """Return the logits ``[N, classes]`` that a package gives for those of the network."""
    if contract.preprocessing.channels not in IMAGE_CHANNELS:
        return logits
    values = torch.from_numpy(logits.astype(np.float64)) / contract.decision.temperature
    probabilities = values.softmax(1) if contract.decision.link == "softmax" else values.sigmoid()
    return _logits(probabilities.numpy(), contract.decision)


def _logits(probabilities: NDArray[np.float64], decision: Decision) -> NDArray[np.float32]:
    values = np.clip(probabilities.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    logits = np.log(values) if decision.link == "softmax" else np.log(values) - np.log1p(-values)
    return np.asarray(decision.temperature * logits, dtype=np.float32)


def packaged(contract: Contract) -> Contract:
    """Return the contract of a package, which calls no image unknown: probabilities say nothing about the energy.

    Those of labels do, and packages that do not take images return logits; their contract stays.
    """
    decision, channels = contract.decision, contract.preprocessing.channels
    if decision.confidence is None or decision.link == "sigmoid" or channels not in IMAGE_CHANNELS:
        return contract
    confidence = decision.confidence.replace(unknown_threshold=None)
    return contract.replace(decision=decision.replace(confidence=confidence))


def runs_here() -> bool:
    """Return whether this machine can run Core ML."""
    return sys.platform == "darwin"


def write(subject: Exportable, file: Path, *, half: bool = False) -> None:
    """Write a model as a Core ML package for one image, with its contract inside; the file is not checked.

    Args:
        subject: The model.
        file: The package.
        half: Whether weights are stored and operations computed in float16, as the Neural Engine does, or in float32.

    Raises:
        ExportError: An operation of the model cannot be converted.
        UserError: coremltools is not installed.
    """
    tools = _load()
    contract = packaged(subject.contract)
    takes_images = contract.preprocessing.channels in IMAGE_CHANNELS
    model = ClassifierOfImages(subject.model, contract).eval() if takes_images else subject.model
    with converting("Core ML's tools cannot convert the model"):
        program = torch.export.export(model, (torch.zeros(1, *subject.input_shape),), strict=False)
        package = tools.convert(
            program.run_decompositions({}),
            convert_to="mlprogram",
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT16 if half else tools.precision.FLOAT32,
            **_interface(tools, contract),
        )
        _describe(package, contract)
        package.save(str(file))


def _interface(tools: Any, contract: Contract) -> dict[str, Any]:
    """Return the options of the converter that say what a package takes and gives."""
    shape = contract.preprocessing.input_shape
    if contract.preprocessing.channels not in IMAGE_CHANNELS:
        return {"outputs": [tools.TensorType(name=_LOGITS)]}
    layout = tools.colorlayout.RGB if shape[0] == len("RGB") else tools.colorlayout.GRAYSCALE
    options: dict[str, Any] = {"inputs": [tools.ImageType(name=IMAGE, shape=(1, *shape), color_layout=layout)]}
    if contract.decision.link == "softmax":
        options["classifier_config"] = tools.ClassifierConfig(list(contract.classes), predicted_feature_name=LABEL)
    else:
        options["outputs"] = [tools.TensorType(name=PROBABILITIES)]
    return options


def _describe(package: Any, contract: Contract) -> None:
    """Write what Xcode shows into a package, and the contract."""
    images = contract.preprocessing
    channels, height, width = images.input_shape
    package.short_description = f"{contract.network}, image classification with {len(contract.classes)} classes"
    package.author, package.version = "triscale", __version__
    package.user_defined_metadata.update({CONTRACT_KEY: contract.to_json(), **plain_metadata(contract)})
    if channels not in IMAGE_CHANNELS:
        return
    package.input_description[IMAGE] = (
        f"Image of {width} x {height} pixels, upright: the largest centered rectangle of the ratio {width}:{height}, "
        f"both sides multiplied by {images.crop:g}, resized ({images.interpolation}, antialiased). Normalized inside."
    )
    if contract.decision.link == "softmax":
        package.output_description[LABEL] = "The most probable class"
        package.output_description[LABEL_PROBABILITIES] = "The probability of each class"
        package.user_defined_metadata["com.apple.coreml.model.preview.type"] = "imageClassifier"
    else:
        package.output_description[PROBABILITIES] = "The probability of each label, in the order of names"


def _load() -> Any:
    with quiet_process():
        return load("coremltools", "Core ML's converter", "coreml")
