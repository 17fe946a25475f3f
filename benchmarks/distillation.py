"""Compare a small network trained alone with one that also learns from a larger one, on the same images.

Run with: python benchmarks/distillation.py IMAGES --out DIR [--seeds 0 1 2] [--epochs 30]

The teacher is EfficientNet-B0 scaled to 10M MACs, the student MobileNetV1 at width 0.25 scaled to 1M MACs, both from
random weights with the recipe ``small``. All trainings share one split. With ``augmented`` the teacher sees what the
student sees in every step; with ``original`` its logits of the whole images are kept. A run that is already in DIR is
not trained again.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import triscale as ts

WAYS = {
    "alone": {},
    "augmented": {"distillation.inputs": "augmented"},
    "original": {"distillation.inputs": "original"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    shared = {"recipe": "small", "epochs": arguments.epochs, "threads": 1, "from_scratch": True, "progress": False}
    teachers = {}
    for seed in arguments.seeds:  # the seed divides the images too: the teacher must not have seen the test images
        teachers[seed] = ts.train(
            arguments.images,
            "efficientnet_b0",
            budget="10M",
            seed=seed,
            out=arguments.out / f"teacher-{seed}",
            **shared,
        )
    scores: dict[str, list[float]] = {"teacher": [run.metrics.top1 for run in teachers.values()]}
    seconds: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        for way, settings in WAYS.items():
            began = time.process_time()
            run = ts.train(
                arguments.images,
                "mobilenet_v1_025",
                budget="1M",
                seed=seed,
                teacher=None if way == "alone" else teachers[seed],
                settings=settings,
                out=arguments.out / f"{way}-{seed}",
                **shared,
            )
            scores.setdefault(way, []).append(run.metrics.top1)
            seconds.setdefault(way, []).append(time.process_time() - began)
    print(f"{arguments.images.name}: test accuracy in %, seeds {arguments.seeds}, {arguments.epochs} epochs")
    for way, values in scores.items():
        spread = f" +- {100 * statistics.stdev(values):.1f} (standard deviation)" if len(values) > 1 else ""
        listed = ", ".join(f"{100 * value:.1f}" for value in values)
        print(f"{way:<10} {100 * statistics.mean(values):5.1f}{spread}  {listed}")
    for way in ("augmented", "original"):
        gains = [100 * (one - other) for one, other in zip(scores[way], scores["alone"], strict=True)]
        ratios = [one / other for one, other in zip(seconds[way], seconds["alone"], strict=True)]
        print(
            f"{way}: {statistics.mean(gains):+.1f} points ({', '.join(f'{gain:+.1f}' for gain in gains)}) in "
            f"{statistics.median(ratios):.2f} times the processor time"
        )


if __name__ == "__main__":
    main()
