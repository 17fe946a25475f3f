"""The interface of an opened exported file."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Session(Protocol):
    """An exported file that is opened in its engine, on the CPU.

    Attributes:
        contract_text: The contract as JSON; None if the file has none.
        side: Side of the images in pixels; None if it accepts any.
    """

    contract_text: str | None
    side: int | None

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``[N, classes]`` of normalized images ``[N, 3, side, side]``."""
