"""Content that all kinds of reports share: heading, settings, environment and next commands."""

from __future__ import annotations

from triscale.record import Record


class NamedValue(Record):
    """A row of a two-column table, such as a setting and its value, or a file and its description."""

    name: str
    value: str


class ReportContent(Record):
    """Base of the content of a report: every field has a place in all reports.

    Subclasses add the result records that their report shows. Content holds these records as they were saved; what a
    report derives from them, such as an order or a sentence, is a function of its ``*_view`` module.

    Attributes:
        title: Title and heading of the report.
        verdict: The result in one sentence.
        created: Date and time, as text.
        warnings: Sentences that warn about misleading results.
        advice: Sentences that say what to do about a weak result.
        limitations: Sentences that state what the results do not show.
        settings: The settings that produced the results.
        environment: Machine, software versions and digests.
        repeat: Commands that produce the results again.
        next_commands: Commands that use the results.
        files: Files of the run or study.
        refresh_seconds: Reload interval of a report that is still being updated; None for a final one.
    """

    title: str
    verdict: str = ""
    created: str = ""
    warnings: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()
    settings: tuple[NamedValue, ...] = ()
    environment: tuple[NamedValue, ...] = ()
    repeat: tuple[str, ...] = ()
    next_commands: tuple[str, ...] = ()
    files: tuple[NamedValue, ...] = ()
    refresh_seconds: int | None = None
