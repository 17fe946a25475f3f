"""The report of the study in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from triscale.errors import RunError
from triscale.jobs.reports.baseline_report import write_baseline_report
from triscale.jobs.reports.comparison_report import write_comparison_report
from triscale.jobs.reports.search_report import write_search_report
from triscale.jobs.studies import baseline, coefficients, compare
from triscale.jobs.studies.requests import (
    BaselineSearchRequest,
    CoefficientSearchRequest,
    ComparisonRequest,
    StudyRequest,
)
from triscale.jobs.studies.status import RESULTS
from triscale.results.explanation import ComparisonMaps
from triscale.search.baseline.explore import BaselineSearchResult
from triscale.search.coefficients.grid import Candidates
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.compare.results import ComparisonResult

AnyRequest = TypeVar("AnyRequest", bound=StudyRequest)


def is_study(folder: Path) -> bool:
    """Return whether a folder holds a search or a comparison."""
    return any((folder / f"{kind}.json").is_file() for kind in RESULTS)


def write_study_report(folder: Path) -> Path:
    """Write the report of the finished search or comparison in a folder, and return its path.

    Raises:
        RunError: The folder holds no finished study.
        RecordError: One of its files cannot be read.
    """
    if (folder / coefficients.RESULT).is_file():
        return write_search_report(
            CoefficientSearchResult.load(folder / coefficients.RESULT),
            Candidates.load(folder / coefficients.CANDIDATES),
            folder,
            _request(CoefficientSearchRequest, folder),
        )
    if (folder / compare.RESULT).is_file():
        maps = folder / compare.MAPS
        return write_comparison_report(
            ComparisonResult.load(folder / compare.RESULT),
            folder,
            _request(ComparisonRequest, folder),
            ComparisonMaps.load(maps) if maps.is_file() else None,
        )
    if (folder / baseline.FOUND).is_file():
        return write_baseline_report(
            BaselineSearchResult.load(folder / baseline.FOUND), folder, _request(BaselineSearchRequest, folder)
        )
    raise RunError(f"{folder} holds no finished search or comparison; give the folder that was passed to --out")


def _request(kind: type[AnyRequest], folder: Path) -> AnyRequest:
    return kind.load(folder / f"{kind.kind_name}.json")
