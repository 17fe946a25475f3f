"""Trainings that a study hands out: each a Run in a folder of its own, taken up from its checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field, PositiveInt

from triscale import __version__
from triscale.data.checks.duplicates import find_duplicates
from triscale.data.pipeline.leaks import find_leaks, refuse_leaks
from triscale.data.pipeline.split import Sample, Split, make_split
from triscale.errors import DataError, Interrupted, RunError
from triscale.jobs.core.networks import count_of
from triscale.jobs.core.progress import NullProgress, ProgressReporter, format_duration
from triscale.jobs.core.run import Request, Run, RunSpec
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.training.train import Carrying, read_history, train_run
from triscale.measure.device import machine
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.search.shape import ScaledNetwork, realized
from triscale.search.study.ledger import open_ledger
from triscale.search.study.storage import without_password
from triscale.search.study.study import Pace, Study
from triscale.search.study.trial import Job, Score
from triscale.search.study.worker import Work
from triscale.training.metrics import Metrics
from triscale.training.recipe import Recipe

TEST_SHARE = 0.2
SPLIT = "split.json"
STUDY = "study.sqlite"
MIN_HELD_OUT = 20
"""With fewer held-out images, one of them is worth more than five points."""
MAX_HELD_OUT = 0.5


class StudyRequest(Record):
    """What was asked of a study: the same request goes on with it, another one is refused.

    ``share`` of the training images of every class is trained on. ``recipe`` holds the epochs.
    """

    images: str
    baseline: AnyNetwork
    recipe: Recipe
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    share: float = Field(default=1.0, gt=0, le=1)
    split_seed: int = 0


class StudyLocation(Record):
    """Where the study of a folder lies: on a server, without its password, or in the folder's own file."""

    kind_name: ClassVar[str] = "study_place"
    file_name: ClassVar[str] = "study.json"

    storage: str | None
    study: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """Who carries out a study; nothing here changes its result, apart from the device.

    Attributes:
        device: where workers compute.
        workers: processes that train at a time.
        threads: of each.
        storage: address of a PostgreSQL database that machines share; None for a file in the study's folder.
        study: its name there, instead of the one that the job gives it.
        allow_leak: whether copies of training images may be scored on.
        should_stop: polled; true to save and end.
    """

    device: torch.device
    workers: PositiveInt = 1
    threads: PositiveInt = 1
    storage: str | None = None
    study: str | None = None
    allow_leak: bool = False
    should_stop: Callable[[], bool] = lambda: False

    def at(self, place: StudyLocation) -> Hands:
        """Return the same with the storage and study of a place."""
        return replace(self, storage=place.storage, study=place.study)


@dataclass(frozen=True, slots=True)
class Trainings:
    """How the trainings of a study are carried out; it is sent to other processes.

    Attributes:
        images: where the split's images come from.
        recipe: of all trainings.
        split_file: which image is for what.
        device: where a worker computes.
        threads: of each worker.
    """

    images: str
    recipe: Recipe
    split_file: Path
    device: str
    threads: PositiveInt

    def until(self, job: Job, folder: Path) -> Score:
        """Train as far as a job says; return the accuracy on the held-out images after its last epoch."""
        torch.set_num_threads(self.threads)
        split, run = Split.load(self.split_file), Run(folder)
        reached = [len(read_history(run))]

        def on_epoch() -> None:
            reached[0] = len(read_history(run))

        carrying = Carrying(
            device=torch.device(self.device), should_stop=lambda: reached[0] >= job.stop, on_epoch=on_epoch
        )
        # Interrupted at the end of the job's last epoch, with everything saved for the next job.
        with run.lock(), contextlib.suppress(Interrupted):
            train_run(run, self._described(run, job, split), split, NullProgress(), carrying)
        accuracy = read_history(run)[job.stop - 1].val_top1
        return Score(accuracy, binomial_error(accuracy, len(split.val)))

    def tested(self, job: Job, folder: Path) -> Score:
        """Train to the end, as ``triscale train`` does, and return the accuracy on the test images."""
        torch.set_num_threads(self.threads)
        split, run, device = Split.load(self.split_file), Run(folder), torch.device(self.device)
        with run.lock():
            spec = self._described(run, job, split)
            if not run.weights_file.is_file():
                train_run(run, spec, split, NullProgress(), Carrying(device=device))
            if not run.metrics_file.is_file():
                evaluate_run(run, NullProgress(), device=device)
        metrics = Metrics.load(run.metrics_file)
        return Score(metrics.top1, binomial_error(metrics.top1, metrics.count))

    def _described(self, run: Run, job: Job, split: Split) -> RunSpec:
        """Return what the Run of a job trains, and write it down at its beginning."""
        if not run.spec_file.is_file():
            spec = self._spec(job, split)
            split.save(run.split_file)
            spec.network.save(run.network_file)
            spec.save(run.spec_file)
        return run.spec

    def _spec(self, job: Job, split: Split) -> RunSpec:
        resolution = job.network.resolution
        return RunSpec(
            version=__version__,
            request=Request(
                images=self.images,
                network=job.network,
                budget=None,
                law=None,
                recipe=self.recipe,
                seed=job.seed,
                test_share=TEST_SHARE,
            ),
            network=job.network,
            fit=None,
            preprocessing=Preprocessing(resolution=resolution, crop=self.recipe.crop_at(resolution)),
            classes=split.classes,
            split=split.digest,
            machine=machine(),
        )


