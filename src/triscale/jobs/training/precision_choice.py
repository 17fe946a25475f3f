"""Choose the precision of a training on a CPU: bfloat16 where the processor multiplies it in hardware.

The precision changes results, so it is chosen once, before the run is written, and recorded in its recipe; a resumed
run keeps what it began with, also on another machine.
"""

from __future__ import annotations

from triscale.jobs.core.run import Request
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.nn.native import is_faster_in_bfloat16
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe

NOTE = "training in bfloat16, which this processor multiplies faster; --set precision=float32 trains in float32"


def in_chosen_precision(request: Request, network: AnyNetwork, context: ExecutionContext) -> Recipe:
    """Return the recipe with its precision, and note it if it is bfloat16; on accelerators it stays ``auto``.

    Networks of one's own stay in float32: they have no native kernels, and torch's are slower in bfloat16. So does fake
    quantization, whose steps bfloat16 would round.

    Args:
        request: The recipe and the start of the training.
        network: The network to train.
        context: Device and engine.
    """
    recipe = request.recipe
    is_open = recipe.precision == "auto" and context.device.type == "cpu" and context.engine == "torch"
    if not (is_open and request.trains and recipe.quantization == "none" and isinstance(network, Network)):
        return recipe
    if not is_faster_in_bfloat16():
        return recipe
    context.progress.note(NOTE)
    return recipe.replace(precision="bfloat16")
