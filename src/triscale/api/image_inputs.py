"""Images as Python programs hold them: files, bytes, PIL images and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from triscale.data.images.bands import AnyImage
from triscale.data.images.channels import as_image
from triscale.data.images.color import BadImage
from triscale.errors import DataError
from triscale.jobs.inference.predict import ImageClassifier, Prediction, files_of

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""An image file, its content, a PIL image, or a uint8 array ``[H, W]`` or ``[H, W, channels]``."""


def predict_inputs(
    classifier: ImageClassifier, images: ImageLike | Sequence[ImageLike], top: int
) -> Prediction | list[Prediction]:
    """Classify an image, the images of a folder, or a list of images; see :meth:`triscale.Run.predict`.

    Args:
        classifier: The network.
        images: What to classify.
        top: Number of classes per image.

    Raises:
        DataError: A file does not exist, an object is not an image, or there are no images.
    """
    if isinstance(images, str | Path):
        predictions = [_predict(classifier, file, str(file), top) for file in files_of((Path(images),))]
        return predictions if Path(images).is_dir() else predictions[0]
    if isinstance(images, Sequence) and not isinstance(images, bytes):
        if not images:
            raise DataError("no images given; give one or more")
        return [_predict(classifier, image, f"image {number}", top) for number, image in enumerate(images)]
    return _predict(classifier, images, "image", top)


def _predict(classifier: ImageClassifier, image: ImageLike, name: str, top: int) -> Prediction:
    shown = str(image) if isinstance(image, str | Path) else name
    try:
        return classifier.classify(_read(image, classifier), top, shown)
    except BadImage as error:
        return Prediction(file=shown, error=str(error))


def _read(image: object, classifier: ImageClassifier) -> AnyImage:
    """Return any kind of image, upright and with the channels of the training images."""
    match image:
        case str() | Path():
            if not Path(image).exists():
                raise DataError(f"{image} does not exist; give an image file")
            return classifier.read(Path(image))
        case bytes():
            return classifier.read(image)
        case Image.Image() | np.ndarray():
            upright = ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else image
            return as_image(upright, classifier.preprocessing.channels, classifier.preprocessing.bit_depth)
        case _:
            raise DataError(
                f"a {type(image).__name__} is not an image; give a path, bytes, a PIL image or a uint8 array [H, W, 3]"
            )
