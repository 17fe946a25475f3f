"""Several finished Runs side by side: cost, accuracy, latency, and in what they were made differently."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from triscale.data.pipeline.split import Split
from triscale.errors import RunError
from triscale.jobs.core.networks import count_of
from triscale.jobs.core.run import Run, RunSpec
from triscale.jobs.profile.measure import ENGINES
from triscale.jobs.reports.run_report import images_name, recipe_rows
from triscale.jobs.reports.study_report import is_study
from triscale.results.latency import Measurement, RunLatencies
from triscale.results.metrics import Metrics
from triscale.results.run_comparison import AccuracyGap, ComparedRun, ComparedRuns, Difference, TestSet
from triscale.training.metrics import Z_95

UNSET = "\N{EN DASH}"


class _Judged(NamedTuple):
    """What is read of a Run."""

    run: Run
    spec: RunSpec
    split: Split
    metrics: Metrics
    right: dict[str, bool]


def compare_runs(folders: Sequence[Path]) -> ComparedRuns:
    """Gather what the folders of evaluated Runs hold; nothing is computed anew but differences.

    Runs share a test set if their images are the same files of the same root in the same classes. Within a test set
    each Run is compared with the best one image by image.

    Raises:
        RunError: a folder that holds no Run or one that was not evaluated, or a Run that is given twice.
    """
    judged = [_judged(folder) for folder in folders]
    _refuse_twice(folders)
    keys = [_test_key(one) for one in judged]
    order = list(dict.fromkeys(keys))
    sets = [order.index(key) for key in keys]
    best = {number: max((one for one, own in zip(judged, sets, strict=True) if own == number), key=_top1)
            for number in range(len(order))}  # fmt: skip
    names = _names(folders)
    runs = tuple(
        _compared(one, name, number, best[number]) for one, name, number in zip(judged, names, sets, strict=True)
    )
    test_sets = _test_sets([judged[keys.index(key)] for key in order])
    return ComparedRuns(
        test_sets=test_sets,
        runs=runs,
        differences=_differences([one.spec for one in judged]),
        notes=_notes(test_sets, [judged[keys.index(key)] for key in order], runs),
    )


def _top1(one: _Judged) -> float:
    return one.metrics.top1


def _judged(folder: Path) -> _Judged:
    if is_study(folder):
        raise RunError(f"{folder} holds a search or a comparison, not a Run; its page is made by itself: "
                       f"triscale report {folder}")  # fmt: skip
    run = Run.open(folder)
    if not run.metrics_file.is_file() or not run.predictions_file.is_file():
        raise RunError(f"{folder} holds no finished evaluation, so that there is nothing to compare; "
                       f"go on with its training, or give: triscale evaluate {folder}")  # fmt: skip
    rows = csv.DictReader(io.StringIO(run.predictions_file.read_text()))
    right = {row["file"]: row["truth"] == row["predicted"] for row in rows}
    return _Judged(run, run.spec, run.split, Metrics.load(run.metrics_file), right)


def _refuse_twice(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        place = folder.resolve()
        if place in seen:
            raise RunError(f"{folder} is given twice; give each Run once")
        seen.add(place)


def _test_key(one: _Judged) -> str:
    """Return a digest of root, names and classes of the test images."""
    split = one.split
    found = hashlib.sha256(_root(split).encode(errors="surrogateescape"))
    for sample in sorted(split.test, key=lambda sample: sample.path):
        found.update(f"\0{sample.path}\0{split.classes[sample.label]}".encode(errors="surrogateescape"))
    return found.hexdigest()


def _root(split: Split) -> str:
    """Return the root of the images, the same for each way to write a folder."""
    return split.root if "://" in split.root else str(Path(split.root).resolve())


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the last part of each folder, and as many parts before it as tell the folders apart."""
    places = [folder.resolve().parts for folder in folders]
    for number in range(1, max(map(len, places)) + 1):
        names = ["/".join(parts[-number:]) for parts in places]
        if len(set(names)) == len(names):
            break
    return names


def _compared(one: _Judged, name: str, test_set: int, best: _Judged) -> ComparedRun:
    figures = count_of(one.spec.network)
    budget = one.spec.request.budget
    return ComparedRun(
        name=name,
        folder=str(one.run.folder),
        network=one.spec.network.name,
        resolution=one.spec.network.resolution,
        params=figures.params,
        macs=figures.macs,
        test_set=test_set,
        top1=one.metrics.top1,
        top1_low=one.metrics.top1_low,
        top1_high=one.metrics.top1_high,
        behind=None if one is best else behind(best.right, one.right),
        budget=None if budget is None else str(budget),
        latency=_latency(one.run),
    )


