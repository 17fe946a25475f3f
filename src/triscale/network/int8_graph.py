"""The int8 graph of a network as a LiteRT (TensorFlow Lite) file has it: an interpreter of the operation tree.

Conventions, which are those of TensorFlow's converter with int8 inputs and outputs (``benchmarks/arena.py`` compares):

- Batch norm is folded into its convolution. ReLU and ReLU6 are fused into the convolution or addition before them;
  SiLU is LOGISTIC and MUL, hard-swish is HARD_SWISH, hard-sigmoid is a fused ReLU6 and MUL with a constant.
- Maps are NHWC with batch 1, one byte for each value.
- SAME padding is free. Symmetric padding is an operator of its own, PAD, where it differs from SAME padding.
- Squeeze-and-excitation is MEAN, two 1x1 convolutions and MUL; the last pool is MEAN, and flattening is free.
- The projection of a shortcut comes after the body of its block, as in the torch module. The converter may choose the
  other order, with another peak.
- Weights have one scale for each output channel; zero points are stored with them, also for biases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, assert_never

from triscale.network import tree
from triscale.network.lower import lower
from triscale.network.spec import ActivationKind, Network
from triscale.network.tree import Shape

BYTES_PER_SUM = 4
"""An int32: a bias, or a sum of int8 values."""
CONV, DEPTHWISE, DENSE = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"


class Layer(NamedTuple):
    """The weights of an operator.

    Attributes:
        channels: Output channels, each with a bias and a scale.
        weights: Number of int8 weights.
    """

    channels: int
    weights: int


class GraphConstant(NamedTuple):
    """A constant of operators that is no weight; the file has equal ones once.

    Attributes:
        content: What it is, such as ``border 1``.
        size: Bytes.
    """

    content: str
    size: int


class Operator(NamedTuple):
    """One operator of the graph.

    Attributes:
        kind: Its name in the schema of LiteRT, such as ``CONV_2D``.
        inputs: Indices of the maps that it reads; 0 is the image, ``i + 1`` the output of operator ``i``.
        output: Shape of the map that it writes.
        layer: Its weights, if any.
        constant: Its other constant, such as the amount of padding, if any.
        scratch: Bytes that its kernel needs while it runs.
        border: The amount of padding that it would need for an image of another size, but not for this one.
    """

    kind: str
    inputs: tuple[int, ...]
    output: Shape
    layer: Layer | None = None
    constant: GraphConstant | None = None
    scratch: int = 0
    border: GraphConstant | None = None


@dataclass(slots=True)
class Int8Graph:
    """The operators of a network in the order of execution.

    Attributes:
        input: Shape of the image.
        operators: The operators; the output of the last is that of the network.

    Example:
        >>> from triscale.families import get
        >>> graph = int8_graph(get("mobilenet_v1@96"))
        >>> len(graph.operators), graph.operators[0].kind, graph.operators[-1].kind
        (29, 'CONV_2D', 'FULLY_CONNECTED')
    """

    input: Shape
    operators: list[Operator] = field(default_factory=list)

    def add(
        self,
        kind: str,
        inputs: tuple[int, ...],
        output: Shape,
        *,
        layer: Layer | None = None,
        constant: GraphConstant | None = None,
        scratch: int = 0,
        border: GraphConstant | None = None,
    ) -> int:
        """Append an operator; return the index of its output."""
        self.operators.append(Operator(kind, inputs, output, layer, constant, scratch, border))
        return len(self.operators)


def int8_graph(network: Network) -> Int8Graph:
    """Return the int8 graph of a network, for one image.

    Args:
        network: The network.
    """
    root = lower(network)
    graph = Int8Graph(root.input)
    value, shape = 0, root.input
    for _, part in tree.children(root):
        blocks = part.blocks if isinstance(part, tree.StageNode) else (part,)
        for block in blocks:
            value = _append(graph, _operators_of(block, shape), value)
            shape = tree.output_shape(block, shape)
    return graph


def _append(graph: Int8Graph, operators: tuple[Operator, ...], value: int) -> int:
    """Append the operators of a part, whose input is index 0 there and ``value`` in the graph."""
    before = len(graph.operators)
    for operator in operators:
        inputs = tuple(value if index == 0 else index + before for index in operator.inputs)
        graph.operators.append(operator._replace(inputs=inputs))
    return len(graph.operators) if operators else value


@lru_cache(maxsize=8192)
def _operators_of(node: tree.Node, shape: Shape) -> tuple[Operator, ...]:
    """Return the operators of a block; cached, because equal blocks are the same node, also in other networks."""
    graph = Int8Graph(shape)
    _write(graph, node, 0, shape)
    return tuple(graph.operators)


def _write(graph: Int8Graph, node: tree.Node, value: int, shape: Shape) -> int:
    """Write a node that reads a value; return the index of its output."""
    match node:
        case tree.Convolution():
            return _convolution(graph, node, value, shape)
        case tree.Linear():
            layer = Layer(node.outputs, node.inputs * node.outputs)
            return graph.add(DENSE, (value,), Shape(node.outputs), layer=layer)
        case tree.Normalization() | tree.Dropout() | tree.Flatten():
            return value
        case tree.Activation():
            return _activation(graph, node.kind, value, shape)
        case tree.MaxPool():
            return _max_pool(graph, node, value, shape)
        case tree.AveragePool():
            return _average_pool(graph, node, value, shape)
        case tree.GlobalPool():
            return _mean(graph, value, shape)
        case tree.Root() | tree.StageNode() | tree.Sequence():
            for _, child in tree.children(node):
                value = _write(graph, child, value, shape)
                shape = tree.output_shape(child, shape)
            return value
        case tree.SqueezeExcite():
            scale = _write(graph, node.body, _mean(graph, value, shape), Shape(shape.channels))
            return graph.add("MUL", (value, scale), shape)
        case tree.Residual():
            body = _write(graph, node.body, value, shape)
            shortcut = value if node.shortcut is None else _write(graph, node.shortcut, value, shape)
            total = graph.add("ADD", (body, shortcut), node.out)
            return total if node.activation is None else _activation(graph, node.activation, total, node.out)
        case _:
            assert_never(node)


def _convolution(graph: Int8Graph, node: tree.Convolution, value: int, shape: Shape) -> int:
    value, border = _padded(graph, node, value, shape)
    layer = Layer(node.outputs, node.num_weights)
    kind = DEPTHWISE if node.is_depthwise else CONV
    return graph.add(kind, (value,), node.out, layer=layer, border=border)


def _activation(graph: Int8Graph, kind: ActivationKind, value: int, shape: Shape) -> int:
    match kind:
        case ActivationKind.RELU | ActivationKind.RELU6:
            return value
        case ActivationKind.SILU:
            return graph.add("MUL", (value, graph.add("LOGISTIC", (value,), shape)), shape)
        case ActivationKind.SIGMOID:
            return graph.add("LOGISTIC", (value,), shape)
        case ActivationKind.HARD_SWISH:
            return graph.add("HARD_SWISH", (value,), shape)
        case ActivationKind.HARD_SIGMOID:  # relu6(x + 3) / 6: the sum is part of the bias
            return graph.add("MUL", (value,), shape, constant=GraphConstant("a sixth", 1))
        case _:
            assert_never(kind)


def _mean(graph: Int8Graph, value: int, shape: Shape) -> int:
    axes = GraphConstant("axes", 2 * BYTES_PER_SUM)
    scratch = BYTES_PER_SUM * shape.channels
    return graph.add("MEAN", (value,), Shape(shape.channels), constant=axes, scratch=scratch)


def _max_pool(graph: Int8Graph, node: tree.MaxPool, value: int, shape: Shape) -> int:
    value, border = _padded(graph, node, value, shape)
    return graph.add("MAX_POOL_2D", (value,), shape.strided(node.stride), border=border)


def _average_pool(graph: Int8Graph, node: tree.AveragePool, value: int, shape: Shape) -> int:
    before, out = len(graph.operators), shape.strided(node.stride)
    value, border = _padded(graph, node, value, shape)
    is_padded = len(graph.operators) > before
    value = graph.add("AVERAGE_POOL_2D", (value,), out, border=border)
    # The mean over a padded map counts the padding; a map of factors undoes that.
    factors = GraphConstant(f"factors {out.height} {out.width}", out.area)
    return graph.add("MUL", (value,), out, constant=factors) if is_padded else value


def _padded(
    graph: Int8Graph, node: tree.Convolution | tree.MaxPool | tree.AveragePool, value: int, shape: Shape
) -> tuple[int, GraphConstant | None]:
    """Write the padding of an operator, if it needs any; otherwise return what another image size would need."""
    pixels = node.kernel // 2
    if node.padding != "symmetric" or node.stride == 1 or pixels == 0:
        return value, None
    border = GraphConstant(f"border {pixels}", 8 * BYTES_PER_SUM)
    if all(_same_padding(node, side) == 2 * pixels for side in shape[1:]):
        return value, border
    padded = Shape(shape.channels, shape.height + 2 * pixels, shape.width + 2 * pixels)
    return graph.add("PAD", (value,), padded, constant=border), None


def _same_padding(node: tree.Convolution | tree.MaxPool | tree.AveragePool, side: int) -> int:
    """Return the pixels that SAME padding adds to one side, on both ends together."""
    return max(0, (-(-side // node.stride) - 1) * node.stride + node.kernel - side)


def num_bytes(shape: Shape) -> int:
    """Return the bytes of an int8 map."""
    return math.prod(shape)
