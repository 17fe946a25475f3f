"""A supernet's members against stand-alone modules with the same weights."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from triscale.errors import NetworkError
from triscale.jobs.studies.supernet import corners
from triscale.network.spec import Basic, BatchNorm, Bottleneck, Head, MBConv, Network, Stage, Stem
from triscale.nn.build import build
from triscale.nn.supernet import Supernet, _without_weights
from triscale.search.baseline.options import MENUS, Choices, Options
from triscale.search.baseline.space import Space, make_space
from triscale.training.recompute import with_recomputation

SKELETON = Network(
    name="skeleton",
    stem=Stem(width=24),
    stages=(
        Stage(block=MBConv(), width=24, repeats=1),
        Stage(block=MBConv(), width=24, repeats=2, stride=2),
    ),
    head=Head(width=24),
    resolution=16,
    classes=3,
    dropout=0.2,
    drop_path=0.2,
    norm=BatchNorm(momentum=0.1),
)
LIGHT = make_space("light", SKELETON, Choices(options=(MENUS["mnasnet"],)))
RESIDUAL = make_space(
    "residual",
    SKELETON.replace(
        stages=(
            Stage(block=Basic(), width=24, repeats=1),
            Stage(block=Bottleneck(), width=32, repeats=2, stride=2),
            Stage(block=Bottleneck(), width=32, repeats=2),
        ),
        head=Head(),
        padding="symmetric",
    ),
    # The widest members need no projection where the stride is 1; those of two widths do.
    Choices(options=(Options(**MENUS["resnet"].model_dump() | {"widths": (0.5, 1.0), "layers": (0, 1)}),)),
)


def supernet(space: Space, **changes) -> Supernet:
    torch.manual_seed(0)
    chosen = {"fixed": (space.smallest(),), "samples": 2} | changes
    model = Supernet(corners(space), draw=lambda number: space.network(drawn(space, number)), **chosen)
    for value in model.parameters():  # so that no batch norm is the identity
        if value.ndim == 1:
            nn.init.uniform_(value, 0.5, 1.5)
    return model


def drawn(space: Space, number):
    return tuple(int(number() * len(choice.options)) for choice in space.free_choices)


def pictures(number: int = 6) -> torch.Tensor:
    return torch.randn(number, 3, 16, 16, generator=torch.Generator().manual_seed(1))


SHARED = {space.name: supernet(space) for space in (LIGHT, RESIDUAL)}


def check(space: Space, network: Network) -> None:
    """Compare outputs and gradients of a member with those of the extracted module."""
    shared, images = SHARED[space.name], pictures()
    alone = shared.extract(network).train()
    shared.zero_grad()
    torch.manual_seed(7)
    mine = shared.member(images, network, shared.slices(network))
    mine.square().sum().backward()
    torch.manual_seed(7)
    theirs = alone(images)
    theirs.square().sum().backward()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    gradients = {name: value.grad for name, value in alone.named_parameters()}
    parts = shared.slices(network)
    assert gradients.keys() == parts.keys()
    touched = sum(int(gradient.count_nonzero()) for gradient in gradients.values())
    # A slice of the shared gradients, in the same way as of the shared weights.
    of_shared = copy.deepcopy(shared)
    for (_, value), (_, here) in zip(of_shared.named_parameters(), shared.named_parameters(), strict=True):
        value.data = torch.zeros_like(here) if here.grad is None else here.grad
    for name, gradient in of_shared.slices(network).items():
        torch.testing.assert_close(gradient.detach(), gradients[name], rtol=1e-5, atol=1e-6)
    result = sum(int(value.grad.count_nonzero()) for value in shared.parameters() if value.grad is not None)
    assert result <= touched * 1.001
    assert result >= touched * 0.999


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_member_matches_standalone_module(chance):
    check(LIGHT, LIGHT.network(drawn(LIGHT, chance.random)))


def test_residual_members_have_additional_projections():
    assert set(SHARED["residual"].projections) == {"0_basic", "0_bottleneck", "2_basic", "2_bottleneck"}
    narrow = RESIDUAL.smallest()
    names = SHARED["residual"].slices(narrow)
    assert "stages.0.blocks.0.shortcut.conv.weight" in names
    assert "stages.2.blocks.0.shortcut.conv.weight" not in names
    check(RESIDUAL, narrow)


@settings(max_examples=8, deadline=None)
@given(st.randoms(use_true_random=False))
def test_residual_member_matches_standalone_module(chance):
    check(RESIDUAL, RESIDUAL.network(drawn(RESIDUAL, chance.random)))


@pytest.mark.parametrize(
    ("operation", "skip"), [*product(["conv", "separable", "mbconv"], ["identity", "none", "pool"])]
)
def test_every_operation_and_skip_matches_standalone_module(operation, skip):
    choices = {"operations": (operation,), "skips": (skip,)}
    space = make_space("one", SKELETON, Choices(options=(Options(**MENUS["mnasnet"].model_dump() | choices),)))
    for network in (space.smallest(), space.largest()):
        assert LIGHT.find(network) is not None
        check(LIGHT, network)


def test_first_corner_trains_like_standalone_module():
    shared = supernet(LIGHT, fixed=(), samples=0)
    first, *others = shared.corners
    plain = build(first)
    shared_weights = shared.slices(first)
    plain.load_state_dict(plain.state_dict() | {name: value.detach().clone() for name, value in shared_weights.items()})
    for step in range(3):
        torch.manual_seed(step)
        answers = shared.train()(pictures())
        torch.manual_seed(step)
        assert torch.equal(answers[0], plain.train()(pictures()))
    assert answers.shape == (1 + len(others), 6, 3)
    assert torch.equal(shared.eval()(pictures()), plain.eval()(pictures()))


def test_members_share_first_channels_and_kernel_centers():
    shared = SHARED["light"]
    before, _ = SKELETON.stages
    small, large = (
        SKELETON.replace(
            stages=(
                before,
                Stage(block=MBConv(expansion=expansion, kernel=kernel), width=width, repeats=repeats, stride=2),
            )
        )
        for expansion, kernel, width, repeats in ((3, 3, 16, 1), (6, 5, 32, 3))
    )
    ours, theirs = shared.slices(small), shared.slices(large)
    assert ours.keys() < theirs.keys()
    block = "stages.1.blocks.0"
    for name, part in (
        ("stem.conv.weight", (...,)),
        (f"{block}.expand.conv.weight", (slice(72),)),
        (f"{block}.depthwise.conv.weight", (slice(72), slice(None), slice(1, 4), slice(1, 4))),
        (f"{block}.depthwise.norm.bias", (slice(72),)),
        (f"{block}.project.conv.weight", (slice(16), slice(72))),
        ("head.conv.weight", (slice(None), slice(16))),
    ):
        assert torch.equal(ours[name], theirs[name][part]), name
        assert ours[name].untyped_storage().data_ptr() == theirs[name].untyped_storage().data_ptr()
    separable = small.replace(stages=(before, Stage(block=MBConv(expansion=1), width=16, repeats=1, stride=2)))
    own = shared.slices(separable)[f"{block}.project.conv.weight"]
    assert own.untyped_storage().data_ptr() != ours[f"{block}.project.conv.weight"].untyped_storage().data_ptr()


def test_sampled_members_depend_only_on_seed():
    shared = SHARED["light"].train()

    def answers(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        with torch.no_grad():
            return shared(pictures())

    first = answers(3)
    assert torch.equal(first, answers(3))
    _without_weights.cache_clear()
    assert torch.equal(first, answers(3))
    assert not torch.equal(first[-2:], answers(4)[-2:])


@pytest.mark.parametrize("checkpoint_level", [1, 2])
def test_recomputation_gives_identical_gradients(checkpoint_level):
    def step(level: int) -> list[torch.Tensor]:
        shared = supernet(LIGHT).train()
        torch.manual_seed(5)
        with with_recomputation(shared, level):
            shared(pictures()).square().sum().backward()
        return [value.grad for value in shared.parameters() if value.grad is not None]

    for one, other in zip(step(0), step(checkpoint_level), strict=True):
        assert torch.equal(one, other)


def test_extracted_network_is_independent():
    shared = supernet(LIGHT)
    state = torch.get_rng_state()
    model = shared.extract(LIGHT.smallest())
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert model.network == LIGHT.smallest()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for value in shared.parameters():
            value.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.requires_grad for value in model.parameters())


def test_network_of_another_space_is_rejected():
    shared = SHARED["light"]
    stem, _ = SKELETON.stages
    for network, words in (
        (SKELETON.replace(classes=5), "number of classes"),
        (SKELETON.replace(stages=(stem, stem)), "strides"),
        (SKELETON.replace(stages=(stem, Stage(block=MBConv(), width=40, repeats=1, stride=2))), "project.conv.weight"),
        (SKELETON.replace(stages=(stem, Stage(block=MBConv(), width=16, repeats=9, stride=2))), "blocks.3"),
        (SKELETON.replace(stages=(Stage(block=Basic(), width=8, repeats=1), SKELETON.stages[1])), "first.conv"),
    ):
        with pytest.raises(NetworkError, match=words):
            shared.slices(network)
    with pytest.raises(NetworkError, match="same stem, head, widths"):
        Supernet([SKELETON, SKELETON.replace(classes=5)], draw=shared.draw)
    with pytest.raises(NetworkError, match="none given"):
        Supernet([], draw=shared.draw)
