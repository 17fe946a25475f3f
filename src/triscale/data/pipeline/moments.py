"""Measure mean and standard deviation of the channels of training images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.network.contract import Preprocessing, Values

MAX_IMAGES = 512
"""Maximum number of images that are read."""

MIN_STD = 1 / 255
"""Minimum standard deviation: that of a channel that is almost constant would amplify its noise."""

_BATCH = 16


def channel_moments(
    samples: Sequence[Sample], root: str | Path, preprocessing: Preprocessing, *, workers: int = 0
) -> tuple[Values, Values]:
    """Return mean and standard deviation of each channel over up to 512 evenly spaced images.

    Channels other than gray and RGB have no usual values. The sums are sums of integers, so that the result depends
    neither on the number of workers nor on the machine.

    Args:
        samples: Training images.
        root: The root of the split.
        preprocessing: How images are read, cropped and resized; its mean and standard deviation are ignored.
        workers: Number of worker processes; with 0, this process decodes.

    Returns:
        Mean and standard deviation of each channel, for values from 0 to 1, rounded to 4 digits.

    Raises:
        DataError: A file can no longer be read or decoded.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> contract = Preprocessing(resolution=8, mean=(0.5,), std=(0.25,))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (8, 8), 255).save(Path(folder) / "white.png")
        ...     Image.new("L", (8, 8), 0).save(Path(folder) / "black.png")
        ...     channel_moments([Sample("black.png", 0), Sample("white.png", 1)], folder, contract)
        ((0.5,), (0.5,))
    """
    count = min(MAX_IMAGES, len(samples))
    chosen = [samples[number * len(samples) // count] for number in range(count)]
    sums = torch.zeros(2, preprocessing.channels, dtype=torch.int64)
    for batch in eval_batches(chosen, root, preprocessing, batch=_BATCH, workers=workers):
        values = batch.images.to(torch.int64)
        sums += torch.stack([values.sum((0, 2, 3)), (values * values).sum((0, 2, 3))])
    number = count * preprocessing.size.height * preprocessing.size.width
    mean, square = (sums.double() / number).tolist()
    variance = [max(0.0, b - a * a) for a, b in zip(mean, square, strict=True)]
    stds = tuple(round(max(MIN_STD, value**0.5 / 255), 4) for value in variance)
    return tuple(round(value / 255, 4) for value in mean), stds
