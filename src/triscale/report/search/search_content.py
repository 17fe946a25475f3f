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
    """Scaling coefficients found elsewhere, applied to this baseline.

    Attributes:
        name: Where they come from.
        law: The coefficients.
        realized: Multipliers of depth, width and resolution after rounding.
        ratio: Cost relative to the baseline; None where it is not known.
        rank: Rank among the candidates, from 1; None where it is not one of them.
    """

    name: str
    law: Law
    realized: Scale
    ratio: Annotated[float, Field(ge=0)] | None
    rank: int | None = None


class SearchContent(ReportContent):
    """Everything that the report of a coefficient search shows.

    Attributes:
        found: What the search saved: standings, trials, and what was fitted to them.
        candidates: The networks that it compared.
        reference: The coefficients of the paper, for comparison.
    """

    kind_name: ClassVar[str] = "search_report"
    schema_number: ClassVar[int] = 2

    found: CoefficientSearchResult
    candidates: Candidates
    reference: ReferenceLaw | None = None
