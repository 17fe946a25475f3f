"""Values that the report of a baseline search derives from its records: sections, headline figures, rows."""

from __future__ import annotations

from triscale.network.cost import count_network
from triscale.network.describe import describe_block
from triscale.network.spec import Stage
from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.baseline.baseline_figures import cost_text, front, trained
from triscale.report.draw.format import points, share, si
from triscale.report.run.run_view import Tile
from triscale.search.baseline.explore import BaselineSearchResult, EvaluatedCandidate, Finalist

__all__ = ["cost_text", "count_network", "describe_block", "front", "trained"]

STRATEGIES = {
    "random": "random search",
    "evolution": "regularized evolution",
    "nsga2": "NSGA-II",
    "tpe": "TPE",
    "bayesian": "Bayesian optimization with a Gaussian process",
    "ppo": "a recurrent controller (PPO)",
}


def sections(content: BaselineContent) -> tuple[tuple[str, str], ...]:
    """Return the sections with content, as pairs of template name and heading."""
    candidates = (
        ("front", "Accuracy against cost", True),
        ("finalists", "Finalists", bool(content.result.finalists)),
        ("stages", "Stages of the best network", bool(content.result.network.stages)),
        ("limitations", "Limitations", bool(content.limitations)),
        ("next_steps", "Next steps", bool(content.next_commands)),
        ("settings", "Settings and environment", bool(content.settings) or bool(content.environment)),
    )
    return tuple((name, title) for name, title, present in candidates if present)


def headline(content: BaselineContent) -> tuple[Tile, ...]:
    """Return the headline figures: the best network, its accuracy and cost, and the effort of the search."""
    result, best, final = content.result, content.result.evaluated[content.result.best], chosen_finalist(content.result)
    accuracy, error = (best.accuracy or 0.0, best.error) if final is None else (final.accuracy, final.error)
    cost = best.cost if final is None else in_search(result, final).cost
    num_trained = sum(one.epochs > 0 for one in trained(result)) if result.evaluator == "training" else 0
    effort = f"{num_trained} trained in the search, {si(result.training_macs)} training MACs"
    if result.proxy is None:
        detail, effort = f"read from a table, standard error {error_text(result, error)}", "nothing was trained"
    else:
        epochs = result.proxy.epochs if final is None else final.epochs
        detail = f"{epochs} epochs, validation images, standard error {error_text(result, error)} points"
    network, target = result.network, cost_text(result.objective, result.objective.target)
    params = si(count_network(network).params)
    return (
        Tile("Network", network.name, f"{network.size} px, {params} params"),
        Tile("Accuracy", share(accuracy), detail),
        Tile("Cost", cost_text(result.objective, cost), f"target {target}"),
        Tile("Networks evaluated", str(len(trained(result))), effort),
    )


def error_text(result: BaselineSearchResult, error: float) -> str:
    """Return a standard error in percentage points; a table that has one accuracy for a network does not give it."""
    return "unknown" if result.table is not None and error == 0 else points(error)


def chosen_finalist(result: BaselineSearchResult) -> Finalist | None:
    """Return the finalist that was chosen as the best network; None without finalists."""
    return next((one for one in result.finalists if one.structure == result.network.structure), None)


def in_search(result: BaselineSearchResult, finalist: Finalist) -> EvaluatedCandidate:
    """Return the short training of a finalist."""
    return next(one for one in result.evaluated if one.structure == finalist.structure)


def stage_pairs(result: BaselineSearchResult) -> tuple[tuple[Stage, Stage], ...]:
    """Return each stage of the best network with the corresponding stage of the skeleton."""
    return tuple(zip(result.network.stages, result.space.skeleton.stages, strict=True))


def strategy_name(result: BaselineSearchResult) -> str:
    """Return the name of the strategy that proposed the networks."""
    return STRATEGIES[result.strategy]
