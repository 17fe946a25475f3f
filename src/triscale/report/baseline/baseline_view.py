"""What the report of a baseline search derives from its records: order of sections, headline figures, rows."""

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
    "ppo": "a recurrent controller (PPO)",
}


def sections(content: BaselineContent) -> tuple[tuple[str, str], ...]:
    """Return the sections that have something to show: the name of the template, and the heading."""
    candidates = (
        ("front", "Accuracy against cost", True),
        ("finalists", "Finalists", bool(content.found.finalists)),
        ("stages", "Stages of the network found", bool(content.found.network.stages)),
        ("limitations", "Limitations", bool(content.limitations)),
        ("next_steps", "Next steps", bool(content.next_commands)),
        ("settings", "Settings and environment", bool(content.settings) or bool(content.environment)),
    )
    return tuple((name, title) for name, title, present in candidates if present)


def headline(content: BaselineContent) -> tuple[Tile, ...]:
    """Return the headline figures: the network found, its accuracy and cost, and the effort of the search."""
    found, best, final = content.found, content.found.evaluated[content.found.best], chosen_finalist(content.found)
    accuracy, error, epochs = (
        (best.accuracy or 0.0, best.error, found.proxy.epochs)
        if final is None
        else (final.accuracy, final.error, final.epochs)
    )
    cost = best.cost if final is None else in_search(found, final).cost
    detail = f"{epochs} epochs, held-out images, standard error {points(error)} points"
    num_trained = sum(one.epochs > 0 for one in trained(found)) if found.evaluator == "training" else 0
    effort = f"{num_trained} trained in the search, {si(found.training_macs)} training MACs"
    network, target = found.network, cost_text(found.objective, found.objective.target)
    params = si(count_network(network).params)
    return (
        Tile("Network", network.name, f"{network.resolution} px, {params} params"),
        Tile("Accuracy", share(accuracy), detail),
        Tile("Cost", cost_text(found.objective, cost), f"target {target}"),
        Tile("Networks evaluated", str(len(trained(found))), effort),
    )


def chosen_finalist(found: BaselineSearchResult) -> Finalist | None:
    """Return the finalist that became the network found; None where the best were not trained in full."""
    return next((one for one in found.finalists if one.structure == found.network.structure), None)


def in_search(found: BaselineSearchResult, finalist: Finalist) -> EvaluatedCandidate:
    """Return the brief training of a finalist."""
    return next(one for one in found.evaluated if one.structure == finalist.structure)


def stage_pairs(found: BaselineSearchResult) -> tuple[tuple[Stage, Stage], ...]:
    """Return each stage of the network found with that of the skeleton which it was chosen for."""
    return tuple(zip(found.network.stages, found.space.skeleton.stages, strict=True))


def strategy_name(found: BaselineSearchResult) -> str:
    """Return the name of the strategy that proposed the networks."""
    return STRATEGIES[found.strategy]
