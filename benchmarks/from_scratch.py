"""Compare trainings from random weights by default settings with ultralytics' classifier, at equal time and cost.

Run with: python benchmarks/from_scratch.py IMAGES... --out DIR [--size 96] [--seconds 360] [--seeds 0]
          [--baselines resnet18 ...] [--set KEY=VALUE ...]

Needs ultralytics, which is AGPL-3.0 and no dependency of this project. For each set of images and each seed:

- ``ultralytics``: ``YOLO(MODEL).train`` with a model without weights and nothing else set but image size, seed and
  epochs; no mixed precision, which a CPU does not have, no plots and no experiment trackers. Its epochs are as many as
  fit into ``--seconds``, by the duration of the second epoch of a short training. Its default patience may end it
  earlier.
- ``triscale``: ``ts.train(..., from_scratch=True)`` with each of the baselines scaled to at most the
  multiply-accumulates of the other network at ``--size``, and nothing else set but seed, epochs and the settings of
  the recipe that ``--set`` names. Its epochs are as many as fit into the time that the other training took, by the
  difference of two short trainings (of more epochs where the stages of a training differ in speed), and at most as
  many as ``--time-limit`` allows.

Both train on the same files in the folders train, val and test, with one thread, and both keep the epoch that is best
on val. Sets without a test split are divided once, for all seeds, by triscale's split, which keeps copies of an image
together. Processor time instead of wall time, since other programs may run on the machine: for ultralytics of
``train``, for triscale of ``train`` with its evaluation on the test images and its report. Each training has a process
of its own. A result that is already in DIR is not computed again.

An interval of one accuracy is Wilson's. Seeds share the test images, so that an image counts once, with the mean over
the seeds. The interval of the difference is that of the mean over the test images of what both got right.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import ultralytics
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn.tasks import ClassificationModel
from ultralytics.utils import LOGGER

import triscale as ts
from scratch import accuracy, train_timed
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.jobs.training.request import default_baseline
from triscale.jobs.training.time_limit import MAX_STRETCH
from triscale.training.automatic import automatic_epochs
from triscale.training.recipe import SMALL

DEFAULT = default_baseline(from_scratch=True)
SEVERAL = "progressive.stages"
"""A setting with which the time of an epoch depends on its place in the training."""
SPLITS = ("train", "val", "test")
SPARE = 0.05
"""Share of the time that triscale's epochs leave unused, as the short trainings do not measure the speed exactly."""
TRIAL_EPOCHS = 3
Z_95 = statistics.NormalDist().inv_cdf(0.975)

Result = dict[str, Any]


class Row(NamedTuple):
    """One training by triscale."""

    baseline: str
    settings: tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        """Name of its files."""
        parts = ["triscale", *([self.baseline] if self.baseline != DEFAULT else []), *self.settings, str(self.seed)]
        return "-".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="yolo26n-cls.yaml")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=360)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--test-share", type=float, default=0.2)
    parser.add_argument("--baselines", nargs="+", default=[DEFAULT])
    parser.add_argument("--set", nargs="+", default=[], dest="settings", help="settings of the recipe")
    arguments = parser.parse_args()
    LOGGER.setLevel("ERROR")
    print(f"ultralytics {ultralytics.__version__}, torch {torch.__version__}, triscale {ts.__version__}", flush=True)
    for images in arguments.images:
        folder = arguments.out / images.name
        divided = divide(images, folder / "images", arguments.test_share)
        macs, params = cost_of_theirs(arguments.model, len(list((divided / "train").iterdir())), arguments.size)
        counts = [len(files_of(divided / split)) for split in SPLITS]
        print(f"\n{images.name}: {counts[0]} images for training, {counts[1]} for validation, {counts[2]} for test")
        print(f"  ultralytics: {arguments.model} at {arguments.size} px, {macs:,} MACs, {params:,} parameters")
        theirs = []
        for seed in arguments.seeds:
            theirs.append(kept(folder / f"ultralytics-{seed}.json", partial(train_theirs, divided, arguments, seed)))
            print_row("ultralytics", seed, theirs[-1])
        print(f"  ultralytics: {accuracy([row['right'] for row in theirs])}")
        for baseline in arguments.baselines:
            ours = []
            for seed, other in zip(arguments.seeds, theirs, strict=True):
                row = Row(baseline, tuple(arguments.settings), seed)
                out = folder / row.name
                make = partial(train_ours, divided, out, row, macs, other["seconds"])
                ours.append(kept(out.with_name(f"{row.name}.json"), make))
                if len(ours) == 1:
                    network, own_macs, own_params = (ours[0][key] for key in ("network", "macs", "params"))
                    print(f"  triscale:    {network}, {own_macs:,} MACs, {own_params:,} parameters")
                print_row("triscale", seed, ours[-1])
            both = [[row["right"] for row in rows] for rows in (ours, theirs)]
            print(f"  {' '.join((baseline, *arguments.settings))}: {accuracy(both[0])}")
            print(f"  triscale - ultralytics: {difference(*both)}", flush=True)


def print_row(name: str, seed: int, row: Result) -> None:
    print(
        f"  {name:<11} seed {seed}: {accuracy([row['right']])}, {row['seconds']:.0f} s of processor time, "
        f"{row['epochs']} epochs",
        flush=True,
    )


