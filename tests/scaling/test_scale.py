"""Laws, multipliers, and scaled networks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sizes import stressed
from triscale.errors import RecordError
from triscale.families import FAMILIES, get, names
from triscale.network.cost import cost, count_network
from triscale.network.custom import CustomNetwork
from triscale.network.spec import Conv, Head, MBConv, Network, Stage, Stem
from triscale.scaling.apply import scale, scale_to
from triscale.scaling.law import EFFICIENTNET, Law, Scale

coefficients = st.floats(1.0, 3.0)


def test_paper_law_has_published_coefficients():
    assert EFFICIENTNET.nominal_growth == pytest.approx(1.92027)
    assert str(EFFICIENTNET) == "alpha 1.2, beta 1.1, gamma 1.15"


@given(coefficients, coefficients, coefficients, st.floats(-5, 5))
def test_law_is_equation_3(alpha, beta, gamma, phi):
    at = Law(alpha=alpha, beta=beta, gamma=gamma).at(phi)
    assert (at.depth, at.width, at.resolution) == (alpha**phi, beta**phi, gamma**phi)


def test_phi_zero_keeps_network():
    assert EFFICIENTNET.at(0) == Scale()


@given(st.floats(1.0, 100.0), st.floats(1.0, 100.0), st.floats(1.001, 100.0))
def test_law_reaches_maximum_phi(alpha, beta, gamma):
    law = Law(alpha=alpha, beta=beta, gamma=gamma)
    at = law.at(law.max_phi)
    assert max(at.depth, at.width, at.resolution) == pytest.approx(1000)


def test_law_without_growth_has_no_maximum_phi():
    assert Law(alpha=1, beta=1, gamma=1).max_phi == math.inf


@pytest.mark.parametrize("wrong", [{"alpha": 0.99}, {"beta": 0}, {"gamma": 101}, {"alpha": math.nan}, {"delta": 1}])
def test_invalid_coefficients_are_rejected(wrong):
    with pytest.raises(RecordError, match=next(iter(wrong))):
        Law(**({"alpha": 1.2, "beta": 1.1, "gamma": 1.15} | wrong))


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"width": -1}, {"resolution": 1001}, {"width": math.inf}, {"w": 1}])
def test_invalid_multipliers_are_rejected(wrong):
    with pytest.raises(RecordError, match=next(iter(wrong))):
        Scale(**wrong)


def test_multipliers_are_formatted():
    assert str(Scale(depth=1.2, width=1.1)) == "depth x1.2, width x1.1, resolution x1"


@pytest.mark.parametrize("name", names())
def test_multipliers_of_one_keep_network(name):
    assert scale(get(name), Scale()) == get(name)


FIRST = [member.name for group in FAMILIES.values() for member in group[:2]]
SCALED = [*FIRST, *stressed(*(name for name in names() if name not in FIRST))]

ODD = Network(
    name="odd",
    stem=Stem(width=20, stride=1),
    stages=(Stage(block=Conv(), width=30, repeats=3, stride=2), Stage(block=MBConv(), width=50, repeats=2, stride=2)),
    head=Head(width=100),
    resolution=30,
    classes=7,
)


def test_unscaled_dimensions_are_not_rounded():
    assert scale(ODD, Scale(depth=2)).stages[0].width == 30
    assert scale(ODD, Scale(width=2)).resolution == 30
    assert scale(ODD, Scale(resolution=2)).stages == ODD.stages


def test_scaled_dimensions_are_rounded():
    wider = scale(ODD, Scale(width=1.01))
    assert (wider.stem.width, wider.stages[0].width, wider.stages[1].width, wider.head.width) == (24, 32, 48, 104)
    assert [stage.repeats for stage in scale(ODD, Scale(depth=1.01)).stages] == [4, 3]
    assert scale(ODD, Scale(resolution=1.05)).resolution == 32


# TinyNet-E has 106 px, a multiple of nothing: borders are a quarter of its cost at 56 px.
@pytest.mark.parametrize(
    "name", [name for name in SCALED if not any(one in str(name) for one in ("tinynet_e", "efficientnet_l2"))]
)
@pytest.mark.parametrize("dimension", ["depth", "width", "resolution"])
@pytest.mark.parametrize("multiplier", [0.5, 2])
def test_every_family_scales_in_every_dimension(name, dimension, multiplier):
    network = get(name)
    scaled = scale(network, Scale(**{dimension: multiplier}))
    before, after = count_network(network), count_network(scaled)
    if name.startswith("mcunet") and (dimension, multiplier) == ("depth", 0.5):
        assert scaled == network  # each of its blocks is a stage
        return
    assert (after.macs > before.macs) == (multiplier > 1)
    assert (after.params != before.params) == (dimension != "resolution")
    if dimension == "resolution":
        assert after.macs == pytest.approx(before.macs * (scaled.resolution / network.resolution) ** 2, rel=0.25)


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("phi", [-40, -2.5, -0.3, 0.01, 0.77, 1])
def test_fractional_and_negative_phi_are_allowed(name, phi):
    scaled = scale(get(name), EFFICIENTNET.at(phi))
    assert cost(scaled).macs > 0
    assert scaled.classes == 1000
    assert scaled.resolution >= 32
    assert all(stage.repeats >= 1 for stage in scaled.stages)


@settings(max_examples=40)
@given(st.floats(-10, 4), st.floats(-10, 4))
def test_cost_grows_with_phi(one, other):
    low, high = sorted((one, other))
    below, above = (count_network(scale(get("efficientnet_b0"), EFFICIENTNET.at(phi))) for phi in (low, high))
    assert below.macs <= above.macs
    assert below.params <= above.params


def test_width_and_depth_rules_are_applied():
    lite = get("efficientnet_lite0")
    larger = scale(lite, Scale(depth=3, width=2))
    assert (larger.stem.width, larger.head.width) == (32, 1280)
    assert [stage.repeats for stage in larger.stages] == [1, 6, 6, 9, 9, 12, 1]
    assert [stage.width for stage in larger.stages] == [2 * stage.width for stage in lite.stages]
    v2 = get("mobilenet_v2")
    assert scale(v2, Scale(width=0.5)).head.width == 1280
    assert scale(v2, Scale(width=1.5)).head.width == 1920
    assert scale(get("mnasnet_b1"), Scale(width=1.5)).head.width == 1280


def test_published_resolution_is_not_rounded():
    assert scale_to(get("efficientnet_b0"), depth=1, width=1, resolution=475).resolution == 475


def test_resolution_has_lower_bound():
    assert scale(get("efficientnet_b0"), Scale(resolution=0.001)).resolution == 32
    small = get("efficientnet_b0").replace(resolution=20)
    assert scale(small, Scale(resolution=0.001)).resolution == 16


def test_custom_models_are_scaled_by_multipliers():
    own = CustomNetwork(name="own", function="a:b", depth=2.0, width=1.5, resolution=64, total_stride=8)
    scaled = scale(own, Scale(depth=2, width=2, resolution=1.3))
    assert (scaled.depth, scaled.width, scaled.resolution) == (4.0, 3.0, 84)
    assert scale(own, Scale()) == own
