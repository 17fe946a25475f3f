"""The content of the report of a coefficient search."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from triscale.record import Record
from triscale.report.content import ReportContent
from triscale.scaling.law import Law, Scale
from triscale.search.coefficients.grid import Candidates
from triscale.search.coefficients.result import CoefficientSearchResult


class ReferenceLaw(Record):
    """Published scaling coefficients, applied to this baseline.

    Attributes:
        name: Source of the coefficients.
        law: The coefficients.
        realized: Multipliers of depth, width and resolution after rounding.
        ratio: Cost relative to the baseline; None if unknown.
        rank: Rank among the candidates, from 1; None if it is not a candidate.
    """

    name: str
    law: Law
    realized: Scale
    ratio: Annotated[float, Field(ge=0)] | None
    rank: int | None = None


class SearchContent(ReportContent):
    """Everything that the report of a coefficient search shows.

    Attributes:
        result: The result of the search: standings, trials and the fitted response.
        candidates: The candidates of the search.
        reference: The coefficients of the paper, for comparison.
    """

    kind_name: ClassVar[str] = "search_report"
    schema_number: ClassVar[int] = 2

    result: CoefficientSearchResult
    candidates: Candidates
    reference: ReferenceLaw | None = None
