"""Accuracy of a network with half of the MACs: pruned by batch norm scales, inherited, and trained from scratch.

Run with: python benchmarks/pruning.py IMAGES --weights FILE --out DIR [--photos PHOTOS] [--size 96] [--share 0.5]
              [--photo-shares 0.5] [--epochs 10] [--rate 1.25e-3] [--seeds 1 2] [--rows prune inherit ...]

FILE holds ImageNet weights, as ``triscale weights import`` writes them. All networks have at most ``--share`` of the
MACs of its network at ``--size`` pixels:

- ``prune``: ``--weights prune:FILE``;
- ``inherit``: ``--weights inherit:FILE`` for the network that the paper's coefficients give;
- ``inherit width``: likewise, for the network that is narrower by one factor, at the same depth and resolution;
- ``scratch``, ``scratch pruned``: random weights for the network of ``inherit`` and for that of ``prune``.

``start`` is the validation accuracy before the first step, with a classifier from a linear probe. The last column is
the test accuracy of ``prune`` minus that of the row, with the 95% interval of the paired difference. A result that is
in DIR is not computed again.

PHOTOS is a folder of class folders named by wnid: before any training, at the resolution of the weights and with their
classifier, a random half of the photos, without labels, calibrates the networks, and the others test them. ``scales``
copies the weights of the channels with the largest scales, ``statistics`` estimates batch norm again on top of that,
``fitted`` fits layers to the feature maps of the source, as ``prune`` does. ``loss`` keeps as many channels, but those
whose loss the others make up least, and fits them: the widths of ``prune`` with the channels of ``inherit``.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import torch

import triscale as ts
from heirs import Row, at_size, trained
from inherit_published import accuracy, shuffled_photos
from marks import paired, share
from triscale.data.pipeline.loader import eval_batches
from triscale.jobs.training.inherited import CalibrationImages, load_inherited
from triscale.network.cost import cost, count_network
from triscale.network.spec import Network
from triscale.network.unrolled import unrolled
from triscale.nn.build import build
from triscale.training.metrics import wilson
from triscale.training.transfer import reestimate_norms
from triscale.weights.inherit import SourceChannels, inherit
from triscale.weights.inheritance_plan import plan_inheritance
from triscale.weights.load import load_file
from triscale.weights.slimming import describe_kept, prune_to_budget, unrolled_state

ROWS = ("prune", "inherit", "inherit width", "scratch", "scratch pruned")
WIDTH = ts.Law(alpha=1, beta=math.sqrt(2), gamma=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--photo-shares", type=float, nargs="+", default=[0.5])
    parser.add_argument("--rate", type=float, default=1.25e-3, help="learning rate of rows with weights")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.photos:
        before_training(arguments)
    source = at_size(arguments.weights, arguments.size)
    budget = int(arguments.share * cost(source).macs)
    pruned = pruned_to(source, load_file(arguments.weights).state, budget)
    fitted = {law: ts.fit_budget(source, law, ts.Budget(macs=budget)).network for law in (ts.EFFICIENTNET, WIDTH)}
    print(f"\n{arguments.images.name}: {source.name} at {source.resolution} px, {cost(source).macs / 1e6:.0f}M MACs")
    inherited = f"inherit:{arguments.weights}"
    settings: dict[str, tuple[Network, dict[str, Any]]] = {
        "prune": (source, {"weights": f"prune:{arguments.weights}", "budget": ts.Budget(macs=budget)}),
        "inherit": (fitted[ts.EFFICIENTNET], {"weights": inherited}),
        "inherit width": (fitted[WIDTH], {"weights": inherited}),
        "scratch": (fitted[ts.EFFICIENTNET], {"from_scratch": True}),
        "scratch pruned": (pruned, {"from_scratch": True}),
    }
    networks = {name: pruned if name == "prune" else network for name, (network, _) in settings.items()}
    table: dict[str, list[Row]] = {}
    for seed in arguments.seeds:
        for name in arguments.rows:
            network, options = settings[name]
            if "weights" in options:
                options = {**options, "learning_rate": arguments.rate}
            row = trained(arguments, name, seed, network, {**options, "epochs": arguments.epochs})
            table.setdefault(name, []).append(row)
            print(f"seed {seed}, {name}: {100 * share(row['marks']):.1f}", flush=True)
    print("test accuracy in % with 95% interval; validation accuracy at the start; prune minus row, paired")
    for name, rows in table.items():
        print(f"{described(networks[name]):<22} {line(name, rows, table.get('prune', []))}")


def pruned_to(network: Network, weights: dict[str, torch.Tensor], macs: int) -> Network:
    return prune_to_budget(network, weights, ts.Budget(macs=macs), count_network).replace(name=f"{network.name}_pruned")


def described(network: Network) -> str:
    return f"{cost(network).macs / 1e6:.1f}M MACs, {network.resolution} px,"


def line(name: str, rows: list[Row], pruned: list[Row]) -> str:
    marks = "".join(row["marks"] for row in rows)
    low, high = wilson(marks.count("1"), len(marks))
    starts = [100 * row["start"] for row in rows if row["start"] is not None]
    text = (
        f"{name:<14} {100 * share(marks):5.1f} ({100 * low:.1f}-{100 * high:.1f}) of {len(marks)}, start "
        f"{' '.join(f'{start:.1f}' for start in starts) or '-'}, "
        f"{sum(row['seconds'] for row in rows) / len(rows):.0f} s of processor time"
    )
    if not pruned:
        return text
    difference, half = paired([(one["marks"], row["marks"]) for one, row in zip(pruned, rows, strict=True)])
    return f"{text}; {difference:+5.1f} +- {half:.1f}"


def before_training(arguments: argparse.Namespace) -> None:
    """Print accuracies on photographs of the classes of the weights."""
    loaded = load_file(arguments.weights)
    source, preprocessing = loaded.weights.network, loaded.weights.preprocessing
    assert preprocessing is not None
    shuffled = shuffled_photos(arguments.photos)
    half = len(shuffled) // 2
    calibration, test = (
        CalibrationImages(
            samples=samples, root=str(arguments.photos), preprocessing=preprocessing, device=torch.device("cpu")
        )
        for samples in (shuffled[:half], shuffled[half:])
    )
    macs = cost(source).macs
    print(f"{source.name}, {macs / 1e6:.0f}M MACs, {len(test.samples)} photos test; top-1 in %")
    print(f"source {accuracy(loaded.build(), test)}", flush=True)
    for part in arguments.photo_shares:
        pruned = pruned_to(source, loaded.state, int(part * macs))
        print(*describe_kept(source, pruned), sep="\n", flush=True)
        unfolded, state = unrolled(source), unrolled_state(source, loaded.state)
        plan = plan_inheritance(unfolded, pruned, pruned=True)
        model = build(pruned)
        channels = SourceChannels(plan, state, by_scale=True)
        model.load_state_dict(inherit(plan, state, model.state_dict(), channels=channels))
        results = [f"scales {accuracy(model, test)}"]
        batches = eval_batches(calibration.samples, calibration.root, preprocessing, batch=64)
        reestimate_norms(model.eval(), batches, preprocessing, calibration.device)
        results.append(f"statistics {accuracy(model, test)}")
        for name, by_scale in (("fitted", True), ("loss", False)):
            load_inherited(model, unfolded, state, calibration, keep_head=True, pruned=True, by_scale=by_scale)
            results.append(f"{name} {accuracy(model, test)}")
        narrow = ts.fit_budget(source, WIDTH, ts.Budget(macs=int(part * macs))).network
        heir = build(narrow)
        load_inherited(heir, source, loaded.state, calibration, keep_head=True)
        results.append(f"inherit width {accuracy(heir, test)}")
        print(f"{part:.0%} of the MACs, {cost(pruned).macs / 1e6:.0f}M: {', '.join(results)}", flush=True)


if __name__ == "__main__":
    main()
