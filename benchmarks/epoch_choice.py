"""Which epoch's weights to keep, when few images validate.

Run with: python benchmarks/epoch_choice.py IMAGES [IMAGES ...] --weights FILE --out DIR [--targets 96 96:36M]
              [--sizes 20 40 90 200] [--seeds 1 2] [--epochs 10 40] [--images 400] [--judges 800]

FILE holds ImageNet weights, as ``triscale weights import`` writes them. A target SIZE is their network at SIZE pixels,
fine-tuned; SIZE:MACS is one scaled to at most MACS, which inherits the weights; ``scratch:SIZE`` is ResNet-18 from
random weights. Of every set, about ``--images`` images train, as in ``inherited_rate.py``, and up to ``--judges``
others validate, so that every epoch has the answer of its averaged weights to each of those. A training does not
depend on them: it has no early stopping.

Then the choice is repeated: 1000 times, as many of those images as each of ``--sizes`` are drawn without replacement,
every rule chooses an epoch by them alone, and the others judge the weights that it keeps. Rules:

    highest             the highest accuracy, of several the lowest loss
    loss                the lowest loss
    last                the last epoch
    smooth              the highest mean accuracy of three neighboring epochs
    one_standard_error  the last epoch whose accuracy is at most one standard error below the highest

``highest`` and ``one_standard_error`` are the settings of ``kept_epoch``, and keep the weights before the first step if
no epoch is as accurate.

Printed are the accuracy in % by ``highest``, and what each other rule gains in points: the mean over trainings and
draws, its 95% interval over trainings, and the worst training. At least 50 images judge,
and a row has at least two trainings. A training that is in DIR is
not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

import triscale as ts
from heirs import at_size
from inherited_rate import subset
from triscale.families import get
from triscale.results.history import Epoch, KeptEpoch, kept_epoch
from triscale.training import loop
from triscale.training.evaluate import EvalOutput, evaluate

DRAWS = 1000
LEAST_JUDGES = 50
ResultsByEpoch = NDArray[np.float32]
"""Right answers (0 or 1) or losses ``[epochs, images]``; the first row is epoch 0, if the weights were pretrained."""
Rule = Callable[[ResultsByEpoch, ResultsByEpoch, int], int]
"""Chooses a row by the right answers and losses of validation images, and the number of the first epoch."""


def smoothed(right: ResultsByEpoch, _losses: ResultsByEpoch, _first: int) -> int:
    padded = np.pad(right.mean(1), 1, mode="edge")
    means = padded[:-2] + padded[1:-1] + padded[2:]
    return int(len(means) - 1 - means[::-1].argmax())


def by_triscale(rule: KeptEpoch) -> Rule:
    """Return the rule of a recipe."""

    def chosen(right: ResultsByEpoch, losses: ResultsByEpoch, first: int) -> int:
        means = zip(right.mean(1).tolist(), losses.mean(1).tolist(), strict=True)
        evaluated = [
            Epoch(
                epoch=epoch, step=epoch, learning_rate=0.0, train_loss=None, val_top1=score, val_loss=loss,
                images_per_second=0.0, seconds=0.0,
            )
            for epoch, (score, loss) in enumerate(means, start=first)
        ]  # fmt: skip
        return kept_epoch(evaluated, right.shape[1], rule).epoch - first

    return chosen


RULES: dict[str, Rule] = {
    "highest": by_triscale("highest"),
    "loss": lambda _right, losses, _first: int(losses.mean(1).argmin()),
    "last": lambda right, _losses, _first: len(right) - 1,
    "smooth": smoothed,
    "one_standard_error": by_triscale("one_standard_error"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", metavar="IMAGES")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", default=["96", "96:36M"], metavar="SIZE[:MACS]")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 40, 90, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--images", type=int, default=400, help="training images of a set, about")
    parser.add_argument("--judges", dest="tests", type=int, default=800, help="other images of a set, at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for target in arguments.targets:
        for epochs in arguments.epochs:
            trainings = [
                trained(images, target, epochs, seed, arguments)
                for seed in arguments.seeds
                for images in arguments.sets
            ]
            first = 1 if target.startswith("scratch") else 0
            print_table(f"{target}, {epochs} epochs", trainings, first, arguments.sizes)


def trained(
    images: Path, target: str, epochs: int, seed: int, arguments: argparse.Namespace
) -> tuple[ResultsByEpoch, ResultsByEpoch]:
    """Return right answers and losses of every epoch, of a training or of the file that it wrote."""
    name = f"{images.name}-{target.replace(':', '-')}-{epochs}-{seed}"
    file = arguments.out / f"{name}.npz"
    if not file.is_file():
        folder = subset(images, arguments, held_out_as=("val", "test"))
        outputs: list[EvalOutput] = []

        def recorded(*given: object, **options: object) -> EvalOutput:
            outputs.append(evaluate(*given, **options))  # type: ignore[arg-type]
            return outputs[-1]

        network, options = target_of(target, arguments.weights)
        with patch.object(loop, "evaluate", recorded):
            ts.train(
                folder, network, seed=seed, epochs=epochs, threads=1, workers=0, out=arguments.out / name,
                allow_leak=True, progress=False, data={"allow_missing_classes": True},
                **options,
            )  # fmt: skip
        right = np.stack([output.logits.argmax(1) == output.labels for output in outputs]).astype(np.float32)
        np.savez_compressed(file, right=right, losses=np.stack([losses_of(output) for output in outputs]))
    with np.load(file) as stored:
        return stored["right"], stored["losses"]


def target_of(target: str, weights: Path) -> tuple[ts.Network, dict[str, object]]:
    """Return the network of a target, and the options of its training."""
    size, _, macs = target.rpartition(":") if target.startswith("scratch") else target.partition(":")
    if size == "scratch":
        return get("resnet18").replace(resolution=int(macs)), {"from_scratch": True}
    source = at_size(weights, int(size))
    if not macs:
        return source, {"weights": weights}
    budget = ts.Budget(macs=int(1e6 * float(macs.removesuffix("M"))))
    return ts.fit_budget(source, ts.EFFICIENTNET, budget).network, {"weights": f"inherit:{weights}"}


def losses_of(output: EvalOutput) -> NDArray[np.float32]:
    """Return the cross-entropy of each image, ``[N]``."""
    logits, labels = torch.from_numpy(output.logits), torch.from_numpy(output.labels)
    losses: NDArray[np.float32] = torch.nn.functional.cross_entropy(logits, labels, reduction="none").numpy()
    return losses


def print_table(
    title: str, trainings: list[tuple[ResultsByEpoch, ResultsByEpoch]], first: int, sizes: list[int]
) -> None:
    print(f"\n{title}: {len(trainings)} trainings")
    print(f"{'images':>6}  {'highest':>8}  " + "  ".join(f"{name:<24}" for name in list(RULES)[1:]))
    for size in sizes:
        enough = [one for one in trainings if one[0].shape[1] >= size + LEAST_JUDGES]
        if len(enough) < 2:
            continue
        kept = np.array([judged(right, losses, first, size) for right, losses in enough])
        gains = 100 * (kept[:, 1:] - kept[:, :1])
        halves = 1.96 * gains.std(0, ddof=1) / len(gains) ** 0.5
        texts = (
            f"{gain:+5.2f} +- {half:4.2f} worst {worst:+6.2f}"
            for gain, half, worst in zip(gains.mean(0), halves, gains.min(0), strict=True)
        )
        print(f"{size:>6}  {100 * kept[:, 0].mean():8.2f}  " + "  ".join(f"{text:<24}" for text in texts), flush=True)


def judged(right: ResultsByEpoch, losses: ResultsByEpoch, first: int, size: int) -> NDArray[np.float64]:
    """Return the mean accuracy, on the images that are not drawn, of the epoch that each rule chooses."""
    chance = np.random.default_rng(0)
    results = np.zeros(len(RULES))
    for _ in range(DRAWS):
        order = chance.permutation(right.shape[1])
        drawn, others = order[:size], order[size:]
        scores = right[:, others].mean(1)
        results += [scores[rule(right[:, drawn], losses[:, drawn], first)] for rule in RULES.values()]
    return results / DRAWS


if __name__ == "__main__":
    main()
