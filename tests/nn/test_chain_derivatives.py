"""First and second derivatives of fused chains, and the transforms of torch.func."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from nn.chain_modules import drawn, se, unit
from triscale.nn.chain import Chained


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("kind", ["none", "silu"])
def test_gradients_match_finite_differences(kind, frozen):
    modules = unit(3, 6, 1, 1, 1, "same", kind) + unit(6, 6, 3, 2, 6, "same", kind) + [se(6)]
    body = Chained(*drawn([*modules, *unit(6, 4, 1, 1, 1, "same", "none")], 0, frozen=frozen)).double()
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda maps, *_: body(maps), (maps, *body.parameters()), atol=1e-6)


def chain_of_three(*, frozen: bool = False) -> nn.Sequential:
    modules = unit(3, 6, 1, 1, 1, "same", "silu") + unit(6, 6, 3, 2, 6, "same", "relu6") + [se(6)]
    return Chained(*drawn(modules, 7, frozen=frozen)).double()


@pytest.mark.parametrize("frozen", [False, True])
def test_second_derivatives_are_supported(frozen):
    body = chain_of_three(frozen=frozen)
    maps = torch.randn(2, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda maps, *_: body(maps), (maps, *body.parameters()), atol=1e-5)


def test_create_graph_gives_same_gradients_and_updates_stats_once():
    found = []
    whole = chain_of_three()
    for create_graph in (False, True):
        body = copy.deepcopy(whole)
        maps = torch.randn(2, 3, 5, 5, dtype=torch.float64, generator=torch.manual_seed(3), requires_grad=True)
        gradients = torch.autograd.grad(body(maps).sin().sum(), [maps, *body.parameters()], create_graph=create_graph)
        found.append([*gradients, *body.buffers()])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)


def test_torch_func_transforms_use_torch_operations():
    # torch.func does not support in-place updates of running statistics and offers to remove them.
    body = torch.func.replace_all_batch_norm_modules_(chain_of_three())
    plain = nn.Sequential(*copy.deepcopy(list(body)))
    maps = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    values = dict(body.named_parameters())

    def loss(values, module):
        return torch.func.functional_call(module, values, (maps,)).square().sum()

    ours = torch.func.grad(loss)(values, body)
    theirs = torch.func.grad(loss)(values, plain)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name])
