"""Everything that the page of several Runs can show, as frozen records."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from triscale.record import Record
from triscale.report.run.run_content import Amount, Count, FamilyPoint, NamedValue, Share, Text


class RunRow(Record):
    """One Run: network, cost, accuracy with the 95 % interval, latency in milliseconds and how it was taken.

    ``number`` is its place among all Runs, ``budget`` what was asked of it. ``behind`` is by how much the best of its
    table is better, in shares, with the 95 % interval; ``measure`` the command for a latency that nobody measured.
    """

    number: Count
    name: Text
    network: Text
    resolution: Count
    params: Count
    macs: Count
    budget: Text = ""
    top1: Share
    top1_low: Share
    top1_high: Share
    behind: float | None = None
    behind_low: float | None = None
    behind_high: float | None = None
    latency_ms: Amount | None = None
    latency_how: Text = ""
    noisy: bool = False
    measure: Text = ""


class RunTable(Record):
    """The Runs that the same test images judged; ``images`` names these."""

    images: Text
    count: Count
    root: Text = ""
    rows: Annotated[tuple[RunRow, ...], Field(min_length=1)]


class SettingRow(Record):
    """A setting in which the Runs differ, and its value in each, in their order."""

    name: Text
    values: tuple[Text, ...]


class RunsContent(Record):
    """Everything that the page of several Runs shows; ``runs`` are their names in order."""

    kind_name: ClassVar[str] = "runs_report"

    title: Text
    verdict: Text = ""
    created: Text = ""
    warnings: tuple[Text, ...] = ()
    runs: tuple[Text, ...]
    tables: tuple[RunTable, ...]
    families: tuple[FamilyPoint, ...] = ()
    settings: tuple[SettingRow, ...] = ()
    files: tuple[NamedValue, ...] = ()
    refresh_seconds: int | None = None
