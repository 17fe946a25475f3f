"""The XLA engine takes steps twice as torch does: flipped bits in device memory are found, and nothing changes."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from seeded_training import feed, task
from triscale.errors import CorruptionError
from triscale.nn.build import build
from triscale.training import loop
from triscale.training.context import ExecutionContext
from triscale.training.loop import seed_weights, train
from triscale.training.recipe import Recipe
from triscale.training.replay import Replay
from triscale.training.state.checkpoint import Checkpoints

BATCH = 2 * len(jax.devices())
RECIPE = Recipe(epochs=2, batch=BATCH, micro_batches=len(jax.devices()), warmup_epochs=1)
XLA = ExecutionContext(engine="xla")


def flipped(array: jax.Array, bit: int) -> jax.Array:
    values = np.array(array)
    values.view(np.uint32).reshape(-1)[len(values.reshape(-1)) // 2] ^= np.uint32(1 << bit)
    return jax.device_put(values, array.sharding)


def test_replayed_steps_change_no_result(tmp_path, small):
    digests = []
    for every in (0, 3):
        seed_weights(1)
        given = task(build(small), RECIPE.replace(replay_every=every))
        manifest = train(given, feed(batch=BATCH), Checkpoints(tmp_path / str(every)), XLA)
        digests.append((manifest.state_file, [epoch.state_sha256 for epoch in manifest.history]))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("bit", [0, 12, 22, 30])
def test_flipped_weight_on_a_device_is_found(tmp_path, small, monkeypatch, bit):
    made = []

    def capture(**arguments):
        made.append(Replay(**arguments))
        return made[0]

    def batches(epoch: int, first: int):
        for step, batch in enumerate(feed(batch=BATCH).train(epoch, first), start=first):
            if (epoch, step) == (1, 0):  # step 4 of the training, counted from 0
                engine = made[0].engine
                engine._device = engine._device._replace(params=flipped(engine._device.params, bit))
            yield batch

    monkeypatch.setattr(loop, "Replay", capture)
    seed_weights(1)
    given = task(build(small), RECIPE.replace(replay_every=3))
    with pytest.raises(CorruptionError, match="step 5 gave two results"):
        train(given, replace(feed(batch=BATCH), train=batches), Checkpoints(tmp_path), XLA)
    assert Checkpoints(tmp_path).newest().step == 4
