"""Carry out the trainings of a study, each as a run in its own folder that resumes from its checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from pydantic import PositiveInt

from triscale.data.checks.duplicates import find_duplicates
from triscale.data.pipeline.leaks import find_leaks, refuse_leaks
from triscale.data.pipeline.split import Sample, Split, make_split
from triscale.errors import DataError, Interrupted, RunError
from triscale.jobs.core.networks import count_of
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.core.run import Request, RunFolder, RunSpec
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.studies.requests import StudyLocation, StudyOptions, StudyRequest
from triscale.jobs.training.preprocessing import choose_preprocessing
from triscale.jobs.training.train import read_history, train_run
from triscale.measurement.device import machine
from triscale.network.custom import AnyNetwork
from triscale.progress import format_duration
from triscale.results.metrics import Metrics
from triscale.search.shape import ScaledNetwork, realized
from triscale.search.study.ledger import Ledger, open_ledger
from triscale.search.study.storage import without_password
from triscale.search.study.study import Pace, Study
from triscale.search.study.trial import Job, Score
from triscale.search.study.worker import Work
from triscale.training.context import ExecutionContext
from triscale.training.mirroring import flip_note, with_flip
from triscale.training.recipe import Recipe
from triscale.version import __version__

TEST_SHARE = 0.2
SPLIT = "split.json"
STUDY = "study.sqlite"
Size = Callable[[AnyNetwork], ScaledNetwork]
MIN_HELD_OUT = 20
"""Minimum number of validation images; with fewer, a single image changes the accuracy by more than 5 points."""
MAX_HELD_OUT = 0.5
"""Maximum share of validation images that an error message suggests."""


@dataclass(frozen=True, slots=True)
class Trainings:
    """Carries out the trainings of a study; it is pickled and sent to worker processes.

    Attributes:
        images: The data set.
        recipe: The recipe of all trainings.
        split_file: File of the split.
        device: Device that a worker computes on.
        threads: Threads of each worker.
    """

    images: str
    recipe: Recipe
    split_file: Path
    device: str
    threads: PositiveInt

    def validate(self, job: Job, folder: Path) -> Score:
        """Train up to the job's last epoch; return the validation accuracy after it."""
        torch.set_num_threads(self.threads)
        split, run = Split.load(self.split_file), RunFolder(folder)
        reached = [len(read_history(run))]

        def on_epoch() -> None:
            reached[0] = len(read_history(run))

        context = ExecutionContext(device=torch.device(self.device), should_stop=lambda: reached[0] >= job.stop)
        # Interrupted at the end of the job's last epoch, with everything saved for the next job.
        with run.lock(), contextlib.suppress(Interrupted):
            train_run(run, self._load_or_create_spec(run, job, split), split, context, on_epoch)
        accuracy = read_history(run)[job.stop - 1].val_score
        return Score(accuracy, binomial_error(accuracy, len(split.val)))

    def test(self, job: Job, folder: Path) -> Score:
        """Train for all epochs, as ``triscale train`` does, and return the accuracy on the test images."""
        torch.set_num_threads(self.threads)
        split, run = Split.load(self.split_file), RunFolder(folder)
        context = ExecutionContext(device=torch.device(self.device))
        with run.lock():
            spec = self._load_or_create_spec(run, job, split)
            if not run.weights_file.is_file():
                train_run(run, spec, split, context)
            if not run.metrics_file.is_file():
                evaluate_run(run, context)
        metrics = Metrics.load(run.metrics_file)
        return Score(metrics.top1, binomial_error(metrics.top1, metrics.count))

    def _load_or_create_spec(self, run: RunFolder, job: Job, split: Split) -> RunSpec:
        """Return the specification of a job's run; write it, the split and the network if the run is new."""
        if not run.spec_file.is_file():
            spec = self._spec(job, split)
            split.save(run.split_file)
            spec.network.save(run.network_file)
            spec.save(run.spec_file)
        return run.spec

    def _spec(self, job: Job, split: Split) -> RunSpec:
        preprocessing, _ = choose_preprocessing(None, self.recipe, job.network, split)
        return RunSpec(
            version=__version__,
            request=Request(
                images=self.images,
                network=job.network,
                budget=None,
                law=None,
                recipe=with_flip(self.recipe, split.classes),
                seed=job.seed,
                test_share=TEST_SHARE,
            ),
            network=job.network,
            fit=None,
            preprocessing=preprocessing,
            classes=split.classes,
            split=split.digest,
            machine=machine(),
        )


def binomial_error(accuracy: float, count: int) -> float:
    """Return the standard error of an accuracy on ``count`` images."""
    return math.sqrt(accuracy * (1 - accuracy) / count)


def settings_of(request: StudyRequest, split: Split) -> dict[str, object]:
    """Return digests of everything that the results of a study depend on; the path of the images is excluded."""
    without_path: dict[str, object] = {"images": ""}
    return {
        request.kind_name: request.replace(**without_path).digest,
        "split": split.replace(root="").digest,
    }


