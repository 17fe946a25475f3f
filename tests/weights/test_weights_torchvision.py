"""torchvision's state dicts, under our names, compute what torchvision's modules compute."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn

from triscale.errors import NetworkError
from triscale.families import get
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.weights.torchvision import NORMS, RULES, from_torchvision, torchvision_network

CASES = [
    ("efficientnet_b0", "efficientnet_b0", "efficientnet"),
    ("efficientnet_b3", "efficientnet_b3", "efficientnet"),
    ("efficientnet_b5", "efficientnet_b5", "efficientnet"),
    ("mobilenet_v2", "mobilenet_v2", "mobilenet_v2"),
    ("mnasnet_b1", "mnasnet1_0", "mnasnet"),
    ("resnet18", "resnet18", "resnet"),
    ("resnet50", "resnet50", "resnet"),
]
ALL = [
    *((f"efficientnet_b{number}", f"efficientnet_b{number}", "efficientnet") for number in range(8)),
    *((f"resnet{layers}", f"resnet{layers}", "resnet") for layers in (18, 34, 50, 101, 152)),
    CASES[3],
    CASES[4],
]


@torch.no_grad()
def with_random_norms(model: nn.Module) -> nn.Module:
    """Draw all values of batch norm, its statistics near those of noise, so that logits are of ordinary size."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momentum = norms[0].momentum
    for module in norms:
        module.weight.uniform_(0.8, 1.2)
        module.bias.normal_(0, 0.1)
        module.momentum = 1.0
    model.train()(torch.randn(2, 3, 96, 96))
    for module in norms:
        module.running_mean.add_(torch.randn_like(module.running_mean) * 0.1)
        module.running_var.mul_(torch.empty_like(module.running_var).uniform_(0.8, 1.2)).add_(1e-3)
        module.momentum = momentum
    return model.eval()


def pair(name: str, theirs: str, family: str) -> tuple[nn.Module, nn.Module, Network]:
    network = torchvision_network(get(name))
    torch.manual_seed(1)
    their_model = with_random_norms(torchvision.models.get_model(theirs))
    our_model = build(network).eval()
    our_model.load_state_dict(from_torchvision(their_model.state_dict(), network, family), strict=True)
    return our_model, their_model, network


@pytest.mark.parametrize(("name", "theirs", "family"), CASES)
def test_logits_are_torchvisions(name, theirs, family):
    our_model, their_model, network = pair(name, theirs, family)
    for resolution in (network.resolution, 97):
        images = torch.randn(1, 3, resolution, resolution, generator=torch.Generator().manual_seed(resolution))
        with torch.no_grad():
            ours, expected = our_model(images), their_model(images)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_feature_maps_are_torchvisions():
    our_model, their_model, _ = pair("efficientnet_b0", "efficientnet_b0", "efficientnet")
    images = torch.randn(1, 3, 131, 131)
    maps: list[Tensor] = []
    with torch.no_grad():
        our_model(images, features=maps)
        expected, theirs = [], images
        for number, module in enumerate(their_model.features):
            theirs = module(theirs)
            if number in (1, 2, 3, 5, 7, 8):
                expected.append(theirs)
    assert [tuple(found.shape[1:]) for found in maps] == [
        (16, 66, 66), (24, 33, 33), (40, 17, 17), (112, 9, 9), (320, 5, 5), (1280, 5, 5),
    ]  # fmt: skip
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "theirs", "family"), ALL)
def test_every_name_is_mapped_once_and_norms_and_padding_are_torchvisions(name, theirs, family):
    network = torchvision_network(get(name))
    with torch.device("meta"):
        model = torchvision.models.get_model(theirs)
    state = model.state_dict()
    mapped = from_torchvision(state, network, family)
    assert len(mapped) == len(state) == len({id(tensor) for tensor in mapped.values()})
    norms = {(part.eps, round(part.momentum, 9)) for part in model.modules() if isinstance(part, nn.BatchNorm2d)}
    assert norms == {(network.norm.eps, network.norm.momentum)}
    assert network.padding == "symmetric"


def test_a_width_multiplier_of_theirs_is_ours():
    network = torchvision_network(get("mobilenet_v2_140"))
    with torch.device("meta"):
        state = torchvision.models.mobilenet_v2(width_mult=1.4).state_dict()
    assert len(from_torchvision(state, network, "mobilenet_v2")) == len(state)


def test_other_class_counts_fit():
    network = torchvision_network(get("resnet18")).replace(classes=7)
    with torch.device("meta"):
        state = torchvision.models.resnet18(num_classes=7).state_dict()
    assert len(from_torchvision(state, network, "resnet")) == len(state)


def resnet18() -> tuple[dict[str, Tensor], Network]:
    with torch.device("meta"):
        return dict(torchvision.models.resnet18().state_dict()), torchvision_network(get("resnet18"))


def test_old_files_do_not_count_the_steps_of_batch_norm():
    state, network = resnet18()
    older = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    mapped = from_torchvision(older, network, "resnet")
    assert mapped["stem.norm.num_batches_tracked"].item() == 0
    assert len(mapped) == len(state)


def test_what_is_left_over_on_either_side_is_listed():
    state, network = resnet18()
    del state["layer1.0.conv1.weight"]
    state["layer5.0.conv1.weight"] = torch.zeros(1)
    state["fc.bias"] = torch.zeros(10)
    with pytest.raises(NetworkError) as caught:
        from_torchvision(state, network, "resnet")
    message = str(caught.value)
    assert "not of torchvision's resnet with the structure of resnet18" in message
    assert "not in the weights: stages.0.blocks.0.first.conv.weight (layer1.0.conv1.weight)" in message
    assert "not in the network: layer5.0.conv1.weight" in message
    assert "of another shape: head.classifier.bias (fc.bias) is (10,) instead of (1000,)" in message


def test_a_long_list_is_cut():
    state, _ = resnet18()
    with pytest.raises(NetworkError, match=r"not in the weights: .* and \d+ more; of another shape: .* and \d+ more"):
        from_torchvision(state, torchvision_network(get("resnet50")), "resnet")
    with pytest.raises(NetworkError, match="torchvision's mnasnet"):
        from_torchvision(state, get("mnasnet_b1"), "mnasnet")


def test_gates_have_no_rule_where_torchvision_has_none():
    with torch.device("meta"):
        state = torchvision.models.mnasnet1_0().state_dict()
    with pytest.raises(NetworkError, match=r"gate\.reduce\.weight \(no rule\)"):
        from_torchvision(state, get("mnasnet_a1"), "mnasnet")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("efficientnet_b8", "did you mean efficientnet_b"), ("mobilenet_v1", "did you mean mobilenet_v2")],
)
def test_networks_that_torchvision_lacks(name, hint):
    with pytest.raises(NetworkError, match=f'torchvision has no network "{name}"; {hint}'):
        torchvision_network(get(name))


def test_every_norm_belongs_to_a_published_network():
    assert all(get(name).name == name for name in NORMS)
    assert set(RULES) == {"efficientnet", "mobilenet_v2", "mnasnet", "resnet"}
