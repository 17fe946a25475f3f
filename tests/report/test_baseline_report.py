"""The report of a baseline search: what it shows, and how it looks in a browser."""

import pytest

from report.test_report_browser import CHROMIUM, fits
from triscale.families import get
from triscale.network.describe import describe_block
from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.content import NamedValue
from triscale.report.render import render_baseline
from triscale.search.baseline.explore import (
    BaselineSearchResult,
    EvaluatedCandidate,
    Finalist,
    SearchPlan,
    best_of,
    front_of,
)
from triscale.search.baseline.objective import SearchObjective
from triscale.search.baseline.space import around
from triscale.search.study.trial import Proxy

SPACE = around(get("mobilenet_v2"), "mnasnet")
SAMPLE = (0,) * len(SPACE.free_choices)


def result(number=40, **changes):
    objective = changes.pop("objective", SearchObjective(target=2e7))
    evaluated = []
    for place in range(number):
        macs = int(2e6 * 1.13 ** ((7 * place) % number))
        accuracy = min(0.3 + 0.6 * (1 - (2e6 / macs) ** 0.4) + 0.01 * ((place * 13) % 5), 0.99)
        evaluated.append(
            EvaluatedCandidate(
                sample=SAMPLE, network=f"mnasnet-{place:08x}", structure=str(place), batch=0, macs=macs,
                params=macs // 10, cost=macs, reward=objective.reward(accuracy, macs), accuracy=accuracy, error=0.012,
                epochs=5 if place % 3 else 2,
            )
        )  # fmt: skip
    best = best_of(evaluated)[0]
    network = SPACE.network(SAMPLE)
    evaluated[best] = evaluated[best].replace(structure=network.structure, network=network.name)
    final = Finalist(
        network=network.name, structure=network.structure, epochs=30, accuracy=0.812, error=0.01, reward=0.8
    )
    fields = {
        "space": SPACE,
        "objective": objective,
        "strategy": "evolution",
        "evaluator": "training",
        "plan": SearchPlan(trials=number),
        "proxy": Proxy(epochs=5, images=1000),
        "evaluated": tuple(evaluated),
        "front": front_of(evaluated),
        "best": best,
        "finalists": (final,),
        "network": network,
        "training_macs": 10**15,
    }
    return BaselineSearchResult(**(fields | changes))


def content(found=None, **changes):
    fields = {
        "title": "flowers: a baseline from mobilenet_v2",
        "verdict": "mnasnet-00000026 reaches 81.2% with 20.1M MACs after 30 epochs.",
        "result": found or result(),
        "limitations": ("a full training may order networks otherwise",),
        "settings": (NamedValue(name="space", value="mnasnet"),),
        "next_commands": ("triscale search coefficients flowers --baseline found/network.json --out coefficients",),
    }
    return BaselineContent(**(fields | changes))


def test_report_shows_front_best_reward_and_finalists():
    page = render_baseline(content())
    for words in (
        "best reward",
        "Pareto front",
        "Finalists",
        describe_block(result().network.stages[0].block),
        "target 20.0M MACs",
    ):
        assert words in page or words.replace("&#39;", "'") in page
    assert page.count('aria-label="The Pareto front"') == 1


@pytest.mark.parametrize("changes", [
    {"objective": SearchObjective(target=2e7, form="constraint")},
    {"objective": SearchObjective(target=2e7, form="hard")},
    {"objective": SearchObjective(target=1.25e7, cost="latency")}, {"evaluator": "supernet"}, {"finalists": ()},
])  # fmt: skip
def test_every_kind_of_search_has_a_report(changes):
    assert "<svg" in render_baseline(content(result(**changes)))


def test_hostile_names_are_escaped():
    space = SPACE.replace(skeleton=SPACE.skeleton.replace(name="<b>x</b>"))
    page = render_baseline(content(result(space=space), title="<script>alert(1)</script>"))
    assert "<script>alert" not in page
    assert "<b>x</b>" not in page


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize("width", [390, 1360])
def test_no_overflow_and_no_console_messages(tmp_path, width):
    fits(tmp_path, render_baseline(content()), width)
