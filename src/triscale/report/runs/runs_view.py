"""Values that the report of several runs derives from its records: tables by test set, captions, commands."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from triscale.report.draw.format import grouped
from triscale.report.run.cost_figures import Panel, PlotPoint, own_color
from triscale.report.run.run_view import Tile, conditions, published
from triscale.report.runs.runs_content import RunsContent
from triscale.results.run_comparison import ComparedRun, ComparedRuns, TestSet

__all__ = ["conditions", "own_color", "published"]

NumberedRun = tuple[int, ComparedRun]
"""A run with its index among all runs, which also decides its color."""


def sections(content: RunsContent) -> tuple[tuple[str, str], ...]:
    """Return the sections with content, as pairs of template name and heading."""
    has_cost = any(run.macs for run in content.compared.runs) or bool(published(content.families))
    candidates = (
        ("runs", "Runs", True),
        ("cost", "Accuracy against cost", has_cost),
        ("differences", "Differences in settings", True),
        ("folders", "Folders", bool(content.files)),
    )
    return tuple((name, title) for name, title, present in candidates if present)


def headline(content: RunsContent) -> tuple[Tile, ...]:
    """Return no headline figures, since the first table contains them."""
    del content
    return ()


def tables(compared: ComparedRuns) -> tuple[tuple[TestSet, list[NumberedRun]], ...]:
    """Return each test set with its runs, the most accurate first."""
    by_test_set = []
    for index, test_set in enumerate(compared.test_sets):
        rows = [(number, run) for number, run in enumerate(compared.runs) if run.test_set == index]
        by_test_set.append((test_set, sorted(rows, key=lambda row: -row[1].top1)))
    return tuple(by_test_set)


def measure_commands(compared: ComparedRuns) -> tuple[str, ...]:
    """Return the commands that measure the missing latencies."""
    runs = [run for _, rows in tables(compared) for _, run in rows]
    return tuple(shlex.join(("triscale", "measure", run.folder)) for run in runs if run.latency is None)


def panels(content: RunsContent) -> tuple[Panel, ...]:
    """Return a panel of accuracy against cost for each test set."""
    return tuple(_panel(test_set, rows) for test_set, rows in tables(content.compared))


def cost_caption(content: RunsContent) -> str:
    """Return the caption of the figure of accuracy against cost."""
    several = "each on the scale of its own test images, " if len(content.compared.test_sets) > 1 else ""
    sentences = [f"Above: the runs (stars), {several}with 95% intervals."]
    if published(content.families):
        sentences.append(
            "Below, on a separate scale: published networks on ImageNet; dashed lines mark the cost of the runs."
        )
    return " ".join(sentences)


def _panel(test_set: TestSet, rows: Sequence[NumberedRun]) -> Panel:
    title = f"{test_set.name}, {grouped(test_set.count)} test images"
    return Panel(title, tuple(PlotPoint.of(run.name, run.macs, run.params, run, title, number) for number, run in rows))
