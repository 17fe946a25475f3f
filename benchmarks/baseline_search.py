"""Compare the strategies of the baseline search by the reward they reach with few evaluations.

Run with: python benchmarks/baseline_search.py surface [--seeds 20]
      or: python benchmarks/baseline_search.py table FILE
      or: python benchmarks/baseline_search.py ranks FILE
      or: python benchmarks/baseline_search.py speed

``surface``: on the landscapes of tests/search/landscape.py, where accuracy is a formula of the choices and the exact
MACs of MnasNet's space around MobileNetV2, with the noise of 2,000 validation images. A strategy observes noisy
rewards. Its score is the noise-free reward of the sample with the best observed reward. The settings of the strategies
were chosen on landscapes 0 to 15; this benchmark starts at 1000.

``table``: on networks that were trained in advance. FILE holds ``{"space": ..., "objective": ..., "rows": [{"sample":
[...], "accuracy": ..., "macs": ...}, ...]}``: the records of a space and an objective, and a row for each network of
the space, with its cost under the objective's name. The score of a strategy is the best observed reward.

Every proposal counts as an evaluation, repeated ones included. Differences to random search are paired by landscape or
seed. Overhead is processor time within the strategy.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from search.landscape import IMAGES, REFERENCE_MACS, Ground, Landscape
from triscale.errors import SearchError
from triscale.network.cost import count_network
from triscale.record import KIND_KEY, SCHEMA_KEY
from triscale.search.baseline.objective import Observation, SearchObjective
from triscale.search.baseline.ranking import rank
from triscale.search.baseline.space import Sample, Space, mnasnet
from triscale.search.baseline.strategies import STRATEGIES, make_strategy
from triscale.search.baseline.strategies.strategy import Strategy

AFTER = (25, 50, 100, 200, 500)
FIRST_LANDSCAPE = 1000
PROXY_SECONDS = 10
"""Minimum time to train a network; overhead is shown relative to it."""

Answer = Callable[[Sample], Observation]


class Curve(NamedTuple):
    """One search: rewards after given numbers of evaluations, distinct networks, and seconds per evaluation."""

    rewards: list[float]
    distinct: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    shared.add_argument("--seeds", type=int, default=20)
    shared.add_argument("--batch", type=int, default=10, help="samples per proposal")
    commands = parser.add_subparsers(required=True)
    surface = commands.add_parser("surface", parents=[shared], help="use a closed-form accuracy")
    surface.add_argument("--form", default="soft", choices=("soft", "hard", "constraint"))
    surface.add_argument("--target", type=float, default=REFERENCE_MACS, help="MACs")
    surface.add_argument("--first", type=int, default=FIRST_LANDSCAPE, help="number of the first landscape")
    surface.set_defaults(run=on_surface)
    table = commands.add_parser("table", parents=[shared], help="use networks trained in advance")
    table.add_argument("file", type=Path)
    table.set_defaults(run=on_table)
    ranks = commands.add_parser("ranks", help="compare the ranking of proxies on networks trained in advance")
    ranks.add_argument("file", type=Path)
    ranks.set_defaults(run=on_ranks)
    speed = commands.add_parser("speed", help="time sampling, lowering and counting networks")
    speed.set_defaults(run=on_speed)
    arguments = parser.parse_args()
    print(f"# python benchmarks/baseline_search.py {' '.join(sys.argv[1:])}")
    print(
        f"# {platform.machine()}, one thread of a busy machine; numpy {np.__version__}, optuna {optuna.__version__}\n"
    )
    arguments.run(arguments)


def on_surface(arguments: argparse.Namespace) -> None:
    """Search landscapes with every strategy."""
    objective = SearchObjective(target=arguments.target, form=arguments.form)
    ground = Ground(mnasnet())
    numbers = range(arguments.first, arguments.first + arguments.seeds)
    print(f"{ground.space.name} around {ground.space.skeleton.name}: {len(ground.space.places)} choices,", end=" ")
    print(f"{ground.space.size:.1e} samples; accuracy observed on {IMAGES} images")
    print(f"reward: {objective.form}, {objective.target / 1e6:g}M MACs; {len(numbers)} landscapes,", end=" ")
    print(f"from number {arguments.first} on; batches of {arguments.batch}\n")
    curves: dict[str, list[Curve]] = {}
    for name in arguments.strategies:
        curves[name] = []
        for number in numbers:
            landscape = Landscape(ground, number)
            curves[name].append(
                search(
                    make_strategy(name, ground.space, number, objective),
                    partial(landscape.observe, objective=objective),
                    partial(truth, landscape, objective),
                    ground.canonical,
                    AFTER,
                    arguments.batch,
                )
            )
    show(curves, AFTER)


def on_ranks(arguments: argparse.Namespace) -> None:
    """Compare the ranking of each proxy with the final accuracies of the networks in a table."""
    rows = json.loads(arguments.file.read_text())["rows"]
    proxies = {f"after epoch {at + 1}": [row["epochs"][at] for row in rows] for at in range(len(rows[0]["epochs"]) - 1)}
    proxies |= {"supernet": [row["supernet"] for row in rows], "MACs": [row["macs"] for row in rows]}
    for name, values in proxies.items():
        ranking = rank(values, [row["accuracy"] for row in rows])
        print(f"{name:<14} Kendall {ranking.kendall:+.2f} ({ranking.low:+.2f} to {ranking.high:+.2f})", end="")
        print(f", Spearman {ranking.spearman:+.2f}, {ranking.networks} networks")


def on_speed(arguments: argparse.Namespace) -> None:
    """Sample networks of MnasNet's space, lower and count them, without torch."""
    del arguments
    space, rng = mnasnet(), random.Random(0)
    for kind, number in (("from scratch", 2000), ("once more", 2000)):
        started = time.process_time()
        for _ in range(number):
            count_network(space.network(space.sample(rng)))
        print(f"{number / (time.process_time() - started):.0f} networks/s ({kind}); torch: {'torch' in sys.modules}")


