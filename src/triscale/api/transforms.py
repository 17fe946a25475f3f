"""Transforms for training loops of your own: from a PIL image to a normalized tensor."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from triscale.data.images.channels import ImageOrArray, as_image
from triscale.data.images.transforms import Augmentation, eval_transform, normalize, train_transform
from triscale.families.find import as_network
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.nn.classifier import Classifier


class ImageTransform:
    """A transform from an image to a normalized float tensor ``[channels, height, width]``.

    The image is a PIL image of any mode, or a uint8 array ``[H, W, channels]``.

    It can be pickled, as the workers of a ``DataLoader`` require.

    Attributes:
        preprocessing: Resolution, crop, filter, mean and standard deviation.
        augmentation: The augmentation of training images; None for evaluation.

    Example:
        >>> from PIL import Image
        >>> transform = ImageTransform(Preprocessing(resolution=32), None)
        >>> tuple(transform(Image.new("L", (48, 40))).shape)
        (3, 32, 32)
    """

    def __init__(self, preprocessing: Preprocessing, augmentation: Augmentation | None) -> None:
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self._transform = (
            eval_transform(preprocessing) if augmentation is None else train_transform(preprocessing, augmentation)
        )

    def __call__(self, image: ImageOrArray) -> Tensor:
        """Transform one image; training transforms draw from PyTorch's global random generator.

        Args:
            image: A PIL image, or a uint8 array ``[H, W, channels]`` or ``[H, W]``.

        Raises:
            BadImage: It has another number of channels, or is not an image.
        """
        read = as_image(image, self.preprocessing.channels, self.preprocessing.bit_depth)
        return normalize(self._transform(read)[None], self.preprocessing)[0]

    def __repr__(self) -> str:
        """Return what the transform does in short form."""
        kind = "evaluation" if self.augmentation is None else "training"
        return f"ImageTransform({kind}, {self.preprocessing.size} px)"


def transforms(
    network: str | Path | AnyNetwork | Classifier | Preprocessing,
    *,
    train: bool = False,
    augmentation: Augmentation | None = None,
) -> ImageTransform:
    """Return the transform from a PIL image to a network's input.

    Args:
        network: What the images are for: a model, whose pretrained weights say how, a network, its name or file, or a
            preprocessing. Without pretrained weights the mean and standard deviation are the usual ones, for RGB those
            of ImageNet.
        train: Whether to augment at random.
        augmentation: How to augment, if ``train``; by default random crops and flips.

    Returns:
        A function from a PIL image of any mode, or a uint8 array ``[H, W, channels]``, to a normalized float tensor
        ``[channels, height, width]``.

    Raises:
        NetworkError: The network is unknown.

    Example:
        >>> from PIL import Image
        >>> transform = transforms("efficientnet_b0", train=True)
        >>> tuple(transform(Image.new("RGB", (320, 240))).shape)
        (3, 224, 224)
    """
    match network:
        case Preprocessing():
            preprocessing = network
        case Classifier():
            preprocessing = network.preprocessing or Preprocessing.usual(network.network.input_shape)
        case _:
            preprocessing = Preprocessing.usual(as_network(network).input_shape)
    return ImageTransform(preprocessing, (augmentation or Augmentation()) if train else None)
