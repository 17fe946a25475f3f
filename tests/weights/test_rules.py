"""The rule engine: every name is mapped, or the import fails with a list of the others."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor

from triscale.errors import NetworkError, WeightsError
from triscale.families import get
from triscale.network.spec import Network
from triscale.weights.adapt import adapt
from triscale.weights.export import export_state
from triscale.weights.identify import identify
from triscale.weights.rules import expected_state, from_triscale, their_names, their_shapes, to_triscale
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


@pytest.mark.parametrize(
    ("source", "name"), [("timm", "mobilenetv4_conv_small"), ("torchvision", "mobilenet_v3_small")]
)
def test_shapes_without_a_module_are_those_of_the_module(source, name):
    architecture = get_architecture(source, name)
    tables = SOURCES[source]
    rules = tables.rules[architecture.family]
    state = from_triscale(expected_state(architecture.network), architecture.network, rules, groups=architecture.groups)
    expected = {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert dict(their_shapes(architecture.network, rules, architecture.groups).values()) == expected


def test_linear_layer_of_theirs_becomes_a_convolution_and_back():
    architecture = get_architecture("torchvision", "mobilenet_v3_small")
    rules = SOURCES["torchvision"].rules[architecture.family]
    with torch.device("meta"):
        state = torchvision.models.mobilenet_v3_small().state_dict()
    mapped = to_triscale(state, architecture.network, rules, "theirs")
    assert mapped["head.wide.conv.weight"].shape == (1024, 576, 1, 1)
    exported = export_state(mapped, architecture.network, "torchvision", "mobilenet_v3_small")
    assert {name: value.shape for name, value in exported.items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize("drop_head", [False, True])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "regnet_y_400mf"])
def test_only_the_last_layer_of_a_head_is_the_classifier(name, drop_head):
    architecture = get_architecture("torchvision", name)
    rules = SOURCES["torchvision"].rules[architecture.family]
    state = torchvision.models.get_model(name, num_classes=7).state_dict()
    adapted = adapt(state, architecture.network, rules, drop_head=drop_head)
    assert adapted.network.classes == (1000 if drop_head else 7)
    assert adapted.has_head != drop_head
    mapped = to_triscale(adapted.state, adapted.network, rules, "theirs", drop_head=drop_head)
    assert len(mapped) == len(state) - 2 * drop_head


def test_stages_of_theirs_with_unequal_blocks_are_groups_of_ours():
    timm = pytest.importorskip("timm")
    architecture = get_architecture("timm", "mobilenetv4_conv_small")
    with torch.device("meta"):
        state = timm.create_model("mobilenetv4_conv_small").state_dict()
    names = their_names(architecture.network, SOURCES["timm"].rules["mobilenetv4"], architecture.groups)
    assert names["stages.5.blocks.3.depthwise.conv.weight"] == "blocks.2.4.dw_mid.conv.weight"
    assert set(names.values()) == set(state)


@pytest.mark.parametrize(
    "name", ["mobilenetv3_small_075", "regnety_002", "tf_efficientnetv2_b0", "mobilenetv4_conv_small"]
)
def test_networks_are_recognized_by_their_tensors(name):
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    assert ("timm", name) in identify(state)
