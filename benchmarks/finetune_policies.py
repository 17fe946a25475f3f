"""Compare policies for batch-norm statistics in fine-tuning published weights on small photo sets.

Run with: python benchmarks/finetune_policies.py IMAGES... --weights FILE --out DIR [--few 20 40 0] [--seeds 0 1 2]
              [--size 128] [--epochs 15] [--learning-rate R] [--policies frozen trained ...] [--set FIELD=VALUE ...]

FILE holds ImageNet weights, as ``triscale weights import`` writes them. Each IMAGES is a folder of class folders, or of
``train`` and ``test`` folders. For each seed, ``--few`` training images of every class are chosen (0: all; of a folder
without splits, a fifth of each class is for testing). All policies then train with the recipe ``finetune``, the same
images, seed and number of epochs; they differ in the statistics of batch norm:

- ``reestimated``: trained, and recomputed for the averaged weights after each epoch;
- ``trained``: trained as usual;
- ``frozen``: those of the published weights;
- ``frozen_first``: those in the first half of the steps, then trained;
- ``refitted``: estimated on the training images before the linear probe is fitted, then trained;
- ``refitted_frozen``: likewise, then frozen;
- ``mixed``: N / (N + 1000) of those on the N training images, the rest of the published ones; then frozen.

``start`` is the linear probe that the training begins with. A result that is in DIR/results.jsonl is not computed
again. With ``--summary``, only the table is printed. Differences from ``start`` are paired over images and seeds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import triscale as ts
from marks import marks_of, paired, share
from triscale.data.pipeline.loader import eval_batches
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.initial_weights import load_initial_weights
from triscale.jobs.training.train import read_evaluated
from triscale.nn.build import build
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.transfer import reestimate_norms
from triscale.weights.load import CONTRACT_KEY, KIND_KEY, LoadedWeights, load_file
from triscale.weights.tensors import write_tensors

POLICIES = {
    "reestimated": "reestimated",
    "trained": "trained",
    "frozen": "frozen",
    "frozen_first": "frozen_first",
    "refitted": "trained",
    "refitted_frozen": "frozen",
    "mixed": "frozen",
}
"""The recipe's ``norm_statistics`` of each policy."""
MIXED_IMAGES = 1000


