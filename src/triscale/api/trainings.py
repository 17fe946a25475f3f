"""Trainings: the same jobs as the commands ``fit``, ``train`` and ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack, overload

from triscale.api.arguments import AnyNetworkLike, BudgetLike, LawLike
from triscale.api.cross_validation import CrossValidation
from triscale.api.data_options import DataOptionsLike
from triscale.api.run import Run
from triscale.api.training_jobs import build_request, run_training
from triscale.api.training_options import TrainingOptions
from triscale.errors import BudgetError
from triscale.jobs.core.execution import execution
from triscale.jobs.fit import RunOptions
from triscale.jobs.inference.evaluate_file import evaluate_file
from triscale.jobs.run_source import is_exported
from triscale.jobs.training.request import default_baseline
from triscale.jobs.training.trackers.log import tracker_names
from triscale.results.metrics import AnyMetrics
from triscale.scaling.budget import FORMS
from triscale.scaling.law import EFFICIENTNET
from triscale.training.context import EngineName
from triscale.training.recipe import Recipe


@overload
def fit(
    images: str | Path,
    budget: BudgetLike | None = None,
    *,
    baseline: AnyNetworkLike | None = None,
    folds: None = None,
    **options: Unpack[TrainingOptions],
) -> Run: ...


@overload
def fit(
    images: str | Path,
    budget: BudgetLike | None = None,
    *,
    baseline: AnyNetworkLike | None = None,
    folds: int,
    **options: Unpack[TrainingOptions],
) -> CrossValidation: ...


def fit(
    images: str | Path,
    budget: BudgetLike | None = None,
    *,
    baseline: AnyNetworkLike | None = None,
    law: LawLike = EFFICIENTNET,
    lite: bool = False,
    profile: str | Path | None = None,
    weights: str | Path | Run | None = None,
    from_scratch: bool = False,
    teacher: str | Path | Run | None = None,
    keep_head: bool = False,
    class_names: Mapping[str, str] | None = None,
    resolution: int | str | None = None,
    recipe: str | Path | Recipe | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | Literal["auto"] | None = None,
    flip: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    test_share: float = 0.2,
    val_share: float | None = None,
    folds: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    threads: int | Literal["auto"] | None = None,
    time_limit: str | float | None = None,
    max_seconds: float | None = None,
    compile: bool = False,
    engine: EngineName = "torch",
    log: str | Sequence[str] = (),
    allow_leak: bool = False,
    data: DataOptionsLike | None = None,
    offline: bool = False,
    progress: bool = True,
) -> Run | CrossValidation:
    """Turn images and a budget into a trained, evaluated, exported and explained network with a report.

    The same call with the same ``out`` resumes an interrupted run, to the same weights.

    Args:
        images: A folder of class folders, tar shards, a saved data set, a table, a URL or a named data set.
        budget: Limits such as ``"400M"`` (MACs), ``"5M params"``, ``"20MB"`` or, with a profile, ``"20ms"``.
        baseline: The network to scale: a network, its name, its .json file, or ``package.module:function``; by default
            that of the weights, or EfficientNet-B0; ResNet-18 with ``from_scratch``.
        law: Scaling coefficients; by default those of the EfficientNet paper.
        lite: Whether to adapt the network for int8 and small devices.
        profile: Device profile that latency is predicted with.
        weights: Initial weights: a run, a file, a published name, or ``inherit:`` or ``prune:`` and one of these, see
            the explanation of weights; by default published weights of the network, if there are any and they can be
            had.
        from_scratch: Whether to start from random weights instead.
        teacher: A run, a file or a published name with the same classes that the training also learns from.
        keep_head: Whether to begin with the classifier of the weights too: its rows for the classes of the images,
            which are matched by name or by wnid.
        class_names: The class of the weights of each class of the images that is named otherwise, for ``keep_head``.
        resolution: Size of the images: the side of a square such as 224, or width x height such as ``"720x184"``; by
            default that of the network. With a budget the network is scaled from there, and the ratio stays.
        recipe: A recipe, its name or its file; by default ``small``, or ``finetune`` with weights, with epochs,
            batch size and learning rate for the number of training images and the weights.
        epochs: Number of epochs, instead of the recipe's.
        batch_size: Images per step, instead of the recipe's.
        learning_rate: Peak learning rate, instead of the recipe's; ``"auto"`` for that of a range test.
        flip: Whether training images are mirrored at random; by default unless class names speak of left and right, or
            are digits or letters.
        settings: Other fields of the recipe, such as ``{"mixup": 0.2, "augmentation.erase": 0.25}``.
        seed: Seed of the split, the initial weights, order and augmentation.
        test_share: Share of each class for testing, if the images have no split.
        val_share: Share of the training images that validates and chooses the kept epoch, instead of the recipe's.
        folds: Cross-validate with this number of folds, one training each, which estimates the accuracy: every image is
            tested once. The same call without folds then trains the network to use.
        out: Directory of the run; by default ``runs/`` and a name made of images, network and budget.
        device: ``auto``, ``cpu``, ``cuda``, ``xpu`` or ``mps``.
        workers: Processes that decode images; by default by the number of cores.
        threads: Threads that compute; by default all cores; ``"auto"`` for one if that is faster at the start.
        time_limit: Choose the number of epochs such that everything ends within this time: seconds, or ``"20m"``.
        max_seconds: Save and stop after this time; the same call resumes.
        compile: Whether to compile the forward pass, which pays on a GPU after some minutes.
        engine: What takes the steps: ``"torch"``, or ``"xla"``, which needs JAX and uses all XLA devices of all hosts.
        log: Experiment trackers that also record the training: ``tensorboard``, ``mlflow``, ``wandb``, or several.
        allow_leak: Whether to train although test or validation images are copies of others.
        data: How the images are read and what is tolerated, such as ``{"allow_missing_classes": True}``.
        offline: Whether to use only the cache for published weights.
        progress: Whether progress is shown on standard error.

    Returns:
        The run; with ``folds`` the cross-validation.

    Raises:
        UserError: The request is invalid; the subclass and the message give the reason.
        Interrupted: Ctrl-C, SIGTERM or ``max_seconds`` stopped it; everything is saved.
        ParityError: The outputs of the exported file differ from those of the model.

    Example:
        >>> run = fit("photos", "2M", baseline="mobilenet_v2@32", epochs=1, out="runs/small", progress=False)
        >>> run.budget_fit.limits[0].achieved <= 2_000_000, run.metrics.count
        (True, 18)
    """
    if budget is None:
        raise BudgetError(f"no budget given; add budget=, written as {FORMS}")
    if baseline is None and weights is None:
        baseline = default_baseline(from_scratch=from_scratch, lite=lite)
    request = build_request(
        images, baseline, budget, law, lite, profile, weights, from_scratch, teacher, keep_head, class_names,
        resolution, recipe,
        {"epochs": epochs, "batch": batch_size, "learning_rate": learning_rate, "val_share": val_share},
        flip, settings, seed, test_share, offline, data, time_limit, max_seconds,
    )  # fmt: skip
    return run_training(
        request, images, budget, out, device, workers, threads, max_seconds, compile, engine, progress,
        RunOptions(allow_leak=allow_leak, log=tracker_names(log), offline=offline), folds, everything=True,
    )  # fmt: skip


@overload
def train(
    images: str | Path,
    network: AnyNetworkLike | None = None,
    *,
    budget: BudgetLike | None = None,
    folds: None = None,
    **options: Unpack[TrainingOptions],
) -> Run: ...


@overload
def train(
    images: str | Path,
    network: AnyNetworkLike | None = None,
    *,
    budget: BudgetLike | None = None,
    folds: int,
    **options: Unpack[TrainingOptions],
) -> CrossValidation: ...


def train(
    images: str | Path,
    network: AnyNetworkLike | None = None,
    *,
    budget: BudgetLike | None = None,
    law: LawLike = EFFICIENTNET,
    lite: bool = False,
    profile: str | Path | None = None,
    weights: str | Path | Run | None = None,
    from_scratch: bool = False,
    teacher: str | Path | Run | None = None,
    keep_head: bool = False,
    class_names: Mapping[str, str] | None = None,
    resolution: int | str | None = None,
    recipe: str | Path | Recipe | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | Literal["auto"] | None = None,
    flip: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    test_share: float = 0.2,
    val_share: float | None = None,
    folds: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    threads: int | Literal["auto"] | None = None,
    time_limit: str | float | None = None,
    max_seconds: float | None = None,
    compile: bool = False,
    engine: EngineName = "torch",
    log: str | Sequence[str] = (),
    allow_leak: bool = False,
    data: DataOptionsLike | None = None,
    offline: bool = False,
    progress: bool = True,
) -> Run | CrossValidation:
    """Train a network as it is, or fitted to a budget; evaluate it and report.

    The same call with the same ``out`` resumes an interrupted run, to the same weights.

    Args:
        images: A folder of class folders, tar shards, a saved data set, a table, a URL or a named data set.
        network: A network, its name, its .json file, or ``package.module:function``; by default that of the weights.
        budget: Scale the network to these limits; None trains it as it is.
        law: Scaling coefficients, if there is a budget.
        lite: Whether to adapt the network for int8 and small devices.
        profile: Device profile that latency is predicted with.
        weights: Initial weights: a run, a file, a published name, or ``inherit:`` or ``prune:`` and one of these, see
            the explanation of weights; by default published weights of the network, if there are any and they can be
            had.
        from_scratch: Whether to start from random weights instead.
        teacher: A run, a file or a published name with the same classes that the training also learns from.
        keep_head: Whether to begin with the classifier of the weights too: its rows for the classes of the images,
            which are matched by name or by wnid.
        class_names: The class of the weights of each class of the images that is named otherwise, for ``keep_head``.
        resolution: Size of the images: the side of a square such as 224, or width x height such as ``"720x184"``; by
            default that of the network. With a budget the network is scaled from there, and the ratio stays.
        recipe: A recipe, its name or its file; by default ``small``, or ``finetune`` with weights, with epochs,
            batch size and learning rate for the number of training images and the weights.
        epochs: Number of epochs, instead of the recipe's.
        batch_size: Images per step, instead of the recipe's.
        learning_rate: Peak learning rate, instead of the recipe's; ``"auto"`` for that of a range test.
        flip: Whether training images are mirrored at random; by default unless class names speak of left and right, or
            are digits or letters.
        settings: Other fields of the recipe, such as ``{"mixup": 0.2, "augmentation.erase": 0.25}``.
        seed: Seed of the split, the initial weights, order and augmentation.
        test_share: Share of each class for testing, if the images have no split.
        val_share: Share of the training images that validates and chooses the kept epoch, instead of the recipe's.
        folds: Cross-validate with this number of folds, one training each, which estimates the accuracy: every image is
            tested once. The same call without folds then trains the network to use.
        out: Directory of the run; by default ``runs/`` and a name made of images, network and budget.
        device: ``auto``, ``cpu``, ``cuda``, ``xpu`` or ``mps``.
        workers: Processes that decode images; by default by the number of cores.
        threads: Threads that compute; by default all cores; ``"auto"`` for one if that is faster at the start.
        time_limit: Choose the number of epochs such that everything ends within this time: seconds, or ``"20m"``.
        max_seconds: Save and stop after this time; the same call resumes.
        compile: Whether to compile the forward pass, which pays on a GPU after some minutes.
        engine: What takes the steps: ``"torch"``, or ``"xla"``, which needs JAX and uses all XLA devices of all hosts.
        log: Experiment trackers that also record the training: ``tensorboard``, ``mlflow``, ``wandb``, or several.
        allow_leak: Whether to train although test or validation images are copies of others.
        data: How the images are read and what is tolerated, such as ``{"allow_missing_classes": True}``.
        offline: Whether to use only the cache for published weights.
        progress: Whether progress is shown on standard error.

    Returns:
        The run; with ``folds`` the cross-validation.

    Raises:
        UserError: The request is invalid; the subclass and the message give the reason.
        Interrupted: Ctrl-C, SIGTERM or ``max_seconds`` stopped it; everything is saved.

    Example:
        >>> run = train("photos", "mobilenet_v1_025@32", epochs=1, progress=False)
        >>> run.path.as_posix(), run.classes
        ('runs/photos-mobilenet_v1_02532', ('blue', 'green', 'red'))
    """
    request = build_request(
        images, network, budget, law, lite, profile, weights, from_scratch, teacher, keep_head, class_names,
        resolution, recipe,
        {"epochs": epochs, "batch": batch_size, "learning_rate": learning_rate, "val_share": val_share},
        flip, settings, seed, test_share, offline, data, time_limit, max_seconds,
    )  # fmt: skip
    return run_training(
        request, images, budget, out, device, workers, threads, max_seconds, compile, engine, progress,
        RunOptions(allow_leak=allow_leak, log=tracker_names(log), offline=offline), folds, everything=False,
    )  # fmt: skip


def evaluate(
    run: str | Path | Run,
    split: str = "test",
    *,
    images: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> AnyMetrics:
    """Evaluate a run, weights or an exported file on one split of images.

    Args:
        run: A run or its directory, a file of weights, a published name, or an exported file.
        split: ``test``, ``val`` or ``train``.
        images: For a run, where its images are now, if they have moved; for anything else, the images, in class folders
            that are named by its classes or by wnids.
        device: ``auto``, ``cpu`` or ``cuda``; without effect on exported files.
        progress: Whether progress is shown on standard error.

    Returns:
        Accuracy with its 95% interval, metrics per class, confusion and calibration.

    Raises:
        RunError: There is no run, its training has not finished, or there is no such split.
        WeightsError: The weights are unknown, or do not have the classes of the images.
        UserError: Weights or an exported file were given without images.
        Interrupted: Ctrl-C or SIGTERM was received.

    Example:
        >>> evaluate("runs/photos", progress=False).count
        18
    """
    given = None if images is None else str(images)
    if not isinstance(run, Run) and is_exported(run):
        with execution(device, progress=progress) as context:
            return evaluate_file(Path(run), given, context, split=split)
    if isinstance(run, Run) and given is not None:
        run = run.weights or run.path
    opened = run if isinstance(run, Run) else Run.open(run, given, progress=progress)
    return opened.evaluate(split, device=device, progress=progress)  # type: ignore[arg-type]
