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
from triscale.jobs.studies.trials import StudyRequest
from triscale.network.cost import si
from triscale.network.spec import Network
from triscale.record import write_atomic
from triscale.report.comparison import comparison_content as page
from triscale.report.comparison.comparison_figures import both
from triscale.report.draw.svg import standalone
from triscale.report.page import render_comparison
from triscale.report.run.run_content import NamedValue
from triscale.report.search.search_content import Multipliers
from triscale.search.coefficients.published_coefficients import PAPER, TABLE_3, TABLE_7, PublishedRow
from triscale.search.compare.contenders import Contender
from triscale.search.compare.results import ComparisonResult, ContenderResult, verdict

if TYPE_CHECKING:
    from triscale.jobs.studies.compare import ComparisonMaps

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
    write_atomic(folder / FIGURE, svg_figure(content).encode("utf-8", errors="replace"))
    write_atomic(path, render_comparison(content).encode("utf-8", errors="replace"))
    return path


def svg_figure(content: page.ComparisonContent) -> str:
    """Return the picture of a comparison as an SVG file of its own."""
    return standalone(both(content))


def collect_comparison_content(
    compared: ComparisonResult, folder: Path, asked: StudyRequest | None = None, maps: ComparisonMaps | None = None
) -> page.ComparisonContent:
    """Return everything that the page of a comparison shows."""
    comparison, proxy = compared.comparison, compared.proxy
    said = spaced(verdict(compared))
    return page.ComparisonContent(
        title=f"{name_of_images(asked)}ways to scale {comparison.baseline.name}",
        verdict=f"{said[:1].upper()}{said[1:]}.",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        baseline=comparison.baseline.name,
        times=comparison.times,
        law=str(comparison.law),
        count=compared.count,
        epochs=proxy.epochs,
        seeds=proxy.seeds,
        spent=compared.training_macs,
        ways=tuple(
            _way(contender, outcome, compared.best)
            for contender, outcome in zip(comparison.contenders, compared.outcomes, strict=True)
        ),
        published=_published(comparison.baseline.name),
        source=f"Tables 3 and 7 of {PAPER}",
        beside=() if maps is None else _beside(maps, folder / "maps"),
        limitations=tuple(spaced(sentence) for sentence in compared.limitations),
        settings=(*_settings(compared), *request_rows(asked)),
        environment=trained_on(folder),
        go_on=() if asked is None else _go_on(compared, asked, folder),
        files=existing(folder, FILES),
    )


def _way(contender: Contender, outcome: ContenderResult, best: ContenderResult) -> page.ScalingMethodRow:
    network = contender.network
    return page.ScalingMethodRow(
        way=contender.way,
        asked=None if contender.way == "baseline" else contender.macs.requested,
        macs=contender.macs.achieved,
        params=contender.params,
        place=Multipliers(**contender.realized.model_dump()),
        pixels=network.resolution,
        blocks=network.num_blocks if isinstance(network, Network) else None,
        seeds=outcome.accuracies,
        best=outcome is best,
        **outcome.model_dump(include={"accuracy", "low", "high", "gain", "tied"}),
    )


def _published(name: str) -> tuple[page.PublishedGainRow, ...]:
    """Return the paper's rows for the network that a name begins with, such as ``efficientnet_b0@32_phi-8``."""
    rows = [row for row in (*TABLE_3, *TABLE_7) if row.baseline == name.partition("@")[0].partition("_phi")[0]]
    return tuple(
        page.PublishedGainRow(
            way=_way_of(row), macs=row.macs, top1=row.top1 / 100, gain=(row.top1 - rows[0].top1) / 100
        )
        for row in rows
    )


def _way_of(row: PublishedRow) -> str:
    scaled = [name for name in ("depth", "width", "resolution") if getattr(row, name) not in (None, 1)]
    if row.assumed is not None or len(scaled) > 1:
        return "compound"
    return scaled[0] if scaled else "baseline"


def _beside(maps: ComparisonMaps, folder: Path) -> tuple[page.ImageMapRow, ...]:
    return tuple(
        page.ImageMapRow(
            file=row.file,
            truth=row.truth,
            image=(folder / row.image).read_bytes(),
            network_maps=tuple(
                page.NetworkMapCell(
                    way=network_maps.way,
                    predicted=network_maps.predicted,
                    confidence=network_maps.confidence,
                    overlay=(folder / network_maps.overlay).read_bytes(),
                )
                for network_maps in row.network_maps
            ),
        )
        for row in maps.images
    )


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


def _go_on(compared: ComparisonResult, asked: StudyRequest, folder: Path) -> tuple[str, ...]:
    comparison = compared.comparison
    baseline = name_for_commands(asked.baseline if comparison.phi == 0 else comparison.baseline, folder)
    law = f"{comparison.law.alpha:g},{comparison.law.beta:g},{comparison.law.gamma:g}"
    budget = si(int(comparison.times * comparison.contenders[0].macs.achieved))
    commands = (
        ("triscale", "fit", asked.images, "--baseline", baseline, "--law", law, "--budget", budget),
        ("triscale", "search", "coefficients", asked.images, "--baseline", baseline, "--out", "coefficients"),
    )
    return tuple(shlex.join(command) for command in commands)
