"""Accuracy and time of training in bfloat16 compared with float32, all else equal.

Run with: python benchmarks/precision.py IMAGES [IMAGES ...] --out DIR [--network efficientnet_b0@96] [--images 20000]
              [--seeds 0 1 2] [--weights FILE]

Each set is trained from random weights (or fine-tuned from ``--weights``) with both precisions for each seed. The last
columns are the accuracy in bfloat16 minus that in float32, with a 95% interval of the paired difference over test
images and seeds, and the ratio of processor times, for each seed. A result that is in DIR is not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import triscale as ts
from int8_campaign import count_images
from marks import marks_of, paired, share
from triscale.jobs.core.run import RunFolder

PRECISIONS = ("float32", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", default="efficientnet_b0@96")
    parser.add_argument("--images", type=int, default=20_000, help="images that a training passes through the network")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for images in arguments.sets:
        rows = {
            precision: [trained(images, precision, seed, arguments) for seed in arguments.seeds]
            for precision in PRECISIONS
        }
        full, half = rows.values()
        marks = [(a["marks"], b["marks"]) for a, b in zip(half, full, strict=True)]
        difference, interval = paired(marks)
        ratios = [f"{a['seconds'] / b['seconds']:.2f}" for a, b in zip(full, half, strict=True)]
        print(f"{images.name}, {arguments.network}, {full[0]['epochs']} epochs, seeds {arguments.seeds}")
        for precision, found in rows.items():
            print(f"  {precision:<9}", ", ".join(f"{100 * share(row['marks']):.1f}" for row in found))
        print(f"  bfloat16 minus float32 {difference:+.2f} +- {interval:.2f} points; faster by {', '.join(ratios)}")


def trained(images: Path, precision: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the marks on the test images, and the processor time of the training."""
    folder = arguments.out / f"{images.name}-{arguments.network.replace('@', '-')}-{precision}-{seed}"
    file = folder.with_suffix(".json")
    if file.is_file():
        return json.loads(file.read_text())
    began, epochs = time.process_time(), max(1, round(arguments.images / count_images(str(images))))
    start: dict[str, Any] = {"weights": arguments.weights} if arguments.weights else {"from_scratch": True}
    run = ts.train(
        images,
        arguments.network,
        recipe=None if arguments.weights else "small",
        epochs=epochs,
        settings={"precision": precision},
        seed=seed,
        threads=1,
        workers=0,
        out=folder,
        allow_leak=True,
        progress=False,
        **start,
    )
    seconds = time.process_time() - began
    row = {"marks": marks_of(RunFolder(folder), run.model()), "seconds": seconds, "epochs": epochs}
    file.write_text(json.dumps(row))
    print(f"# {folder.name}: {100 * share(row['marks']):.1f}%, {seconds:.0f} s", flush=True)
    return row


if __name__ == "__main__":
    main()
