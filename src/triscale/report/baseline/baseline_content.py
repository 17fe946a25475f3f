"""The content of the report of a baseline search."""

from __future__ import annotations

from typing import ClassVar

from triscale.report.content import ReportContent
from triscale.search.baseline.explore import BaselineSearchResult


class BaselineContent(ReportContent):
    """Everything that the report of a baseline search shows; ``result`` is the result of the search."""

    kind_name: ClassVar[str] = "baseline_report"
    schema_number: ClassVar[int] = 2

    result: BaselineSearchResult
