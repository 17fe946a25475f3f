"""Knowledge distillation: a student also learns the probabilities that a trained teacher gives (Hinton et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triscale.network.contract import Link, Preprocessing
from triscale.training.objective import Distillation


class Teacher(Protocol):
    """Gives the logits ``[N, classes]`` that a student learns from."""

    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Return logits.

        Args:
            inputs: What the student sees, augmented, mixed and normalized, ``[N, 3, S, S]``.
            indices: Positions of the images among the training images, ``[N]``.
        """


@dataclass(frozen=True, slots=True)
class MatchingTeacher:
    """A teacher that sees the same augmented and mixed images as the student (Beyer et al. 2022).

    Attributes:
        model: The teacher in evaluation mode, on the student's device.
        student: The preprocessing of the student.
        own: The preprocessing of the teacher.
        columns: For each class of the student, the position of the teacher's logit.
    """

    model: nn.Module
    student: Preprocessing
    own: Preprocessing
    columns: Tensor

    @torch.no_grad()
    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Return the teacher's logits for the student's images, resized and normalized as the teacher expects."""
        del indices
        shape = (1, -1, 1, 1)
        scale = inputs.new_tensor(self.student.std) / inputs.new_tensor(self.own.std)
        shift = (inputs.new_tensor(self.student.mean) - inputs.new_tensor(self.own.mean)) / inputs.new_tensor(
            self.own.std
        )
        images = inputs * scale.view(shape) + shift.view(shape)
        size = self.own.input_shape[1:]
        if images.shape[-2:] != size:
            images = F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)
        logits: Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
        return logits.float()[:, self.columns]


@dataclass(frozen=True, slots=True)
class CachedTeacher:
    """The logits that a teacher gave for every training image once, without augmentation.

    Indices count on if a small set of images is repeated.

    Attributes:
        logits: ``[images, classes]``.

    Example:
        >>> teacher = CachedTeacher(torch.eye(3))
        >>> teacher(torch.zeros(1, 3, 8, 8), torch.tensor([1])).tolist()
        [[0.0, 1.0, 0.0]]
    """

    logits: Tensor

    def __call__(self, inputs: Tensor, indices: Tensor) -> Tensor:
        """Return the logits of the images."""
        return self.logits[indices.to(self.logits.device) % len(self.logits)].to(inputs.device)


def distilled(loss: Tensor, student: Tensor, teacher: Tensor, settings: Distillation, link: Link) -> Tensor:
    """Return the sum over images of the loss, mixed with the divergence of the student from the teacher.

    The divergence is Kullback-Leibler's at a temperature, times the square of the temperature, which keeps the size of
    its gradient; with the link ``sigmoid``, the sum over labels.

    Args:
        loss: The sum of the losses by the labels.
        student: Logits ``[N, classes]``.
        teacher: Logits ``[N, classes]``.
        settings: Weight and temperature.
        link: How logits become probabilities.

    Example:
        >>> logits = torch.tensor([[1.0, 2.0]])
        >>> float(distilled(torch.tensor(3.0), logits, logits, Distillation(weight=0.5), "softmax"))
        1.5
    """
    temperature = settings.temperature
    student, teacher = student / temperature, teacher / temperature
    if link == "softmax":
        divergence = F.kl_div(F.log_softmax(student, 1), F.log_softmax(teacher, 1), reduction="sum", log_target=True)
    else:
        shares = teacher.sigmoid()
        own = F.binary_cross_entropy_with_logits(student, shares, reduction="sum")
        divergence = own - F.binary_cross_entropy_with_logits(teacher, shares, reduction="sum")
    return (1 - settings.weight) * loss + settings.weight * temperature**2 * divergence
