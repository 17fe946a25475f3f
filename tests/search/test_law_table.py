"""Laws at equal cost: within 1% where their steps allow it, and a reason where they do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.errors import SearchError
from triscale.families import get
from triscale.network.cost import count_network
from triscale.network.memory_estimate import inference_bytes, training_bytes
from triscale.scaling.apply import scale_by_law
from triscale.scaling.named_laws import NAMED_LAWS
from triscale.scaling.piecewise import with_rounding
from triscale.scaling.rounding import ScaleRounding
from triscale.search.compare.contenders import equal_cost
from triscale.search.compare.law_table import EQUAL, RATIOS, CostLevel, LawComparison, compare_laws, read_ratios

B0 = get("efficientnet_b0")
COARSE = {"resolution", "depth", "resnet-rs", "tinynet", "efficientnet-table", "lacs-tpu", "lacs-gpu"}
"""Laws with few steps at some cost: 16 px, whole blocks, or a stem and head that stay."""


def check(level: CostLevel, baseline, laws) -> None:
    assert not {row.law for row in level.rows} & {law for law, _ in level.unreachable}
    assert {row.law for row in level.rows} | {law for law, _ in level.unreachable} == set(laws)
    for row in level.rows:
        counted = count_network(row.network)
        assert (row.macs, row.params, row.activations) == (counted.macs, counted.params, counted.activations)
        assert row.macs <= level.limit <= int(level.times * count_network(baseline).macs)
        assert row.inference_bytes == inference_bytes(row.network)
        assert row.training_bytes == training_bytes(row.network)
        # Either the cost is equal, or the row says what the next step of its law needs.
        assert row.macs >= (1 - EQUAL) * level.limit or (row.note and row.law in COARSE)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v2", "resnet50"])
def test_most_laws_have_equal_cost(name):
    baseline = get(name)
    result = compare_laws(baseline, NAMED_LAWS, ratios=(1 / 8, 4, 12))
    for level in result.levels:
        check(level, baseline, NAMED_LAWS)
        # At 1/8 of MobileNetV2 four of ten miss 1%: resolution (70%), the table of B1-B7, and both LACS laws (98.7%).
        assert sum(not row.note for row in level.rows) >= len(level.rows) - 4
    assert LawComparison.from_json(result.to_json()) == result


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["efficientnet_b0", "mobilenet_v2", "resnet18", "mnasnet_a1"]),
    st.lists(st.sampled_from(sorted(NAMED_LAWS)), min_size=1, max_size=3, unique=True),
    st.floats(0.1, 20),
)
def test_no_law_exceeds_the_cost(name, chosen, times):
    baseline, laws = get(name), {law: NAMED_LAWS[law] for law in chosen}
    (level,) = compare_laws(baseline, laws, ratios=(times,)).levels
    check(level, baseline, laws)


def test_equal_laws_give_equal_rows_and_more_width_means_fewer_activations():
    laws = {name: NAMED_LAWS[name] for name in ("paper", "lacs-gpu", "dwr", "width")}
    for level in compare_laws(B0, laws, ratios=(4, 12)).levels:
        activations = [row.activations for row in level.rows]
        params = [row.params for row in level.rows]
        assert activations == sorted(activations, reverse=True)
        assert params == sorted(params)


def test_a_law_that_ends_or_does_not_begin_is_named():
    laws = {name: NAMED_LAWS[name] for name in ("tinynet", "depth")}
    low, high = compare_laws(B0, laws, ratios=(1 / 8, 2)).levels
    assert dict(low.unreachable) == {"depth": "needs at least 174M MACs"}
    assert dict(high.unreachable) == {"tinynet": "ends below this cost"}


def test_coarse_steps_are_explained():
    laws = {name: NAMED_LAWS[name] for name in ("paper", "resolution")}
    (level,) = compare_laws(B0, laws, ratios=(1 / 8,)).levels
    assert [row.note for row in level.rows] == ["", "the next step of the law, resolution 80 px, needs 57.9M MACs"]
    # Smaller steps do not help: a side of 66 px is rounded up at each stride, and its border is computed in full.
    laws["resolution"] = with_rounding(laws["resolution"], ScaleRounding(resolution_multiple=2))
    (level,) = compare_laws(B0, laws, ratios=(1 / 8,)).levels
    assert level.rows[1].note == "the next step of the law, resolution 66 px, needs 53.8M MACs"


@pytest.mark.parametrize("text", ["", "0/1,", "a", "1/0", "-1", "1e3", "nan"])
def test_ratios_that_cannot_be_read_are_rejected(text):
    with pytest.raises(SearchError, match="is not a cost relative to the baseline"):
        read_ratios(text)


@pytest.mark.parametrize("ratio", [0, 1e-9, 1e9])
def test_ratios_out_of_range_are_rejected(ratio):
    with pytest.raises(SearchError, match="laws are not compared at"):
        compare_laws(B0, {"paper": NAMED_LAWS["paper"]}, ratios=(ratio,))


def test_law_out_of_reach_in_a_round_that_is_not_kept_has_its_row():
    laws = {name: NAMED_LAWS[name] for name in ("depth", "efficientnet-table")}
    (level,) = compare_laws(B0, laws, ratios=(0.44917668,)).levels
    check(level, B0, laws)


def test_ratios_reach_from_an_eighth_to_ninety():
    assert (min(RATIOS), max(RATIOS)) == (1 / 8, 90)


def test_laws_are_the_rows_of_a_comparison():
    laws = {name: NAMED_LAWS[name] for name in ("paper", "dwr", "lacs-gpu")}
    result = equal_cost(B0, 3, laws=laws, phi=-2)
    assert [contender.way for contender in result.contenders] == ["baseline", *laws]
    assert [contender.law for contender in result.contenders[1:]] == list(laws.values())
    assert result.unevenness < 0.01
    assert result.baseline.structure == scale_by_law(B0, NAMED_LAWS["paper"], -2).structure
