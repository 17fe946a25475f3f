"""A smaller network that is refitted to its source's feature maps is closer to its function."""

from __future__ import annotations

import pytest

from inherited_networks import FAMILIES, MODERN, error_of, inherited, small, smooth_images, trained_like
from sizes import stressed
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.nn.classifier import Classifier
from triscale.scaling.apply import scale
from triscale.scaling.law import Scale
from triscale.weights.inherit import SourceChannels, inherit
from triscale.weights.inheritance_plan import plan_inheritance
from triscale.weights.prune import block_importances, input_statistics
from triscale.weights.reconstruct import refit


def heirs(source: Network, model: Classifier, target: Network) -> tuple[Classifier, Classifier]:
    """Return the target with inherited weights, without and with refitting."""
    calibration = list(smooth_images(96, 3).split(32))
    plan = plan_inheritance(source, target, importances=block_importances(model, calibration))
    measured = input_statistics(model, [layer.source for layer in plan.readers], calibration)
    channels = SourceChannels(plan, model.state_dict(), measured)
    made = []
    for _ in range(2):
        heir = build(target)
        heir.load_state_dict(inherit(plan, model.state_dict(), heir.state_dict(), channels=channels))
        made.append(heir.eval())
    refit(model, made[1], plan, channels, calibration)
    return made[0], made[1]


def error(heir: Classifier, model: Classifier) -> float:
    return error_of(heir, model, smooth_images(64, 4))


def refitting_lowers_error(source: Network, target: Network) -> bool:
    model = trained_like(source)
    plain, refitted = heirs(source, model, target)
    return error(refitted, model) < error(plain, model)


@pytest.mark.parametrize("name", [*FAMILIES, *stressed(*MODERN)])
@pytest.mark.parametrize(
    "of_source", [Scale(depth=1.0, width=1.7, resolution=1.0), Scale(depth=3.0, width=1.0, resolution=1.0)]
)
def test_refitting_lowers_error(name, of_source):
    target = small(name)
    source = scale(target, of_source)
    if source == target:
        pytest.skip("the family has no repeated blocks")
    assert refitting_lowers_error(source, target)


def test_refitting_keeps_a_network_that_loses_nothing():
    source = small("efficientnet_b0@32")
    model = trained_like(source)
    _, refitted = heirs(source, model, source)
    assert error(refitted, model) < 1e-4


def test_refitting_a_network_with_added_blocks_runs_them_in_place():
    source = scale(small("mobilenet_v2@32"), Scale(depth=1.0, width=1.7, resolution=1.0))
    assert refitting_lowers_error(source, scale(small("mobilenet_v2@32"), Scale(depth=2.0, width=1.0, resolution=1.0)))


def test_widened_network_shrinks_back_to_its_function():
    target = small("mnasnet_a1@32")
    model = trained_like(target)
    wide = scale(target, Scale(depth=1.0, width=2.0, resolution=1.0))
    _, refitted = heirs(wide, inherited(target, model, wide), target)
    assert error(refitted, model) < 0.01
