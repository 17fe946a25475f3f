"""Cross-validate: train one run for each fold of the images, and summarize their test results."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from triscale.data.pipeline.folds import MAX_FOLDS, MIN_FOLDS, Fold
from triscale.data.pipeline.split import Split
from triscale.data.sources.labels import Label
from triscale.errors import DataError, Interrupted, RunError, UserError
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.core.run import Request, RunFolder
from triscale.jobs.fit import RunOptions, train
from triscale.jobs.training.request import DEFAULT_TEST_SHARE
from triscale.progress import ProgressReporter
from triscale.results.folds import CAUTION, GROUPS_CAUTION, FoldResult, FoldsSummary, fold_result, t_interval
from triscale.results.metrics import Metrics
from triscale.training.context import ExecutionContext
from triscale.training.metrics import wilson

RECORD = "folds.json"


def check_folds(folds: int) -> None:
    """Check a number of folds.

    Args:
        folds: The number of folds.

    Raises:
        UserError: It is too small or too large.
    """
    if not MIN_FOLDS <= folds <= MAX_FOLDS:
        raise UserError(f"{folds} folds are not possible; give a number from {MIN_FOLDS} to {MAX_FOLDS}, such as 5")


def cross_validate(
    request: Request, folds: int, out: Path, context: ExecutionContext, options: RunOptions | None = None
) -> FoldsSummary:
    """Train, evaluate and report one run for each fold, in the folders ``fold-1``, ``fold-2``, ... of ``out``.

    Each image that is not in a given test split is tested in exactly one fold. The same request resumes where it
    stopped; finished folds are kept. The result estimates how well the recipe does; to get one network, train on the
    same images without folds.

    Args:
        request: Images, network or baseline, optional budget, and recipe.
        folds: Number of folds, 2 or more.
        out: Folder of the runs and of ``folds.json``.
        context: Device, workers, progress and stop flag; one process.
        options: What to record and to accept.

    Returns:
        The accuracy of each fold, their mean, standard deviation and intervals; also saved as ``folds.json``.

    Raises:
        UserError: The request is invalid, a class has too few images or groups, or the images have changed since the
            first fold.
        Interrupted: ``context.should_stop`` returned true; everything is saved.
    """
    check_folds(folds)
    refuse_output_in_images(out, request.images)
    _refuse_other(out)
    if request.test_share != DEFAULT_TEST_SHARE:
        raise UserError(
            f"a share of test images has no effect on {folds} folds, which test each image once; leave it out"
        )
    if request.open is not None and request.open.time_limit is not None:
        raise UserError(f"a time limit is for one training, not for {folds} folds; leave one of them out")
    if context.group.size > 1:
        raise UserError("a cross-validation runs in one process; start it without torchrun, or without folds")
    results: list[FoldResult] = []
    for number in range(1, folds + 1):
        fold = Fold(number=number, count=folds)
        run = RunFolder(out / folder_of(number))
        if context.should_stop():
            raise Interrupted(f"stopped before fold {number} of {folds}; run the same command again to resume")
        metrics = _finished(run, request.replace(fold=fold))
        if metrics is None:
            checked = replace(options or RunOptions(), check_split=partial(_check_images, run), warns=number == 1)
            reporter = FoldReporter(context.progress, fold)
            trained = train(request.replace(fold=fold), run.folder, replace(context, progress=reporter), checked)
            assert isinstance(trained, Metrics), "checked before"
            metrics = trained
        else:
            context.progress.note(f"fold {number} of {folds} is finished: accuracy {metrics.top1:.1%}")
        results.append(fold_result(number, run.folder.name, metrics))
    summary = summarize_folds(request, RunFolder(out / folder_of(1)), results)
    summary.save(out / RECORD)
    return summary


def folder_of(number: int) -> str:
    """Return the name of the folder of a fold.

    Args:
        number: From 1.

    Example:
        >>> folder_of(3)
        'fold-3'
    """
    return f"fold-{number}"


def summarize_folds(request: Request, first: RunFolder, results: Sequence[FoldResult]) -> FoldsSummary:
    """Return the summary of finished folds.

    Args:
        request: The request, without a fold.
        first: The run of the first fold.
        results: The result of each fold.
    """
    spec, split = first.spec, first.split
    count = sum(result.count for result in results)
    correct = sum(round(result.top1 * result.count) for result in results)
    accuracies = [result.top1 for result in results]
    (low, high), interval = wilson(correct, count), t_interval(accuracies)
    return FoldsSummary(
        images=request.images,
        network=spec.network.name,
        num_folds=len(results),
        folds=tuple(results),
        count=count,
        top1=correct / count,
        top1_low=low,
        top1_high=high,
        mean=statistics.mean(accuracies),
        deviation=statistics.stdev(accuracies),
        mean_low=interval and interval[0],
        mean_high=interval and interval[1],
        mean_class_accuracy=statistics.mean(result.mean_class_accuracy for result in results),
        how=split.how.replace(f"fold 1 of {len(results)}", f"each of {len(results)} folds in turn", 1),
        caution=f"{CAUTION}; {GROUPS_CAUTION}" if split.num_groups else CAUTION,
    )


class FoldReporter:
    """A progress reporter that says which fold is trained.

    Args:
        reporter: Receives everything.
        fold: The fold.

    Example:
        >>> from triscale.progress import NullProgress
        >>> FoldReporter(NullProgress(), Fold(number=2, count=5)).begin("train", 100)
    """

    def __init__(self, reporter: ProgressReporter, fold: Fold) -> None:
        self._reporter, self._prefix = reporter, f"fold {fold.number}/{fold.count}"

    def begin(self, title: str, total: int | None = None) -> None:
        """Start a step of the fold."""
        self._reporter.begin(f"{self._prefix}: {title}", total)

    def advance(self, done: int, text: str = "") -> None:
        """Pass progress on."""
        self._reporter.advance(done, text)

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._reporter.note(text)


def _finished(run: RunFolder, request: Request) -> Metrics | None:
    """Return the metrics of a finished fold; None if it has not finished.

    Raises:
        RunError: It was started with a different request.
    """
    if not run.manifest_file.is_file() or not run.spec_file.is_file():
        return None
    run.refuse_other(request)
    return Metrics.load(run.metrics_file)


def _refuse_other(out: Path) -> None:
    if not out.is_dir():
        return
    foreign = sorted(
        path.name for path in out.iterdir() if path.name != RECORD and not path.name.startswith((".", "fold-"))
    )
    if foreign:
        raise RunError(
            f"{out} is not empty and holds no cross-validation ({', '.join(foreign[:3])}); give a new folder with --out"
        )


def _check_images(of_fold: RunFolder, split: Split) -> None:
    """Check that images have one class each, and that a fold divides those of the earlier ones and tests none again.

    Raises:
        RunError: Images were added or removed since.
        DataError: Images have any number of labels.
    """
    if split.multi_label:
        raise DataError(
            f"the images in {split.root} have any number of labels; a cross-validation needs one class for each image: "
            "train without folds"
        )
    for folder in sorted(of_fold.folder.parent.glob("fold-*")):
        run = RunFolder(folder)
        if folder == of_fold.folder or not run.split_file.is_file():
            continue
        other = run.split
        same = _paths(other) == _paths(split) and other.root == split.root
        if not same or {sample.path for sample in other.test} & {sample.path for sample in split.test}:
            raise RunError(
                f"the images of {split.root} have changed since {folder} was prepared, so that images would be tested "
                f"twice or never; restore them, or start again with another --out"
            )


def _paths(split: Split) -> set[tuple[str, Label]]:
    return {(sample.path, sample.label) for samples in (split.train, split.val, split.test) for sample in samples}
