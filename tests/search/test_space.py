"""The space of a baseline search: every sample a valid network, published networks among them."""

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import NetworkError, RecordError, SearchError
from triscale.families import get
from triscale.network.cost import count_network
from triscale.network.spec import BatchNorm, Network
from triscale.scaling.budget import cost_value
from triscale.search.baseline.options import MENUS, Choices, Options, round_to_width
from triscale.search.baseline.space import around, make_space, mnasnet

SPACE = mnasnet()
V2_SPACE = around(get("efficientnetv2_b0"), "efficientnet_v2")
V4_SPACE = around(get("mobilenet_v4_conv_medium"), "mobilenet_v4")


def styled(like: Network) -> Network:
    """MobileNetV2 with the activation, padding and head of another network."""
    skeleton = get("mobilenet_v2")
    activation = like.stem.activation
    return skeleton.replace(
        stem=like.stem,
        stages=tuple(
            stage.model_copy(update={"block": stage.block.model_copy(update={"activation": activation})})
            for stage in skeleton.stages
        ),
        head=like.head,
        dropout=like.dropout,
        drop_path=like.drop_path,
        padding=like.padding,
        norm=like.norm,
    )


@pytest.mark.parametrize("name", ["mnasnet_a1", "mnasnet_b1", "efficientnet_b0"])
def test_mobilenet_space_contains_published_networks(name):
    published = get(name)
    space = mnasnet(styled(published))
    sample = space.find(published)
    assert sample is not None
    assert space.network(sample).structure == published.structure
    assert count_network(space.network(sample)) == count_network(published)


@pytest.mark.parametrize(
    ("skeleton", "menu", "published"),
    [
        ("efficientnetv2_b0", "efficientnet_v2", "efficientnetv2_b0"),
        ("efficientnetv2_b0", "efficientnet_v2", "efficientnetv2_b1"),
        ("mobilenet_v4_conv_medium", "mobilenet_v4", "mobilenet_v4_conv_medium"),
    ],
)
def test_newer_spaces_contain_published_networks(skeleton, menu, published):
    network = get(published)
    space = around(get(skeleton), menu, tuple(sorted({get(skeleton).resolution, network.resolution})))
    sample = space.find(network)
    assert sample is not None
    assert space.network(sample).structure == network.structure


def test_space_contains_its_skeleton():
    sample = SPACE.find(get("mobilenet_v2"))
    assert sample is not None
    assert SPACE.network(sample).structure == get("mobilenet_v2").structure


def test_space_size_is_product_of_choices():
    assert len(SPACE.free_choices) == 7 * 7
    assert SPACE.size == (3 * 2 * 2 * 2 * 3 * 3 * 3) ** 7


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([SPACE, V2_SPACE, V4_SPACE]), st.integers(0, 2**32 - 1))
def test_samples_and_mutants_are_valid_networks(space, seed):
    rng = random.Random(seed)
    sample = space.sample(rng)
    mutant = space.mutate(sample, rng)
    assert sum(old != new for old, new in zip(sample, mutant, strict=True)) == 1
    for one in (sample, mutant):
        network = space.network(one)
        assert Network.from_json(network.to_json()) == network
        assert count_network(network).macs > 0
        found = space.find(network)
        assert found is not None
        assert space.network(found).structure == network.structure


def test_mutants_are_sampled_uniformly():
    rng = random.Random(0)
    sample = SPACE.sample(rng)
    result: dict[tuple[int, int], int] = {}
    for _ in range(6000):
        mutant = SPACE.mutate(sample, rng)
        place = next(at for at, (old, new) in enumerate(zip(sample, mutant, strict=True)) if old != new)
        result[place, mutant[place]] = result.get((place, mutant[place]), 0) + 1
    assert len(result) == sum(len(choice.options) - 1 for choice in SPACE.free_choices)


def test_numpy_generator_is_accepted():
    sample = SPACE.sample(np.random.default_rng(0))
    assert all(type(index) is int for index in sample)
    SPACE.network(sample)


def test_samples_are_uniform():
    rng = random.Random(1)
    counts = np.zeros(3)
    for _ in range(3000):
        counts[SPACE.sample(rng)[0]] += 1
    assert np.abs(counts / 3000 - 1 / 3).max() < 0.04


