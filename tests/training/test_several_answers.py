"""Models with several outputs, and parameters without a gradient in some steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seeded_training import feed, same, task
from training.test_loop import CPU
from triscale.errors import Interrupted
from triscale.training.context import ExecutionContext
from triscale.training.loop import seed_weights, train
from triscale.training.losses import loss_of
from triscale.training.objective import Objective
from triscale.training.recipe import AdamW, Recipe, RmsProp, Sgd
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.state.state import new_state
from triscale.training.step import _has_first_gradient


class Often(nn.Module):
    """Uses a random subset of its parts in training."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Linear(3, 3) for _ in range(parts))

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        if not self.training:
            return self.parts[0](means)
        chosen = torch.randint(len(self.parts), (2,)).tolist()
        return torch.stack([self.parts[number](means) for number in chosen])


OBJECTIVE = Objective(label_smoothing=0.1)


@pytest.mark.parametrize("soft", [False, True])
def test_loss_of_several_outputs_is_their_mean(soft):
    answers, labels = torch.randn(4, 6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 2, 1, 0])
    targets = nn.functional.one_hot(labels, 3).double() if soft else labels
    result = loss_of(OBJECTIVE, answers, targets)
    spread = 0.9 * nn.functional.one_hot(labels, 3) + 0.1 / 3
    expected = -(spread * answers.log_softmax(2)).sum((1, 2)).mean()
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(loss_of(OBJECTIVE, answers[0], targets), loss_of(OBJECTIVE, answers[:1], targets))


def trained(folder, recipe, stop_after=None):
    calls = []

    def should_stop() -> bool:
        calls.append(0)
        return stop_after is not None and len(calls) > stop_after

    seed_weights(1)
    checkpoints = Checkpoints(folder)
    manifest = train(
        task(Often(12), recipe), feed(), checkpoints, ExecutionContext(device=CPU, should_stop=should_stop)
    )
    return checkpoints.load(manifest.state_file)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(epochs=3, batch=8, optimizer=AdamW()),
        Recipe(epochs=3, batch=8, optimizer=RmsProp()),
        Recipe(epochs=3, batch=8, optimizer=Sgd(), micro_batches=2),
    ],
    ids=["adamw", "rmsprop", "sgd-2-shards"],
)
@pytest.mark.parametrize("stop_after", [1, 6])
def test_training_with_unused_parameters_resumes_bitwise(tmp_path, recipe, stop_after):
    whole = trained(tmp_path / "whole", recipe)
    with pytest.raises(Interrupted):
        trained(tmp_path / "stopped", recipe, stop_after)
    assert same(whole, trained(tmp_path / "stopped", recipe))


def test_optimizer_state_only_covers_parameters_with_gradient(tmp_path):
    result = trained(tmp_path, Recipe(epochs=1, batch=8))
    known = {name.split("/")[1] for name in result if name.startswith("optimizer/")}
    steps = {float(value) for name, value in result.items() if name.endswith("/step")}
    assert 0 < len(known) < 24
    assert steps <= {1.0, 2.0, 3.0, 4.0}
    assert len(steps) > 1


def test_first_step_of_a_parameter_is_detected():
    """On a GPU such a step is checked before it is taken, since new optimizer state could not be undone."""
    state = new_state(Often(2), Recipe(), CPU)
    for number, begins in ((0, True), (0, False), (1, True), (1, False), (0, False)):
        state.model.parts[number](torch.ones(1, 3)).sum().backward()
        assert _has_first_gradient(state) == begins
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
