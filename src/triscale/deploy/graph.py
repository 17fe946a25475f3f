"""An operation tree as an ONNX graph with drawn weights, to be timed: what an export computes, without its seconds.

Batch norm is folded into the convolution before it, as engines do. An interpreter of the operation tree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from triscale.network import tree
from triscale.network.tree import Shape

OPSET, IR_VERSION = 20, 10
"""Those that the exporter writes."""
INPUT, OUTPUT = "images", "logits"


class SharedWeights:
    """Files of weights that many graphs share, since their values are no matter: one for each power of two of spread.

    Graphs name the files; :meth:`save` writes them, as long as the largest tensor of any graph needs.
    """

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}

    def tensor(self, name: str, shape: Sequence[int], spread: float) -> onnx.TensorProto:
        """Return a tensor whose values lie in a shared file, with about this standard deviation."""
        power = round(math.log2(spread))
        length = math.prod(shape)
        self._lengths[power] = max(length, self._lengths.get(power, 0))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", _file_of(power)), ("offset", "0"), ("length", str(4 * length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        return tensor

    def save(self, folder: Path) -> None:
        """Write the files that the graphs so far name."""
        for power, length in self._lengths.items():
            drawn = np.random.default_rng(power + 100).standard_normal(length, dtype=np.float32)
            (folder / _file_of(power)).write_bytes((drawn * np.float32(2.0**power)).tobytes())


def timed_graph(node: tree.Sequence, shape: Shape, shared: SharedWeights | None = None) -> onnx.ModelProto:
    """Return a graph that takes ``[N, channels, side, side]`` and computes a part of a network.

    The weights are drawn such that values neither grow nor vanish: numbers too small to be normal would be slow.

    Args:
        node: the part, or a whole network from :func:`triscale.network.lower.lower`.
        shape: of its input.
        shared: where the weights are to lie; by default they are in the graph.
    """
    writer = _Writer(shared)
    last, out = writer.sequence(node, INPUT, shape)
    writer.add("Identity", [last], OUTPUT)
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", shape.channels, shape.side, shape.side])
    dimensions: list[str | int | None] = ["batch", out.channels]
    if not writer.is_flat:
        dimensions += [out.side, out.side]
    result = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, dimensions)
    graph = helper.make_graph(writer.nodes, "timed", [image], [result], writer.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


class _Writer:
    """A graph in the making."""

    def __init__(self, shared: SharedWeights | None) -> None:
        self._shared = shared
        self.is_flat = False
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def add(self, operation: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [output], **attributes))
        return output

    def sequence(self, node: tree.Sequence, value: str, shape: Shape) -> tuple[str, Shape]:
        for _, child in node.children:
            value, shape = self._node(child, value, shape)
        return value, shape

    def _node(self, node: tree.Node, value: str, shape: Shape) -> tuple[str, Shape]:
        match node:
            case tree.Convolution():
                return self._convolution(node, value, shape), Shape(node.outputs, node.out_side)
            case tree.Normalization() | tree.Dropout():
                return value, shape
            case tree.Activation():
                return self._activation(node.kind, value), shape
            case tree.MaxPool() | tree.AveragePool():
                return self._pool(node, value, shape)
            case tree.GlobalPool():
                self.is_flat = True
                return self._mean(value, keep=False), Shape(shape.channels, 1)
            case tree.Linear():
                inputs = [value, self._drawn(node.outputs, node.inputs), self._drawn(node.outputs)]
                return self.add("Gemm", inputs, transB=1), Shape(node.outputs, 1)
            case tree.Sequence():
                return self.sequence(node, value, shape)
            case tree.Gate():
                gate, _ = self.sequence(node.body, self._mean(value, keep=True), Shape(shape.channels, 1))
                return self.add("Mul", [gate, value]), shape
            case tree.Residual():
                return self._residual(node, value, shape), node.out
            case _:
                assert_never(node)

    def _convolution(self, node: tree.Convolution, value: str, shape: Shape) -> str:
        weights = self._drawn(node.outputs, node.inputs // node.groups, node.kernel, node.kernel)
        return self.add(
            "Conv",
            [value, weights, self._drawn(node.outputs)],
            group=node.groups,
            kernel_shape=[node.kernel] * 2,
            pads=_pads(node, shape.side),
            strides=[node.stride] * 2,
        )

    def _activation(self, kind: str, value: str) -> str:
        match kind:
            case "silu":
                return self.add("Mul", [value, self.add("Sigmoid", [value])])
            case "relu6":
                return self.add("Clip", [value, self._constant(0.0), self._constant(6.0)])
            case "relu":
                return self.add("Relu", [value])
            case "sigmoid":
                return self.add("Sigmoid", [value])
            case _:
                raise AssertionError(kind)

    def _pool(self, node: tree.MaxPool | tree.AveragePool, value: str, shape: Shape) -> tuple[str, Shape]:
        operation = "MaxPool" if isinstance(node, tree.MaxPool) else "AveragePool"
        pads = _pads(node, shape.side)
        pooled = self.add(operation, [value], kernel_shape=[node.kernel] * 2, pads=pads, strides=[node.stride] * 2)
        return pooled, Shape(shape.channels, -(-shape.side // node.stride))

    def _mean(self, value: str, *, keep: bool) -> str:
        axes = numpy_helper.from_array(np.array([2, 3]), f"weight{len(self.weights)}")
        self.weights.append(axes)
        return self.add("ReduceMean", [value, axes.name], keepdims=int(keep))

    def _residual(self, node: tree.Residual, value: str, shape: Shape) -> str:
        body, _ = self.sequence(node.body, value, shape)
        shortcut = value if node.shortcut is None else self.sequence(node.shortcut, value, shape)[0]
        total = self.add("Add", [body, shortcut])
        return total if node.activation is None else self._activation(node.activation, total)

    def _drawn(self, *shape: int) -> str:
        spread = math.sqrt(2 / max(1, math.prod(shape[1:])))
        if self._shared is not None:
            self.weights.append(self._shared.tensor(f"weight{len(self.weights)}", shape, spread))
            return str(self.weights[-1].name)
        return self._keep(self._rng.standard_normal(shape, dtype=np.float32) * np.float32(spread))

    def _constant(self, value: float) -> str:
        return self._keep(np.array(value, dtype=np.float32))

    def _keep(self, array: NDArray[Any]) -> str:
        tensor = numpy_helper.from_array(array, f"weight{len(self.weights)}")
        self.weights.append(tensor)
        return str(tensor.name)


def _file_of(power: int) -> str:
    return f"weights{-power}.bin" if power <= 0 else f"weights_{power}.bin"


def _pads(node: tree.Convolution | tree.MaxPool | tree.AveragePool, side: int) -> list[int]:
    """Return what is added at the top, left, bottom and right."""
    if node.padding == "symmetric" or node.stride == 1:
        return [node.kernel // 2] * 4
    surplus = max(0, (-(-side // node.stride) - 1) * node.stride + node.kernel - side)
    return [surplus // 2] * 2 + [surplus - surplus // 2] * 2
