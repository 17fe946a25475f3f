"""Results of a comparison at equal cost: test accuracies with intervals and ties over seeds."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy.special import stdtrit

from triscale.record import Record
from triscale.search.compare.contenders import Comparison, Contender, Way
from triscale.search.study.standing import TWO_SIDED, means_and_errors, tied_with_best
from triscale.search.study.trial import PASSES, Evaluation, Job, Proxy

NORMAL = 1.959964


class ContenderResult(Record):
    """Accuracies of one scaling method, from 0 to 1: of each seed, their mean, its standard error and 95% interval.

    ``tied``: not significantly different from the best scaled network. With one seed all scaled networks are tied,
    since the spread between trainings is unknown. ``gain``: mean minus the baseline's mean.
    """

    way: Way
    accuracies: tuple[float, ...]
    accuracy: float
    error: float
    low: float
    high: float
    gain: float
    tied: bool
    training_macs: int


class ComparisonResult(Record):
    """A trained comparison; ``outcomes`` are in the order of its contenders.

    ``count`` is the number of test images, ``training_macs`` the compute used.
    """

    kind_name: ClassVar[str] = "compared"
    schema_number: ClassVar[int] = 2

    images: str
    comparison: Comparison
    proxy: Proxy
    count: int
    outcomes: tuple[ContenderResult, ...]
    training_macs: int
    limitations: tuple[str, ...]

    @property
    def best(self) -> ContenderResult:
        """The result of the scaled network with the highest mean accuracy, which others may be tied with."""
        return max(self.outcomes[1:], key=lambda outcome: outcome.accuracy)

    @property
    def has_compound(self) -> bool:
        """Whether single dimensions are compared with compound scaling; otherwise laws are compared."""
        return any(outcome.way == "compound" for outcome in self.outcomes)

    @property
    def near_chance(self) -> bool:
        """Whether the best scaled network cannot be distinguished from guessing one class."""
        return self.best.low <= 1 / self.comparison.baseline.classes

    def standing(self, outcome: ContenderResult) -> str:
        """Return ``best``, ``tied`` or nothing: ``best`` only if no other scaled network is tied with it."""
        if not outcome.tied or outcome is self.outcomes[0]:
            return ""
        return "tied" if sum(other.tied for other in self.outcomes[1:]) > 1 else "best"


def compare_trained(
    comparison: Comparison, proxy: Proxy, evaluate: Evaluation, *, images: str, count: int
) -> ComparisonResult:
    """Train the networks of a comparison with every seed, and compute intervals and ties.

    Intervals and ties use the variance between seeds, which is assumed equal for all networks and pooled. With one seed
    they use the binomial error of the test images.

    Args:
        comparison: The result of :func:`triscale.search.compare.contenders.equal_cost`.
        proxy: Epochs, training images and seeds.
        evaluate: Runs training jobs and returns accuracies on the test images.
        images: Name of the data set, for the record.
        count: Number of test images.
    """
    contenders = comparison.contenders
    # All networks are trained with the first seed first, so that partial results are already comparable.
    jobs = [Job(contender.network, seed, 0, proxy.epochs) for seed in proxy.seeds for contender in contenders]
    scores = list(evaluate(jobs))
    of_each = [scores[index :: len(contenders)] for index in range(len(contenders))]
    means, errors, freedom = means_and_errors(of_each)
    quantile = float(stdtrit(freedom, TWO_SIDED)) if np.isfinite(freedom) else NORMAL
    ranked = len(proxy.seeds) > 1
    tied = [False, *(tied_with_best(means[1:], errors[1:], freedom) if ranked else [True] * (len(contenders) - 1))]
    outcomes = tuple(
        ContenderResult(
            way=contender.way,
            accuracies=tuple(score.accuracy for score in of_each[index]),
            accuracy=float(means[index]),
            error=float(errors[index]),
            low=max(0.0, float(means[index] - quantile * errors[index])),
            high=min(1.0, float(means[index] + quantile * errors[index])),
            gain=float(means[index] - means[0]),
            tied=tied[index],
            training_macs=_training_macs(contender, proxy),
        )
        for index, contender in enumerate(contenders)
    )
    return ComparisonResult(
        images=images,
        comparison=comparison,
        proxy=proxy,
        count=count,
        outcomes=outcomes,
        training_macs=sum(outcome.training_macs for outcome in outcomes),
        limitations=_limits(comparison, proxy),
    )


def verdict(compared: ComparisonResult) -> str:
    """Return a sentence that compares compound scaling with the best single dimension, or the two best laws."""
    scaled: dict[Way, ContenderResult] = {outcome.way: outcome for outcome in compared.outcomes[1:]}
    compound = scaled.pop("compound", None)
    if compound is None:
        compound = scaled.pop(compared.best.way)
        if not scaled:
            return f"the law {compound.way} reaches {compound.accuracy:.1%}: {100 * compound.gain:+.1f} points"
        title, rival_title = f"the law {compound.way}", ", the second"
    else:
        title, rival_title = "compound scaling", " only, the best single dimension"
    rival = max(scaled.values(), key=lambda outcome: outcome.accuracy)
    gap = 100 * (compound.accuracy - rival.accuracy)
    if compared.near_chance:
        end = f"; all are near chance ({1 / compared.comparison.baseline.classes:.1%}), so nothing is compared"
    elif len(compared.proxy.seeds) == 1:
        end = "; with one seed the spread between trainings is unknown, so the networks are not ranked"
    elif compound.tied and rival.tied:
        end = f", a tie: {_seeds(compared.proxy)} cannot distinguish it from zero"
    else:
        end = ""
    return (
        f"{title} reaches {compound.accuracy:.1%} and {rival.way}{rival_title}, "
        f"{rival.accuracy:.1%}: {gap:+.1f} points{end}"
    )


def counted_in_words(number: int) -> str:
    """Return a small number as a word.

    Example:
        >>> counted_in_words(4), counted_in_words(12)
        ('four', '12')
    """
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) else str(number)


def _seeds(proxy: Proxy) -> str:
    return "one seed" if len(proxy.seeds) == 1 else f"{len(proxy.seeds)} seeds"


def _training_macs(contender: Contender, proxy: Proxy) -> int:
    return PASSES * contender.macs.achieved * proxy.images * proxy.epochs * len(proxy.seeds)


def _limits(comparison: Comparison, proxy: Proxy) -> tuple[str, ...]:
    number, unevenness = counted_in_words(len(comparison.contenders) - 1), comparison.unevenness
    length = f"{proxy.epochs} {'epoch' if proxy.epochs == 1 else 'epochs'} of {proxy.images} images"
    sentences = [
        f"all were trained for {length} with one recipe; a larger network might gain more from another or a longer one",
        f"the cheapest of the {number} scaled networks costs {unevenness:.1%} less than the most expensive",
    ]
    if len(proxy.seeds) == 1:
        return (*sentences, "one seed was used, so the spread between seeds is not known")
    return (*sentences, f"{len(proxy.seeds)} seeds were used, on one division of the images")
