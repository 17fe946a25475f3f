"""Pruning by the scales of batch norm: what is removed, what stays the same, and what it costs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from inherited_networks import FAMILIES, MODERN, small, trained_like
from sizes import stressed
from triscale.errors import BudgetError, NetworkError
from triscale.families.find import find_network
from triscale.network.cost import cost, count_network
from triscale.network.spec import Basic, Bottleneck, Conv, FusedMBConv, MBConv, Network, Separable, Stage, Stem
from triscale.network.unrolled import unrolled
from triscale.nn.build import build
from triscale.scaling.budget import Budget
from triscale.weights.inherit import SourceChannels, channel_scales, inherit
from triscale.weights.inheritance_plan import plan_inheritance
from triscale.weights.slimming import (
    describe_kept,
    inner_channels,
    prunable_widths,
    prune_to_budget,
    unrolled_state,
    with_widths,
)

ALL = -1.0
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))

SOME = (
    *("efficientnet_b0@32", "resnet50@32"),
    *stressed(*sorted({*FAMILIES, *MODERN} - {"efficientnet_b0@32", "resnet50@32"})),
)

BLOCKS = (
    MBConv(expansion=3, se_ratio=0.25),
    MBConv(expansion=1),
    FusedMBConv(expansion=2, se_ratio=0.5),
    FusedMBConv(expansion=1),
    MBConv(expansion=2, skip="pool"),
    Separable(),
    Conv(skip="identity"),
    Basic(),
    Bottleneck(reduction=2, se_ratio=0.25, se_at="end"),
)


def logits(network: Network, state) -> torch.Tensor:
    model = build(network)
    model.load_state_dict(state)
    with torch.no_grad():
        return model.eval()(IMAGES)


def pruned_state(network, state, target):
    """The weights of the channels with the largest scales, with nothing fitted."""
    source, renamed = unrolled(network), unrolled_state(network, state)
    plan = plan_inheritance(source, target, pruned=True)
    channels = SourceChannels(plan, renamed, by_scale=True)
    return inherit(plan, renamed, build(target).state_dict(), channels=channels)


def zero_channels(network, state, draw):
    """Zero scale and bias of up to half of the channels, a multiple of 8 in each layer, and return the state."""
    source, state = unrolled(network), dict(state)
    renamed = dict(zip(unrolled_state(network, state), state, strict=True))
    counts = {}
    plan = plan_inheritance(source, source)
    groups = dict.fromkeys(layer.outputs.root() for layer in plan.copied if layer.outputs.root().norms)
    for group in groups:
        # Layers of one width lose equally many: bottlenecks and basic blocks.
        width = group.source
        counts.setdefault(width, draw(st.integers(0, width // 16)) * 8)
        zeroed = torch.randperm(width, generator=torch.Generator().manual_seed(draw(st.integers(0, 9))))[
            : counts[width]
        ]
        for norm in group.norms:
            for kind in ("weight", "bias"):
                value = state[renamed[f"{norm}.{kind}"]].clone()
                value[zeroed] = 0
                state[renamed[f"{norm}.{kind}"]] = value
    return state, counts


@pytest.mark.parametrize("name", SOME)
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_channels_without_scale_and_bias_are_removed_without_changing_logits(name, data):
    check_zeroed(small(name), data.draw)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_zeroed_channels_of_any_network_are_removed_without_changing_logits(data):
    stages = data.draw(
        st.lists(
            st.builds(
                Stage,
                block=st.sampled_from(BLOCKS),
                width=st.sampled_from([16, 24, 32]),
                repeats=st.integers(1, 2),
                stride=st.integers(1, 2),
            ),
            min_size=1,
            max_size=3,
        )
    )
    network = Network(name="drawn", stem=Stem(width=16), stages=tuple(stages), resolution=32, classes=5)
    check_zeroed(network, data.draw)


def check_zeroed(network, draw):
    state, counts = zero_channels(network, trained_like(network).state_dict(), draw)
    target = with_widths(unrolled(network), prunable_widths(network, state), 0.0)
    expected = logits(network, state)
    given_ = logits(target, pruned_state(network, state, target))
    assert (expected - given_).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
    if any(counts.values()):
        assert count_network(target).params <= count_network(network).params


@pytest.mark.parametrize("name", SOME)
def test_network_with_all_channels_computes_the_same_bitwise(name):
    network = small(name)
    state = trained_like(network).state_dict()
    target = with_widths(unrolled(network), prunable_widths(network, state), ALL)
    assert target == unrolled(network)
    assert (cost(target).macs, cost(target).params) == (cost(network).macs, cost(network).params)
    assert torch.equal(logits(network, state), logits(target, pruned_state(network, state, target)))


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("share", [0.9, 0.3])
def test_cost_is_that_of_the_built_module_and_within_the_budget(name, share):
    network = small(name)
    budget = Budget(macs=share * cost(network).macs)
    pruned = prune_to_budget(network, trained_like(network).state_dict(), budget, count_network)
    model = build(pruned).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(IMAGES[:1])
    assert counter.get_total_flops() == 2 * cost(pruned).macs
    assert sum(value.numel() for value in model.parameters()) == cost(pruned).params
    assert 0.75 * budget.macs < cost(pruned).macs <= budget.macs


@pytest.mark.parametrize("limits", [{"params": 0.5}, {"size": 0.5}, {"activations": 0.6}, {"macs": 0.7, "params": 0.4}])
def test_every_limit_of_a_budget_holds(limits):
    network = small("efficientnet_b0@32")
    whole = {"params": cost(network).params, "size": cost(network).size_bytes, "macs": cost(network).macs,
             "activations": cost(network).activations}  # fmt: skip
    budget = Budget(**{name: share * whole[name] for name, share in limits.items()})
    pruned = prune_to_budget(network, trained_like(network).state_dict(), budget, count_network)
    assert budget.admits(count_network(pruned))


def test_one_threshold_holds_for_all_layers():
    """The channels that are kept have larger scales than those that are left out, over all layers, but for rounding."""
    network = small("mobilenet_v2@32")
    state = trained_like(network).state_dict()
    budget = Budget(macs=0.5 * cost(network).macs)
    pruned = prune_to_budget(network, state, budget, count_network)
    kept, left_out = [], []
    for width in prunable_widths(network, state):
        number = inner_channels(pruned, width.inside) if width.inside is not None else outputs(pruned, width.outputs[0])
        kept += width.strengths[: number - 8].tolist()
        left_out += width.strengths[number:].tolist()
    assert min(kept) > max(left_out)


def outputs(network, place):
    return {"stem": network.stem.width, "head": network.head.width}.get(place) or network.stages[place].width


def test_blocks_of_a_stage_keep_as_many_inner_channels_as_their_scales_say():
    network = Network(
        name="two blocks",
        stem=Stem(width=16),
        stages=(Stage(block=MBConv(expansion=4), width=16, repeats=2, stride=2),),
        resolution=32,
        classes=3,
    )
    model = trained_like(network)
    with torch.no_grad():
        for number, strong in enumerate((8, 40)):
            norm = model.get_submodule(f"stages.0.blocks.{number}.depthwise.norm")
            norm.weight.fill_(0.01)
            norm.weight[:strong] = 2.0
    target = with_widths(unrolled(network), prunable_widths(network, model.state_dict()), 0.1)
    assert [inner_channels(target, number) for number in range(2)] == [8, 40]
    assert describe_kept(network, target)[:2] == (
        "stem: 16 of 16 channels",
        "stage 0: 16 of 16 channels, inside 8, 40 of 64, 64",
    )


def test_block_keeps_its_expansion_at_as_many_inner_channels_as_inputs():
    network = Network(
        name="one",
        stem=Stem(width=16),
        stages=(Stage(block=MBConv(expansion=4), width=24, repeats=1),),
        resolution=32,
        classes=3,
    )
    model = trained_like(network)
    with torch.no_grad():
        model.get_submodule("stages.0.blocks.0.depthwise.norm").weight[16:] = 0.0
        model.get_submodule("stages.0.blocks.0.depthwise.norm").bias[16:] = 0.0
    state = model.state_dict()
    target = with_widths(unrolled(network), prunable_widths(network, state), 0.0)
    assert inner_channels(target, 0) == 16
    assert (logits(network, state) - logits(target, pruned_state(network, state, target))).abs().max() < 1e-5


def test_scale_of_added_maps_is_the_mean_and_of_norms_in_a_row_the_last():
    network = unrolled(small("mobilenet_v2@32"))
    state = trained_like(network).state_dict()
    plan = plan_inheritance(network, network)
    groups = dict.fromkeys(layer.outputs.root() for layer in plan.copied if layer.outputs.root().norms)
    seen = set()
    for group in groups:
        scales = [state[f"{name}.weight"].abs() for name in group.norms]
        seen.add(group.added and len(scales) > 1)
        wanted = sum(scales) / len(scales) if group.added else scales[-1]
        torch.testing.assert_close(channel_scales(group, state), wanted)
    assert seen == {True, False}


def test_larger_budget_than_the_network_leaves_nothing_to_prune():
    network = small("resnet18@32")
    with pytest.raises(BudgetError, match=r"nothing to prune.*give a smaller budget"):
        prune_to_budget(network, trained_like(network).state_dict(), Budget("1G"), count_network)


def test_budget_out_of_reach_names_the_smallest_cost():
    network = small("mobilenet_v2@32")
    state = trained_like(network).state_dict()
    smallest = with_widths(unrolled(network), prunable_widths(network, state), 1e9)
    with pytest.raises(BudgetError, match=rf"cannot be pruned to.*{cost(smallest).macs / 1e3:.0f}"):
        prune_to_budget(network, state, Budget(macs=2000), count_network)


def test_grouped_convolutions_are_refused():
    network = find_network("resnext50_32x4d")
    with pytest.raises(NetworkError, match="grouped convolution"):
        prunable_widths(network, {})
