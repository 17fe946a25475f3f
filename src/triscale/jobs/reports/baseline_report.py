"""The report of a baseline search."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from triscale.jobs.reports.figure_files import write_with_figures
from triscale.jobs.reports.shown_paths import shown_command
from triscale.jobs.reports.study_parts import existing, name_of_images, request_rows, trained_on
from triscale.network.cost import count_network, si
from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.content import NamedValue
from triscale.report.draw.format import number, share, unbroken
from triscale.search.baseline.explore import BaselineSearchResult

if TYPE_CHECKING:
    from triscale.jobs.studies.requests import BaselineSearchRequest

FILES = (
    ("network.json", "the best network; give it to --baseline or --network"),
    ("found.json", "the whole result, with every evaluated network"),
    ("baseline_search.json", "the request"),
    ("times.json", "measured latencies"),
    ("split.json", "the split: which image is used for training, validation and test"),
    ("study.sqlite", "the finished trials, from which a search resumes"),
    ("trials", "a run for each short training"),
    ("finalists", "the study of the finalists, with a run for each"),
    ("supernet", "the supernet"),
    ("checked", "the study of stand-alone trainings that the supernet was checked against"),
)


def write_baseline_report(
    result: BaselineSearchResult, folder: Path, request: BaselineSearchRequest | None = None
) -> Path:
    """Write the report of a baseline search with its figures into its folder, and return its path.

    Args:
        result: The result of the search.
        folder: Folder of the search, with its trials.
        request: The request; without it the report has fewer sections.
    """
    return write_with_figures(collect_baseline_content(result, folder, request), folder)


def collect_baseline_content(
    result: BaselineSearchResult, folder: Path, request: BaselineSearchRequest | None = None
) -> BaselineContent:
    """Return everything that the report of a baseline search shows."""
    return BaselineContent(
        title=f"{name_of_images(request)}a baseline from {result.space.skeleton.name}",
        verdict=_verdict(result),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=_warnings(result),
        result=result,
        limitations=result.limitations,
        settings=(*_settings(result), *request_rows(request)),
        environment=trained_on(folder),
        next_commands=() if request is None else _next_commands(request, folder),
        files=existing(folder, FILES),
    )


def _verdict(result: BaselineSearchResult) -> str:
    best = result.evaluated[result.best]
    final = next((one for one in result.finalists if one.structure == result.network.structure), None)
    accuracy, epochs = (best.accuracy or 0.0, best.epochs) if final is None else (final.accuracy, final.epochs)
    macs = si(count_network(result.network).macs)
    after = f"after {epochs} epoch{'s' if epochs != 1 else ''}"
    if result.table is not None:
        after = f"in {result.table.file}"
    chosen = f"{result.network.name} reaches {unbroken(share(accuracy))} with {unbroken(f'{macs} MACs')} {after}"
    return f"{chosen}: the best reward of {len(result.evaluated)} evaluated networks."


def _warnings(result: BaselineSearchResult) -> tuple[str, ...]:
    if result.ranking is None or result.ranking.trusted:
        return ()
    sentence = (
        f"The supernet's ranking of {result.ranking.networks} networks has a rank correlation (Kendall's tau) of "
        f"{result.ranking.kendall:.2f} with stand-alone training; {result.ranking.doubt}. Train the supernet longer, "
        "check it with more networks, or search with --evaluator training."
    )
    return (sentence,)


def _settings(result: BaselineSearchResult) -> tuple[NamedValue, ...]:
    objective, plan, ranking = result.objective, result.plan, result.ranking
    rows = [
        ("space", f"{result.space.name}, {number(float(result.space.size))} samples"),
        ("skeleton", f"{result.space.skeleton.name}, {si(count_network(result.space.skeleton).macs)} MACs"),
        ("objective", f"{objective.form}, exponent {objective.exponent:g}"),
        ("strategy", result.strategy),
        ("evaluator", result.evaluator),
        ("networks", f"{plan.trials} in batches of {plan.batch}"),
    ]
    if result.proxy is not None:
        halving = "none" if plan.halving is None else ", ".join(map(str, plan.rungs(result.proxy.epochs))) + " epochs"
        rows += [
            ("early stopping", halving),
            ("training", f"{result.proxy.epochs} epochs of {result.proxy.images} images"),
            ("seeds", ", ".join(map(str, result.proxy.seeds))),
        ]
    if result.table is not None:
        rows.append(("table", f"{result.table.file}, SHA-256 {result.table.sha256}; nothing was trained"))
    if ranking is not None:
        interval = f"{ranking.low:.2f} to {ranking.high:.2f}"
        rows.append(
            ("rank correlation", f"{ranking.kendall:.2f} (95% interval {interval}) of {ranking.networks} networks")
        )
    return tuple(NamedValue(name=name, value=value) for name, value in rows)


def _next_commands(request: BaselineSearchRequest, folder: Path) -> tuple[str, ...]:
    network, images = str(folder / "network.json"), request.images or "IMAGES"
    commands = (
        ("triscale", "search", "coefficients", images, "--baseline", network, "--out", "coefficients"),
        ("triscale", "family", "--baseline", network, "--law", "coefficients", "--phis", "0..4", "--out", "family"),
        ("triscale", "compare", images, "--baseline", network, "--out", "comparison"),
        ("triscale", "train", images, "--network", network, "--out", "run"),
    )
    return tuple(shown_command(command) for command in commands)
