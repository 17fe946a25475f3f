"""Measure the faithfulness of a map by deletion and insertion curves.

Deletion and insertion (Petsiuk et al. 2018, RISE, https://arxiv.org/abs/1806.07421): pixels are removed from the image,
or inserted into a blurred one, in descending order of the map, and the probability of the class is recorded. With a
faithful map, the probability falls fast during deletion and rises fast during insertion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triscale.network.contract import Link
from triscale.nn.probabilities import probabilities

STEPS = 32
BATCH = 16
BLUR_SIGMA = 1 / 8
"""Standard deviation of the blur that insertion starts from, relative to the side."""


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Deletion and insertion curves of a map.

    An informative map has a smaller deletion area and a larger insertion area than a random order of pixels.

    Attributes:
        deletion: Probability of the class after each step, ``steps + 1`` values.
        insertion: Probability of the class after each step, ``steps + 1`` values.
        random_deletion: Area under the deletion curve for a random order.
        random_insertion: Area under the insertion curve for a random order.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    random_deletion: float
    random_insertion: float

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve, 0 to 1; lower is better."""
        return area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve, 0 to 1; higher is better."""
        return area(self.insertion)


def faithfulness(
    model: nn.Module, image: Tensor, heat: Tensor, label: int, steps: int = STEPS, link: Link = "softmax"
) -> Faithfulness:
    """Record the probability of a class while pixels are deleted from an image and inserted into a blurred one.

    A deleted pixel becomes the mean color of the training images, which is zero after normalization.

    Args:
        model: From ``[N, 3, H, W]`` to logits.
        image: Normalized ``[1, 3, H, W]``.
        heat: A map ``[h, w]`` of any size, resized to the image.
        label: The class.
        steps: Number of steps.
        link: How logits become probabilities.

    Example:
        >>> model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        >>> result = faithfulness(model, torch.ones(1, 3, 8, 8), torch.eye(4), label=1, steps=4)
        >>> len(result.deletion), 0 <= result.insertion_area <= 1
        (5, True)
    """
    height, width = image.shape[-2:]
    resized = F.interpolate(heat[None, None].float(), size=(height, width), mode="bilinear", align_corners=False)
    order = resized.flatten().argsort(descending=True, stable=True)
    random_order = torch.randperm(height * width, generator=torch.Generator().manual_seed(0))
    blurred, blank = _blur(image), torch.zeros_like(image)
    curves = [
        _probabilities(model, start, end, pixels, label, steps, link)
        for start, end, pixels in (
            (image, blank, order),
            (blurred, image, order),
            (image, blank, random_order),
            (blurred, image, random_order),
        )
    ]
    return Faithfulness(curves[0], curves[1], area(curves[2]), area(curves[3]))


def area(curve: tuple[float, ...]) -> float:
    """Return the area under a curve of evenly spaced values on [0, 1], by the trapezoidal rule.

    Example:
        >>> area((1.0, 0.5, 0.0))
        0.5
    """
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


@torch.inference_mode()
def _probabilities(
    model: nn.Module, start: Tensor, end: Tensor, order: Tensor, label: int, steps: int, link: Link
) -> tuple[float, ...]:
    """Return the probabilities while the pixels of ``start`` are replaced by those of ``end`` in the given order."""
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    share = (rank.view(1, 1, *start.shape[-2:]) + 0.5) / len(order)
    levels = torch.arange(steps + 1) / steps
    values: list[float] = []
    for chunk in torch.split(levels, BATCH):
        changed = share < chunk.view(-1, 1, 1, 1)
        logits = model(torch.where(changed, end, start))
        values += probabilities(logits, link)[:, label].tolist()
    return tuple(values)


def _blur(image: Tensor) -> Tensor:
    """Apply a Gaussian blur as two one-dimensional convolutions; edges are replicated."""
    for axis in (2, 3):
        side = image.shape[axis]
        sigma = max(1e-6, side * BLUR_SIGMA)
        radius = max(1, min(side - 1, round(3 * sigma)))
        offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
        kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
        kernel = (kernel / kernel.sum()).view(1, 1, -1, 1) if axis == 2 else (kernel / kernel.sum()).view(1, 1, 1, -1)
        padding = (0, 0, radius, radius) if axis == 2 else (radius, radius, 0, 0)
        padded = F.pad(image, padding, mode="replicate")
        image = F.conv2d(padded, kernel.expand(image.shape[1], 1, *kernel.shape[2:]), groups=image.shape[1])
    return image
