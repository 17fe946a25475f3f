"""Memory of a network without torch: interpreters of the operation tree, fast enough for a budget solver.

:mod:`triscale.measurement.memory` counts the same on the modules themselves; ``tests/network/test_memory_estimate.py``
compares the two. The maps of inference agree to the byte, training within 12% for the published families: it leaves out
the temporary tensors of the backward pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from triscale.network import tree
from triscale.network.blocks import GATES
from triscale.network.cost import BYTES_PER_VALUE, Counts, count_network
from triscale.network.lower import lower
from triscale.network.spec import Network
from triscale.network.tree import Shape

OPTIMIZER_VALUES = 2
"""Values that AdamW keeps for each parameter."""
STATES = 3
"""Copies of each parameter in a training: the weight, its gradient and its moving average."""


def inference_bytes(network: Network, batch: int = 1, counts: Counts | None = None) -> int:
    """Return the peak memory of inference in float32: weights, batch-norm values, images and feature maps.

    Args:
        network: The network.
        batch: Number of images.
        counts: Its counts, if they are known.

    Example:
        >>> from triscale.families import get
        >>> inference_bytes(get("efficientnet_b0"))
        33651600
    """
    counts = counts or count_network(network)
    root = lower(network)
    return BYTES_PER_VALUE * (counts.params + counts.buffers + batch * _peak_of_parts(root))


def training_bytes(network: Network, batch: int = 32, counts: Counts | None = None) -> int:
    """Estimate the memory of a training step in float32 with AdamW and a moving average of the weights.

    It is that of weights, gradients, average, optimizer state, images, and what the backward pass keeps: the output of
    each convolution before its norm, and the output of each block.

    Args:
        network: The network.
        batch: Number of images in memory at a time.
        counts: Its counts, if they are known.

    Example:
        >>> from triscale.families import get
        >>> training_bytes(get("efficientnet_b0")) / 1e9
        1.1...
    """
    counts = counts or count_network(network)
    root = lower(network)
    state = (STATES + OPTIMIZER_VALUES) * counts.params + 2 * counts.buffers
    return BYTES_PER_VALUE * (state + batch * (_values(root.input) + _kept_by_parts(root)))


def _values(shape: Shape) -> int:
    return shape.channels * shape.area


def _peak_of_parts(root: tree.Root) -> int:
    """Return the maximum of values alive at a time; the callers of a part hold their inputs while it runs.

    ::

        image        |================================================|
        input of stage        |=================|
        input of block            |=======|
        maps of the block           |==|==|
    """
    image = _values(root.input)
    peak, shape = 0, root.input
    for number, (_, part) in enumerate(tree.children(root)):
        held = 0 if number == 0 else image
        if isinstance(part, tree.StageNode):
            within = shape
            for index, block in enumerate(part.blocks):
                stage_input = 0 if index == 0 else _values(shape)
                peak = max(peak, held + stage_input + _block_peak(block, within))
                within = block.out
        else:
            peak = max(peak, held + _peak(part, shape))
        shape = tree.output_shape(part, shape)
    return peak


@lru_cache(maxsize=8192)
def _block_peak(node: tree.Node, shape: Shape) -> int:
    """Return the peak of a block; cached, because equal blocks are the same node, also in other networks."""
    return _peak(node, shape)


def _peak(node: tree.Node, shape: Shape) -> int:
    """Return the maximum of values alive while a node runs, its input included."""
    inputs, outputs = _values(shape), _values(tree.output_shape(node, shape))
    match node:
        case tree.Residual():
            within = _peak_of_sequence(tree.children(node.body), shape)
            if node.shortcut is None:
                return max(within, inputs + 2 * outputs)
            # The branch is held while the shortcut runs; then branch, shortcut and their sum are alive.
            projected = outputs + _peak_of_sequence(tree.children(node.shortcut), shape)
            return max(within, projected, inputs + 3 * outputs)
        case tree.Root() | tree.StageNode() | tree.Sequence():
            return _peak_of_sequence(tree.children(node), shape)
        case tree.Convolution() | tree.MaxPool() | tree.AveragePool():
            return inputs + _padded(node, shape) + outputs
        case tree.Activation():
            return inputs + (outputs if node.kind in GATES else 0)  # the others overwrite their input
        case _:
            return inputs + outputs


def _peak_of_sequence(children: Iterable[tuple[str, tree.Node]], shape: Shape) -> int:
    peak, first = 0, shape
    for index, (_, child) in enumerate(children):
        held = 0 if index == 0 else _values(first)
        peak = max(peak, held + _peak(child, shape))
        shape = tree.output_shape(child, shape)
    return peak


def _padded(node: tree.Convolution | tree.MaxPool | tree.AveragePool, shape: Shape) -> int:
    """Return the values of the padded copy of the input, which SAME padding at a stride makes."""
    if node.padding != "same" or node.stride == 1:
        return 0
    height, width = (side + _extra(side, node.kernel, node.stride) for side in (shape.height, shape.width))
    return shape.channels * height * width if (height, width) != (shape.height, shape.width) else 0


def _extra(side: int, kernel: int, stride: int) -> int:
    return max(0, (-(-side // stride) - 1) * stride + kernel - side)


def _kept_by_parts(root: tree.Root) -> int:
    total, shape = 0, root.input
    for name, part in tree.children(root):
        if isinstance(part, tree.StageNode):
            within = shape
            for block in part.blocks:
                total += _kept_by_block(block, within)
                within = block.out
        else:
            total += _kept(part, shape)
            total += _values(tree.output_shape(part, shape)) if name != "head" else 0
        shape = tree.output_shape(part, shape)
    return total


@lru_cache(maxsize=8192)
def _kept_by_block(node: tree.Node, shape: Shape) -> int:
    return _kept(node, shape) + _values(tree.output_shape(node, shape))


def _kept(node: tree.Node, shape: Shape) -> int:
    """Return the values that a part keeps for the backward pass, without its input and output."""
    total = 0
    for visit in tree.walk(node, shape):
        match visit.node:
            case tree.Convolution():
                total += _values(visit.node.out)
            case tree.MaxPool():  # its input, and indices of 8 bytes
                total += _values(visit.input) + 2 * _values(tree.output_shape(visit.node, visit.input))
            case _:
                pass
    return total
