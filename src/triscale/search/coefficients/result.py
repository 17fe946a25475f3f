"""The result of a search for coefficients, with everything that it rests on."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.scaling.law import Law, Scale
from triscale.search.coefficients.grid import Grid
from triscale.search.study.trial import Proxy


class Trial(Record):
    """One job that was carried out. ``training_macs``: 3 x MACs x images x the epochs of this job."""

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
    """One candidate in comparison: mean accuracy over seeds and its standard error, after so many epochs.

    For the method ``response`` the accuracy is what the fitted response says at the target's cost.
    """

    law: Law
    network: str
    ratio: float
    epochs: int
    accuracy: float
    error: float
    tied: bool


class Interval(Record):
    """Where 95% of the bootstrap's laws lie, each coefficient by itself."""

    low: Law
    high: Law
    samples: int


class AccuracyForecast(Record):
    """Accuracy after the same proxy that the response says for a network of the law, with a 95% interval."""

    phi: float
    macs: int
    accuracy: float
    low: float
    high: float
    beyond: bool = Field(description="costs more than anything that was trained")


class Response(Record):
    """A smooth response of the error to depth, width and resolution, fitted to trials.

    ``form`` is ``power``, ``error = c + sum a_i m_i^-p_i`` over the realized multipliers m, or ``quadratic``, where
    the logarithm of the error is a polynomial of second degree in log2 of m. ``rms`` is the root mean square of the
    residuals, as a share of all images. ``left_out_rms`` is the same for networks that were left out of the fit; if it
    is large, the form does not fit (``fits``), and the law is not to be used.
    """

    form: str
    dimensions: tuple[str, ...]
    coefficients: tuple[float, ...]
    networks: int
    rms: float
    left_out_rms: float
    fits: bool = True


class CoefficientSearchResult(Record):
    """What a search found, with all it rests on.

    ``law`` is the best candidate's. Standings are in order of accuracy, those that were dropped early after the others;
    ``tied`` are those that the evidence does not tell from the first. ``training_macs`` is the compute spent.
    ``limitations`` says in words what the result does not show.
    """

    kind_name: ClassVar[str] = "coefficients"

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
        """The standings that are not told from the first."""
        return tuple(standing for standing in self.standings[1:] if standing.tied)
