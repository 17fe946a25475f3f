"""Epochs to accuracy of a network with weights inherited from another size, compared with training from scratch.

Run with: python benchmarks/inherit.py IMAGES --source RUN [--epochs 6] [--seeds 0 1 2] --out DIR

RUN is a finished training on the same images. Its network is scaled to 1.5 and 0.6 times its MACs by the paper's law;
each is trained with every seed, from scratch with the recipe ``small``, and from inherited weights with the same recipe
at a quarter of the learning rate. A run that is already in DIR is not trained again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from triscale.data.sources.local import absolute
from triscale.jobs.core.run import Request, RunFolder
from triscale.jobs.fit import train
from triscale.jobs.training.initial_weights import find_initial_weights, for_finetuning
from triscale.jobs.training.train import read_history
from triscale.network.cost import cost
from triscale.network.spec import Network
from triscale.results.metrics import Metrics
from triscale.scaling.budget import Budget
from triscale.scaling.law import EFFICIENTNET
from triscale.training.context import ExecutionContext
from triscale.training.recipe import get_recipe

TIMES = (1.5, 0.6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    source = RunFolder.open(arguments.source)
    network = source.spec.network
    assert isinstance(network, Network)
    macs = cost(network).macs
    small = get_recipe("small").model_copy(update={"epochs": arguments.epochs})
    start = find_initial_weights(f"inherit:{arguments.source}")
    print(f"source: {network.name}, {macs:,} MACs, {Metrics.load(source.metrics_file).top1:.2%} on the test images")
    for times in TIMES:
        curves: dict[str, list[list[float]]] = {"from scratch": [], "inherited": []}
        tested: dict[str, list[float]] = {name: [] for name in curves}
        achieved = 0
        for seed in arguments.seeds:
            for name, begin, recipe in (("from scratch", None, small), ("inherited", start, for_finetuning(small))):
                run = RunFolder(arguments.out / f"{name.replace(' ', '-')}-{times:g}-{seed}")
                if not run.metrics_file.is_file():
                    request = Request(
                        images=absolute(arguments.images),
                        network=network,
                        budget=Budget(macs=int(times * macs)),
                        law=EFFICIENTNET,
                        recipe=recipe,
                        seed=seed,
                        test_share=0.2,
                        start=begin,
                    )
                    train(request, run.folder, ExecutionContext())
                achieved = cost(run.spec.network).macs  # type: ignore[arg-type]
                curves[name].append([epoch.val_top1 for epoch in read_history(run)])
                tested[name].append(Metrics.load(run.metrics_file).top1)
        goal = np.mean([curve[-1] for curve in curves["from scratch"]])
        print(f"\n{times:g} times the MACs ({achieved:,}); held-out accuracy after each epoch, mean of the seeds, %")
        for name, of_seeds in curves.items():
            mean = 100 * np.mean(of_seeds, axis=0)
            reached = [index + 1 for index, value in enumerate(mean) if value >= 100 * goal]
            epochs_to_goal = f"{reached[0]} epochs" if reached else "not"
            print(
                f"  {name:<13} {' '.join(f'{value:5.1f}' for value in mean)}   test "
                f"{100 * np.mean(tested[name]):.1f} (deviation {100 * np.std(tested[name], ddof=1):.1f})   reached "
                f"{100 * goal:.1f}: {epochs_to_goal}"
            )


if __name__ == "__main__":
    main()
