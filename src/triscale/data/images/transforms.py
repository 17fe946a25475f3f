"""Decoded image -> network input: random for training, exact for everything else."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor
from torchvision.transforms import v2

from triscale.data.images.color import GREY, BadImage
from triscale.data.images.decode import Prepared
from triscale.data.images.policies import AutoAugmentV0, RandAugment
from triscale.errors import DataError
from triscale.network.contract import Interpolation, Preprocessing
from triscale.record import Record

Policy = Literal["none", "autoaugment_v0", "randaugment", "autoaugment", "trivialaugment"]
Transform = Callable[[Image.Image], Tensor]
DecodeJpeg = Callable[[bytes], Tensor]
Box = tuple[int, int, int, int]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

REDUCED_SHARE = 2
"""How many times longer than the result a crop's sides still are after a JPEG was decoded at less than its size."""

_SCALES = (8, 4, 2)


class Augmentation(Record):
    """How training images are varied, in the order of the fields.

    Attributes:
        crop_area: smallest and largest share of the image's area that a random crop covers.
        crop_ratio: smallest and largest ratio of width to height of a crop.
        flip: whether half of the images are mirrored left to right.
        policy: a published set of operations on colors and geometry: RandAugment (https://arxiv.org/abs/1909.13719)
            and AutoAugment's policy v0, both as the released EfficientNet code applies them
            (:mod:`triscale.data.images.policies`), or torchvision's AutoAugment, with the ImageNet policy of the paper
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


class TrainTransform:
    """The random transform of training images; all chance is drawn from PyTorch's global generator.

    What is drawn depends on the size of the image and on nothing else, and crop and flip are drawn as torchvision's
    ``v2.RandomResizedCrop`` and ``v2.RandomHorizontalFlip`` do. The crop of ``preprocessing`` is not used: random crops
    take its place. It can be pickled.

    Args:
        preprocessing: gives resolution and interpolation.
        augmentation: how images are varied.
        decode_jpeg: from the bytes of a JPEG to uint8 ``[3, height, width]``, upright; by default Pillow decodes.
    """

    def __init__(
        self, preprocessing: Preprocessing, augmentation: Augmentation, decode_jpeg: DecodeJpeg | None = None
    ) -> None:
        self._side, self._interpolation = preprocessing.resolution, preprocessing.interpolation
        self._area, self._flip = augmentation.crop_area, augmentation.flip
        self._ratio, self._log_ratio = augmentation.crop_ratio, torch.log(torch.tensor(augmentation.crop_ratio))
        self._steps: list[Callable[..., Image.Image]] = list(_policy(augmentation, preprocessing.interpolation))
        if strength := augmentation.color_jitter:
            self._steps.append(v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
        self._erase = v2.RandomErasing(augmentation.erase, value=list(GREY)) if augmentation.erase else None
        # Torch's nearest neighbor is another one than Pillow's.
        self._decode_jpeg = None if preprocessing.interpolation == "nearest" else decode_jpeg

    def __call__(self, image: Image.Image | Prepared) -> Tensor:
        """Map an RGB image or a file to uint8 ``[3, resolution, resolution]``.

        A JPEG whose crop is much larger than the result is decoded at 1/2, 1/4 or 1/8 of its size, which saves most of
        the work; pixels then differ from those of a full decoding by about half a level of 255 on average.

        Raises:
            BadImage: the file is truncated or damaged.
        """
        file = image if isinstance(image, Prepared) else Prepared(image)
        box = self._draw_crop(*file.size)
        scale = self._scale(file, box)
        if self._decode_jpeg is not None and file.jpeg is not None and scale == 1:
            return self._vary_tensor(_resize_tensor(self._decode_jpeg(file.jpeg), box, self._side, self._interpolation))
        return self._vary(_resize_crop(file.load(scale), box, scale, self._side, _RESAMPLING[self._interpolation]))

    def needs_file(self, file: Prepared) -> bool:
        """Return whether the decoded image does not do in place of the file, since some crops are decoded otherwise."""
        if file.jpeg is None:
            return False
        return self._decode_jpeg is not None or min(file.size) >= _SCALES[-1] * REDUCED_SHARE * self._side

    def _vary_tensor(self, piece: Tensor) -> Tensor:
        if self._steps:
            return self._vary(Image.fromarray(piece.permute(1, 2, 0).contiguous().numpy()))
        if self._flip and torch.rand(1).item() < 0.5:
            piece = piece.flip(-1)
        return self._erased(piece)

    def _vary(self, piece: Image.Image) -> Tensor:
        if self._flip and torch.rand(1).item() < 0.5:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for step in self._steps:
            piece = step(piece)
        return self._erased(torch.from_numpy(np.array(piece)).permute(2, 0, 1))

    def _erased(self, piece: Tensor) -> Tensor:
        erased: Tensor = piece if self._erase is None else self._erase(piece)
        return erased

    def _scale(self, file: Prepared, box: Box) -> int:
        shorter = min(box[2] - box[0], box[3] - box[1])
        return next(
            (s for s in _SCALES if shorter >= s * REDUCED_SHARE * self._side and file.can_reduce(s)),
            1,
        )

    def _draw_crop(self, width: int, height: int) -> Box:
        """Draw left, top, right and bottom of a crop, with the calls of torchvision in their order."""
        for _ in range(10):
            area = width * height * torch.empty(1).uniform_(*self._area).item()
            low, high = self._log_ratio.tolist()
            ratio = torch.exp(torch.empty(1).uniform_(low, high)).item()
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                top = int(torch.randint(0, height - down + 1, size=(1,)).item())
                left = int(torch.randint(0, width - across + 1, size=(1,)).item())
                return left, top, left + across, top + down
        across, down = width, height
        if width / height < min(self._ratio):
            down = round(width / min(self._ratio))
        elif width / height > max(self._ratio):
            across = round(height * max(self._ratio))
        left, top = (width - across) // 2, (height - down) // 2
        return left, top, left + across, top + down


def train_transform(
    preprocessing: Preprocessing, augmentation: Augmentation, decode_jpeg: DecodeJpeg | None = None
) -> TrainTransform:
    """Return the random transform of training images."""
    return TrainTransform(preprocessing, augmentation, decode_jpeg)


def torchcodec_decoder() -> DecodeJpeg:
    """Return the JPEG decoder of torchcodec, an optional library; its pixels are those of Pillow.

    Raises:
        DataError: torchcodec is not there, or cannot be loaded.
    """
    try:
        module = importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"torchcodec cannot be loaded ({reason}); pip install triscale[fast], or do without") from error
    return _Torchcodec(module.decode_image)


@dataclass(frozen=True, slots=True)
class _Torchcodec:
    decode_image: Callable[[bytes], Tensor]

    def __call__(self, content: bytes) -> Tensor:
        try:
            return self.decode_image(content)
        except RuntimeError as error:
            raise BadImage("damaged JPEG (torchcodec cannot decode it)") from error


def _resize_crop(image: Image.Image, box: Box, scale: int, side: int, resampling: Image.Resampling) -> Image.Image:
    """Cut a box out of an image that is ``scale`` times smaller than the box takes it to be, and resize it."""
    if scale == 1:
        return image.crop(box).resize((side, side), resampling)
    left, top, right, bottom = (edge / scale for edge in box)
    right, bottom = min(right, image.width), min(bottom, image.height)
    x, y = math.floor(left), math.floor(top)
    outer = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    return outer.resize((side, side), resampling, box=(left - x, top - y, right - x, bottom - y))


def _resize_tensor(image: Tensor, box: Box, side: int, interpolation: Interpolation) -> Tensor:
    """Cut a box out of ``[3, H, W]`` and resize it; within a level of what Pillow makes of it."""
    left, top, right, bottom = box
    piece = image[None, :, top:bottom, left:right]
    return F.interpolate(piece, (side, side), mode=interpolation, antialias=True)[0]


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
    mean, std = _moments(preprocessing.mean, preprocessing.std, images.device)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


@lru_cache(maxsize=8)
def _moments(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return both as tensors on the device; made once, as each copy to a GPU would wait for it."""
    # Not in inference mode, whose tensors autograd refuses later.
    with torch.inference_mode(mode=False):
        made = [torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std)]
    return made[0], made[1]