def truth(landscape: Landscape, objective: SearchObjective, observation: Observation) -> float:
    """Return the reward without noise."""
    return landscape.reward(observation.sample, objective)


def on_table(arguments: argparse.Namespace) -> None:
    """Search a table of trained networks with every strategy, with as many evaluations as networks."""
    table = read_table(arguments.file)
    best = max(observation.reward for observation in table.rows.values())
    after = (*(2**power for power in range(2, 12) if 2**power < len(table.rows)), len(table.rows))
    print(f"{arguments.file.name}: {table.space.size} samples, {len(table.rows)} networks; best reward {best:.4f}")
    print(f"reward: {table.objective!r}; {arguments.seeds} seeds, batches of {arguments.batch}\n")
    curves = {
        name: [
            search(
                make_strategy(name, table.space, seed, table.objective),
                table.observe,
                lambda observation: observation.reward,
                table.network,
                after,
                arguments.batch,
            )
            for seed in range(arguments.seeds)
        ]
        for name in arguments.strategies
    }
    show(curves, after)
    print("\nsearches that have found the best of all, after evaluations")
    print(f"{'strategy':<10}" + "".join(f"{count:>16}" for count in after))
    for name, of_strategy in curves.items():
        hits = np.array([curve.rewards for curve in of_strategy]) >= best
        print(f"{name:<10}" + "".join(f"{share:>16.0%}" for share in hits.mean(axis=0)))


class Table:
    """Trained networks of a space by structure, since different samples can give the same network."""

    def __init__(self, space: Space, objective: SearchObjective, rows: Sequence[dict[str, Any]]) -> None:
        self.space, self.objective = space, objective
        self.rows: dict[str, Observation] = {}
        for row in rows:
            sample, accuracy, cost = tuple(row["sample"]), row["accuracy"], row[objective.cost]
            trained = accuracy if objective.admits(cost) else None
            observation = Observation(sample, objective.reward(trained or 0.0, cost), trained, cost)
            self.rows[space.network(sample).structure] = observation
        self._structures: dict[Sample, str] = {}

    def observe(self, sample: Sample) -> Observation:
        """Return the observation of a sample.

        Raises:
            SearchError: Its network is not in the table.
        """
        network = self.network(sample)
        if network not in self.rows:
            raise SearchError(f"no row has the network of {sample}; the table must hold all {self.space.size} samples")
        return self.rows[network]._replace(sample=sample)

    def network(self, sample: Sample) -> str:
        """Return the structure digest of a sample's network."""
        if sample not in self._structures:
            self._structures[sample] = self.space.network(sample).structure
        return self._structures[sample]


