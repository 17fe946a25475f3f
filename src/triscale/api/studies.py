"""Searches and comparisons: the same jobs as the commands ``search``, ``compare`` and ``family``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from triscale.api.arguments import AnyNetworkLike, LawLike, as_law, as_laws, positive
from triscale.api.data_options import DataOptionsLike, as_data_options
from triscale.families.find import as_network
from triscale.families.lite import lite as lite_of
from triscale.jobs import search as jobs
from triscale.jobs.core.execution import execution
from triscale.jobs.core.networks import cost_of
from triscale.jobs.studies.requests import (
    PROXY_EPOCHS,
    BaselineSearchRequest,
    CoefficientSearchRequest,
    ComparisonRequest,
    Method,
    StudyOptions,
    make_objective,
    study_fields,
)
from triscale.jobs.studies.table_search import choose_evaluator
from triscale.network.latency import load_predictor
from triscale.scaling.family import Family, make_family, read_phis
from triscale.scaling.law import EFFICIENTNET
from triscale.search.baseline.explore import BaselineSearchResult, SearchPlan
from triscale.search.baseline.objective import EXPONENT
from triscale.search.coefficients.grid import Grid
from triscale.search.coefficients.methods import Halving
from triscale.search.coefficients.result import CoefficientSearchResult
from triscale.search.compare.results import ComparisonResult
from triscale.training.changes import find_recipe
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe


def search_coefficients(
    images: str | Path,
    baseline: AnyNetworkLike,
    out: str | Path,
    *,
    method: Method = "grid",
    grid: Grid | None = None,
    lite: bool = False,
    recipe: str | Path | Recipe = "small",
    settings: Mapping[str, Any] | None = None,
    epochs: int | None = PROXY_EPOCHS,
    seeds: Sequence[int] = (0, 1, 2),
    share: float = 1.0,
    workers: int = 1,
    threads: int = 1,
    device: str = "auto",
    storage: str | None = None,
    study: str | None = None,
    allow_leak: bool = False,
    data: DataOptionsLike | None = None,
    progress: bool = True,
) -> CoefficientSearchResult:
    """Search for alpha, beta and gamma for a baseline and a data set: step 1 of the EfficientNet paper.

    All candidates have the same realized cost. Each is trained for some epochs and scored on validation images. The
    same call resumes an interrupted search.

    Args:
        images: A folder, table, URL or named data set.
        baseline: The network to scale.
        out: Directory of the search, with its report; it can be given as ``law``.
        method: ``grid`` trains all candidates, ``halving`` is successive halving, ``response`` fits a response surface
            to small networks.
        grid: The candidates; by default the paper's grid at twice the cost.
        lite: Whether to adapt the baseline for int8 and small devices.
        recipe: A recipe, its name or its file.
        settings: Changes of the recipe's fields.
        epochs: Epochs of each training; None for the recipe's.
        seeds: Seeds of each candidate's trainings.
        share: Share of the training images of each class to train on.
        workers: Processes that train in parallel.
        threads: Threads of each.
        device: ``auto``, ``cpu`` or ``cuda``.
        storage: ``postgresql://USER@HOST/DATABASE``, if several machines work on the study.
        study: Name of the study there.
        allow_leak: Whether to accept validation images that are copies of others.
        data: How the images are read and what is tolerated, such as ``{"allow_missing_classes": True}``.
        progress: Whether progress is shown on standard error.

    Returns:
        The law with its interval, all candidates, and the limitations of the result.

    Raises:
        UserError: The request is invalid; the subclass and the message give the reason.
        Interrupted: Ctrl-C or SIGTERM was received; everything is saved.

    Example:
        >>> result = search_coefficients("photos", "mobilenet_v2", "search")  # doctest: +SKIP
        >>> fit = ts.fit_budget("mobilenet_v2", result.law, "200M")  # doctest: +SKIP
    """
    fields = _fields(images, baseline, lite, recipe, settings, epochs, seeds, share, data)
    request = CoefficientSearchRequest.parse(fields | {"grid": grid or Grid(), "method": method}, "the search options")
    with _execution(device, workers, threads, progress, storage, study, allow_leak) as (context, options):
        return jobs.search_coefficients(request, Path(out), context, options)


def search_baseline(
    images: str | Path | None,
    target: str,
    out: str | Path,
    *,
    skeleton: AnyNetworkLike | None = None,
    space: str | Path | None = None,
    resolutions: Sequence[int] = (),
    profile: str | Path | None = None,
    objective: Literal["soft", "hard", "constraint"] = "soft",
    exponent: float = EXPONENT,
    strategy: Literal["bayesian", "random", "evolution", "nsga2", "tpe", "ppo"] = "bayesian",
    trials: int = 64,
    batch: int = 8,
    halving: bool = False,
    evaluator: str = "training",
    supernet_epochs: int = 30,
    checked: int = 8,
    finalists: int = 3,
    final_epochs: int = 30,
    search_seed: int = 0,
    recipe: str | Path | Recipe = "small",
    settings: Mapping[str, Any] | None = None,
    epochs: int | None = PROXY_EPOCHS,
    seeds: Sequence[int] = (0,),
    share: float = 1.0,
    workers: int = 1,
    threads: int = 1,
    device: str = "auto",
    storage: str | None = None,
    study: str | None = None,
    allow_leak: bool = False,
    data: DataOptionsLike | None = None,
    progress: bool = True,
) -> BaselineSearchResult:
    """Search for a baseline with a good trade-off of accuracy and cost, as MnasNet and EfficientNet-B0 were found.

    Networks of a search space are trained for some epochs and rewarded with ``accuracy * (cost / target) ** exponent``
    on validation images. The best networks are then trained longer. The same call resumes an interrupted search.

    Args:
        images: A folder, table, URL or named data set; None with a table of accuracies.
        target: Target cost, such as ``400M`` (MACs), ``5M params`` or ``20ms``.
        out: Directory of the search, with its report and ``network.json``.
        skeleton: The space varies its blocks, widths and repeats. By default MobileNetV2, or that of the table.
        space: ``mnasnet``, ``mbconv``, ``small``, ``tiny``, ``resnet``, or a JSON file of choices. By default
            ``mnasnet``, or that of the table.
        resolutions: Resolutions in pixels to choose from; by default that of the skeleton.
        profile: Device profile that latency is predicted with; without one, latency is measured on this machine.
        objective: ``soft``: the reward depends on the cost everywhere; ``hard``: only above the target;
            ``constraint``: networks above the target are not trained.
        exponent: Exponent of cost / target in the soft objective.
        strategy: Bayesian optimization, random search, regularized evolution, NSGA-II, TPE, or the paper's controller
            trained with PPO.
        trials: Number of networks to evaluate.
        batch: Number of networks that the strategy proposes at a time.
        halving: Whether only the best third continues after a ninth and after a third of the epochs.
        evaluator: ``training`` trains each network; ``supernet`` evaluates all with one weight-sharing network;
            ``table:FILE`` reads accuracies from a table or an earlier search, without images and trainings.
        supernet_epochs: Epochs of the supernet.
        checked: Number of random networks to train stand-alone, to check the ranking of the supernet.
        finalists: Number of best networks to train for ``final_epochs``; none with a table.
        final_epochs: Epochs of the finalists.
        search_seed: Seed of the strategy.
        recipe: A recipe, its name or its file.
        settings: Changes of the recipe's fields.
        epochs: Epochs of each training; None for the recipe's.
        seeds: Seeds of each network's trainings.
        share: Share of the training images of each class to train on.
        workers: Processes that train in parallel.
        threads: Threads of each.
        device: ``auto``, ``cpu`` or ``cuda``.
        storage: ``postgresql://USER@HOST/DATABASE``, if several machines work on the study.
        study: Name of the study there.
        allow_leak: Whether to accept validation images that are copies of others.
        data: How the images are read and what is tolerated, such as ``{"allow_missing_classes": True}``.
        progress: Whether progress is shown on standard error.

    Returns:
        The best network, the Pareto front, the finalists, and the limitations of the result.

    Raises:
        UserError: The request is invalid; the subclass and the message give the reason.
        Interrupted: Ctrl-C or SIGTERM was received; everything is saved.

    Example:
        >>> result = search_baseline("photos", "100M", "search", trials=32)  # doctest: +SKIP
        >>> model = ts.create_model(result.network)  # doctest: +SKIP
    """
    chosen = choose_evaluator(
        evaluator,
        None if images is None else str(images),
        skeleton=None if skeleton is None else as_network(skeleton),
        space=None if space is None else str(space),
        resolutions=tuple(resolutions),
    )
    plan = {"trials": trials, "batch": batch, "halving": Halving() if halving else None}
    request = BaselineSearchRequest.parse(
        _fields(images or "", chosen.skeleton, False, recipe, settings, epochs, seeds, share, data)
        | {
            "space": chosen.space,
            "choices": chosen.choices,
            "objective": make_objective(target, form=objective, exponent=exponent),
            "predictor": None if profile is None else load_predictor(Path(profile)),
            "strategy": strategy,
            "search_seed": search_seed,
            "plan": SearchPlan.parse(plan, "the search plan"),
            "evaluator": chosen.evaluator,
            "table": chosen.table,
            "supernet_epochs": supernet_epochs,
            "checked": checked,
            "finalists": finalists,
            "final_epochs": final_epochs,
        },
        "the search options",
    )
    with _execution(device, workers, threads, progress, storage, study, allow_leak) as (context, options):
        return jobs.search_baseline(request, Path(out), context, options)


def compare(
    images: str | Path,
    baseline: AnyNetworkLike,
    out: str | Path,
    *,
    times: float = 4.0,
    phi: float = 0.0,
    law: LawLike = EFFICIENTNET,
    laws: Sequence[LawLike] | None = None,
    lite: bool = False,
    recipe: str | Path | Recipe = "small",
    settings: Mapping[str, Any] | None = None,
    epochs: int | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    share: float = 1.0,
    workers: int = 1,
    threads: int = 1,
    device: str = "auto",
    storage: str | None = None,
    study: str | None = None,
    allow_leak: bool = False,
    data: DataOptionsLike | None = None,
    progress: bool = True,
) -> ComparisonResult:
    """Compare depth only, width only, resolution only and compound scaling at equal cost.

    The same call resumes an interrupted comparison.

    Args:
        images: A folder, table, URL or named data set.
        baseline: The network to scale.
        out: Directory of the comparison, with its report.
        times: Budget of each scaled network, as a multiple of the baseline's MACs.
        phi: Scale the baseline to this phi first; a negative value makes all networks smaller.
        law: Scaling coefficients of the compound scaling.
        laws: Laws to compare instead of single dimensions and ``law``, such as ``("paper", "dwr")``.
        lite: Whether to adapt the baseline for int8 and small devices.
        recipe: A recipe, its name or its file.
        settings: Changes of the recipe's fields.
        epochs: Epochs of each training; None for the recipe's.
        seeds: Seeds of each network's trainings.
        share: Share of the training images of each class to train on.
        workers: Processes that train in parallel.
        threads: Threads of each.
        device: ``auto``, ``cpu`` or ``cuda``.
        storage: ``postgresql://USER@HOST/DATABASE``, if several machines work on the study.
        study: Name of the study there.
        allow_leak: Whether to accept test images that are copies of others.
        data: How the images are read and what is tolerated, such as ``{"allow_missing_classes": True}``.
        progress: Whether progress is shown on standard error.

    Returns:
        The networks with their test accuracies and intervals.

    Raises:
        UserError: The request is invalid; the subclass and the message give the reason.
        Interrupted: Ctrl-C or SIGTERM was received; everything is saved.

    Example:
        >>> result = compare("photos", "resnet18@32", "compare", times=4)  # doctest: +SKIP
        >>> [(outcome.way, outcome.accuracy) for outcome in result.outcomes]  # doctest: +SKIP
    """
    fields = _fields(images, baseline, lite, recipe, settings, epochs, seeds, share, data)
    request = ComparisonRequest.parse(
        fields | {"times": times, "law": as_law(law), "laws": None if laws is None else as_laws(laws), "phi": phi},
        "the comparison options",
    )
    with _execution(device, workers, threads, progress, storage, study, allow_leak) as (context, options):
        return jobs.compare(request, Path(out), context, options)


def family(
    baseline: AnyNetworkLike, law: LawLike = EFFICIENTNET, phis: str | Sequence[float] = "0..4", *, lite: bool = False
) -> Family:
    """Scale a baseline by a law to each phi.

    Args:
        baseline: The network to scale.
        law: Scaling coefficients.
        phis: Numbers, or text such as ``"0..4"``, ``"0..2:0.5"`` or ``"0, 1, 3"``.
        lite: Whether to adapt the baseline for int8 and small devices.

    Returns:
        A network for each phi, with its cost.

    Raises:
        NetworkError: The network is unknown.
        BudgetError: A phi scales a dimension by more than 1,000.
        UserError: The law or the phis cannot be parsed.

    Example:
        >>> [member.network.resolution for member in family("efficientnet_b0", phis=[0, 1, 2]).members]
        [224, 256, 304]
    """
    network = as_network(baseline)
    numbers = read_phis(phis if isinstance(phis, str) else ",".join(map(str, phis)))
    return make_family(lite_of(network) if lite else network, as_law(law), numbers, cost_of)


def _fields(
    images: str | Path,
    baseline: AnyNetworkLike,
    lite: bool,
    recipe: str | Path | Recipe,
    settings: Mapping[str, Any] | None,
    epochs: int | None,
    seeds: Sequence[int],
    share: float,
    data: DataOptionsLike | None,
) -> dict[str, object]:
    """Return the fields that all study requests have."""
    network = as_network(baseline)
    return study_fields(
        str(images),
        lite_of(network) if lite else network,
        recipe if isinstance(recipe, Recipe) else find_recipe(str(recipe)),
        settings=settings or {},
        epochs=epochs,
        seeds=seeds,
        share=share,
        data=as_data_options(data),
    )


@contextmanager
def _execution(
    device: str, workers: int, threads: int, progress: bool, storage: str | None, study: str | None, allow_leak: bool
) -> Iterator[tuple[ExecutionContext, StudyOptions]]:
    """Provide the execution context and the options of a study."""
    options = StudyOptions(storage=storage, study=study, allow_leak=allow_leak)
    workers, threads = positive(workers, "workers"), positive(threads, "threads")
    with execution(device, workers=workers, threads=threads, progress=progress) as context:
        yield context, options
