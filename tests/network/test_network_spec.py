"""Networks as data: validation, error messages, and the operation tree."""

from __future__ import annotations

import pytest

from triscale.errors import RecordError
from triscale.families import get, names
from triscale.network import tree
from triscale.network.cost import si
from triscale.network.custom import CustomNetwork
from triscale.network.describe import describe_block
from triscale.network.latency import Predictor, part_figures, predict_figures
from triscale.network.lower import lower
from triscale.network.spec import (
    Basic,
    Bottleneck,
    Conv,
    FusedMBConv,
    Head,
    MBConv,
    Network,
    Separable,
    SqueezeRule,
    Stage,
    Stem,
    UniversalBottleneck,
)

SMALL = Network(
    name="small",
    stem=Stem(width=8),
    stages=(Stage(block=MBConv(expansion=2), width=8, repeats=2), Stage(block=Conv(), width=16, repeats=1, stride=2)),
    resolution=32,
    classes=10,
)


@pytest.mark.parametrize("block", [MBConv, FusedMBConv, UniversalBottleneck, Separable, Bottleneck, Basic, Conv])
def test_even_kernels_are_rejected(block):
    with pytest.raises(RecordError, match="odd side"):
        block(kernel=4)


def test_networks_are_frozen_and_strict():
    with pytest.raises(RecordError, match="cannot be changed"):
        SMALL.resolution = 64
    with pytest.raises(RecordError, match="se_rate"):
        MBConv(se_rate=0.25)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": ()}, '"stages"'),
        ({"classes": 0}, '"classes"'),
        ({"dropout": 1.0}, '"dropout"'),
        ({"padding": "valid"}, "'same' or 'symmetric'"),
        ({"resolutoin": 64}, 'unknown key "resolutoin"; did you mean resolution'),
        ({"resolution": 0}, '"resolution"'),
        ({"name": ""}, '"name"'),
    ],
)
def test_invalid_replace_reports_error(changes, message):
    with pytest.raises(RecordError, match=message) as caught:
        SMALL.replace(**changes)
    assert "the changed small" in str(caught.value)


def test_resolution_far_below_total_stride_is_rejected():
    with pytest.raises(RecordError, match=r"10 px is too small.*multiply to 32; use at least 16 px"):
        get("efficientnet_b0").replace(resolution=10)
    assert get("efficientnet_b0").replace(resolution=16).resolution == 16


@pytest.mark.parametrize(
    ("name", "stride", "blocks"), [("efficientnet_b0", 32, 16), ("resnet50", 32, 16), ("mobilenet_v1", 32, 13)]
)
def test_strides_and_blocks_are_counted(name, stride, blocks):
    assert (get(name).total_stride, get(name).num_blocks) == (stride, blocks)


def test_structure_ignores_only_the_name():
    assert SMALL.structure == SMALL.replace(name="other").structure
    for changes in (
        {"classes": 11},
        {"resolution": 33},
        {"padding": "symmetric"},
        {"dropout": 0.1},
        {"head": Head(width=8)},
    ):
        assert SMALL.replace(**changes).structure != SMALL.structure


def test_published_structures_differ():
    assert len({get(name).structure for name in names()}) == len(names())


def test_tree_nodes_have_expected_names():
    root = lower(SMALL)
    assert [name for name, _ in tree.children(root)][:: len(root.stages) + 1] == ["stem", "head"]
    assert [name for name, _ in tree.children(root.stages[0])] == ["blocks.0", "blocks.1"]
    block = root.stages[0].blocks[0]
    assert isinstance(block, tree.Residual)
    assert [name for name, _ in tree.children(block)] == ["expand", "depthwise", "project"]
    assert [name for name, _ in tree.children(root.head)] == ["pool", "classifier"]


@pytest.mark.parametrize("name", ["efficientnet_b0", "resnet50", "mobilenet_v2"])
def test_walk_visits_every_node_once_with_its_shape(name):
    root = lower(get(name))
    before, after = list(tree.walk(root)), list(tree.walk(root, parents_last=True))
    assert before[0].path == after[-1].path == ""
    assert sorted(visit.path for visit in before) == sorted({visit.path for visit in after})
    for visit in before:
        match visit.node:
            case tree.Convolution(inputs=inputs) | tree.Linear(inputs=inputs):
                assert visit.input.channels == inputs
            case tree.Normalization(channels=channels, side=side):
                assert visit.input == (channels, side)
            case _:
                pass


