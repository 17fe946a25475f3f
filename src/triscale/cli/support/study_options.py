"""What the commands that train many networks have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.errors import UserError
from triscale.network.custom import AnyNetwork

if TYPE_CHECKING:
    from triscale.jobs.studies.trials import Hands
    from triscale.training.recipe import Recipe


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """How the trainings of a study are carried out.

    Parameters
    ----------
    recipe
        A recipe's name, or a JSON file of one.
    settings
        Any field of the recipe, as field=value.
    epochs
        Epochs of each training, instead of the recipe's.
    seeds
        Seeds of each training, with commas: 0,1,2 by default, and 0 in a search for a baseline.
    share
        Share of the training images of each class to train on.
    workers
        Processes that train at a time.
    threads
        Threads of each.
    device
        auto, cpu or cuda.
    storage
        postgresql://USER@HOST/DATABASE, where the same command on several machines works on one study.
    study
        Name of the study there, by default that of the job and its baseline.
    allow_leak
        Go on although test or validation images are copies of others.
    """

    recipe: str = "small"
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = ()
    epochs: int | None = None
    seeds: str | None = None
    share: float = 1.0
    workers: int = 1
    threads: int = 1
    device: str = "auto"
    storage: str | None = None
    study: str | None = None
    allow_leak: Annotated[bool, Parameter(negative="")] = False


STUDY_DEFAULTS = StudyOptions()
SEEDS = "0,1,2"


def resolved_recipe(options: StudyOptions, epochs: int | None = None) -> Recipe:
    """Return the recipe that is asked for; ``epochs`` where neither option nor recipe is to say.

    Raises:
        RecipeError: there is none of the name, or a setting does not fit.
    """
    from triscale.training.changes import changed, find_recipe

    chosen = options.epochs if options.epochs is not None else epochs
    of_epochs = () if chosen is None else (f"epochs={chosen}",)
    return changed(find_recipe(options.recipe), (*options.settings, *of_epochs))


def seeds_of(options: StudyOptions, default: str = SEEDS) -> tuple[int, ...]:
    """Return the seeds.

    Raises:
        UserError: not whole numbers of 0 or more, or one twice.
    """
    text = default if options.seeds is None else options.seeds
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise UserError(f"--seeds {text} must be whole numbers of 0 or more with commas, such as 0,1,2")
    seeds = tuple(map(int, words))
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {text} names a seed twice; every training is done once")
    return seeds


def study_request_fields(
    images: str, baseline: AnyNetwork, options: StudyOptions, epochs: int | None = None, seeds: str = SEEDS
) -> dict[str, object]:
    """Return what every study is asked for: images, baseline, recipe, seeds and share."""
    from triscale.cli.commands.training import root_of

    return {
        "images": root_of(images),
        "baseline": baseline,
        "recipe": resolved_recipe(options, epochs),
        "seeds": seeds_of(options, seeds),
        "share": options.share,
    }


def hands_of(options: StudyOptions, should_stop: Callable[[], bool]) -> Hands:
    """Return who carries out a study.

    Raises:
        UserError: less than one worker or thread.
        RecipeError: a device that this machine does not have.
    """
    from triscale.jobs.studies.trials import Hands
    from triscale.jobs.training.train import choose_device

    if options.workers < 1 or options.threads < 1:
        raise UserError(f"--workers {options.workers} and --threads {options.threads} must be 1 or more")
    return Hands(
        device=choose_device(options.device),
        workers=options.workers,
        threads=options.threads,
        storage=options.storage,
        study=options.study,
        allow_leak=options.allow_leak,
        should_stop=should_stop,
    )
