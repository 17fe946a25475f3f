"""Memory estimated on the meta device, against torch's allocator."""

import pytest
import torch

from measurement.allocator import most_allocated
from sizes import stressed
from triscale.families import FAMILIES, get
from triscale.measurement.memory import inference_memory, training_memory
from triscale.nn import chain
from triscale.nn.build import build
from triscale.training.recipe import get_recipe
from triscale.training.state.state import new_state

BATCH, SIDE = 16, 96
# torch's convolutions of Wide ResNet allocate a workspace of a fifth of its memory, which no layout of maps tells.
FIRST = [group[0].name for family, group in FAMILIES.items() if family != "Wide ResNet"]
NAMES = [*FIRST[:6], *stressed(*FIRST[6:])]


def small(name):
    return get(name).replace(resolution=SIDE, classes=10)


def noise():
    return torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)


def of_a_step(network):
    """Return the bytes of weights, average and optimizer state, and the peak of a step in addition to them."""
    state = new_state(build(network), get_recipe("small"), torch.device("cpu"))

    def step():
        state.model.train()
        torch.nn.functional.cross_entropy(state.model(noise()), torch.arange(BATCH) % 10).backward()
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)

    step()  # the optimizer makes what it keeps in the first
    kept = [value for values in state.optimizer.state.values() for value in values.values()]
    held = [*state.model.state_dict().values(), *state.average.model.state_dict().values(), *kept]
    return sum(value.nbytes for value in held), most_allocated(step)


@pytest.mark.parametrize("name", NAMES)
def test_training_memory_estimate_is_within_10_percent(name):
    counted = training_memory(build(small(name)), BATCH, (3, SIDE, SIDE), optimizer_values=2)
    held, peak = of_a_step(small(name))
    assert counted.total_bytes == pytest.approx(held + peak, rel=0.1)


def test_training_memory_estimate_holds_without_native_kernels(monkeypatch):
    """torch's depthwise convolutions need more temporary memory than the native kernels."""
    monkeypatch.setattr(chain, "_native", lambda dtype: chain._portable())
    counted = training_memory(build(small("efficientnet_b0")), BATCH, (3, SIDE, SIDE), optimizer_values=2)
    held, peak = of_a_step(small("efficientnet_b0"))
    assert counted.total_bytes == pytest.approx(held + peak, rel=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_inference_memory_estimate_is_within_10_percent(name):
    counted = inference_memory(build(small(name)), BATCH, (3, SIDE, SIDE))
    model = build(small(name)).eval().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        model(noise())
        peak = most_allocated(lambda: model(noise()))
    held = sum(value.nbytes for value in model.state_dict().values())
    assert counted.total_bytes == pytest.approx(held + peak, rel=0.1)
    # Compare activations separately: most of a ResNet's memory is weights, which are easy to count.
    assert counted.activation_bytes == pytest.approx(peak, rel=0.1)


def test_activation_memory_grows_with_batch():
    one, eight = (inference_memory(build(small("mobilenet_v2")), batch, (3, SIDE, SIDE)) for batch in (1, 8))
    assert one.state_bytes == eight.state_bytes
    assert eight.activation_bytes == pytest.approx(8 * one.activation_bytes, rel=0.02)
