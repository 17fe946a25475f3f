"""Turn images into network input: random augmentation for training, deterministic for everything else."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor
from torchvision.transforms import v2

from triscale.data.images.bands import AnyImage, to_array
from triscale.data.images.channels import PICTURE_CHANNELS
from triscale.data.images.color import GRAY, BadImage
from triscale.data.images.decode import LazyImage
from triscale.data.images.policies import AutoAugmentV0, RandAugment
from triscale.errors import DataError, RecipeError
from triscale.network.contract import Interpolation, Preprocessing
from triscale.network.input_size import InputSize
from triscale.record import Record

Policy = Literal["none", "autoaugment_v0", "randaugment", "autoaugment", "trivialaugment"]
Transform = Callable[[AnyImage], Tensor]
DecodeJpeg = Callable[[bytes], Tensor]
Box = tuple[int, int, int, int]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

MIN_REDUCED_RATIO = 2
"""Minimum ratio of a crop's shorter side to the resolution after a JPEG was decoded at a reduced size."""

_REDUCTIONS = (8, 4, 2)
"""The fractions of its size at which libjpeg decodes, as denominators, cheapest first."""


class Augmentation(Record):
    """How training images are augmented, applied in the order of the fields.

    Attributes:
        crop_area: Minimum and maximum fraction of the image's area that a random crop covers; if the input of the
            network is not square, of the area of the largest rectangle with its aspect ratio.
        crop_ratio: Minimum and maximum ratio of width to height of a crop, relative to that of the network's input.
        flip: Whether half of the images are flipped horizontally. None flips them, unless a training finds class names
            that a mirror exchanges, such as left and right, or digits and letters.
        policy: Published operations on colors and geometry: ``randaugment`` (https://arxiv.org/abs/1909.13719) and
            ``autoaugment_v0``, both as in the released EfficientNet code (:mod:`triscale.data.images.policies`), or
            torchvision's ``autoaugment``, with the ImageNet policy of the paper (https://arxiv.org/abs/1805.09501),
            and ``trivialaugment`` (https://arxiv.org/abs/2103.10158).
        layers: Number of operations in a row, for RandAugment.
        magnitude: Strength of the operations, for RandAugment; 10 is the end of AutoAugment's scale, EfficientNet-B5
            was trained with 17, B7 with 28.
        color_jitter: Maximum relative change of brightness, contrast and saturation.
        erase: Probability of random erasing, which grays out a rectangle of 2-33% of the area
            (https://arxiv.org/abs/1708.04896).

    Example:
        >>> Augmentation(policy="randaugment", magnitude=17).layers
        2
    """

    kind_name: ClassVar[str] = "augmentation"

    crop_area: tuple[float, float] = (0.35, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool | None = None
    policy: Policy = "none"
    layers: PositiveInt = 2
    magnitude: NonNegativeFloat = Field(default=9, le=30)
    color_jitter: float = Field(default=0.0, ge=0, le=1)
    erase: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _check_ranges(self) -> Augmentation:
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ValueError(f"crop_area is {self.crop_area}; expected 0 < minimum <= maximum <= 1")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"crop_ratio is {self.crop_ratio}; expected 0 < minimum <= maximum")
        return self