def divide(images: Path, to: Path, test_share: float) -> Path:
    """Write the images into folders for training, validation and test, as triscale splits them by default."""
    if not to.is_dir():
        split = make_split(scan(images), seed=0, test_share=test_share, val_share=SMALL.val_share)
        draft = to.with_name("images-draft")
        shutil.rmtree(draft, ignore_errors=True)
        for name, samples in zip(SPLITS, (split.train, split.val, split.test), strict=True):
            for number, sample in enumerate(samples):
                source = Path(split.root, sample.path)
                target = draft / name / split.classes[sample.labels[0]] / f"{number:05}-{source.name}"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
        draft.rename(to)
    return to


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*/*") if file.is_file())


def cost_of_theirs(model: str, classes: int, size: int) -> tuple[int, int]:
    """Return multiply-accumulates and parameters, counted by torch; triscale counts the same."""
    network = ClassificationModel(model, nc=classes, verbose=False).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, size, size))
    return counter.get_total_flops() // 2, sum(parameter.numel() for parameter in network.parameters())


def kept(file: Path, compute: Callable[[], Result]) -> Result:
    if not file.is_file():
        file.write_text(json.dumps(compute()))
    return json.loads(file.read_text())


def alone(function: Callable[..., Result], *given: object) -> Result:
    """Call a function in a new process: ultralytics changes global settings of torch and OpenCV."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *given).result()


def train_theirs(divided: Path, arguments: argparse.Namespace, seed: int) -> Result:
    out = divided.parent / f"ultralytics-{seed}"
    given = (arguments.model, arguments.size, seed)
    trial = alone(run_theirs, divided, out / "trial", *given, TRIAL_EPOCHS)
    rest = trial["seconds"] - TRIAL_EPOCHS * trial["epoch_seconds"]
    epochs = round((arguments.seconds - rest) / trial["epoch_seconds"])
    return alone(run_theirs, divided, out / "whole", *given, epochs)


def run_theirs(divided: Path, out: Path, name: str, size: int, seed: int, epochs: int) -> Result:
    torch.set_num_threads(1)
    LOGGER.setLevel("ERROR")
    trackers = ("clearml", "comet", "dvc", "mlflow", "neptune", "raytune", "tensorboard", "wandb")
    ultralytics.settings.update({tracker: False for tracker in trackers if tracker in ultralytics.settings})
    shutil.rmtree(out, ignore_errors=True)
    started: list[float] = []
    began = time.process_time()
    model = ultralytics.YOLO(name)
    model.add_callback("on_train_epoch_start", lambda _: started.append(time.process_time()))
    model.train(
        data=str(divided.resolve()),
        imgsz=size,
        epochs=epochs,
        pretrained=False,
        seed=seed,
        amp=False,
        plots=False,
        workers=0,
        device="cpu",
        verbose=False,
        project=str(out.parent.resolve()),
        name=out.name,
    )
    seconds = time.process_time() - began
    best = ultralytics.YOLO(out / "weights" / "best.pt")
    right = []
    for file in files_of(divided / "test"):
        (outcome,) = best.predict(file, imgsz=size, device="cpu", verbose=False)
        right.append(int(outcome.names[outcome.probs.top1] == file.parent.name))
    return {
        "right": right,
        "seconds": seconds,
        "epochs": len(started),
        "epoch_seconds": statistics.median(later - earlier for earlier, later in pairwise(started[1:])),
    }


def train_ours(divided: Path, out: Path, row: Row, macs: int, limit: float) -> Result:
    longest = MAX_STRETCH * automatic_epochs(SMALL.epochs, len(files_of(divided / "train")))
    # With progressive learning, eight epochs and more have all stages in equal shares.
    lengths = (8, 32) if any(setting.startswith(SEVERAL) for setting in row.settings) else (1, 1 + TRIAL_EPOCHS)
    few, more = (alone(run_ours, divided, out / f"trial-{epochs}", row, macs, epochs)["seconds"] for epochs in lengths)
    epoch = (more - few) / (lengths[1] - lengths[0])
    fitting = math.floor(((1 - SPARE) * limit - (few - lengths[0] * epoch)) / epoch)
    return alone(run_ours, divided, out / "whole", row, macs, min(longest, fitting))


def run_ours(divided: Path, out: Path, row: Row, macs: int, epochs: int) -> Result:
    run, seconds = train_timed(
        divided, row.baseline, ts.Budget(macs=macs), epochs=epochs, settings=row.settings, seed=row.seed, out=out
    )
    files = files_of(divided / "test")
    right = [
        int(predicted.classes[0].name == file.parent.name)
        for file, predicted in zip(files, run.predict(files, top=1), strict=True)
    ]
    cost = ts.cost(run.network)
    return {
        "right": right,
        "seconds": seconds,
        "epochs": len(run.history),
        "top1": run.metrics.top1,
        "network": f"{run.network.name} at {run.network.resolution} px",
        "macs": cost.macs,
        "params": cost.params,
    }


def difference(ours: list[list[int]], theirs: list[list[int]]) -> str:
    """Return the mean difference in points, with the normal interval of a mean over the test images."""
    means = [[statistics.fmean(image) for image in zip(*rights, strict=True)] for rights in (ours, theirs)]
    differences = [100 * (a - b) for a, b in zip(*means, strict=True)]
    center, error = statistics.fmean(differences), statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{center:+.1f} points ({center - Z_95 * error:+.1f} to {center + Z_95 * error:+.1f})"


if __name__ == "__main__":
    main()
