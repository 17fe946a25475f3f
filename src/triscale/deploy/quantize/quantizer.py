"""The common interface of the engines' quantizers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.quantize.noise import Signals


class Quantizer(Protocol):
    """Quantizes one model for one engine.

    Attributes:
        blocks: Blocks that can stay in float, in the order of computation.
        is_quick: Whether writing a file takes only seconds, so that several can be compared by latency.
    """

    blocks: Sequence[str]
    is_quick: bool

    @property
    def emulate(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]] | None:
        """Computes the logits of normalized images by the model as last quantized, without a file.

        None if a file is written faster than it is emulated.
        """

    def quantize(self, float_blocks: Collection[str]) -> None:
        """Quantize the model in memory; some blocks stay float."""

    def write(self, float_blocks: Collection[str], file: Path) -> None:
        """Write an int8 file in which some blocks stay float."""

    def signals(self, images: NDArray[np.float32]) -> tuple[Signals, Signals]:
        """Return the output of each block for images ``[N, 3, S, S]``: in float, and as last written."""