@dataclass(frozen=True)
class Cell:
    """What all policies share: weights, images, and where results go."""

    weights: Path
    images: Path
    few: int
    seed: int
    size: int
    epochs: int
    rate: float | None
    settings: tuple[str, ...]
    out: Path

    @property
    def key(self) -> dict[str, object]:
        """What identifies the results of the cell."""
        return {
            "weights": self.weights.stem, "images": self.images.name, "few": self.few, "seed": self.seed,
            "size": self.size, "epochs": self.epochs, "rate": self.rate, "settings": list(self.settings),
        }  # fmt: skip

    @property
    def folder(self) -> Path:
        """The chosen images."""
        return self.out / f"{self.images.name}-{self.few or 'all'}-{self.seed}"

    @property
    def spec(self) -> Path:
        """Where specification and split of a run on these images are kept."""
        return self.folder.with_suffix(f".{self.size}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--few", type=int, nargs="+", default=[20, 40, 0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's")
    parser.add_argument("--set", nargs="+", default=[], dest="settings", help="other settings of the recipe")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--summary", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.summary:
        for few in arguments.few:
            for seed in arguments.seeds:
                for images in arguments.images:
                    cell = Cell(
                        arguments.weights, images, few, seed, arguments.size, arguments.epochs,
                        arguments.learning_rate, tuple(arguments.settings), arguments.out,
                    )  # fmt: skip
                    for policy in arguments.policies:
                        compute(cell, policy)
    print_summary(rows_of(arguments.out))


def rows_of(out: Path) -> list[dict]:
    file = out / "results.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return [{"settings": []} | json.loads(line) for line in lines]


def compute(cell: Cell, policy: str) -> None:
    """Train with a policy, unless its result is known, and append the results of start and training."""
    key = {**cell.key, "policy": policy}
    if any(all(row.get(name) == value for name, value in key.items()) for row in rows_of(cell.out)):
        return
    if not cell.folder.is_dir():
        divide(cell)
    weights = prepare(cell, policy)
    run_folder = cell.out / "run"
    shutil.rmtree(run_folder, ignore_errors=True)
    began = time.process_time()
    loaded = load_file(weights).weights.network
    run = ts.train(
        cell.folder,
        loaded.replace(resolution=cell.size),
        weights=weights,
        epochs=cell.epochs,
        learning_rate=cell.rate,
        settings={"norm_statistics": POLICIES[policy]} | dict(map(read_setting, cell.settings)),
        seed=cell.seed,
        threads=1,
        workers=0,
        out=run_folder,
        allow_leak=True,
        data={"allow_missing_classes": True},
        progress=False,
    )
    seconds = time.process_time() - began
    folder = RunFolder(run_folder)
    spec, split = folder.spec, folder.split
    assert spec.request.start is not None
    cell.spec.mkdir(exist_ok=True)
    for file in ("run.json", "split.json"):
        shutil.copy(run_folder / file, cell.spec / file)
    start = build(spec.network)
    load_initial_weights(start, spec, spec.request.start, split, torch.device("cpu"))
    curve = [(epoch.val_score, round(epoch.val_loss, 4)) for epoch in read_evaluated(folder)]
    row = {
        **key,
        "train": len(split.train),
        "val": len(split.val),
        "seconds": round(seconds),
        "curve": curve,
        "start": marks_of(folder, start),
        "last": marks_of(folder, last_model(folder)),
        "right": marks_of(folder, run.model()),
    }
    with (cell.out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(
        cell.folder.name, policy, f"{100 * share(row['start']):.1f} -> {100 * share(row['right']):.1f}",
        f"{seconds:.0f} s", flush=True,
    )  # fmt: skip


def read_setting(text: str) -> tuple[str, object]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def divide(cell: Cell) -> None:
    """Copy images into train and test folders, in the order of a digest of seed and name."""
    has_splits = (cell.images / "test").is_dir()
    draft = cell.folder.with_suffix(".draft")
    shutil.rmtree(draft, ignore_errors=True)
    if has_splits:
        shutil.copytree(cell.images / "test", draft / "test")
    for of_class in sorted(path for path in (cell.images / "train" if has_splits else cell.images).iterdir()):
        order = sorted(
            (path for path in of_class.rglob("*") if path.is_file()),
            key=lambda path: hashlib.sha256(f"{cell.seed}/{path.name}".encode()).digest(),
        )
        # The test images of a set without splits depend on the seed only, not on the number of training images.
        num_test = 0 if has_splits else len(order) // 5
        kept = order[num_test:][: cell.few or None]
        for split, paths in (("test", order[:num_test]), ("train", kept)):
            (draft / split / of_class.name).mkdir(parents=True, exist_ok=True)
            for path in paths:
                shutil.copy(path, draft / split / of_class.name / path.name)
    draft.rename(cell.folder)


def prepare(cell: Cell, policy: str) -> Path:
    """Return the weights that a policy begins with: the given ones, or with other batch-norm statistics."""
    if policy not in ("refitted", "refitted_frozen", "mixed"):
        return cell.weights
    loaded = load_file(cell.weights)
    estimated, number = with_estimated_norms(cell, loaded)
    share_estimated = number / (number + MIXED_IMAGES) if policy == "mixed" else 1.0
    state = {
        name: torch.lerp(tensor, estimated[name], share_estimated) if "running" in name else tensor
        for name, tensor in loaded.state.items()
    }
    file = cell.out / f"{policy}.safetensors"
    write_tensors(file, state, {KIND_KEY: "weights", CONTRACT_KEY: loaded.weights.to_json()})
    return file


def with_estimated_norms(cell: Cell, loaded: LoadedWeights) -> tuple[dict[str, torch.Tensor], int]:
    """Return the weights with batch-norm statistics of the training images, and the number of these."""
    if not cell.spec.is_dir():
        compute(cell, "frozen")
    run, model = RunFolder(cell.spec), loaded.build().eval()
    batches = eval_batches(run.split.train, run.split.root, run.spec.preprocessing, batch=64)
    reestimate_norms(model, batches, run.spec.preprocessing, torch.device("cpu"))
    return dict(model.state_dict()), len(run.split.train)


def last_model(folder: RunFolder) -> torch.nn.Module:
    """Return the averaged weights of the last epoch, whether or not they are the best."""
    checkpoints = Checkpoints(folder.checkpoints)
    manifest = checkpoints.newest()
    assert manifest is not None
    state = checkpoints.load(manifest.state_file)
    model = build(folder.spec.network)
    prefix = "average/"
    model.load_state_dict({name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)})
    return model


def print_summary(rows: list[dict]) -> None:
    """Print, for each set and number of images, the mean accuracy and the paired difference from the start."""
    names = ("weights", "size", "epochs", "rate", "settings", "images", "few")
    for (weights, size, epochs, rate, settings, images, few), group in grouped(rows, names):
        seeds = sorted({row["seed"] for row in group})
        changes = "".join(f", {setting}" for setting in settings)
        mean_train = np.mean([row["train"] + row["val"] for row in group])
        print(
            f"\n{images}, {f'{few} a class' if few else 'all'} ({mean_train:.0f} training images), {weights} at {size} "
            f"px, {epochs} epochs{f' at {rate:g}' if rate else ''}{changes}, seeds {', '.join(map(str, seeds))}"
        )
        starts = {row["seed"]: row["start"] for row in group if row["policy"] in ("frozen", "trained", "reestimated")}
        if starts:
            print(f"  {'start':<16} {100 * np.mean([share(marks) for marks in starts.values()]):5.1f}")
        for (policy,), chosen in grouped(group, ("policy",)):
            shares = [100 * share(row["right"]) for row in chosen]
            difference, half = paired([(row["right"], starts[row["seed"]]) for row in chosen if row["seed"] in starts])
            last = np.mean([100 * share(row["last"]) for row in chosen])
            print(
                f"  {policy:<16} {np.mean(shares):5.1f}  from start {difference:+5.1f} +- {half:.1f}  "
                f"({', '.join(f'{value:.1f}' for value in shares)}); last epoch {last:.1f}"
            )


def grouped(rows: list[dict], names: tuple[str, ...]) -> Iterator[tuple[tuple, list[dict]]]:
    def key_of(row: dict) -> tuple:
        return tuple(tuple(row[name]) if isinstance(row[name], list) else row[name] for name in names)

    for key in sorted({key_of(row) for row in rows}, key=str):
        yield key, [row for row in rows if key_of(row) == key]


if __name__ == "__main__":
    main()