def binomial_error(accuracy: float, count: int) -> float:
    """Return the standard error of a share of ``count`` images."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


def settings_of(asked: StudyRequest, split: Split) -> dict[str, object]:
    """Return what the results of a study depend on; where its images lie is no matter."""
    there: dict[str, object] = {"images": ""}
    return {
        asked.kind_name: asked.model_copy(update=there).digest,
        "split": split.model_copy(update={"root": ""}).digest,
    }


@contextmanager
def open_study(
    name: str,
    settings: dict[str, object],
    baseline: AnyNetwork,
    work: Work,
    out: Path,
    hands: Hands,
    reporter: ProgressReporter,
) -> Iterator[Study]:
    """Open the study of a job in its folder, or on a server.

    Args:
        name: of the study, where ``hands`` give none.
        settings: of :func:`settings_of`.
        baseline: whose multiples the networks are, for those who read along.
        work: carries out a job.
        out: folder of the job.
        hands: who carries it out.
        reporter: told how far it is.

    Raises:
        RunError: another process works in the folder.
        SearchError: the storage cannot be used, or holds a study of the name with other settings.
    """
    tally = count_of(baseline)

    @cache
    def size(network: AnyNetwork) -> ScaledNetwork:
        counted = count_of(network)
        return ScaledNetwork(
            network=network,
            ratio=counted.macs / tally.macs,
            realized=realized(baseline, network),
            macs=counted.macs,
            params=counted.params,
        )

    def on_change(pace: Pace) -> None:
        reporter.begin("train", pace.total)
        left = "" if pace.seconds_left is None else f", about {format_duration(pace.seconds_left)} left"
        reporter.advance(pace.ended, f"{pace.ended} of {pace.total} trainings{left}")

    reporter.begin("train")
    place, title = hands.storage or out / STUDY, hands.study or name
    with open_ledger(place, title, settings, lambda job: size(job.network)) as ledger:
        StudyLocation(storage=without_password(hands.storage), study=title).save(out / StudyLocation.file_name)
        study = Study(
            ledger,
            out / "trials",
            work,
            workers=hands.workers,
            should_stop=hands.should_stop,
            on_change=on_change,
            weigh=lambda job: float(size(job.network).macs * (job.stop - job.start)),
        )
        with study:
            yield study


def prepare_split(
    asked: StudyRequest,
    out: Path,
    hands: Hands,
    reporter: ProgressReporter,
    check: Callable[[Split], None] = lambda split: None,
) -> Split:
    """Scan and split the images of a study, or take up what a study of the same request has in its folder.

    Args:
        asked: the request; it is saved last, under the name of its kind.
        out: the folder.
        hands: whether leaks are allowed, and when to stop.
        reporter: follows the scan.
        check: is given the split of a new study; what it raises leaves no trace.

    Raises:
        RunError: the folder lies among the images or holds something else.
        DataError: images that cannot be trained on, or too few to hold some out.
        Interrupted: ``should_stop`` answered true during the scan.
    """
    file, split_file = out / f"{asked.kind_name}.json", out / SPLIT
    if Path(asked.images).is_dir() and out.resolve().is_relative_to(Path(asked.images).resolve()):
        raise RunError(f"{out} lies within the images in {asked.images}, where nothing is written; give another --out")
    if file.is_file():
        if type(asked).load(file) != asked:
            raise RunError(
                f"{out} holds a {asked.kind_name} of another request; give another --out, or the same options"
            )
        return Split.load(split_file)
    if out.is_dir() and any(path.name != split_file.name for path in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no {asked.kind_name}; give a new folder with --out")

    found = scan_with_progress(
        asked.images, reporter, hands.should_stop, "stopped during the scan of the images; nothing was written yet"
    )
    copies = find_duplicates(found)
    split = make_split(found, seed=asked.split_seed, val_share=asked.recipe.val_share, duplicates=copies)
    if not hands.allow_leak:
        refuse_leaks(split, find_leaks(split, copies))
    if len(split.val) < MIN_HELD_OUT:
        raise DataError(_too_few(split))
    split = split.model_copy(update={"train": thinned(split.train, asked.share, asked.split_seed)})
    check(split)
    split.save(split_file)
    asked.save(file)
    return split


def _too_few(split: Split) -> str:
    total = len(split.train) + len(split.val)
    share = (MIN_HELD_OUT + len(split.classes)) / total
    remedy = "give more images"
    if share <= MAX_HELD_OUT:
        remedy = f"{remedy}, or --set val_share={math.ceil(20 * share) / 20:g}"
    return (
        f"{len(split.val)} of {total} training images would be held out to score networks on, and at least "
        f"{MIN_HELD_OUT} are needed to tell them apart; {remedy}"
    )


def thinned(samples: tuple[Sample, ...], share: float, seed: int) -> tuple[Sample, ...]:
    """Return a share of the samples of every class, at least two, chosen by seed and path."""
    by_class: dict[int, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.label, []).append(sample)
    kept = []
    for of_class in by_class.values():
        order = sorted(of_class, key=lambda sample: hashlib.sha256(f"share/{seed}/{sample.path}".encode()).digest())
        kept += order[: max(2, round(share * len(order)))]
    return tuple(sorted(kept, key=lambda sample: sample.path))
