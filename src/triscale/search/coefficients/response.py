"""Coefficient search by a response surface: fit the error to depth, width and resolution of a few small networks.

The trained networks cost no more than the baseline, so that training them takes a fraction of the compute of training
all candidates. The candidates themselves are not trained: the fitted response is evaluated at their realized
multipliers, which satisfy the constraint of equal cost including all rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np

from triscale.errors import SearchError
from triscale.scaling.apply import scale
from triscale.scaling.law import Law
from triscale.search.coefficients.design import COST_WEIGHTS, Design, choose_design
from triscale.search.coefficients.grid import DIMENSIONS, Candidate, Candidates, Count
from triscale.search.coefficients.methods import limits_of, trials_of
from triscale.search.coefficients.result import (
    AccuracyForecast,
    CoefficientSearchResult,
    Interval,
    RankedCandidate,
    Response,
)
from triscale.search.coefficients.surface import FORMS, Form, leave_one_out, num_coefficients, root_mean_square
from triscale.search.shape import Array, ScaledNetwork, count_exactly, logs, realized
from triscale.search.study.trial import Evaluation, Job, Proxy

SAMPLES = 200
SPARE = 2
"""Minimum number of networks beyond a form's number of coefficients."""
PLAUSIBLE = 1.25
"""A form whose leave-one-out error is within this factor of the better form's also contributes to the intervals."""
UNFIT = 0.03
"""Maximum leave-one-out error, as a share of all images, for a form that counts as fitting."""
FORECAST_PHI = (-1.0, 0.0, 1.0, 2.0, 3.0)


