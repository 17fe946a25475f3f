"""STEP 1 of the paper for any baseline and any images: alpha, beta, gamma from candidates of equal real cost."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt

from triscale import __version__
from triscale.data.copies import find_copies
from triscale.data.split import Sample, Split, make_split
from triscale.errors import Interrupted, RunError
from triscale.jobs.networks import totals_of
from triscale.jobs.prepare import for_classes
from triscale.jobs.run import Request, Run, RunSpec
from triscale.jobs.scanning import watched_scan
from triscale.jobs.train import Carrying, read_history, train_run
from triscale.jobs.watch import Silent, Watcher
from triscale.measure.device import machine
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.search.grid import Grid, find_candidates
from triscale.search.ledger import open_ledger
from triscale.search.methods import search_grid, search_halving
from triscale.search.response import search_response
from triscale.search.study import Study
from triscale.search.trial import Found, Job, Proxy, Score
from triscale.training.recipe import Recipe

Method = Literal["grid", "halving", "response"]


class Search(Record):
    """What was asked of a search: the same request goes on with it, another one is refused.

    ``share`` of the training images of every class is trained on; candidates are scored on the images that are held
    out of training, never on those for testing. ``recipe`` holds the epochs of the proxy.
    """

    kind_name: ClassVar[str] = "search"

    images: str
    baseline: AnyNetwork
    grid: Grid
    method: Method
    recipe: Recipe
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    share: float = Field(default=1.0, gt=0, le=1)
    split_seed: int = 0


@dataclass(frozen=True, slots=True)
class ProxyTraining:
    """Trains a candidate as far as a job says, in a Run of its own; it is sent to other processes."""

    search: Search
    split_file: Path
    device: str
    threads: PositiveInt

    def __call__(self, job: Job, folder: Path) -> Score:
        """Return the accuracy of a job's network on the held-out images after its last epoch."""
        torch.set_num_threads(self.threads)
        split, run = Split.load(self.split_file), Run(folder)
        reached = [len(read_history(run))]

        def on_epoch() -> None:
            reached[0] = len(read_history(run))

        carrying = Carrying(
            device=torch.device(self.device), should_stop=lambda: reached[0] >= job.stop, on_epoch=on_epoch
        )
        # Interrupted at the end of the job's last epoch, with everything saved for the next job.
        with contextlib.suppress(Interrupted):
            train_run(run, self._spec(job, split), split, Silent(), carrying)
        accuracy = read_history(run)[job.stop - 1].val_top1
        return Score(accuracy, math.sqrt(accuracy * (1 - accuracy) / len(split.val)))

    def _spec(self, job: Job, split: Split) -> RunSpec:
        recipe, resolution = self.search.recipe, job.network.resolution
        return RunSpec(
            version=__version__,
            request=Request(
                images=self.search.images,
                network=job.network,
                budget=None,
                law=None,
                recipe=recipe,
                seed=job.seed,
                test_share=0.2,
            ),
            network=job.network,
            fit=None,
            preprocessing=Preprocessing(resolution=resolution, crop=recipe.crop_at(resolution)),
            classes=split.classes,
            split=split.digest,
            machine=machine(),
        )


def find_coefficients(
    search: Search,
    out: Path,
    watcher: Watcher,
    *,
    device: torch.device,
    workers: int = 1,
    threads: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> Found:
    """Search the coefficients; everything lies in ``out``, and the same request goes on where it stopped.

    ``law.json`` can be given to ``--law``, ``coefficients.json`` holds the whole result, ``trials`` a Run for each
    training.

    Raises:
        UserError: images that cannot be trained on, a grid on which nothing costs what is asked for, or a folder that
            holds something else.
        Interrupted: ``should_stop`` answered true; what has ended is written down.
        JobError: a training that cannot be carried out.
    """
    split = _prepare(search, out, watcher, should_stop)
    baseline = for_classes(search.baseline, len(split.classes), search.recipe)
    candidates = find_candidates(baseline, search.grid, totals_of)
    proxy = Proxy(epochs=search.recipe.epochs, images=len(split.train), seeds=search.seeds)
    work = ProxyTraining(search, out / "split.json", str(device), threads)
    watcher.begin("train")

    def on_change(ended: int, total: int) -> None:
        watcher.begin("train", total)
        watcher.advance(ended, f"{ended} of {total} trainings")

    settings: dict[str, object] = {"search": search.digest, "split": split.digest}
    with open_ledger(out / "study.sqlite", "coefficients", settings) as ledger:
        study = Study(ledger, out / "trials", work, workers=workers, should_stop=should_stop, on_change=on_change)
        match search.method:
            case "grid":
                found = search_grid(candidates, proxy, study.evaluate)
            case "halving":
                found = search_halving(candidates, proxy, study.evaluate)
            case "response":
                found = search_response(candidates, proxy, study.evaluate, count=totals_of)
    found.law.save(out / "law.json")
    found.save(out / "coefficients.json")
    return found


def _prepare(search: Search, out: Path, watcher: Watcher, should_stop: Callable[[], bool]) -> Split:
    """Scan and split the images, or take up what a search of the same request has."""
    images, asked, file = Path(search.images), out / "search.json", out / "split.json"
    if images.is_dir() and out.resolve().is_relative_to(images.resolve()):
        raise RunError(f"{out} lies within the images in {images}, where nothing is written; give another --out")
    if asked.is_file():
        if Search.load(asked) != search:
            raise RunError(f"{out} holds a search of another request; give another --out, or the same options")
        return Split.load(file)
    if out.is_dir() and any(path.name != file.name for path in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no search; give a new folder with --out")

    found = watched_scan(
        search.images, watcher, should_stop, "stopped during the scan of the images; nothing was written yet"
    )
    split = make_split(found, seed=search.split_seed, val_share=search.recipe.val_share, copies=find_copies(found))
    split = split.model_copy(update={"train": _thinned(split.train, search.share, search.split_seed)})
    split.save(file)
    search.save(asked)
    return split


def _thinned(samples: tuple[Sample, ...], share: float, seed: int) -> tuple[Sample, ...]:
    """Return a share of the samples of every class, at least two, chosen by seed and path."""
    by_class: dict[int, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.label, []).append(sample)
    kept = []
    for of_class in by_class.values():
        order = sorted(of_class, key=lambda sample: hashlib.sha256(f"share/{seed}/{sample.path}".encode()).digest())
        kept += order[: max(2, round(share * len(order)))]
    return tuple(sorted(kept, key=lambda sample: sample.path))
