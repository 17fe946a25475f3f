"""Exported files, int8 quantization, and the file chosen for a device."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record
from triscale.results.latency import Measurement
from triscale.results.machine import Machine
from triscale.scaling.budget import Budget


class Export(Record):
    """An exported file and how its outputs agree with the model's on ``images`` inputs, in batches of several sizes.

    ``max_error`` is the largest difference of a logit, relative to the largest logit of the model; ``agreement`` is
    the share of inputs with the same first class. Where the engine cannot run here, ``verified`` is false and both are
    None.
    """

    kind_name: ClassVar[str] = "export"

    file: str
    engine: str = "ONNX Runtime"
    precision: str = "float32"
    size_bytes: int
    images: int
    batches: tuple[int, ...] = ()
    verified: bool = True
    max_error: float | None
    agreement: float | None


class BlockNoise(Record):
    """Signal-to-noise ratio of a block's int8 output in decibels, and whether the block stays in float.

    ``for_speed``: it stays in float because int8 does not make it faster on this machine.
    """

    name: str
    decibels: float
    kept_float: bool
    for_speed: bool = False


class Quantized(Record):
    """An int8 file compared with its float model on ``images`` labeled images.

    Accuracies are shares; ``lost_points`` is what int8 loses, in points, with the half-width ``lost_error`` of a 95%
    interval from the images on which the two disagree. ``agreement`` is the share with the same first class.
    ``attempts`` counts the files that were written until one stayed within ``bound_points``.
    """

    kind_name: ClassVar[str] = "quantized"

    file: str
    engine: str
    size_bytes: int
    images: int
    calibration_images: int
    float_accuracy: float
    accuracy: float
    lost_points: float
    lost_error: float
    bound_points: float
    agreement: float
    blocks: tuple[BlockNoise, ...]
    attempts: int


class Exported(Record):
    """A file exported from a run: its agreement with the model, its int8 accuracy, and its latency on this machine.

    ``latency`` is None where its engine is not available.
    """

    kind_name: ClassVar[str] = "exported"

    export: Export
    quantized: Quantized | None = None
    latency: Measurement | None = None


class Exports(Record):
    """All files exported from a run, in the order of their names."""

    kind_name: ClassVar[str] = "exports"

    files: tuple[Exported, ...] = ()


class DeploymentCandidate(Record):
    """A file that could be deployed: engine, precision, size, accuracy and latency.

    ``milliseconds`` for one image: measured in turns with the others, with the ratio to the first in ``ratio`` and its
    95% interval, or predicted by a device profile. ``accuracy``: on the test images. ``verdict``: why it was chosen or
    not. ``deployable`` is false for what needs Python and torch and is shown for comparison only.
    """

    engine: str
    precision: str
    size_bytes: int | None = None
    accuracy: float | None = None
    milliseconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    deployable: bool = True
    chosen: bool = False
    verdict: str = ""


class Deployment(Record):
    """The file chosen for a device, and the candidates it was chosen from.

    ``file`` is its name in the folder, ``device`` the target processor; ``predicted``: latencies come from a profile
    measured on that device.
    """

    kind_name: ClassVar[str] = "deployment"
    schema_number: ClassVar[int] = 2

    file: str
    device: str
    threads: int
    predicted: bool
    budget: Budget | None
    bound_points: float
    candidates: tuple[DeploymentCandidate, ...]
    quantized: Quantized | None = None
    machine: Machine
