"""The operation tree: what a network is made of, with every shape known.

Plain slotted dataclasses; nobody changes a node once made, and equal parts of a network may share one. An interpreter
walks the tree with an exhaustive ``match`` that ends in ``assert_never``. Maps are square: a side is in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from triscale.network.spec import Activation as ActivationName
from triscale.network.spec import Padding


class Shape(NamedTuple):
    """Channels and side in pixels of a square feature map; a vector has side 1."""

    channels: int
    side: int


@dataclass(slots=True, eq=False)
class Convolution:
    """2-d convolution; the output's side is ``ceil(side / stride)`` under both paddings."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int
    bias: bool
    padding: Padding
    out_side: int


@dataclass(slots=True, eq=False)
class Normalization:
    """Batch norm over ``channels`` maps of side ``side``."""

    channels: int
    eps: float
    momentum: float
    side: int


@dataclass(slots=True, eq=False)
class Activation:
    """Elementwise activation."""

    kind: ActivationName | Literal["sigmoid"]


@dataclass(slots=True, eq=False)
class MaxPool:
    """Maximum over windows."""

    kernel: int
    stride: int
    padding: Padding


@dataclass(slots=True, eq=False)
class AveragePool:
    """Mean over windows; what padding adds is not counted."""

    kernel: int
    stride: int
    padding: Padding


@dataclass(slots=True, eq=False)
class GlobalPool:
    """Mean over the whole map, flattened to a vector."""


@dataclass(slots=True, eq=False)
class Linear:
    """Fully connected layer with bias."""

    inputs: int
    outputs: int


@dataclass(slots=True, eq=False)
class Dropout:
    """Elements are set to zero in training with probability ``rate``."""

    rate: float


@dataclass(slots=True, eq=False)
class Sequence:
    """Named nodes, one after the other."""

    children: tuple[tuple[str, Node], ...]
    out: Shape


@dataclass(slots=True, eq=False)
class SqueezeExcite:
    """Squeeze-excite: the input times ``body`` of its mean over the map."""

    body: Sequence


@dataclass(slots=True, eq=False)
class Residual:
    """``activation(shortcut(x) + body(x))``; the body of a sample is left out in training with ``drop_rate``."""

    body: Sequence
    shortcut: Sequence | None
    drop_rate: float
    activation: ActivationName | None
    out: Shape


Node = (
    Convolution
    | Normalization
    | Activation
    | MaxPool
    | AveragePool
    | GlobalPool
    | Linear
    | Dropout
    | Sequence
    | SqueezeExcite
    | Residual
)