def test_several_resolutions_become_a_choice():
    space = around(get("mobilenet_v2"), "tiny", (192, 224))
    assert space.free_choices[-1].name == "resolution"
    networks = {space.network((*space.sample(random.Random(0))[:-1], at)).resolution for at in (0, 1)}
    assert networks == {192, 224}


@pytest.mark.parametrize("cost", ["macs", "params"])
@pytest.mark.stress
def test_smallest_and_largest_have_extreme_cost(cost):
    options = Options(expansions=(3, 6), widths=(0.75, 1.25), layers=(0, 1), skips=("identity",), kernels=(3, 5))
    skeleton = get("mobilenet_v2@32").replace(stages=get("mobilenet_v2@32").stages[:2], name="two")
    space = make_space("two", skeleton, Choices(options=(options,), resolutions=(24, 32)))
    every = product(*(range(len(choice.options)) for choice in space.free_choices))
    costs = [cost_value(count_network(space.network(sample)), cost) for sample in every]
    assert cost_value(count_network(space.smallest(cost)), cost) == min(costs)
    assert cost_value(count_network(space.largest(cost)), cost) == max(costs)


def test_unreachable_target_error_reports_nearest():
    with pytest.raises(SearchError, match=r"costs 10.0M MACs: the smallest has 41.0M MACs"):
        SPACE.check_target("macs", 10e6)
    with pytest.raises(SearchError, match=r"the largest has 13.1M params"):
        SPACE.check_target("params", 1e9)
    SPACE.check_target("macs", 300e6)


@pytest.mark.parametrize(
    ("skeleton", "menu", "message"),
    [
        ("resnet50", "mnasnet", "stage 0 of resnet50 has bottleneck blocks, for which the space has no options"),
        ("mobilenet_v2", "resnet", "stage 0 of mobilenet_v2 has mbconv blocks"),
        ("mobilenet_v2", "mnasnett", 'there is no space "mnasnett"; the names are mnasnet'),
    ],
)
def test_space_incompatible_with_skeleton_is_rejected(skeleton, menu, message):
    with pytest.raises(SearchError, match=message):
        around(get(skeleton), menu)


def test_options_for_wrong_number_of_blocks_are_rejected():
    with pytest.raises(SearchError, match=r"options for 2 blocks, and mobilenet_v2 has 7"):
        make_space("two", get("mobilenet_v2"), Choices(options=(Options(), Options())))


def test_resolution_too_small_for_total_stride_is_rejected():
    with pytest.raises((SearchError, NetworkError, RecordError), match="8 px is too small"):
        around(get("mobilenet_v2"), "tiny", (8,))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kernels", (), "empty space"),
        ("kernels", (3, 3), "contains an option twice"),
        ("se_ratios", (2.0,), "must be from 0 to 1"),
        ("widths", (0.0,), "above 0"),
    ],
)
def test_invalid_options_are_rejected(field, value, message):
    with pytest.raises(RecordError, match=message):
        Options.parse({field: value}, "the options")


def test_sample_of_another_space_is_rejected():
    with pytest.raises(SearchError, match="has 49 indices, given 2"):
        SPACE.network((0, 1))
    with pytest.raises(SearchError, match="operations of block 0 has 3 options, numbered from 0; 7 is out of range"):
        SPACE.network((7, *([0] * 48)))


def test_resnets_have_their_own_space():
    space = around(get("resnet18"), "resnet")
    network = space.network(space.sample(random.Random(0)))
    assert {stage.block.kind for stage in network.stages} <= {"basic", "bottleneck"}


@pytest.mark.parametrize("menu", ["mbconv", "small", "tiny"])
def test_smaller_spaces_are_subsets_of_mnasnet(menu):
    for name in Options.model_fields:
        assert set(getattr(MENUS[menu], name)) <= set(getattr(MENUS["mnasnet"], name))


@pytest.mark.parametrize(
    ("width", "rounded"), [(4, 8), (12, 8), (30, 32), (40, 40), (80, 80), (120, 112), (200, 192), (400, 400)]
)
def test_widths_are_rounded_to_multiples_of_8_and_16(width, rounded):
    assert round_to_width(width) == rounded


def test_space_round_trips():
    space = around(get("mobilenet_v2"), "small", (192, 224))
    assert type(space).from_json(space.to_json()) == space
    assert space.skeleton.norm == BatchNorm(eps=1e-5, momentum=0.1)
