"""Run studies and write their reports: coefficient search, baseline search, comparison of scaling methods."""

from __future__ import annotations

from pathlib import Path

from triscale.errors import RunError
from triscale.jobs.reports.study_report import write_study_report
from triscale.jobs.studies.baseline import find_baseline
from triscale.jobs.studies.coefficients import find_coefficients
from triscale.jobs.studies.compare import compare_scaling
from triscale.jobs.studies.requests import (
    DEFAULT_STUDY,
    BaselineSearchRequest,
    CoefficientSearchRequest,
    ComparisonRequest,
    StudyOptions,
    StudyRequest,
)
from triscale.jobs.studies.status import location_of, request_of
from triscale.jobs.studies.table_search import find_in_table
from triscale.search.baseline.explore import BaselineSearchResult
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.compare.results import ComparisonResult
from triscale.training.context import ExecutionContext

StudyResult = CoefficientSearchResult | ComparisonResult | BaselineSearchResult


def search_coefficients(
    request: CoefficientSearchRequest, out: Path, context: ExecutionContext, options: StudyOptions = DEFAULT_STUDY
) -> CoefficientSearchResult:
    """Search alpha, beta and gamma, and write the report; see :func:`find_coefficients` for arguments and errors."""
    result = find_coefficients(request, out, context, options)
    write_study_report(out)
    return result


def search_baseline(
    request: BaselineSearchRequest, out: Path, context: ExecutionContext, options: StudyOptions = DEFAULT_STUDY
) -> BaselineSearchResult:
    """Search for a baseline, and write the report; see :func:`find_baseline` and :func:`find_in_table`."""
    find = find_baseline if request.table is None else find_in_table
    result = find(request, out, context, options)
    write_study_report(out)
    return result


def compare(
    request: ComparisonRequest, out: Path, context: ExecutionContext, options: StudyOptions = DEFAULT_STUDY
) -> ComparisonResult:
    """Compare scaling methods at equal cost, and write the report; see :func:`compare_scaling`."""
    result = compare_scaling(request, out, context, options)
    write_study_report(out)
    return result


def resume(out: Path, context: ExecutionContext, options: StudyOptions = DEFAULT_STUDY) -> StudyResult:
    """Resume the study in a directory with its original request.

    Args:
        out: Directory of the study.
        context: Device, workers, progress and stop flag; may differ from the original context.
        options: Whether leaks are allowed, and the URL of the storage if its password is not in the environment.

    Returns:
        The result of the study.

    Raises:
        RunError: There is no study in the directory.
        TriscaleError: See the function of the study.
    """
    request = request_of(out)
    options = options.at(location_of(out, options.storage))
    match request:
        case CoefficientSearchRequest():
            return search_coefficients(request, out, context, options)
        case ComparisonRequest():
            return compare(request, out, context, options)
        case BaselineSearchRequest():
            return search_baseline(request, out, context, options)
        case StudyRequest():
            raise RunError(f"{out} holds a {request.kind_name}, which this version cannot resume")
