"""Shared by the commands that train many networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from triscale.cli.support.execution import execution
from triscale.cli.support.options import StudyFlags, joined
from triscale.cli.support.terminal import console, counted, print_json
from triscale.errors import UserError
from triscale.network.custom import AnyNetwork

if TYPE_CHECKING:
    from triscale.jobs.studies.estimate import StudyEstimate
    from triscale.jobs.studies.requests import StudyOptions
    from triscale.training.context import ExecutionContext


SEEDS = "0,1,2"


def seeds_of(options: StudyFlags, default: str = SEEDS) -> tuple[int, ...]:
    """Return the seeds.

    Raises:
        UserError: The seeds are not whole numbers of 0 or more.
    """
    text = joined(options.seeds) or default
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise UserError(f"--seeds {text}: give whole numbers of 0 or more, such as 0 1 2")
    return tuple(map(int, words))


def study_request_fields(
    images: str, baseline: AnyNetwork, options: StudyFlags, epochs: int | None = None, seeds: str = SEEDS
) -> dict[str, object]:
    """Return the fields that all study requests have: images, baseline, recipe, seeds and share."""
    from triscale.jobs.studies.requests import study_fields
    from triscale.training.changes import find_recipe

    return study_fields(
        images,
        baseline,
        find_recipe(options.recipe),
        settings=options.settings,
        epochs=epochs if options.epochs is None else options.epochs,
        seeds=seeds_of(options, seeds),
        share=options.share,
        data=options.data.options(),
    )


@contextmanager
def study_execution(flags: StudyFlags) -> Iterator[tuple[ExecutionContext, StudyOptions]]:
    """Provide the execution context and the options of a study.

    Raises:
        UserError: The number of workers or threads is less than 1.
        RecipeError: This machine does not have the device.
    """
    from triscale.jobs.studies.requests import StudyOptions

    if flags.workers < 1 or flags.threads < 1:
        raise UserError(f"--workers {flags.workers} and --threads {flags.threads} must be 1 or more")
    options = StudyOptions(storage=flags.storage, study=flags.study, allow_leak=flags.allow_leak)
    with execution(flags.device, workers=flags.workers, threads=flags.threads) as context:
        yield context, options


def print_study_estimate(estimate: StudyEstimate, *, json: bool) -> None:
    """Print how many trainings a study takes, and about how long."""
    from triscale.progress import format_duration

    if json:
        print_json(estimate)
        return
    most = "at most " if estimate.at_most else ""
    console.print(
        f"{most}{counted(estimate.trainings, 'training')} of {counted(estimate.networks, 'network')}: "
        f"{counted(estimate.epochs, 'epoch')} of {counted(estimate.images, 'image')} each",
        markup=False,
    )
    for sentence in estimate.also:
        console.print(f"and {sentence}", markup=False)
    console.print(
        f"{most}about {format_duration(estimate.seconds)} in all with {counted(estimate.workers, 'worker')}",
        markup=False,
    )


def print_study_files(out: Path, *names: str) -> None:
    """Print where a finished study was written: its folder or the main files, and the folder of its figures."""
    written = " and ".join(str(out / name) for name in names) or str(out)
    console.print(f"written to {written}", markup=False, soft_wrap=True)
    console.print(f"figures as SVG, PDF and CSV: {out / 'figures'}", markup=False, soft_wrap=True)
