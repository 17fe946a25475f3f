"""The interface of an opened exported file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from triscale.network.input_size import ImageShape


def fixed_shape(dimensions: Sequence[object]) -> ImageShape | None:
    """Return the shape of an image from the dimensions of a file's input; None if they are not fixed.

    Example:
        >>> fixed_shape([3, 184, 720]), fixed_shape([3, "height", "width"])
        ((3, 184, 720), None)
    """
    sides = [side for side in dimensions if isinstance(side, int)]
    return (sides[0], sides[1], sides[2]) if len(sides) == len(dimensions) == 3 else None


class Session(Protocol):
    """An exported file that is opened in its engine, on the CPU.

    Attributes:
        contract_text: The contract as JSON; None if the file has none.
        input_shape: Channels, height and width of the images; None if it accepts several sizes.
    """

    contract_text: str | None
    input_shape: ImageShape | None

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``[N, classes]`` of normalized images ``[N, *input_shape]``."""
