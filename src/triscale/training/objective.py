"""What a network learns, and how its outputs become answers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from triscale.network.contract import Link
from triscale.record import Record

ClassWeights = Literal["none", "balanced"]
Sampling = Literal["uniform", "balanced"]


class CrossEntropy(Record):
    """Cross-entropy of the softmax; for several labels per image, of each class's sigmoid."""

    kind: Literal["cross_entropy"] = "cross_entropy"


class Focal(Record):
    """Cross-entropy times ``(1 - p) ** gamma``, where p is the probability of the target (Lin et al. 2017).

    It gives less weight to images that are classified well already.
    """

    kind: Literal["focal"] = "focal"
    gamma: NonNegativeFloat = 2.0


class Asymmetric(Record):
    """Focal loss with a stronger focus for absent labels, of which there are many more (Ben-Baruch et al. 2020).

    Only for several labels per image. Probabilities of absent labels are reduced by ``margin`` first, at least to 0.
    """

    kind: Literal["asymmetric"] = "asymmetric"
    gamma_present: NonNegativeFloat = 0.0
    gamma_absent: NonNegativeFloat = 4.0
    margin: float = Field(default=0.05, ge=0, lt=1)


Loss = Annotated[CrossEntropy | Focal | Asymmetric, Field(discriminator="kind")]


class Distillation(Record):
    """How a student learns from a teacher; unused without one.

    Attributes:
        weight: Share of the divergence from the teacher in the loss; the rest is the loss by the labels.
        temperature: Divides the logits of both, so that less probable classes matter more.
        inputs: ``augmented``: the teacher sees what the student sees, at the cost of its forward pass in every step.
            ``original``: it sees every image once, without augmentation, and its logits are kept.
    """

    weight: float = Field(default=0.5, gt=0, le=1)
    temperature: PositiveFloat = 2.0
    inputs: Literal["augmented", "original"] = "augmented"


class Objective(Record):
    """What is learned and how it is judged: the loss, the link from logits to probabilities, the decision.

    Attributes:
        multi_label: Whether an image has any number of labels, instead of exactly one.
        loss: The loss of one image; for several labels, the sum over classes.
        label_smoothing: Share of the target that is spread over all classes; unused with several labels.
        class_weights: Factor on the loss of each class, on average 1 over the training images; with several labels,
            factor on the loss of present labels. None for 1.
        offsets: Added to the logits during training, for logit adjustment (Menon et al. 2021); None for 0.

    Example:
        >>> Objective(multi_label=True).link, Objective().decision
        ('sigmoid', 'argmax')
    """

    multi_label: bool = False
    loss: Loss = CrossEntropy()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    class_weights: tuple[float, ...] | None = None
    offsets: tuple[float, ...] | None = None

    @property
    def link(self) -> Link:
        """How logits become probabilities."""
        return "sigmoid" if self.multi_label else "softmax"

    @property
    def decision(self) -> Literal["argmax", "thresholds"]:
        """How probabilities become an answer: the most probable class, or all classes above their thresholds."""
        return "thresholds" if self.multi_label else "argmax"

    @property
    def metric(self) -> Literal["top1", "mean_average_precision"]:
        """The metric that chooses among the epochs of a training."""
        return "mean_average_precision" if self.multi_label else "top1"
