"""What the commands that train many networks have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from triscale.cli.support.execution import execution
from triscale.cli.support.options import StudyFlags, root_of
from triscale.errors import UserError
from triscale.network.custom import AnyNetwork

if TYPE_CHECKING:
    from triscale.jobs.studies.requests import StudyOptions
    from triscale.training.context import ExecutionContext
    from triscale.training.recipe import Recipe


SEEDS = "0,1,2"


def resolved_recipe(options: StudyFlags, epochs: int | None = None) -> Recipe:
    """Return the recipe that is asked for; ``epochs`` where neither option nor recipe is to say.

    Raises:
        RecipeError: there is none of the name, or a setting does not fit.
    """
    from triscale.training.changes import changed, find_recipe

    chosen = options.epochs if options.epochs is not None else epochs
    of_epochs = () if chosen is None else (f"epochs={chosen}",)
    return changed(find_recipe(options.recipe), (*options.settings, *of_epochs))


def seeds_of(options: StudyFlags, default: str = SEEDS) -> tuple[int, ...]:
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
    images: str, baseline: AnyNetwork, options: StudyFlags, epochs: int | None = None, seeds: str = SEEDS
) -> dict[str, object]:
    """Return what every study is asked for: images, baseline, recipe, seeds and share."""
    return {
        "images": root_of(images),
        "baseline": baseline,
        "recipe": resolved_recipe(options, epochs),
        "seeds": seeds_of(options, seeds),
        "share": options.share,
    }


@contextmanager
def study_execution(flags: StudyFlags) -> Iterator[tuple[ExecutionContext, StudyOptions]]:
    """Provide how a study is carried out, and where it is kept.

    Raises:
        UserError: Less than one worker or thread.
        RecipeError: A device that this machine does not have.
    """
    from triscale.jobs.studies.requests import StudyOptions

    if flags.workers < 1 or flags.threads < 1:
        raise UserError(f"--workers {flags.workers} and --threads {flags.threads} must be 1 or more")
    options = StudyOptions(storage=flags.storage, study=flags.study, allow_leak=flags.allow_leak)
    with execution(flags.device, workers=flags.workers, threads=flags.threads) as context:
        yield context, options