def test_paths_contain_block_and_stage():
    assert tree.block_path("stages.3.blocks.1.expand.conv") == "stages.3.blocks.1"
    assert (tree.stage_path("stages.3.blocks.1"), tree.stage_number("stages.3.blocks.1")) == ("stages.3", 3)
    assert (tree.stage_path("head.classifier"), tree.stage_number("head.classifier")) == ("head", None)
    assert tree.block_paths(lower(SMALL))[:2] == ("stages.0.blocks.0", "stages.0.blocks.1")


def test_grouped_convolution_is_not_depthwise():
    def convolution(inputs: int, outputs: int, groups: int) -> tree.Convolution:
        return tree.Convolution(inputs, outputs, 3, 1, groups, False, "same", tree.Shape(outputs, 8, 8))

    assert convolution(8, 8, 8).is_depthwise
    assert not convolution(8, 8, 4).is_depthwise
    assert not convolution(8, 16, 8).is_depthwise
    assert not convolution(8, 8, 1).is_depthwise
    assert convolution(8, 16, 4).num_weights == 16 * 2 * 9
    part = tree.Sequence((("conv", convolution(8, 16, 4)),), tree.Shape(16, 8, 8))
    assert part_figures(part, tree.Shape(8, 8, 8))["dense.macs"] == pytest.approx(16 * 2 * 9 * 64 / 1e6)


def test_block_activation_must_not_be_sigmoid():
    with pytest.raises(RecordError, match="sigmoid is the gate of squeeze-and-excitation"):
        MBConv(activation="sigmoid")


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b4", "efficientnet_b7"])
def test_drop_rates_rise_linearly_from_zero(name):
    network = get(name)
    number, rates = 0, {}
    for stage in lower(network).stages:
        for block in stage.blocks:
            if isinstance(block, tree.Residual):
                rates[number] = block.drop_rate
            number += 1
    assert number == network.num_blocks
    assert rates == {block: pytest.approx(0.2 * block / number) for block in rates}
    assert max(rates.values()) < 0.2
    assert 0 not in rates


def test_shortcut_is_projected_only_where_shapes_differ():
    projected = [block.shortcut is not None for stage in lower(get("resnet18")).stages for block in stage.blocks]
    assert projected == [False, False, True, False, True, False, True, False]
    assert [stage.blocks[0].shortcut is not None for stage in lower(get("resnet50")).stages] == [True] * 4


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (MBConv(expansion=6, kernel=5, se_ratio=0.25), "MBConv6 k5 SE 0.25 silu"),
        (MBConv(expansion=1, activation="relu"), "MBConv1 k3 relu"),
        (Separable(), "separable k3 relu"),
        (Bottleneck(), "bottleneck k3 relu"),
        (Basic(kernel=5), "basic k5 relu"),
        (Conv(), "conv k3 relu"),
    ],
)
def test_blocks_are_described(block, words):
    assert describe_block(block) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"), (7, "7"), (999, "999"), (1000, "1.00k"), (9996, "10.0k"), (5288548, "5.29M"), (99_960_000, "100M"),
        (385814752, "386M"), (999_499_999, "999M"), (999_500_000, "1.00G"), (37.7e9, "37.7G"), (4.757e11, "476G"),
        (2e12, "2.00T"), (3e15, "3000T"),
    ],
)  # fmt: skip
def test_counts_have_si_prefixes(number, words):
    assert si(number) == words


def test_custom_network_needs_function_path():
    own = CustomNetwork(name="mine", function="package.module:build")
    assert own.replace(depth=2.0).depth == 2.0
    assert own.structure == own.replace(name="other").structure != own.replace(width=2.0).structure
    for function in ("build", "package.module", "a:b:c", "1a:b", "a b:c"):
        with pytest.raises(RecordError, match="function"):
            CustomNetwork(name="mine", function=function)
    with pytest.raises(RecordError, match="depth"):
        own.replace(depth=0)


def test_printed_network_is_one_short_line():
    network = get("efficientnet_b0@720x184")
    assert str(network) == repr(network) == "Network('efficientnet_b0@720x184', 720x184 px, 16 blocks, 1000 classes)"


