"""Write an operation tree as an ONNX graph, with trained or random weights.

Everything static is resolved at export: batch norm is folded into the preceding convolution, padding is an attribute of
the convolution, activations are placed where engines fuse them, and no shape is computed at run time. Nodes are named
after the structure (``stages.3.blocks.1.expand.conv``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, assert_never

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from triscale.network import tree
from triscale.network.lower import lower
from triscale.network.spec import ActivationKind, Network
from triscale.network.tree import Shape

OPSET = 13
"""The lowest version of the operations that has everything: weights quantized per channel need it."""
INPUT, OUTPUT = "images", "logits"


class GraphWeights(Protocol):
    """A source of weights for a graph."""

    def tensors(
        self, path: str, shape: tuple[int, ...], norm: tuple[str, float] | None, *, bias: bool
    ) -> tuple[onnx.TensorProto, onnx.TensorProto]:
        """Return the kernel and the bias of a layer.

        Args:
            path: Path of the layer in the structure.
            shape: Shape of its kernel, outputs first.
            norm: Path and epsilon of the batch norm to fold, if any.
            bias: Whether the layer has a bias.
        """


class TrainedWeights:
    """The weights of a model, with batch norm folded into the convolutions in float64."""

    def __init__(self, state: Mapping[str, NDArray[np.float32]]) -> None:
        self._state = state

    def tensors(
        self, path: str, shape: tuple[int, ...], norm: tuple[str, float] | None, *, bias: bool
    ) -> tuple[onnx.TensorProto, onnx.TensorProto]:
        """Return the kernel and the bias of a layer."""
        kernel = self._state[f"{path}.weight"].astype(np.float64)
        shift = self._state[f"{path}.bias"].astype(np.float64) if bias else np.zeros(shape[0])
        if norm is not None:
            scale, offset, mean, variance = (
                self._state[f"{norm[0]}.{name}"].astype(np.float64)
                for name in ("weight", "bias", "running_mean", "running_var")
            )
            # norm(conv(x)) = conv(x) * factor + (bias - mean) * factor + offset, see Ioffe & Szegedy 2015.
            factor = scale / np.sqrt(variance + norm[1])
            kernel = kernel * factor.reshape(-1, *[1] * (kernel.ndim - 1))
            shift = (shift - mean) * factor + offset
        return _tensor(f"{path}.weight", kernel), _tensor(f"{path}.bias", shift)


class RandomWeights:
    """Random weights with variance-preserving scale: vanishing values would become slow denormal numbers."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)

    def tensors(
        self,
        path: str,
        shape: tuple[int, ...],
        norm: tuple[str, float] | None,  # noqa: ARG002
        *,
        bias: bool,  # noqa: ARG002
    ) -> tuple[onnx.TensorProto, onnx.TensorProto]:
        """Return a random kernel and bias of a layer's shapes."""
        spread, normal = spread_of(shape), self._rng.standard_normal
        return (
            _tensor(f"{path}.weight", spread * normal(shape, dtype=np.float32)),
            _tensor(f"{path}.bias", normal(shape[0], dtype=np.float32)),
        )


class SharedWeights:
    """Weight files shared by many graphs for timing, where values do not matter: one file for each power-of-two scale.

    Graphs refer to the files; :meth:`save` writes them with the length of the largest tensor of any graph.
    """

    def __init__(self) -> None:
        self._lengths: dict[int, int] = {}

    def tensors(
        self,
        path: str,
        shape: tuple[int, ...],
        norm: tuple[str, float] | None,  # noqa: ARG002
        *,
        bias: bool,  # noqa: ARG002
    ) -> tuple[onnx.TensorProto, onnx.TensorProto]:
        """Return a kernel and a bias that refer to shared files."""
        return (
            self._tensor(f"{path}.weight", shape, spread_of(shape)),
            self._tensor(f"{path}.bias", (shape[0],), spread_of((shape[0],))),
        )

    def _tensor(self, name: str, shape: Sequence[int], spread: float) -> onnx.TensorProto:
        power = round(math.log2(spread))
        length = math.prod(shape)
        self._lengths[power] = max(length, self._lengths.get(power, 0))
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", _file_of(power)), ("offset", "0"), ("length", str(4 * length))):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        return tensor

    def save(self, folder: Path) -> None:
        """Write the files that the graphs so far refer to."""
        for power, length in self._lengths.items():
            values = np.random.default_rng(power + 100).standard_normal(length, dtype=np.float32)
            (folder / _file_of(power)).write_bytes((values * np.float32(2.0**power)).tobytes())


