"""Lite forms of networks for int8 and small devices, by the rules of EfficientNet-Lite.

The rules are those of the EfficientNet-Lite release (Liu 2020,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite). Squeeze-and-excitation, which many
small devices do not support, is removed. Activations become ReLU6, whose range is known before quantization. When the
network is scaled, stem and head keep their widths, and the first and last stage their depths, so that small networks
stay small.
"""

from __future__ import annotations

from typing import assert_never

from triscale.errors import NetworkError
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import (
    Basic,
    Block,
    Bottleneck,
    Conv,
    FusedMBConv,
    MBConv,
    Network,
    Separable,
    Stage,
    UniversalBottleneck,
)


def lite(network: AnyNetwork) -> Network:
    """Return the lite form of a network, named ``NAME_lite``; a network that is already lite is returned unchanged.

    Weights of the original network do not fit: the lite form has no squeeze-and-excitation and computes another
    function.

    Raises:
        NetworkError: The network has ResNet blocks, which have no lite form, or is a custom model.

    Example:
        >>> from triscale.families import get
        >>> network = lite(get("mnasnet_a1"))
        >>> network.name, network.stages[2].block.se_ratio
        ('mnasnet_a1_lite', 0.0)
    """
    if isinstance(network, CustomNetwork):
        raise NetworkError(
            f"{network.name} is a custom model whose layers are unknown, so it has no lite form; write it without "
            "squeeze-and-excitation and with ReLU6, or give a published network or a network file"
        )
    ends = (0, len(network.stages) - 1)
    stages = tuple(
        stage.replace(
            block=_lite_block(stage, network.name), depth_rule="fixed" if number in ends else stage.depth_rule
        )
        for number, stage in enumerate(network.stages)
    )
    converted = network.replace(
        stem=network.stem.replace(activation="relu6", width_rule="fixed"),
        stages=stages,
        head=network.head.replace(activation="relu6", width_rule="fixed"),
    )
    return network if converted == network else converted.replace(name=f"{network.name}_lite")


def _lite_block(stage: Stage, name: str) -> Block:
    match stage.block:
        case MBConv() | FusedMBConv():
            return stage.block.replace(activation="relu6", se_ratio=0.0, se_rule=None)
        case UniversalBottleneck() | Separable() | Conv():
            return stage.block.replace(activation="relu6")
        case Basic() | Bottleneck():
            raise NetworkError(
                f"{name} has {stage.block.kind} blocks, which have no lite form: they have no squeeze-and-excitation, "
                "and their ReLU can be quantized as it is; leave out --lite, or give a network of mbconv, separable or "
                "conv blocks"
            )
        case _:
            assert_never(stage.block)
