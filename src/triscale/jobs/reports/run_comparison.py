"""Compare finished runs: cost, accuracy, latency, and the settings in which they differ."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from triscale.data.pipeline.split import Split
from triscale.data.sources.labels import shown_label
from triscale.errors import RunError
from triscale.jobs.core.networks import count_of
from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.jobs.profile.measure import ENGINES
from triscale.jobs.reports.run_report import images_name, recipe_rows
from triscale.jobs.reports.shown_paths import shown_path
from triscale.jobs.reports.study_report import is_study
from triscale.results.accuracy_gap import AccuracyGap, paired_gap
from triscale.results.image_size import sides_of
from triscale.results.latency import Measurement, RunLatencies
from triscale.results.metrics import Metrics, load_metrics
from triscale.results.run_comparison import ComparedRun, ComparedRuns, Difference, TestSet

UNSET = "\N{EN DASH}"


class _EvaluatedRun(NamedTuple):
    """The records of an evaluated run; ``right`` maps each test image to whether its prediction is correct."""

    run: RunFolder
    spec: RunSpec
    split: Split
    metrics: Metrics
    right: dict[str, bool]


def compare_runs(folders: Sequence[Path]) -> ComparedRuns:
    """Load evaluated runs and compare them.

    Runs share a test set if their test images are the same files of the same root in the same classes. Within a test
    set, each run is compared with the best one by paired predictions on each image.

    Raises:
        RunError: A folder holds no evaluated run, or a run is given twice.
    """
    evaluated = [_load_evaluated(folder) for folder in folders]
    _refuse_duplicates(folders)
    keys = [_test_key(one) for one in evaluated]
    order = list(dict.fromkeys(keys))
    sets = [order.index(key) for key in keys]
    best = {number: max((one for one, own in zip(evaluated, sets, strict=True) if own == number), key=_top1)
            for number in range(len(order))}  # fmt: skip
    names = _names(folders)
    runs = tuple(
        _compared(one, name, number, best[number]) for one, name, number in zip(evaluated, names, sets, strict=True)
    )
    test_sets = _test_sets([evaluated[keys.index(key)] for key in order])
    return ComparedRuns(
        test_sets=test_sets,
        runs=runs,
        differences=_differences([one.spec for one in evaluated]),
        notes=_notes(test_sets, [evaluated[keys.index(key)] for key in order], runs),
    )


def _top1(one: _EvaluatedRun) -> float:
    return one.metrics.top1


def _load_evaluated(folder: Path) -> _EvaluatedRun:
    if is_study(folder):
        raise RunError(f"{folder} holds a search or a comparison, not a run; it has a report of its own: "
                       f"triscale report {folder}")  # fmt: skip
    run = RunFolder.open(folder)
    if not run.metrics_file.is_file() or not run.predictions_file.is_file():
        raise RunError(f"the run in {folder} has not been evaluated; "
                       f"resume its training, or evaluate it: triscale evaluate {folder}")  # fmt: skip
    metrics = load_metrics(run.metrics_file)
    if not isinstance(metrics, Metrics):
        raise RunError(
            f"the images of {folder} have any number of labels; runs are compared by top-1 accuracy, so compare the "
            f"figures in their {run.metrics_file.name} instead"
        )
    rows = csv.DictReader(io.StringIO(run.predictions_file.read_text()))
    right = {row["file"]: row["truth"] == row["predicted"] for row in rows}
    return _EvaluatedRun(run, run.spec, run.split, metrics, right)


def _refuse_duplicates(folders: Sequence[Path]) -> None:
    seen: set[Path] = set()
    for folder in folders:
        resolved = folder.resolve()
        if resolved in seen:
            raise RunError(f"{folder} is given twice; give each run once")
        seen.add(resolved)


def _test_key(one: _EvaluatedRun) -> str:
    """Return a digest of root, names and classes of the test images."""
    split = one.split
    digest = hashlib.sha256(_root(split).encode(errors="surrogateescape"))
    for sample in sorted(split.test, key=lambda sample: sample.path):
        digest.update(f"\0{sample.path}\0{shown_label(sample.label, split.classes)}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _root(split: Split) -> str:
    """Return the root of the images: a URL, or the resolved path of a folder."""
    return split.root if "://" in split.root else str(Path(split.root).resolve())


def _names(folders: Sequence[Path]) -> list[str]:
    """Return the shortest suffixes of the paths that are unique names of the folders."""
    paths = [folder.resolve().parts for folder in folders]
    for number in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-number:]) for parts in paths]
        if len(set(names)) == len(names):
            break
    return names


def _compared(one: _EvaluatedRun, name: str, test_set: int, best: _EvaluatedRun) -> ComparedRun:
    counts = count_of(one.spec.network)
    budget = one.spec.request.budget
    return ComparedRun(
        name=name,
        folder=str(one.run.folder),
        network=one.spec.network.name,
        **sides_of(one.spec.network.input_shape),
        params=counts.params,
        macs=counts.macs,
        test_set=test_set,
        top1=one.metrics.top1,
        top1_low=one.metrics.top1_low,
        top1_high=one.metrics.top1_high,
        behind=None if one is best else behind(best.right, one.right),
        budget=None if budget is None else str(budget),
        latency=_latency(one.run),
    )


def behind(best: dict[str, bool], other: dict[str, bool]) -> AccuracyGap:
    """Return the difference in accuracy between the best run and another run on the same images."""
    lost = sum(right and not other[file] for file, right in best.items())
    gained = sum(other[file] and not right for file, right in best.items())
    return paired_gap(lost, gained, len(best))


def _latency(run: RunFolder) -> Measurement | None:
    """Return the first measurement of the exported file; that of the module if there is none."""
    if not run.latency_file.is_file():
        return None
    saved = RunLatencies.load(run.latency_file).measurements
    return next((item for item in saved if not item.engine.startswith(ENGINES["torch"])), saved[0] if saved else None)


def _test_sets(firsts: Sequence[_EvaluatedRun]) -> tuple[TestSet, ...]:
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
    """Return the settings of a run's request and the machine that trained it, by name."""
    request = spec.request
    return {
        "images": shown_path(request.images),
        "requested network": request.network.name,
        "budget": UNSET if request.budget is None else str(request.budget),
        "law": UNSET if request.law is None else str(request.law),
        "initial weights": "random" if request.start is None else shown_path(request.start.run),
        "seed": str(request.seed),
        "recipe": request.recipe.name,
        **{row.name: row.value for row in recipe_rows(request.recipe) if row.name not in ("name", "source")},
        "trained on": spec.machine.accelerator or spec.machine.processor,
        "triscale": spec.version,
    }


