"""From what a comparison of ways to scale came to, to its page and its picture."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from triscale.jobs.reports.study_parts import (
    BASELINE,
    existing,
    name_for_commands,
    name_of_images,
    request_rows,
    spaced,
    trained_on,
)
from triscale.jobs.studies.requests import StudyRequest
from triscale.network.cost import si
from triscale.record import write_atomic
from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.content import NamedValue
from triscale.report.render import render_comparison, render_comparison_figure
from triscale.results.explanation import ComparisonMaps
from triscale.search.coefficients.published_coefficients import PAPER, TABLE_3, TABLE_7, PublishedRow
from triscale.search.compare.results import ComparisonResult, verdict

if TYPE_CHECKING:
    from triscale.results.explanation import ComparisonMaps

PAGE, FIGURE = "report.html", "comparison.svg"

FILES = (
    ("compared.json", "all accuracies, with their intervals"),
    ("comparison.json", "the networks as data, with their costs"),
    ("compare.json", "what was asked"),
    (BASELINE, "the baseline as data; give it to --baseline"),
    (FIGURE, "the picture of the result"),
    ("maps", "the class activation maps"),
    ("split.json", "which image is for what"),
    ("study.sqlite", "what has been trained, so that a comparison goes on"),
    ("trials", "a Run for each training"),
)


def write_comparison_report(
    compared: ComparisonResult, folder: Path, asked: StudyRequest | None = None, maps: ComparisonMaps | None = None
) -> Path:
    """Write the page of a comparison and its picture, ``comparison.svg``, into its folder; return the page's path.

    Args:
        compared: what came out.
        folder: of the comparison, with its trainings and maps.
        asked: the request; without it the page says less.
        maps: class activation maps, whose files lie in ``folder/maps``.
    """
    path = folder / PAGE
    content = collect_comparison_content(compared, folder, asked, maps)
    write_atomic(folder / FIGURE, render_comparison_figure(content).encode("utf-8", errors="replace"))
    write_atomic(path, render_comparison(content).encode("utf-8", errors="replace"))
    return path


def collect_comparison_content(
    compared: ComparisonResult, folder: Path, asked: StudyRequest | None = None, maps: ComparisonMaps | None = None
) -> ComparisonContent:
    """Return everything that the page of a comparison shows."""
    comparison = compared.comparison
    said = spaced(verdict(compared))
    return ComparisonContent(
        title=f"{name_of_images(asked)}ways to scale {comparison.baseline.name}",
        verdict=f"{said[:1].upper()}{said[1:]}.",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        compared=compared,
        published=_published(comparison.baseline.name),
        source=f"Tables 3 and 7 of {PAPER}",
        maps=maps,
        pictures={} if maps is None else _pictures(maps, folder / "maps"),
        limitations=tuple(spaced(sentence) for sentence in compared.limitations),
        settings=(*_settings(compared), *request_rows(asked)),
        environment=trained_on(folder),
        next_commands=() if asked is None else _next_commands(compared, asked, folder),
        files=existing(folder, FILES),
    )


def _published(name: str) -> tuple[PublishedRow, ...]:
    """Return the paper's rows for the network that a name begins with, such as ``efficientnet_b0@32_phi-8``."""
    return tuple(row for row in (*TABLE_3, *TABLE_7) if row.baseline == name.partition("@")[0].partition("_phi")[0])


def _pictures(maps: ComparisonMaps, folder: Path) -> dict[str, bytes]:
    """Read the images that maps are of, and the maps themselves."""
    names = [name for row in maps.images for name in (row.image, *(cell.overlay for cell in row.network_maps))]
    return {name: (folder / name).read_bytes() for name in names}


def _settings(compared: ComparisonResult) -> tuple[NamedValue, ...]:
    comparison, proxy = compared.comparison, compared.proxy
    start = comparison.contenders[0]
    rows = (
        ("baseline", f"{comparison.baseline.name}, {si(start.macs.achieved)} MACs, {start.network.resolution} px"),
        ("cost allowed", f"{comparison.times:g} times its MACs"),
        ("compound law", str(comparison.law)),
        ("training", f"{proxy.epochs} epochs of {proxy.images} images"),
        ("seeds", ", ".join(map(str, proxy.seeds))),
        ("compute of all trainings", f"{si(compared.training_macs)} MACs"),
        ("test images", str(compared.count)),
    )
    return tuple(NamedValue(name=name, value=value) for name, value in rows)


def _next_commands(compared: ComparisonResult, asked: StudyRequest, folder: Path) -> tuple[str, ...]:
    comparison = compared.comparison
    baseline = name_for_commands(asked.baseline if comparison.phi == 0 else comparison.baseline, folder)
    law = f"{comparison.law.alpha:g},{comparison.law.beta:g},{comparison.law.gamma:g}"
    budget = si(int(comparison.times * comparison.contenders[0].macs.achieved))
    commands = (
        ("triscale", "fit", asked.images, "--baseline", baseline, "--law", law, "--budget", budget),
        ("triscale", "search", "coefficients", asked.images, "--baseline", baseline, "--out", "coefficients"),
    )
    return tuple(shlex.join(command) for command in commands)
