"""Build the torch module of a Network by interpreting its operation tree."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import assert_never, overload

import torch
from torch import Tensor, nn

from triscale.network import tree
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.lower import lower
from triscale.network.spec import Network
from triscale.nn import layers
from triscale.nn.chain import Chained, run
from triscale.nn.custom import build_custom
from triscale.nn.residual import ResidualBlock


class Classifier(nn.Module):
    """A built Network: stem, stages, head.

    The input is ``[N, 3, H, W]``, normalized; sides other than the network's resolution work too. The output is
    ``[N, classes]`` logits.

    Attributes:
        network: The network that it computes, as data.

    Example:
        >>> from triscale.families import get
        >>> model = build(get("mobilenet_v2@32"))
        >>> isinstance(model, Classifier), model.network.classes
        (True, 1000)
    """

    def __init__(self, network: Network, stem: nn.Module, stages: nn.Sequential, head: ClassifierHead) -> None:
        super().__init__()
        self.network = network
        self.stem = stem
        self.stages = stages
        self.head = head
        self._ends_reduction = _last_of_each_reduction(network)

    def forward(self, images: Tensor, features: list[Tensor] | None = None) -> Tensor:
        """Return logits ``[N, classes]``.

        Args:
            images: Normalized images ``[N, 3, H, W]``.
            features: If given, the last feature map at each reduction is appended to it, the finest first (for most
                networks at reductions 2, 4, 8, 16 and 32), then the map that the head pools.
        """
        maps = self.stem(images)
        if features is not None and self._ends_reduction[0]:
            features.append(maps)
        for stage, ends in zip(self.stages, self._ends_reduction[1:], strict=True):
            maps = stage(maps)
            if features is not None and ends:
                features.append(maps)
        pooled = self.head.maps(maps)
        if features is not None:
            features.append(pooled)
        logits: Tensor = self.head.classify(pooled)
        return logits


class ClassifierHead(nn.Module):
    """The head of a network: optional convolution, global average pool, dropout and classifier."""

    def __init__(self, children: dict[str, nn.Module]) -> None:
        super().__init__()
        names = list(children)
        pool = names.index("pool")
        self.map_names, self.vector_names = tuple(names[:pool]), tuple(names[pool:])
        for name, module in children.items():
            self.add_module(name, module)

    def maps(self, maps: Tensor) -> Tensor:
        """Return the feature maps ``[N, C, h, w]`` before pooling."""
        return run([getattr(self, name) for name in self.map_names], maps)

    def classify(self, maps: Tensor) -> Tensor:
        """Pool feature maps and return logits ``[N, classes]``."""
        for name in self.vector_names:
            maps = getattr(self, name)(maps)
        return maps

    def forward(self, maps: Tensor) -> Tensor:
        """Return logits ``[N, classes]``."""
        return self.classify(self.maps(maps))


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
        The module in training mode, with random weights: ``[N, 3, H, W]`` to logits ``[N, classes]``.

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


@torch.no_grad()
def initialize(model: nn.Module) -> None:
    """Initialize weights in place as the official EfficientNet code does.

    Convolutions: normal with variance 2 / fan-out; the fan-out of a depthwise convolution is its kernel's area.
    Classifier: uniform within 1 / sqrt(outputs), bias 0. Batch norm keeps PyTorch's scale 1 and shift 0.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # fan_out = area * outputs / groups, the fan_out mode of He et al. 2015 (equation 14).
            area = module.kernel_size[0] * module.kernel_size[1]
            module.weight.normal_(0.0, math.sqrt(2.0 / (area * module.out_channels // module.groups)))
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.out_features)
            module.weight.uniform_(-bound, bound)
            module.bias.zero_()


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
            return layers.GlobalAvgPool2d()
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


def _last_of_each_reduction(network: Network) -> tuple[bool, ...]:
    """Return for the stem and each stage whether it is the last at its reduction."""
    # A module is the last at its reduction if the next one has a stride; the head counts as the end.
    strides = [stage.stride for stage in network.stages]
    return tuple(following > 1 for following in [*strides, 2])
