"""The report of the study in a folder."""

from __future__ import annotations

from pathlib import Path

from triscale.data.pipeline.split import Split
from triscale.errors import RunError
from triscale.jobs.core.networks import count_of
from triscale.jobs.reports.baseline_report import write_baseline_report
from triscale.jobs.reports.comparison_report import write_comparison_report
from triscale.jobs.reports.search_report import write_search_report
from triscale.jobs.studies.baseline import FOUND
from triscale.jobs.studies.requests import BaselineSearchRequest, CoefficientSearchRequest, ComparisonRequest
from triscale.jobs.studies.trials import SPLIT
from triscale.jobs.training.prepare import for_classes
from triscale.results.explanation import ComparisonMaps
from triscale.search.baseline.explore import BaselineSearchResult
from triscale.search.coefficients.grid import Candidates, find_candidates
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.compare.results import ComparisonResult


def is_study(folder: Path) -> bool:
    """Return whether a folder is that of a search or a comparison."""
    return any(
        (folder / f"{kind.kind_name}.json").is_file()
        for kind in (CoefficientSearchRequest, ComparisonRequest, BaselineSearchRequest)
    )


def write_study_report(folder: Path) -> Path:
    """Write the report of the finished search or comparison in a folder, and return its path.

    Raises:
        RunError: The folder holds no finished study.
        RecordError: One of its files cannot be read.
    """
    if (folder / "coefficients.json").is_file():
        found, search = (
            CoefficientSearchResult.load(folder / "coefficients.json"),
            CoefficientSearchRequest.load(folder / "search.json"),
        )
        return write_search_report(found, _candidates(search, folder), folder, search)
    if (folder / "compared.json").is_file():
        maps = folder / "maps" / "maps.json"
        return write_comparison_report(
            ComparisonResult.load(folder / "compared.json"),
            folder,
            ComparisonRequest.load(folder / "compare.json"),
            ComparisonMaps.load(maps) if maps.is_file() else None,
        )
    if (folder / FOUND).is_file():
        asked = BaselineSearchRequest.load(folder / f"{BaselineSearchRequest.kind_name}.json")
        return write_baseline_report(BaselineSearchResult.load(folder / FOUND), folder, asked)
    raise RunError(f"{folder} holds no finished search or comparison; give the folder that --out named for one")


def _candidates(search: CoefficientSearchRequest, folder: Path) -> Candidates:
    """Load the candidates of a search; count them again where an early version of Triscale did not save them."""
    file = folder / "candidates.json"
    if file.is_file():
        return Candidates.load(file)
    classes = len(Split.load(folder / SPLIT).classes)
    return find_candidates(for_classes(search.baseline, classes, search.recipe), search.grid, count_of)
