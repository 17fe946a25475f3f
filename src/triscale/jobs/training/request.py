"""Build the request of a run from what a user gives: names, files and changes of a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.sources.named import absolute_images
from triscale.errors import UserError
from triscale.families.find import resized
from triscale.families.lite import lite as lite_of
from triscale.jobs.core.run import OpenChoices, Request
from triscale.jobs.training.initial_weights import INHERIT, PRUNE, find_initial_weights, for_finetuning
from triscale.jobs.training.pruned import check_prunable
from triscale.jobs.training.published import published_for
from triscale.network.custom import AnyNetwork
from triscale.network.input_size import InputSize
from triscale.network.latency import Predictor
from triscale.network.spec import RGB
from triscale.scaling.budget import Budget
from triscale.scaling.law import EFFICIENTNET
from triscale.scaling.piecewise import AnyLaw
from triscale.training.changes import changed, find_recipe
from triscale.training.recipe import EFFICIENTNET_IMAGENET, FINETUNE, AutomaticField, Recipe
from triscale.weights.class_match import NO_NAMES

DEFAULT_RECIPE = "small"
DEFAULT_BASELINE = "efficientnet_b0"
FROM_SCRATCH_BASELINE = "resnet18"
"""The default for random weights: at equal MACs its steps take half the time of EfficientNet-B0's on a CPU, so that the
same time trains for more epochs (benchmarks/from_scratch.py)."""
DEFAULT_TEST_SHARE = 0.2
MAX_DEFAULT_WORKERS = 8
AUTO_RATE = "auto"
"""Instead of a learning rate: a range test chooses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeChoice:
    """How to train, as far as a user says.

    Attributes:
        recipe: The recipe with the given weights, or without any.
        pretrained: The recipe if published weights of the network are cached or can be downloaded; None if nobody
            wants them.
        fields: Fields that follow from the number of training images.
        time_limit: Seconds within which the whole job is to end.
        tests_rate: Whether a range test chooses the learning rate.
    """

    recipe: Recipe
    pretrained: Recipe | None = None
    fields: tuple[AutomaticField, ...] = ()
    time_limit: float | None = None
    tests_rate: bool = False


def make_request(
    images: str,
    network: AnyNetwork | None,
    *,
    recipe: Recipe | RecipeChoice,
    budget: Budget | None = None,
    law: AnyLaw = EFFICIENTNET,
    predictor: Predictor | None = None,
    lite: bool = False,
    weights: str | None = None,
    offline: bool = False,
    seed: int = 0,
    test_share: float = DEFAULT_TEST_SHARE,
    data: DataOptions = DEFAULT_DATA,
    teacher: str | None = None,
    size: InputSize | None = None,
    keep_head: bool = False,
    class_names: Mapping[str, str] = NO_NAMES,
) -> Request:
    """Build the request of a run.

    Args:
        images: A folder, table, URL or named data set.
        network: The network or baseline; None for that of the weights.
        recipe: How to train, see :func:`choose_recipe` and :func:`choose_training`.
        budget: What the baseline is scaled to; None to train the network as it is.
        law: How it is scaled.
        predictor: Predicts latency, if the budget limits it.
        lite: Whether to adapt the network for int8 and small devices.
        weights: A run, a file, a published name, or ``inherit:`` or ``prune:`` and one of these.
        offline: Whether to use only the cache for published weights.
        seed: Seed of the split, the initial weights, order and augmentation.
        test_share: Share of each class for testing, if the images have no split.
        data: How the images are read, and what is tolerated.
        teacher: A run, a file or a published name that the training also learns from.
        size: Size of the images; None for that of the network.
        keep_head: Whether to begin with the rows of the weights' classifier for the classes of the images.
        class_names: The class of the weights of each class of the images that is named otherwise, for ``keep_head``.

    Returns:
        The request, with absolute paths.

    Raises:
        UserError: The weights or the images do not exist, or options contradict each other.
    """
    if predictor is not None and (budget is None or budget.latency is None):
        raise UserError("a device profile requires a latency budget; give one such as 20ms, or leave the profile out")
    if class_names and not keep_head:
        raise UserError("--class-names says which classes of the weights the folders are; give --keep-head with it")
    prefix = next((prefix for prefix in (INHERIT, PRUNE) if weights is not None and weights.startswith(prefix)), None)
    if keep_head and prefix is not None:
        raise UserError(f"--keep-head keeps the classifier of weights as it is; leave it out, or the prefix {prefix}")
    start = None if weights is None else find_initial_weights(weights, offline=offline)
    if network is None:
        if start is None:
            raise UserError(f"a training requires a network or weights; give a network such as {DEFAULT_BASELINE}")
        network = start.network
    network = lite_of(network) if lite else network
    network = network if size is None else resized(network, size)
    if start is not None and start.prunes:
        check_prunable(start, network, budget, law)
    network, data = match_channels(network, data)
    choice = recipe if isinstance(recipe, RecipeChoice) else RecipeChoice(recipe=recipe)
    return Request(
        images=absolute_images(images),
        network=network,
        budget=budget,
        law=None if budget is None else law,
        recipe=choice.recipe,
        seed=seed,
        test_share=test_share,
        start=start,
        predictor=predictor,
        data=data,
        teacher=None if teacher is None else find_initial_weights(teacher, offline=offline),
        open=_open_choices(choice, network),
        keeps_head=keep_head,
        class_names=dict(class_names),
    )