def test_digests_from_before_the_newer_fields_stay():
    assert get("efficientnet_b0").digest.startswith("1a66024ab037ae76")
    assert get("mnasnet_a1").structure.startswith("dd941932a0ac16c6")
    assert Bottleneck().model_dump() == {"kind": "bottleneck", "kernel": 3, "reduction": 4, "activation": "relu"}
    assert Head(width=8).model_dump().keys() == {"width", "activation", "width_rule"}
    assert "se_rule" not in MBConv().model_dump()


@pytest.mark.parametrize("name", ["mobilenet_v3_large", "mobilenet_v4_conv_small", "regnety_200mf", "resnetrs50"])
def test_newer_fields_change_structure_and_round_trip(name):
    network = get(name)
    assert Network.from_json(network.to_json()).structure == network.structure
    plain = network.replace(head=network.head.replace(wide=None, wide_norm=False))
    assert (plain.structure == network.structure) == (network.head.wide is None)


def test_whole_expansions_are_integers_and_fractions_round_to_multiples_of_8():
    assert MBConv(expansion=6.0) == MBConv(expansion=6)
    assert isinstance(MBConv(expansion=6.0).expansion, int)

    def hidden(width: int, expansion: float) -> int:
        network = SMALL.replace(
            stem=Stem(width=width), stages=(Stage(block=MBConv(expansion=expansion), width=8, repeats=1),)
        )
        node = dict(tree.children(lower(network).stages[0].blocks[0]))["expand"]
        return node.out.channels

    assert [hidden(80, 2.3), hidden(24, 3.67), hidden(10, 3), hidden(10, 3.5)] == [184, 88, 30, 32]
    with pytest.raises(RecordError, match='"expansion"'):
        MBConv(expansion=0)


def test_contradictory_blocks_are_rejected():
    with pytest.raises(RecordError, match="groups=2 and group_width=8 exclude each other"):
        Bottleneck(groups=2, group_width=8)
    with pytest.raises(RecordError, match="stage 0 has stride 2, and a universal block without kernels has none"):
        SMALL.replace(stages=(Stage(block=UniversalBottleneck(kernel=None), width=8, repeats=1, stride=2),))
    with pytest.raises(RecordError, match="hard_sigmoid is the gate of squeeze-and-excitation"):
        MBConv(activation="hard_sigmoid")
    with pytest.raises(RecordError, match='"gate"'):
        SqueezeRule(gate="relu")


@pytest.mark.parametrize(
    ("block", "description"),
    [
        (FusedMBConv(), "fused MBConv4 k3 silu"),
        (MBConv(expansion=2.5, activation="hard_swish"), "MBConv2.5 k3 hard_swish"),
        (UniversalBottleneck(start=5, kernel=3), "universal4 start k5 k3 relu"),
        (UniversalBottleneck(kernel=None), "universal4 relu"),
        (Bottleneck(groups=32, reduction=2), "bottleneck k3 groups 32 relu"),
        (Bottleneck(group_width=16, se_ratio=0.25), "bottleneck k3 group width 16 SE 0.25 relu"),
    ],
)
def test_newer_blocks_are_described(block, description):
    assert describe_block(block) == description


def test_wide_layer_follows_the_pool():
    root = lower(SMALL.replace(head=Head(width=8, wide=12), dropout=0.1))
    assert [name for name, _ in tree.children(root.head)][3:] == ["pool", "wide", "flatten", "dropout", "classifier"]
    assert root.out == tree.Shape(10)
    assert "wide linear" in SMALL.replace(head=Head(wide=12))._repr_html_()


def test_activation_that_a_profile_lacks_is_predicted_as_a_similar_one():
    figures = {"hard_swish.count": 2.0, "hard_swish.values": 3.0}
    known = {"silu.count": 0.5, "silu.values": 1.0}
    measured = Predictor(engine="x", threads=1, processor="x", milliseconds=known, error=0.1, error_90=0.2, held_out=1)
    assert predict_figures(measured, figures) == 4.0
    exact = measured.replace(milliseconds=known | {"hard_swish.values": 0.1})
    assert predict_figures(exact, figures) == pytest.approx(0.3)
    assert predict_figures(measured, {"relu.count": 1.0}) == 0
