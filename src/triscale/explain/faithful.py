"""How faithful a map is, as a number: what becomes of the answer as the pixels that it marks go or come.

Deletion and insertion curves (Petsiuk et al. 2018): pixels are taken in the order of the map, the greatest value first,
out of the image or into a blurred one, and the probability of the class is followed. A faithful map makes it fall fast
and rise fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS = 32
BATCH = 16
BLUR_SHARE = 1 / 8
"""Standard deviation of the blur that an insertion begins with, as a share of the side."""


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """Probabilities of the class after each step, ``STEPS + 1`` of each, and the areas under the curves (0 to 1).

    ``random_deletion`` and ``random_insertion`` are the areas for pixels in the order of chance, to compare with: a map
    that says something has a smaller area of deletion and a greater one of insertion.
    """

    deletion: tuple[float, ...]
    insertion: tuple[float, ...]
    random_deletion: float
    random_insertion: float

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve; the smaller, the better."""
        return area(self.deletion)

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve; the greater, the better."""
        return area(self.insertion)


def faithfulness(model: nn.Module, image: Tensor, heat: Tensor, label: int, steps: int = STEPS) -> Faithfulness:
    """Follow the probability of a class as pixels are deleted from an image and inserted into a blurred one.

    A deleted pixel becomes the mean color of the training images, which is zero after normalization.

    Args:
        model: takes ``[N, 3, H, W]``.
        image: normalized ``[1, 3, H, W]``.
        heat: map ``[h, w]`` of any size, stretched to the image.
        label: the class.
        steps: parts into which the pixels are divided.
    """
    height, width = image.shape[-2:]
    stretched = F.interpolate(heat[None, None].float(), size=(height, width), mode="bilinear", align_corners=False)
    order = stretched.flatten().argsort(descending=True, stable=True)
    chance = torch.randperm(height * width, generator=torch.Generator().manual_seed(0))
    blurred, gone = _blurred(image), torch.zeros_like(image)
    curves = [
        _follow(model, start, end, places, label, steps)
        for start, end, places in (
            (image, gone, order),
            (blurred, image, order),
            (image, gone, chance),
            (blurred, image, chance),
        )
    ]
    return Faithfulness(curves[0], curves[1], area(curves[2]), area(curves[3]))


def area(curve: tuple[float, ...]) -> float:
    """Return the area under a curve of evenly spaced values, by trapezoids; the whole width is 1."""
    return (sum(curve) - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


@torch.inference_mode()
def _follow(model: nn.Module, start: Tensor, end: Tensor, order: Tensor, label: int, steps: int) -> tuple[float, ...]:
    """Return the probabilities as pixels of ``start`` become those of ``end``, in an order."""
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    share = (rank.view(1, 1, *start.shape[-2:]) + 0.5) / len(order)
    levels = torch.arange(steps + 1) / steps
    found: list[float] = []
    for part in torch.split(levels, BATCH):
        changed = share < part.view(-1, 1, 1, 1)
        logits = model(torch.where(changed, end, start))
        found += logits.double().softmax(1)[:, label].tolist()
    return tuple(found)


def _blurred(image: Tensor) -> Tensor:
    """Blur by a Gaussian whose standard deviation is an eighth of the side; edges are repeated."""
    for axis in (2, 3):
        side = image.shape[axis]
        deviation = max(1e-6, side * BLUR_SHARE)
        reach = max(1, min(side - 1, round(3 * deviation)))
        offsets = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
        kernel = torch.exp(-(offsets**2) / (2 * deviation**2))
        kernel = (kernel / kernel.sum()).view(1, 1, -1, 1) if axis == 2 else (kernel / kernel.sum()).view(1, 1, 1, -1)
        padding = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        padded = F.pad(image, padding, mode="replicate")
        image = F.conv2d(padded, kernel.expand(image.shape[1], 1, *kernel.shape[2:]), groups=image.shape[1])
    return image
