"""Networks for int8 and small devices, against the published EfficientNet-Lite."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import NetworkError
from triscale.families import FAMILIES, get, names, published
from triscale.families.find import find_lite
from triscale.families.lite import lite
from triscale.network import tree
from triscale.network.cost import cost
from triscale.network.lower import lower
from triscale.network.spec import Basic, Bottleneck, Conv, Network, Separable, Stage
from triscale.nn.build import build
from triscale.scaling.apply import scale, scale_to
from triscale.scaling.law import EFFICIENTNET
from triscale.search.baseline.space import mnasnet

LIGHT = [
    name
    for name in names()
    if not any(isinstance(stage.block, Basic | Bottleneck) for stage in published(name).network.stages)
]
SPACE = mnasnet()

#        params, MACs as published with the release: facts of Lite0 to 4
LITES = [
    (4652008, 385187552),
    (5416680, 600185232),
    (6092072, 859736272),
    (8197096, 1383321872),
    (13006568, 2553034336),
]


@pytest.mark.parametrize(("member", "figures"), list(zip(FAMILIES["EfficientNet-Lite"], LITES, strict=True)))
def test_lite_b0_has_cost_of_efficientnet_lite0(member, figures):
    made = lite(get("efficientnet_b0"))
    scaled = scale_to(made, depth=member.depth, width=member.width, resolution=member.resolution)
    assert (cost(scaled).params, cost(scaled).macs) == figures
    assert made.name == "efficientnet_b0_lite"
    assert made.replace(name="efficientnet_lite0") == get("efficientnet_lite0")


@given(st.one_of(st.sampled_from(LIGHT).map(get), st.randoms().map(lambda rng: SPACE.network(SPACE.sample(rng)))))
@settings(max_examples=60, deadline=None)
def test_lite_network_has_no_squeeze_and_excitation_and_only_relu6(network: Network):
    made = lite(network)
    assert lite(made) == made
    primitives = [visit.node for visit in tree.walk(lower(made))]
    assert not any(isinstance(node, tree.SqueezeExcite) for node in primitives)
    assert {node.kind for node in primitives if isinstance(node, tree.Activation)} == {"relu6"}
    assert [(one.width, one.repeats, one.stride) for one in made.stages] == [
        (one.width, one.repeats, one.stride) for one in network.stages
    ]
    assert cost(made).macs <= cost(network).macs


@pytest.mark.parametrize(
    "name",
    [
        "efficientnet_b0",
        "mobilenet_v1",
        "mobilenet_v2",
        "mnasnet_a1",
        "efficientnetv2_b0",
        "mobilenet_v3_small",
        "mobilenet_v4_conv_small",
    ],
)
def test_scaling_keeps_stem_head_and_depth_of_end_stages(name):
    made = lite(get(name))
    grown = scale(made, EFFICIENTNET.at(3))
    assert (grown.stem.width, grown.head.width) == (made.stem.width, made.head.width)
    assert (grown.stages[0].repeats, grown.stages[-1].repeats) == (made.stages[0].repeats, made.stages[-1].repeats)
    assert cost(grown).macs > 2 * cost(made).macs


def test_identical_middle_stages_are_scaled():
    stage = Stage(block=Separable(), width=16, repeats=2)
    network = get("mobilenet_v1").replace(stages=(stage, stage, stage))
    assert [stage.depth_rule for stage in lite(network).stages] == ["fixed", "scaled", "fixed"]


def test_lite_network_keeps_its_name():
    assert lite(get("efficientnet_lite3")) is get("efficientnet_lite3")


def test_full_convolutions_have_a_lite_form():
    network = get("mobilenet_v1").replace(stages=(Stage(block=Conv(activation="silu"), width=16, repeats=1),))
    assert {stage.block.activation for stage in lite(network).stages} == {"relu6"}
    assert build(lite(network)).network.name == "mobilenet_v1_lite"


def test_resnets_and_custom_models_are_rejected():
    with pytest.raises(NetworkError, match="resnet18 has basic blocks, which have no lite form"):
        find_lite("resnet18")
    with pytest.raises(NetworkError, match="resnet50 has bottleneck blocks"):
        find_lite("resnet50")
    with pytest.raises(NetworkError, match="build is a custom model whose layers are unknown"):
        find_lite("package.module:build")
    mixed = get("mobilenet_v1").replace(stages=(*get("mobilenet_v1").stages, Stage(block=Basic(), width=16, repeats=1)))
    with pytest.raises(NetworkError, match="basic blocks"):
        lite(mixed)
