"""Families: the members are scaled networks, and lists of phi are parsed."""

import pytest

from triscale.errors import BudgetError, UserError
from triscale.families import get
from triscale.network.cost import cost
from triscale.scaling.apply import scale
from triscale.scaling.family import Family, make_family, read_phis
from triscale.scaling.law import EFFICIENTNET, Law


def test_members_are_scaled_networks_starting_with_baseline():
    b0 = get("efficientnet_b0")
    family = make_family(b0, EFFICIENTNET, (-1, 0, 1, 2.5), cost)
    assert family.members[1].network == b0
    for member in family.members:
        scaled = scale(b0, EFFICIENTNET.at(member.phi))
        assert member.network.structure == scaled.structure
        assert member.macs == cost(scaled).macs
        assert member.ratio == pytest.approx(cost(scaled).macs / cost(b0).macs)
        assert member.nominal == pytest.approx((1.2 * 1.1**2 * 1.15**2) ** member.phi)
    assert len({member.network.name for member in family.members}) == 4
    assert Family.from_json(family.to_json()) == family


@pytest.mark.parametrize(
    ("text", "phis"),
    [
        ("0..4", (0, 1, 2, 3, 4)),
        ("-1..1:0.5", (-1, -0.5, 0, 0.5, 1)),
        ("2, 0,-1.5", (-1.5, 0, 2)),
        ("0..1,3", (0, 1, 3)),
    ],
)
def test_phis_are_parsed_from_text(text, phis):
    assert read_phis(text) == phis


@pytest.mark.parametrize("text", ["", "a", "0..", "4..0", "0..4:0", "1,1", "0..1,1", "0..1000"])
def test_invalid_phis_are_rejected(text):
    with pytest.raises(UserError, match="phi"):
        read_phis(text)


def test_phi_beyond_maximum_is_rejected():
    with pytest.raises(BudgetError, match="by more than 1,000"):
        make_family(get("efficientnet_b0"), Law(alpha=2, beta=1, gamma=1), (20,), cost)
