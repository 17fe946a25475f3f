"""``triscale compare`` without training."""

from __future__ import annotations

import json

import pytest

from cli.command import refused, run
from triscale.network.cost import count_network
from triscale.network.spec import Network


def test_published_tables_fit_80_columns(capsys, monkeypatch):
    monkeypatch.setattr("triscale.cli.support.terminal.console.width", 80)
    result = run(capsys, "compare", "--published")
    assert result.code == 0
    assert all(len(line.rstrip()) <= 80 for line in result.out.splitlines())
    assert "385,814,752" in result.out
    assert "14,570,749,952" in result.out
    marked = [line.split()[:2] for line in result.out.splitlines() if line.rstrip().endswith("*")]
    assert marked == [
        ["resnet50", "d=4"],
        ["resnet50", "w=2"],
        ["efficientnet_b0", "d=4"],
        ["efficientnet_b0", "w=2"],
        ["efficientnet_b0", "r=2"],
    ]


def test_published_tables_json(capsys):
    rows = json.loads(run(capsys, "compare", "--published", "--json").out)
    assert len(rows) == 27
    assert sum(not row["possible"] for row in rows) == 5
    assert rows[0]["macs"] == 385_814_752


def test_comparison_lists_networks(capsys, monkeypatch):
    monkeypatch.setattr("triscale.cli.support.terminal.console.width", 80)
    result = run(capsys, "compare", "--baseline", "mobilenet_v2", "--times", 3, "--phi", -1)
    assert result.code == 0
    assert all(way in result.out for way in ("depth", "width", "resolution", "compound"))
    assert all(len(line.rstrip()) <= 80 for line in result.out.splitlines())

    data = json.loads(run(capsys, "compare", "--baseline", "mobilenet_v2", "--times", 3, "--json").out)
    for contender in data["contenders"]:
        assert count_network(Network.parse(contender["network"], "it")).macs == contender["macs"]["achieved"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --published or --baseline"),
        (("--published", "--baseline", "resnet18"), "either --published or --baseline"),
        (("--baseline", "resnet19"), "did you mean resnet18"),
        (("--baseline", "resnet18", "--times", 0.5), "needs no scaling"),
    ],
)
def test_invalid_comparisons_are_rejected(capsys, arguments, words):
    assert words in refused(capsys, "compare", *arguments)
