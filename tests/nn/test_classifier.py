"""The module's vocabulary, compared with timm's models of the same structure."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

import triscale as ts
from triscale.nn.classifier import Classifier


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    return ts.build(ts.get("efficientnet_b0@64").replace(classes=10)).eval()


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    return timm.create_model("efficientnet_b0", num_classes=10).eval()


def test_shapes_match_timm(model, theirs):
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        # Triscale reduces images of 64 px less; the vocabulary's meaning is compared at the published strides.
        mine = ts.build(ts.get("efficientnet_b0").replace(classes=10)).eval()
        for call in (
            lambda module: module(images),
            lambda module: module.forward_features(images),
            lambda module: module.forward_head(module.forward_features(images)),
            lambda module: module.forward_head(module.forward_features(images), pre_logits=True),
            lambda module: module.forward_intermediates(images)[0],
        ):
            assert call(mine).shape == call(theirs).shape
        for options in ({}, {"indices": 2}, {"indices": [0, -1]}, {"indices": [1], "stop_early": True}):
            ours = mine.forward_intermediates(images, intermediates_only=True, **options)
            reference = theirs.forward_intermediates(images, intermediates_only=True, **options)
            assert [maps.shape for maps in ours] == [maps.shape for maps in reference]
    assert mine.num_features == theirs.num_features
    assert mine.num_classes == theirs.num_classes
    assert [(info["num_chs"], info["reduction"]) for info in mine.feature_info] == [
        (info["num_chs"], info["reduction"]) for info in theirs.feature_info
    ]


def test_feature_info_names_the_modules(model):
    images, outputs = torch.randn(1, 3, 64, 64), {}
    handles = [
        model.get_submodule(info["module"]).register_forward_hook(
            lambda module, inputs, output, name=info["module"]: outputs.update({name: output})
        )
        for info in model.feature_info
    ]
    with torch.inference_mode():
        maps = model.forward_intermediates(images, intermediates_only=True)
    for handle in handles:
        handle.remove()
    assert all(torch.equal(outputs[info["module"]], each) for info, each in zip(model.feature_info, maps, strict=True))


def test_parts_give_the_logits(model):
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = model.forward_features(images)
        assert torch.equal(model.forward_head(features), model(images))
        pooled = model.forward_head(features, pre_logits=True)
        assert torch.equal(model.get_classifier()(pooled), model(images))
        assert torch.allclose(pooled, features.mean((2, 3)), atol=1e-6)


def test_classifier_can_be_reset(model):
    own = copy.deepcopy(model)
    own.reset_classifier(3)
    assert own.get_classifier().out_features == own.num_classes == own.network.classes == 3
    assert own(torch.randn(2, 3, 64, 64)).shape == (2, 3)
    assert sum(p.numel() for p in own.parameters()) == ts.cost(own.network).params
    own.reset_classifier(0)
    assert own(torch.randn(2, 3, 64, 64)).shape == (2, own.num_features)
    assert isinstance(own.get_classifier(), torch.nn.Identity)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.reset_classifier(-1), "-1 classes"),
        (lambda model: model.reset_classifier(5, "max"), 'expected "avg"'),
        (lambda model: model.forward_intermediates(torch.zeros(1, 3, 64, 64), [9]), "no feature maps"),
        (lambda model: model.forward_intermediates(torch.zeros(1, 3, 64, 64), 99), "no feature maps"),
        (lambda model: model.forward_intermediates(torch.zeros(1, 3, 64, 64), output_fmt="NLC"), 'expected "NCHW"'),
    ],
)
def test_invalid_arguments_are_rejected(model, call, message):
    with pytest.raises(ts.NetworkError, match=message):
        call(model)


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet18", "mobilenet_v2"])
def test_checkpointing_changes_neither_gradients_nor_statistics(name):
    results = []
    for enable in (False, True):
        torch.manual_seed(0)
        model = ts.build(ts.get(f"{name}@32").replace(classes=4, drop_path=0.2, dropout=0.1)).train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(1)
        model(torch.randn(4, 3, 32, 32)).square().sum().backward()
        results.append([p.grad for p in model.parameters()] + list(model.buffers()))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("name", ["mobilenet_v3_small@32", "mobilenet_v4_conv_small@32"])
def test_wide_layer_is_between_pool_and_classifier(name):
    model = ts.build(ts.get(name)).eval()
    images = torch.randn(2, 3, 32, 32)
    last = model.forward_features(images)
    assert last.shape[1] == model.num_features == model.network.head.width
    assert model.head_hidden_size == model.network.head.wide
    assert model.forward_head(last, pre_logits=True).shape == (2, model.head_hidden_size)
    torch.testing.assert_close(model.forward_head(last), model(images))
    model.reset_classifier(7)
    assert model(images).shape == (2, 7)
