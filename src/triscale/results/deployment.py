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


SplitName = Literal["validation", "training", "calibration", "test"]
"""What images a file is judged on; calibration images are the training images that the quantizer saw."""


class LossOfChoice(Record):
    """The loss of accuracy on the images by which a file was chosen, in percentage points with a 95% interval."""

    split: SplitName
    images: int
    lost_points: float
    lost_low: float
    lost_high: float


class Quantized(Record):
    """A file of lower precision compared with its float model on ``images`` test images, which had no part in a choice.

    Attributes:
        file: Name of the file.
        engine: Title of its engine.
        precision: int8, or float16 or bfloat16, which are not calibrated and have no blocks in float.
        size_bytes: Size of the file.
        images: Number of test images.
        calibration_images: Number of training images that the quantizer saw.
        float_accuracy: Test accuracy of the float model as a share.
        accuracy: Test accuracy of the file. For images with any number of labels, both are mean average precisions.
        lost_points: Loss of test accuracy in percentage points.
        lost_low: Lower end of its 95% interval, from the images on which both disagree, or by bootstrap.
        lost_high: Upper end of the interval.
        bound_points: Maximum loss: the file is within it on the images of the choice, or loses one of them, and the
            interval of the loss on the test images does not lie above it.
        agreement: Share of test images with the same top-1 class.
        choice: The loss on the images by which blocks were chosen and the file was accepted.
        blocks: Noise of each block, and whether it stays in float.
        attempts: Number of files that were written until one was chosen.
        metric: What accuracies are.
    """

    kind_name: ClassVar[str] = "quantized"
    schema_number: ClassVar[int] = 2

    file: str
    engine: str
    precision: str = "int8"
    size_bytes: int
    images: int
    calibration_images: int
    float_accuracy: float
    accuracy: float
    lost_points: float
    lost_low: float
    lost_high: float
    bound_points: float
    agreement: float
    choice: LossOfChoice
    blocks: tuple[BlockNoise, ...]
    attempts: int
    metric: Literal["top1", "mean_average_precision"] = "top1"

    @property
    def exceeds_bound(self) -> bool:
        """Whether the loss on the test images is larger than the bound, although its interval includes the bound."""
        return self.lost_points > self.bound_points

    @property
    def loss(self) -> str:
        """The loss on the test images in words, with its interval and the bound."""
        text = (
            f"{self.lost_points:.2f} points lost on {self.images} test images (95% interval {self.lost_low:.2f} to "
            f"{self.lost_high:.2f}; {self.bound_points:g} allowed)"
        )
        return f"{text}, more than allowed, but the interval includes the bound" if self.exceeds_bound else text

    @property
    def chosen_by(self) -> str:
        """The loss on the images of the choice in words."""
        return f"chosen by {self.choice.images} {self.choice.split} images ({self.choice.lost_points:.2f} points lost)"


class Exported(Record):
    """A file exported from a run: its parity check, its int8 accuracy, and its latency on this machine.

    ``latency`` is None if its engine does not run on this machine.
    """

    kind_name: ClassVar[str] = "exported"
    schema_number: ClassVar[int] = 2

    export: Export
    quantized: Quantized | None = None
    latency: Measurement | None = None


class Exports(Record):
    """All files exported from a run."""

    kind_name: ClassVar[str] = "exports"
    schema_number: ClassVar[int] = 2

    files: tuple[Exported, ...] = ()


class CandidateLoss(Record):
    """The loss of accuracy of a candidate in percentage points.

    ``chosen_points`` is the loss on the images by which files are chosen; ``points``, ``low`` and ``high`` are the loss
    on the test images with its 95% interval.
    """

    chosen_points: float
    points: float
    low: float
    high: float


class DeploymentCandidate(Record):
    """A candidate file for deployment.

    Attributes:
        engine: The inference engine.
        precision: float32, float16, bfloat16 or int8.
        size_bytes: Size of the file.
        accuracy: Accuracy on the test images, as a share.
        loss: The loss of accuracy of a file of lower precision; None for float32.
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
    loss: CandidateLoss | None = None
    milliseconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    deployable: bool = True
    chosen: bool = False
    verdict: str = ""


class Deployment(Record):
    """The file chosen for a device, and all candidates.

    Attributes:
        file: Its path in the run's folder.
        device: The target processor.
        threads: Threads of each engine.
        predicted: Whether latencies are predicted by a profile of the device.
        budget: Limits on latency and file size.
        bound_points: Maximum loss of accuracy in percentage points.
        candidates: All candidates, with verdicts.
        quantized: The loss of accuracy of the file, if it has a lower precision than float32.
        open_with: How a program opens the file, if the file alone does not say it.
        time_limit: Seconds that the command was given; candidates that were not tried for it say so.
        machine: This machine.
    """

    kind_name: ClassVar[str] = "deployment"
    schema_number: ClassVar[int] = 3

    file: str
    device: str
    threads: int
    predicted: bool
    budget: Budget | None
    bound_points: float
    candidates: tuple[DeploymentCandidate, ...]
    quantized: Quantized | None = None
    open_with: str = ""
    time_limit: float | None = None
    machine: Machine