def default_baseline(*, from_scratch: bool, lite: bool = False) -> str:
    """Return the network that is scaled if a user names none.

    Args:
        from_scratch: Whether the user refuses published weights.
        lite: Whether the network is adapted for int8, which EfficientNet has a form for.

    Example:
        >>> default_baseline(from_scratch=False), default_baseline(from_scratch=True)
        ('efficientnet_b0', 'resnet18')
    """
    return FROM_SCRATCH_BASELINE if from_scratch and not lite else DEFAULT_BASELINE


def match_channels(network: AnyNetwork, data: DataOptions) -> tuple[AnyNetwork, DataOptions]:
    """Return a network for the channels that images are read with; unless they are given, the network decides.

    Example:
        >>> from triscale.families import get
        >>> gray, _ = match_channels(get("resnet18"), DataOptions(channels=1))
        >>> _, data = match_channels(get("resnet18").replace(in_channels=5), DataOptions())
        >>> gray.in_channels, data.channels
        (1, 5)
    """
    if data.channels is not None:
        return network.replace(in_channels=data.channels), data
    return network, data if network.in_channels == RGB else data.replace(channels=network.in_channels)


def _open_choices(choice: RecipeChoice, network: AnyNetwork) -> OpenChoices | None:
    pretrained = choice.pretrained if published_for(network) else None
    if pretrained is None and not choice.fields and choice.time_limit is None and not choice.tests_rate:
        return None
    return OpenChoices(
        weights=pretrained is not None,
        fields=choice.fields,
        recipe=choice.recipe,
        pretrained=pretrained,
        time_limit=choice.time_limit,
        tests_rate=choice.tests_rate,
    )


def choose_training(
    name: str | Path | Recipe | None,
    *,
    weights: str | None = None,
    from_scratch: bool = False,
    settings: Sequence[str] | Mapping[str, Any] = (),
    fields: Mapping[str, object] | None = None,
    flip: bool | None = None,
    time_limit: float | None = None,
    max_seconds: float | None = None,
) -> RecipeChoice:
    """Return how to train, with what is left to the images and to the published weights of the network.

    Args:
        name: As for :func:`choose_recipe`. Without it, epochs, batch size and learning rate follow from the
            number of training images and the weights where nothing else sets them.
        weights: The initial weights, if a user names some.
        from_scratch: Whether to refuse published weights.
        settings: As for :func:`choose_recipe`.
        fields: As for :func:`choose_recipe`; the learning rate may also be ``"auto"``.
        flip: As for :func:`choose_recipe`.
        time_limit: Seconds within which the whole job is to end.
        max_seconds: Seconds after which the job stops to be resumed, which a time limit excludes.

    Raises:
        UserError: Options contradict each other.
        RecipeError: The recipe is unknown, or a setting has another form.
        RecordError: A field is unknown or a value does not fit.
    """
    if from_scratch and weights is not None:
        raise UserError(f"--from-scratch and --weights {weights} exclude each other; leave out one of them")
    fields = {field: value for field, value in (fields or {}).items() if value is not None}
    tests_rate = fields.get("learning_rate") == AUTO_RATE
    if tests_rate:
        if "learning_rate" in _names_of(settings):
            raise UserError("--lr auto chooses the learning rate; leave it out, or --set learning_rate")
        del fields["learning_rate"]
    given = {*fields, *_names_of(settings)}
    if time_limit is not None and max_seconds is not None:
        raise UserError(
            "--time-limit fits the training into the time, --max-time interrupts it to be resumed; give one of them"
        )
    if time_limit is not None and "epochs" in given:
        raise UserError("--time-limit chooses the number of epochs; leave out --epochs, or use --max-time instead")
    chosen = [
        choose_recipe(name, finetune=finetune, settings=settings, fields=fields, flip=flip)
        for finetune in (weights is not None, True)
    ]
    # The recipe of the paper's ImageNet trainings is for random weights by definition.
    refused = from_scratch or weights is not None or chosen[0].name == EFFICIENTNET_IMAGENET.name
    return RecipeChoice(
        recipe=chosen[0],
        pretrained=None if refused else chosen[1],
        fields=() if name is not None else _automatic_fields(given),
        time_limit=time_limit,
        tests_rate=tests_rate,
    )


