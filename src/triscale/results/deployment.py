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
    """A block's output after rounding to int8 all that pays: signal to noise in decibels, and whether it stays float.

    ``for_speed`` says that it stays so because int8 makes it no faster on this machine.
    """

    name: str
    decibels: float
    kept_float: bool
    for_speed: bool = False


class Quantized(Record):
    """An int8 file beside its float model, on ``images`` images with known classes.

    Accuracies are shares; ``lost_points`` is what int8 loses, in points, with the half-width ``lost_error`` of a 95 %
    interval from the images on which the two disagree. ``agreement`` is the share with the same first class.
    ``attempts`` counts the files that were made until one kept within ``bound_points``.
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
    """A file made of a Run: how it agrees with the model, what int8 does to it, and its latency here.

    ``latency`` is None where its engine does not run here.
    """

    kind_name: ClassVar[str] = "exported"

    export: Export
    quantized: Quantized | None = None
    latency: Measurement | None = None


class Exports(Record):
    """All files that were made of a Run, by the names of their files."""

    kind_name: ClassVar[str] = "exports"

    files: tuple[Exported, ...] = ()


class DeploymentCandidate(Record):
    """One way to run a Run's network.

    ``milliseconds`` for one image: measured in turns with the others, with the ratio to the first in ``ratio`` and its
    95 % interval, or foretold by a profile. ``accuracy``: on the test images. ``verdict``: why it was taken or left.
    ``deployable`` is false for what needs Python and torch and is only shown beside.
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
    """The file that was chosen for a device, and what it was chosen from.

    ``file`` is its name in the folder; ``device`` the processor that it is meant for; ``predicted`` says that times
    come from a profile taken there.
    """

    kind_name: ClassVar[str] = "deployment"

    file: str
    device: str
    threads: int
    predicted: bool
    budget: Budget | None
    bound_points: float
    candidates: tuple[DeploymentCandidate, ...]
    quantized: Quantized | None = None
    machine: Machine
