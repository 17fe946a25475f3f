"""The report of a coefficient search."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from triscale.jobs.core.networks import count_of
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
from triscale.network.custom import AnyNetwork
from triscale.report.content import NamedValue
from triscale.report.draw.format import points
from triscale.report.search.search_content import ReferenceLaw, SearchContent
from triscale.scaling.apply import scale
from triscale.scaling.budget import LABELS
from triscale.scaling.law import EFFICIENTNET
from triscale.search.coefficients.grid import DIMENSIONS, Candidates, Grid
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.shape import realized

FILES = (
    ("law.json", "the best law; give it to --law"),
    ("candidates.json", "the candidates, with their costs"),
    ("coefficients.json", "the whole result, with every trial"),
    ("search.json", "the request"),
    (BASELINE, "the baseline as data; give it to --baseline"),
    ("split.json", "the split: which image is used for training, validation and test"),
    ("study.sqlite", "the finished trials, from which a search resumes"),
    ("trials", "a run for each trial"),
)


def write_search_report(
    result: CoefficientSearchResult, candidates: Candidates, folder: Path, request: StudyRequest | None = None
) -> Path:
    """Write the report of a search with its figures into its folder, and return its path.

    Args:
        result: The result of the search.
        candidates: The candidates that it compared, of the same baseline and grid.
        folder: Folder of the search, with its trials.
        request: The request; without it the report has fewer sections.
    """
    return write_with_figures(collect_search_content(result, candidates, folder, request), folder)


def collect_search_content(
    result: CoefficientSearchResult, candidates: Candidates, folder: Path, request: StudyRequest | None = None
) -> SearchContent:
    """Return everything that the report of a search shows."""
    return SearchContent(
        title=f"{name_of_images(request)}coefficients of {result.baseline}",
        verdict=_verdict(result),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=_warnings(result),
        result=result,
        candidates=candidates,
        reference=_reference(result, candidates),
        limitations=result.limitations,
        settings=(*_settings(result, candidates), *request_rows(request)),
        environment=trained_on(folder),
        next_commands=() if request is None else _next_commands(candidates, request, folder),
        files=existing(folder, FILES),
    )


def _verdict(result: CoefficientSearchResult) -> str:
    ties, others = len(result.ties), len(result.standings) - 1
    law = str(result.law).capitalize()
    if others == 0:
        return f"{law} is the only candidate of this cost."
    if result.response is not None and not result.response.fits:
        return (
            f"No scaling law was found: a response surface does not fit the accuracies of {result.response.networks} "
            "networks."
        )
    first = f"{law} is the best of {others + 1} candidates of equal cost"
    if ties == 0:
        return f"{first}; its lead over all others is significant."
    tied = "all others are" if ties == others > 1 else f"{ties} other{'s are' if ties > 1 else ' is'}"
    return f"{first}; {tied} tied with it."


def _warnings(result: CoefficientSearchResult) -> tuple[str, ...]:
    if result.response is None or result.response.fits:
        return ()
    missed = points(result.response.leave_one_out_rms)
    sentence = (
        f"The fitted response surface predicts held-out networks with an error of {missed} points, so it does not fit. "
        "Do not use the scaling law of this search. Search with --method grid or --method halving, or train longer."
    )
    return (sentence,)


def _reference(result: CoefficientSearchResult, candidates: Candidates) -> ReferenceLaw | None:
    """Return the paper's coefficients applied to this baseline; None if the result is the baseline itself."""
    network = scale(candidates.baseline, EFFICIENTNET.at(result.grid.phi))
    if network.structure == candidates.baseline.structure:
        return None
    same = {
        candidate.law: candidate.ratio
        for candidate in candidates.candidates
        if candidate.network.structure == network.structure
    }
    ranks = [number for number, standing in enumerate(result.standings, start=1) if standing.law in same]
    return ReferenceLaw(
        name="the paper",
        law=EFFICIENTNET,
        realized=realized(candidates.baseline, network),
        ratio=next(iter(same.values()), None) or _counted_ratio(network, candidates),
        rank=ranks[0] if ranks else None,
    )


def _counted_ratio(network: AnyNetwork, candidates: Candidates) -> float | None:
    """Return the cost of a network relative to the baseline; None if the cost would have to be measured."""
    counted = count_of(network)
    match candidates.grid.cost:
        case "macs":
            return counted.macs / candidates.baseline_macs
        case "params":
            return counted.params / candidates.baseline_params
        case _:
            return None


def _settings(result: CoefficientSearchResult, candidates: Candidates) -> tuple[NamedValue, ...]:
    grid, proxy = result.grid, result.proxy
    rows = [
        ("method", result.method),
        ("baseline", f"{result.baseline}, {si(candidates.baseline_macs)} MACs, {candidates.baseline.resolution} px"),
        ("requested cost", f"{grid.ratio:.4g} times its {_cost_name(grid)}, within {100 * grid.tolerance:g}%"),
        ("phi", f"{grid.phi:g}"),
        ("grid", ", ".join(f"{name} 1 to {grid.axis(name)[-1]:g}" for name in DIMENSIONS) + f", step {grid.step:g}"),
        ("candidates", f"{len(candidates.candidates)}, {candidates.num_dropped} more of this cost not used"),
        ("training", f"{proxy.epochs} epochs of {proxy.images} images"),
        ("seeds", ", ".join(map(str, proxy.seeds))),
    ]
    return tuple(NamedValue(name=name, value=value) for name, value in rows)


def _next_commands(candidates: Candidates, request: StudyRequest, folder: Path) -> tuple[str, ...]:
    baseline, law = name_for_commands(request.baseline, folder), str(folder / "law.json")
    budget = si(4 * candidates.baseline_macs)
    commands = (
        ("triscale", "scale", baseline, "--law", law, "--phi", "2"),
        ("triscale", "fit", request.images, "--baseline", baseline, "--law", law, "--budget", budget),
    )
    return tuple(shown_command(command) for command in commands)


def _cost_name(grid: Grid) -> str:
    return LABELS.get(grid.cost, grid.cost)