class TrainTransform:
    """The random transform of training images; all random numbers come from PyTorch's global generator.

    The numbers drawn depend on nothing but the size of the image. Crop and flip draw them in the order of torchvision's
    ``v2.RandomResizedCrop`` and ``v2.RandomHorizontalFlip``. Random crops replace the center crop of
    ``preprocessing``. The transform can be pickled.

    Args:
        preprocessing: Gives resolution and interpolation.
        augmentation: How images are augmented.
        decode_jpeg: From the bytes of a JPEG to uint8 ``[3, height, width]``, upright; by default Pillow decodes.

    Raises:
        RecipeError: See :func:`check_channels`.

    Example:
        >>> transform = TrainTransform(Preprocessing(resolution=32), Augmentation())
        >>> tuple(transform(Image.new("RGB", (64, 48))).shape)
        (3, 32, 32)
    """

    def __init__(
        self, preprocessing: Preprocessing, augmentation: Augmentation, decode_jpeg: DecodeJpeg | None = None
    ) -> None:
        check_channels(augmentation, preprocessing.channels)
        self._size, self._interpolation = preprocessing.size, preprocessing.interpolation
        self._area, self._flip = augmentation.crop_area, augmentation.flip is not False
        across, down = self._size.ratio
        low, high = augmentation.crop_ratio
        self._ratio = (low * across / down, high * across / down)
        self._log_ratio = torch.log(torch.tensor(self._ratio))
        self._steps: list[Callable[..., Image.Image]] = list(_policy(augmentation, preprocessing.interpolation))
        if strength := augmentation.color_jitter:
            self._steps.append(v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength))
        fill = [GRAY[0]] * preprocessing.channels
        self._erase = v2.RandomErasing(augmentation.erase, value=fill) if augmentation.erase else None
        # PyTorch's nearest neighbor picks other pixels than Pillow's, and its gray differs.
        can_decode = preprocessing.interpolation != "nearest" and preprocessing.channels == 3
        self._decode_jpeg = decode_jpeg if can_decode else None

    def __call__(self, image: AnyImage | LazyImage) -> Tensor:
        """Transform an image or a file to uint8 ``[channels, height, width]``.

        A JPEG whose crop is much larger than the result is decoded at 1/2, 1/4 or 1/8 of its size, which saves most of
        the work; its pixels then differ from a full decoding by about half a level of 255 on average.

        Raises:
            BadImage: The file is truncated or damaged.
        """
        file = image if isinstance(image, LazyImage) else LazyImage(image)
        box = self._draw_crop(*file.size)
        scale = self._scale(file, box)
        if self._decode_jpeg is not None and file.jpeg is not None and scale == 1:
            decoded = self._decode_jpeg(file.jpeg)
            return self._augment_tensor(_resize_tensor(decoded, box, self._size, self._interpolation))
        return self._augment(_resize_crop(file.load(scale), box, scale, self._size, _RESAMPLING[self._interpolation]))

    def needs_file(self, file: LazyImage) -> bool:
        """Return whether some crops need the encoded file, so that caching its decoded image would change pixels."""
        if file.jpeg is None:
            return False
        return self._decode_jpeg is not None or self._can_shrink(*file.size, _REDUCTIONS[-1])

    def _augment_tensor(self, piece: Tensor) -> Tensor:
        if self._steps:
            return self._augment(Image.fromarray(piece.permute(1, 2, 0).contiguous().numpy()))
        if self._flip and torch.rand(1).item() < 0.5:
            piece = piece.flip(-1)
        return self._erased(piece)

    def _augment(self, piece: AnyImage) -> Tensor:
        if self._flip and torch.rand(1).item() < 0.5:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self._steps:
            assert isinstance(piece, Image.Image)  # check_channels() refuses the others
            mode, piece = piece.mode, piece.convert("RGB")
            for step in self._steps:
                piece = step(piece)
            piece = piece.convert(mode)
        return self._erased(_to_tensor(piece))

    def _erased(self, piece: Tensor) -> Tensor:
        erased: Tensor = piece if self._erase is None else self._erase(piece)
        return erased

    def _scale(self, file: LazyImage, box: Box) -> int:
        width, height = box[2] - box[0], box[3] - box[1]
        return next((s for s in _REDUCTIONS if self._can_shrink(width, height, s) and file.can_reduce(s)), 1)

    def _can_shrink(self, width: int, height: int, scale: int) -> bool:
        factor = scale * MIN_REDUCED_RATIO
        return width >= factor * self._size.width and height >= factor * self._size.height

    def _draw_crop(self, width: int, height: int) -> Box:
        """Draw left, top, right and bottom of a random crop, with the same calls as torchvision in the same order."""
        whole: float = width * height
        across, down = self._size.ratio
        if across != down:
            whole = min(width * width * down / across, height * height * across / down)
        for _ in range(10):
            area = whole * torch.empty(1).uniform_(*self._area).item()
            low, high = self._log_ratio.tolist()
            ratio = torch.exp(torch.empty(1).uniform_(low, high)).item()
            crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                top = int(torch.randint(0, height - crop_height + 1, size=(1,)).item())
                left = int(torch.randint(0, width - crop_width + 1, size=(1,)).item())
                return left, top, left + crop_width, top + crop_height
        crop_width, crop_height = width, height
        if width / height < min(self._ratio):
            crop_height = round(width / min(self._ratio))
        elif width / height > max(self._ratio):
            crop_width = round(height * max(self._ratio))
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        return left, top, left + crop_width, top + crop_height


def train_transform(
    preprocessing: Preprocessing, augmentation: Augmentation, decode_jpeg: DecodeJpeg | None = None
) -> TrainTransform:
    """Return the random transform of training images; see :class:`TrainTransform`."""
    return TrainTransform(preprocessing, augmentation, decode_jpeg)


def torchcodec_decoder() -> DecodeJpeg:
    """Return the JPEG decoder of torchcodec, an optional library; it decodes to the same pixels as Pillow.

    Raises:
        DataError: torchcodec is not installed, or cannot be loaded.
    """
    try:
        module = importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"torchcodec cannot be loaded ({reason}); install it with: pip install 'triscale[fast]', or leave it out"
        ) from error
    return _Torchcodec(module.decode_image)


@dataclass(frozen=True, slots=True)
class _Torchcodec:
    decode_image: Callable[[bytes], Tensor]

    def __call__(self, content: bytes) -> Tensor:
        try:
            return self.decode_image(content)
        except RuntimeError as error:
            raise BadImage("damaged JPEG (torchcodec cannot decode it)") from error