@contextmanager
def open_study(
    name: str,
    settings: dict[str, object],
    baseline: AnyNetwork,
    work: Work,
    out: Path,
    context: ExecutionContext,
    options: StudyOptions,
) -> Iterator[Study]:
    """Open a study in its directory, or on a server.

    Args:
        name: Default name of the study.
        settings: The return value of :func:`settings_of`.
        baseline: The network that the cost of candidates is relative to.
        work: Carries out a job.
        out: Directory of the study.
        context: Device, number of workers, stop flag and progress.
        options: Storage and name of the study.

    Yields:
        The study, ready to evaluate jobs.

    Raises:
        RunError: Another process works in the directory.
        SearchError: The storage cannot be used, or holds a study of the same name with other settings.
    """
    size = sizes_relative_to(baseline)

    def on_change(pace: Pace) -> None:
        context.progress.begin("train", pace.total)
        left = "" if pace.seconds_left is None else f", about {format_duration(pace.seconds_left)} left"
        context.progress.advance(pace.ended, f"{pace.ended} of {pace.total} trainings{left}")

    context.progress.begin("train")
    with open_study_ledger(name, settings, size, out, options) as ledger:
        study = Study(
            ledger,
            out / "trials",
            work,
            workers=max(1, context.workers),
            should_stop=context.should_stop,
            on_change=on_change,
            weigh=lambda job: float(size(job.network).macs * (job.stop - job.start)),
        )
        with study:
            yield study


@contextmanager
def open_study_ledger(
    name: str, settings: dict[str, object], size: Size, out: Path, options: StudyOptions
) -> Iterator[Ledger]:
    """Open the ledger of a study and save its location; see :func:`open_study` for arguments and errors."""
    storage, title = options.storage or out / STUDY, options.study or name
    with open_ledger(storage, title, settings, lambda job: size(job.network)) as ledger:
        StudyLocation(storage=without_password(options.storage), study=title).save(out / StudyLocation.file_name)
        yield ledger


def sizes_relative_to(baseline: AnyNetwork) -> Size:
    """Return a function that counts networks, with their cost relative to that of a baseline; counts are cached."""
    baseline_counts = count_of(baseline)

    @cache
    def size(network: AnyNetwork) -> ScaledNetwork:
        counted = count_of(network)
        return ScaledNetwork(
            network=network,
            ratio=counted.macs / baseline_counts.macs,
            realized=realized(baseline, network),
            macs=counted.macs,
            params=counted.params,
        )

    return size


def prepare_split(
    request: StudyRequest,
    out: Path,
    context: ExecutionContext,
    options: StudyOptions,
    check: Callable[[Split], None] = lambda split: None,
) -> Split:
    """Scan and split the images of a study, or load the split of the same request from its directory.

    Args:
        request: The request; it is saved last, under the name of its kind.
        out: Directory of the study.
        context: Progress and stop flag.
        options: Whether leaks are allowed.
        check: Called with the split of a new study; if it raises, nothing is written.

    Returns:
        The split, with the requested share of the training images.

    Raises:
        RunError: The directory is inside the images or holds other files.
        DataError: The images cannot be trained on, or there are too few validation images.
        Interrupted: ``context.should_stop`` returned true during the scan.
    """
    file, split_file = out / f"{request.kind_name}.json", out / SPLIT
    refuse_output_in_images(out, request.images)
    if started(request, out):
        return Split.load(split_file)

    scanned = scan_with_progress(
        request.images, context, "stopped while scanning the images; nothing was written", request.data
    )
    copies = find_duplicates(scanned)
    split = make_split(scanned, seed=request.split_seed, val_share=request.recipe.val_share, duplicates=copies)
    if split.multi_label:
        raise DataError(
            f"the images in {scanned.root} have any number of labels; searches and comparisons need one class for each "
            "image: train networks one by one instead, with triscale train"
        )
    if not options.allow_leak:
        refuse_leaks(split.root, find_leaks(split, copies, scanned.groups))
    if len(split.val) < MIN_HELD_OUT:
        raise DataError(_too_few_message(split))
    split = split.replace(train=subsample(split.train, request.share, request.split_seed))
    check(split)
    if (note := flip_note(request.recipe, split.classes)) is not None:
        context.progress.note(note)
    split.save(split_file)
    request.save(file)
    return split


def started(request: StudyRequest, out: Path) -> bool:
    """Return whether a directory holds the study of a request already.

    Raises:
        RunError: The directory holds a study with another request, or other files.
    """
    file = out / f"{request.kind_name}.json"
    if file.is_file():
        if type(request).load(file) != request:
            raise RunError(
                f"{out} holds a {request.kind_name} with a different request; give another folder with --out, or the "
                "same options as before to resume it"
            )
        return True
    if out.is_dir() and any(path.name != SPLIT for path in out.iterdir()):
        raise RunError(f"{out} is not empty and holds no {request.kind_name}; give a new folder with --out")
    return False


def _too_few_message(split: Split) -> str:
    total = len(split.train) + len(split.val)
    share = (MIN_HELD_OUT + len(split.classes)) / total
    remedy = "give more images"
    if share <= MAX_HELD_OUT:
        remedy = f"{remedy}, or --set val_share={math.ceil(20 * share) / 20:g}"
    return (
        f"only {len(split.val)} of {total} training images would be used for validation, but at least {MIN_HELD_OUT} "
        f"are needed to compare networks; {remedy}"
    )


def subsample(samples: tuple[Sample, ...], share: float, seed: int) -> tuple[Sample, ...]:
    """Return a share of the samples of each class, at least two, selected by a hash of seed and path."""
    by_class: dict[int, list[Sample]] = {}
    for sample in samples:
        by_class.setdefault(sample.labels[0], []).append(sample)
    kept = []
    for of_class in by_class.values():
        order = sorted(of_class, key=lambda sample: hashlib.sha256(f"share/{seed}/{sample.path}".encode()).digest())
        kept += order[: max(2, round(share * len(order)))]
    return tuple(sorted(kept, key=lambda sample: sample.path))
