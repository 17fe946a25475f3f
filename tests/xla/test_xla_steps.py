"""Steps of the XLA engine: those of torch where nothing is random, and bitwise the same on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seeded_training import feed, task
from sizes import figure, size
from triscale.errors import RecipeError
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.engine import make_engine
from triscale.training.loop import seed_weights
from triscale.training.losses import loss_of, multi_hot
from triscale.training.objective import Asymmetric, CrossEntropy, Focal, Objective
from triscale.training.recipe import AdamW, Recipe, RmsProp, Sgd
from triscale.training.state.checkpoint import Manifest, Stored
from triscale.training.state.state import restore, to_tensors
from triscale.training.xla.mixing import Mixing, mixed
from triscale.training.xla.xla_losses import losses_of, targets_of
from triscale.training.xla.xla_stepper import XlaStepper

QUIET = ExecutionContext()


def engines(network, recipe):
    """Return the torch engine and the XLA engine with the same initial weights."""
    made = []
    for make in (lambda given: make_engine(given, QUIET), lambda given: XlaStepper(given, QUIET, jax.devices()[:1])):
        seed_weights(1)
        made.append(make(task(build(network), recipe)))
    return made


def advance(engine, steps: int, batch: int = 8, rate: float = 1e-2, **options) -> dict[str, torch.Tensor]:
    for part in list(feed(batch=batch).train(0, 0))[:steps]:
        engine.take(part, batch, rate, **options)
    engine.read_state()
    return {name: value.clone() for name, value in to_tensors(engine.state).values.items()}


def assert_near(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(value.double().nan_to_num().abs().max()))
        difference = (found[name].double() - value.double()).nan_to_num().abs().max()
        assert difference <= tolerance * scale, f"{name}: {float(difference):.2g}"


TF_RMSPROP = {"optimizer": RmsProp(), "weight_decay_params": "all_but_norm", "weight_decay": 1e-5}
RECIPES = {
    "adamw": Recipe(batch=8, optimizer=AdamW(eps=1e-3)),
    "rmsprop": Recipe(batch=8, micro_batches=2, **TF_RMSPROP),
    "sgd": Recipe(batch=8, optimizer=Sgd(), weight_decay=1e-3, ema_decay=0.0, layer_decay=0.7),
    "plain-sgd": Recipe(batch=8, optimizer=Sgd(momentum=0.0), label_smoothing=0.0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.stress] * (name == "plain-sgd")) for name in RECIPES]
)
def test_three_steps_equal_those_of_torch(certain, name):
    """Weights, optimizer state, batch-norm statistics, their average, and the losses."""
    ours, theirs = engines(certain, RECIPES[name])[::-1]
    assert_near(advance(ours, 3), advance(theirs, 3))


@pytest.mark.parametrize("options", [{"only_head": True}, {"frozen_norms": True}], ids=str)
def test_partly_frozen_steps_equal_those_of_torch(certain, options):
    recipe = Recipe(batch=8, optimizer=Sgd(), head_epochs=1)
    ours, theirs = engines(certain, recipe)[::-1]
    assert_near(advance(ours, 2, **options), advance(theirs, 2, **options))


def test_batch_that_micro_batches_do_not_divide_equals_that_of_torch(certain):
    ours, theirs = engines(certain, Recipe(batch=8, micro_batches=4, optimizer=Sgd()))[::-1]
    assert_near(advance(ours, 2, batch=7), advance(theirs, 2, batch=7))


def test_state_continues_in_the_other_engine(certain):
    """Two steps in one engine, then one in the other, equal three in torch."""
    recipe = RECIPES["adamw"]
    expected = advance(engines(certain, recipe)[0], 3)
    third = list(feed().train(0, 0))[2]
    for first in (0, 1):
        pair = engines(certain, recipe)
        one, other = pair[first], pair[1 - first]
        advance(one, 2)
        restore(
            other.state, manifest_at(2), {name: value.clone() for name, value in to_tensors(one.state).values.items()}
        )
        other.write_state()
        other.take(third, 8, 1e-2)
        other.read_state()
        assert_near(to_tensors(other.state).values, expected)


def manifest_at(step: int):
    stored = Stored(name="", sha256="")
    return Manifest(
        recipe="", network="", seed=1, step=step, finished=False, history=(), best=None, state_file=stored,
        best_file=None,
    )  # fmt: skip


DEVICES = {"float32": (1, 2, 8) if size(0, 1) else (1, 8), "bfloat16": (1, 4)}


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.stress)])
def test_any_number_of_devices_gives_bitwise_the_same(small, precision):
    recipe = Recipe(batch=16, micro_batches=8, precision=precision, mixup=0.2, cutmix=0.5)
    states = []
    for number in DEVICES[precision]:
        seed_weights(1)
        engine = XlaStepper(task(build(small), recipe), QUIET, jax.devices()[:number])
        states.append(advance(engine, 3, batch=15))
    for other in states[1:]:
        for name, value in states[0].items():
            assert value.numpy().tobytes() == other[name].numpy().tobytes(), name
    figure(4, f"XLA engine, {precision}: {DEVICES[precision]} devices, bitwise the same", 1, 1)


@pytest.mark.stress
def test_fast_reduction_is_near_the_deterministic_one(small):
    states = []
    for reduction in ("deterministic", "fast"):
        seed_weights(1)
        recipe = Recipe(batch=16, micro_batches=4, optimizer=Sgd(), grad_reduction=reduction)
        states.append(advance(XlaStepper(task(build(small), recipe), QUIET, jax.devices()[:4]), 2, batch=16))
    assert_near(states[0], states[1], tolerance=1e-4)


def test_batch_norm_over_the_batch_equals_one_large_micro_batch(certain):
    """Statistics, gradients and losses over four devices are those of all images on one."""
    recipe = Recipe(batch=16, optimizer=Sgd())
    seed_weights(1)
    whole = advance(XlaStepper(task(build(certain), recipe), QUIET, jax.devices()[:1]), 2, batch=16)
    seed_weights(1)
    over = recipe.replace(micro_batches=4, norm_over="batch")
    divided = advance(XlaStepper(task(build(certain), over), QUIET, jax.devices()[:4]), 2, batch=16)
    assert_near(divided, whole)


def test_stages_that_are_computed_again_give_bitwise_the_same(small):
    """What a step does where memory runs out; test_xla_faults.py limits the memory of a process."""
    states = []
    for recomputes in (False, True):
        seed_weights(1)
        engine = XlaStepper(task(build(small), Recipe(batch=16, micro_batches=8)), QUIET)
        engine._recomputes = recomputes
        states.append(advance(engine, 3, batch=15))
    for name, value in states[0].items():
        assert value.numpy().tobytes() == states[1][name].numpy().tobytes(), name


def test_step_without_finite_loss_leaves_everything_but_the_count_as_it_was(certain):
    """One weight is infinite, so that the loss is not finite; then it is mended, and the training continues."""
    _, engine = engines(certain, Recipe(batch=8))
    before = advance(engine, 2)
    name = "stages.0.blocks.0.depthwise.conv.weight"
    weight = dict(engine.state.model.named_parameters())[name]
    set_weight(engine, weight, torch.full_like(weight, float("inf")))
    after = advance(engine, 1)
    assert after.keys() == before.keys()
    for key, value in before.items():
        if not key.startswith("loss/") and key != f"model/{name}":
            assert (after[key] == value).all(), key
    assert after["loss/tally"].tolist()[2:] == [1.0, 1.0]
    assert engine.state.step == 3
    set_weight(engine, weight, before[f"model/{name}"])
    mended = advance(engine, 1)
    assert mended["loss/tally"].tolist()[2:] == [1.0, 0.0]
    assert all(value.isfinite().all() for key, value in mended.items() if key != "loss/recent")
    figure(6, "XLA engine: a step that is not finite, undone whole", 1, 1)


def set_weight(engine, weight, value):
    with torch.no_grad():
        weight.copy_(value)
    engine.write_state()


def test_left_out_step_counts_as_no_loss(certain):
    _, engine = engines(certain, Recipe(batch=8))
    before = advance(engine, 1)
    engine.skip()
    engine.read_state()
    after = to_tensors(engine.state).values
    assert engine.state.step == 2
    assert after["loss/recent"][1].isnan()
    assert all((after[name] == value).all() for name, value in before.items() if name != "loss/recent")


def test_devices_that_do_not_divide_the_micro_batches_are_refused(small):
    with pytest.raises(RecipeError, match=r"1 micro-batches cannot be distributed to 8 devices; .* micro_batches=8"):
        XlaStepper(task(build(small), Recipe(batch=16)), QUIET)
    recipe = Recipe(batch=16, micro_batches=4, norm_over="batch")
    with pytest.raises(RecipeError, match="one micro-batch for each device; there are 4 micro-batches and 2 devices"):
        XlaStepper(task(build(small), recipe), QUIET, jax.devices()[:2])


WEIGHTS = (0.5, 1.0, 2.0, 0.5)
SINGLE = [
    Objective(),
    Objective(label_smoothing=0.1, class_weights=WEIGHTS),
    Objective(offsets=(0.0, -1.0, -2.0, 0.5)),
    Objective(loss=Focal(gamma=1.5), label_smoothing=0.1, class_weights=WEIGHTS),
]
SEVERAL = [
    Objective(multi_label=True, loss=loss, class_weights=weights)
    for loss in (CrossEntropy(), Focal(), Asymmetric(), Asymmetric(gamma_present=1.0, margin=0.0))
    for weights in (None, WEIGHTS)
]


@pytest.mark.parametrize("objective", SINGLE + SEVERAL, ids=str)
@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_losses_equal_those_of_torch(objective, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (6, 4)).astype(np.float32)
    if objective.multi_label:
        labels = np.where(rng.random((6, 3)) < 0.3, -1, rng.integers(0, 4, (6, 3)))
        targets = multi_hot(torch.from_numpy(labels), 4)
    else:
        labels = rng.integers(0, 4, 6)
        targets = torch.from_numpy(labels)
    expected = loss_of(objective, torch.from_numpy(logits), targets)
    found = losses_of(objective, jnp.asarray(logits), targets_of(jnp.asarray(labels), 4))
    assert found.shape == (6,)
    assert float(found.sum()) == pytest.approx(float(expected), rel=1e-5, abs=1e-5)


@given(seed=st.integers(0, 10_000), count=st.integers(2, 6), cutmix=st.booleans())
@settings(max_examples=25, deadline=None)
def test_mixed_targets_are_the_shares_of_the_pixels(seed, count, cutmix):
    """Image i has the constant value i, so that its pixels show whose they are; padding is never mixed in."""
    images = jnp.broadcast_to(jnp.arange(6.0)[:, None, None, None], (6, 9, 7, 1))
    alphas = Mixing(cutmix=0.7) if cutmix else Mixing(mixup=0.7)
    given, targets = mixed(jax.random.key(seed), images, jnp.eye(6), jnp.array(count), alphas)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    shares = targets[:count] @ jnp.arange(6.0)
    np.testing.assert_allclose(given[:count].mean((1, 2, 3)), shares, rtol=1e-4, atol=1e-5)
    assert (targets[:count, count:] == 0).all()
    for number in range(count):
        assert set(np.flatnonzero(np.asarray(targets[number]))) <= {number, (number - 1) % count}
