"""Inheritance: wider and deeper networks compute the function of the smaller one, up to rounding."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inherited_networks import FAMILIES, MODERN, inherited, small, trained_like
from triscale.errors import NetworkError
from triscale.nn.build import build
from triscale.scaling.apply import scale
from triscale.scaling.law import Scale
from triscale.weights.inherit import inherit
from triscale.weights.inheritance_plan import plan_inheritance


@pytest.mark.parametrize("name", FAMILIES + MODERN)
@settings(max_examples=6, deadline=None)
@given(depth=st.sampled_from([1.0, 1.5, 2.3]), width=st.sampled_from([1.0, 1.3, 2.0, 2.7]))
def test_larger_network_computes_same_function(name, depth, width):
    source = small(name)
    model = trained_like(source)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    larger = inherited(source, model, scale(source, Scale(depth=depth, width=width, resolution=1.0)))
    with torch.no_grad():
        expected, given_ = model(images), larger(images)
    assert (expected - given_).abs().max() <= 2e-5 * expected.abs().max()


@pytest.mark.parametrize("name", FAMILIES + MODERN)
def test_repeated_channels_differ_and_new_blocks_learn(name):
    source = small(name)
    target = scale(source, Scale(depth=2.0, width=2.0, resolution=1.0))
    larger = inherited(source, trained_like(source), target, noise=0.05).train()
    torch.nn.functional.cross_entropy(larger(torch.randn(8, 3, 32, 32)), torch.arange(8) % 7).backward()
    added = source.stages[-1].repeats
    block = larger.get_submodule(f"stages.{len(source.stages) - 1}.blocks.{added}")
    assert any(parameter.grad.abs().max() > 0 for parameter in block.parameters())
    stem = larger.get_submodule("stem.conv").weight
    half = stem.shape[0] // 2
    assert not torch.equal(stem[:half], stem[half:])
    assert torch.allclose(stem[:half], stem[half:], atol=stem.std().item())


def test_smaller_network_keeps_channels_with_largest_scales():
    source = small("efficientnet_b0@32")
    model = trained_like(source)
    with torch.no_grad():
        norm = model.get_submodule("head.norm")
        norm.weight.zero_()
        norm.weight[::2] = 1.0
    target = source.replace(head=source.head.model_copy(update={"width": source.head.width // 2}))
    smaller = inherited(source, model, target)
    assert torch.equal(smaller.get_submodule("head.norm").weight, torch.ones(source.head.width // 2))
    classifier = model.get_submodule("head.classifier").weight
    assert torch.equal(smaller.get_submodule("head.classifier").weight, classifier[:, ::2])


def test_classifier_is_reinitialized_for_other_classes():
    source = small("resnet18@32")
    model, target = trained_like(source), source.replace(classes=3)
    torch.manual_seed(5)
    fresh = build(target).state_dict()
    weights = inherit(plan_inheritance(source, target), model.state_dict(), fresh)
    assert torch.equal(weights["head.classifier.weight"], fresh["head.classifier.weight"])
    for name, value in model.state_dict().items():
        if not name.startswith("head.classifier"):
            assert torch.equal(weights[name], value)


@pytest.mark.parametrize(
    ("other", "words"),
    [("mobilenet_v2@32", "differ in"), ("mobilenet_v1@32", "differ in"), ("resnet50@32", "differ in the stem")],
)
def test_other_family_is_rejected(other, words):
    with pytest.raises(NetworkError, match=words):
        plan_inheritance(small(other), small("efficientnet_b0@32"))
