"""Everything that the page of a baseline search can show, as frozen records."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from triscale.record import Record
from triscale.report.run.run_content import Amount, Count, NamedValue, Share, Text


class CandidateRow(Record):
    """A network that was looked at: its cost, and accuracy and reward after ``epochs``.

    ``compared`` is false for those that were stopped early. ``place`` is the order in which they came.
    """

    name: Text
    place: Count
    cost: Amount
    macs: Count
    params: Count
    accuracy: Share
    error: Amount
    reward: float
    epochs: Count
    compared: bool
    on_front: bool
    best: bool


class FinalRow(Record):
    """A finalist: what the brief training said, and what the full one came to."""

    name: Text
    cost: Amount
    brief: Share
    accuracy: Share
    error: Amount
    reward: float
    chosen: bool


class StageChoiceRow(Record):
    """A stage of the network found, and of the skeleton it was chosen around."""

    found: Text
    width: Count
    repeats: Count
    stride: Count
    skeleton: Text
    skeleton_width: Count
    skeleton_repeats: Count


class BaselineContent(Record):
    """Everything that the page of a baseline search shows.

    ``unit`` is that of costs and target: ``MACs``, ``params`` or ``ms``. ``points`` are in the order in which they were
    looked at, ``front`` names those on it from the cheapest on. ``spent``: compute of all trainings in MACs.
    """

    kind_name: ClassVar[str] = "baseline_report"

    title: Text
    verdict: Text
    created: Text = ""
    warnings: tuple[Text, ...] = ()
    skeleton: Text
    space: Text
    strategy: Text
    evaluator: Literal["training", "supernet"]
    form: Literal["soft", "hard", "constraint"]
    exponent: float
    unit: Literal["MACs", "params", "ms"]
    target: Amount
    epochs: Count
    final_epochs: Count | None
    spent: Count
    points: Annotated[tuple[CandidateRow, ...], Field(min_length=1)]
    finalists: tuple[FinalRow, ...] = ()
    stages: tuple[StageChoiceRow, ...] = ()
    chosen: Text
    chosen_macs: Count
    chosen_params: Count
    chosen_pixels: Count
    limitations: tuple[Text, ...] = ()
    settings: tuple[NamedValue, ...] = ()
    environment: tuple[NamedValue, ...] = ()
    repeat: tuple[Text, ...] = ()
    go_on: tuple[Text, ...] = ()
    files: tuple[NamedValue, ...] = ()
    refresh_seconds: int | None = None
