"""How good a network does each strategy of the baseline search find in a small number of evaluations?

Run with: python benchmarks/baseline_search.py surface [--seeds 20]
      or: python benchmarks/baseline_search.py table FILE
      or: python benchmarks/baseline_search.py ranks FILE
      or: python benchmarks/baseline_search.py speed

``surface``: on the landscapes of tests/search/landscape.py, accuracy as a formula of the choices and the exact MACs of
MnasNet's space around MobileNetV2, observed with the noise of 2000 validation images. A strategy sees what is observed,
and is judged by the reward without noise of what it would return: the sample of the best reward observed. The settings
of the strategies were chosen on landscapes 0 to 15; the ones used here begin at 1000.

``table``: on networks that were all trained before. FILE holds ``{"space": ..., "objective": ..., "rows": [{"sample":
[...], "accuracy": ..., "macs": ...}, ...]}``: the records of a space and an objective, and a row for each network of
the space with its cost under the objective's name for it. A strategy is judged by the best reward that it has seen.

Every proposal counts as an evaluation, also where it repeats another. Differences to random search are paired: both
searched the same landscape, or with the same seed. Overhead is processor time inside of the strategy.
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
from triscale.search.baseline.objective import Objective, Observation
from triscale.search.baseline.ranking import rank
from triscale.search.baseline.space import Sample, Space, mnasnet
from triscale.search.baseline.strategies import STRATEGIES, make_strategy
from triscale.search.baseline.strategies.strategy import Strategy

AFTER = (25, 50, 100, 200, 500)
FIRST_LANDSCAPE = 1000
PROXY_SECONDS = 10
"""What training a network takes at least; overhead is shown as a share of it."""

Answer = Callable[[Sample], Observation]


class Curve(NamedTuple):
    """One search: the reward, as it is judged, after some evaluations; distinct networks; seconds for an evaluation."""

    rewards: list[float]
    distinct: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    shared.add_argument("--seeds", type=int, default=20)
    shared.add_argument("--batch", type=int, default=10, help="samples that are proposed at a time")
    commands = parser.add_subparsers(required=True)
    surface = commands.add_parser("surface", parents=[shared], help="on accuracy as a formula")
    surface.add_argument("--form", default="soft", choices=("soft", "hard", "constraint"))
    surface.add_argument("--target", type=float, default=REFERENCE_MACS, help="MACs")
    surface.add_argument("--first", type=int, default=FIRST_LANDSCAPE, help="number of the first landscape")
    surface.set_defaults(run=on_surface)
    table = commands.add_parser("table", parents=[shared], help="on networks that were trained before")
    table.add_argument("file", type=Path)
    table.set_defaults(run=on_table)
    ranks = commands.add_parser("ranks", help="how proxies order networks that were trained before")
    ranks.add_argument("file", type=Path)
    ranks.set_defaults(run=on_ranks)
    speed = commands.add_parser("speed", help="of sampling, lowering and counting networks")
    speed.set_defaults(run=on_speed)
    arguments = parser.parse_args()
    print(f"# python benchmarks/baseline_search.py {' '.join(sys.argv[1:])}")
    print(
        f"# {platform.machine()}, one thread of a busy machine; numpy {np.__version__}, optuna {optuna.__version__}\n"
    )
    arguments.run(arguments)


def on_surface(arguments: argparse.Namespace) -> None:
    """Search landscapes with every strategy."""
    objective = Objective(target=arguments.target, form=arguments.form)
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
    """Compare what each proxy says of the networks of a table with their accuracies at the end."""
    rows = json.loads(arguments.file.read_text())["rows"]
    proxies = {f"after epoch {at + 1}": [row["epochs"][at] for row in rows] for at in range(len(rows[0]["epochs"]) - 1)}
    proxies |= {"supernet": [row["supernet"] for row in rows], "MACs": [row["macs"] for row in rows]}
    for name, values in proxies.items():
        found = rank(values, [row["accuracy"] for row in rows])
        print(f"{name:<14} Kendall {found.kendall:+.2f} ({found.low:+.2f} to {found.high:+.2f})", end="")
        print(f", Spearman {found.spearman:+.2f}, {found.networks} networks")


def on_speed(arguments: argparse.Namespace) -> None:
    """Draw samples of MnasNet's space, make their networks, lower and count them; torch is not loaded."""
    del arguments
    space, rng = mnasnet(), random.Random(0)
    for kind, most in (("from scratch", 2000), ("once more", 2000)):
        begun = time.process_time()
        for _ in range(most):
            count_network(space.network(space.sample(rng)))
        print(f"{most / (time.process_time() - begun):.0f} networks a second ({kind}); torch: {'torch' in sys.modules}")


