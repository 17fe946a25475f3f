"""The command that searches the coefficients of a law."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.options import STUDY_DEFAULTS, ImagesArgument, Json, LiteOption, StudyFlags, choose_network
from triscale.cli.support.study_options import study_execution, study_request_fields
from triscale.cli.support.terminal import console, counted, print_json, table

if TYPE_CHECKING:
    from triscale.jobs.studies.status import StudyStatus
    from triscale.search.coefficients.result import CoefficientSearchResult

MAX_STANDINGS = 12
PROXY_EPOCHS = 5


def coefficients(
    images: ImagesArgument,
    /,
    *,
    baseline: str,
    out: Path,
    method: Literal["grid", "halving", "response"] = "response",
    phi: float = 1.0,
    cost: Literal["macs", "params", "latency"] = "macs",
    target: float = 2.0,
    tolerance: float = 0.05,
    step: float = 0.05,
    alpha_to: float = 2.0,
    beta_to: float = 1.5,
    gamma_to: float = 1.5,
    number: int | None = None,
    lite: LiteOption = False,
    options: StudyFlags = STUDY_DEFAULTS,
    json: Json = False,
) -> None:
    """Find alpha, beta and gamma for a baseline and images: STEP 1 of the paper.

    Candidates all cost the same in fact, not by the nominal product. Each is trained briefly and scored on images held
    out of training, for 5 epochs by default. The same command resumes where it stopped.

    Parameters
    ----------
    baseline
        A published name, a JSON file or package.module:function.
    out
        Folder of the search; its law.json can be given to --law.
    method
        grid: all candidates to the end; halving: all briefly, the best longer; response: a curve through small ones.
    phi
        Candidates are the baseline scaled at this phi.
    cost
        What candidates are matched on: MACs, parameters, or latency as measured here, one image at a time.
    target
        How many times the cost of the baseline a step of phi costs.
    tolerance
        How far from the target a candidate may be, as a share of it.
    step
        Step of the grid in each coefficient.
    alpha_to
        Largest alpha; the smallest is 1.
    beta_to
        Largest beta.
    gamma_to
        Largest gamma.
    number
        At most so many candidates, spread over all.
    """
    from triscale.jobs.search import search_coefficients
    from triscale.jobs.studies.requests import CoefficientSearchRequest
    from triscale.search.coefficients.grid import Grid

    grid = {
        "phi": phi,
        "cost": cost,
        "target": target,
        "tolerance": tolerance,
        "step": step,
        "alpha_to": alpha_to,
        "beta_to": beta_to,
        "gamma_to": gamma_to,
        "number": number,
    }
    search = CoefficientSearchRequest.parse(
        study_request_fields(images, choose_network(baseline, lite=lite), options, PROXY_EPOCHS)
        | {"grid": Grid.parse(grid, "the grid asked for"), "method": method},
        "the search asked for",
    )
    with study_execution(options) as (context, kept):
        found = search_coefficients(search, out, context, kept)
    if json:
        print_json(found)
    else:
        _print_found(found, out)


def _print_found(found: CoefficientSearchResult, out: Path) -> None:
    console.print(f"{found.baseline} by {found.method}: {counted(len(found.trials), 'training')}", markup=False)
    table(
        ("alpha", "beta", "gamma", "cost", "accuracy", "error", ""),
        [
            (
                f"{standing.law.alpha:g}",
                f"{standing.law.beta:g}",
                f"{standing.law.gamma:g}",
                f"x{standing.ratio:.3f}",
                f"{standing.accuracy:.2%}",
                f"{standing.error:.2%}",
                "tied" if standing.tied else "",
            )
            for standing in found.standings[:MAX_STANDINGS]
        ],
        left=0,
    )
    console.print(f"\nlaw {found.law}", style="bold")
    if found.interval is not None:
        console.print(f"bootstrap interval {found.interval.low} to {found.interval.high}", markup=False)
    if found.response is not None and not found.response.fits:
        console.print("the response does not fit: do not use this law", style="bold red")
    for sentence in found.limitations:
        console.print(f"not told: {sentence}", markup=False)
    console.print(f"written to {out / 'law.json'} and {out / 'coefficients.json'}", markup=False, soft_wrap=True)


def status(
    out: Path,
    /,
    *,
    storage: str | None = None,
    json: Json = False,
) -> None:
    """Show how a search or comparison stands, also while it runs.

    Parameters
    ----------
    out
        Folder of the search.
    storage
        Address of its server, where it needs a password.
    """
    from triscale.jobs.studies.status import read_status

    found = read_status(out, storage)
    if json:
        print_json(found)
    else:
        _print_status(found)


def resume(
    out: Path,
    /,
    *,
    workers: int = 1,
    threads: int = 1,
    device: str = "auto",
    storage: str | None = None,
    allow_leak: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Resume a search or comparison where it stopped, as it was asked for.

    Parameters
    ----------
    out
        Folder of the search.
    workers
        Processes that train at a time.
    threads
        Threads of each.
    device
        auto, cpu or cuda.
    storage
        Address of its server, where it needs a password.
    allow_leak
        Go on although test or validation images are copies of others.
    """
    from triscale.cli.commands.baseline import print_baseline
    from triscale.cli.commands.compare import print_compared
    from triscale.jobs.search import resume as resume_study
    from triscale.search.baseline.explore import BaselineSearchResult
    from triscale.search.coefficients.result import CoefficientSearchResult

    options = StudyFlags(workers=workers, threads=threads, device=device, storage=storage, allow_leak=allow_leak)
    with study_execution(options) as (context, kept):
        found = resume_study(out, context, kept)
    if json:
        print_json(found)
    elif isinstance(found, CoefficientSearchResult):
        _print_found(found, out)
    elif isinstance(found, BaselineSearchResult):
        print_baseline(found, out)
    else:
        print_compared(found, out)


def export(out: Path, file: Path, /, *, storage: str | None = None) -> None:
    """Write all trials of a search or comparison as a table.

    Parameters
    ----------
    out
        Folder of the search.
    file
        Ends in .csv or .json.
    storage
        Address of its server, where it needs a password.
    """
    from triscale.jobs.studies.status import export as write

    console.print(f"{write(out, file, storage)} trials written to {file}", markup=False, soft_wrap=True)


def _print_status(found: StudyStatus) -> None:
    from triscale.progress import format_duration

    left = "" if found.seconds_left is None else f", about {format_duration(found.seconds_left)} left for these"
    console.print(
        f"{found.kind} of {found.baseline}: {'ended' if found.finished else 'not ended'}; {found.done} trainings done, "
        f"{found.running} running, {found.waiting} waiting, {found.failed} failed{left}",
        markup=False,
    )
    for sentence in found.running_jobs:
        console.print(f"now: {sentence}", markup=False)
    for sentence in found.errors:
        console.print(f"failed: {sentence}", markup=False, style="bold")
    if found.standings:
        table(
            ("network", "cost", "epochs", "seeds", "accuracy"),
            [
                (
                    standing.network,
                    f"x{standing.ratio:.3f}",
                    str(standing.epochs),
                    str(standing.seeds),
                    f"{standing.accuracy:.2%}",
                )
                for standing in found.standings[:MAX_STANDINGS]
            ],
            title="so far",
        )