def read_table(file: Path) -> Table:
    """Read a table of trained networks."""
    content = json.loads(file.read_text())
    # A record in a file of its own has two more keys: its kind and its schema.
    space = {key: value for key, value in content["space"].items() if key not in (KIND_KEY, SCHEMA_KEY)}
    return Table(
        Space.parse(space, f"the space of {file}"),
        SearchObjective.parse(content["objective"], f"the objective of {file}"),
        content["rows"],
    )


def search(
    strategy: Strategy,
    answer: Answer,
    judge: Callable[[Observation], float],
    network: Callable[[Sample], object],
    after: Sequence[int],
    batch: int,
) -> Curve:
    """Run a search with a strategy.

    Args:
        strategy: A new strategy.
        answer: Returns the observation of a sample.
        judge: Returns the score of the sample with the best observed reward.
        network: Returns a key that is equal for samples that give the same network.
        after: Numbers of evaluations to score at; the last ends the search.
        batch: Number of samples per proposal.
    """
    best: list[Observation] = []
    networks: set[object] = set()
    seconds = 0.0
    while len(best) < after[-1]:
        started = time.process_time()
        proposed = strategy.ask(min(batch, after[-1] - len(best)))
        seconds += time.process_time() - started
        outcomes = [answer(sample) for sample in proposed]
        started = time.process_time()
        strategy.tell(outcomes)
        seconds += time.process_time() - started
        for outcome in outcomes:
            best.append(outcome if not best or outcome.reward > best[-1].reward else best[-1])
            networks.add(network(outcome.sample))
    return Curve([judge(best[count - 1]) for count in after], len(networks), seconds / len(best))


def show(curves: dict[str, list[Curve]], after: Sequence[int]) -> None:
    """Print the rewards of the searches, their gains over random search, and the overhead."""
    rewards = {name: np.array([curve.rewards for curve in of_strategy]) for name, of_strategy in curves.items()}
    print("100 x best reward after evaluations: mean (standard deviation of searches)")
    print(f"{'strategy':<10}" + "".join(f"{count:>16}" for count in after))
    for name, values in rewards.items():
        cells = zip(100 * values.mean(axis=0), 100 * values.std(axis=0, ddof=1), strict=True)
        print(f"{name:<10}" + "".join(f"{f'{mean:.2f} ({spread:.2f})':>16}" for mean, spread in cells))
    if "random" in rewards:
        print("\ngain over random search: mean of paired differences +- its standard error")
        for name in [name for name in rewards if name != "random"]:
            gains = 100 * (rewards[name] - rewards["random"])
            errors = gains.std(axis=0, ddof=1) / len(gains) ** 0.5
            cells = zip(gains.mean(axis=0), errors, strict=True)
            print(f"{name:<10}" + "".join(f"{f'{gain:+.2f} +- {error:.2f}':>16}" for gain, error in cells))
    print(f"\n{'strategy':<10} {'distinct networks':>18} {'overhead':>26} {f'of {PROXY_SECONDS} s':>8}")
    for name, of_strategy in curves.items():
        distinct, seconds = (
            np.mean([getattr(curve, field) for curve in of_strategy]) for field in ("distinct", "seconds")
        )
        took = f"{1e6 * seconds:.0f} us/evaluation"
        print(f"{name:<10} {distinct:>11.0f} of {after[-1]:<4} {took:>25} {seconds / PROXY_SECONDS:>8.4%}")


if __name__ == "__main__":
    main()
