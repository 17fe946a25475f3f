"""From what a coefficient search found to its page."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

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
from triscale.report.draw.format import points
from triscale.report.page import render_search
from triscale.report.run.run_content import NamedValue
from triscale.report.search import search_content as page
from triscale.report.search.ternary import lattice
from triscale.scaling.apply import scale
from triscale.scaling.budget import LABELS
from triscale.scaling.law import EFFICIENTNET, Law, Scale
from triscale.search.coefficients.design import COST_WEIGHTS
from triscale.search.coefficients.grid import DIMENSIONS, Candidate, Candidates, Grid
from triscale.search.coefficients.result import CoefficientSearchResult, Response, Trial
from triscale.search.coefficients.surface import FORMS, Form, left_out
from triscale.search.shape import Array, logs, realized
from triscale.search.study.trial import PASSES

FIELD_STEPS = 48
SYMBOLS = {"depth": "d", "width": "w", "resolution": "r"}
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
) -> page.SearchContent:
    """Return everything that the page of a search shows."""
    rows = _standings(found, candidates)
    low, high = _span(found)
    return page.SearchContent(
        title=f"{name_of_images(asked)}coefficients of {found.baseline}",
        verdict=_verdict(found),
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warnings=_warnings(found),
        method=found.method,  # type: ignore[arg-type]
        baseline=found.baseline,
        cost=_cost_name(found.grid),
        target=found.grid.ratio,
        octaves=_octaves(candidates),
        phi=found.grid.phi,
        epochs=found.proxy.epochs,
        standings=rows,
        trials=tuple(_trial(trial, found.proxy.images) for trial in found.trials),
        low=low,
        high=high,
        interval=found.interval is not None,
        spent=found.training_macs,
        all_candidates=PASSES * sum(candidate.macs for candidate in candidates.candidates) * _seen_images(found),
        published=_published(found, candidates),
        shading=_shading(found, candidates),
        forecast=tuple(page.ForecastPoint(**point.model_dump()) for point in found.forecast),
        response=None if found.response is None else _response(found.response, found.trials),
        learning_curves=_learning_curves(found, candidates) if found.method == "halving" else (),
        limitations=found.limitations,
        settings=(*_settings(found, candidates), *request_rows(asked)),
        environment=trained_on(folder),
        go_on=() if asked is None else _go_on(candidates, asked, folder),
        files=existing(folder, FILES),
    )


def accuracy_at(response: Response, octaves: Array) -> Array:
    """Return the accuracies ``[n]`` that a response says at multipliers of depth, width and resolution.

    Args:
        response: what was fitted.
        octaves: logarithms to base 2 of the multipliers ``[n, 3]``.
    """
    active = [list(DIMENSIONS.values()).index(name) for name in response.dimensions]
    accuracies: Array = 1 - _form(response).predict(np.array(response.coefficients), octaves[:, active])
    return accuracies


def _form(response: Response) -> Form:
    return next(form for form in FORMS if form.name == response.form)


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


def _standings(found: CoefficientSearchResult, candidates: Candidates) -> tuple[page.StandingRow, ...]:
    by_law = {candidate.law: candidate for candidate in candidates.candidates}
    rows = []
    for standing in found.standings:
        candidate = by_law[standing.law]
        low, high = (
            Law(alpha=pick(candidate.alphas), beta=pick(candidate.betas), gamma=pick(candidate.gammas))
            for pick in (min, max)
        )
        rows.append(
            page.StandingRow(
                law=_triple(standing.law),
                low=_triple(low),
                high=_triple(high),
                nominal=candidate.nominal,
                ratio=standing.ratio,
                macs=candidate.macs,
                params=candidate.params,
                pixels=candidate.network.resolution,
                place=_place(candidate.realized),
                epochs=standing.epochs,
                accuracy=standing.accuracy,
                error=standing.error,
                tied=standing.tied,
                seeds=() if found.method == "response" else _seeds(found, candidate, standing.epochs),
            )
        )
    return tuple(rows)


def _seeds(found: CoefficientSearchResult, candidate: Candidate, epochs: int) -> tuple[float, ...]:
    structure = candidate.network.structure
    return tuple(trial.accuracy for trial in found.trials if trial.structure == structure and trial.stop == epochs)


def _trial(trial: Trial, images: int) -> page.TrialRow:
    return page.TrialRow(
        network=trial.network,
        place=_place(trial.realized),
        ratio=trial.ratio,
        macs=trial.training_macs // (PASSES * images * (trial.stop - trial.start)),
        **trial.model_dump(include={"seed", "start", "stop", "accuracy", "error", "training_macs"}),
    )


def _span(found: CoefficientSearchResult) -> tuple[page.Triple, page.Triple]:
    """Return the ends of the interval of the law, or else of the laws that are tied with it."""
    if found.interval is not None:
        return _triple(found.interval.low), _triple(found.interval.high)
    tied = [found.law, *(standing.law for standing in found.ties)]
    ends = [{name: pick(getattr(law, name) for law in tied) for name in DIMENSIONS} for pick in (min, max)]
    return page.Triple(**ends[0]), page.Triple(**ends[1])


def _published(found: CoefficientSearchResult, candidates: Candidates) -> page.PublishedTriple | None:
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
    return page.PublishedTriple(
        name="the paper",
        law=_triple(EFFICIENTNET),
        place=_place(realized(candidates.baseline, network)),
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


def _octaves(candidates: Candidates) -> float | None:
    """Return by how many doublings the ``d w^2 r^2`` of candidates grows; None where their cost is another.

    That is not quite their cost in MACs, since rounding is not in it: the mean over the candidates is taken.
    """
    if candidates.grid.cost != "macs":
        return None
    grown = [
        float(COST_WEIGHTS @ logs(candidate.realized)) - math.log2(candidate.ratio / candidates.grid.ratio)
        for candidate in candidates.candidates
    ]
    return float(np.mean(grown))


def _shading(found: CoefficientSearchResult, candidates: Candidates) -> page.Shading | None:
    """Evaluate the fitted response over the surface on which the candidates lie."""
    octaves = _octaves(candidates)
    if found.response is None or octaves is None:
        return None
    places = np.array(list(lattice(FIELD_STEPS))) * octaves / COST_WEIGHTS
    values = accuracy_at(found.response, places)
    return page.Shading(steps=FIELD_STEPS, values=tuple(float(value) for value in values))


def _response(response: Response, trials: Sequence[Trial]) -> page.ResponseFacts:
    active = [list(DIMENSIONS.values()).index(name) for name in response.dimensions]
    octaves = np.array([logs(trial.realized) for trial in trials])[:, active]
    errors = 1 - np.array([trial.accuracy for trial in trials])
    said = 1 - (errors - left_out(_form(response), octaves, errors))
    return page.ResponseFacts(
        formula=_formula(response),
        fits=response.fits,
        networks=response.networks,
        rms=response.rms,
        left_out_rms=response.left_out_rms,
        predicted=tuple((float(one), trial.accuracy) for one, trial in zip(said, trials, strict=True)),
    )


def _formula(response: Response) -> str:
    symbols, values = [SYMBOLS[name] for name in response.dimensions], response.coefficients
    if response.form == "power":
        factors, exponents = values[1 : 1 + len(symbols)], values[1 + len(symbols) :]
        parts = [f"{a:.3g} {name}^-{p:.3g}" for a, name, p in zip(factors, symbols, exponents, strict=True)]
        return " + ".join([f"error = {values[0]:.3g}", *parts])
    pairs = [(i, j) for i in range(len(symbols)) for j in range(i, len(symbols))]
    terms = [f"D_{name}" for name in symbols] + [f"D_{symbols[i]} D_{symbols[j]}" for i, j in pairs]
    parts = [
        f"{'-' if value < 0 else '+'} {abs(value):.3g} {term}" for value, term in zip(values[1:], terms, strict=True)
    ]
    return " ".join([f"ln error = {values[0]:.3g}", *parts]) + ", where D_x = log2 x"


def _learning_curves(found: CoefficientSearchResult, candidates: Candidates) -> tuple[page.LearningCurve, ...]:
    """Return the mean over seeds of each candidate after each rung, in the order of the standings."""
    by_law = {candidate.law: candidate.network.structure for candidate in candidates.candidates}
    learning_curves = []
    for standing in found.standings:
        reached: dict[int, list[float]] = {}
        for trial in found.trials:
            if trial.structure == by_law[standing.law]:
                reached.setdefault(trial.stop, []).append(trial.accuracy)
        points = tuple((stop, float(np.mean(values))) for stop, values in sorted(reached.items()))
        dropped = standing.epochs < found.proxy.epochs
        learning_curves.append(page.LearningCurve(law=_triple(standing.law), points=points, dropped=dropped))
    return tuple(learning_curves)


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


def _go_on(candidates: Candidates, asked: StudyRequest, folder: Path) -> tuple[str, ...]:
    baseline, law = name_for_commands(asked.baseline, folder), str(folder / "law.json")
    budget = si(4 * candidates.baseline_macs)
    commands = (
        ("triscale", "scale", baseline, "--law", law, "--phi", "2"),
        ("triscale", "fit", asked.images, "--baseline", baseline, "--law", law, "--budget", budget),
    )
    return tuple(shlex.join(command) for command in commands)


def _seen_images(found: CoefficientSearchResult) -> int:
    return found.proxy.images * found.proxy.epochs * len(found.proxy.seeds)


def _cost_name(grid: Grid) -> str:
    return LABELS.get(grid.cost, grid.cost)


def _triple(law: Law) -> page.Triple:
    return page.Triple(alpha=law.alpha, beta=law.beta, gamma=law.gamma)


def _place(of: Scale) -> page.Multipliers:
    return page.Multipliers(depth=of.depth, width=of.width, resolution=of.resolution)
