"""Compare the RAM and flash of int8 networks as Triscale counts them with TensorFlow Lite Micro's own interpreter.

    python -m venv .venv-arena
    .venv-arena/bin/pip install tensorflow-cpu tflite-micro pydantic
    .venv-arena/bin/pip install --no-deps .
    .venv-arena/bin/python benchmarks/arena.py > benchmarks/results/arena.txt

Each network is written as TensorFlow operations with random weights (batch norm included), converted by TensorFlow's
converter to a full int8 file, and loaded by the interpreter of the ``tflite-micro`` package, which prints what its
allocator has handed out. The graph is written again here, not taken from Triscale's int8 graph. With ``--files``, the
files of another converter are compared, which ``benchmarks/arena_files.py`` writes.

The interpreter's ``head`` are the maps and scratch memory, which a budget of RAM limits; its ``tail`` are the records
that it keeps besides them, on this machine with 8 bytes for each pointer. ``flash`` is the size of the file.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, assert_never

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from triscale.families import get
from triscale.network import tree
from triscale.network.arena import flash_bytes, interpreter_bytes, ram_bytes
from triscale.network.lower import lower
from triscale.network.spec import ActivationKind, Network
from triscale.scaling.budget import Budget
from triscale.scaling.fit import fit_budget
from triscale.scaling.named_laws import NAMED_LAWS

COMMAND = "python benchmarks/arena.py > benchmarks/results/arena.txt"
COMMAND_FOR_FILES = "python benchmarks/arena.py --files FOLDER > benchmarks/results/arena_litert.txt"
PUBLISHED = (
    "mobilenet_v1@128", "mobilenet_v1_050@160", "mobilenet_v2@96", "mobilenet_v2@144", "mobilenet_v2@96x48",
    "mobilenet_v3_small@64", "mobilenet_v3_large@96", "mobilenet_v4_conv_small@96", "mnasnet_a1@96", "mnasnet_b1@80",
    "efficientnet_b0@64", "efficientnet_b0@224", "efficientnet_lite0@128", "efficientnetv2_b0@96",
    "efficientnet_edgetpu_s@64", "tinynet_c", "tinynet_e", "resnet18@64", "resnet50@64", "resnet50@65",
    "resnext50_32x4d@64", "regnetx_200mf@64", "regnety_200mf@64", "resnetrs50@96",
    "mcunet_10fps", "mcunet_320kb", "mobilenet_v2_030_80",
)  # fmt: skip
GRAY = (("mobilenet_v1_025@96", 2), ("mobilenet_v2@64", 10), ("mnasnet_b1@32", 10), ("tinynet_e@48", 10))
"""Networks with one input channel, and their classes."""
FITTED = (
    ("mobilenet_v2", "mcu", "256KB ram, 1MB flash"), ("mcunet_256kb", "mcu", "256KB ram, 1MB flash"),
    ("mcunet_5fps", "mcu", "20KB ram"), ("mobilenet_v1", "paper", "64KB ram"),
    ("efficientnet_lite0", "dwr", "128KB ram"), ("mobilenet_v3_small", "mcu", "100KB ram"),
)  # fmt: skip
"""Baselines, laws and budgets."""
CALIBRATION_IMAGES = 2
RNG = np.random.default_rng(0)
LOADER = (
    "import sys; from tflite_micro.python.tflite_micro import runtime; "
    "runtime.Interpreter.from_file(sys.argv[1], arena_size=200_000_000).print_allocations()"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, help="folder of files named after networks, instead of new ones")
    folder = parser.parse_args().files
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow-cpu", "tflite-micro"))
    print(f"# {COMMAND if folder is None else COMMAND_FOR_FILES}\n# {versions}\n")
    print(f"{'':42}{'RAM / head':>18}{'error':>8}{'records / tail':>17}{'error':>8}{'flash / file':>19}{'error':>8}")
    errors: list[tuple[float, ...]] = []
    if folder is None:
        compared = ((title, network, converted(network)) for title, network in networks())
    else:
        compared = ((file.stem, get(file.stem), file.read_bytes()) for file in sorted(folder.glob("*.tflite")))
    for title, network, file in compared:
        head, tail = allocated(file)
        pairs = (
            (ram_bytes(network), head),
            (interpreter_bytes(network, pointer=8), tail),
            (flash_bytes(network), len(file)),
        )
        errors.append(tuple(ours / theirs - 1 for ours, theirs in pairs))
        cells = "".join(
            f"{f'{ours}/{theirs}':>{width}}{ours / theirs - 1:>8.2%}"
            for width, (ours, theirs) in zip((18, 17, 19), pairs, strict=True)
        )
        print(f"{title:42}{cells}", flush=True)
    print(f"\n{len(errors)} networks. Each pair is Triscale's figure and that of the interpreter or file, in bytes.")
    for name, column in zip(("RAM", "records", "flash"), zip(*errors, strict=True), strict=True):
        exact = sum(error == 0 for error in column)
        sizes = sorted(map(abs, column))
        print(f"{name}: {exact} equal; error at most {sizes[-1]:.2%}, median {statistics.median(sizes):.2%}")


def networks() -> Iterator[tuple[str, Network]]:
    """Yield the networks that are compared, with a description of each."""
    for name in PUBLISHED:
        yield name, get(name)
    for name, classes in GRAY:
        yield f"{name}, gray, {classes} classes", get(name).replace(in_channels=1, classes=classes)
    for name, law, budget in FITTED:
        fitted = fit_budget(get(name), NAMED_LAWS[law], Budget.of(budget)).network
        assert isinstance(fitted, Network)
        yield f"{name} by {law}, {budget}", fitted


def converted(network: Network) -> bytes:
    """Return the int8 file of a network with random weights."""
    root = lower(network)
    shape = [1, root.input.height, root.input.width, root.input.channels]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)])
    def function(images: Any) -> Any:
        return written(root, images, root.input)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([normal(*shape)] for _ in range(CALIBRATION_IMAGES))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    file: bytes = converter.convert()
    return file


def allocated(file: bytes) -> tuple[int, int]:
    """Return the bytes that TensorFlow Lite Micro's allocator handed out for maps and for records."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        path.write_bytes(file)
        command = [sys.executable, "-c", LOADER, str(path)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = {part: re.search(rf"Arena allocation {part} (\d+) bytes", printed) for part in ("head", "tail")}
    head, tail = (int(match[1]) for match in found.values() if match is not None)
    return head, tail


def written(node: tree.Node, value: Any, shape: tree.Shape) -> Any:  # noqa: PLR0912 - one case for each node
    """Return the output of a node as TensorFlow operations."""
    match node:
        case tree.Root() | tree.StageNode() | tree.Sequence():
            for _, child in tree.children(node):
                value, shape = written(child, value, shape), tree.output_shape(child, shape)
            return value
        case tree.SqueezeExcite():
            mean = tf.reduce_mean(value, [1, 2], keepdims=True)
            return value * written(node.body, mean, tree.Shape(shape.channels))
        case tree.Residual():
            # The converter orders branches by their names.
            with tf.name_scope("a_body"):
                body = written(node.body, value, shape)
            with tf.name_scope("b_shortcut"):
                shortcut = value if node.shortcut is None else written(node.shortcut, value, shape)
            total = body + shortcut
            return total if node.activation is None else activated(node.activation, total)
        case tree.Convolution():
            return convolved(node, value, shape)
        case tree.Normalization():
            mean, variance, offset, scale = (RNG.uniform(0.5, 1.5, node.channels).astype("float32") for _ in range(4))
            return tf.nn.batch_normalization(value, mean - 1, variance, offset - 1, scale, node.eps)
        case tree.Activation():
            return activated(node.kind, value)
        case tree.MaxPool():
            value, padding = padded(node, value, shape)
            return tf.nn.max_pool2d(value, node.kernel, node.stride, padding)
        case tree.AveragePool():
            value, padding = padded(node, value, shape)
            mean = tf.nn.avg_pool2d(value, node.kernel, node.stride, padding)
            return mean if padding == "SAME" else mean * uncounted(node, shape)
        case tree.GlobalPool():
            return tf.reduce_mean(value, [1, 2], keepdims=not node.flat)
        case tree.Flatten():
            return tf.reshape(value, [1, -1])
        case tree.Linear():
            return tf.linalg.matmul(value, normal(node.inputs, node.outputs)) + normal(node.outputs)
        case tree.Dropout():
            return value
        case _:
            assert_never(node)


def convolved(node: tree.Convolution, value: Any, shape: tree.Shape) -> Any:
    """Return a convolution without batch norm."""
    value, padding = padded(node, value, shape)
    strides = [1, node.stride, node.stride, 1]
    if node.is_depthwise:
        value = tf.nn.depthwise_conv2d(value, normal(node.kernel, node.kernel, node.inputs, 1), strides, padding)
    else:
        kernel = normal(node.kernel, node.kernel, node.inputs // node.groups, node.outputs)
        value = tf.nn.conv2d(value, kernel, strides, padding)
    return tf.nn.bias_add(value, normal(node.outputs)) if node.bias else value


def padded(node: tree.Convolution | tree.MaxPool | tree.AveragePool, value: Any, shape: tree.Shape) -> tuple[Any, str]:
    """Return the padded input of a window, and TensorFlow's padding that remains to be done."""
    border = node.kernel // 2
    if node.padding == "same" or node.stride == 1:
        return value, "SAME"
    # TensorFlow's SAME padding begins with the smaller half: none of these sides may have a different one.
    starts = [max(0, (-(-side // node.stride) - 1) * node.stride + node.kernel - side) / 2 for side in shape[1:]]
    if starts == [border, border]:
        return value, "SAME"
    return tf.pad(value, [[0, 0], [border, border], [border, border], [0, 0]]), "VALID"


def uncounted(node: tree.AveragePool, shape: tree.Shape) -> NDArray[np.float32]:
    """Return the factors that turn means over a padded map into means over the map."""
    border = node.kernel // 2
    counts = []
    for side in shape[1:]:
        begins = [node.stride * index - border for index in range(-(-side // node.stride))]
        counts.append([min(begin + node.kernel, side) - max(begin, 0) for begin in begins])
    inside = np.outer(*counts)[None, :, :, None]
    return (node.kernel**2 / inside).astype("float32")


def activated(kind: ActivationKind, value: Any) -> Any:
    """Return an activation as its authors wrote it in TensorFlow."""
    match kind:
        case ActivationKind.RELU:
            return tf.nn.relu(value)
        case ActivationKind.RELU6:
            return tf.nn.relu6(value)
        case ActivationKind.SILU:
            return value * tf.sigmoid(value)
        case ActivationKind.SIGMOID:
            return tf.sigmoid(value)
        case ActivationKind.HARD_SWISH:
            return value * tf.nn.relu6(value + 3.0) * (1 / 6)
        case ActivationKind.HARD_SIGMOID:
            return tf.nn.relu6(value + 3.0) * (1 / 6)
        case _:
            assert_never(kind)


def normal(*shape: int) -> NDArray[np.float32]:
    """Return random values that keep the variance of what they are multiplied with."""
    values = RNG.standard_normal(shape, dtype=np.float32)
    return values / np.float32(max(1, np.prod(shape[:-1])) ** 0.5)


if __name__ == "__main__":
    main()
