"""The commands ``search coefficients``, ``search status``, ``search resume`` and ``search export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.options import (
    STUDY_DEFAULTS,
    ImagesArgument,
    Json,
    LiteOption,
    Out,
    StudyFlags,
    choose_network,
)
from triscale.cli.support.study_options import (
    print_study_estimate,
    print_study_files,
    study_execution,
    study_request_fields,
)
from triscale.cli.support.terminal import console, counted, print_json, table

if TYPE_CHECKING:
    from triscale.jobs.studies.status import StudyStatus
    from triscale.search.coefficients.result import CoefficientSearchResult, RankedCandidate

MAX_STANDINGS = 12


def coefficients(
    images: ImagesArgument,
    /,
    *,
    baseline: str,
    out: Out,
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
    """Search for alpha, beta and gamma for a baseline and a data set: step 1 of the paper.

    All candidates have the same realized cost, not only the same nominal cost alpha x beta^2 x gamma^2. Each is trained
    for 5 epochs by default and scored on validation images. The same command resumes an interrupted search.

    Parameters
    ----------
    baseline
        A published name, a JSON file or package.module:function.
    out
        Folder of the search; its law.json can be given to --law.
    method
        grid: train all candidates for all epochs; halving: successive halving; response: fit a response surface to
        small networks.
    phi
        Scale the candidates to this phi.
    cost
        Cost that candidates have in common: MACs, parameters, or latency with batch size 1, measured on this machine.
    target
        Factor by which the cost grows when phi increases by 1.
    tolerance
        Maximum relative deviation of a candidate from the target cost.
    step
        Step of the grid in each coefficient.
    alpha_to
        Maximum alpha; the minimum is 1.
    beta_to
        Maximum beta.
    gamma_to
        Maximum gamma.
    number
        Maximum number of candidates, evenly spread over the grid.
    """
    from triscale.jobs.search import search_coefficients
    from triscale.jobs.studies.estimate import estimate_study
    from triscale.jobs.studies.requests import PROXY_EPOCHS, CoefficientSearchRequest
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
        | {"grid": Grid.parse(grid, "the grid"), "method": method},
        "the search options",
    )
    with study_execution(options) as (context, study_options):
        if options.dry_run:
            print_study_estimate(estimate_study(search, context), json=json)
            return
        result = search_coefficients(search, out, context, study_options)
    if json:
        print_json(result)
    else:
        _print_result(result, out)


def standing_label(standing: RankedCandidate, result: CoefficientSearchResult) -> str:
    """Return ``best``, ``tied`` or nothing; the first is not the best if others are tied with it."""
    if not standing.tied:
        return ""
    return "tied" if any(other.tied for other in result.standings if other is not standing) else "best"


def _print_result(result: CoefficientSearchResult, out: Path) -> None:
    console.print(
        f"{result.baseline}, method {result.method}: {counted(len(result.trials), 'training run')}", markup=False
    )
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
                standing_label(standing, result),
            )
            for standing in result.standings[:MAX_STANDINGS]
        ],
        left=0,
    )
    console.print(f"\nlaw {result.law}", style="bold")
    if result.interval is not None:
        console.print(f"bootstrap interval {result.interval.low} to {result.interval.high}", markup=False)
    if result.response is not None and not result.response.fits:
        console.print("the response surface does not fit; do not use this law", style="bold red")
    for sentence in result.limitations:
        console.print(f"limitation: {sentence}", markup=False)
    print_study_files(out, "law.json", "coefficients.json")


def status(
    out: Path,
    /,
    *,
    storage: str | None = None,
    json: Json = False,
) -> None:
    """Show the status of a search or comparison, running or not.

    Parameters
    ----------
    out
        Folder of the search.
    storage
        URL of the study's server; only needed if it contains a password.
    """
    from triscale.jobs.studies.status import read_status

    result = read_status(out, storage)
    if json:
        print_json(result)
    else:
        _print_status(result)


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
    """Resume an interrupted search or comparison with its original options.

    Parameters
    ----------
    out
        Folder of the search.
    workers
        Number of processes that train in parallel.
    threads
        Threads of each process.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple).
    storage
        URL of the study's server; only needed if it contains a password.
    allow_leak
        Accept test or validation images that are copies of other images.
    """
    from triscale.cli.commands.baseline import print_baseline
    from triscale.cli.commands.compare import print_compared
    from triscale.jobs.search import resume as resume_study
    from triscale.search.baseline.explore import BaselineSearchResult
    from triscale.search.coefficients.result import CoefficientSearchResult

    options = StudyFlags(workers=workers, threads=threads, device=device, storage=storage, allow_leak=allow_leak)
    with study_execution(options) as (context, study_options):
        result = resume_study(out, context, study_options)
    if json:
        print_json(result)
    elif isinstance(result, CoefficientSearchResult):
        _print_result(result, out)
    elif isinstance(result, BaselineSearchResult):
        print_baseline(result, out)
    else:
        print_compared(result, out)


def export(out: Path, file: Path, /, *, storage: str | None = None) -> None:
    """Write all trials of a search or comparison to a table.

    Parameters
    ----------
    out
        Folder of the search.
    file
        The table; ends in .csv or .json.
    storage
        URL of the study's server; only needed if it contains a password.
    """
    from triscale.jobs.studies.status import export as write

    console.print(f"{write(out, file, storage)} trials written to {file}", markup=False, soft_wrap=True)


def _print_status(result: StudyStatus) -> None:
    from triscale.progress import format_duration

    left = "" if result.seconds_left is None else f", about {format_duration(result.seconds_left)} left for these"
    done = (
        f"{result.done} training runs done, {result.running} running, {result.waiting} waiting, {result.failed} failed"
    )
    if result.table is not None:
        done = f"{result.done} accuracies read from {result.table}, nothing was trained"
    console.print(
        f"{result.kind} of {result.baseline}: {'finished' if result.finished else 'not finished'}; {done}{left}",
        markup=False,
    )
    for job in result.running_jobs:
        console.print(f"running: {job}", markup=False)
    for error in result.errors:
        console.print(f"failed: {error}", markup=False, style="bold")
    if result.standings:
        table(
            ("network", "cost", "epochs", "seeds", "accuracy"),
            [
                (
                    standing.network,
                    f"x{standing.ratio:.3f}",
                    *((str(standing.epochs), str(standing.seeds)) if result.table is None else ("-", "-")),
                    f"{standing.accuracy:.2%}",
                )
                for standing in result.standings[:MAX_STANDINGS]
            ],
            title="intermediate results",
        )