def truth(landscape: Landscape, objective: Objective, told: Observation) -> float:
    """Return the reward without noise."""
    return landscape.reward(told.sample, objective)


def on_table(arguments: argparse.Namespace) -> None:
    """Search what was trained before with every strategy, until as much was proposed as there is."""
    table = read_table(arguments.file)
    best = max(told.reward for told in table.rows.values())
    after = (*(2**power for power in range(2, 12) if 2**power < len(table.rows)), len(table.rows))
    print(f"{arguments.file.name}: {table.space.size} samples, {len(table.rows)} networks; best reward {best:.4f}")
    print(f"reward: {table.objective!r}; {arguments.seeds} seeds, batches of {arguments.batch}\n")
    curves = {
        name: [
            search(
                make_strategy(name, table.space, seed, table.objective),
                table.told,
                lambda told: told.reward,
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
    for name, found in curves.items():
        hits = np.array([curve.rewards for curve in found]) >= best
        print(f"{name:<10}" + "".join(f"{share:>16.0%}" for share in hits.mean(axis=0)))


class Table:
    """Networks of a space that were all trained, by what they are: many a sample is the same network as another."""

    def __init__(self, space: Space, objective: Objective, rows: Sequence[dict[str, Any]]) -> None:
        self.space, self.objective = space, objective
        self.rows: dict[str, Observation] = {}
        for row in rows:
            sample, accuracy, cost = tuple(row["sample"]), row["accuracy"], row[objective.cost]
            trained = accuracy if objective.admits(cost) else None
            told = Observation(sample, objective.reward(trained or 0.0, cost), trained, cost)
            self.rows[space.network(sample).structure] = told
        self._structures: dict[Sample, str] = {}

    def told(self, sample: Sample) -> Observation:
        """Return what came of a sample.

        Raises:
            SearchError: its network is not in the table.
        """
        network = self.network(sample)
        if network not in self.rows:
            raise SearchError(f"no row has the network of {sample}; the table must hold all {self.space.size} samples")
        return self.rows[network]._replace(sample=sample)

    def network(self, sample: Sample) -> str:
        """Return what the network of a sample is."""
        if sample not in self._structures:
            self._structures[sample] = self.space.network(sample).structure
        return self._structures[sample]


def read_table(file: Path) -> Table:
    """Read a table of trained networks."""
    content = json.loads(file.read_text())
    # A record is written with its kind where it is a file of its own.
    space = {key: value for key, value in content["space"].items() if key not in (KIND_KEY, SCHEMA_KEY)}
    return Table(
        Space.parse(space, f"the space of {file}"),
        Objective.parse(content["objective"], f"the objective of {file}"),
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
    """Let a strategy search.

    Args:
        strategy: a new one.
        answer: what it is told of a sample.
        judge: the reward that counts of the sample which seemed best.
        network: the same for samples that are the same network.
        after: how many evaluations; the last is when the search ends.
        batch: how many samples it is asked for at a time.
    """
    best: list[Observation] = []
    networks: set[object] = set()
    seconds = 0.0
    while len(best) < after[-1]:
        begun = time.process_time()
        proposed = strategy.ask(min(batch, after[-1] - len(best)))
        seconds += time.process_time() - begun
        outcomes = [answer(sample) for sample in proposed]
        begun = time.process_time()
        strategy.tell(outcomes)
        seconds += time.process_time() - begun
        for told in outcomes:
            best.append(told if not best or told.reward > best[-1].reward else best[-1])
            networks.add(network(told.sample))
    return Curve([judge(best[count - 1]) for count in after], len(networks), seconds / len(best))


def show(curves: dict[str, list[Curve]], after: Sequence[int]) -> None:
    """Print what the searches found, how much more than random search did, and what the strategies took."""
    rewards = {name: np.array([curve.rewards for curve in found]) for name, found in curves.items()}
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
    for name, found in curves.items():
        distinct, seconds = (np.mean([getattr(curve, field) for curve in found]) for field in ("distinct", "seconds"))
        took = f"{1e6 * seconds:.0f} us/evaluation"
        print(f"{name:<10} {distinct:>11.0f} of {after[-1]:<4} {took:>25} {seconds / PROXY_SECONDS:>8.4%}")


if __name__ == "__main__":
    main()
