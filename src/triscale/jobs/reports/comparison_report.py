"""The report of a comparison of scaling methods."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from triscale.jobs.reports.figure_files import write_with_figures
from triscale.jobs.reports.shown_paths import shown_command
from triscale.jobs.reports.study_parts import (
    BASELINE,
    existing,
    name_for_commands,
    name_of_images,
    request_rows,
    trained_on,
)
from triscale.jobs.studies.requests import StudyRequest
from triscale.network.cost import si
from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.content import NamedValue
from triscale.results.explanation import ComparisonMaps
from triscale.scaling.law import Law
from triscale.scaling.named_laws import NAMED_LAWS, law_argument
from triscale.search.coefficients.published_coefficients import PAPER, TABLE_3, TABLE_7, PublishedRow
from triscale.search.compare.results import ComparisonResult, verdict

FILES = (
    ("compared.json", "all accuracies, with their intervals"),
    ("comparison.json", "the networks as data, with their costs"),
    ("compare.json", "the request"),
    (BASELINE, "the baseline as data; give it to --baseline"),
    ("maps", "the class activation maps"),
    ("split.json", "the split: which image is used for training, validation and test"),
    ("study.sqlite", "the finished trials, from which a comparison resumes"),
    ("trials", "a run for each trial"),
)


def write_comparison_report(
    compared: ComparisonResult, folder: Path, request: StudyRequest | None = None, maps: ComparisonMaps | None = None
) -> Path:
    """Write the report of a comparison with its figures into its folder, and return its path.

    Args:
        compared: The result of the comparison.
        folder: Folder of the comparison, with its trials and maps.
        request: The request; without it the report has fewer sections.
        maps: Class activation maps, whose files are in ``folder/maps``.
    """
    return write_with_figures(collect_comparison_content(compared, folder, request, maps), folder)


def collect_comparison_content(
    compared: ComparisonResult, folder: Path, request: StudyRequest | None = None, maps: ComparisonMaps | None = None
) -> ComparisonContent:
    """Return everything that the report of a comparison shows."""
    comparison = compared.comparison
    sentence = verdict(compared)
    return ComparisonContent(
        title=f"{name_of_images(request)}scaling methods for {comparison.baseline.name}",
        verdict=f"{sentence[:1].upper()}{sentence[1:]}.",
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        compared=compared,
        published=_published(comparison.baseline.name),
        source=f"Tables 3 and 7 of {PAPER}",
        maps=maps,
        pictures={} if maps is None else _pictures(maps, folder / "maps"),
        limitations=compared.limitations,
        settings=(*_settings(compared), *request_rows(request)),
        environment=trained_on(folder),
        next_commands=() if request is None else _next_commands(compared, request, folder),
        files=existing(folder, FILES),
    )


def _published(name: str) -> tuple[PublishedRow, ...]:
    """Return the paper's rows for the base name of a network: ``efficientnet_b0`` for ``efficientnet_b0@32_phi-8``."""
    return tuple(row for row in (*TABLE_3, *TABLE_7) if row.baseline == name.partition("@")[0].partition("_phi")[0])


def _pictures(maps: ComparisonMaps, folder: Path) -> dict[str, bytes]:
    """Return the content of all image and map files by name."""
    names = [name for row in maps.images for name in (row.image, *(cell.overlay for cell in row.network_maps))]
    return {name: (folder / name).read_bytes() for name in names}


def _settings(compared: ComparisonResult) -> tuple[NamedValue, ...]:
    comparison, proxy = compared.comparison, compared.proxy
    start = comparison.contenders[0]
    rows = (
        ("baseline", f"{comparison.baseline.name}, {si(start.macs.achieved)} MACs, {start.network.size} px"),
        ("budget", f"{comparison.times:g} times its MACs"),
        _laws_row(compared),
        ("training", f"{proxy.epochs} epochs of {proxy.images} images"),
        ("seeds", ", ".join(map(str, proxy.seeds))),
        ("compute of all trials", f"{si(compared.training_macs)} MACs"),
        ("test images", str(compared.count)),
    )
    return tuple(NamedValue(name=name, value=value) for name, value in rows)


def _laws_row(compared: ComparisonResult) -> tuple[str, str]:
    if compared.has_compound:
        return "compound law", str(compared.comparison.law)
    return "laws", ", ".join(contender.way for contender in compared.comparison.contenders[1:])


def _next_commands(compared: ComparisonResult, request: StudyRequest, folder: Path) -> tuple[str, ...]:
    comparison = compared.comparison
    baseline = name_for_commands(request.baseline if comparison.phi == 0 else comparison.baseline, folder)
    best = next(contender for contender in comparison.contenders if contender.way == compared.best.way)
    law = comparison.law if compared.has_compound or best.law is None else best.law
    budget = si(int(comparison.times * comparison.contenders[0].macs.achieved))
    fit: tuple[str, ...] = ("triscale", "fit", request.images, "--baseline", baseline, "--law", law_argument(law))
    search = ("triscale", "search", "coefficients", request.images, "--baseline", baseline, "--out", "coefficients")
    has_text = isinstance(law, Law) or law in NAMED_LAWS.values()  # others, such as those of files, have none
    commands = ((*fit, "--budget", budget), search) if has_text else (search,)
    return tuple(shown_command(command) for command in commands)
