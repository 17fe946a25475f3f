"""Modules built from a Network: names, memory format, compilation, features, initialization, stochastic depth."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from sizes import first_of_each_family
from triscale.families import get, names
from triscale.network import tree
from triscale.network.lower import lower
from triscale.network.spec import Head, MBConv, Network, Stage, Stem
from triscale.network.tree import Residual as ResidualNode
from triscale.nn.build import build
from triscale.nn.residual import ResidualBlock

SMALL = Network(
    name="small",
    stem=Stem(width=8),
    stages=(
        Stage(block=MBConv(expansion=1, se_ratio=0.25), width=8, repeats=1),
        Stage(block=MBConv(expansion=4, kernel=5, se_ratio=0.25), width=16, repeats=2, stride=2),
    ),
    head=Head(width=32),
    resolution=32,
    classes=5,
    dropout=0.2,
    drop_path=0.2,
)


def test_parameter_names_follow_structure():
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

    def convolution(name: str) -> list[str]:
        return [f"{name}.conv.weight", *(f"{name}.norm.{value}" for value in norm)]

    def se(name: str) -> list[str]:
        return [f"{name}.se.{part}.{value}" for part in ("reduce", "expand") for value in ("weight", "bias")]

    expected = convolution("stem")
    for block in ("stages.0.blocks.0", "stages.1.blocks.0", "stages.1.blocks.1"):
        if block != "stages.0.blocks.0":
            expected += convolution(f"{block}.expand")
        expected += convolution(f"{block}.depthwise") + se(block) + convolution(f"{block}.project")
    expected += [*convolution("head"), "head.classifier.weight", "head.classifier.bias"]
    assert list(build(SMALL).state_dict()) == expected


def test_documented_parameter_name_exists():
    with torch.device("meta"):
        state = build(get("efficientnet_b0")).state_dict()
    assert state["stages.3.blocks.1.expand.conv.weight"].shape == (480, 80, 1, 1)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0", "mobilenet_v1", "mobilenet_v2", "resnet18"])
@pytest.mark.stress
def test_gradients_reach_every_parameter(name):
    torch.manual_seed(0)
    model = build(get(name).replace(classes=3)).train()
    model(torch.randn(2, 3, 64, 64)).logsumexp(1).sum().backward()
    missing = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()]
    assert not missing
    assert sum(value.grad.abs().sum().item() > 0 for value in model.parameters()) > 0.9 * len(list(model.parameters()))


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v1", "resnet18", "resnet50", "mnasnet_a1"])
def test_channels_last_is_preserved(name):
    model = build(get(name)).eval().to(memory_format=torch.channels_last)
    images = torch.randn(1, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = model(images)
        last, maps = model.forward_intermediates(images)
        maps.append(last)
        assert all(result.is_contiguous(memory_format=torch.channels_last) for result in maps if result.shape[-1] > 1)
        torch.testing.assert_close(logits, model(images.contiguous()), rtol=1e-4, atol=1e-4)


def test_any_image_size_is_accepted():
    model = build(SMALL).eval()
    for shape in ((1, 3, 32, 32), (2, 3, 33, 47), (3, 3, 1, 5)):
        assert model(torch.randn(shape)).shape == (shape[0], 5)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_torch_compile_has_no_graph_break(mode):
    torch._dynamo.reset()
    model = build(SMALL)
    model.train(mode == "train")
    for module in model.modules():
        if isinstance(module, ResidualBlock | nn.Dropout) and mode == "train":
            module.drop_rate = module.p = 0.0
    images = torch.randn(2, 3, 32, 32)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images))


def test_torch_compile_of_stochastic_depth_has_no_graph_break():
    torch._dynamo.reset()
    model = build(SMALL).train()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    assert compiled(torch.randn(4, 3, 32, 32)).isfinite().all()


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v1", "resnet18"])
def test_torch_export_works(name):
    model = build(get(name)).eval()
    images = torch.randn(2, 3, 64, 64)
    exported = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    with torch.no_grad():
        for batch in (images, torch.randn(5, 3, 64, 64)):
            torch.testing.assert_close(exported.module()(batch), model(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("efficientnet_b0", (16, 24, 40, 112, 320, 1280)),
        ("mobilenet_v1", (64, 128, 256, 512, 1024, 1024)),
        ("mobilenet_v2", (16, 24, 32, 96, 320, 1280)),
        ("resnet50", (256, 512, 1024, 2048, 2048)),
    ],
)
def test_features_at_each_reduction(name, channels):
    with torch.device("meta"):
        model = build(get(name)).eval()
        last, maps = model.forward_intermediates(torch.empty(2, 3, 224, 224))
    maps.append(last)
    assert tuple(result.shape[1] for result in maps) == channels
    finest = 4 if name == "resnet50" else 2
    reductions = [finest * 2**number for number in range(len(channels) - 1)]
    assert [224 // result.shape[-1] for result in maps] == [*reductions, 32]


def test_last_feature_map_gives_the_logits():
    model = build(SMALL).eval()
    images = torch.randn(2, 3, 32, 32)
    last, _ = model.forward_intermediates(images)
    torch.testing.assert_close(model.forward_head(last), model(images))


def test_convolutions_are_initialized_with_variance_2_over_fan_out():
    torch.manual_seed(0)
    model = build(get("efficientnet_b0"))
    depthwise = 0
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        area = module.kernel_size[0] ** 2
        depthwise += module.groups > 1
        fan_out = area if module.groups > 1 else area * module.out_channels
        values = module.weight.detach()
        # The variance of n normal draws has a relative standard error of sqrt(2 / n).
        assert values.var().item() * fan_out / 2 == pytest.approx(1, abs=5 * math.sqrt(2 / values.numel())), name
        assert abs(values.mean().item()) < 5 * math.sqrt(2 / fan_out / values.numel())
        assert module.bias is None or not module.bias.any()
    assert depthwise == 16


def test_classifier_and_norms_have_published_initialization():
    torch.manual_seed(0)
    model = build(get("efficientnet_b0"))
    weight, bound = model.head.classifier.weight, 1 / math.sqrt(1000)
    assert 0.999 * bound < weight.abs().max() <= bound
    assert weight.var().item() == pytest.approx(bound**2 / 3, rel=0.01)
    assert not model.head.classifier.bias.any()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum) == (1e-3, 0.01)
            assert (module.weight == 1).all()
            assert not module.bias.any()


@pytest.mark.parametrize(
    ("network", "fan"),
    [(SMALL, 32), (SMALL.replace(classes=500), 500), (get("efficientnet_b0").replace(classes=3), 1000)],
)
def test_few_classes_begin_with_small_logits(network, fan):
    torch.manual_seed(0)
    largest = build(network).head.classifier.weight.abs().max()
    assert 0.95 / math.sqrt(fan) < largest <= 1 / math.sqrt(fan)


def test_same_seed_gives_the_same_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build(SMALL).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b1", "mnasnet_a1"])
def test_drop_rates_increase_linearly(name):
    network = get(name)
    with torch.device("meta"):
        model = build(network)
    blocks = [block for stage in model.stages for block in stage.blocks]
    assert len(blocks) == network.num_blocks
    for number, block in enumerate(blocks):
        if isinstance(block, ResidualBlock):
            assert block.drop_rate == pytest.approx(network.drop_path * number / len(blocks))


def test_dropout_is_applied_before_classifier_in_training_only():
    model = build(SMALL)
    assert model.head.vector_names == ("pool", "dropout")
    assert model.head.dropout.p == 0.2
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model(images))
    assert not torch.equal(model.train()(images), model(images))


@pytest.mark.parametrize("name", first_of_each_family(names()))
def test_residual_blocks_match_tree(name):
    network = get(name)
    with torch.device("meta"):
        built = [isinstance(block, ResidualBlock) for stage in build(network).stages for block in stage.blocks]
    assert built == [isinstance(block, ResidualNode) for stage in lower(network).stages for block in stage.blocks]


@pytest.mark.parametrize("name", first_of_each_family(names()))
def test_walk_yields_every_module_with_parameters(name):
    network = get(name)
    with torch.device("meta"):
        model = build(network)
    owners = dict.fromkeys(parameter.rpartition(".")[0] for parameter, _ in model.named_parameters())
    weighted = (tree.Convolution, tree.Normalization, tree.Linear)
    assert list(owners) == [visit.path for visit in tree.walk(lower(network)) if isinstance(visit.node, weighted)]
    for path, node, shape in tree.walk(lower(network)):
        if isinstance(node, tree.Convolution):
            module = model.get_submodule(path)
            assert (module.in_channels, module.out_channels) == (shape.channels, node.outputs)
