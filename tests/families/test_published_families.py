"""The tables of published networks."""

from __future__ import annotations

import pytest

from triscale.errors import NetworkError, RecordError, UserError
from triscale.families import FAMILIES, get, names, published
from triscale.families.find import find_law, find_network
from triscale.families.implied import implied_phi
from triscale.network.custom import CustomNetwork
from triscale.network.spec import Network
from triscale.scaling.apply import scale_to
from triscale.scaling.law import EFFICIENTNET, Law

REGNETS = ("200mf", "400mf", "600mf", "800mf", "1_6gf", "3_2gf", "4_0gf", "6_4gf", "8_0gf", "12gf", "16gf", "32gf")


def test_names_are_stable():
    assert names() == (
        *(f"efficientnet_b{number}" for number in range(9)),
        "efficientnet_l2",
        *(f"efficientnet_lite{number}" for number in range(5)),
        "mobilenet_v1",
        "mobilenet_v1_075",
        "mobilenet_v1_050",
        "mobilenet_v1_025",
        "mobilenet_v2",
        "mobilenet_v2_140",
        "mnasnet_a1",
        "mnasnet_b1",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        *(f"efficientnetv2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l", "xl")),
        *(f"efficientnet_edgetpu_{size}" for size in "sml"),
        *(f"tinynet_{size}" for size in "abcde"),
        "mobilenet_v3_large",
        "mobilenet_v3_large_075",
        "mobilenet_v3_small",
        "mobilenet_v3_small_075",
        *(f"mobilenet_v4_conv_{size}" for size in ("small", "medium", "large")),
        *("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        "wide_resnet50_2",
        "wide_resnet101_2",
        *(f"regnetx_{size}" for size in REGNETS),
        *(f"regnety_{size}" for size in REGNETS),
        "regnetx_400mf_torchvision",
        "regnety_800mf_torchvision",
        "regnety_8_0gf_torchvision",
        *(f"resnetrs{layers}" for layers in (50, 101, 152, 200, 270, 350, 420)),
        *(f"mcunet_{limit}" for limit in ("10fps", "5fps", "256kb", "320kb", "512kb")),
        "mobilenet_v2_035_144",
        "mobilenet_v2_030_80",
    )
    assert sum(len(members) for members in FAMILIES.values()) == len(names())


@pytest.mark.parametrize("name", names())
def test_published_network_round_trips_through_json(name):
    network = get(name)
    assert network.name == published(name).name == name
    assert Network.from_json(network.to_json()) == network
    assert published(name).resolution == network.resolution


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("efficientnet_b9", "did you mean efficientnet_b"),
        ("EfficientNet-B0", "did you mean efficientnet_b0"),
        ("resnet51", "did you mean resnet"),
        ("vgg", "the names are efficientnet_b0, "),
    ],
)
def test_unknown_name_suggests_nearest(given, hint):
    with pytest.raises(NetworkError, match=hint) as caught:
        get(given)
    assert f'there is no network "{given}"' in str(caught.value)


@pytest.mark.parametrize("member", [m for m in FAMILIES["EfficientNet"] if m.name != "efficientnet_b0"])
def test_multipliers_reproduce_published_networks(member):
    scaled = scale_to(get("efficientnet_b0"), depth=member.depth, width=member.width, resolution=member.resolution)
    assert scaled.stages == member.network.stages
    assert scaled.head == member.network.head


def test_accuracies_match_the_paper():
    assert [published(f"efficientnet_b{n}").top1 for n in range(8)] == [77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3]


def test_dropout_increases_in_steps():
    rates = [get(f"efficientnet_b{n}").dropout for n in range(8)]
    assert rates == [0.2, 0.2, 0.3, 0.3, 0.4, 0.4, 0.5, 0.5]


@pytest.mark.parametrize(
    ("member", "phis"),
    [
        ("b0", (0, 0, 0)),
        ("b1", (0.52, 0, 0.49)),
        ("b2", (1.00, 1.00, 1.07)),
        ("b3", (1.85, 1.91, 2.09)),
        ("b4", (3.22, 3.53, 3.78)),
        ("b5", (4.32, 4.93, 5.09)),
        ("b6", (5.24, 6.17, 6.14)),
        ("b7", (6.21, 7.27, 7.05)),
        ("b8", (7.03, 8.27, 7.86)),
    ],
)
def test_implied_phi_matches_authors_table(member, phis):
    row = published(f"efficientnet_{member}")
    implied = implied_phi(row.depth, row.width, row.resolution, EFFICIENTNET, 224)
    assert implied == pytest.approx(phis, abs=0.00501)


def test_coefficient_of_one_implies_no_phi():
    assert implied_phi(2, 2, 448, Law(alpha=1, beta=2, gamma=1), 224) == (None, pytest.approx(1), None)


def test_implied_phi_inverts_the_law():
    law = Law(alpha=1.3, beta=1.2, gamma=2)
    at = law.at(2)
    assert implied_phi(at.depth, at.width, 400, law, 100) == pytest.approx((2, 2, 2))


def test_networks_are_parsed_from_text(tmp_path):
    b0 = get("efficientnet_b0")
    own = CustomNetwork(name="build", function="package.module:build")
    b0.save(tmp_path / "b0.json")
    own.save(tmp_path / "own.json")
    assert find_network("efficientnet_b0") == b0
    assert find_network(str(tmp_path / "b0.json")) == b0
    assert find_network(str(tmp_path / "own.json")) == own
    assert find_network("package.module:build") == own
    with pytest.raises(NetworkError, match="did you mean efficientnet_b0") as caught:
        find_network("efficientnet-b0")
    assert "a name, a .json file or package.module:function" in str(caught.value)
    with pytest.raises(RecordError, match="cannot read"):
        find_network("missing.json")


def test_laws_are_parsed_from_text(tmp_path):
    EFFICIENTNET.save(tmp_path / "law.json")
    assert find_law("1.2,1.1,1.15") == find_law(str(tmp_path / "law.json")) == EFFICIENTNET
    with pytest.raises(RecordError, match="alpha"):
        find_law("0.5,1,1")
    for text in ("1.2,1.1", "a,b,c", "fast"):
        with pytest.raises(UserError, match=r"three numbers such as 1.2,1.1,1.15"):
            find_law(text)


@pytest.mark.parametrize(
    ("size", "stages"),
    [
        ("y_200mf", ((24, 1), (56, 1), (152, 4), (368, 7))),
        ("y_400mf", ((48, 1), (104, 3), (208, 6), (440, 6))),
        ("y_800mf", ((64, 1), (128, 3), (320, 8), (768, 2))),
        ("x_3_2gf", ((96, 2), (192, 6), (432, 15), (1008, 2))),
    ],
)
def test_regnet_generator_gives_the_widths_of_the_paper(size, stages):
    assert tuple((stage.width, stage.repeats) for stage in get(f"regnet{size}").stages) == stages


def test_efficientnetv2_b3_rounds_without_the_limit_of_ten_percent():
    scaled = scale_to(get("efficientnetv2_b0"), depth=1.4, width=1.2, resolution=300)
    ours = get("efficientnetv2_b3")
    differing = [
        (a.width, b.width)
        for a, b in zip(scaled.stages, ours.stages, strict=True)
        if (a.width, a.repeats) != (b.width, b.repeats)
    ]
    assert differing == [(24, 16)]