def search_response(
    candidates: Candidates,
    proxy: Proxy,
    evaluate: Evaluation,
    design: Design | None = None,
    *,
    count: Count = count_exactly,
    samples: int = SAMPLES,
) -> CoefficientSearchResult:
    """Find the best candidate without training any, from networks at and below the baseline's size.

    Of the two forms of :mod:`triscale.search.coefficients.surface`, the one with the smaller leave-one-out error is
    used. Intervals are a bootstrap over leave-one-out residuals; if the other form predicts nearly as well, half of the
    samples are fits of that form.

    Args:
        candidates: The result of :func:`triscale.search.coefficients.grid.find_candidates`.
        proxy: How each network is trained, with one of the seeds in turn.
        evaluate: Runs training jobs and returns their scores; it is called once.
        design: Which networks are trained; None for the defaults.
        count: Counts the cost of a network.
        samples: Number of bootstrap samples.

    Raises:
        SearchError: There are too few networks for either form.
    """
    sized = choose_design(candidates, design or Design(), len(proxy.seeds), count)
    active = _active(sized)
    forms = [form for form in FORMS if len(sized) >= num_coefficients(form, len(active)) + SPARE]
    if not forms:
        raise SearchError(
            f"a response needs at least {min(num_coefficients(form, len(active)) for form in FORMS) + SPARE} networks, "
            f"and the compute allows {len(sized)}; give more seeds or a wider tolerance, "
            "which allows more compute, or use --method grid"
        )
    jobs = [Job(one.network, seed, 0, proxy.epochs) for one, seed in zip(sized, cycle(proxy.seeds), strict=False)]
    scores = list(evaluate(jobs))
    trials = trials_of(jobs, scores, sized, proxy.images)
    errors = 1 - np.array([score.accuracy for score in scores])
    points = np.array([logs(one.realized) for one in sized])[:, active]
    leave_one_out_residuals = [leave_one_out(form, points, errors) for form in forms]
    rms = [root_mean_square(residuals) for residuals in leave_one_out_residuals]
    form = forms[int(np.argmin(rms))]
    fitted = form.fit(points, errors)
    # Both forms contribute to the intervals if the data do not distinguish between them.
    plausible = [index for index, one in enumerate(rms) if one <= PLAUSIBLE * min(rms)]
    resampled = [
        draw
        for index in plausible
        for draw in _bootstrap(forms[index], points, errors, leave_one_out_residuals[index], samples // len(plausible))
    ]

    at_target = _at_target_cost(candidates)[:, active]
    best, standings, laws = _choose(candidates, proxy, form, fitted, resampled, at_target)
    residuals = form.predict(fitted, points) - errors
    return CoefficientSearchResult(
        method="response",
        baseline=candidates.baseline.name,
        grid=candidates.grid,
        proxy=proxy,
        law=best.law,
        network=best.network,
        standings=tuple(standings),
        trials=tuple(trials),
        training_macs=sum(trial.training_macs for trial in trials),
        interval=_interval(laws),
        response=Response(
            form=form.name,
            dimensions=tuple(list(DIMENSIONS.values())[index] for index in active),
            coefficients=tuple(float(value) for value in fitted),
            networks=len(sized),
            rms=root_mean_square(residuals),
            leave_one_out_rms=min(rms),
            fits=min(rms) <= UNFIT,
        ),
        forecast=_forecast(candidates, best.law, form, fitted, resampled, active, sized, count),
        limitations=(*_unfit(min(rms)), *limits_of(candidates, proxy, best), *_limits(sized, candidates, min(rms))),
    )


def _active(sized: Sequence[ScaledNetwork]) -> list[int]:
    """Return the dimensions in which the networks differ."""
    points = np.array([logs(one.realized) for one in sized])
    return [index for index in range(points.shape[1]) if np.ptp(points[:, index]) > 0]


@dataclass(frozen=True, slots=True)
class _Draw:
    """A form with its coefficients for one bootstrap sample."""

    form: Form
    coefficients: Array

    def predict(self, points: Array) -> Array:
        return self.form.predict(self.coefficients, points)


def _bootstrap(form: Form, points: Array, errors: Array, leave_one_out_residuals: Array, samples: int) -> list[_Draw]:
    """Residual bootstrap: refit a form to its own predictions plus resampled leave-one-out residuals.

    Leave-one-out residuals contain both noise and misfit; residuals of the fit itself gave intervals that were too
    narrow.
    """
    expected = form.predict(form.fit(points, errors), points)
    # A fixed seed makes the result of a search a function of its scores.
    random = np.random.default_rng(0)
    shuffled = (np.clip(expected + random.choice(leave_one_out_residuals, len(errors)), 0, 1) for _ in range(samples))
    return [_Draw(form, form.fit(points, sample)) for sample in shuffled]


def _at_target_cost(candidates: Candidates) -> Array:
    """Return the candidates' octaves ``[n, 3]``, adjusted to exactly the target cost, equally in all dimensions.

    Otherwise candidates that are larger within the tolerance would be favored.
    """
    octaves = np.array([logs(candidate.realized) for candidate in candidates.candidates])
    surplus = np.log2([candidate.ratio / candidates.grid.ratio for candidate in candidates.candidates])
    moved: Array = octaves - surplus[:, None] / COST_WEIGHTS / len(COST_WEIGHTS)
    return moved


def _choose(
    candidates: Candidates, proxy: Proxy, form: Form, fitted: Array, resampled: Sequence[_Draw], points: Array
) -> tuple[Candidate, list[RankedCandidate], list[Law]]:
    """Return the best candidate, all ranked candidates, and the best law of each bootstrap sample."""
    expected = form.predict(fitted, points)
    sampled = np.array([draw.predict(points) for draw in resampled])
    best = int(np.argmin(expected))
    # A candidate is tied unless it is worse than the best in at least 97.5% of the bootstrap samples.
    worse = np.mean(sampled > sampled[:, best : best + 1], axis=0)
    standings = []
    for index in np.argsort(expected, kind="stable"):
        candidate = candidates.candidates[index]
        standings.append(
            RankedCandidate(
                law=candidate.law,
                network=candidate.network.name,
                ratio=candidate.ratio,
                epochs=proxy.epochs,
                accuracy=float(1 - expected[index]),
                error=float(sampled[:, index].std(ddof=1)),
                tied=bool(index == best or worse[index] < 0.975),
            )
        )
    laws = [candidates.candidates[index].law for index in np.argmin(sampled, axis=1)]
    return candidates.candidates[best], standings, laws


def _interval(laws: Sequence[Law]) -> Interval:
    triples = np.array([[law.alpha, law.beta, law.gamma] for law in laws])
    # Interval ends are values of the grid, not interpolated.
    low, high = np.percentile(triples, [2.5, 97.5], axis=0, method="nearest").tolist()
    return Interval(
        low=Law(alpha=low[0], beta=low[1], gamma=low[2]),
        high=Law(alpha=high[0], beta=high[1], gamma=high[2]),
        samples=len(laws),
    )


def _forecast(
    candidates: Candidates,
    law: Law,
    form: Form,
    fitted: Array,
    resampled: Sequence[_Draw],
    active: Sequence[int],
    sized: Sequence[ScaledNetwork],
    count: Count,
) -> tuple[AccuracyForecast, ...]:
    most_expensive = max(one.macs for one in sized)
    forecasts = []
    for phi in FORECAST_PHI:
        network = scale(candidates.baseline, law.at(phi))
        macs = count(network).macs
        point = logs(realized(candidates.baseline, network))[None, active]
        sampled = [float(draw.predict(point)[0]) for draw in resampled]
        low, high = np.percentile(sampled, [2.5, 97.5])
        expected = float(form.predict(fitted, point)[0])
        forecasts.append(
            AccuracyForecast(
                phi=phi,
                macs=macs,
                accuracy=1 - expected,
                low=float(1 - high),
                high=float(1 - low),
                beyond=macs > most_expensive,
            )
        )
    return tuple(forecasts)


def _unfit(leave_one_out_rms: float) -> tuple[str, ...]:
    if leave_one_out_rms <= UNFIT:
        return ()
    points = f"{100 * leave_one_out_rms:.2g} points"
    return (f"neither form fits (leave-one-out error of {points}): search with --method grid or halving",)


def _limits(sized: Sequence[ScaledNetwork], candidates: Candidates, leave_one_out: float) -> tuple[str, ...]:
    ratios = [one.ratio for one in sized]
    sentences = [
        "no candidate was trained: their accuracies are predictions of a fitted response",
        f"it was fitted to {len(sized)} networks that cost {min(ratios):.3g}x to {max(ratios):.3g}x the baseline",
        f"its leave-one-out error is {100 * leave_one_out:.2g} points",
        "the intervals assume the fitted forms; for a surface of another form they are too narrow",
    ]
    if candidates.grid.ratio > 1:
        sentences.append("the gain of a dimension may change above the baseline's size, where nothing was trained")
    return tuple(sentences)
