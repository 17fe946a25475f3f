"""Memory estimated from the operation tree, against the count on torch's modules."""

from __future__ import annotations

import pytest

from triscale.families import get
from triscale.measurement.memory import inference_memory, training_memory
from triscale.network.cost import cost
from triscale.network.memory_estimate import inference_bytes, training_bytes
from triscale.network.spec import Basic, Conv, Head, MBConv, Network, Stage, Stem
from triscale.nn.build import build

NAMES = [
    "efficientnet_b0", "efficientnet_b0@32", "efficientnet_lite0", "mobilenet_v1", "mobilenet_v2", "mnasnet_a1",
    "resnet18", "resnet50", "efficientnetv2_b0", "mobilenet_v3_small", "mobilenet_v4_conv_small", "regnety_200mf",
    "tinynet_e", "resnetrs50", "efficientnet_edgetpu_s",
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_inference_memory_of_the_maps_is_that_of_the_modules(name, batch):
    network = get(name)
    counted = inference_memory(build(network), batch, network.input_shape)
    assert inference_bytes(network, batch) - cost(network).size_bytes == counted.activation_bytes


@pytest.mark.parametrize("name", NAMES)
def test_training_memory_is_within_12_percent(name):
    network = get(name)
    counted = training_memory(build(network), 32, network.input_shape, optimizer_values=2)
    assert training_bytes(network) == pytest.approx(counted.total_bytes, rel=0.12)


@pytest.mark.parametrize("block", [Conv(), MBConv(expansion=2), Basic()])
def test_equal_stages_in_a_row_hold_the_input_of_each(block):
    stages = (Stage(block=block, width=64, repeats=3),) * 2
    network = Network(name="equal", stem=Stem(width=8, stride=1), stages=stages, head=Head(width=32), resolution=64)
    counted = inference_memory(build(network), 1, network.input_shape)
    assert inference_bytes(network, 1) - cost(network).size_bytes == counted.activation_bytes


def test_memory_grows_with_batch_and_size():
    small, large = get("efficientnet_b0"), get("efficientnet_b1")
    for estimate in (inference_bytes, training_bytes):
        assert estimate(small, 1) < estimate(small, 2) < estimate(large, 2)
