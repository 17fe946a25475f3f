"""STEP 1 of the paper for any baseline and any images: alpha, beta, gamma from candidates of equal real cost."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from triscale.jobs.core.networks import count_of
from triscale.jobs.core.progress import ProgressReporter
from triscale.jobs.reports.search_report import write_search_report
from triscale.jobs.studies.latency_cost import LatencyPricer
from triscale.jobs.studies.trials import SPLIT, Hands, StudyRequest, Trainings, open_study, prepare_split, settings_of
from triscale.jobs.training.prepare import for_classes
from triscale.network.custom import AnyNetwork
from triscale.search.coefficients.grid import Candidates, Grid, find_candidates
from triscale.search.coefficients.methods import search_grid, search_halving
from triscale.search.coefficients.response import search_response
from triscale.search.study.trial import CoefficientSearchResult, Proxy

Method = Literal["grid", "halving", "response"]


class CoefficientSearchRequest(StudyRequest):
    """What was asked of a search for coefficients.

    Candidates are scored on the images that are held out of training, never on those for testing.
    """

    kind_name: ClassVar[str] = "search"

    grid: Grid
    method: Method


def find_coefficients(
    search: CoefficientSearchRequest, out: Path, reporter: ProgressReporter, hands: Hands
) -> CoefficientSearchResult:
    """Search the coefficients; everything lies in ``out``, and the same request goes on where it stopped.

    ``law.json`` can be given to ``--law``, ``coefficients.json`` holds the whole result, ``report.html`` shows it, and
    ``trials`` holds a Run for each training.

    Raises:
        UserError: images that cannot be trained on, a grid on which nothing costs what is asked for, or a folder that
            holds something else.
        Interrupted: ``should_stop`` answered true; what has ended is written down.
        JobError: a training that cannot be carried out.
    """
    split = prepare_split(search, out, hands, reporter)
    baseline = for_classes(search.baseline, len(split.classes), search.recipe)
    candidates = _candidates(search, baseline, out, reporter, hands)
    proxy = Proxy(epochs=search.recipe.epochs, images=len(split.train), seeds=search.seeds)
    work = Trainings(search.images, search.recipe, out / SPLIT, str(hands.device), hands.threads).until
    settings = settings_of(search, split)
    if search.grid.cost == "latency":
        settings["candidates"] = candidates.digest
    with open_study(f"coefficients of {baseline.name}", settings, baseline, work, out, hands, reporter) as study:
        match search.method:
            case "grid":
                found = search_grid(candidates, proxy, study.evaluate)
            case "halving":
                found = search_halving(candidates, proxy, study.evaluate)
            case "response":
                found = search_response(candidates, proxy, study.evaluate, count=count_of)
    found.law.save(out / "law.json")
    found.save(out / "coefficients.json")
    write_search_report(found, candidates, out, search)
    return found


def _candidates(
    search: CoefficientSearchRequest, baseline: AnyNetwork, out: Path, reporter: ProgressReporter, hands: Hands
) -> Candidates:
    """Find the candidates, or take up those that were found: latency is measured, and once only."""
    file = out / "candidates.json"
    if file.is_file():
        return Candidates.load(file)
    price = None
    if search.grid.cost == "latency":
        reporter.begin("measure")
        price = LatencyPricer(
            baseline, search.grid, threads=hands.threads, reporter=reporter, should_stop=hands.should_stop
        )
    candidates = find_candidates(baseline, search.grid, count_of, price)
    candidates.save(file)
    return candidates
