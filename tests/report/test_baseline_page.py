"""The page of a baseline search: what it says, and how it looks in a browser."""

import pytest

from report.test_report_browser import CHROMIUM, fits
from triscale.report.baseline.baseline_content import BaselineContent, CandidateRow, FinalRow, StageChoiceRow
from triscale.report.page import render_baseline
from triscale.report.run.run_content import NamedValue


def content(number=40, **changes):
    rows = []
    for place in range(number):
        macs = int(2e6 * 1.13 ** ((7 * place) % number))
        accuracy = 0.3 + 0.6 * (1 - (2e6 / macs) ** 0.4) + 0.01 * ((place * 13) % 5)
        rows.append((place, macs, min(accuracy, 0.99)))
    cheapest = sorted(rows, key=lambda row: row[1])
    front = {row[0] for at, row in enumerate(cheapest) if all(row[2] > other[2] for other in cheapest[:at])}
    points = tuple(
        CandidateRow(
            name=f"mnasnet-{place:08x}", place=place, cost=macs, macs=macs, params=macs // 10, accuracy=accuracy,
            error=0.012, reward=accuracy * (macs / 2e7) ** -0.07, epochs=5 if place % 3 else 2,
            compared=bool(place % 3),
            on_front=place in front and bool(place % 3), best=place == number - 2,
        )
        for place, macs, accuracy in rows
    )  # fmt: skip
    final = FinalRow(name=points[-2].name, cost=2e7, brief=0.7, accuracy=0.812, error=0.01, reward=0.8, chosen=True)
    stage = StageChoiceRow(
        found="MBConv6 k5 SE 0.25 relu6 + pooled input", width=24, repeats=2, stride=2,
        skeleton="MBConv6 k3 relu6", skeleton_width=24, skeleton_repeats=2,
    )  # fmt: skip
    fields = {
        "title": "flowers: a baseline from mobilenet_v2",
        "verdict": "mnasnet-00000026 reaches 81.2 % with 20.1M MACs after 30 epochs.",
        "skeleton": "mobilenet_v2",
        "space": "mnasnet",
        "strategy": "regularized evolution",
        "evaluator": "training",
        "form": "soft",
        "exponent": -0.07,
        "unit": "MACs",
        "target": 2e7,
        "epochs": 5,
        "final_epochs": 30,
        "spent": 10**15,
        "points": points,
        "finalists": (final,),
        "stages": (stage,) * 7,
        "chosen": points[-2].name,
        "chosen_macs": 20_100_000,
        "chosen_params": 2_000_000,
        "chosen_pixels": 224,
        "limitations": ("a full training may order networks otherwise",),
        "settings": (NamedValue(name="space", value="mnasnet"),),
        "go_on": ("triscale search coefficients flowers --baseline found/network.json --out coefficients",),
    }  # fmt: skip
    return BaselineContent(**(fields | changes))


def test_the_page_says_the_front_the_choice_and_the_finalists():
    page = render_baseline(content())
    for words in (
        "the reward&#39;s choice",
        "Pareto front",
        "The finalists",
        "MBConv6 k5 SE 0.25",
        "target 20.0M MACs",
    ):
        assert words in page or words.replace("&#39;", "'") in page
    assert page.count('aria-label="The Pareto front"') == 1


@pytest.mark.parametrize("changes", [
    {"form": "constraint"}, {"form": "hard"}, {"unit": "ms", "target": 12.5}, {"evaluator": "supernet"},
    {"finalists": (), "final_epochs": None},
])  # fmt: skip
def test_every_kind_of_search_has_a_page(changes):
    assert "<svg" in render_baseline(content(**changes))


def test_hostile_names_are_shown_as_text():
    page = render_baseline(content(title="<script>alert(1)</script>", skeleton="<b>x</b>"))
    assert "<script>alert" not in page
    assert "<b>x</b>" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize("width", [390, 1360])
def test_nothing_overflows_and_the_console_is_silent(tmp_path, width):
    fits(tmp_path, render_baseline(content()), width)
