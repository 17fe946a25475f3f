"""The one walk from a Network to its operation tree: the only place that knows a block's structure and shapes."""

from __future__ import annotations

from functools import lru_cache
from typing import assert_never

from triscale.network import spec, tree
from triscale.network.tree import Node, Sequence, Shape

Children = list[tuple[str, Node]]

INPUT_CHANNELS = 3


def lower(network: spec.Network) -> Sequence:
    """Return the operation tree of a network.

    Its children are ``stem``, ``stages`` (children ``0``, ``1`` ..., each with ``blocks`` ``0``, ``1`` ...) and
    ``head``; the names are those of the parameters of the built module. Equal blocks share their nodes.
    """
    stem = _stem(network)
    shape, stages, index = stem.out, [], 0
    for number, stage in enumerate(network.stages):
        blocks: Children = []
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            node = _block(stage.block, shape, stage.width, stride, network.padding, network.norm)
            blocks.append((str(repeat), _with_drop_rate(node, network.drop_path * index / network.num_blocks)))
            shape, index = node.out, index + 1
        repeated = Sequence(tuple(blocks), shape)
        stages.append((str(number), Sequence((("blocks", repeated),), shape)))
    head = _head(network, shape)
    return Sequence((("stem", stem), ("stages", Sequence(tuple(stages), shape)), ("head", head)), head.out)


def _stem(network: spec.Network) -> Sequence:
    stem, shape = network.stem, Shape(INPUT_CHANNELS, network.resolution)
    children: Children = []
    shape = _convolve(
        children, "", shape, stem.width, stem.kernel, stem.stride, network.padding, network.norm, stem.activation
    )
    if stem.max_pool:
        children.append(("pool", tree.MaxPool(3, 2, network.padding)))
        shape = Shape(shape.channels, _ceil_div(shape.side, 2))
    return Sequence(tuple(children), shape)


def _head(network: spec.Network, shape: Shape) -> Sequence:
    head = network.head
    children: Children = []
    if head.width is not None:
        shape = _convolve(children, "", shape, head.width, 1, 1, network.padding, network.norm, head.activation)
    children.append(("pool", tree.GlobalPool()))
    if network.dropout:
        children.append(("dropout", tree.Dropout(network.dropout)))
    children.append(("classifier", tree.Linear(shape.channels, network.classes)))
    return Sequence(tuple(children), Shape(network.classes, 1))


@lru_cache(maxsize=8192)
def _block(
    block: spec.Block, shape: Shape, width: int, stride: int, padding: spec.Padding, norm: spec.BatchNorm
) -> Sequence | tree.Residual:
    """Lower one block without its drop rate; remembered, since the blocks of a stage are mostly equal."""
    same_shape = stride == 1 and width == shape.channels
    body: Children = []
    match block:
        case spec.MBConv():
            hidden = shape.channels * block.expansion
            out = shape
            if block.expansion != 1:
                out = _convolve(body, "expand", out, hidden, 1, 1, padding, norm, block.activation)
            out = _convolve(
                body, "depthwise", out, hidden, block.kernel, stride, padding, norm, block.activation, groups=hidden
            )
            if block.se_ratio:
                squeezed = max(1, int(shape.channels * block.se_ratio))
                body.append(("gate", _gate(hidden, squeezed, block.activation, padding)))
            out = _convolve(body, "project", out, width, 1, 1, padding, norm, None)
            sequence = Sequence(tuple(body), out)
            return tree.Residual(sequence, None, 0.0, None, out) if same_shape else sequence
        case spec.Separable():
            out = _convolve(
                body,
                "depthwise",
                shape,
                shape.channels,
                block.kernel,
                stride,
                padding,
                norm,
                block.activation,
                groups=shape.channels,
            )
            out = _convolve(body, "pointwise", out, width, 1, 1, padding, norm, block.activation)
            return Sequence(tuple(body), out)
        case spec.Bottleneck():
            inner = max(1, width // block.reduction)
            out = _convolve(body, "reduce", shape, inner, 1, 1, padding, norm, block.activation)
            out = _convolve(body, "spatial", out, inner, block.kernel, stride, padding, norm, block.activation)
            out = _convolve(body, "restore", out, width, 1, 1, padding, norm, None)
            return _add_input(body, shape, out, same_shape, stride, padding, norm, block.activation)
        case spec.Basic():
            out = _convolve(body, "first", shape, width, block.kernel, stride, padding, norm, block.activation)
            out = _convolve(body, "second", out, width, block.kernel, 1, padding, norm, None)
            return _add_input(body, shape, out, same_shape, stride, padding, norm, block.activation)
        case spec.Conv():
            out = _convolve(body, "", shape, width, block.kernel, stride, padding, norm, block.activation)
            return Sequence(tuple(body), out)
        case _:
            assert_never(block)


def _add_input(
    body: Children,
    shape: Shape,
    out: Shape,
    same_shape: bool,
    stride: int,
    padding: spec.Padding,
    norm: spec.BatchNorm,
    activation: spec.Activation,
) -> tree.Residual:
    """Close a ResNet block: the input is projected 1x1 where the shapes differ."""
    shortcut: Sequence | None = None
    if not same_shape:
        projection: Children = []
        _convolve(projection, "", shape, out.channels, 1, stride, padding, norm, None)
        shortcut = Sequence(tuple(projection), out)
    return tree.Residual(Sequence(tuple(body), out), shortcut, 0.0, activation, out)


def _gate(width: int, squeezed: int, activation: spec.Activation, padding: spec.Padding) -> tree.Gate:
    vector = Shape(width, 1)
    children: Children = [
        ("reduce", tree.Convolution(width, squeezed, 1, 1, 1, True, padding, 1)),
        ("activation", tree.Activation(activation)),
        ("expand", tree.Convolution(squeezed, width, 1, 1, 1, True, padding, 1)),
        ("sigmoid", tree.Activation("sigmoid")),
    ]
    return tree.Gate(Sequence(tuple(children), vector))


def _convolve(
    children: Children,
    name: str,
    shape: Shape,
    width: int,
    kernel: int,
    stride: int,
    padding: spec.Padding,
    norm: spec.BatchNorm,
    activation: spec.Activation | None,
    groups: int = 1,
) -> Shape:
    """Append convolution, batch norm and activation, as one named part where a name is given; return the shape."""
    out = Shape(width, _ceil_div(shape.side, stride))
    parts: Children = [
        ("conv", tree.Convolution(shape.channels, width, kernel, stride, groups, False, padding, out.side)),
        ("norm", tree.Normalization(width, norm.eps, norm.momentum, out.side)),
    ]
    if activation is not None:
        parts.append(("activation", tree.Activation(activation)))
    if name:
        children.append((name, Sequence(tuple(parts), out)))
    else:
        children.extend(parts)
    return out


def _with_drop_rate(node: Sequence | tree.Residual, rate: float) -> Sequence | tree.Residual:
    if rate and isinstance(node, tree.Residual):
        return tree.Residual(node.body, node.shortcut, rate, node.activation, node.out)
    return node


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)
