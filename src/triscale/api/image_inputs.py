"""Images as Python programs hold them: files, bytes, PIL images and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from triscale.data.images.bands import AnyImage
from triscale.data.images.channels import as_image
from triscale.errors import DataError
from triscale.jobs.inference.predict import ImageClassifier

ImageLike = str | Path | bytes | Image.Image | np.ndarray
"""An image file, its content, a PIL image, or a uint8 array ``[H, W]`` or ``[H, W, channels]``."""


def read_input(image: object, classifier: ImageClassifier) -> AnyImage:
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
