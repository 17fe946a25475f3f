"""Fused chains in training against the same modules called one by one in float64, and their memory for backward."""

from __future__ import annotations

import copy
import io
import itertools
import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nn.chain_modules import drawn, hard_se, se, unit
from triscale.families import get
from triscale.network.cost import cost
from triscale.network.spec import Network
from triscale.nn import chain
from triscale.nn.build import build
from triscale.nn.chain import Chained
from triscale.nn.native import Native, native
from triscale.training.transfer import freeze_norms

KINDS = ("none", "relu", "relu6", "silu", "sigmoid", "hard_swish", "hard_sigmoid")


@pytest.fixture(params=["native", "portable"])
def operations(request, monkeypatch):
    """Both implementations of a float32 chain on a CPU."""
    if request.param == "portable":
        monkeypatch.setattr(chain, "_native", lambda dtype: chain._portable())
    else:
        assert native() is not None, "no C++ compiler here"
    return request.param


def outcome(modules: list[nn.Module], maps: Tensor, *, chained: bool) -> dict[str, Tensor]:
    """Return output, gradients and buffers for a loss that is a weighted sum of the modules' output."""
    body = (Chained if chained else nn.Sequential)(*modules)
    body.zero_grad()
    maps = maps.detach().requires_grad_()
    out = body(maps)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).sin().reshape(out.shape).to(out.dtype)
    (out * weights).sum().backward()
    found = {"out": out.detach(), "input": maps.grad}
    found |= {name: value.grad for name, value in body.named_parameters()}
    return found | dict(body.named_buffers())


