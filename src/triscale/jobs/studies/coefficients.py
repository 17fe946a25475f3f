"""Coefficient search, step 1 of the paper: choose alpha, beta, gamma among candidates of equal realized cost."""

from __future__ import annotations

from pathlib import Path

from triscale.jobs.core.networks import count_of
from triscale.jobs.studies.latency_cost import LatencyPricer
from triscale.jobs.studies.requests import CoefficientSearchRequest, StudyOptions
from triscale.jobs.studies.trials import SPLIT, Trainings, open_study, prepare_split, settings_of
from triscale.jobs.training.resolve import for_classes
from triscale.network.custom import AnyNetwork
from triscale.search.coefficients.grid import Candidates, find_candidates
from triscale.search.coefficients.methods import search_grid, search_halving
from triscale.search.coefficients.response import search_response
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.study.trial import Proxy
from triscale.training.context import ExecutionContext

RESULT = "coefficients.json"
CANDIDATES = "candidates.json"


def find_coefficients(
    request: CoefficientSearchRequest, out: Path, context: ExecutionContext, options: StudyOptions
) -> CoefficientSearchResult:
    """Search for the scaling coefficients; the same request resumes an interrupted search.

    ``law.json`` in ``out`` can be given to ``--law``, ``coefficients.json`` holds the whole result, and ``trials``
    holds a run for each training.

    Args:
        request: Images, baseline, grid and method.
        out: Directory of the search.
        context: Device, workers, progress and stop flag.
        options: Storage of the study, and whether leaks are allowed.

    Returns:
        The result.

    Raises:
        UserError: The images cannot be trained on, no candidate of the grid has the requested cost, or the directory
            holds other files.
        Interrupted: ``context.should_stop`` returned true; finished trials are saved.
        JobError: A training failed.
    """
    split = prepare_split(request, out, context, options)
    baseline = for_classes(request.baseline, len(split.classes), request.recipe)
    candidates = _candidates(request, baseline, out, context)
    proxy = Proxy(epochs=request.recipe.epochs, images=len(split.train), seeds=request.seeds)
    work = Trainings(request.images, request.recipe, out / SPLIT, str(context.device), context.threads).validate
    settings = settings_of(request, split)
    if request.grid.cost == "latency":
        settings["candidates"] = candidates.digest
    with open_study(f"coefficients of {baseline.name}", settings, baseline, work, out, context, options) as study:
        match request.method:
            case "grid":
                result = search_grid(candidates, proxy, study.evaluate)
            case "halving":
                result = search_halving(candidates, proxy, study.evaluate)
            case "response":
                result = search_response(candidates, proxy, study.evaluate, count=count_of)
    result.law.save(out / "law.json")
    result.save(out / RESULT)
    return result


def _candidates(
    request: CoefficientSearchRequest, baseline: AnyNetwork, out: Path, context: ExecutionContext
) -> Candidates:
    """Return the candidates; load them if they were saved before, so that latency is measured only once."""
    file = out / CANDIDATES
    if file.is_file():
        return Candidates.load(file)
    price = None
    if request.grid.cost == "latency":
        context.progress.begin("measure")
        price = LatencyPricer(baseline, request.grid, context)
    candidates = find_candidates(baseline, request.grid, count_of, price)
    candidates.save(file)
    return candidates
