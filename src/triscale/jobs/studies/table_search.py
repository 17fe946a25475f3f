"""Baseline search in a table of accuracies: the same strategies and objective, without images and trainings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from triscale.errors import Interrupted, RunError, SearchError, UserError, nearest
from triscale.families import get
from triscale.jobs.studies.baseline import FOUND, NETWORK, TIMES, check_target, describe, price_of
from triscale.jobs.studies.requests import BaselineSearchRequest, StudyOptions, find_choices
from triscale.jobs.studies.trials import open_study_ledger, sizes_relative_to, started
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.search.baseline.accuracy_table import AccuracyTable, find_table, read_table
from triscale.search.baseline.explore import (
    BaselineSearchResult,
    EvaluatedCandidate,
    EvaluatorName,
    TableSource,
    best_of,
    explore,
    front_of,
)
from triscale.search.baseline.options import Choices
from triscale.search.baseline.space import make_space
from triscale.search.baseline.strategies import make_strategy
from triscale.search.study.trial import Job, Proxy, Score
from triscale.training.context import ExecutionContext

SKELETON, SPACE = "mobilenet_v2", "mnasnet"
"""The default skeleton and space, unless a table names its own."""
EVALUATORS = ("training", "supernet", "table:FILE")
CHOOSES_FROM_POOL = ("bayesian", "random")
"""Strategies that choose among the rows of a table; proposals of others are replaced by the nearest row."""

ONE_ANSWER = Proxy(epochs=1, images=1, seeds=(0,))
"""Makes the loop ask once for each network. It describes no training, and is not in the result."""


class EvaluatorChoice(NamedTuple):
    """What the evaluator of a search determines: the fields of its request of the same names."""

    evaluator: EvaluatorName
    table: TableSource | None
    skeleton: AnyNetwork
    space: str
    choices: Choices


def choose_evaluator(
    evaluator: str,
    images: str | None,
    *,
    skeleton: AnyNetwork | None = None,
    space: str | None = None,
    resolutions: tuple[int, ...] = (),
) -> EvaluatorChoice:
    """Read ``training``, ``supernet`` or ``table:FILE``, and choose skeleton and space, which a table may name.

    Args:
        evaluator: The evaluator as it is typed.
        images: The images, which a table does not need.
        skeleton: The skeleton that was asked for; None for the default.
        space: The space that was asked for; None for the default.
        resolutions: Resolutions in pixels to choose from; by default that of the skeleton.

    Raises:
        UserError: There is no such evaluator, images are missing, or images are given with a table.
        SearchError: The table cannot be read, or belongs to another skeleton or space.
    """
    kind, _, file = evaluator.partition(":")
    if kind != "table":
        if evaluator not in EVALUATORS:
            raise UserError(
                f'there is no evaluator "{evaluator}"; give {", ".join(EVALUATORS[:-1])} or {EVALUATORS[-1]}'
                f"{nearest(evaluator, EVALUATORS)}"
            )
        if images is None:
            raise UserError(
                f"a search with the evaluator {evaluator} needs images to train on; give them as the first argument, "
                "or a table of accuracies with --evaluator table:FILE"
            )
        default = get(SKELETON) if skeleton is None else skeleton
        return EvaluatorChoice(kind, None, default, *find_choices(space or SPACE, resolutions))  # type: ignore[arg-type]
    if not file:
        raise UserError("--evaluator table: names no file; give table:FILE with a .csv, .csv.gz or .json file")
    if images is not None:
        raise UserError(
            f"a search in a table trains nothing and needs no images, given {images}; leave them out, or give "
            "--evaluator training"
        )
    if skeleton is not None and not isinstance(skeleton, Network):
        raise SearchError(
            f"a baseline search does not support custom models such as {skeleton.name}; give a published name or the "
            "JSON file of a network as skeleton"
        )
    asked = find_choices(space or SPACE, resolutions)
    source, own = find_table(Path(file), skeleton, asked if space or resolutions else None)
    if own is None:
        return EvaluatorChoice("table", source, skeleton or get(SKELETON), *asked)
    return EvaluatorChoice("table", source, own.skeleton, own.name, own.choices)


def find_in_table(
    request: BaselineSearchRequest, out: Path, context: ExecutionContext, options: StudyOptions
) -> BaselineSearchResult:
    """Search for a baseline among the networks of a table; the same request resumes an interrupted search.

    ``out`` gets the same files as :func:`find_baseline` writes, without split and trainings.

    Args:
        request: Table, skeleton, space, objective and strategy.
        out: Directory of the search.
        context: Progress and stop flag.
        options: Name of the study.

    Returns:
        The result, without finalists.

    Raises:
        UserError: The table cannot be read or has other networks, no network meets the target, the directory holds
            other files, or an option needs trainings.
        Interrupted: ``context.should_stop`` returned true.
    """
    source = request.table
    assert source is not None
    _refuse_trainings(request, options)
    _refuse_other_table(source, out)
    resumed = started(request, out)
    assert isinstance(request.baseline, Network)
    space = make_space(request.space, request.baseline, request.choices)
    table = read_table(source, space)
    if request.plan.trials > len(table.pool):
        raise SearchError(
            f"{source.file} has {len(table.pool)} different networks, fewer than the {request.plan.trials} "
            f"evaluations; give --trials {len(table.pool)} or fewer"
        )
    strategy = make_strategy(request.strategy, space, request.search_seed, request.objective, pool=table.pool)
    if not resumed:
        check_target(request, space, context)
        request.save(out / f"{request.kind_name}.json")
    context.progress.begin("search", request.plan.trials)

    def on_batch(so_far: Sequence[EvaluatedCandidate]) -> None:
        context.progress.advance(len(so_far), f"{len(so_far)} of {request.plan.trials} networks")
        context.progress.note(describe(so_far, request.plan, request.objective))

    size = sizes_relative_to(space.skeleton)
    settings: dict[str, object] = {request.kind_name: request.replace(table=source.replace(file="")).digest}
    with open_study_ledger(f"baseline from {space.skeleton.name}", settings, size, out, options) as ledger:

        def evaluate(jobs: Sequence[Job]) -> list[Score]:
            if context.should_stop():
                raise Interrupted("the search was stopped; the same command resumes it")
            scores = [table.score(job.network) for job in jobs if isinstance(job.network, Network)]
            ledger.record(jobs, scores, f"table {table.name}")
            return scores

        price = price_of(request, space, out / TIMES, context)
        evaluated = explore(space, request.objective, strategy, request.plan, ONE_ANSWER, evaluate, price, on_batch)
    evaluated = tuple(one.replace(epochs=0, training_macs=0) for one in evaluated)
    best = best_of(evaluated)[0]
    result = BaselineSearchResult(
        space=space,
        objective=request.objective,
        strategy=request.strategy,
        evaluator="table",
        plan=request.plan,
        proxy=None,
        evaluated=evaluated,
        front=front_of(evaluated),
        best=best,
        network=space.network(evaluated[best].sample),
        training_macs=0,
        limitations=_limits(evaluated, request, table),
        table=TableSource(file=table.name, sha256=source.sha256),
    )
    result.network.save(out / NETWORK)
    result.save(out / FOUND)
    return result


def _refuse_trainings(request: BaselineSearchRequest, options: StudyOptions) -> None:
    if options.storage is not None:
        raise SearchError(
            "--storage shares trainings between machines, and a search in a table trains nothing; leave it out"
        )
    if request.plan.halving is not None:
        raise SearchError(
            "--halving stops trainings early, and a search in a table trains nothing; leave it out, or give "
            "--evaluator training"
        )


def _refuse_other_table(source: TableSource, out: Path) -> None:
    file = out / f"{BaselineSearchRequest.kind_name}.json"
    if not file.is_file():
        return
    before = BaselineSearchRequest.load(file).table
    if before is not None and before.sha256 != source.sha256:
        raise RunError(
            f"the search in {out} began with the table {before.file} (SHA-256 {before.sha256[:16]}...), and "
            f"{source.file} ({source.sha256[:16]}...) is another; give the same table, or another folder with --out"
        )


def _limits(
    evaluated: Sequence[EvaluatedCandidate], request: BaselineSearchRequest, table: AccuracyTable
) -> tuple[str, ...]:
    """Return the limitations of a search in a table, as sentences."""
    name = table.name
    sentences = [
        f"nothing was trained: the accuracies of {len(evaluated)} of {len(table.pool)} networks were read from {name}",
        f"networks that are not in {name} were not considered",
        "accuracies hold for the images and the trainings that the table comes from",
    ]
    if request.strategy not in CHOOSES_FROM_POOL:
        sentences.append(
            f"a proposal of {request.strategy} that is not in the table was replaced by the nearest network in it, "
            "which is a handicap in comparison with bayesian and random"
        )
    single = sum(one.accuracy is not None and one.error == 0 for one in evaluated)
    if single:
        sentences.append(
            f"the table has one accuracy without an error for {single} networks: differences may be random"
        )
    refused = sum(one.accuracy is None for one in evaluated)
    if refused:
        sentences.append(f"{refused} networks cost more than the constraint and were not looked up")
    if len(evaluated) < request.plan.trials:
        sentences.append(f"the strategy proposed nothing new after {len(evaluated)} of {request.plan.trials} networks")
    sentences.append("networks were selected by these accuracies, which are therefore optimistic for the best")
    return tuple(sentences)
