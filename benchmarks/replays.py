"""Cost of taking one step in N twice (``--set replay_every=N``): training time with and without, in turns.

A round is an epoch of 100 steps of two trainings, with and without, which take their steps in turns, so that other
processes disturb both alike. Images are read, decoded, augmented and trained on as in a training, with decoded images
cached between epochs; the batch of the step that is taken twice is read and decoded again. A ratio is that of one
round. The digest of the state, which every epoch has for ``triscale verify``, is timed by itself.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from triscale.data.pipeline.loader import TrainLoader
from triscale.data.pipeline.order import is_replayed
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import Split, make_split
from triscale.families.find import find_network
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.engine import make_engine
from triscale.training.loop import seed_weights
from triscale.training.objective import Objective
from triscale.training.recipe import SMALL
from triscale.training.replay import Replay
from triscale.training.state.state import digest_of, to_tensors
from triscale.training.task import TrainingTask

STEPS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="class folders")
    parser.add_argument("--network", default="efficientnet_b0@64")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every", type=int, default=SMALL.replay_every)
    given = parser.parse_args()
    torch.set_num_threads(1)
    split = make_split(scan(given.images))
    # Exactly 100 batches.
    samples = (split.train * (1 + STEPS * given.batch // len(split.train)))[: STEPS * given.batch]
    split = split.replace(train=samples)
    options = " ".join(text for text in sys.argv[2:])
    print(f"# python benchmarks/replays.py IMAGES {options}\n")
    print(
        f"{given.images.name}, {given.network}, batch {given.batch}, 1 thread, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )
    variants = {every: Variant(given, split, every) for every in (0, given.every)}
    run_round(variants)  # fills caches
    rounds = [run_round(variants) for _ in range(given.rounds)]
    for number, clock in enumerate(("CPU time", "wall time")):
        ratios = [one[given.every][number] / one[0][number] for one in rounds]
        plain = statistics.median(one[0][number] for one in rounds)
        print(
            f"one step in {given.every} taken twice: {statistics.median(ratios):.3f} of the {clock} without "
            f"({min(ratios):.3f} to {max(ratios):.3f} in {given.rounds} rounds), {plain:.1f} s for {STEPS} steps"
        )
    began, tensors = time.perf_counter(), to_tensors(variants[0].engine.state).values
    digest_of(tensors)
    size = sum(value.numel() * value.element_size() for value in tensors.values())
    print(f"digest of the state, once an epoch: {time.perf_counter() - began:.2f} s for {size / 1e6:.0f} MB")


class Variant:
    """A training with its own state."""

    def __init__(self, given: argparse.Namespace, split: Split, every: int) -> None:
        network = find_network(given.network).replace(classes=len(split.classes))
        preprocessing = Preprocessing(resolution=network.resolution)
        seed_weights(0)
        task = TrainingTask(
            model=build(network),
            recipe=SMALL.replace(batch=given.batch),
            preprocessing=preprocessing,
            classes=len(split.classes),
            objective=Objective(label_smoothing=SMALL.label_smoothing),
            network_digest="",
            seed=0,
        )
        context = ExecutionContext()
        self.engine = make_engine(task, context)
        self.replay = Replay(engine=self.engine, every=every, context=context)
        self.loader = TrainLoader(
            split, preprocessing, SMALL.augmentation, batch=given.batch, seed=0, replay_every=every
        )  # fmt: skip
        assert self.loader.num_steps == STEPS
        assert not every or sum(is_replayed(step, every) for step in range(STEPS)) == STEPS // every
        self.epoch = 0

    def steps(self) -> Iterator[None]:
        """Train an epoch, and yield after each step."""
        self.replay.keep()
        for step, batch in enumerate(self.loader.epoch(self.epoch)):
            self.replay.check_rest()
            self.replay.take(batch, partial(self.engine.take, count=self.loader.count(step), rate=1e-3))
            self.replay.keep()
            yield
        self.engine.reset_tally()
        self.epoch += 1


def run_round(variants: dict[int, Variant]) -> dict[int, tuple[float, float]]:
    """Train an epoch of each variant, one step of each in turns, and return their CPU and wall times."""
    spent = dict.fromkeys(variants, (0.0, 0.0))
    running = {every: variant.steps() for every, variant in variants.items()}
    for number in range(STEPS + 1):  # the last call ends the epoch
        order = list(running) if number % 2 else list(running)[::-1]
        for every in order:
            cpu, wall = time.process_time(), time.perf_counter()
            next(running[every], None)
            before = spent[every]
            spent[every] = before[0] + time.process_time() - cpu, before[1] + time.perf_counter() - wall
    return spent


if __name__ == "__main__":
    main()
