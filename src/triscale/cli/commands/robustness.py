"""The command ``robustness``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json, Offline, SourceArgument, SourceImages
from triscale.cli.support.terminal import console, print_json, table, visible

if TYPE_CHECKING:
    from triscale.results.robustness import ClassRobustness, Robustness

MAX_LINES = 20
"""Classes that are printed; the report and JSON have all."""


def robustness(
    source: SourceArgument,
    /,
    images: SourceImages = None,
    *,
    limit: int = 200,
    seed: int = 0,
    device: str = "auto",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Measure the accuracy on corrupted test images: brightness, blur, noise, JPEG and rotation at five strengths.

    The result is added to the report of a run.

    Parameters
    ----------
    limit
        Maximum number of test images, chosen at random; each is classified 26 times.
    seed
        Seed of the sample, and of everything random in the corruptions.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple).
    """
    from triscale.jobs.run_source import open_source
    from triscale.jobs.source_jobs import robustness_of_source

    with execution(device) as context, open_source(source, context, images=images, offline=offline) as opened:
        result = robustness_of_source(opened, context, limit=limit, seed=seed)
    if json:
        print_json(result)
        return
    _print_robustness(result)


def _print_robustness(result: Robustness) -> None:
    table(
        ("corruption", "1", "2", "3", "4", "5", "mean", "95% interval"),
        [
            (
                kind,
                *(f"{row.top1.value:.1%}" for row in result.strengths if row.corruption == kind),
                f"{mean.value:.1%}",
                f"{mean.low:.1%} - {mean.high:.1%}",
            )
            for kind, mean in zip(result.kinds, result.all_classes.corrupted, strict=True)
        ],
        title="Top-1 accuracy by strength",
    )
    clean = result.all_classes.clean
    assert clean is not None
    console.print(
        f"as they are: {clean.value:.1%} (95% interval {clean.low:.1%} to {clean.high:.1%}), "
        f"{result.images} of {result.available} test images\n"
    )
    present = sorted((row for row in result.classes if row.clean is not None), key=_weakness)
    table(
        ("class", "images", "as it is", *result.kinds),
        [
            (
                visible(row.name),
                str(row.count),
                "" if row.clean is None else f"{row.clean.value:.0%}",
                *(f"{one.value:.0%}" for one in row.corrupted),
            )
            for row in present[:MAX_LINES]
        ],
        title="Recall by class, mean over strengths, the weakest first",
    )
    if len(present) > MAX_LINES:
        console.print(f"and {len(present) - MAX_LINES} more classes, which the report has", style="dim")


def _weakness(row: ClassRobustness) -> float:
    return sum(one.value for one in row.corrupted)
