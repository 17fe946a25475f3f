"""Name rules for Google's TensorFlow checkpoints of EfficientNet.

The names are those of ``models/official/efficientnet`` in https://github.com/tensorflow/tpu. The layers of a block are
numbered in order of creation, so the projection is the first convolution of a block without expansion. The values of a
layer already have PyTorch's names, see :func:`triscale.weights.bundle.to_torch`.
"""

from __future__ import annotations

from triscale.network.spec import BatchNorm
from triscale.weights.architecture import Architecture, Rules

RULES: dict[str, Rules] = {
    "efficientnet": (
        ("stem.conv", "stem/conv2d"),
        ("stem.norm", "stem/tpu_batch_normalization"),
        ("stages.*.blocks.*.se.reduce", "blocks_{index}/se/conv2d"),
        ("stages.*.blocks.*.se.expand", "blocks_{index}/se/conv2d_1"),
        ("stages.*.blocks.*.depthwise.conv", "blocks_{index}/depthwise_conv2d"),
        ("stages.0.blocks.*.depthwise.norm", "blocks_{index}/tpu_batch_normalization"),
        ("stages.0.blocks.*.project.conv", "blocks_{index}/conv2d"),
        ("stages.0.blocks.*.project.norm", "blocks_{index}/tpu_batch_normalization_1"),
        ("stages.*.blocks.*.expand.conv", "blocks_{index}/conv2d"),
        ("stages.*.blocks.*.expand.norm", "blocks_{index}/tpu_batch_normalization"),
        ("stages.*.blocks.*.depthwise.norm", "blocks_{index}/tpu_batch_normalization_1"),
        ("stages.*.blocks.*.project.conv", "blocks_{index}/conv2d_1"),
        ("stages.*.blocks.*.project.norm", "blocks_{index}/tpu_batch_normalization_2"),
        ("head.conv", "head/conv2d"),
        ("head.norm", "head/tpu_batch_normalization"),
        ("head.classifier", "head/dense"),
    ),
}

ARCHITECTURES: tuple[Architecture, ...] = tuple(
    Architecture(
        name=f"efficientnet-{size}",
        family="efficientnet",
        base=f"efficientnet_{size}",
        padding="same",
        norm=BatchNorm(eps=1e-3, momentum=0.01),
    )
    for size in (*(f"b{number}" for number in range(9)), "l2", *(f"lite{number}" for number in range(5)))
)