def assert_agree(modules: list[nn.Module], maps: Tensor, tolerance: float = 2e-5) -> None:
    expected = outcome([copy.deepcopy(module).double() for module in modules], maps.double(), chained=False)
    found = outcome([copy.deepcopy(module) for module in modules], maps, chained=True)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, value.abs().max().item()) * max(1.0, math.sqrt(maps.numel()) / 20)
        torch.testing.assert_close(found[name].double(), value.double(), rtol=0, atol=tolerance * scale, msg=name)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    images=st.integers(1, 5),
    height=st.integers(2, 17),
    width=st.integers(2, 17),
    channels=st.integers(1, 40),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 3),
    padding=st.sampled_from(["same", "symmetric"]),
    kind=st.sampled_from(KINDS),
    first=st.sampled_from(["nothing", "pointwise"]),
    frozen=st.booleans(),
)
def test_depthwise_chain_matches_torch(images, height, width, channels, kernel, stride, padding, kind, first, frozen):
    if images * -(-height // stride) * -(-width // stride) < 2:
        images = 2
    modules = unit(channels, channels, kernel, stride, channels, padding, kind)
    if first == "pointwise":
        modules = unit(6, channels, 1, 1, 1, padding, kind) + modules
    maps = torch.randn(images, channels if first == "nothing" else 6, height, width)
    assert_agree(drawn(modules, height * 100 + width, frozen=frozen), maps, tolerance=1e-4)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    images=st.integers(2, 5),
    side=st.integers(2, 9),
    widths=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    kind=st.sampled_from(KINDS),
    gated=st.sampled_from([None, se, hard_se]),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    frozen=st.booleans(),
)
def test_convolution_chain_with_se_matches_torch(images, side, widths, kind, gated, kernel, stride, frozen):
    modules: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        modules += unit(inputs, outputs, kernel, stride if not modules else 1, 1, "same", kind)
        if gated is not None:
            modules.append(gated(outputs))
    maps = torch.randn(images, widths[0], side, side + 1)
    assert_agree(drawn(modules, side, frozen=frozen), maps, tolerance=1e-4)


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0", "mobilenet_v1", "mnasnet_a1", "resnet18"])
@pytest.mark.stress
def test_networks_match_torch(name, operations):
    torch.manual_seed(0)
    network = get(name).replace(classes=4, resolution=64, dropout=0.0, drop_path=0.0)
    model = build(network).train()
    # Smooth activations, so that rounding errors change gradients only slightly.
    for parent in list(model.modules()):
        for child, module in parent.named_children():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                setattr(parent, child, nn.SiLU(inplace=True))
    images = torch.randn(8, 3, 64, 64)
    expected, found = copy.deepcopy(model).double(), copy.deepcopy(model)
    for module in expected.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *arguments: None)  # hooks keep modules out of chains
    for built, batch in ((expected, images.double()), (found, images)):
        built(batch).logsumexp(1).sum().backward()
    largest = max(value.grad.abs().max().item() for value in expected.parameters())
    for (key, value), (_, other) in zip(expected.named_parameters(), found.named_parameters(), strict=True):
        torch.testing.assert_close(
            other.grad.double(), value.grad, rtol=0, atol=1e-3 * value.grad.abs().max().item() + 1e-5 * largest, msg=key
        )
    for (key, value), (_, other) in zip(expected.named_buffers(), found.named_buffers(), strict=True):
        torch.testing.assert_close(other.double(), value.double(), rtol=1e-4, atol=1e-5, msg=key)


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward pass saves for backward, without parameters."""
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        logits = model(images)
    del logits
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def test_one_tensor_per_convolution_is_saved_for_backward(operations):
    network = get("efficientnet_b0").replace(resolution=96, dropout=0.0, drop_path=0.0)
    images = torch.randn(2, 3, 96, 96).to(memory_format=torch.channels_last)
    ours = saved_bytes(build(network).train(), images)
    theirs = saved_bytes(torchvision.models.efficientnet_b0(stochastic_depth_prob=0.0, dropout=0.0).train(), images)
    assert ours < 0.45 * theirs
    assert ours < 1.35 * 4 * len(images) * cost(network).activations


def test_input_memory_format_does_not_change_result(operations):
    modules = drawn(unit(8, 8, 3, 1, 8, "same", "silu"), 0)
    maps = torch.randn(3, 8, 6, 5)
    apart = torch.randn(3, 16, 6, 10)
    apart[:, ::2, :, ::2] = maps
    expected = outcome(modules, maps, chained=True)
    for module in modules:
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    for other in (maps.to(memory_format=torch.channels_last), apart[:, ::2, :, ::2]):
        found = outcome(modules, other, chained=True)
        for name in ("out", "input", "0.weight", "1.weight", "1.bias"):
            torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_nonfinite_values_propagate(kind, value, operations):
    modules = drawn(unit(4, 8, 1, 1, 1, "same", kind) + unit(8, 8, 3, 1, 8, "same", kind) + [se(8)], 0)
    maps = torch.randn(4, 4, 6, 6)
    maps[1, 2, 3, 4] = value
    found = outcome(modules, maps, chained=True)
    assert not found["out"].isfinite().all()
    assert not found["0.weight"].isfinite().all()
    assert not found["1.running_var"].isfinite().all()


def test_one_value_per_channel_raises_error_of_torch(operations):
    modules = unit(3, 4, 3, 2, 1, "same", "silu")
    with pytest.raises(ValueError, match="more than 1 value per channel") as expected:
        nn.Sequential(*modules)(torch.randn(1, 3, 2, 2))
    with pytest.raises(ValueError, match="more than 1 value per channel") as found:
        Chained(*modules)(torch.randn(1, 3, 2, 2))
    assert str(found.value) == str(expected.value)


def test_variance_is_accurate_for_large_mean(operations):
    modules = unit(4, 4, 1, 1, 1, "same", "none")
    modules[0].weight.data.copy_(torch.eye(4)[:, :, None, None])
    maps = 1000 + torch.randn(8, 4, 9, 9)
    Chained(*modules)(maps)
    expected = 0.9 + 0.1 * maps.double().var((0, 2, 3))
    torch.testing.assert_close(modules[1].running_var.double(), expected, rtol=1e-3, atol=0)


def test_result_is_bitwise_independent_of_threads(tiny: Network):
    def digest(threads: int) -> list[Tensor]:
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        modules = drawn(unit(40, 40, 3, 1, 40, "same", "silu") + unit(40, 40, 5, 2, 40, "same", "silu"), 0)
        return list(outcome(modules, torch.randn(5, 40, 20, 20), chained=True).values())

    try:
        runs = [digest(threads) for threads in (1, 2, 2, 3)]
    finally:
        torch.set_num_threads(1)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_module_can_be_used_twice(operations):
    modules = drawn(unit(6, 6, 3, 1, 6, "same", "silu"), 0)
    twice = modules + modules
    assert_agree_twice(twice)


def assert_agree_twice(modules: list[nn.Module]) -> None:
    maps = torch.randn(2, 6, 5, 5)
    plain, chained = copy.deepcopy(modules), copy.deepcopy(modules)
    results = []
    for body in (nn.Sequential(*plain), Chained(*chained)):
        body(maps).square().sum().backward()
        results.append([value.grad for value in body.parameters()] + list(body.buffers()))
    assert results[1][-1] == 2
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def units_in(module: nn.Module) -> int:
    """Count the units in the fused chains of a block."""
    return sum(len(part) for part in chain.parts(list(chain._leaves([module]))) if isinstance(part, list))


def test_other_or_hooked_modules_are_not_fused(tiny: Network):
    model = build(tiny).train()
    block = model.stages[1].blocks[0]
    assert units_in(block) == 3
    synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model))
    assert units_in(synchronized.stages[1].blocks[0]) == 0
    assert list(synchronized.state_dict()) == list(model.state_dict())
    called = []
    handle = block.depthwise.norm.register_forward_hook(lambda *arguments: called.append(1))
    assert units_in(block) == 2
    images = torch.randn(4, 3, 16, 16)
    model(images)
    assert called == [1]
    handle.remove()
    block.project.forward = block.project.forward  # as an activation checkpointing wrapper does
    assert units_in(block) == 2
    del block.project.forward


def test_frozen_norms_are_fused_and_keep_their_statistics(tiny: Network, operations):
    model = build(tiny.replace(dropout=0.0, drop_path=0.0)).train()
    freeze_norms(model)
    assert units_in(model.stages[1].blocks[0]) == 3
    before = {name: value.clone() for name, value in model.named_buffers()}
    images = torch.randn(1, 3, 16, 16)  # one value per channel in the last maps is no error
    expected = copy.deepcopy(model).eval()(images)
    found = model(images)
    torch.testing.assert_close(found, expected)
    model.train()  # the mode of the forward pass decides
    found.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    other = copy.deepcopy(model).eval()
    other.zero_grad()
    other(images).sum().backward()
    for (name, value), own in zip(other.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own.grad, value.grad, rtol=1e-4, atol=1e-4, msg=name)


def test_frozen_weights_get_no_gradient(operations):
    modules = drawn([*unit(4, 8, 1, 1, 1, "same", "silu"), se(8), *unit(8, 8, 3, 1, 8, "same", "silu")], 0)
    body = Chained(*modules)
    for parameter in (modules[0].weight, modules[1].bias, modules[3][0].weight):
        parameter.requires_grad_(False)
    body(torch.randn(2, 4, 5, 5)).sum().backward()
    assert {name for name, value in body.named_parameters() if value.grad is None} == {
        "0.weight",
        "1.bias",
        "3.0.weight",
    }


def test_chain_supports_deepcopy_pickle_and_eval(tiny: Network, operations):
    torch.manual_seed(0)
    model = build(tiny.replace(dropout=0.0, drop_path=0.0)).train()
    images = torch.randn(4, 3, 16, 16)
    expected = model(images)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    copies = [copy.deepcopy(model), torch.load(stream, weights_only=False)]
    assert all(torch.equal(other(images), expected) for other in copies)
    result = int(model.stem.norm.num_batches_tracked)
    with torch.no_grad():
        assert torch.equal(model(images), expected)
    with torch.inference_mode():
        assert torch.equal(model(images), expected)
    assert int(model.stem.norm.num_batches_tracked) == result + 2
    modules = nn.Sequential(*[copy.deepcopy(module) for module in model.stem]).eval()
    torch.testing.assert_close(model.eval().stem(images), modules(images))


def test_autocast_to_bfloat16_is_supported(tiny: Network):
    torch.manual_seed(0)
    model = build(tiny.replace(dropout=0.0, drop_path=0.0)).train()
    other = copy.deepcopy(model)
    for module in other.modules():
        module.register_forward_hook(lambda *arguments: None)
    images = torch.randn(16, 3, 16, 16)
    for each in (model, other):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = each(images)
        assert logits.dtype == torch.bfloat16
        logits.float().logsumexp(1).sum().backward()
    for (name, value), (_, expected) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert value.grad.dtype == torch.float32
        scale = expected.grad.abs().max().item()
        assert (value.grad - expected.grad).abs().max().item() < 0.1 * scale + 0.02, name


def test_flop_counter_sees_torch_operations():
    network = get("mobilenet_v1").replace(resolution=64, classes=5)
    model = build(network).train()
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, 64, 64))
    assert counter.get_total_flops() // 2 == 2 * cost(network).macs
    with torch.device("meta"):
        assert build(network).train()(torch.empty(2, 3, 64, 64)).shape == (2, 5)


def test_native_kernels_are_in_use():
    assert isinstance(chain._native(torch.float32), Native)
    assert isinstance(chain._native(torch.bfloat16), Native)
