"""Adapt the first convolution of pretrained weights to another number of input channels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

STEM = "stem.conv.weight"
"""The first convolution of every network given as data."""


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Return the weights of a convolution for another number of input channels.

    Args:
        weight: ``[outputs, inputs, k, k]``.
        channels: Number of input channels.

    Returns:
        ``[outputs, channels, k, k]``: for one channel the sum over the inputs, which gives the same outputs as a gray
        image in all of them; otherwise the inputs repeated and multiplied by ``inputs / channels``, which keeps the
        size of the outputs.

    Example:
        >>> import torch
        >>> weight = torch.tensor([1.0, 2.0, 4.0]).reshape(1, 3, 1, 1)
        >>> adapt_channels(weight, 1).flatten().tolist(), adapt_channels(weight, 4).flatten().tolist()
        ([7.0], [0.75, 1.5, 3.0, 0.75])
    """
    if channels == 1:
        return weight.sum(1, keepdim=True)
    inputs = weight.shape[1]
    repeats = -(-channels // inputs)
    return weight.repeat(1, repeats, 1, 1)[:, :channels] * (inputs / channels)


def with_channels(state: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Return the tensors of a network given as data, with its first convolution for a number of input channels.

    Args:
        state: Tensors by name.
        channels: Number of input channels.
    """
    adapted = dict(state)
    if STEM in adapted and adapted[STEM].shape[1] != channels:
        adapted[STEM] = adapt_channels(adapted[STEM], channels)
    return adapted


def describe_adaptation(inputs: int, channels: int) -> str:
    """Return how the first convolution was adapted, as a clause.

    Example:
        >>> describe_adaptation(3, 1)
        'the first convolution is adapted from 3 input channels to 1: its weights are summed'
    """
    factor = f"{inputs}/{channels}"
    how = "summed" if channels == 1 else f"repeated and multiplied by {factor}"
    return f"the first convolution is adapted from {inputs} input channels to {channels}: its weights are {how}"
