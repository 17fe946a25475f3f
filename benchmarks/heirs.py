"""Accuracy of fine-tuned networks with inherited weights, compared with training from scratch and a published network.

Run with: python benchmarks/heirs.py IMAGES --weights FILE --out DIR [--size 128] [--share 0.5] [--smaller FILE]
              [--seeds 0] [--rows scratch heir ...]

FILE holds ImageNet weights, as ``triscale weights import`` writes them. The source is its network at ``--size`` pixels.
All other networks have at most ``--share`` of the source's MACs, by the paper's coefficients (with ``--smaller``: the
MACs of that network at the same size). All trainings have the default settings:

- ``source``: the source, from its weights;
- ``scratch``: the small network from random weights;
- ``heir``: the small network with weights inherited from the file;
- ``heir of run``: inherited from the trained ``source``;
- ``heir taught``: likewise, with ``source`` as its teacher;
- ``smaller``: the published network of ``--smaller``, from its weights.

``start`` is the accuracy before the first step. The last column is the accuracy of ``heir`` minus that of the row, with
the 95% interval of the paired difference. A result that is in DIR is not computed again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

import triscale as ts
from finetune_policies import last_model
from marks import marks_of, paired, share
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.train import read_evaluated
from triscale.network.cost import cost
from triscale.network.spec import Network
from triscale.training.metrics import wilson
from triscale.weights.load import load_file

ROWS = ("source", "scratch", "heir", "heir of run", "heir taught", "smaller")
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--smaller", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    source = at_size(arguments.weights, arguments.size)
    small = at_size(arguments.smaller, arguments.size) if arguments.smaller else None
    budget = cost(small).macs if small else int(arguments.share * cost(source).macs)
    heir = ts.fit_budget(source, ts.EFFICIENTNET, ts.Budget(macs=budget)).network
    print(
        f"{arguments.images.name}: {source.name} at {source.resolution} px, {cost(source).macs / 1e6:.0f}M MACs; "
        f"the heir has {cost(heir).macs / 1e6:.0f}M at {heir.resolution} px"
    )
    table: dict[str, list[Row]] = {}
    for seed in arguments.seeds:
        run = arguments.out / f"source-{seed}"
        settings: dict[str, tuple[Network, dict[str, Any]]] = {
            "source": (source, {"weights": arguments.weights}),
            "scratch": (heir, {"from_scratch": True}),
            "heir": (heir, {"weights": f"inherit:{arguments.weights}"}),
            "heir of run": (heir, {"weights": f"inherit:{run}"}),
            "heir taught": (heir, {"weights": f"inherit:{run}", "teacher": run}),
        }
        if small:
            settings["smaller"] = small, {"weights": arguments.smaller}
        for name, (network, options) in settings.items():
            if name in arguments.rows:
                row = trained(arguments, name, seed, network, options)
                table.setdefault(name, []).append(row)
                print(f"seed {seed}, {name}: {100 * share(row['marks']):.1f}", flush=True)
    print_table(table)


def at_size(file: Path, size: int) -> Network:
    network = load_file(file).weights.network
    return network.replace(resolution=size)


def trained(arguments: argparse.Namespace, name: str, seed: int, network: Network, options: dict[str, Any]) -> Row:
    """Train a network, unless its result is known."""
    out = arguments.out / f"{name.replace(' ', '-')}-{seed}"
    file = out.with_suffix(".json")
    if file.is_file():
        return json.loads(file.read_text())
    shutil.rmtree(out, ignore_errors=True)
    began = time.process_time()
    run = ts.train(
        arguments.images, network, seed=seed, threads=1, workers=0, out=out, allow_leak=True, progress=False,
        data={"allow_missing_classes": True}, **options,
    )  # fmt: skip
    curve = read_evaluated(RunFolder(out))
    row = {
        "marks": marks_of(RunFolder(out), run.model()),
        "start": curve[0].val_score if "weights" in options else None,
        "epochs": curve[-1].epoch,
        "curve": [epoch.val_score for epoch in curve],
        "seconds": time.process_time() - began,
        "last": marks_of(RunFolder(out), last_model(RunFolder(out))),
    }
    file.write_text(json.dumps(row))
    return row


def print_table(table: dict[str, list[Row]]) -> None:
    print("test accuracy in % with 95% interval; validation accuracy at the start; heir minus row, paired")
    for name, rows in table.items():
        marks = "".join(row["marks"] for row in rows)
        low, high = wilson(marks.count("1"), len(marks))
        starts = [100 * row["start"] for row in rows if row["start"] is not None]
        start = f"{sum(starts) / len(starts):5.1f}" if starts else "    -"
        line = (
            f"{name:<12} {100 * share(marks):5.1f} ({100 * low:.1f}-{100 * high:.1f}) of {len(marks)}, start {start}, "
            f"{sum(row['epochs'] for row in rows) / len(rows):.0f} epochs, "
            f"{sum(row['seconds'] for row in rows) / len(rows):.0f} s of processor time"
        )
        if "heir" in table:
            pairs = [(one["marks"], row["marks"]) for one, row in zip(table["heir"], rows, strict=True)]
            difference, half = paired(pairs)
            line += f"; {difference:+5.1f} +- {half:.1f}"
        print(line)


if __name__ == "__main__":
    main()
