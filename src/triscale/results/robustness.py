"""The accuracy of a run on corrupted images."""

from __future__ import annotations

from typing import ClassVar

from triscale.record import Record


class ShareInterval(Record):
    """A share from 0 to 1 with its 95% Wilson interval."""

    value: float
    low: float
    high: float


class CorruptedAccuracy(Record):
    """Top-1 accuracy on images with one corruption at one strength.

    Attributes:
        corruption: The kind.
        strength: 1 to 5.
        amount: What the strength is, in the unit of the kind.
        top1: The accuracy.
    """

    corruption: str
    strength: int
    amount: float
    top1: ShareInterval


class ClassRobustness(Record):
    """Recall of one class, or top-1 accuracy of all.

    Attributes:
        name: Name of the class.
        count: Number of its images.
        clean: Recall on the images as they are; None without images.
        corrupted: For each kind of corruption, the mean over the five strengths. Its interval is that of a share of
            ``count`` images, which is too wide rather than too narrow, since a mean over strengths varies less.
    """

    name: str
    count: int
    clean: ShareInterval | None
    corrupted: tuple[ShareInterval, ...]


class Robustness(Record):
    """The accuracy of a run on test images that were corrupted in five ways at five strengths.

    Attributes:
        images: Number of test images.
        available: Number of test images of the run.
        seed: Seed of the sample and of everything random in the corruptions.
        side: Images were reduced to this shorter side in pixels before they were corrupted.
        kinds: The corruptions, in the order of ``corrupted`` of each class.
        meanings: What the amounts of each kind are.
        all_classes: Top-1 accuracy; its name is empty.
        classes: Recall of each class.
        strengths: Top-1 accuracy for each kind and strength.
    """

    kind_name: ClassVar[str] = "robustness"

    images: int
    available: int
    seed: int
    side: int
    kinds: tuple[str, ...]
    meanings: tuple[str, ...]
    all_classes: ClassRobustness
    classes: tuple[ClassRobustness, ...]
    strengths: tuple[CorruptedAccuracy, ...]
