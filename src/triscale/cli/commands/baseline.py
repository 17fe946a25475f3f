"""The command that searches a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.options import STUDY_DEFAULTS, ImagesArgument, Json, StudyFlags
from triscale.cli.support.study_options import study_execution, study_request_fields
from triscale.cli.support.terminal import console, counted, print_json, table
from triscale.errors import SearchError, UserError
from triscale.families.find import find_network
from triscale.network.cost import si
from triscale.network.latency import load_predictor

if TYPE_CHECKING:
    from triscale.search.baseline.explore import BaselineSearchResult
    from triscale.search.baseline.objective import Objective
    from triscale.search.baseline.options import Choices

PROXY_EPOCHS = 5
PROXY_SEED = "0"
MAX_ROWS = 12


def baseline(
    images: ImagesArgument,
    /,
    *,
    target: str,
    out: Path,
    skeleton: str = "mobilenet_v2",
    space: str = "mnasnet",
    resolutions: str = "",
    cost: Literal["macs", "params", "latency"] | None = None,
    profile: Path | None = None,
    objective: Literal["soft", "hard", "constraint"] = "soft",
    exponent: float = -0.07,
    strategy: Literal["random", "evolution", "nsga2", "tpe", "ppo"] = "ppo",
    trials: int = 64,
    batch: int = 8,
    halving: Annotated[bool, Parameter(negative="")] = False,
    evaluator: Literal["training", "supernet"] = "training",
    supernet_epochs: int = 30,
    checked: int = 8,
    finalists: int = 3,
    final_epochs: int = 30,
    search_seed: int = 0,
    options: StudyFlags = STUDY_DEFAULTS,
    json: Json = False,
) -> None:
    """Find the baseline that scaling starts from: accuracy against cost, as MnasNet and EfficientNet-B0 were found.

    Networks of a space around a skeleton are trained briefly, for 5 epochs by default with one seed, and judged by
    accuracy x (cost / target) ^ exponent on images held out of training; the best are trained in full. The same command
    resumes where it stopped. network.json can be given to --baseline and --network.

    Parameters
    ----------
    target
        What the network shall cost, such as 400M, 5M params or 20ms.
    out
        Folder of the search.
    skeleton
        A published name or a JSON file: its strides, widths and repeats are where choices start from.
    space
        mnasnet, its parts mbconv, small and tiny, resnet for ResNet skeletons, or a JSON file of choices.
    resolutions
        Sides in pixels to choose from, with commas; by default that of the skeleton.
    cost
        MACs, parameters, or latency, one image at a time; by default what the target says.
    profile
        File of triscale profile, which predicts latency; without one each network's is measured here.
    objective
        soft: the cost is weighed above and below the target; hard: above it; constraint: nothing above it is trained.
    exponent
        Of cost / target in the soft objective.
    strategy
        Who proposes: random, regularized evolution, Optuna's NSGA-II or TPE, or the paper's controller trained by PPO.
    trials
        How many different networks are looked at.
    batch
        How many are proposed at a time.
    halving
        Stop networks early that are not among the best third at a third of the epochs.
    evaluator
        training: each network by itself; supernet: one weight-sharing network for all.
    supernet_epochs
        Epochs of that one.
    checked
        How many networks, random, are trained by themselves to see whether it orders them as trainings do.
    finalists
        How many of the best are trained in full.
    final_epochs
        Epochs of these.
    search_seed
        Of the strategy.
    """
    from triscale.jobs.search import search_baseline
    from triscale.jobs.studies.requests import BaselineSearchRequest
    from triscale.search.baseline.explore import SearchPlan
    from triscale.search.coefficients.methods import Halving

    name, choices = _choices(space, resolutions)
    search = BaselineSearchRequest.parse(
        study_request_fields(images, find_network(skeleton), options, PROXY_EPOCHS, PROXY_SEED)
        | {
            "space": name,
            "choices": choices,
            "objective": _objective(target, cost, objective, exponent),
            "predictor": None if profile is None else load_predictor(profile),
            "strategy": strategy,
            "search_seed": search_seed,
            "plan": SearchPlan.parse(
                {"trials": trials, "batch": batch, "halving": Halving() if halving else None}, "the plan asked for"
            ),
            "evaluator": evaluator,
            "supernet_epochs": supernet_epochs,
            "checked": checked,
            "finalists": finalists,
            "final_epochs": final_epochs,
        },
        "the search asked for",
    )
    with study_execution(options) as (context, kept):
        found = search_baseline(search, out, context, kept)
    if json:
        print_json(found)
    else:
        print_baseline(found, out)


def print_baseline(found: BaselineSearchResult, out: Path) -> None:
    """Print the front, the finalists and the network found."""
    from triscale.jobs.studies.baseline import describe_cost

    trained = sum(one.accuracy is not None for one in found.evaluated)
    console.print(
        f"{counted(len(found.evaluated), 'network')} of the space {found.space.name} by {found.strategy}, "
        f"{trained} trained",
        markup=False,
    )
    shown = found.front[-MAX_ROWS:]
    table(
        ("on the front", "cost", "params", "accuracy", "error", "reward", ""),
        [
            (
                one.network,
                describe_cost(found.objective, one.cost),
                si(one.params),
                f"{one.accuracy or 0:.2%}",
                f"{one.error:.2%}",
                f"{one.reward:.4f}",
                "best" if index == found.best else "",
            )
            for index in shown
            for one in [found.evaluated[index]]
        ],
    )
    if found.finalists:
        table(
            ("trained in full", "epochs", "accuracy", "error", "reward"),
            [
                (one.network, str(one.epochs), f"{one.accuracy:.2%}", f"{one.error:.2%}", f"{one.reward:.4f}")
                for one in found.finalists
            ],
        )
    if found.ranking is not None:
        ranking = found.ranking
        console.print(
            f"\nthe supernet orders {ranking.networks} networks trained by themselves with a rank correlation of "
            f"{ranking.kendall:.2f} (Kendall; 95 %: {ranking.low:.2f} to {ranking.high:.2f})",
            markup=False,
        )
        if not ranking.trusted:
            console.print(f"do not trust its choice: {ranking.doubt}", style="bold red")
    console.print(f"\nfound {found.network.name}", style="bold")
    for sentence in found.limitations:
        console.print(f"not told: {sentence}", markup=False)
    console.print(f"written to {out / 'network.json'} and {out / 'report.html'}", markup=False, soft_wrap=True)


def _objective(target: str, cost: Literal["macs", "params", "latency"] | None, form: str, exponent: float) -> Objective:
    """Return what is maximized; the target says what is counted."""
    from triscale.cli.support.amounts import milliseconds_of
    from triscale.scaling.budget import Budget
    from triscale.search.baseline.objective import Objective

    milliseconds = milliseconds_of(target)
    if milliseconds is not None:
        named, amount = "latency", milliseconds
    else:
        limits = Budget.of(target).limits
        named, amount = next(iter(limits.items()))
        if len(limits) > 1 or named == "size":
            raise SearchError(f'--target "{target}" must be one of MACs, parameters or time: 400M, 5M params or 20ms')
    if cost is not None and cost != named:
        raise UserError(f'--cost {cost} and --target "{target}" differ in what they count; leave --cost out')
    return Objective.parse(
        {"cost": named, "target": amount, "form": form, "exponent": exponent}, "the objective asked for"
    )


def _choices(space: str, resolutions: str) -> tuple[str, Choices]:
    """Return the name and the choices of a space: of a name, or of a JSON file."""
    from triscale.search.baseline.options import MENUS, Choices

    words = [word.strip() for word in resolutions.split(",") if word.strip()]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UserError(f"--resolutions {resolutions} must be whole numbers of pixels with commas, such as 192,224")
    sides = tuple(map(int, words))
    path = Path(space)
    if path.suffix == ".json" or path.is_file():
        choices = Choices.load(path)
        name = path.stem
    elif space in MENUS:
        choices, name = Choices(options=(MENUS[space],)), space
    else:
        raise SearchError(f'there is no space "{space}"; the names are {", ".join(MENUS)}, or give a .json file of one')
    return name, choices.replace(resolutions=sides) if sides else choices
