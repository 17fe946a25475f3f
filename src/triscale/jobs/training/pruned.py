"""Prune the network of initial weights to a budget."""

from __future__ import annotations

from triscale.errors import BudgetError, UserError, WeightsError
from triscale.jobs.core.run import InitialWeights, Request
from triscale.jobs.training.initial_weights import PRUNE, read_initial_weights
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit, counting, make_fit
from triscale.scaling.law import EFFICIENTNET
from triscale.scaling.piecewise import AnyLaw
from triscale.weights.contract import differences
from triscale.weights.slimming import describe_kept, prune_to_budget


def check_prunable(start: InitialWeights, network: AnyNetwork, budget: Budget | None, law: AnyLaw) -> None:
    """Check what a user asks for with the prefix ``prune:``.

    Args:
        start: The initial weights.
        network: The network of the request.
        budget: What it is to be pruned to.
        law: The scaling law of the request.

    Raises:
        UserError: There is nothing to prune to, the model is a custom one, or a law is given.
        WeightsError: The network is not that of the weights.
    """
    reference = f"{PRUNE}{start.run}"
    if not isinstance(start.network, Network) or not isinstance(network, Network):
        raise UserError(
            f"{reference}: custom models such as {start.network.name} cannot be pruned, since it is not known which of "
            "their channels belong together; leave out the prefix to train the model as it is"
        )
    if budget is None:
        raise BudgetError(f"{reference} prunes to a budget; give one such as --budget 200M, or leave out the prefix")
    if law != EFFICIENTNET:
        raise UserError(f"{reference} prunes channels instead of scaling by a law; leave out the law, or the prefix")
    if differing := differences(network, start.network, drop_head=True, any_channels=True):
        raise WeightsError(
            f"{reference} prunes the network of the weights, and {network.name} is another one ({differing[0]}); leave "
            "out the network and --lite"
        )


def prune_start(request: Request, start: InitialWeights, network: AnyNetwork) -> Fit:
    """Return how the network of initial weights is pruned to the budget of a request.

    Args:
        request: The request, which passed :func:`check_prunable`.
        start: Its initial weights.
        network: Their network, with the classes of the images and the drop rates of the recipe.

    Raises:
        BudgetError: There is nothing to prune, or the budget cannot be reached.
        NetworkError: The network has grouped convolutions.
        RunError: The weights are missing or were changed.
    """
    budget = request.budget
    assert budget is not None
    assert isinstance(network, Network)
    count = counting(budget, request.predictor)
    pruned = prune_to_budget(network, read_initial_weights(start)[0], budget, count)
    fit = make_fit(network, pruned, request.law or EFFICIENTNET, 0.0, (), budget, count(pruned))
    named = pruned.replace(name=f"{network.name}_pruned")
    return fit.replace(network=named, predictor=request.predictor, pruned=describe_kept(network, pruned))
