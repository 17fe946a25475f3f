"""The content of the report that compares several runs."""

from __future__ import annotations

from typing import ClassVar

from triscale.report.content import ReportContent
from triscale.report.run.run_content import FamilyPoint
from triscale.results.run_comparison import ComparedRuns


class RunsContent(ReportContent):
    """Everything that the report of several runs shows.

    Attributes:
        compared: The runs, their test sets, and the settings in which they differ.
        families: Published networks to compare them with.
    """

    kind_name: ClassVar[str] = "runs_report"
    schema_number: ClassVar[int] = 2

    compared: ComparedRuns
    families: tuple[FamilyPoint, ...] = ()
