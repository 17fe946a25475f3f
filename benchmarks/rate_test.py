"""The learning rate of ``--lr auto``, compared with trainings at fixed rates.

For every set: the rate of the range test and what it leads to, and the validation loss and test accuracy of trainings
at multiples of the recipe's rate, with the same seed. A set is a folder of images; the network is MobileNetV2 scaled to
a budget, from random weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MULTIPLES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
RATE = 0.005


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="folders of images")
    parser.add_argument("--network", default="mobilenet_v2@48")
    parser.add_argument("--budget", default="2M")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--multiples", nargs="+", type=float, default=MULTIPLES)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    given = parser.parse_args()
    print(f"# python benchmarks/rate_test.py {' '.join(Path(word).name for word in sys.argv[1:])}\n")
    print(f"{'set':12}{'seed':>5}{'rate':>13}{'val loss':>10}{'test, %':>9}")
    for images in given.images:
        for seed in given.seeds:
            rates = ["auto", *(f"{multiple * RATE:g}" for multiple in given.multiples)]
            for rate in rates:
                show(images, given, seed, rate)


def show(images: Path, given: argparse.Namespace, seed: int, rate: str) -> None:
    """Train with a rate, and print a line."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "triscale", "train", str(images), "--network", given.network]
        command += ["--budget", given.budget, "--epochs", str(given.epochs), "--seed", str(seed), "--from-scratch"]
        command += ["--threads", "1", "--allow-leak", "--lr", rate, "--out", str(run), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
        recipe = json.loads((run / "run.json").read_text())["request"]["recipe"]
    loss = min(epoch["val_loss"] for epoch in history)
    accuracy = json.loads(done.stdout)["top1"]
    label = f"{recipe['learning_rate']:.3g}{' auto' if rate == 'auto' else ''}"
    print(f"{images.name:12}{seed:>5}{label:>13}{loss:>10.3f}{100 * accuracy:>9.1f}", flush=True)


if __name__ == "__main__":
    main()
