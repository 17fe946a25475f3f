"""Networks as data: what is accepted, what is said when it is not, and the tree that they are lowered to."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from triscale.errors import RecordError
from triscale.families import get, names
from triscale.network import tree
from triscale.network.cost import si
from triscale.network.custom import CustomNetwork
from triscale.network.describe import describe_block
from triscale.network.lower import lower
from triscale.network.spec import Basic, Bottleneck, Conv, Head, MBConv, Network, Separable, Stage, Stem

SMALL = Network(
    name="small",
    stem=Stem(width=8),
    stages=(Stage(block=MBConv(expansion=2), width=8, repeats=2), Stage(block=Conv(), width=16, repeats=1, stride=2)),
    resolution=32,
    classes=10,
)


@pytest.mark.parametrize("block", [MBConv, Separable, Bottleneck, Basic, Conv])
def test_even_kernels_are_refused(block):
    with pytest.raises(ValidationError, match="odd side"):
        block(kernel=4)


def test_networks_are_frozen_and_strict():
    with pytest.raises(ValidationError, match="frozen"):
        SMALL.resolution = 64
    with pytest.raises(ValidationError, match="se_rate"):
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
def test_a_wrong_change_says_what_is_wrong(changes, message):
    with pytest.raises(RecordError, match=message) as caught:
        SMALL.replace(**changes)
    assert "the changed small" in str(caught.value)


def test_a_resolution_far_below_the_strides_is_refused():
    with pytest.raises(RecordError, match=r"10 px is too small.*multiply to 32; use at least 16 px"):
        get("efficientnet_b0").replace(resolution=10)
    assert get("efficientnet_b0").replace(resolution=16).resolution == 16


@pytest.mark.parametrize(
    ("name", "stride", "blocks"), [("efficientnet_b0", 32, 16), ("resnet50", 32, 16), ("mobilenet_v1", 32, 13)]
)
def test_strides_and_blocks_are_counted(name, stride, blocks):
    assert (get(name).total_stride, get(name).num_blocks) == (stride, blocks)


def test_structure_ignores_the_name_and_nothing_else():
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


def test_names_in_the_tree():
    root = lower(SMALL)
    assert [name for name, _ in root.children] == ["stem", "stages", "head"]
    stages = dict(root.children)["stages"]
    first = dict(dict(stages.children)["0"].children)["blocks"]
    assert [name for name, _ in first.children] == ["0", "1"]
    block = first.children[0][1]
    assert isinstance(block, tree.Residual)
    assert [name for name, _ in block.body.children] == ["expand", "depthwise", "project"]
    assert [name for name, _ in dict(root.children)["head"].children] == ["pool", "classifier"]


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_b4", "efficientnet_b7"])
def test_drop_rates_rise_from_zero_and_never_reach_the_networks_rate(name):
    network = get(name)
    number, rates = 0, {}
    for _, stage in dict(lower(network).children)["stages"].children:
        for _, block in stage.children[0][1].children:
            if isinstance(block, tree.Residual):
                rates[number] = block.drop_rate
            number += 1
    assert number == network.num_blocks
    assert rates == {block: pytest.approx(0.2 * block / number) for block in rates}
    assert max(rates.values()) < 0.2
    assert 0 not in rates


def test_a_shortcut_is_projected_only_where_shapes_differ():
    stages = dict(lower(get("resnet18")).children)["stages"].children
    projected = [block.shortcut is not None for _, stage in stages for _, block in stage.children[0][1].children]
    assert projected == [False, False, True, False, True, False, True, False]
    stages = dict(lower(get("resnet50")).children)["stages"].children
    assert [stage.children[0][1].children[0][1].shortcut is not None for _, stage in stages] == [True] * 4


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
def test_blocks_in_words(block, words):
    assert describe_block(block) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0"), (7, "7"), (999, "999"), (1000, "1.00k"), (9996, "10.0k"), (5288548, "5.29M"), (99_960_000, "100M"),
        (385814752, "386M"), (999_499_999, "999M"), (999_500_000, "1.00G"), (37.7e9, "37.7G"), (4.757e11, "476G"),
        (2e12, "2.00T"), (3e15, "3000T"),
    ],
)  # fmt: skip
def test_counts_in_words(number, words):
    assert si(number) == words


def test_own_networks_are_named_as_functions():
    own = CustomNetwork(name="mine", function="package.module:build")
    assert own.replace(depth=2.0).depth == 2.0
    assert own.structure == own.replace(name="other").structure != own.replace(width=2.0).structure
    for function in ("build", "package.module", "a:b:c", "1a:b", "a b:c"):
        with pytest.raises(ValidationError, match="function"):
            CustomNetwork(name="mine", function=function)
    with pytest.raises(RecordError, match="depth"):
        own.replace(depth=0)