def check_channels(augmentation: Augmentation, channels: int) -> None:
    """Check that images of a number of channels can be augmented: colors need gray or RGB.

    Args:
        augmentation: How training images are augmented.
        channels: Number of channels.

    Raises:
        RecipeError: The augmentation changes colors, and images are neither gray nor RGB.

    Example:
        >>> check_channels(Augmentation(flip=True, erase=0.25), channels=5)
        >>> check_channels(Augmentation(policy="randaugment"), channels=1)
    """
    if channels in PICTURE_CHANNELS:
        return
    for name, off in (("policy", "none"), ("color_jitter", 0)):
        value = getattr(augmentation, name)
        if value != off:
            raise RecipeError(
                f"{name}={value} changes colors, and images of {channels} channels have none; use crops, flips and "
                f"random erasing only: --set augmentation.{name}={off}"
            )


def _to_tensor(image: AnyImage) -> Tensor:
    return torch.from_numpy(to_array(image)).permute(2, 0, 1)


def _resize_crop(image: AnyImage, box: Box, scale: int, size: InputSize, resampling: Image.Resampling) -> AnyImage:
    """Crop a box, given in pixels of the full-size image, out of an image decoded at ``1 / scale``, and resize it."""
    target = (size.width, size.height)
    if scale == 1:
        return image.crop(box).resize(target, resampling)
    left, top, right, bottom = (edge / scale for edge in box)
    right, bottom = min(right, image.width), min(bottom, image.height)
    x, y = math.floor(left), math.floor(top)
    outer = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    return outer.resize(target, resampling, box=(left - x, top - y, right - x, bottom - y))


def _resize_tensor(image: Tensor, box: Box, size: InputSize, interpolation: Interpolation) -> Tensor:
    """Crop a box out of uint8 ``[3, H, W]`` and resize it; within one level of Pillow's result."""
    left, top, right, bottom = box
    piece = image[None, :, top:bottom, left:right]
    return F.interpolate(piece, (size.height, size.width), mode=interpolation, antialias=True)[0]


def _policy(augmentation: Augmentation, interpolation: Interpolation) -> list[Callable[[Image.Image], Image.Image]]:
    # Rotations and shears of PIL images have no antialiasing; bilinear is smooth and fast.
    mode = v2.InterpolationMode("nearest" if interpolation == "nearest" else "bilinear")
    fill = list(GRAY)
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
    preprocessing: Preprocessing

    def __call__(self, image: AnyImage) -> Tensor:
        size, resampling = self.preprocessing.size, _RESAMPLING[self.preprocessing.interpolation]
        box = center_box(image.size, self.preprocessing)
        return _to_tensor(image.resize((size.width, size.height), resampling, box=box))


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """Return the deterministic transform for evaluation and prediction: center crop and one resize.

    The edges of the crop may lie between pixels; nothing is rounded. The filter sees the pixels beyond the edges, so
    the result equals resizing the whole image and then cropping it.

    Returns:
        A function from an image of any size to a uint8 tensor ``[channels, height, width]``; it can be pickled.

    Example:
        >>> transform = eval_transform(Preprocessing(resolution=32))
        >>> tuple(transform(Image.new("RGB", (64, 48))).shape)
        (3, 32, 32)
    """
    return _Center(preprocessing)


def center_box(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the part of an image that evaluation looks at, in pixels.

    Args:
        size: Width and height of the image.
        preprocessing: Gives the aspect ratio and the crop.

    Example:
        >>> center_box((320, 240), Preprocessing(resolution=32, crop=0.5))
        (100.0, 60.0, 220.0, 180.0)
        >>> center_box((320, 240), Preprocessing(resolution=32, aspect_ratio=(4, 1)))
        (0.0, 80.0, 320.0, 160.0)
    """
    across, down = preprocessing.size.ratio
    unit = preprocessing.crop * min(size[0] / across, size[1] / down)
    width, height = unit * across, unit * down
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def normalize(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Normalize 8-bit images on the device where they are.

    Args:
        images: uint8 ``[..., channels, height, width]``.
        preprocessing: Gives mean and standard deviation of each channel, for values from 0 to 1.

    Returns:
        float32 of the same shape: ``(images / 255 - mean) / std``.

    Example:
        >>> contract = Preprocessing(resolution=1, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> normalize(torch.full((3, 1, 1), 255, dtype=torch.uint8), contract).flatten().tolist()
        [1.0, 1.0, 1.0]
    """
    mean, std = _moments(preprocessing.mean, preprocessing.std, images.device)
    return images.to(torch.float32).div_(255).sub_(mean).div_(std)


@lru_cache(maxsize=8)
def _moments(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return both as tensors on the device; cached, as each copy to a GPU would synchronize with it."""
    # Not in inference mode: autograd refuses inference tensors later.
    with torch.inference_mode(mode=False):
        tensors = [torch.tensor(values, device=device).view(-1, 1, 1) for values in (mean, std)]
    return tensors[0], tensors[1]
