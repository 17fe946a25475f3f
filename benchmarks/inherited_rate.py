"""Accuracy of inherited weights by learning rate, fine-tuned on small sets.

Run with: python benchmarks/inherited_rate.py IMAGES [IMAGES ...] --weights FILE --out DIR [--targets 96:36M 224:20M]
              [--rates 1.25e-3 6.25e-4 2.5e-3 5e-3] [--seeds 1 2] [--epochs 10] [--images 400] [--tests 400]
              [--set FIELD=VALUE ...]

FILE holds ImageNet weights, as ``triscale weights import`` writes them. A target SIZE:MACS is the network of the
weights at SIZE pixels, scaled to at most MACS by the paper's coefficients. At half of the MACs of a small image size
the target keeps the layers of the source; at a twentieth of those of 224 pixels it keeps less than half of its weights.

Of every set, about ``--images`` images, as many of every class, train, and about ``--tests`` others test. Folders
without splits are divided first. Both follow from the file names alone, so they are the same for all rates and seeds;
a seed decides which tenth of the training images validates, and the order.

For every rate: the test accuracy in % of the weights that are kept (the best epoch on the validation images, or those
before the first step) and of the last epoch, over all seeds, each with its 95% interval and, after the first rate, the
difference from that with the interval of the paired difference. Then for each seed the validation accuracy before the
first step, the lowest of an epoch and the last, and whether those before the first step were kept. A result that is
in DIR is not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import torch

import triscale as ts
from finetune_policies import read_setting
from heirs import Row, at_size, trained
from marks import paired, share
from triscale.network.cost import cost
from triscale.training.metrics import wilson


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", metavar="IMAGES")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", default=["96:36M", "224:20M"], metavar="SIZE:MACS")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.25e-3, 6.25e-4, 2.5e-3, 5e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=400, help="training images of a set, about")
    parser.add_argument("--tests", type=int, default=400, help="test images of a set, about")
    parser.add_argument("--set", dest="settings", nargs="+", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for images in arguments.sets:
        folder = subset(images, arguments)
        for target in arguments.targets:
            compare(images.name, folder, target, arguments)


def subset(images: Path, arguments: argparse.Namespace, held_out_as: tuple[str, ...] = ("test",)) -> Path:
    """Link a part of the images into a folder for training and those for the others, as many of every class."""
    folder = arguments.out / f"{images.name}-{arguments.images}-{arguments.tests}"
    is_split = (images / "train").is_dir()
    classes = sorted(path.name for path in (images / "train" if is_split else images).iterdir() if path.is_dir())
    wanted = {"train": arguments.images // len(classes), "test": arguments.tests // len(classes)}
    for name in classes:
        if is_split:
            files = {split: shuffled(images / split / name)[:number] for split, number in wanted.items()}
        else:
            order = shuffled(images / name)
            held_out = min(wanted["test"], len(order) // 3)
            files = {"test": order[:held_out], "train": order[held_out:][: wanted["train"]]}
        for split, paths in files.items():
            for to in ("train",) if split == "train" else held_out_as:
                (folder / to / name).mkdir(parents=True, exist_ok=True)
                for path in paths:
                    link = folder / to / name / path.name
                    if not link.is_symlink():
                        link.symlink_to(path.resolve())
    return folder


def shuffled(folder: Path) -> list[Path]:
    """Return the files of a folder in the order of a digest of their names; none if there is no such folder."""
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(files, key=lambda path: hashlib.sha256(path.name.encode()).digest())


def compare(name: str, folder: Path, target: str, arguments: argparse.Namespace) -> None:
    """Train with every rate and seed, and print a line for each rate."""
    size, macs = target.split(":")
    source = at_size(arguments.weights, int(size))
    budget = ts.Budget(macs=int(1e6 * float(macs.removesuffix("M"))))
    network = ts.fit_budget(source, ts.EFFICIENTNET, budget).network
    kept = cost(network)
    print(
        f"\n{name}: {source.name} at {source.resolution} px, {cost(source).macs / 1e6:.0f}M MACs and "
        f"{cost(source).params / 1e6:.1f}M parameters, scaled to {kept.macs / 1e6:.0f}M and {kept.params / 1e6:.1f}M, "
        f"{network.resolution} px",
        flush=True,
    )
    given = argparse.Namespace(images=folder, out=arguments.out)
    results: dict[float, list[Row]] = {rate: [] for rate in arguments.rates}
    for seed in arguments.seeds:
        for rate, rows in results.items():
            cell = "-".join(
                (folder.name, size, macs, f"{arguments.epochs}", f"{1e6 * rate:.0f}e-6", *arguments.settings)
            )
            options = {
                "weights": f"inherit:{arguments.weights}",
                "learning_rate": rate,
                "epochs": arguments.epochs,
                "settings": dict(map(read_setting, arguments.settings)),
            }
            rows.append(trained(given, cell, seed, network, options))
    first = results[arguments.rates[0]]
    for rate, rows in results.items():
        print(line(rate, rows, first), flush=True)


def line(rate: float, rows: list[Row], first: list[Row]) -> str:
    text = f"  {rate:<7g}"
    for name, title in (("marks", "kept"), ("last", "last")):
        marks = "".join(row[name] for row in rows)
        low, high = wilson(marks.count("1"), len(marks))
        text += f" {title} {100 * share(marks):5.1f} ({100 * low:.1f}-{100 * high:.1f})"
        if rows is not first:
            difference, half = paired([(row[name], one[name]) for row, one in zip(rows, first, strict=True)])
            text += f" {difference:+5.1f} +- {half:.1f}"
        text += ";"
    for row in rows:
        curve = [100 * score for score in row["curve"]]
        text += f" validation {curve[0]:.1f}, {min(curve[1:]):.1f}, {curve[-1]:.1f}"
        text += ", start kept;" if max(curve[1:]) < curve[0] else ";"
    return f"{text} {sum(row['seconds'] for row in rows) / len(rows):.0f} s of processor time"


if __name__ == "__main__":
    main()
