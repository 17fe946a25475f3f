"""Budgets and their text form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triscale.errors import BudgetError, RecordError
from triscale.network.cost import Counts
from triscale.scaling.budget import Budget


@pytest.mark.parametrize(
    ("form", "limits"),
    [
        ("400M", {"macs": 400e6}),
        ("400 M", {"macs": 400e6}),
        (" 400M ", {"macs": 400e6}),
        ("1.2G", {"macs": 1.2e9}),
        ("1.2GMACs", {"macs": 1.2e9}),
        ("1.2G macs", {"macs": 1.2e9}),
        ("4000 MACs", {"macs": 4000}),
        ("4000MAC", {"macs": 4000}),
        ("4M MACs", {"macs": 4e6}),
        (".5G MAC", {"macs": 5e8}),
        ("5.M", {"macs": 5e6}),
        ("4e8", {"macs": 4e8}),
        ("400000000", {"macs": 400e6}),
        ("3T", {"macs": 3e12}),
        ("5M params", {"params": 5e6}),
        ("5M parameters", {"params": 5e6}),
        ("1 param", {"params": 1}),
        ("500k Params", {"params": 5e5}),
        ("500K params", {"params": 5e5}),
        ("20MB", {"size": 20e6}),
        ("20 MB", {"size": 20e6}),
        ("20MiB", {"size": 20 * 2**20}),
        ("64KiB", {"size": 65536}),
        ("1GiB", {"size": 2**30}),
        ("4096 bytes", {"size": 4096}),
        ("4k bytes", {"size": 4000}),
        ("400M, 5M params", {"macs": 400e6, "params": 5e6}),
        ("20ms", {"latency": 20}),
        (".5s", {"latency": 500}),
        ("1.5 ms", {"latency": 1.5}),
        ("800us", {"latency": 0.8}),
        ("20ms, 5M params", {"latency": 20, "params": 5e6}),
        ("8M activations", {"activations": 8e6}),
        ("2000 images/s", {"latency": 0.5}),
        ("100 img per second, 5M params", {"latency": 10, "params": 5e6}),
        ("1 activation", {"activations": 1}),
        ("30MB memory", {"memory": 30e6}),
        ("30 MiB inference memory", {"memory": 30 * 2**20}),
        ("4GB training memory", {"training_memory": 4e9}),
        ("4GB Training Memory at batch 64", {"training_memory": 4e9, "training_batch": 64}),
        ("400M, 8M activations, 30MB memory", {"macs": 400e6, "activations": 8e6, "memory": 30e6}),
        ("256KB ram, 1MB flash", {"ram": 256e3, "flash": 1e6}),
        ("256 KiB RAM", {"ram": 2**18}),
        ("64kB SRAM", {"ram": 64e3}),
        ("20KB of ram, 400M", {"ram": 20e3, "macs": 400e6}),
        ("390,000,000", {"macs": 390e6}),
        ("1,500,000 params, 400M", {"macs": 400e6, "params": 1.5e6}),
        ("390M mult-adds", {"macs": 390e6}),
        ("0.39G Multiply-Adds", {"macs": 390e6}),
        ("390M madds", {"macs": 390e6}),
        ("50 fps", {"latency": 20}),
        ("0.5 images/s", {"latency": 2000}),
        ("20MB,5M params , 1G", {"size": 20e6, "params": 5e6, "macs": 1e9}),
    ],
)
def test_budgets_are_parsed_from_text(form, limits):
    assert Budget.of(form) == Budget(**limits)


def test_several_limits_are_combined():
    assert Budget.of("400M", "5M params") == Budget.of("400M, 5M params")


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("fast", 'cannot read the budget "fast"; write "400M" or'),
        ("", 'cannot read the budget ""'),
        ("-5M", 'cannot read the budget "-5M"'),
        ("5 M M", "cannot read"),
        ("nan", "cannot read"),
        ("400M FLOPs", "is ambiguous: some call a multiplication with an addition one FLOP"),
        ("0.39 GFLOPs", 'so write "0.39G" for the former, half of it for the latter'),
        ("4flops", 'so write "4" for the former'),
        ("20,5M params", 'the budget "20" is very few MACs; give a unit, such as "20M"'),
        ("300Madds", "cannot read"),
        ("2000000 images/s", 'the budget "2000000 images/s" is less than a microsecond'),
        ("1,0000", "is very few MACs"),
        ("5mb", 'cannot read the budget "5mb"'),
        ("400m", 'cannot read the budget "400m"; did you mean "400M"?'),
        ("1.2g", 'did you mean "1.2G"?'),
        ("0ms", "is less than a microsecond"),
        ("1e400s", "is less than a microsecond"),
        ("20ms, 1s", 'limits latency twice, the second time as "1s"; keep one'),
        ("3B", 'could mean billions or bytes; write "3G" or "... bytes"'),
        ("5Mi", "counts MACs in binary units"),
        ("5Mi params", "counts parameters in binary units"),
        ("0M", "is not a positive amount"),
        ("1e400", "is not a positive amount"),
        ("400M, 1G", 'limits MACs twice, the second time as "1G"; keep one'),
        ("5MB, 20MB", "limits weights twice"),
        ("0 images/s", "cannot read"),
        ("1e9 images/s", "cannot read"),
        ("5M memory", 'cannot read the budget "5M memory"'),
        ("20ms memory", 'cannot read the budget "20ms memory"'),
        ("5MB memory at batch 8", "cannot read the budget"),
        ("5GB training memory at batch 0", "cannot read the budget"),
        ("5MB memory, 6MB memory", "limits inference memory twice"),
    ],
)
def test_invalid_text_is_rejected_with_examples(form, message):
    with pytest.raises(BudgetError) as caught:
        Budget.of(form)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_budget_is_rejected():
    with pytest.raises(BudgetError, match='no budget given; write "400M"'):
        Budget.of()
    with pytest.raises(RecordError, match="a budget needs at least one limit"):
        Budget()


@pytest.mark.parametrize("wrong", [{"macs": 0}, {"params": -1}, {"size": math.inf}, {"latency": 0}, {"seconds": 1}])
def test_invalid_limits_are_rejected(wrong):
    with pytest.raises(RecordError, match=next(iter(wrong))):
        Budget(**wrong)


amounts = st.one_of(st.none(), st.integers(1, 10**15))


@given(amounts, amounts, amounts)
def test_text_form_round_trips_to_three_digits(macs, params, size):
    if macs is params is size is None:
        macs = 1
    budget = Budget(macs=macs, params=params, size=size)
    again = Budget.of(str(budget))
    assert again.limits.keys() == budget.limits.keys()
    for name, limit in budget.limits.items():
        assert again.limits[name] == pytest.approx(limit, rel=0.00501)
    assert str(again) == str(budget)


@given(st.floats(0.001, 999), st.sampled_from("kMGT"), st.sampled_from(["", " MACs", " params", "B"]))
def test_prefix_and_unit_multiply_number(number, prefix, unit):
    (value,) = Budget.of(f"{number:.9f}{prefix}{unit}").model_dump(exclude_none=True).values()
    assert value == pytest.approx(number * {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[prefix], rel=1e-4)


def test_fractions_of_a_unit_are_rounded_down():
    assert Budget(macs=10.9).limits == {"macs": 10}


def test_every_limit_must_be_met():
    budget = Budget(macs=100, params=10, size=80)
    assert budget.admits(Counts(params=10, buffers=10, macs=100))
    assert not budget.admits(Counts(params=10, buffers=10, macs=101))
    assert not budget.admits(Counts(params=11, buffers=0, macs=100))
    assert not budget.admits(Counts(params=10, buffers=11, macs=100))
    assert Budget(macs=100).admits(Counts(params=10**9, macs=100))


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(macs=4e8), "400M MACs"),
        (Budget(params=5e6, macs=1.2e9), "1.20G MACs, 5.00M params"),
        (Budget(size=2e7), "20.0MB"),
        (Budget(size=500), "500 bytes"),
        (Budget(activations=8e6, memory=3e7), "8.00M activations, 30.0MB memory"),
        (Budget("256KB ram, 1MB flash"), "256kB RAM, 1.00MB flash"),
        (Budget(training_memory=4e9, training_batch=64), "4.00GB training memory at batch 64"),
    ],
)
def test_budgets_are_formatted(budget, words):
    assert str(budget) == words


def test_new_limits_are_left_out_of_json_if_absent():
    assert Budget("400M").model_dump(mode="json") == {"macs": 4e8, "params": None, "size": None, "latency": None}
    assert Budget.from_json(Budget("4GB training memory at batch 8").to_json()).training_batch == 8


def test_memory_that_was_not_estimated_is_an_error():
    for form, name in (("30MB memory", "inference memory"), ("20KB ram", "RAM"), ("1MB flash", "flash")):
        with pytest.raises(BudgetError, match=f"{name} was not estimated"):
            Budget(form).admits(Counts(macs=1))


@pytest.mark.parametrize("form", ["20 ram", "20M params ram", "256K flash", "ram", "20ms flash", "1MB flash ram"])
def test_ram_and_flash_need_an_amount_of_bytes(form):
    with pytest.raises(BudgetError, match=r"write|give a unit"):
        Budget.of(form)


def test_budgets_of_microcontrollers_round_trip():
    budget = Budget("256KB ram, 1MB flash")
    assert Budget.of(str(budget)) == budget == Budget.from_json(budget.to_json())
    assert budget.limits == {"ram": 256_000, "flash": 1_000_000}
