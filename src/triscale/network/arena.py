"""Memory of an int8 network on a microcontroller: RAM for its maps, and flash for its file.

``ram_bytes`` is the arena of maps that TensorFlow Lite Micro plans: the image, the output of each operator, and the
scratch memory of its reference kernels (MEAN has some; those of other libraries, such as CMSIS-NN, may need more). It
is not the records that the interpreter keeps in addition (``interpreter_bytes``), the stack, or the program.
``flash_bytes`` is the LiteRT file, not the program that runs it.

``benchmarks/arena.py`` compares all three with TensorFlow Lite Micro's interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from triscale.network.int8_graph import BYTES_PER_SUM, GraphConstant, Int8Graph, Layer, int8_graph, num_bytes
from triscale.network.spec import Network

ALIGNMENT = 16
"""Maps begin at multiples of this number of bytes."""
BYTES_PER_CHANNEL = BYTES_PER_SUM + 2 * (4 + 8)
"""An output channel's bias, and the scales (float32) and zero points (int64) of its weights and its bias."""

# The remaining bytes of a file: tables, names, alignment; and of the interpreter's records: the structs of kernels.
# Fitted to the files and printed allocations of the networks in benchmarks/arena.py.
CONSTANT_BYTES, OPERATOR_BYTES, FILE_BYTES = 176, 152, 2048
KERNEL_BYTES = {
    "ADD": 62, "AVERAGE_POOL_2D": 64, "CONV_2D": 111, "DEPTHWISE_CONV_2D": 107, "FULLY_CONNECTED": 107,
    "HARD_SWISH": 36, "LOGISTIC": 22, "MAX_POOL_2D": 64, "MEAN": 75, "MUL": 47, "PAD": 72,
}  # fmt: skip
INTERPRETER_BYTES = 720


class ArenaBuffer(NamedTuple):
    """Memory that is needed for some time.

    Attributes:
        size: Bytes.
        first: The step at which it is written.
        last: The last step at which it is read.
    """

    size: int
    first: int
    last: int


def ram_bytes(network: Network) -> int:
    """Return the peak memory of the maps of the int8 network, as TensorFlow Lite Micro places them.

    Args:
        network: The network; its resolution and input channels count.

    Example:
        >>> from triscale.families import get
        >>> ram_bytes(get("mobilenet_v1_025@96").replace(in_channels=1))
        55296
    """
    return ram_of(int8_graph(network))


def flash_bytes(network: Network) -> int:
    """Return the size of the int8 network's file.

    Args:
        network: The network.

    Example:
        >>> from triscale.families import get
        >>> flash_bytes(get("mobilenet_v1_025@96")) / 1e3
        5...
    """
    return flash_of(int8_graph(network))


def ram_of(graph: Int8Graph) -> int:
    """Return the peak memory of a graph's maps."""
    buffers = arena_buffers(graph)
    return max(offset + buffer.size for offset, buffer in zip(arena_plan(buffers), buffers, strict=True))


def arena_buffers(graph: Int8Graph) -> list[ArenaBuffer]:
    """Return the buffers of a graph: the image, the outputs in order, and then the scratch memory of operators.

    The image is there from step 0, the output of operator ``i`` from step ``i + 1`` until its last reader has run.
    """
    last = list(range(len(graph.operators) + 1))
    for step, operator in enumerate(graph.operators, 1):
        for index in operator.inputs:
            last[index] = step
    shapes = (graph.input, *(operator.output for operator in graph.operators))
    maps = [
        ArenaBuffer(_aligned(num_bytes(shape)), first, end)
        for first, (shape, end) in enumerate(zip(shapes, last, strict=True))
    ]
    scratch = [
        ArenaBuffer(_aligned(operator.scratch), step, step)
        for step, operator in enumerate(graph.operators, 1)
        if operator.scratch
    ]
    return maps + scratch


def arena_plan(buffers: Sequence[ArenaBuffer]) -> list[int]:
    """Return the offset of each buffer, by the greedy planner of TensorFlow Lite Micro.

    The largest buffer is placed first, of equal ones the later. Each gets the lowest offset at which nothing lies that
    is needed at the same time::

        offset
          |        +---------+
          |   +----|    c    |
          |   | b  +---------+---+
          |   +----|      a      |
          +---------------------------> step

    Args:
        buffers: The buffers; of equal ones, the last is placed first.

    Example:
        >>> arena_plan([ArenaBuffer(16, 0, 1), ArenaBuffer(64, 1, 2), ArenaBuffer(32, 2, 3)])
        [64, 0, 64]
    """
    offsets = [0] * len(buffers)
    steps = 1 + max((buffer.last for buffer in buffers), default=0)
    # The placed buffers that are needed at each step, by their number.
    placed: list[list[int]] = [[] for _ in range(steps)]
    for number in sorted(range(len(buffers)), key=lambda number: (-buffers[number].size, -number)):
        size, first, last = buffers[number]
        others = {other for step in range(first, last + 1) for other in placed[step]}
        offset = 0
        for begin, end in sorted((offsets[other], offsets[other] + buffers[other].size) for other in others):
            if begin - offset >= size:
                break
            offset = max(offset, end)
        offsets[number] = offset
        for step in range(first, last + 1):
            placed[step].append(number)
    return offsets


def flash_of(graph: Int8Graph) -> int:
    """Return the size of a graph's file: weights, biases, their scales and zero points, constants and the structure.

    Padding that only another image size would need counts, so that a larger image never has a smaller file.
    """
    layers = _layers(graph)
    spare = [operator.border for operator in graph.operators if operator.border is not None]
    constants = _constants(graph) | set(spare)
    values = sum(layer.weights + BYTES_PER_CHANNEL * layer.channels for layer in layers)
    values += sum(constant.size for constant in constants)
    operators = len(graph.operators) + len(spare)
    return values + CONSTANT_BYTES * (2 * len(layers) + len(constants)) + OPERATOR_BYTES * operators + FILE_BYTES


def interpreter_bytes(network: Network, pointer: int = 4) -> int:
    """Return the bytes that TensorFlow Lite Micro's interpreter keeps in its arena in addition to the maps, at most.

    They are a record of each tensor and operator, and a multiplier and a shift for each output channel. Other engines
    have them in flash, or generate code instead.

    Args:
        network: The network.
        pointer: Bytes of a pointer on the device.

    Example:
        >>> from triscale.families import get
        >>> interpreter_bytes(get("mobilenet_v1_025@96").replace(in_channels=1, classes=2)) / 1e3
        27.7...
    """
    graph = int8_graph(network)
    layers = _layers(graph)
    tensors = len(graph.operators) + 1 + 2 * len(layers) + len(_constants(graph))
    kernels = sum(KERNEL_BYTES[operator.kind] for operator in graph.operators)
    channels = 2 * BYTES_PER_SUM * sum(layer.channels for layer in layers)
    return channels + kernels + pointer * (3 * tensors + 8 * len(graph.operators)) + INTERPRETER_BYTES


def _layers(graph: Int8Graph) -> list[Layer]:
    return [operator.layer for operator in graph.operators if operator.layer is not None]


def _constants(graph: Int8Graph) -> set[GraphConstant]:
    return {operator.constant for operator in graph.operators if operator.constant is not None}


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
