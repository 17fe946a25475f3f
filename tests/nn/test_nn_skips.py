"""Skip connections of blocks: identity, pooled, or none."""

import pytest
import torch
from torch import nn

from triscale.families import get
from triscale.network.cost import count_network
from triscale.network.lower import lower
from triscale.network.spec import Conv, MBConv, Separable, Stage
from triscale.network.tree import Residual
from triscale.nn.build import build

BLOCKS = [MBConv(expansion=3, se_ratio=0.25), MBConv(expansion=1), Separable(), Conv()]


def network_of(block, width=16, stride=1, padding="same"):
    skeleton = get("mobilenet_v2@32")
    stages = (Stage(block=block, width=width, repeats=2, stride=stride),)
    return skeleton.replace(stem=skeleton.stem.model_copy(update={"width": 16}), stages=stages, padding=padding)


def blocks_of(network):
    return lower(network).stages[0].blocks


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.kind)
@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("stride", [1, 2])
def test_skip_connection_matches_setting(block, padding, stride):
    torch.manual_seed(0)
    none = build(network_of(block.model_copy(update={"skip": "none"}), stride=stride, padding=padding)).eval()
    images = torch.randn(2, 16, 14, 14)
    branch = none.stages[0].blocks[0](images)
    pool = nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if padding == "same" and stride == 2:  # an even side: the surplus falls to the end
        pool = nn.AvgPool2d(3, stride, ceil_mode=True, count_include_pad=False)
    for skip, wanted in (
        ("identity", branch + images if stride == 1 else branch),
        ("pool", branch + pool(images)),
    ):
        network = network_of(block.model_copy(update={"skip": skip}), stride=stride, padding=padding)
        model = build(network).eval()
        model.load_state_dict(none.state_dict())
        torch.testing.assert_close(model.stages[0].blocks[0](images), wanted)
        assert count_network(network) == count_network(none.network)


@pytest.mark.parametrize("skip", ["identity", "pool"])
def test_no_skip_where_widths_differ(skip):
    first, second = blocks_of(network_of(MBConv(skip=skip), width=24))
    assert not isinstance(first, Residual)
    assert isinstance(second, Residual)


def test_skips_have_gradients():
    model = build(network_of(MBConv(skip="pool"))).train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
