"""Lower a Network to its operation tree: the only place that knows a block's structure and shapes."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple, assert_never

from triscale.network import spec, tree
from triscale.network.channels import bottleneck_middle, expanded, squeezed
from triscale.network.tree import Node, Sequence, Shape

SKIP_POOL_KERNEL = 3
SHORTCUT_POOL_KERNEL = 2
USUAL_SE = spec.SqueezeRule()
"""Squeeze-and-excitation of EfficientNet."""


def lower(network: spec.Network) -> tree.Root:
    """Return the operation tree of a network; equal blocks share their nodes.

    Args:
        network: Any published or custom network given as data.

    Returns:
        The tree, to be read with :func:`triscale.network.tree.walk` or by an interpreter.

    Example:
        >>> from triscale.families import get
        >>> lower(get("efficientnet_b0")).out
        Shape(channels=1000, height=1, width=1)
    """
    style = Style(network.padding, network.norm)
    stem = _stem(network, style)
    shape, stages, index, num_blocks = stem.out, [], 0, network.num_blocks
    for stage in network.stages:
        blocks: list[tree.Block] = []
        for repeat in range(stage.repeats):
            node = _block(stage.block, shape, stage.width, stage.stride if repeat == 0 else 1, style)
            # Linear decay rule (Huang et al. 2016, section 3): block i of N is dropped with drop_path * i / N.
            blocks.append(_with_drop_rate(node, network.drop_path * index / num_blocks))
            shape, index = node.out, index + 1
        stages.append(tree.StageNode(tuple(blocks), shape))
    return tree.Root(Shape(*network.input_shape), stem, tuple(stages), _head(network, shape, style))


class Style(NamedTuple):
    """Settings that all convolutions of a network share."""

    padding: spec.Padding
    norm: spec.BatchNorm


class _Path:
    """A builder of a sequence: its nodes so far, and their output shape."""

    def __init__(self, shape: Shape, style: Style) -> None:
        self.nodes: list[tuple[str, Node]] = []
        self.shape, self.style = shape, style

    def convolve(
        self,
        width: int,
        activation: spec.Activation | None,
        *,
        name: str = "",
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        """Append convolution, batch norm and activation, as one named sequence if a name is given."""
        out = self.shape.strided(stride, width)
        padding, norm = self.style
        parts: list[tuple[str, Node]] = [
            ("conv", tree.Convolution(self.shape.channels, width, kernel, stride, groups, False, padding, out)),
            ("norm", tree.Normalization(width, norm.eps, norm.momentum, out.area)),
        ]
        if activation is not None:
            parts.append(("activation", tree.Activation(activation)))
        self.shape = out
        if name:
            self.nodes.append((name, Sequence(tuple(parts), self.shape)))
        else:
            self.nodes.extend(parts)

    def depthwise(self, activation: spec.Activation | None, *, name: str, kernel: int | None, stride: int = 1) -> None:
        """Append a convolution that filters each channel separately, if there is a kernel."""
        if kernel is None:
            return
        width = self.shape.channels
        self.convolve(width, activation, name=name, kernel=kernel, stride=stride, groups=width)

    def se(self, inputs: int, ratio: float, rule: spec.SqueezeRule | None, activation: spec.Activation) -> None:
        """Append squeeze-excite for a block with some input channels, unless the ratio is 0."""
        if not ratio:
            return
        rule = rule or USUAL_SE
        width, padding = self.shape.channels, self.style.padding
        inner = squeezed(inputs, width, ratio, rule)
        children: tuple[tuple[str, Node], ...] = (
            ("reduce", tree.Convolution(width, inner, 1, 1, 1, True, padding, Shape(inner))),
            ("activation", tree.Activation(rule.activation or activation)),
            ("expand", tree.Convolution(inner, width, 1, 1, 1, True, padding, Shape(width))),
            (rule.gate.value, tree.Activation(rule.gate)),
        )
        self.nodes.append(("se", tree.SqueezeExcite(Sequence(children, Shape(width)))))

    def end(self) -> Sequence:
        return Sequence(tuple(self.nodes), self.shape)


def _stem(network: spec.Network, style: Style) -> Sequence:
    stem = network.stem
    path = _Path(Shape(*network.input_shape), style)
    path.convolve(stem.width, stem.activation, kernel=stem.kernel, stride=stem.stride)
    if stem.max_pool:
        path.nodes.append(("pool", tree.MaxPool(3, 2, style.padding)))
        path.shape = path.shape.strided(2)
    return path.end()


def _head(network: spec.Network, shape: Shape, style: Style) -> Sequence:
    head = network.head
    path = _Path(shape, style)
    if head.width is not None:
        path.convolve(head.width, head.activation)
    path.nodes.append(("pool", tree.GlobalPool(flat=head.wide is None)))
    path.shape = Shape(path.shape.channels)
    if head.wide is not None:
        # A linear layer, written as the 1x1 convolution of a map of one pixel, which batch norm can follow.
        path.nodes += [("wide", _wide(head.wide, head, path)), ("flatten", tree.Flatten())]
        path.shape = Shape(head.wide)
    if network.dropout:
        path.nodes.append(("dropout", tree.Dropout(network.dropout)))
    path.nodes.append(("classifier", tree.Linear(path.shape.channels, network.classes)))
    path.shape = Shape(network.classes)
    return path.end()


def _wide(width: int, head: spec.Head, path: _Path) -> Sequence:
    layer = _Path(path.shape, path.style)
    if head.wide_norm:
        layer.convolve(width, head.activation)
        return layer.end()
    out = Shape(width)
    conv = tree.Convolution(path.shape.channels, width, 1, 1, 1, True, path.style.padding, out)
    return Sequence((("conv", conv), ("activation", tree.Activation(head.activation))), out)


@lru_cache(maxsize=8192)
def _block(block: spec.Block, shape: Shape, width: int, stride: int, style: Style) -> Sequence | tree.Residual:
    """Lower one block without its drop rate; cached, since most blocks of a stage are equal."""
    path = _Path(shape, style)
    match block:
        case spec.MBConv():
            # Sandler et al. 2018, Figure 4d: expand, filter, project; SE (Hu et al. 2018) after the depthwise layer.
            if block.expansion != 1:
                path.convolve(expanded(shape.channels, block.expansion), block.activation, name="expand")
            path.depthwise(block.activation, name="depthwise", kernel=block.kernel, stride=stride)
            # The ratio refers to the block's input, not its expanded width, as in the released EfficientNet code.
            path.se(shape.channels, block.se_ratio, block.se_rule, block.activation)
            path.convolve(width, None, name="project")
            return _skipped(path, shape, stride, block.skip)
        case spec.FusedMBConv():
            # Tan & Le 2021, Figure 2: one full convolution in place of the expansion and the depthwise convolution.
            inner = width if block.expansion == 1 else expanded(shape.channels, block.expansion)
            path.convolve(inner, block.activation, name="spatial", kernel=block.kernel, stride=stride)
            path.se(shape.channels, block.se_ratio, block.se_rule, block.activation)
            if block.expansion != 1:
                path.convolve(width, None, name="project")
            return _skipped(path, shape, stride, block.skip)
        case spec.UniversalBottleneck():
            # Qin et al. 2024: both depthwise convolutions are optional.
            path.depthwise(None, name="start", kernel=block.start, stride=1 if block.kernel else stride)
            path.convolve(expanded(shape.channels, block.expansion), block.activation, name="expand")
            path.depthwise(block.activation, name="depthwise", kernel=block.kernel, stride=stride)
            path.convolve(width, None, name="project")
            return _skipped(path, shape, stride, block.skip)
        case spec.Separable():
            path.depthwise(block.activation, name="depthwise", kernel=block.kernel, stride=stride)
            path.convolve(width, block.activation, name="pointwise")
            return _skipped(path, shape, stride, block.skip)
        case spec.Bottleneck():
            inner, groups = bottleneck_middle(width, block)
            path.convolve(inner, block.activation, name="reduce")
            path.convolve(inner, block.activation, name="spatial", kernel=block.kernel, stride=stride, groups=groups)
            if block.se_at == "middle":
                path.se(shape.channels, block.se_ratio, block.se_rule, block.activation)
            path.convolve(width, None, name="restore")
            if block.se_at == "end":
                path.se(shape.channels, block.se_ratio, block.se_rule, block.activation)
            return _add_input(path, shape, stride, block.activation, block.shortcut)
        case spec.Basic():
            path.convolve(width, block.activation, name="first", kernel=block.kernel, stride=stride)
            path.convolve(width, None, name="second", kernel=block.kernel)
            return _add_input(path, shape, stride, block.activation)
        case spec.Conv():
            path.convolve(width, block.activation, kernel=block.kernel, stride=stride)
            return _skipped(path, shape, stride, block.skip)
        case _:
            assert_never(block)


def _skipped(path: _Path, shape: Shape, stride: int, skip: spec.Skip) -> Sequence | tree.Residual:
    """Finish a block with a skip connection, identity or pooled, if that needs no projection."""
    body = path.end()
    if path.shape.channels != shape.channels or skip == "none" or (skip == "identity" and stride > 1):
        return body
    shortcut: Sequence | None = None
    if skip == "pool":
        pool = tree.AveragePool(SKIP_POOL_KERNEL, stride, path.style.padding)
        shortcut = Sequence((("pool", pool),), body.out)
    return tree.Residual(body, shortcut, 0.0, None, body.out)


def _add_input(
    path: _Path,
    shape: Shape,
    stride: int,
    activation: spec.Activation,
    how: Literal["strided", "pooled"] = "strided",
) -> tree.Residual:
    """Finish a ResNet block: the shortcut is a 1x1 projection if the shapes differ (He et al. 2016, option B).

    A pooled projection takes means of 2x2 pixels before, where the strided one drops 3 of 4 (He et al. 2019, ResNet-D).
    """
    shortcut: Sequence | None = None
    if stride != 1 or path.shape.channels != shape.channels:
        projection = _Path(shape, path.style)
        if how == "pooled" and stride > 1:
            projection.nodes.append(("pool", tree.AveragePool(SHORTCUT_POOL_KERNEL, stride, "same")))
            projection.shape, stride = shape.strided(stride), 1
        projection.convolve(path.shape.channels, None, stride=stride)
        shortcut = projection.end()
    return tree.Residual(path.end(), shortcut, 0.0, activation, path.shape)


def _with_drop_rate(node: Sequence | tree.Residual, rate: float) -> Sequence | tree.Residual:
    if rate and isinstance(node, tree.Residual):
        return tree.Residual(node.body, node.shortcut, rate, node.activation, node.out)
    return node
