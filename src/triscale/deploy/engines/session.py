"""What every opened file can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Session(Protocol):
    """A file in its engine, on the CPU.

    Attributes:
        contract_text: The contract inside, as JSON; None where there is none.
        side: Of its images in pixels; None where it takes any.
    """

    contract_text: str | None
    side: int | None

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits ``[N, classes]`` of normalized images ``[N, 3, side, side]``."""
