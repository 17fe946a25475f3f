"""The network of a training: with the classes of the images, the recipe's drop rates, and within the budget."""

from __future__ import annotations

from triscale.errors import RunError
from triscale.jobs.core.networks import fit_any
from triscale.jobs.core.run import Request
from triscale.jobs.training.pruned import prune_start
from triscale.network.custom import AnyNetwork
from triscale.network.spec import BatchNorm, Network
from triscale.scaling.fit import Fit
from triscale.training.context import ExecutionContext
from triscale.training.recipe import BySize, Recipe


def resolve(request: Request, classes: int, context: ExecutionContext) -> tuple[AnyNetwork, Fit | None]:
    """Return the network to train, with the number of classes, the recipe's drop rates and within the budget.

    A budget scales the network of the request, or prunes the trained network of its initial weights.
    """
    network = for_classes(request.network, classes, request.recipe)
    if request.budget is None:
        return network, None
    if request.start is not None and request.start.prunes:
        fit = prune_start(request, request.start, network)
        return fit.network, fit
    if request.law is None:
        raise RunError("a budget requires a scaling law; give --law")
    fit = fit_any(network, request.law, request.budget, request.predictor, context)
    return with_dropout(fit.network, request.recipe, fit.phi), fit


def for_classes(network: AnyNetwork, classes: int, recipe: Recipe) -> AnyNetwork:
    """Return the network with the number of classes, and the drop rates and batch-norm momentum of the recipe."""
    if not isinstance(network, Network):
        return network.replace(classes=classes)
    changes: dict[str, object] = {"classes": classes}
    if isinstance(recipe.dropout, float):
        changes["dropout"] = recipe.dropout
    if recipe.drop_path is not None:
        changes["drop_path"] = recipe.drop_path
    if recipe.norm_momentum is not None:
        changes["norm"] = BatchNorm(eps=network.norm.eps, momentum=recipe.norm_momentum)
    return network.replace(**changes)


def with_dropout(network: AnyNetwork, recipe: Recipe, phi: float) -> AnyNetwork:
    """Return the scaled network with the recipe's dropout for its size, if the recipe defines dropout by size."""
    if isinstance(network, Network) and isinstance(recipe.dropout, BySize):
        return network.replace(dropout=round(recipe.dropout.at(phi), 4))
    return network