def _notes(
    test_sets: Sequence[TestSet], firsts: Sequence[_EvaluatedRun], runs: Sequence[ComparedRun]
) -> tuple[str, ...]:
    notes = []
    if len(test_sets) > 1:
        listed = "; ".join(
            f"{test_set.name}: {', '.join(run.name for run in runs if run.test_set == number)}"
            for number, test_set in enumerate(test_sets)
        )
        notes.append(
            f"these runs used {len(test_sets)} different test sets and cannot be ranked together; accuracies are "
            f"comparable within a test set only ({listed})"
        )
        notes += _overlaps(test_sets, firsts)
    timed = {_measured_with(run.latency) for run in runs if run.latency is not None}
    if len(timed) > 1:
        notes.append(
            f"latencies were measured under different conditions and are not comparable: {'; '.join(sorted(timed))}"
        )
    noisy = [run.name for run in runs if run.latency is not None and run.latency.noise]
    if noisy:
        notes.append(f"the latency is a noisy measurement, since other processes used the CPU, for: "
                     f"{', '.join(noisy)}")  # fmt: skip
    return tuple(notes)


def _overlaps(test_sets: Sequence[TestSet], firsts: Sequence[_EvaluatedRun]) -> list[str]:
    """Return a warning for each test set whose images other runs, with another split, were trained on."""
    warnings = []
    for name, one in zip(test_sets, firsts, strict=True):
        for other_name, other in zip(test_sets, firsts, strict=True):
            if one is not other and _root(one.split) == _root(other.split):
                trained = {sample.path for sample in other.split.train}
                shared = sum(sample.path in trained for sample in one.split.test)
                if shared:
                    warnings.append(
                        f"{shared} of the {name.count} test images of {name.name} were training images of the runs "
                        f"on the test set {other_name.name}"
                    )
    return warnings


def _measured_with(item: Measurement) -> str:
    plural = "s" if item.threads != 1 else ""
    return f"{item.engine}, batch {item.batch}, {item.threads} thread{plural}, on {item.machine.processor}"
