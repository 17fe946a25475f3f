"""Networks read as JAX functions: logits, features and gradients of the torch modules with the same weights."""

from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from triscale.families import get, names
from triscale.network.cost import cost
from triscale.network.lower import lower
from triscale.network.spec import (
    ActivationKind,
    BatchNorm,
    Bottleneck,
    Head,
    MBConv,
    Network,
    Separable,
    Stage,
    Stem,
)
from triscale.network.tree import Primitive, walk
from triscale.nn.build import build
from triscale.xla.classify import Pass, classify, features, random_arrays

SIDE = 64
BLOCKS = (
    "efficientnet_b0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v4_conv_small",
    "regnety_200mf",
    "resnet18",
    "resnetrs50",
)
"""Networks that together have every primitive and activation."""
QUICK = ("efficientnet_b0", "mobilenet_v4_conv_small", "regnety_200mf")
"""Those that the default tests compare; the padding of pools is tested on a small network."""


def module_of(network: Network, seed: int = 0) -> torch.nn.Module:
    """Return a module with random weights whose batch norm has the statistics of some images.

    With other statistics, the maps of deep networks grow by orders of magnitude, and float32 itself is off by percents.
    """
    torch.manual_seed(seed)
    model = build(network.replace(dropout=0.0, drop_path=0.0)).train()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(pixels(network, images=8, seed=2))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    return model.eval()


def arrays_of(model: torch.nn.Module) -> tuple[dict, dict]:
    return (
        {name: jnp.asarray(value.detach().numpy()) for name, value in model.named_parameters()},
        {name: jnp.asarray(value.numpy()) for name, value in model.named_buffers() if value.is_floating_point()},
    )


def pixels(network: Network, images: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.randn(images, *network.input_shape, generator=torch.Generator().manual_seed(seed))


def last(maps: torch.Tensor) -> jnp.ndarray:
    return jnp.asarray(maps.permute(0, 2, 3, 1).numpy())


def relative_error(found, expected: torch.Tensor) -> float:
    expected = expected.detach().numpy()
    return float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max())


