"""Accuracy and time of trainings from random weights with progressive learning, compared with full images throughout.

Run with: python benchmarks/progressive.py IMAGES... --out DIR [--network efficientnet_b0] [--macs 36M] [--epochs 60]
          [--seeds 0] [--set progressive.stages=4 progressive.size=0.427]

For each set of images and each seed, the network is trained with the default recipe and a number of epochs (one for
each set of images, or one for all), with full images and with progressive learning, with one thread. ``--set`` are the
settings of the second; by default four stages that begin with 128/300 of the side, as EfficientNetV2-S has. Processor
time instead of wall time, since other programs may run on the machine; it contains decoding, validation and the
evaluation on the test images. Each training has a process of its own, and the two of a seed are run in turn. A result
that is in DIR is not computed again.

The interval of an accuracy is Wilson's, with the mean over seeds for each image; that of a difference is that of the
mean over test images and seeds of what one got right and the other did not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from marks import marks_of, paired
from scratch import accuracy, train_timed
from triscale.jobs.core.run import RunFolder

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", default="efficientnet_b0")
    parser.add_argument("--macs", default="36M")
    parser.add_argument("--epochs", type=int, nargs="+", default=[60])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", nargs="+", default=["progressive.stages=4", "progressive.size=0.427"], dest="settings")
    arguments = parser.parse_args()
    epochs = arguments.epochs if len(arguments.epochs) > 1 else arguments.epochs * len(arguments.images)
    for images, length in zip(arguments.images, epochs, strict=True):
        print(f"{images.name}: {arguments.network} with at most {arguments.macs} MACs, {length} epochs", flush=True)
        pairs = []
        for seed in arguments.seeds:
            pair = []
            for name, settings in (("full", []), ("progressive", arguments.settings)):
                out = arguments.out / f"{images.name}-{length}-{seed}-{name}"
                file = out.with_name(f"{out.name}.json")
                if not file.is_file():
                    arguments.out.mkdir(parents=True, exist_ok=True)
                    given = (images, arguments.network, arguments.macs, length, settings, seed, out)
                    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                        file.write_text(json.dumps(pool.submit(trained, *given).result()))
                row = json.loads(file.read_text())
                print(
                    f"  {name:<11} seed {seed}: {accuracy_of([row])}, {row['seconds']:.0f} s of processor time",
                    flush=True,
                )
                pair.append(row)
            pairs.append(pair)
        full, progressive = zip(*pairs, strict=True)
        ratios = [after["seconds"] / before["seconds"] for before, after in pairs]
        print(f"  full        {accuracy_of(full)}")
        print(f"  progressive {accuracy_of(progressive)}")
        gain, half = paired([(after["marks"], before["marks"]) for before, after in pairs])
        print(
            f"  progressive - full: {gain:+.1f} +-{half:.1f} points; {statistics.mean(ratios):.0%} of the time",
            flush=True,
        )


def trained(images: Path, network: str, macs: str, epochs: int, settings: list[str], seed: int, out: Path) -> Row:
    """Train, and return what the table shows."""
    run, seconds = train_timed(images, network, macs, epochs=epochs, settings=settings, seed=seed, out=out)
    folder = RunFolder.open(out)
    return {"marks": marks_of(folder, folder.model()), "seconds": seconds, "network": run.network.name}


def accuracy_of(rows: Sequence[Row]) -> str:
    return accuracy([[int(mark) for mark in row["marks"]] for row in rows])


if __name__ == "__main__":
    main()
