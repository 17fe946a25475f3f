"""The command ``search baseline``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.options import STUDY_DEFAULTS, ImagesArgument, Items, Json, Out, StudyFlags, joined
from triscale.cli.support.study_options import (
    print_study_estimate,
    print_study_files,
    study_execution,
    study_request_fields,
)
from triscale.cli.support.terminal import console, counted, print_json, table
from triscale.errors import UserError
from triscale.families.find import find_network
from triscale.network.cost import si
from triscale.network.latency import load_predictor

if TYPE_CHECKING:
    from triscale.search.baseline.explore import BaselineSearchResult

PROXY_SEED = "0"
MAX_ROWS = 12


def baseline(
    images: ImagesArgument | None = None,
    /,
    *,
    target: str,
    out: Out,
    skeleton: str | None = None,
    space: str | None = None,
    resolutions: Items = (),
    cost: Literal["macs", "params", "latency"] | None = None,
    profile: Path | None = None,
    objective: Literal["soft", "hard", "constraint"] = "soft",
    exponent: float = -0.07,
    strategy: Literal["bayesian", "random", "evolution", "nsga2", "tpe", "ppo"] = "bayesian",
    trials: int = 64,
    batch: int = 8,
    halving: Annotated[bool, Parameter(negative="")] = False,
    evaluator: str = "training",
    supernet_epochs: int = 30,
    checked: int = 8,
    finalists: int = 3,
    final_epochs: int = 30,
    search_seed: int = 0,
    options: StudyFlags = STUDY_DEFAULTS,
    json: Json = False,
) -> None:
    """Search for a baseline with a good trade-off of accuracy and cost, as for MnasNet and EfficientNet-B0.

    Networks of a search space are trained for 5 epochs with one seed by default, and rewarded with
    accuracy x (cost / target) ^ exponent on validation images. The best networks are then trained longer. The same
    command resumes an interrupted search. Pass the resulting network.json to --baseline or --network.

    Parameters
    ----------
    target
        Target cost of the network, such as 400M (MACs), 5M params or 20ms.
    out
        Folder of the search.
    skeleton
        A published name or a JSON file of a network; the space varies its blocks, widths and repeats. By default
        mobilenet_v2, or that of the table.
    space
        mnasnet, its subspaces mbconv, small and tiny, efficientnet_v2, mobilenet_v4, resnet for ResNet skeletons, or a
        JSON file of choices. By default mnasnet, or that of the table.
    resolutions
        Resolutions in pixels to choose from; by default that of the skeleton.
    cost
        MACs, parameters, or latency with batch size 1; by default derived from the target.
    profile
        A profile written by triscale profile, to predict latency; without it, latency is measured on this machine.
    objective
        soft: the reward depends on the cost everywhere; hard: only above the target; constraint: networks above the
        target are not trained.
    exponent
        Exponent of cost / target in the soft objective.
    strategy
        Bayesian optimization with a Gaussian process, random search, regularized evolution, Optuna's NSGA-II or TPE,
        or the paper's controller trained with PPO.
    trials
        Number of networks to evaluate.
    batch
        Number of networks that the strategy proposes at a time.
    halving
        After a ninth and a third of the epochs, continue only with the best third of the networks.
    evaluator
        training: train each network stand-alone; supernet: evaluate all networks with one weight-sharing network;
        table:FILE: read accuracies from a table, without images and trainings. FILE is a .csv or .csv.gz file with a
        column for each choice and one named accuracy, accel_nasbench.csv.gz, or the folder of an earlier search.
    supernet_epochs
        Epochs of the supernet.
    checked
        Number of random networks to train stand-alone, to check the ranking of the supernet.
    finalists
        Number of best networks to train for --final-epochs; none with a table.
    final_epochs
        Epochs of the finalists.
    search_seed
        Seed of the strategy.
    """
    from triscale.jobs.search import search_baseline
    from triscale.jobs.studies.estimate import estimate_baseline_search
    from triscale.jobs.studies.requests import (
        PROXY_EPOCHS,
        BaselineSearchRequest,
        make_objective,
    )
    from triscale.jobs.studies.table_search import choose_evaluator
    from triscale.search.baseline.explore import SearchPlan
    from triscale.search.coefficients.methods import Halving

    chosen = choose_evaluator(
        evaluator,
        images,
        skeleton=None if skeleton is None else find_network(skeleton),
        space=space,
        resolutions=_resolutions(joined(resolutions) or ""),
    )
    search = BaselineSearchRequest.parse(
        study_request_fields(images or "", chosen.skeleton, options, PROXY_EPOCHS, PROXY_SEED)
        | {
            "space": chosen.space,
            "choices": chosen.choices,
            "objective": make_objective(target, cost=cost, form=objective, exponent=exponent),
            "predictor": None if profile is None else load_predictor(profile),
            "strategy": strategy,
            "search_seed": search_seed,
            "plan": SearchPlan.parse(
                {"trials": trials, "batch": batch, "halving": Halving() if halving else None}, "the search plan"
            ),
            "evaluator": chosen.evaluator,
            "table": chosen.table,
            "supernet_epochs": supernet_epochs,
            "checked": checked,
            "finalists": finalists,
            "final_epochs": final_epochs,
        },
        "the search options",
    )
    with study_execution(options) as (context, study_options):
        if options.dry_run:
            print_study_estimate(estimate_baseline_search(search, context), json=json)
            return
        result = search_baseline(search, out, context, study_options)
    if json:
        print_json(result)
    else:
        print_baseline(result, out)


def print_baseline(result: BaselineSearchResult, out: Path) -> None:
    """Print the Pareto front, the finalists and the best network."""
    from triscale.jobs.studies.baseline import describe_cost

    trained = sum(one.accuracy is not None for one in result.evaluated)
    how = f"{trained} of them trained"
    if result.table is not None:
        how = f"with accuracies from {result.table.file} (SHA-256 {result.table.sha256[:16]}...); nothing was trained"
    console.print(
        f"{counted(len(result.evaluated), 'network')} of the space {result.space.name} evaluated with the strategy "
        f"{result.strategy}, {how}",
        markup=False,
    )
    shown = result.front[-MAX_ROWS:]
    table(
        ("Pareto front", "cost", "params", "accuracy", "error", "reward", ""),
        [
            (
                one.network,
                describe_cost(result.objective, one.cost),
                si(one.params),
                f"{one.accuracy or 0:.2%}",
                "unknown" if result.table is not None and one.error == 0 else f"{one.error:.2%}",
                f"{one.reward:.4f}",
                "best" if index == result.best else "",
            )
            for index in shown
            for one in [result.evaluated[index]]
        ],
    )
    if result.finalists:
        table(
            ("finalist", "epochs", "accuracy", "error", "reward"),
            [
                (one.network, str(one.epochs), f"{one.accuracy:.2%}", f"{one.error:.2%}", f"{one.reward:.4f}")
                for one in result.finalists
            ],
        )
    if result.ranking is not None:
        ranking = result.ranking
        console.print(
            f"\nrank correlation of supernet and stand-alone training for {ranking.networks} networks: Kendall's tau "
            f"{ranking.kendall:.2f} (95% interval {ranking.low:.2f} to {ranking.high:.2f})",
            markup=False,
        )
        if not ranking.trusted:
            console.print(f"the supernet's choice is unreliable: {ranking.doubt}", style="bold red")
    console.print(f"\nbest network {result.network.name}", style="bold")
    for sentence in result.limitations:
        console.print(f"limitation: {sentence}", markup=False)
    print_study_files(out, "network.json", "report.html")


def _resolutions(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"--resolutions {text}: give whole numbers of pixels, such as 192 224")
    return tuple(map(int, words))
