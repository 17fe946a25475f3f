"""The trainings of one row of a transfer table: the grid search, and the final trainings on all training images."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import fmean, stdev

from triscale.data.pipeline.order import num_batches
from triscale.data.pipeline.split import Split
from triscale.data.sources.named import NAMED
from triscale.errors import Interrupted, JobError
from triscale.jobs.core.networks import count_of
from triscale.jobs.core.run import Request, RunFolder
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.reports.run_report import write_run_report
from triscale.jobs.studies.trials import TEST_SHARE, subsample
from triscale.jobs.training.prepare import prepare
from triscale.jobs.training.resolve import for_classes
from triscale.jobs.training.train import train_run
from triscale.jobs.transfer.datasets import PAPER, TransferDataset
from triscale.jobs.transfer.protocol import GridResult, TransferRequest, TransferRow
from triscale.results.data_summary import DataSummary, SplitCounts
from triscale.results.metrics import Metrics
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe

SPLIT_SEED = 0
MAX_NORM_MOMENTUM = 0.1


class SetTrainings:
    """The trainings on one data set: the grid search, and the final trainings on all training images.

    The run in the folder ``set`` is prepared, but never trained: it holds the split and the scan of the data set.
    """

    def __init__(self, request: TransferRequest, source: TransferDataset, folder: Path) -> None:
        self._table, self._source, self._folder = request, source, folder
        self._prepared = RunFolder(folder / "set")

    def prepare(self, context: ExecutionContext, *, allow_leak: bool) -> None:
        """Scan and split the images, and check that the weights fit, before training starts."""
        with self._prepared.lock():
            prepare(
                self._prepared,
                self._request(self._table.recipe, SPLIT_SEED),
                context,
                allow_leak=allow_leak,
            )

    def row(self, context: ExecutionContext) -> TransferRow:
        """Train the grid, train the best combination on all training images with each seed, and test it."""
        request, source, split = self._table, self._source, self._split()
        tried = []
        for number, (rate, decay) in enumerate(
            grid := tuple(product(request.learning_rates, request.weight_decays)), 1
        ):
            context.progress.note(
                f"{source.name}: {number} of {len(grid)}, learning rate {rate:.3g}, weight decay {decay:.3g}"
            )
            tried.append(self._try(rate, decay, split, context))
        scored = [one for one in tried if one.score is not None]
        if not scored:
            raise JobError(f"no combination could be trained on {source.name}: {tried[0].error}")
        chosen = max(scored, key=lambda one: one.score or 0.0)  # Ties: the first one, since max() is stable.
        whole = _whole(split)
        recipe = self._recipe(chosen.learning_rate, chosen.weight_decay, len(whole.train))
        scores = []
        for seed in request.seeds:
            context.progress.note(f"{source.name}: all training images, seed {seed}, {chosen.learning_rate:.3g} chosen")
            scores.append(self._score(self._test(recipe, seed, whole, context)))
        counts = count_of(for_classes(request.network, len(split.classes), recipe))
        official, paper = NAMED.get(source.name), PAPER.get(source.name)
        sizes = (len(whole.train), len(whole.test), len(whole.classes))
        return TransferRow(
            name=source.name,
            title=source.title,
            train=sizes[0],
            test=sizes[1],
            classes=sizes[2],
            metric=source.metric,
            params=counts.params,
            macs=counts.macs,
            epochs=recipe.epochs,
            tried=tuple(tried),
            chosen=chosen,
            scores=tuple(scores),
            score=fmean(scores),
            spread=stdev(scores) if len(scores) > 1 else None,
            official=official is not None and sizes == (official.train, official.test, official.classes),
            paper=None if paper is None else paper.accuracy / 100,
            paper_network=None if paper is None else paper.network,
        )

    def _try(self, rate: float, decay: float, split: Split, context: ExecutionContext) -> GridResult:
        run = RunFolder(self._folder / "grid" / f"rate-{rate:.6g}-decay-{decay:.6g}")
        scored = run.folder / "validation.json"
        if not scored.is_file():
            recipe = self._recipe(rate, decay, len(split.train))
            try:
                with self._trained(run, recipe, self._table.seeds[0], split, context):
                    metrics = evaluate_run(
                        run,
                        context,
                        split="val",
                    )
                    metrics.save(scored)
                    shutil.rmtree(run.checkpoints)
            except Interrupted:
                raise
            except JobError as error:  # Usually a learning rate so large that the loss is never finite.
                context.progress.note(f"the training failed and is skipped: {error}")
                return GridResult(learning_rate=rate, weight_decay=decay, score=None, error=str(error))
        return GridResult(learning_rate=rate, weight_decay=decay, score=self._score(Metrics.load(scored)))

    def _test(self, recipe: Recipe, seed: int, whole: Split, context: ExecutionContext) -> Metrics:
        run = RunFolder(self._folder / "final" / f"seed-{seed}")
        if not run.manifest_file.is_file():
            with self._trained(run, recipe, seed, whole, context):
                evaluate_run(
                    run,
                    context,
                )
                write_run_report(run)
                run.commit()
        return Metrics.load(run.metrics_file)

    @contextmanager
    def _trained(
        self, run: RunFolder, recipe: Recipe, seed: int, split: Split, context: ExecutionContext
    ) -> Iterator[None]:
        """Train for all epochs, resuming if possible, and lock the run until the block ends."""
        with run.lock():
            request = self._request(recipe, seed)
            run.refuse_other(request)
            if not run.spec_file.is_file():
                network = for_classes(self._table.network, len(split.classes), recipe)
                changes: dict[str, object] = {"request": request, "network": network, "split": split.digest}
                summary: dict[str, object] = {"classes": _class_counts(split)}
                DataSummary.load(self._prepared.data_file).replace(**summary).save(run.data_file)
                split.save(run.split_file)
                network.save(run.network_file)
                self._prepared.spec.replace(**changes).save(run.spec_file)
            train_run(run, run.spec, split, context)
            yield

    def _split(self) -> Split:
        """Return the split of the images, with the requested share of training and validation images."""
        split, share = self._prepared.split, self._table.share
        subsets: dict[str, object] = {
            name: subsample(getattr(split, name), share, SPLIT_SEED) for name in ("train", "val")
        }
        return split.replace(**subsets) if share < 1 else split

    def _recipe(self, rate: float, decay: float, images: int) -> Recipe:
        """Return the recipe for a combination of the grid and a number of training images."""
        recipe, steps = self._table.recipe, self._table.steps
        steps_per_epoch = num_batches(images, recipe.batch)
        changes: dict[str, object] = {"learning_rate": rate, "kept_epoch": "last"}
        if steps is not None:
            changes["epochs"] = math.ceil(steps / steps_per_epoch)
        if recipe.norm_momentum is None:
            changes["norm_momentum"] = min(10 / steps_per_epoch, MAX_NORM_MOMENTUM)
        changed = recipe.replace(**changes)
        return changed.replace(weight_decay=decay / changed.peak_learning_rate)

    def _request(self, recipe: Recipe, seed: int) -> Request:
        return Request(
            images=self._source.images,
            network=self._table.network,
            budget=None,
            law=None,
            recipe=recipe,
            seed=seed,
            test_share=TEST_SHARE,
            start=self._table.start,
        )

    def _score(self, metrics: Metrics) -> float:
        return metrics.top1 if self._source.metric == "top1" else metrics.mean_class_accuracy


def _whole(split: Split) -> Split:
    """Return the split with the validation images added to the training images."""
    train = tuple(sorted((*split.train, *split.val), key=lambda sample: sample.path))
    return split.replace(train=train, how=f"{split.how}; the validation images are also used for training")


def _class_counts(split: Split) -> tuple[SplitCounts, ...]:
    train, val, test = (
        Counter(label for sample in samples for label in sample.labels)
        for samples in (split.train, split.val, split.test)
    )
    return tuple(
        SplitCounts(name=name, train=train[label], val=val[label], test=test[label])
        for label, name in enumerate(split.classes)
    )
