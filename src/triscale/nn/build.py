"""Build the torch module of a Network by interpreting its operation tree."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import assert_never, overload

from torch import nn

from triscale.network import tree
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.lower import lower
from triscale.network.spec import Network
from triscale.nn import layers
from triscale.nn.chain import Chained
from triscale.nn.classifier import Classifier, ClassifierHead
from triscale.nn.custom import build_custom
from triscale.nn.initialize import initialize
from triscale.nn.residual import ResidualBlock


@overload
def build(network: Network) -> Classifier: ...
@overload
def build(network: CustomNetwork) -> nn.Module: ...
def build(network: AnyNetwork) -> nn.Module:
    """Build the torch module of a Network, initialized as published.

    Parameters are named after the structure (``stages.3.blocks.1.expand.conv.weight``); a custom model is what its
    function returns. ``torch.compile``, ``torch.export`` and ``torch.jit.trace`` support the module.
    ``torch.jit.script`` and ``torch.fx.symbolic_trace`` do not: in training a module decides in Python, at each call,
    which of its layers run as one fused chain, and SAME padding depends on the size of the input.

    Args:
        network: A network as data, or a custom model.

    Returns:
        The module in training mode, with random weights: ``[N, in_channels, H, W]`` to logits ``[N, classes]``.

    Raises:
        NetworkError: The function of a custom model cannot be found or called.

    Example:
        >>> import torch
        >>> from triscale.families import get
        >>> model = build(get("efficientnet_b0@32")).eval()
        >>> model(torch.zeros(1, 3, 32, 32)).shape
        torch.Size([1, 1000])
    """
    if isinstance(network, CustomNetwork):
        return build_custom(network)
    root = lower(network)
    parts = nest((name, _module(child)) for name, child in tree.children(root) if child is not root.head)
    stages = parts["stages"]
    assert isinstance(stages, nn.Sequential)
    model = Classifier(network, parts["stem"], stages, ClassifierHead(_modules(root.head)))
    initialize(model)
    return model


def build_part(node: tree.Part) -> nn.Module:
    """Build the torch module of a part of a network, initialized like the whole network."""
    part = _module(node)
    initialize(part)
    return part


def _module(node: tree.Node) -> nn.Module:  # noqa: PLR0912 - one case for each primitive
    match node:
        case tree.Convolution():
            return layers.convolution(node)
        case tree.Normalization():
            return nn.BatchNorm2d(node.channels, eps=node.eps, momentum=node.momentum)
        case tree.Activation():
            return layers.activation(node.kind)
        case tree.MaxPool():
            if node.padding == "same":
                return layers.SameMaxPool2d(node.kernel, node.stride)
            return nn.MaxPool2d(node.kernel, node.stride, padding=node.kernel // 2)
        case tree.AveragePool():
            if node.padding == "same" and node.stride > 1:
                return layers.SameAveragePool2d(node.kernel, node.stride)
            return nn.AvgPool2d(node.kernel, node.stride, padding=node.kernel // 2, count_include_pad=False)
        case tree.GlobalPool():
            return layers.GlobalAvgPool2d(flat=node.flat)
        case tree.Flatten():
            return nn.Flatten(1)
        case tree.Linear():
            return nn.Linear(node.inputs, node.outputs)
        case tree.Dropout():
            return nn.Dropout(node.rate)
        case tree.Root() | tree.StageNode() | tree.Sequence():
            return Chained(_modules(node))
        case tree.SqueezeExcite():
            return layers.SqueezeExcitation(_modules(node))
        case tree.Residual():
            return ResidualBlock(
                _modules(node.body),
                None if node.shortcut is None else _module(node.shortcut),
                node.drop_rate,
                None if node.activation is None else layers.activation(node.activation),
            )
        case _:
            assert_never(node)


def _modules(node: tree.Container) -> OrderedDict[str, nn.Module]:
    return nest((name, _module(child)) for name, child in tree.children(node))


def nest(modules: Iterable[tuple[str, nn.Module]]) -> OrderedDict[str, nn.Module]:
    """Nest modules with dotted names: ``blocks.0`` goes into a container ``blocks``."""
    grouped: OrderedDict[str, list[tuple[str, nn.Module]]] = OrderedDict()
    nested: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in modules:
        first, _, rest = name.partition(".")
        if rest:
            grouped.setdefault(first, []).append((rest, module))
            nested.setdefault(first, module)  # reserves the position for the container made below
        else:
            nested[first] = module
    return OrderedDict((name, Chained(nest(grouped[name])) if name in grouped else nested[name]) for name in nested)
