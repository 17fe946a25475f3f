"""The rule engine: every name is mapped, or the import fails with a list of the others."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor

from triscale.errors import NetworkError, WeightsError
from triscale.families import get
from triscale.network.spec import Network
from triscale.weights.export import export_state
from triscale.weights.rules import to_triscale
from triscale.weights.sources import SOURCES, get_architecture, network_of

RESNET = SOURCES["torchvision"].rules["resnet"]


def resnet18() -> tuple[dict[str, Tensor], Network]:
    with torch.device("meta"):
        return dict(torchvision.models.resnet18().state_dict()), network_of("torchvision", "resnet18")


def test_other_numbers_of_classes_are_accepted():
    network = network_of("torchvision", "resnet18").replace(classes=7)
    with torch.device("meta"):
        state = torchvision.models.resnet18(num_classes=7).state_dict()
    assert len(to_triscale(state, network, RESNET, "torchvision's resnet18")) == len(state)


def test_classifier_is_skipped_only_on_request():
    _, network = resnet18()
    with torch.device("meta"):
        state = torchvision.models.resnet18(num_classes=7).state_dict()
    with pytest.raises(NetworkError, match=r"of another shape: head\.classifier.*number of classes is not 1000"):
        to_triscale(state, network, RESNET, "torchvision's resnet18")
    mapped = to_triscale(state, network, RESNET, "torchvision's resnet18", drop_head=True)
    assert len(mapped) == len(state) - 2
    assert not [name for name in mapped if "classifier" in name]


def test_num_batches_tracked_may_be_missing():
    state, network = resnet18()
    older = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    mapped = to_triscale(older, network, RESNET, "torchvision's resnet18")
    assert mapped["stem.norm.num_batches_tracked"].item() == 0
    assert len(mapped) == len(state)


def test_half_precision_becomes_float32():
    network = network_of("torchvision", "resnet18")
    state = {name: tensor.half() for name, tensor in torchvision.models.resnet18().state_dict().items()}
    mapped = to_triscale(state, network, RESNET, "torchvision's resnet18")
    assert mapped["stem.conv.weight"].dtype == torch.float32
    assert mapped["stem.norm.num_batches_tracked"].dtype == torch.int64


def test_unmatched_parameters_are_listed():
    state, network = resnet18()
    del state["layer1.0.conv1.weight"]
    state["layer5.0.conv1.weight"] = torch.zeros(1)
    state["fc.bias"] = torch.zeros(10)
    with pytest.raises(NetworkError) as caught:
        to_triscale(state, network, RESNET, "torchvision's resnet18")
    message = str(caught.value)
    assert "not those of torchvision's resnet18 with the structure of resnet18" in message
    assert "not in the weights: stages.0.blocks.0.first.conv.weight (layer1.0.conv1.weight)" in message
    assert "not in the network: layer5.0.conv1.weight" in message
    assert "of another shape: head.classifier.bias (fc.bias) is (10,) instead of (1000,)" in message


def test_long_list_is_truncated():
    state, _ = resnet18()
    with pytest.raises(NetworkError, match=r"not in the weights: .* and \d+ more; of another shape: .* and \d+ more"):
        to_triscale(state, network_of("torchvision", "resnet50"), RESNET, "torchvision's resnet50")


def test_squeeze_and_excitation_without_rule_is_rejected():
    with torch.device("meta"):
        state = torchvision.models.mnasnet1_0().state_dict()
    with pytest.raises(NetworkError, match=r"se\.reduce\.weight \(no rule\)"):
        to_triscale(state, get("mnasnet_a1"), SOURCES["torchvision"].rules["mnasnet"], "torchvision's mnasnet1_0")


@pytest.mark.parametrize(
    ("source", "name", "hint"),
    [
        ("torchvision", "efficientnet_b8", "did you mean efficientnet_b"),
        ("timm", "tf_eficientnet_b0", "did you mean .*tf_efficientnet_b0"),
        ("lukemelas", "resnet18", "it has efficientnet-b0"),
    ],
)
def test_unknown_network_of_source_is_rejected(source, name, hint):
    with pytest.raises(WeightsError, match=f'the network "{name}" of .* is unknown; {hint}'):
        network_of(source, name)


def test_unknown_source_is_rejected():
    with pytest.raises(WeightsError, match='no source of weights "tim"; did you mean timm'):
        network_of("tim", "resnet18")


@pytest.mark.parametrize(
    ("source", "name", "theirs"),
    [
        ("torchvision", "mnasnet_b1", "mnasnet1_0"),
        ("timm", "mobilenet_v2", "mobilenetv2_100"),
        ("timm", "tf_efficientnet_b0.ns_jft_in1k", "tf_efficientnet_b0"),
        ("lukemelas", "efficientnet_b3", "efficientnet-b3"),
        ("google", "efficientnet_lite0", "efficientnet-lite0"),
    ],
)
def test_own_names_and_tagged_names_are_found(source, name, theirs):
    assert get_architecture(source, name).name == theirs


def test_export_of_different_network_lists_fields():
    network = get("efficientnet_b0")
    from triscale.nn.build import build

    with torch.device("meta"):
        state = build(network).state_dict()
    with pytest.raises(WeightsError, match=r"padding is same, expected symmetric, norm\.eps is 0\.001, expected 1e-05"):
        export_state(state, network, "timm", "efficientnet_b0")
