"""Networks for small images keep a last feature map of at least 3 x 3 pixels; nothing else changes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import NetworkError
from triscale.families import get, names
from triscale.families.find import find_network
from triscale.network.cost import cost
from triscale.nn.build import build
from triscale.scaling.budget import Budget
from triscale.scaling.fit import fit_budget
from triscale.scaling.law import EFFICIENTNET


def strides(network):
    return [network.stem.stride * (2 if network.stem.max_pool else 1), *(stage.stride for stage in network.stages)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnet_b0@224", [2, 1, 2, 2, 2, 1, 2, 1]),
        ("efficientnet_b0@96", [2, 1, 2, 2, 2, 1, 2, 1]),
        ("efficientnet_b0@64", [1, 1, 2, 2, 2, 1, 2, 1]),
        ("efficientnet_b0@32", [1, 1, 1, 2, 2, 1, 2, 1]),
        ("resnet18@32", [1, 1, 2, 2, 2]),
    ],
)
def test_first_strides_are_removed(name, expected):
    assert strides(get(name)) == expected


def test_resnet_at_32_px_is_the_usual_cifar_resnet():
    """The usual CIFAR-10 variant; other code has a 3 x 3 stem, here the stem keeps its 7 x 7 kernel."""
    model = build(get("resnet18@32").replace(classes=10)).eval()
    assert tuple(model.forward_features(torch.zeros(1, 3, 32, 32)).shape) == (1, 512, 4, 4)


# Where two stages have the same width, a stride of 1 needs no projection in the second.
@given(st.sampled_from([name for name in names() if not name.startswith("regnetx_400mf")]), st.integers(8, 256))
@settings(max_examples=80, deadline=None)
def test_last_map_has_minimum_size_and_same_parameters(name, pixels):
    network = get(f"{name}@{pixels}")
    assert network.resolution == pixels
    assert min(3, pixels) <= -(-pixels // network.total_stride)
    assert cost(network).params == cost(get(name)).params


def test_adapted_network_fits_a_budget():
    fit = fit_budget(get("efficientnet_b0@32").replace(classes=10), EFFICIENTNET, Budget(macs=5_000_000))
    assert cost(fit.network).macs <= 5_000_000
    assert -(-fit.network.resolution // fit.network.total_stride) >= 1


@pytest.mark.parametrize(
    "text", ["efficientnet_b0@", "efficientnet_b0@big", "efficientnet_b0@0", "efficientnet_b0@99999"]
)
def test_invalid_size_is_rejected(text):
    with pytest.raises(NetworkError, match="write efficientnet_b0@32 or efficientnet_b0@720x184"):
        find_network(text)


def test_unknown_name_with_size_is_rejected():
    with pytest.raises(NetworkError, match="did you mean"):
        find_network("eficientnet_b0@32")
