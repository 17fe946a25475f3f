"""Parity checks: whether an exported file computes the same as the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from triscale.errors import ParityError
from triscale.network.contract import Preprocessing

TOLERANCE = 1e-3
"""Maximum difference of a logit, relative to the largest logit of the model."""
INPUTS = 64
BATCHES = (1, 3, 8)
MIN_SCALE = 1e-12

Call = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Parity(NamedTuple):
    """Agreement of a file's logits with the model's.

    ``max_error`` is the largest difference relative to the largest logit, ``agreement`` the share of inputs with equal
    top-1 class.
    """

    inputs: int
    max_error: float
    agreement: float


def parity_inputs(real: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Return 64 inputs ``[64, C, H, W]``: zeros, ones, black, white, both in a checkerboard, and real images.

    Args:
        real: Normalized images ``[N, C, H, W]``; missing ones are replaced by noise.
        preprocessing: Defines the normalized values of black and white.
    """
    shape = real.shape[1:]
    mean, std = (
        np.array(values, dtype=np.float32).reshape(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    black, white = (np.broadcast_to((value - mean) / std, shape) for value in (0.0, 1.0))
    board = np.indices(shape[1:]).sum(0) % 2 == 0
    synthetic = [np.zeros(shape), np.ones(shape), black, white, np.where(board, black, white)]
    noise = np.random.default_rng(0).standard_normal((max(0, INPUTS - len(synthetic) - len(real)), *shape))
    return np.concatenate([np.stack(synthetic), real, noise]).astype(np.float32)[:INPUTS]


def logits_of(call: Call, images: NDArray[np.float32], batch: int) -> NDArray[np.float32]:
    """Return logits ``[N, classes]``, computed in batches."""
    return np.concatenate([call(images[start : start + batch]) for start in range(0, len(images), batch)])


def logits_of_model(model: nn.Module, images: NDArray[np.float32], batch: int = 16) -> NDArray[np.float32]:
    """Return the logits ``[N, classes]`` of a module on the CPU."""
    with torch.inference_mode():
        return logits_of(lambda part: np.asarray(model(torch.from_numpy(part)).numpy()), images, batch)


def check_parity(
    call: Call,
    expected: NDArray[np.float32],
    inputs: NDArray[np.float32],
    *,
    batches: Sequence[int] = BATCHES,
    tolerance: float = TOLERANCE,
) -> Parity:
    """Compare logits with those of the model, in batches of several sizes.

    They may differ by at most ``tolerance`` relative to the model's largest logit. The top-1 class must be the same
    wherever the model's two largest logits differ by more than that.

    Args:
        call: Runs the exported file.
        expected: Logits of the model ``[N, classes]``.
        inputs: Images ``[N, C, H, W]``.
        batches: Batch sizes to check.
        tolerance: Maximum relative difference.

    Raises:
        ParityError: The logits differ.

    Example:
        >>> images = np.eye(4, dtype=np.float32)
        >>> check_parity(lambda batch: batch, images, images).agreement
        1.0
    """
    # Two logits within the tolerance may swap order, so top-1 is compared only where the decision is clear.
    scale = max(MIN_SCALE, float(np.abs(expected).max()))
    best = np.sort(expected, axis=1)
    clear = np.ones(len(best), dtype=bool) if best.shape[1] < 2 else best[:, -1] - best[:, -2] > tolerance * scale
    error, same = 0.0, np.ones(len(expected), dtype=bool)
    for batch in batches:
        logits = logits_of(call, inputs, batch)
        error = max(error, float(np.abs(logits - expected).max()) / scale)
        same &= logits.argmax(1) == expected.argmax(1)
        if not error <= tolerance or not same[clear].all():
            raise ParityError(
                f"the exported file differs from the model by {error:.1e} (allowed {tolerance:.0e}) in batches of "
                f"{batch}, with the same top-1 class on {same.mean():.1%} of {len(same)} inputs; the file was deleted"
            )
    return Parity(len(expected), error, float(same.mean()))
