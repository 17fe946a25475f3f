"""The content of the report that compares scaling methods at equal cost."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from triscale.report.content import ReportContent
from triscale.report.images import Png
from triscale.results.explanation import ComparisonMaps
from triscale.search.coefficients.published_coefficients import PublishedRow
from triscale.search.compare.results import ComparisonResult


class ComparisonContent(ReportContent):
    """Everything that the report of a comparison shows.

    Attributes:
        compared: The networks, their costs and their accuracies.
        published: The paper's rows for the same baseline, the baseline first.
        source: Source of these rows.
        maps: Class activation maps of all networks on the same images.
        pictures: The PNG files of ``maps`` by their names.
    """

    kind_name: ClassVar[str] = "comparison_report"
    schema_number: ClassVar[int] = 2

    compared: ComparisonResult
    published: tuple[PublishedRow, ...] = ()
    source: str = ""
    maps: ComparisonMaps | None = None
    pictures: dict[str, Png] = Field(default_factory=dict)