def behind(best: dict[str, bool], other: dict[str, bool]) -> AccuracyGap:
    """Return by how much the share of right images of one Run exceeds that of another, over the same images.

    The 95 % interval is that for matched pairs of Agresti & Min 2005 (Statistics in Medicine 24, 729-740): half an
    image is added to each of the four cells of right and wrong. It holds for other such images, not for another
    training of the same networks.
    """
    gained = sum(right and not other[file] for file, right in best.items())
    lost = sum(other[file] and not right for file, right in best.items())
    count, apart = len(best), gained - lost
    middle = apart / (count + 2)
    half = Z_95 * math.sqrt(gained + lost + 1 - apart * apart / (count + 2)) / (count + 2)
    return AccuracyGap(share=apart / count, low=middle - half, high=middle + half)


def _latency(run: Run) -> Measurement | None:
    """Return the first measurement of the exported file, or else of the module."""
    if not run.latency_file.is_file():
        return None
    found = RunLatencies.load(run.latency_file).measurements
    return next((item for item in found if not item.engine.startswith(ENGINES["torch"])), found[0] if found else None)


def _test_sets(firsts: Sequence[_Judged]) -> tuple[TestSet, ...]:
    names = [images_name(one.spec.request.images) for one in firsts]
    if len(set(names)) < len(names):
        names = [f"{name} ({number})" for number, name in enumerate(names, 1)]
    return tuple(
        TestSet(name=name, root=one.split.root, count=one.metrics.count)
        for name, one in zip(names, firsts, strict=True)
    )


def _differences(specs: Sequence[RunSpec]) -> tuple[Difference, ...]:
    tables = [_settings(spec) for spec in specs]
    names = dict.fromkeys(name for settings in tables for name in settings)
    rows = ((name, tuple(settings.get(name, UNSET) for settings in tables)) for name in names)
    return tuple(Difference(setting=name, values=values) for name, values in rows if len(set(values)) > 1)


def _settings(spec: RunSpec) -> dict[str, str]:
    """Return all that was asked of a Run, and the machine that trained it, by name."""
    asked = spec.request
    return {
        "images": asked.images,
        "network asked": asked.network.name,
        "budget": UNSET if asked.budget is None else str(asked.budget),
        "law": UNSET if asked.law is None else str(asked.law),
        "first weights": "chance" if asked.start is None else asked.start.run,
        "seed": str(asked.seed),
        "recipe": asked.recipe.name,
        **{row.name: row.value for row in recipe_rows(asked.recipe) if row.name not in ("name", "source")},
        "trained on": spec.machine.accelerator or spec.machine.processor,
        "triscale": spec.version,
    }


def _notes(test_sets: Sequence[TestSet], firsts: Sequence[_Judged], runs: Sequence[ComparedRun]) -> tuple[str, ...]:
    notes = []
    if len(test_sets) > 1:
        listed = "; ".join(
            f"{test_set.name}: {', '.join(run.name for run in runs if run.test_set == number)}"
            for number, test_set in enumerate(test_sets)
        )
        notes.append(
            f"these Runs were judged by {len(test_sets)} different sets of test images, so that accuracies are "
            f"comparable within a set only ({listed})"
        )
        notes += _overlaps(test_sets, firsts)
    timed = {_how(run.latency) for run in runs if run.latency is not None}
    if len(timed) > 1:
        notes.append(f"latencies were not measured alike and are not comparable: {'; '.join(sorted(timed))}")
    noisy = [run.name for run in runs if run.latency is not None and run.latency.noise]
    if noisy:
        notes.append(f"the machine was restless when latency was measured, so that it is not to be trusted, for: "
                     f"{', '.join(noisy)}")  # fmt: skip
    return tuple(notes)


def _overlaps(test_sets: Sequence[TestSet], firsts: Sequence[_Judged]) -> list[str]:
    """Say where test images of one Run were training images of another: a split by another seed."""
    found = []
    for name, one in zip(test_sets, firsts, strict=True):
        for other_name, other in zip(test_sets, firsts, strict=True):
            if one is not other and _root(one.split) == _root(other.split):
                trained = {sample.path for sample in other.split.train}
                shared = sum(sample.path in trained for sample in one.split.test)
                if shared:
                    found.append(
                        f"{shared} of the {name.count} test images of {name.name} were training images of the Runs "
                        f"that {other_name.name} judged"
                    )
    return found


def _how(item: Measurement) -> str:
    plural = "s" if item.threads != 1 else ""
    return f"{item.engine}, batch {item.batch}, {item.threads} thread{plural}, on {item.machine.processor}"
