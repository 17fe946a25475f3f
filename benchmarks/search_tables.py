"""Compare the strategies of the baseline search on trainings that others published.

Run with: python benchmarks/search_tables.py ACCEL MACRO [--replays 50] [--formula-replays 10] [--evaluations 100]
          [--strategies bayesian ppo ...] [--protocols pool complete formula]

ACCEL is ``accel_nasbench.csv.gz`` (5138 networks of EfficientNet-B0's skeleton, trained on ImageNet;
afzalxo/Accel-NASBench, Apache-2.0), MACRO ``nas_bench_macro.csv.gz`` (6561 networks, trained on CIFAR-10 with three
seeds; xiusu/NAS-Bench-Macro, Apache-2.0). Three protocols:

- ``pool``: only the networks of ACCEL have an answer. ``bayesian`` and ``random`` choose among those that were not
  evaluated yet. The other strategies propose any network, and get the answer of the nearest of these, by the number of
  choices that differ.
- ``complete``: every proposal has its answer in MACRO, that of one seed (number of the replay modulo 3). The score is
  the mean over the three seeds.
- ``formula``: any of the 1.0e11 networks of ACCEL's space, answered by a ridge regression of top-1 on choices, pairs of
  choices and the logarithms of MACs and parameters, plus a normal error of 0.3 points. The score is without the error.

Two objectives: top-1, and top-1 x (MACs / target)^-.07 with the median of the table as the target. The score is that of
the network with the best answer, in points. ``within``: share of replays whose score is at most the tolerance below the
best of the table. ``volume``: hypervolume of the front of answers (top-1 in points over the logarithm of MACs, from the
worst of the table), as a share of that of random search with ten times as many evaluations. Intervals are 95%.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from triscale.network.cost import count_network
from triscale.search.baseline.accuracy_table import find_table, read_table
from triscale.search.baseline.objective import EXPONENT, Observation, SearchObjective, front
from triscale.search.baseline.space import Choice, Sample
from triscale.search.baseline.strategies import STRATEGIES, make_strategy
from triscale.search.baseline.strategies.bayesian import KnownCost, figures_of

AFTER = (25, 50, 64, 100, 200, 500)
BATCH = 10
Z_95 = 1.96
NOISE = 0.3
RIDGE = 10.0


class Place(NamedTuple):
    """A space whose samples have answers.

    Attributes:
        space: Samples and mutates.
        pool: The samples with an answer; empty if all have one.
        figures: Cost of a sample.
        answer: Top-1 of a sample in a replay.
        truth: Top-1 that the score counts.
        costs: MACs of some samples, whose median is the target.
    """

    space: Any
    pool: list[Sample]
    figures: Callable[[Sample], KnownCost]
    answer: Callable[[Sample, int], float]
    truth: Callable[[Sample], float]
    costs: list[float]


class Layers:
    """The space of MACRO: eight layers with three options each."""

    free_choices = tuple(Choice(layer, "operations", (0, 1, 2)) for layer in range(8))
    size = 3**8

    def sample(self, rng: Any) -> Sample:
        """Draw a random sample."""
        return tuple(int(rng.random() * 3) for _ in range(8))

    def mutate(self, sample: Sample, rng: Any) -> Sample:
        """Change one layer."""
        place = int(rng.random() * 8)
        return (*sample[:place], (sample[place] + 1 + int(rng.random() * 2)) % 3, *sample[place + 1 :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accel", type=Path)
    parser.add_argument("macro", type=Path)
    parser.add_argument("--replays", type=int, default=50)
    parser.add_argument("--formula-replays", type=int, default=10)
    parser.add_argument("--evaluations", type=int, default=100)
    parser.add_argument("--strategies", nargs="+", choices=list(STRATEGIES), default=list(STRATEGIES))
    parser.add_argument("--protocols", nargs="+", default=["pool", "complete", "formula"])
    arguments = parser.parse_args()
    print(f"# python benchmarks/search_tables.py {' '.join(sys.argv[1:])}\n")
    for protocol in arguments.protocols:
        place = (
            macro(arguments.macro) if protocol == "complete" else accel(arguments.accel, whole=protocol == "formula")
        )
        replays = arguments.formula_replays if protocol == "formula" else arguments.replays
        for exponent in (0.0, EXPONENT):
            compare(protocol, place, exponent, replays, arguments)


def rows_of(file: Path) -> list[dict[str, str]]:
    with gzip.open(file, "rt") as lines:
        return list(csv.DictReader(lines))


def macro(file: Path) -> Place:
    rows = {tuple(map(int, row["arch"])): row for row in rows_of(file)}
    scores = {sample: [float(row[f"acc{seed}"]) for seed in range(3)] for sample, row in rows.items()}

    def figures(sample: Sample) -> KnownCost:
        macs, params = float(rows[sample]["flops"]), float(rows[sample]["params"])
        depth = float(sum(option > 0 for option in sample))
        return KnownCost(str(sample), {"macs": macs}, (math.log(macs), math.log(params), depth))

    costs = [float(row["flops"]) for row in rows.values()]
    return Place(
        Layers(), [], figures, lambda sample, replay: scores[sample][replay % 3],
        lambda sample: float(np.mean(scores[sample])), costs,
    )  # fmt: skip


def accel(file: Path, *, whole: bool) -> Place:
    source, space = find_table(file)
    assert space is not None
    count = figures_of(space)
    known: dict[Sample, KnownCost] = {}

    def figures(sample: Sample) -> KnownCost:
        if sample not in known:
            known[sample] = count(sample)
        return known[sample]

    scores = {answer.sample: 100 * answer.accuracy for answer in read_table(source, space).answers.values()}
    assert all(
        round(count_network(space.network(sample)).params / 1e6, 4) == round(float(row["params_millions"]), 4)
        for sample, row in zip(list(scores)[:100], rows_of(file), strict=False)
    )
    pool = list(scores)
    costs = [figures(sample).costs["macs"] for sample in pool]
    if not whole:
        return Place(space, pool, figures, lambda sample, replay: scores[sample], scores.__getitem__, costs)
    formula = fitted([len(choice.options) for choice in space.free_choices], pool, list(scores.values()), figures)

    def answer(sample: Sample, replay: int) -> float:
        return formula(sample) + NOISE * random.Random(f"{replay} {sample}").gauss(0, 1)

    return Place(space, [], figures, answer, formula, costs)


def fitted(
    sizes: Sequence[int], samples: Sequence[Sample], scores: Sequence[float], figures: Callable[[Sample], KnownCost]
) -> Callable[[Sample], float]:
    """Return the formula, and print its R^2 on a tenth of the samples that it was not fitted to."""

    def inputs(some: Sequence[Sample]) -> np.ndarray:
        points = np.concatenate([np.eye(size)[np.array(some)[:, at]] for at, size in enumerate(sizes)], axis=1)
        first, second = np.triu_indices(points.shape[1], 1)
        costs = np.array([figures(sample).features[:2] for sample in some])
        return np.concatenate([points, points[:, first] * points[:, second], 3 * (costs - center)], axis=1)

    center = np.mean([figures(sample).features[:2] for sample in samples], axis=0)
    whole, values = inputs(samples), np.array(scores)
    order = np.random.default_rng(0).permutation(len(values))
    train, test = order[len(values) // 10 :], order[: len(values) // 10]

    def weights(among: np.ndarray) -> np.ndarray:
        gram = whole[among] @ whole[among].T + RIDGE * np.eye(len(among))
        return whole[among].T @ np.linalg.solve(gram, values[among] - values[among].mean())

    missed = whole[test] @ weights(train) + values[train].mean() - values[test]
    print(f"formula: R^2 {1 - (missed**2).mean() / values[test].var():.3f} on {len(test)} networks left out\n")
    final, mean = weights(order), values.mean()
    kept: dict[Sample, float] = {}

    def formula(sample: Sample) -> float:
        if sample not in kept:
            kept[sample] = float((inputs([sample]) @ final)[0] + mean)
        return kept[sample]

    return formula


def compare(protocol: str, place: Place, exponent: float, replays: int, arguments: argparse.Namespace) -> None:
    """Print a table: all strategies with one protocol and objective."""
    objective = SearchObjective(target=float(np.median(place.costs)), exponent=exponent)

    def score(sample: Sample) -> float:
        return objective.reward(place.truth(sample), place.figures(sample).costs["macs"])

    after = [count for count in AFTER if count <= arguments.evaluations]
    every = place.pool or (list(np.ndindex(*[3] * 8)) if protocol == "complete" else [])
    best = max(map(score, every)) if every else None
    tolerance = 0.1 if protocol == "complete" and exponent == 0 else 0.5
    name = "top-1" if exponent == 0 else f"top-1 x (MACs / {objective.target / 1e6:.0f}M)^{exponent}"
    print(f"{protocol}, {name}: {replays} replays, batches of {BATCH}", end="")
    print(f"; best of the table {best:.2f}, within {tolerance}" if best else "")
    print(
        f"{'strategy':<10}"
        + "".join(f"{count:>16}" for count in after)
        + f"{'within':>8}{'different':>11}{'volume':>16}"
    )
    if protocol == "complete":
        costs = [place.figures(sample).costs["macs"] for sample in every]
        chosen = []
        for seed in range(3):
            answers = [objective.reward(place.answer(one, seed), cost) for one, cost in zip(every, costs, strict=True)]
            chosen.append(score(every[int(np.argmax(answers))]))
        reached = sum(one >= best - tolerance for one in chosen)
        print(f"best of all networks by one seed: {', '.join(f'{one:.2f}' for one in chosen)}; within: {reached} of 3")
    many = [volume(place, random_samples(place, replay, 10 * after[-1]), replay) for replay in range(replays)]
    for strategy in arguments.strategies:
        scores, different, volumes = [], [], []
        for replay in range(replays):
            samples = searched(strategy, place, objective, replay, after[-1])
            rewards = [
                objective.reward(place.answer(sample, replay), place.figures(sample).costs["macs"])
                for sample in samples
            ]
            scores.append([score(samples[int(np.argmax(rewards[:count]))]) for count in after])
            different.append(len({place.figures(sample).structure for sample in samples}))
            volumes.append(volume(place, samples, replay) / float(np.mean(many)))
        values = np.array(scores)
        cells = "".join(f"{interval(values[:, at]):>16}" for at in range(len(after)))
        within = f"{np.mean(values[:, -1] >= best - tolerance):>8.0%}" if best else f"{'':>8}"
        print(f"{strategy:<10}{cells}{within}{np.mean(different):>11.0f}{interval(np.array(volumes)):>16}", flush=True)
    print()


def interval(values: np.ndarray) -> str:
    return f"{values.mean():.2f} +-{Z_95 * values.std(ddof=1) / len(values) ** 0.5:.2f}"


def random_samples(place: Place, replay: int, count: int) -> list[Sample]:
    rng = random.Random(f"many {replay}")
    if place.pool:
        return rng.sample(place.pool, min(count, len(place.pool)))
    return [place.space.sample(rng) for _ in range(count)]


def volume(place: Place, samples: Sequence[Sample], replay: int) -> float:
    """Return the hypervolume of the front, from 0 accuracy points above the worst and the largest cost."""
    answers = [place.answer(sample, replay) for sample in samples]
    costs = [math.log(place.figures(sample).costs["macs"]) for sample in samples]
    low, high = 40.0 if max(answers) < 80 else 80.0, math.log(2 * max(place.costs))
    total, last = 0.0, low
    for index in front(answers, costs):
        total += max(0.0, answers[index] - last) * max(0.0, high - costs[index])
        last = max(last, answers[index])
    return total


def searched(name: str, place: Place, objective: SearchObjective, replay: int, evaluations: int) -> list[Sample]:
    """Return the evaluated samples of a search, in order."""
    strategy = make_strategy(name, place.space, replay, objective, pool=place.pool or None, figures=place.figures)
    evaluated: list[Sample] = []
    while len(evaluated) < evaluations:
        outcomes = []
        for sample in strategy.ask(min(BATCH, evaluations - len(evaluated))):
            accuracy, cost = place.answer(sample, replay) / 100, place.figures(sample).costs["macs"]
            outcomes.append(Observation(sample, objective.reward(accuracy, cost), accuracy, cost))
            evaluated.append(sample)
        strategy.tell(outcomes)
    return evaluated


if __name__ == "__main__":
    main()
