"""Networks for int8 and small devices: what EfficientNet-Lite changed in EfficientNet, for others of such blocks too.

The rules are those of the EfficientNet-Lite release (Liu 2020). Gates are taken out, which few small devices can
compute; activations become ReLU6, whose range is known before quantization. When the network is scaled, stem and head
keep their widths, first and last stage their depths, which holds small networks small.
"""

from __future__ import annotations

from typing import assert_never

from triscale.errors import NetworkError
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import ActivationKind, Basic, Block, Bottleneck, Conv, MBConv, Network, Separable, Stage

_ACTIVATION = {"activation": ActivationKind.RELU6}
_FIXED = {"width_rule": "fixed"}


def lite(network: AnyNetwork) -> Network:
    """Return the lite form of a network, under the name ``NAME_lite``; one that is lite already is returned as it is.

    Its weights are not those of the network: it has no gates, and computes something else.

    Raises:
        NetworkError: it has blocks of ResNets, which have no gates and nothing to take out, or is the function of a custom model.
    """
    if isinstance(network, CustomNetwork):
        raise NetworkError(
            f"{network.name} is a function whose layers are not known, so that it has no lite form; write it without "
            "gates and with ReLU6, or give a network as data"
        )
    ends = (0, len(network.stages) - 1)
    stages = tuple(
        stage.replace(
            block=_lite_block(stage, network.name), depth_rule="fixed" if number in ends else stage.depth_rule
        )
        for number, stage in enumerate(network.stages)
    )
    made = network.replace(
        stem=network.stem.replace(**(_ACTIVATION | _FIXED)),
        stages=stages,
        head=network.head.replace(**(_ACTIVATION | _FIXED)),
    )
    return network if made == network else made.replace(name=f"{network.name}_lite")


def _lite_block(stage: Stage, name: str) -> Block:
    match stage.block:
        case MBConv():
            return stage.block.replace(**(_ACTIVATION | {"se_ratio": 0.0}))
        case Separable() | Conv():
            return stage.block.replace(**_ACTIVATION)
        case Basic() | Bottleneck():
            raise NetworkError(
                f"{name} has {stage.block.kind} blocks, which have no lite form: they have no gates, and their ReLU "
                "goes into int8 as it is; leave --lite out, or give a network of mbconv, separable or conv blocks"
            )
        case _:
            assert_never(stage.block)
