"""The trainings of one row of a transfer table: the grid, those on all training images, and what they come to."""

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
from triscale.jobs.core.run import Request, Run
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.reports.run_report import write_run_report
from triscale.jobs.studies.trials import TEST_SHARE, thinned
from triscale.jobs.training.prepare import for_classes, prepare
from triscale.jobs.training.train import train_run
from triscale.jobs.transfer.datasets import PAPER, TransferDataset
from triscale.jobs.transfer.protocol import GridResult, TransferRequest, TransferRow
from triscale.results.data_summary import DataSummary, SplitCounts
from triscale.results.metrics import Metrics
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints

SPLIT_SEED = 0
MAX_NORM_MOMENTUM = 0.1
AVERAGE = "average/"
"""Before the names of the averaged weights in a checkpoint (:func:`triscale.training.state.state.to_tensors`)."""


class SetTrainings:
    """The trainings on one set: a run that only describes it, those of the grid, those on all training images."""

    def __init__(self, asked: TransferRequest, source: TransferDataset, folder: Path) -> None:
        self._asked, self._source, self._folder = asked, source, folder
        self._described = Run(folder / "set")

    def prepare(self, context: ExecutionContext, *, allow_leak: bool) -> None:
        """Scan and split the images, and check that the weights fit, before anything is trained."""
        with self._described.lock():
            prepare(
                self._described,
                self._request(self._asked.recipe, SPLIT_SEED),
                context,
                allow_leak=allow_leak,
            )

    def row(self, context: ExecutionContext) -> TransferRow:
        """Go through the grid, train the best combination on all training images for each seed, and test."""
        asked, source, split = self._asked, self._source, self._split()
        tried = []
        for number, (rate, decay) in enumerate(grid := tuple(product(asked.learning_rates, asked.weight_decays)), 1):
            context.progress.note(
                f"{source.name}: {number} of {len(grid)}, learning rate {rate:.3g}, weight decay {decay:.3g}"
            )
            tried.append(self._try(rate, decay, split, context))
        scored = [one for one in tried if one.score is not None]
        if not scored:
            raise JobError(f"no combination could be trained on {source.name}: {tried[0].why}")
        chosen = max(scored, key=lambda one: one.score or 0.0)  # the first of equals
        whole = _whole(split)
        recipe = self._recipe(chosen.learning_rate, chosen.weight_decay, len(whole.train))
        scores = []
        for seed in asked.seeds:
            context.progress.note(f"{source.name}: all training images, seed {seed}, {chosen.learning_rate:.3g} chosen")
            scores.append(self._score(self._test(recipe, seed, whole, context)))
        count_network = count_of(for_classes(asked.network, len(split.classes), recipe))
        official, paper = NAMED.get(source.name), PAPER.get(source.name)
        sizes = (len(whole.train), len(whole.test), len(whole.classes))
        return TransferRow(
            name=source.name,
            title=source.title,
            train=sizes[0],
            test=sizes[1],
            classes=sizes[2],
            metric=source.metric,
            params=count_network.params,
            macs=count_network.macs,
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
        run = Run(self._folder / "grid" / f"rate-{rate:.6g}-decay-{decay:.6g}")
        scored = run.folder / "validation.json"
        if not scored.is_file():
            recipe = self._recipe(rate, decay, len(split.train))
            try:
                with self._trained(run, recipe, self._asked.seeds[0], split, context):
                    metrics = evaluate_run(
                        run,
                        context,
                        part="val",
                    )
                    metrics.save(scored)
                    shutil.rmtree(run.checkpoints)
            except Interrupted:
                raise
            except JobError as error:  # most of all, a learning rate at which losses are never finite
                context.progress.note(f"not trained: {error}")
                return GridResult(learning_rate=rate, weight_decay=decay, score=None, why=str(error))
        return GridResult(learning_rate=rate, weight_decay=decay, score=self._score(Metrics.load(scored)))

    def _test(self, recipe: Recipe, seed: int, whole: Split, context: ExecutionContext) -> Metrics:
        run = Run(self._folder / "final" / f"seed-{seed}")
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
    def _trained(self, run: Run, recipe: Recipe, seed: int, split: Split, context: ExecutionContext) -> Iterator[None]:
        """Train to the end or resume it, keep the last weights, and hold the run meanwhile."""
        with run.lock():
            request = self._request(recipe, seed)
            run.refuse_other(request)
            if not run.spec_file.is_file():
                network = for_classes(self._asked.network, len(split.classes), recipe)
                there: dict[str, object] = {"request": request, "network": network, "split": split.digest}
                summary: dict[str, object] = {"classes": _tallies(split)}
                DataSummary.load(self._described.data_file).replace(**summary).save(run.data_file)
                split.save(run.split_file)
                network.save(run.network_file)
                self._described.spec.replace(**there).save(run.spec_file)
            train_run(run, run.spec, split, context)
            _keep_last(run)
            yield

    def _split(self) -> Split:
        """Return the split of the images, with a share of those that are trained on and chosen by."""
        split, share = self._described.split, self._asked.share
        thin: dict[str, object] = {part: thinned(getattr(split, part), share, SPLIT_SEED) for part in ("train", "val")}
        return split.replace(**thin) if share < 1 else split

    def _recipe(self, rate: float, decay: float, images: int) -> Recipe:
        """Return the recipe of a training on so many images."""
        recipe, steps = self._asked.recipe, self._asked.steps
        steps_per_epoch = num_batches(images, recipe.batch)
        changes: dict[str, object] = {"learning_rate": rate}
        if steps is not None:
            changes["epochs"] = math.ceil(steps / steps_per_epoch)
        if recipe.norm_momentum is None:
            changes["norm_momentum"] = min(10 / steps_per_epoch, MAX_NORM_MOMENTUM)
        changed = recipe.replace(**changes)
        return changed.replace(weight_decay=decay / changed.peak_learning_rate)

    def _request(self, recipe: Recipe, seed: int) -> Request:
        return Request(
            images=self._source.images,
            network=self._asked.network,
            budget=None,
            law=None,
            recipe=recipe,
            seed=seed,
            test_share=TEST_SHARE,
            start=self._asked.start,
        )

    def _score(self, metrics: Metrics) -> float:
        return metrics.top1 if self._source.metric == "top1" else metrics.mean_class_accuracy


def _whole(split: Split) -> Split:
    """Return a split whose training images are also those that were held out; nothing is chosen by them any more."""
    train = tuple(sorted((*split.train, *split.val), key=lambda sample: sample.path))
    return split.replace(train=train, how=f"{split.how}; trained on these and the training images")


def _tallies(split: Split) -> tuple[SplitCounts, ...]:
    train, val, test = (Counter(sample.label for sample in part) for part in (split.train, split.val, split.test))
    return tuple(
        SplitCounts(name=name, train=train[label], val=val[label], test=test[label])
        for label, name in enumerate(split.classes)
    )


def _keep_last(run: Run) -> None:
    """Make the weights after the last step those of the run, in place of the best epoch's."""
    checkpoints = Checkpoints(run.checkpoints)
    manifest = checkpoints.newest()
    assert manifest is not None
    assert manifest.finished
    tensors = checkpoints.load(manifest.state_file)
    average = {name.removeprefix(AVERAGE): value for name, value in tensors.items() if name.startswith(AVERAGE)}
    run.save_weights(average)
