"""AutoAugment v0 and RandAugment as in the released EfficientNet code, with levels from 0 to 10 and beyond.

torchvision's versions use other operations and strengths, and the paper's magnitude of 17 does not exist there. Source
of operations, levels and policy: ``autoaugment.py`` of the EfficientNet code,
https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/autoaugment.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image, ImageEnhance, ImageOps

from triscale.data.images.color import GRAY

REFERENCE_SIDE = 224
"""For images below this side in pixels, translations and cutouts shrink with the image.

This departs from the released code, whose translations have a fixed number of pixels.
"""

_SCALE = 10.0
_FULL = 256


@dataclass(frozen=True, slots=True)
class Strength:
    """Strengths that the released code sets per policy, in pixels at level 10."""

    translate: float
    cutout: float


RANDAUGMENT = Strength(translate=100, cutout=40)
AUTOAUGMENT = Strength(translate=250, cutout=100)

Operation = Callable[[Image.Image, float, Strength], Image.Image]
"""An operation on an RGB image at a level of 0 or more."""


def _auto_contrast(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del level, strength
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del level, strength
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del level, strength
    return ImageOps.invert(image)


def _rotate(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del strength
    return image.rotate(_signed(level / _SCALE * 30), resample=Image.Resampling.BILINEAR, fillcolor=GRAY)


def _posterize(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    """Keep the highest bits: 0 at level 0, 4 at level 10."""
    del strength
    bits = min(8, int(level / _SCALE * 4))
    mask = (0xFF << (8 - bits)) & 0xFF
    return image.point([value & mask for value in range(_FULL)] * 3)


def _solarize(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    """Invert values above a threshold that grows with the level."""
    del strength
    return ImageOps.solarize(image, int(level / _SCALE * _FULL))


def _solarize_add(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    """Add up to 110 (at level 10) to values below 128."""
    del strength
    added = int(level / _SCALE * 110)
    return image.point([min(255, value + added) if value < 128 else value for value in range(_FULL)] * 3)


def _color(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del strength
    return ImageEnhance.Color(image).enhance(_factor(level))


def _contrast(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del strength
    return ImageEnhance.Contrast(image).enhance(_factor(level))


def _brightness(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del strength
    return ImageEnhance.Brightness(image).enhance(_factor(level))


def _sharpness(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del strength
    return ImageEnhance.Sharpness(image).enhance(_factor(level))


def _shear_x(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del strength
    return _affine(image, (1, _signed(level / _SCALE * 0.3), 0, 0, 1, 0))


def _shear_y(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    del strength
    return _affine(image, (1, 0, 0, _signed(level / _SCALE * 0.3), 1, 0))


def _translate_x(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    return _affine(image, (1, 0, _signed(_pixels(image, level, strength.translate)), 0, 1, 0))


def _translate_y(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    return _affine(image, (1, 0, 0, 0, 1, _signed(_pixels(image, level, strength.translate))))


def _cutout(image: Image.Image, level: float, strength: Strength) -> Image.Image:
    """Gray out a square around a random pixel; the level gives half its side."""
    half = int(_pixels(image, level, strength.cutout))
    x, y = (int(torch.randint(0, side, ())) for side in image.size)
    cut = image.copy()
    cut.paste(GRAY, (x - half, y - half, x + half, y + half))
    return cut


def _factor(level: float) -> float:
    return level / _SCALE * 1.8 + 0.1


def _pixels(image: Image.Image, level: float, at_full: float) -> float:
    return level / _SCALE * at_full * min(1.0, min(image.size) / REFERENCE_SIDE)


def _signed(value: float) -> float:
    return value if torch.rand(()) < 0.5 else -value


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR, fillcolor=GRAY
    )


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Cutout": _cutout,
    "SolarizeAdd": _solarize_add,
}

Step = tuple[str, float, int]
"""An operation, the probability that it is applied, and its level."""

POLICY_V0: tuple[tuple[Step, Step], ...] = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)


@dataclass(frozen=True, slots=True)
class RandAugment:
    """RandAugment (https://arxiv.org/abs/1909.13719): random operations in a row, all at one magnitude.

    Attributes:
        layers: Number of operations in a row.
        magnitude: Level of every operation; 10 is the end of AutoAugment's scale.

    Example:
        >>> RandAugment(layers=2, magnitude=9)(Image.new("RGB", (8, 8))).size
        (8, 8)
    """

    layers: int
    magnitude: float

    def __call__(self, image: Image.Image) -> Image.Image:
        """Augment an RGB image with random numbers from PyTorch's global generator."""
        names = list(OPERATIONS)
        for choice in torch.randint(0, len(names), (self.layers,)).tolist():
            image = OPERATIONS[names[choice]](image, self.magnitude, RANDAUGMENT)
        return image


@dataclass(frozen=True, slots=True)
class AutoAugmentV0:
    """AutoAugment's policy v0: apply one of its 25 pairs of operations."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Augment an RGB image with random numbers from PyTorch's global generator."""
        for name, probability, level in POLICY_V0[int(torch.randint(0, len(POLICY_V0), ()))]:
            if torch.rand(()) < probability:
                image = OPERATIONS[name](image, level, AUTOAUGMENT)
        return image
