"""Decoded image -> network input: random for training, exact for everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor
from torchvision.transforms import v2

from triscale.data.color import GREY
from triscale.data.policies import AutoAugmentV0, RandAugment
from triscale.network.contract import Interpolation, Preprocessing
from triscale.record import Record

Policy = Literal["none", "autoaugment_v0", "randaugment", "autoaugment", "trivialaugment"]
Transform = Callable[[Image.Image], Tensor]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class Augmentation(Record):
    """How training images are varied, in the order of the fields.

    Attributes:
        crop_area: smallest and largest share of the image's area that a random crop covers.
        crop_ratio: smallest and largest ratio of width to height of a crop.
        flip: whether half of the images are mirrored left to right.
        policy: a published set of operations on colors and geometry: RandAugment (https://arxiv.org/abs/1909.13719)
            and AutoAugment's policy v0, both as the released EfficientNet code applies them
            (:mod:`triscale.data.policies`), or torchvision's AutoAugment, with the ImageNet policy of the paper
            (https://arxiv.org/abs/1805.09501), and TrivialAugment (https://arxiv.org/abs/2103.10158).
        layers: number of operations in a row, for RandAugment.
        magnitude: strength of the operations, for RandAugment; 10 is the end of AutoAugment's scale, EfficientNet B5
            was trained with 17, B7 with 28.
        color_jitter: greatest relative change of brightness, contrast and saturation.
        erase: probability that a rectangle of 2 to 33 % of the area is greyed out (https://arxiv.org/abs/1708.04896).
    """

    kind_name: ClassVar[str] = "augmentation"

    crop_area: tuple[float, float] = (0.35, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    policy: Policy = "none"
    layers: PositiveInt = 2
    magnitude: NonNegativeFloat = Field(default=9, le=30)
    color_jitter: float = Field(default=0.0, ge=0, le=1)
    erase: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _check_ranges(self) -> Augmentation:
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area is {self.crop_area}; expected 0 < smallest <= largest <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"crop_ratio is {self.crop_ratio}; expected 0 < smallest <= largest")
        return self


def train_transform(preprocessing: Preprocessing, augmentation: Augmentation) -> Transform:
    """Return the random transform of training images; all chance is drawn from PyTorch's global generator.

    The crop of ``preprocessing`` is not used: random crops take its place.

    Returns:
        A function from an RGB image of any size to a uint8 tensor ``[3, resolution, resolution]``; it can be pickled.
    """
    interpolation = v2.InterpolationMode(preprocessing.interpolation)
    steps: list[Callable[..., object]] = [
        v2.RandomResizedCrop(
            preprocessing.resolution,
            scale=augmentation.crop_area,
            ratio=augmentation.crop_ratio,
            interpolation=interpolation,
            antialias=True,
        )
    ]
    if augmentation.flip:
        steps.append(v2.RandomHorizontalFlip(0.5))
    steps += _policy(augmentation, preprocessing.interpolation)
    if strength := augmentation.color_jitter:
        steps.append(v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
    steps.append(v2.PILToTensor())
    if augmentation.erase:
        steps.append(v2.RandomErasing(augmentation.erase, value=list(GREY)))
    transform: Transform = v2.Compose(steps)
    return transform


def _policy(augmentation: Augmentation, interpolation: Interpolation) -> list[Callable[[Image.Image], Image.Image]]:
    # Rotations and shears of PIL images know no antialiasing; bilinear is their smooth and fast way.
    mode = v2.InterpolationMode("nearest" if interpolation == "nearest" else "bilinear")
    fill = list(GREY)
    match augmentation.policy:
        case "none":
            return []
        case "randaugment":
            return [RandAugment(augmentation.layers, augmentation.magnitude)]
        case "autoaugment_v0":
            return [AutoAugmentV0()]
        case "autoaugment":
            return [v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET, interpolation=mode, fill=fill)]
        case "trivialaugment":
            return [v2.TrivialAugmentWide(interpolation=mode, fill=fill)]


@dataclass(frozen=True, slots=True)
class _Center:
    resolution: int
    crop: float
    resampling: Image.Resampling

    def __call__(self, image: Image.Image) -> Tensor:
        side = self.crop * min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        size = (self.resolution, self.resolution)
        resized = image.resize(size, self.resampling, box=(left, top, left + side, top + side))
        tensor: Tensor = v2.functional.pil_to_tensor(resized)
        return tensor


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Return the transform of images outside training: center square and one resize, without chance.

    The square's edges may lie between pixels, nothing is rounded. At its edges the filter sees the pixels beyond them,
    so that the result is what resizing the whole image and cropping it afterwards gives.

    Returns:
        A function from an RGB image of any size to a uint8 tensor ``[3, resolution, resolution]``; it can be pickled.
    """
    return _Center(preprocessing.resolution, preprocessing.crop, _RESAMPLING[preprocessing.interpolation])


def normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn 8-bit images into network input on the device where they are.

    Args:
        images: uint8 ``[..., 3, height, width]``.
        preprocessing: gives mean and standard deviation of each channel, of values from 0 to 1.

    Returns:
        float32 of the same shape: ``(images / 255 - mean) / std``.
    """
    mean = torch.tensor(preprocessing.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=images.device).view(3, 1, 1)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)
