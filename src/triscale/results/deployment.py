"""Exported files, int8 quantization, and the file chosen for a device."""

from __future__ import annotations

from typing import ClassVar, Literal

from triscale.record import Record
from triscale.results.latency import Measurement
from triscale.results.machine import Machine
from triscale.scaling.budget import Budget


class Export(Record):
    """An exported file and its parity check on ``images`` inputs, in batches of several sizes.

    ``max_error`` is the maximum difference of a logit, relative to the largest logit of the model; ``agreement`` is the
    share of inputs with the same top-1 class. If the engine does not run on this machine, ``verified`` is false and
    both are None.
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

    Accuracies are shares; for images with any number of labels they are mean average precisions, and ``metric`` says
    so. ``lost_points`` is the loss of accuracy in percentage points, ``lost_error`` the half-width of its 95% interval,
    computed from the images on which both disagree, or by bootstrap. ``agreement`` is the share of images with the same
    top-1 class. ``attempts`` is the number of files that were written until one was within ``bound_points``.
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
    metric: Literal["top1", "mean_average_precision"] = "top1"


class Exported(Record):
    """A file exported from a run: its parity check, its int8 accuracy, and its latency on this machine.

    ``latency`` is None if its engine does not run on this machine.
    """

    kind_name: ClassVar[str] = "exported"

    export: Export
    quantized: Quantized | None = None
    latency: Measurement | None = None


class Exports(Record):
    """All files exported from a run."""

    kind_name: ClassVar[str] = "exports"

    files: tuple[Exported, ...] = ()


class DeploymentCandidate(Record):
    """A candidate file for deployment.

    Attributes:
        engine: The inference engine.
        precision: float32 or int8.
        size_bytes: Size of the file.
        accuracy: Accuracy on the test images, as a share.
        milliseconds: Latency with batch size 1, measured alternately with the other candidates, or predicted by a
            device profile.
        ratio: Latency relative to the first candidate; None if it was predicted.
        low: Lower end of the 95% interval of ``ratio``.
        high: Upper end of the 95% interval of ``ratio``.
        deployable: False for torch itself, which is shown for comparison only.
        chosen: Whether this candidate was chosen.
        verdict: Why it was or was not chosen.
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
    """The file chosen for a device, and all candidates.

    ``file`` is its path in the run's folder, ``device`` the target processor. If ``predicted``, latencies are predicted
    by a profile of the device.
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