def network_graph(network: Network, state: Mapping[str, NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the ONNX graph of a network with trained weights, for any batch size.

    Args:
        network: The network; images have its resolution.
        state: The tensors of its module by name.
    """
    root = lower(network)
    return _graph(root, root.input, TrainedWeights(state))


def timed_graph(node: tree.Part, shape: Shape, shared: SharedWeights | None = None) -> onnx.ModelProto:
    """Return an ONNX graph of a part of a network for timing, with input ``[N, channels, side, side]``.

    Args:
        node: The part, or a whole network from :func:`triscale.network.lower.lower`.
        shape: Shape of its input.
        shared: Shared weight files; by default random weights are stored in the graph.

    Example:
        >>> from triscale.families import get
        >>> root = lower(get("efficientnet_b0@32"))
        >>> timed_graph(root.stem, root.input).graph.node[0].op_type
        'Conv'
    """
    return _graph(node, shape, shared or RandomWeights())


def spread_of(shape: tuple[int, ...]) -> float:
    """Return the standard deviation of random weights that preserves the variance of activations (He et al. 2015)."""
    return math.sqrt(2 / max(1, math.prod(shape[1:])))


def _graph(node: tree.Part, shape: Shape, weights: GraphWeights) -> onnx.ModelProto:
    writer = _Writer(weights)
    last, out = writer.container(node, "", INPUT, shape)
    writer.rename(last, OUTPUT)
    image = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *shape])
    dimensions: list[str | int | None] = ["batch", out.channels]
    if not writer.is_flat:
        dimensions += [out.height, out.width]
    result = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, dimensions)
    graph = helper.make_graph(writer.nodes, "triscale", [image], [result], writer.tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))


class _Writer:
    """A builder of a graph. A node, its output and its part of the structure have the same name."""

    def __init__(self, weights: GraphWeights) -> None:
        self._weights = weights
        self.is_flat = False
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def add(self, operation: str, inputs: Sequence[str], path: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operation, inputs, [path], name=path, **attributes))
        return path

    def rename(self, value: str, name: str) -> None:
        """Rename the graph's last value to its public name; an empty graph gets an Identity node."""
        if not self.nodes or self.nodes[-1].output[0] != value:
            self.add("Identity", [value], name)
            return
        self.nodes[-1].output[0] = name

    def container(self, node: tree.Container, path: str, value: str, shape: Shape) -> tuple[str, Shape]:
        """Add the children of a node in order; return the last value and its shape."""
        nodes = [(tree.join(path, name), child) for name, child in tree.children(node)]
        norm: str | None = None
        for number, (child_path, child) in enumerate(nodes):
            if isinstance(node, tree.Residual) and child is node.shortcut:
                continue
            if isinstance(child, tree.Convolution):
                follows = nodes[number + 1] if number + 1 < len(nodes) else None
                folded = None
                if follows is not None and isinstance(follows[1], tree.Normalization):
                    norm = follows[0]
                    folded = (norm, follows[1].eps)
                value = self._convolution(child, child_path, value, shape, folded)
            elif isinstance(child, tree.Normalization):
                assert child_path == norm, "batch norm follows its convolution"
            else:
                value = self._node(child, child_path, value, shape)
            shape = tree.output_shape(child, shape)
        return value, shape

    def _node(self, node: tree.Node, path: str, value: str, shape: Shape) -> str:
        match node:
            case tree.Convolution() | tree.Normalization():
                raise AssertionError("convolution and batch norm are handled by their container")
            case tree.Dropout():
                return value
            case tree.Activation():
                return self._activation(node.kind, path, value)
            case tree.MaxPool() | tree.AveragePool():
                return self._pool(node, path, value, shape)
            case tree.GlobalPool():
                if not node.flat:
                    return self.add("GlobalAveragePool", [value], path)
                self.is_flat = True
                mean = self.add("GlobalAveragePool", [value], f"{path}.mean")
                return self.add("Flatten", [mean], path)
            case tree.Flatten():
                self.is_flat = True
                return self.add("Flatten", [value], path)
            case tree.Linear():
                kernel, bias = self._layer(path, (node.outputs, node.inputs), None, bias=True)
                return self.add("Gemm", [value, kernel, bias], path, transB=1)
            case tree.Root() | tree.StageNode() | tree.Sequence():
                return self.container(node, path, value, shape)[0]
            case tree.SqueezeExcite():
                mean = self.add("GlobalAveragePool", [value], f"{path}.mean")
                scale, _ = self.container(node, path, mean, Shape(shape.channels))
                return self.add("Mul", [scale, value], f"{path}.scaled")
            case tree.Residual():
                return self._residual(node, path, value, shape)
            case _:
                assert_never(node)

    def _convolution(
        self, node: tree.Convolution, path: str, value: str, shape: Shape, norm: tuple[str, float] | None
    ) -> str:
        kernel = (node.outputs, node.inputs // node.groups, node.kernel, node.kernel)
        return self.add(
            "Conv",
            [value, *self._layer(path, kernel, norm, bias=node.bias)],
            path,
            group=node.groups,
            kernel_shape=[node.kernel] * 2,
            pads=_pads(node, shape),
            strides=[node.stride] * 2,
        )

    def _activation(self, kind: ActivationKind, path: str, value: str) -> str:
        match kind:
            case ActivationKind.SILU:
                return self.add("Mul", [value, self.add("Sigmoid", [value], f"{path}.sigmoid")], path)
            case ActivationKind.RELU6:
                return self.add("Clip", [value, self._constant("zero", 0.0), self._constant("six", 6.0)], path)
            case ActivationKind.RELU:
                return self.add("Relu", [value], path)
            case ActivationKind.SIGMOID:
                return self.add("Sigmoid", [value], path)
            case ActivationKind.HARD_SWISH:  # ONNX has the whole function only from opset 14
                gate = self.add("HardSigmoid", [value], f"{path}.hard_sigmoid", alpha=1 / 6, beta=0.5)
                return self.add("Mul", [value, gate], path)
            case ActivationKind.HARD_SIGMOID:
                return self.add("HardSigmoid", [value], path, alpha=1 / 6, beta=0.5)
            case _:
                assert_never(kind)

    def _pool(self, node: tree.MaxPool | tree.AveragePool, path: str, value: str, shape: Shape) -> str:
        operation = "MaxPool" if isinstance(node, tree.MaxPool) else "AveragePool"
        pads = _pads(node, shape)
        window = {"kernel_shape": [node.kernel] * 2, "pads": pads, "strides": [node.stride] * 2}
        return self.add(operation, [value], path, **window)

    def _residual(self, node: tree.Residual, path: str, value: str, shape: Shape) -> str:
        body, _ = self.container(node, path, value, shape)
        shortcut = value
        if node.shortcut is not None:
            shortcut, _ = self.container(node.shortcut, tree.join(path, tree.SHORTCUT), value, shape)
        total = self.add("Add", [body, shortcut], f"{path}.sum")
        return total if node.activation is None else self._activation(node.activation, f"{path}.activation", total)

    def _layer(
        self, path: str, kernel: tuple[int, ...], norm: tuple[str, float] | None, *, bias: bool
    ) -> tuple[str, str]:
        tensors = self._weights.tensors(path, kernel, norm, bias=bias)
        self.tensors.extend(tensors)
        return tensors[0].name, tensors[1].name

    def _constant(self, name: str, value: float) -> str:
        if all(tensor.name != name for tensor in self.tensors):
            self.tensors.append(numpy_helper.from_array(np.array(value, dtype=np.float32), name))
        return name


def _tensor(name: str, values: NDArray[Any]) -> onnx.TensorProto:
    return numpy_helper.from_array(values.astype(np.float32), name)


def _file_of(power: int) -> str:
    return f"weights{-power}.bin" if power <= 0 else f"weights_{power}.bin"


def _pads(node: tree.Convolution | tree.MaxPool | tree.AveragePool, shape: Shape) -> list[int]:
    """Return ONNX padding: top, left, bottom, right."""
    if node.padding == "symmetric" or node.stride == 1:
        return [node.kernel // 2] * 4
    # TensorFlow's SAME padding: an odd surplus goes to the bottom and right.
    down, across = (max(0, (-(-side // node.stride) - 1) * node.stride + node.kernel - side) for side in shape[1:])
    return [down // 2, across // 2, down - down // 2, across - across // 2]
