"""The result of a coefficient search, with its evidence."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.scaling.law import Law, Scale
from triscale.search.coefficients.grid import Grid
from triscale.search.study.trial import Proxy


class Trial(Record):
    """One finished training job. ``training_macs`` is 3 x MACs x images x the epochs of this job."""

    network: str
    structure: str
    realized: Scale
    ratio: float
    seed: int
    start: int
    stop: int
    accuracy: float
    error: float
    training_macs: int


class RankedCandidate(Record):
    """A ranked candidate: mean accuracy over seeds and its standard error after ``epochs``.

    For the method ``response`` the accuracy is predicted by the fitted response at the target cost. ``tied`` means that
    the candidate is not significantly worse than the best.
    """

    law: Law
    network: str
    ratio: float
    epochs: int
    accuracy: float
    error: float
    tied: bool


class Interval(Record):
    """Bootstrap 95% interval of the coefficients, each by itself."""

    low: Law
    high: Law
    samples: int


class AccuracyForecast(Record):
    """Predicted accuracy of a network of the law after the same proxy, with a 95% interval."""

    phi: float
    macs: int
    accuracy: float
    low: float
    high: float
    beyond: bool = Field(description="costs more than anything that was trained")


class Response(Record):
    """A response surface: the error as a smooth function of depth, width and resolution, fitted to trials.

    ``form`` is ``power``, ``error = c + sum a_i m_i^-p_i`` over the realized multipliers m, or ``quadratic``, where
    the logarithm of the error is a quadratic polynomial in log2 of m. ``rms`` is the root mean square of the residuals,
    as a share of all images, ``leave_one_out_rms`` that of leave-one-out residuals. If the latter is large, ``fits`` is
    false, and the law should not be used.
    """

    form: str
    dimensions: tuple[str, ...]
    coefficients: tuple[float, ...]
    networks: int
    rms: float
    leave_one_out_rms: float
    fits: bool = True


class CoefficientSearchResult(Record):
    """The result of a coefficient search, with its evidence.

    ``law`` is the best candidate's. ``standings`` are in order of accuracy, with candidates that were dropped early at
    the end; ``tied`` ones are not significantly worse than the first. ``training_macs`` is the compute used.
    ``limitations`` are sentences on what the result does not show.
    """

    kind_name: ClassVar[str] = "coefficients"
    schema_number: ClassVar[int] = 2

    method: str
    baseline: str
    grid: Grid
    proxy: Proxy
    law: Law
    network: AnyNetwork
    standings: tuple[RankedCandidate, ...]
    trials: tuple[Trial, ...]
    training_macs: int
    interval: Interval | None = None
    response: Response | None = None
    forecast: tuple[AccuracyForecast, ...] = ()
    limitations: tuple[str, ...] = ()

    @property
    def ties(self) -> tuple[RankedCandidate, ...]:
        """The candidates that are tied with the first."""
        return tuple(standing for standing in self.standings[1:] if standing.tied)