def test_chosen_networks_have_every_primitive():
    kinds = {type(visit.node) for name in BLOCKS for visit in walk(lower(get(name)))}
    assert set(get_args(Primitive)) <= kinds
    activations = {
        visit.node.kind for name in BLOCKS for visit in walk(lower(get(name))) if hasattr(visit.node, "kind")
    }
    assert set(ActivationKind) <= activations


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.stress] * (name not in QUICK)) for name in BLOCKS]
)
def test_logits_and_features_equal_those_of_torch(name):
    check_maps(get(f"{name}@{SIDE}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_every_published_network_equals_that_of_torch(name):
    check_maps(get(f"{name}@{SIDE}"))


def check_maps(network: Network) -> None:
    """Compare logits and feature maps with those of the torch module in float64.

    The allowed error is 1e-5, and for deep networks with random weights three times what the torch module has in
    float32, which reaches 4e-4 there: both round, in other orders.
    """
    model, exact = module_of(network), module_of(network).double()
    root, (params, statistics), images = lower(network), arrays_of(model), pixels(network)
    with torch.no_grad():
        usual, expected = maps_of(model, images), maps_of(exact, images.double())

    def both(*given):
        return [*(maps.transpose(0, 3, 1, 2) for maps in features(root, *given)), classify(root, *given).logits]

    found = jax.jit(both)(params, statistics, last(images))
    assert [maps.shape for maps in found] == [tuple(maps.shape) for maps in expected]
    for ours, theirs, reference in zip(found, usual, expected, strict=True):
        assert relative_error(ours, reference) < 1e-5 + 3 * relative_error(theirs.numpy(), reference)


def maps_of(model: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    maps = [model.stem(images)]
    for stage in model.stages:
        maps.append(stage(maps[-1]))
    return [*maps, model.forward_features(images), model(images)]


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("resolution", [(32, 32), (33, 47)])
def test_both_paddings_and_odd_sides_equal_those_of_torch(padding, resolution):
    network = Network(
        name="odd",
        stem=Stem(width=8, max_pool=True),
        stages=(
            Stage(block=MBConv(expansion=2, kernel=5, se_ratio=0.25), width=8, repeats=2, stride=2),
            Stage(block=Bottleneck(), width=16, repeats=1, stride=2),
            Stage(block=Separable(), width=16, repeats=1),
        ),
        head=Head(width=16),
        resolution=32,
        classes=5,
        padding=padding,
        norm=BatchNorm(),
    )
    model = module_of(network)
    images = torch.randn(2, 3, *resolution, generator=torch.Generator().manual_seed(0))
    root = lower(network)
    found = jax.jit(lambda *given: classify(root, *given).logits)(*arrays_of(model), last(images))
    assert relative_error(found, model(images)) < 1e-5


def test_gradients_and_statistics_equal_those_of_float64(tiny):
    """The reference is the torch module in float64, with batch norm in training mode and without dropout."""
    network = tiny.replace(dropout=0.0, drop_path=0.0)
    model = module_of(network).train()
    params, statistics = arrays_of(model)
    images, root = pixels(network, images=6), lower(network)
    weights = np.random.default_rng(0).normal(size=(6, network.classes))

    def scored(params):
        outcome = classify(root, params, statistics, last(images), how=Pass(training=True, batch_norms=True))
        return (outcome.logits * weights).sum(), outcome.statistics

    (_, new), gradients = jax.jit(jax.value_and_grad(scored, has_aux=True))(params)
    exact = module_of(network).train().double()
    (exact(images.double()) * torch.from_numpy(weights)).sum().backward()
    for name, parameter in exact.named_parameters():
        scale = max(float(parameter.grad.abs().max()), 1e-3)
        assert np.abs(np.asarray(gradients[name]) - parameter.grad.numpy()).max() / scale < 1e-4, name
    expected = dict(exact.named_buffers())
    for name, value in new.items():
        np.testing.assert_allclose(value, expected[name].numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_padded_images_do_not_count(tiny):
    """With five images and three of padding, statistics and logits of the five are those of the five alone."""
    root = lower(tiny)
    params, statistics = arrays_of(module_of(tiny))
    images = last(pixels(tiny, images=8))
    computed = jax.jit(
        lambda images, present: classify(root, params, statistics, images, present=present, how=Pass(batch_norms=True))
    )
    alone, padded = computed(images[:5], None), computed(images, jnp.arange(8) < 5)
    np.testing.assert_allclose(padded.logits[:5], alone.logits, rtol=1e-4, atol=1e-5)
    for name, value in alone.statistics.items():
        np.testing.assert_allclose(padded.statistics[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_stochastic_depth_and_dropout_draw_from_the_key(tiny):
    root = lower(tiny)
    params, statistics = arrays_of(module_of(tiny))
    images = last(pixels(tiny, images=4))

    @jax.jit
    def trained(number):
        key = jax.random.key(number)
        return classify(root, params, statistics, images, key=key, how=Pass(training=True)).logits

    assert (trained(0) == trained(0)).all()
    assert not (trained(0) == trained(1)).all()
    mean = sum(trained(number) for number in range(400)) / 400
    evaluated = classify(root, params, statistics, images).logits
    # Dropped parts are made up for by the others, so that the mean over keys is near the evaluation.
    assert jnp.abs(mean - evaluated).max() < 0.25 * jnp.abs(evaluated).max()


def test_macs_agree_with_the_compiler():
    """XLA counts two operations for each multiply-accumulate, and the elementwise ones that MACs leave out."""
    network = get("mobilenet_v1@64")
    root = lower(network)
    shapes = jax.eval_shape(lambda: (*random_arrays(root), jnp.zeros((1, 64, 64, 3))))
    compiled = jax.jit(lambda *given: classify(root, *given).logits).lower(*shapes).compile()
    assert 1.0 <= compiled.cost_analysis()["flops"] / (2 * cost(network).macs) < 1.1
