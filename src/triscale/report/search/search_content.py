"""Everything that the page of a coefficient search can show, as frozen records."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from triscale.record import Record
from triscale.report.run.run_content import Amount, Count, NamedValue, Share, Text

Positive = Annotated[float, Field(gt=0)]


class Multipliers(Record):
    """Multipliers of depth, width and resolution relative to the baseline, after all rounding."""

    depth: Positive
    width: Positive
    resolution: Positive


class Triple(Record):
    """Alpha, beta and gamma."""

    alpha: float
    beta: float
    gamma: float


class StandingRow(Record):
    """A candidate in order of accuracy; ``error`` is a standard error, ``seeds`` the accuracies that it averages.

    ``low`` and ``high`` are the least and largest coefficients that give the same network. ``nominal`` is the product
    that the paper holds constant, ``ratio`` the real cost; both relative to the baseline.
    """

    law: Triple
    low: Triple
    high: Triple
    nominal: Amount
    ratio: Amount
    macs: Count
    params: Count
    pixels: Count
    place: Multipliers
    epochs: Count
    accuracy: float
    error: Amount
    tied: bool
    seeds: tuple[Share, ...] = ()


class TrialRow(Record):
    """One training of the search, from ``start`` to ``stop`` epochs; ``accuracy`` is that after ``stop``."""

    network: Text
    place: Multipliers
    ratio: Amount
    macs: Count
    seed: int
    start: Count
    stop: Count
    accuracy: Share
    error: Amount
    training_macs: Count


class PublishedTriple(Record):
    """A triple found elsewhere, with what it comes to for this baseline; ``rank`` is its place where it competes.

    ``ratio``: its cost relative to the baseline, None if that is not known.
    """

    name: Text
    law: Triple
    place: Multipliers
    ratio: Amount | None
    rank: int | None = None


class Shading(Record):
    """A fitted response over the whole surface: accuracies where depth, width and resolution share the cost.

    ``values`` belong to the shares of :func:`triscale.report.search.ternary.lattice` with so many ``steps``.
    """

    steps: Annotated[int, Field(ge=1)]
    values: tuple[float, ...]

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        expected = (self.steps + 1) * (self.steps + 2) // 2
        if len(self.values) != expected:
            raise ValueError(f"a lattice of {self.steps} steps has {expected} values, given {len(self.values)}")
        return self


class ForecastPoint(Record):
    """Accuracy that is expected of the law's network at ``phi``, with a 95 % interval; ``beyond`` all trained ones."""

    phi: float
    macs: Annotated[int, Field(gt=0)]
    accuracy: float
    low: float
    high: float
    beyond: bool


class ResponseFacts(Record):
    """The fitted response: its formula, whether it ``fits``, and how far it missed, as shares of all images.

    ``predicted`` holds for each trained network what a fit to all the others said, beside what was measured.
    """

    formula: Text
    fits: bool
    networks: Count
    rms: Amount
    left_out_rms: Amount
    predicted: tuple[tuple[float, float], ...] = ()


class LearningCurve(Record):
    """Mean accuracy over seeds of one candidate after the epochs of each rung that it reached."""

    law: Triple
    points: tuple[tuple[int, float], ...]
    dropped: bool


class SearchContent(Record):
    """Everything that the page of a search shows.

    ``cost`` is what is counted, ``target`` what a candidate costs relative to the baseline. ``octaves``: by how many
    doublings ``d w^2 r^2`` grows, where that is about the cost. ``learning_curves`` come in the order of the standings.
    ``spent`` is the compute of the search, ``all_candidates`` what all candidates would take, in MACs.
    ``low`` and ``high`` are the ends of a 95 % interval of the law if ``interval``, else of the triples tied with it.
    """

    kind_name: ClassVar[str] = "search_report"

    title: Text
    verdict: Text
    created: Text = ""
    warnings: tuple[Text, ...] = ()
    method: Literal["grid", "halving", "response"]
    baseline: Text
    cost: Text
    target: Amount
    octaves: float | None
    phi: float = 1.0
    epochs: Count
    standings: Annotated[tuple[StandingRow, ...], Field(min_length=1)]
    trials: tuple[TrialRow, ...]
    low: Triple
    high: Triple
    interval: bool
    spent: Count
    all_candidates: Annotated[int, Field(gt=0)]
    published: PublishedTriple | None = None
    shading: Shading | None = None
    forecast: tuple[ForecastPoint, ...] = ()
    response: ResponseFacts | None = None
    learning_curves: tuple[LearningCurve, ...] = ()
    limitations: tuple[Text, ...] = ()
    settings: tuple[NamedValue, ...] = ()
    environment: tuple[NamedValue, ...] = ()
    repeat: tuple[Text, ...] = ()
    go_on: tuple[Text, ...] = ()
    files: tuple[NamedValue, ...] = ()
    refresh_seconds: int | None = None