def _names_of(settings: Sequence[str] | Mapping[str, Any]) -> Iterable[str]:
    return settings if isinstance(settings, Mapping) else (text.partition("=")[0] for text in settings)


def _automatic_fields(given: set[str]) -> tuple[AutomaticField, ...]:
    """Return the fields that follow from the number of images: the learning rate only together with the batch."""
    closed = set(given)
    if "micro_batches" in given:
        closed.add("batch")
    if closed & {"batch", "reference_batch", "optimizer"} or any(name.startswith("optimizer.") for name in given):
        closed.add("learning_rate")
    return tuple(name for name in get_args(AutomaticField) if name not in closed)


def choose_recipe(
    name: str | Path | Recipe | None,
    *,
    finetune: bool,
    settings: Sequence[str] | Mapping[str, Any] = (),
    fields: Mapping[str, object] | None = None,
    flip: bool | None = None,
) -> Recipe:
    """Return a recipe with the changes that a user gives.

    Args:
        name: A recipe, its name or its file; by default ``finetune`` if there are initial weights, otherwise ``small``.
        finetune: Whether there are initial weights; other recipes then train with a quarter of their learning rate.
        settings: Changes of the form ``field=value``, or a mapping from fields to values.
        fields: Further changes by field; None means unchanged.
        flip: Whether training images are mirrored at random; None for the recipe's choice, which may depend on the
            class names.

    Raises:
        RecipeError: The recipe is unknown, or a setting has another form.
        RecordError: A field is unknown or a value does not fit.
    """
    default = FINETUNE.name if finetune else DEFAULT_RECIPE
    recipe = name if isinstance(name, Recipe) else find_recipe(str(name or default))
    if finetune:
        recipe = for_finetuning(recipe)
    recipe = changed(recipe, settings)
    changes = {field: value for field, value in (fields or {}).items() if value is not None}
    if flip is not None:
        changes["augmentation"] = recipe.augmentation.replace(flip=flip)
    return recipe.replace(**changes)


def default_folder(images: str, network: str, budget: Sequence[str], folds: int | None = None) -> Path:
    """Return where a run is written by default: runs/ and a name made of images, network, budget and folds.

    Example:
        >>> default_folder("photos", "efficientnet_b0", ["400M"]).as_posix()
        'runs/photos-efficientnet_b0-400M'
    """
    parts = [Path(absolute_images(images)).name, Path(network).stem.replace(":", "-"), *budget]
    parts += [] if folds is None else [f"{folds}folds"]
    return Path("runs") / "-".join("".join(c for c in part if c.isalnum() or c in "_.+") for part in parts)


def choose_workers(requested: int | None) -> int:
    """Return the number of processes that decode images: as requested, or by the number of cores.

    Raises:
        UserError: The number is negative.
    """
    if requested is not None:
        if requested < 0:
            raise UserError(f"{requested} workers are not possible; give 0 or more")
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores <= 2 else min(MAX_DEFAULT_WORKERS, cores - 1)
