"""From what a coefficient search found to its page."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path

from triscale.jobs.core.networks import count_of
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
from triscale.record import write_atomic
from triscale.report.content import NamedValue
from triscale.report.draw.format import points
from triscale.report.render import render_search
from triscale.report.search.search_content import ReferenceLaw, SearchContent
from triscale.scaling.apply import scale
from triscale.scaling.budget import LABELS
from triscale.scaling.law import EFFICIENTNET
from triscale.search.coefficients.grid import DIMENSIONS, Candidates, Grid
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.shape import realized

PAGE = "report.html"

FILES = (
    ("law.json", "the law found; give it to --law"),
    ("candidates.json", "the candidates, with their costs"),
    ("coefficients.json", "all that was found, with every training"),
    ("search.json", "what was asked"),
    (BASELINE, "the baseline as data; give it to --baseline"),
    ("split.json", "which image is for what"),
    ("study.sqlite", "what has been trained, so that a search goes on"),
    ("trials", "a Run for each training"),
)


def write_search_report(
    found: CoefficientSearchResult, candidates: Candidates, folder: Path, asked: StudyRequest | None = None
) -> Path:
    """Write the page of a search into its folder, and return its path.

    Args:
        found: what the search found.
        candidates: what it compared, of the same baseline and grid.
        folder: of the search, with its trainings.
        asked: the request; without it the page says less.
    """
    path = folder / PAGE
    write_atomic(
        path, render_search(collect_search_content(found, candidates, folder, asked)).encode("utf-8", errors="replace")
    )
    return path


def collect_search_content(
    found: CoefficientSearchResult, candidates: Candidates, folder: Path, asked: StudyRequest | None = None
) -> SearchContent:
    """Return everything that the page of a search shows."""
    return SearchContent(
        title=f"{name_of_images(asked)}coefficients of {found.baseline}",
        verdict=_verdict(found),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=_warnings(found),
        found=found,
        candidates=candidates,
        reference=_reference(found, candidates),
        limitations=found.limitations,
        settings=(*_settings(found, candidates), *request_rows(asked)),
        environment=trained_on(folder),
        next_commands=() if asked is None else _next_commands(candidates, asked, folder),
        files=existing(folder, FILES),
    )


def _verdict(found: CoefficientSearchResult) -> str:
    ties, others = len(found.ties), len(found.standings) - 1
    law = str(found.law).capitalize()
    if others == 0:
        return f"{law} is the only candidate of this cost."
    if found.response is not None and not found.response.fits:
        return f"No law was found: a response fitted to {found.response.networks} networks does not fit them."
    first = f"{law} comes first of {others + 1} candidates of equal cost"
    if ties == 0:
        return f"{first}, ahead of all others by more than chance."
    told = "none of the others is told from it" if ties == others else f"{ties} of the others are not told from it"
    return f"{first}; {told if ties > 1 or others == 1 else '1 of the others is not told from it'}."


def _warnings(found: CoefficientSearchResult) -> tuple[str, ...]:
    if found.response is None or found.response.fits:
        return ()
    missed = points(found.response.left_out_rms)
    sentence = (
        f"The fitted response misses networks that were left out of it by {missed} points: it does not fit, and the "
        "law is not to be used. Search with the method grid or halving, or train longer."
    )
    return (sentence,)


def _reference(found: CoefficientSearchResult, candidates: Candidates) -> ReferenceLaw | None:
    """Return what the paper's triple comes to for this baseline, unless that is the baseline itself."""
    network = scale(candidates.baseline, EFFICIENTNET.at(found.grid.phi))
    if network.structure == candidates.baseline.structure:
        return None
    same = {
        candidate.law: candidate.ratio
        for candidate in candidates.candidates
        if candidate.network.structure == network.structure
    }
    ranks = [number for number, standing in enumerate(found.standings, start=1) if standing.law in same]
    return ReferenceLaw(
        name="the paper",
        law=EFFICIENTNET,
        realized=realized(candidates.baseline, network),
        ratio=next(iter(same.values()), None) or _counted_ratio(network, candidates),
        rank=ranks[0] if ranks else None,
    )


def _counted_ratio(network: AnyNetwork, candidates: Candidates) -> float | None:
    """Return what a network costs relative to the baseline; None where that would have to be measured."""
    counted = count_of(network)
    match candidates.grid.cost:
        case "macs":
            return counted.macs / candidates.baseline_macs
        case "params":
            return counted.params / candidates.baseline_params
        case _:
            return None


def _settings(found: CoefficientSearchResult, candidates: Candidates) -> tuple[NamedValue, ...]:
    grid, proxy = found.grid, found.proxy
    rows = [
        ("method", found.method),
        ("baseline", f"{found.baseline}, {si(candidates.baseline_macs)} MACs, {candidates.baseline.resolution} px"),
        ("cost asked", f"{grid.ratio:.4g} times its {_cost_name(grid)}, within {100 * grid.tolerance:g} %"),
        ("phi", f"{grid.phi:g}"),
        ("grid", ", ".join(f"{name} 1 to {grid.axis(name)[-1]:g}" for name in DIMENSIONS) + f", step {grid.step:g}"),
        ("candidates", f"{len(candidates.candidates)}, {candidates.left_out} more of this cost left out"),
        ("training", f"{proxy.epochs} epochs of {proxy.images} images"),
        ("seeds", ", ".join(map(str, proxy.seeds))),
    ]
    return tuple(NamedValue(name=name, value=value) for name, value in rows)


def _next_commands(candidates: Candidates, asked: StudyRequest, folder: Path) -> tuple[str, ...]:
    baseline, law = name_for_commands(asked.baseline, folder), str(folder / "law.json")
    budget = si(4 * candidates.baseline_macs)
    commands = (
        ("triscale", "scale", baseline, "--law", law, "--phi", "2"),
        ("triscale", "fit", asked.images, "--baseline", baseline, "--law", law, "--budget", budget),
    )
    return tuple(shlex.join(command) for command in commands)


def _cost_name(grid: Grid) -> str:
    return LABELS.get(grid.cost, grid.cost)
