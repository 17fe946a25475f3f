"""Rows and learning curves for figures and tables of a coefficient search."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from triscale.report.search.search_content import SearchContent
from triscale.scaling.law import Law
from triscale.search.coefficients.design import COST_WEIGHTS
from triscale.search.coefficients.grid import Candidate, Candidates
from triscale.search.coefficients.result import CoefficientSearchResult, RankedCandidate, Trial
from triscale.search.shape import logs
from triscale.search.study.trial import PASSES


@dataclass(frozen=True, slots=True)
class StandingRow:
    """A ranked candidate with its network and the accuracy of each seed."""

    standing: RankedCandidate
    candidate: Candidate
    seeds: tuple[float, ...]

    def range(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest ``alpha``, ``beta`` or ``gamma`` that result in this network."""
        values = {"alpha": self.candidate.alphas, "beta": self.candidate.betas, "gamma": self.candidate.gammas}[name]
        return min(values), max(values)


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """Mean accuracy over seeds of one candidate, as pairs of epochs and accuracy at each rung that it reached."""

    law: Law
    points: tuple[tuple[int, float], ...]
    dropped: bool


def standing_rows(content: SearchContent) -> tuple[StandingRow, ...]:
    """Return the candidates in the order of their standings."""
    result = content.result
    by_law = {candidate.law: candidate for candidate in content.candidates.candidates}
    rows = []
    for standing in result.standings:
        candidate = by_law[standing.law]
        structure = candidate.network.structure
        seeds = tuple(
            trial.accuracy for trial in result.trials if trial.structure == structure and trial.stop == standing.epochs
        )
        # The standings of a fitted response are predictions, not means of trials.
        rows.append(StandingRow(standing, candidate, () if result.method == "response" else seeds))
    return tuple(rows)


def learning_curves(content: SearchContent) -> tuple[LearningCurve, ...]:
    """Return the learning curve of each candidate in the order of the standings; only successive halving has them."""
    result = content.result
    if result.method != "halving":
        return ()
    curves = []
    for row in standing_rows(content):
        structure = row.candidate.network.structure
        reached: dict[int, list[float]] = {}
        for trial in result.trials:
            if trial.structure == structure:
                reached.setdefault(trial.stop, []).append(trial.accuracy)
        points = tuple((stop, float(np.mean(values))) for stop, values in sorted(reached.items()))
        curves.append(LearningCurve(row.standing.law, points, row.standing.epochs < result.proxy.epochs))
    return tuple(curves)


def law_text(law: Law) -> str:
    """Return the three coefficients as a label."""
    return f"{law.alpha:g}, {law.beta:g}, {law.gamma:g}"


def span(result: CoefficientSearchResult) -> tuple[Law, Law]:
    """Return the 95% interval of the coefficients, or without one the range of coefficients tied with the best."""
    if result.interval is not None:
        return result.interval.low, result.interval.high
    tied = [result.law, *(standing.law for standing in result.ties)]
    low, high = (
        Law(**{name: pick(getattr(law, name) for law in tied) for name in Law.model_fields}) for pick in (min, max)
    )
    return low, high


def macs_of(trial: Trial, images: int) -> int:
    """Return the MACs of a trial's network for one image.

    Args:
        trial: A trial, whose compute is recorded.
        images: Training images of one epoch.
    """
    return trial.training_macs // (PASSES * images * (trial.stop - trial.start))


def octaves(candidates: Candidates) -> float | None:
    """Return the growth of ``d w^2 r^2`` from the baseline to the candidates, as a base-2 logarithm.

    Since the cost in MACs includes rounding, this is a mean over the candidates. None if candidates are matched on
    another cost than MACs.
    """
    if candidates.grid.cost != "macs":
        return None
    growth = [
        float(COST_WEIGHTS @ logs(candidate.realized)) - math.log2(candidate.ratio / candidates.grid.ratio)
        for candidate in candidates.candidates
    ]
    return float(np.mean(growth))
