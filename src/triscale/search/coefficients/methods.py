"""Coefficient search by training candidates: grid search, or successive halving."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from triscale.errors import SearchError
from triscale.record import Record
from triscale.search.coefficients.grid import Candidate, Candidates
from triscale.search.coefficients.result import CoefficientSearchResult, RankedCandidate, Trial
from triscale.search.shape import ScaledNetwork
from triscale.search.study.standing import means_and_errors, tied_with_best
from triscale.search.study.trial import PASSES, Evaluation, Job, Proxy, Score


class Halving(Record):
    """Successive halving (Jamieson & Talwalkar 2016): after each rung the best ``1 / factor`` continue.

    The first rung ends after ``first`` epochs (None: chosen for three rungs), each following rung after ``factor``
    times as many. The last rung ends with the proxy's epochs.

    Example:
        >>> Halving().rungs(27)
        (3, 9, 27)
    """

    factor: int = Field(default=3, ge=2)
    first: int | None = Field(default=None, ge=1)

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Return the epochs after which each rung ends.

        Raises:
            SearchError: The first rung is longer than the proxy.
        """
        first = self.first if self.first is not None else max(1, epochs // self.factor**2)
        if first > epochs:
            raise SearchError(f"the first rung of {first} epochs is longer than the {epochs} epochs of the proxy")
        ends = [first]
        while ends[-1] * self.factor < epochs:
            ends.append(ends[-1] * self.factor)
        return tuple(ends) if ends[-1] == epochs else (*ends, epochs)


def search_grid(candidates: Candidates, proxy: Proxy, evaluate: Evaluation) -> CoefficientSearchResult:
    """Train every candidate with every seed to the end and take the best; the paper used one seed.

    Args:
        candidates: The result of :func:`triscale.search.coefficients.grid.find_candidates`.
        proxy: How each candidate is trained.
        evaluate: Runs training jobs and returns their scores.
    """
    return _train_rungs(candidates, proxy, evaluate, (proxy.epochs,), 1, "grid")


def search_halving(
    candidates: Candidates, proxy: Proxy, evaluate: Evaluation, halving: Halving | None = None
) -> CoefficientSearchResult:
    """Train all candidates briefly and the best of them longer, each resumed from its own checkpoint.

    Args:
        candidates: The result of :func:`triscale.search.coefficients.grid.find_candidates`.
        proxy: How each candidate is trained to the end.
        evaluate: Runs training jobs, each from its start to its stop epoch, and returns their scores.
        halving: Rungs and the share that continues; None for the defaults.

    Raises:
        SearchError: The rungs do not fit the epochs.
    """
    halving = halving or Halving()
    return _train_rungs(candidates, proxy, evaluate, halving.rungs(proxy.epochs), halving.factor, "halving")


def trials_of(
    jobs: Sequence[Job], scores: Sequence[Score], networks: Sequence[ScaledNetwork], images: int
) -> list[Trial]:
    """Return the record of each job with its score; ``networks`` are in the order of the jobs."""
    return [
        Trial(
            network=job.network.name,
            structure=job.network.structure,
            realized=sized.realized,
            ratio=sized.ratio,
            seed=job.seed,
            start=job.start,
            stop=job.stop,
            accuracy=score.accuracy,
            error=score.error,
            training_macs=PASSES * sized.macs * images * (job.stop - job.start),
        )
        for job, score, sized in zip(jobs, scores, networks, strict=True)
    ]


def _train_rungs(
    candidates: Candidates, proxy: Proxy, evaluate: Evaluation, rungs: tuple[int, ...], factor: int, method: str
) -> CoefficientSearchResult:
    running, start = list(candidates.candidates), 0
    trials: list[Trial] = []
    dropped: list[RankedCandidate] = []
    standings: list[RankedCandidate] = []
    for stop in rungs:
        jobs = [Job(candidate.network, seed, start, stop) for candidate in running for seed in proxy.seeds]
        scores = list(evaluate(jobs))
        owners = [candidate for candidate in running for _ in proxy.seeds]
        trials += trials_of(jobs, scores, owners, proxy.images)
        # Scores come in the order of the jobs: one row of seeds for each candidate.
        each = [scores[index : index + len(proxy.seeds)] for index in range(0, len(scores), len(proxy.seeds))]
        order, standings = _rank(running, each, stop)
        if stop != rungs[-1]:
            num_kept = math.ceil(len(running) / factor)
            # Candidates that are dropped later have trained longer and rank above earlier ones.
            dropped = [standing.replace(tied=False) for standing in standings[num_kept:]] + dropped
            running, start = [running[index] for index in sorted(order[:num_kept])], stop
    winner = running[order[0]]
    return CoefficientSearchResult(
        method=method,
        baseline=candidates.baseline.name,
        grid=candidates.grid,
        proxy=proxy,
        law=winner.law,
        network=winner.network,
        standings=(*standings, *dropped),
        trials=tuple(trials),
        training_macs=sum(trial.training_macs for trial in trials),
        limitations=(*limits_of(candidates, proxy, winner), _limit_of_ties(proxy), *_limits_of_rungs(rungs, dropped)),
    )


def _rank(
    candidates: Sequence[Candidate], scores: Sequence[Sequence[Score]], epochs: int
) -> tuple[list[int], list[RankedCandidate]]:
    """Return the indices of candidates from best to worst, and their ranked records in that order."""
    means, errors, freedom = means_and_errors(scores)
    tied = tied_with_best(means, errors, freedom)
    order = [int(index) for index in np.argsort(-means, kind="stable")]
    standings = [
        RankedCandidate(
            law=candidates[index].law,
            network=candidates[index].network.name,
            ratio=candidates[index].ratio,
            epochs=epochs,
            accuracy=float(means[index]),
            error=float(errors[index]),
            tied=tied[index],
        )
        for index in order
    ]
    return order, standings


def limits_of(candidates: Candidates, proxy: Proxy, winner: Candidate) -> tuple[str, ...]:
    """Return the limitations that apply to every method, as sentences."""
    sentences = [
        f"a full training may rank candidates differently than {proxy.epochs} epochs of {proxy.images} images",
    ]
    if candidates.unchanged:
        sentences.append(f"{', '.join(candidates.unchanged)} had no effect in the searched range")
    for name, values in zip(("alpha", "beta", "gamma"), (winner.alphas, winner.betas, winner.gammas), strict=True):
        if len(values) > 1 and name not in candidates.unchanged:
            sentences.append(
                f"{name} from {min(values):g} to {max(values):g} gives the same network as {name} of the law"
            )
    if candidates.num_dropped:
        sentences.append(
            f"{candidates.num_dropped} candidates of the same cost were left out to keep {candidates.grid.number}"
        )
    return tuple(sentences)


def _limit_of_ties(proxy: Proxy) -> str:
    if len(proxy.seeds) == 1:
        return (
            "one seed was used, so the spread between seeds is not known; ties are based on the validation images only"
        )
    return "ties are based on the spread between seeds, on these validation images"


def _limits_of_rungs(rungs: tuple[int, ...], dropped: Sequence[RankedCandidate]) -> tuple[str, ...]:
    if not dropped:
        return ()
    return (f"{len(dropped)} candidates were dropped before {rungs[-1]} epochs and are not compared at full length",)
