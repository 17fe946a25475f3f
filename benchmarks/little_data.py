"""Fine-tuning from weak pretrained weights with few images, compared with a linear probe on the same features.

Run with: python benchmarks/little_data.py CIFAR10 IMAGES --out DIR [--few 20] [--seeds 0 1 2]

A small network for 24 px is trained on a subset of CIFAR10 (folders train and test) for a few epochs. Then each seed
splits IMAGES, a folder of class folders without splits: ``--few`` images per class for training, the others for
testing. The network is fine-tuned with the recipe ``finetune``, and with the same recipe with a random classifier and
without a minimum number of steps. A linear probe is fitted to the features of the same images. A run that is already in
DIR is not trained again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from finetune_norms import divide, probe, tuned
from triscale.jobs.core.run import Request, RunFolder
from triscale.jobs.fit import train
from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem
from triscale.results.metrics import Metrics
from triscale.training.context import ExecutionContext
from triscale.training.recipe import get_recipe

DEFAULT = get_recipe("finetune")
WITHOUT = DEFAULT.model_copy(update={"head_init": "random", "min_steps": 0})
OF_EACH = 1000
"""Training images per class of CIFAR-10 for the pretrained network."""
EPOCHS = 6

NETWORK = Network(
    name="small",
    stem=Stem(width=16, stride=1),
    stages=(
        Stage(block=MBConv(expansion=1, se_ratio=0.25), width=16, repeats=1, stride=2),
        Stage(block=MBConv(expansion=3, se_ratio=0.25), width=24, repeats=2),
        Stage(block=MBConv(expansion=3, se_ratio=0.25), width=48, repeats=2, stride=2),
    ),
    head=Head(width=160),
    resolution=24,
    norm=BatchNorm(),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cifar10", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    source = pretrained(arguments.cifar10, arguments.out)
    print(f"source: {100 * Metrics.load(source.metrics_file).top1:.1f} % on the test images of CIFAR-10", flush=True)
    accuracies: dict[str, list[float]] = {"finetune": [], "at random, few steps": [], "linear probe": []}
    for seed in arguments.seeds:
        folder = arguments.out / f"images-{arguments.few}-{seed}"
        if not folder.is_dir():
            divide(arguments.images, folder, arguments.few, seed)
        default, without = (arguments.out / f"{name}-{arguments.few}-{seed}" for name in ("default", "without"))
        accuracies["finetune"].append(tuned(source, folder, default, DEFAULT, seed))
        accuracies["at random, few steps"].append(tuned(source, folder, without, WITHOUT, seed))
        accuracies["linear probe"].append(probe(source, folder, default))
    print(f"{arguments.few} images a class, test accuracy in %, seeds {arguments.seeds}")
    for name, values in accuracies.items():
        print(f"  {name:<21} {100 * np.mean(values):.1f}: {', '.join(f'{100 * value:.1f}' for value in values)}")


def pretrained(cifar10: Path, out: Path) -> RunFolder:
    """Return the pretrained network, trained on the first images of each class."""
    folder, run = out / "part-of-cifar10", RunFolder(out / "pretrained")
    if run.metrics_file.is_file():
        return run
    for part, number in (("train", OF_EACH), ("test", None)):
        for of_class in sorted((cifar10 / part).iterdir()):
            to = folder / part / of_class.name
            to.mkdir(parents=True, exist_ok=True)
            for path in sorted(of_class.iterdir())[:number]:
                shutil.copy(path, to / path.name)
    request = Request(
        images=str(folder.resolve()),
        network=NETWORK,
        budget=None,
        law=None,
        recipe=get_recipe("small").model_copy(update={"epochs": EPOCHS}),
        seed=0,
        test_share=0.2,
    )
    train(request, run.folder, ExecutionContext())
    return run


if __name__ == "__main__":
    main()
