"""Numbers that cannot scale a network give one sentence and exit code 2; zero is a number, not an absent option."""

from __future__ import annotations

import json
import math

import pytest

import triscale as ts
from cli.command import refused, run
from triscale.errors import BudgetError
from triscale.scaling.named_laws import NAMED_LAWS


@pytest.mark.parametrize("phi", ["nan", "inf", "-inf", "1000", "-1000", "1e300", "38"])
@pytest.mark.parametrize(
    "command",
    [("scale", "efficientnet_b0"), ("compare", "--baseline", "efficientnet_b0")],
    ids=lambda command: command[0],
)
def test_phi_that_is_no_number_or_out_of_range_is_rejected(capsys, command, phi):
    line = refused(capsys, *command, f"--phi={phi}")
    assert line.startswith(f"triscale: phi {float(phi):g} ")
    assert "give" in line


@pytest.mark.parametrize("phis", ["nan", "inf", "0..99999:9999", "400", "-400", "9" * 400])
def test_phis_of_a_family_are_checked(capsys, phis):
    assert "phi" in refused(capsys, "family", "--baseline", "efficientnet_b0", f"--phis={phis}")


def test_phi_at_the_named_limit_is_accepted(capsys):
    named = refused(capsys, "scale", "resnet18", "--phi", 1000).split(" to ")[1].split(",")[0]
    assert run(capsys, "scale", "resnet18", "--phi", named).code == 0
    assert run(capsys, "scale", "resnet18", f"--phi=-{named}").code == 0


@pytest.mark.parametrize("option", ["--depth", "--width", "--resolution"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1001"])
def test_multipliers_that_are_not_positive_numbers_are_rejected(capsys, option, value):
    line = refused(capsys, "scale", "efficientnet_b0", f"{option}={value}")
    assert line.startswith(f"triscale: {option} {float(value):g} is not a multiplier; give a number above 0")


@pytest.mark.parametrize("times", ["nan", "inf", "0", "-4", "1", "1e30"])
def test_cost_ratios_that_compare_nothing_are_rejected(capsys, times):
    line = refused(capsys, "compare", "--baseline", "efficientnet_b0", f"--times={times}")
    assert line.startswith(f"triscale: a comparison at {float(times):g} times the cost")


@pytest.mark.parametrize("command", [("scale", "resnet18", "--phi", 1), ("family", "--baseline", "resnet18")])
def test_numbers_of_classes_below_one_are_rejected(capsys, command):
    for classes in (0, -3):
        assert f"--classes {classes}" in refused(capsys, *command, f"--classes={classes}")


@pytest.mark.parametrize("phi", [math.nan, math.inf, -math.inf, 1e6, -1e6])
def test_library_rejects_the_same_phi(phi):
    with pytest.raises(BudgetError, match="phi"):
        ts.EFFICIENTNET.at(phi)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--law", "dw"), "did you mean dwr"),
        (("--law", "unheard-of"), "the names are paper, depth, width"),
        (("--rounding", "sideways"), "give nearest or up"),
        (("--rounding", "width=upp"), "did you mean up"),
        (("--rounding", "height=up"), "write each of width, depth, resolution at most once"),
        (("--rounding", "width=up,width=up"), "at most once"),
        (("--multiple", "0"), "is not a whole number from 1 to 1,024"),
        (("--multiple", "width=8.5"), "is not a whole number"),
        (("--multiple", "depth=2"), "write each of width, resolution"),
        (
            ("--law", "1,1,1", "--rounding", "up"),
            "nothing grows with the law alpha 1, beta 1, gamma 1, so it has nothing to round",
        ),
    ],
)
def test_laws_and_roundings_that_cannot_be_read_are_rejected(capsys, options, words):
    assert words in refused(capsys, "scale", "resnet18", "--phi", 1, *options)


@pytest.mark.parametrize("command", ["scale", "family", "fit", "train", "compare"])
def test_help_lists_the_named_laws(capsys, command):
    text = " ".join(run(capsys, command, "--help").out.replace("\u2502", " ").split())
    assert all(name in text for name in NAMED_LAWS)
    assert "--rounding" in text
    assert "--multiple" in text


def test_named_laws_and_roundings_scale(capsys):
    data = json.loads(run(capsys, "scale", "efficientnet_b0", "--law", "tinynet", "--phi", -4, "--json").out)
    assert data["cost"]["macs"] == 24_356_848
    options = ("--rounding", "depth=nearest", "--multiple", "width=16,resolution=32")
    data = json.loads(run(capsys, "scale", "efficientnet_b0", "--phi", 1, *options, "--json").out)
    assert data["network"]["resolution"] == 256
    assert all(stage["width"] % 16 == 0 for stage in data["network"]["stages"])
    data = json.loads(run(capsys, "scale", "resnet18", "--width", 1.1, "--multiple", 1, "--json").out)
    assert [stage["width"] for stage in data["network"]["stages"]] == [70, 141, 282, 563]
    family = json.loads(run(capsys, "family", "--baseline", "efficientnet_b0", "--law", "dwr", "--json").out)
    assert family["law"]["name"] == "dwr"


def test_show_names_the_law_that_gives_a_published_network(capsys):
    out = " ".join(run(capsys, "show", "efficientnet_b3").out.split())
    assert "triscale scale efficientnet_b0 --law efficientnet-table --phi 3" in out
    assert "No named law gives exactly this network" in run(capsys, "show", "efficientnet_l2").out


def test_budget_of_a_microcontroller_gives_a_network_with_what_it_needs_besides(capsys, tmp_path):
    out = tmp_path / "net.json"
    command = (
        "scale",
        "mcunet_5fps",
        "--law",
        "mcu",
        "--channels",
        1,
        "--classes",
        10,
        "--budget",
        "20KB ram, 90KB flash",
    )
    printed = " ".join(run(capsys, *command, "--out", out).out.split())
    assert "kB RAM of 20.0kB RAM" in printed
    assert "kB flash of 90.0kB flash" in printed
    assert "interpreter needs up to" in printed
    network = ts.Network.from_json(out.read_bytes())
    assert (network.in_channels, network.classes) == (1, 10)
    shown = " ".join(run(capsys, "show", out).out.split())
    assert "int8 on a microcontroller:" in shown
    fit = json.loads(run(capsys, *command, "--json").out)["fit"]
    assert [(limit["name"], limit["achieved"] <= limit["requested"]) for limit in fit["limits"]] == [
        ("ram", True),
        ("flash", True),
    ]


def test_budget_of_ram_that_no_network_meets_names_a_smaller_baseline(capsys):
    line = refused(capsys, "scale", "mobilenet_v2", "--budget", "20KB ram")
    assert "needs at least 27.9kB RAM: allow that, or start from a smaller baseline, such as mcunet_5fps" in line


@pytest.mark.parametrize("channels", [0, -1])
def test_numbers_of_channels_below_one_are_rejected(capsys, channels):
    assert f"--channels {channels}" in refused(capsys, "scale", "resnet18", "--phi", 1, f"--channels={channels}")


def test_channels_of_a_custom_model_are_those_of_its_function(capsys):
    line = refused(capsys, "scale", "package.module:build", "--phi", 1, "--channels", 1)
    assert "the channels of a custom model such as build are those that its function gives it" in line
