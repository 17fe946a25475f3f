"""``triscale compare`` without training."""

from __future__ import annotations

import json

import pytest

from cli.command import refused, run
from triscale.network.cost import count_network
from triscale.network.latency import DeviceProfile, Predictor, predict
from triscale.network.spec import Network
from triscale.search.compare.law_table import LawComparison


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


def test_laws_are_compared_at_equal_cost(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("triscale.cli.support.terminal.console.width", 80)
    command = ("compare", "--baseline", "mobilenet_v2", "--laws", "paper,dwr,tinynet", "--times", "1/4,3")
    result = run(capsys, *command, "--out", tmp_path / "laws")
    assert result.code == 0
    assert all(law in result.out for law in ("paper", "dwr", "tinynet: ends below this cost"))
    assert all(len(line.rstrip()) <= 80 for line in result.out.splitlines() if "written to" not in line)
    assert {path.name for path in (tmp_path / "laws").iterdir()} == {"laws.json", "laws.svg", "laws.pdf", "laws.csv"}
    record = LawComparison.load(tmp_path / "laws" / "laws.json")
    assert [level.times for level in record.levels] == [0.25, 3]
    assert json.loads(run(capsys, *command, "--json").out)["levels"] == json.loads(record.to_json())["levels"]
    rows = (tmp_path / "laws" / "laws.csv").read_text().splitlines()
    assert len(rows) == 1 + 1 + 3 + 2


def test_laws_have_a_predicted_latency_with_a_profile(capsys, tmp_path):
    predictor = Predictor(
        engine="torch", threads=1, processor="x", milliseconds={"run.count": 1.0, "pointwise.macs": 0.1}, error=0.05,
        error_90=0.1, held_out=10,
    )  # fmt: skip
    DeviceProfile(engine="torch", threads=1, processor="x", predictor=predictor).save(tmp_path / "profile.json")
    command = ("compare", "--baseline", "mobilenet_v2", "--laws", "paper", "--times", 2)
    result = run(capsys, *command, "--profile", tmp_path / "profile.json", "--json")
    row = json.loads(result.out)["levels"][0]["rows"][0]
    network = Network.parse(row["network"], "it")
    assert row["latency_ms"] == pytest.approx(predict(predictor, network))
    assert "ms" in run(capsys, *command, "--profile", tmp_path / "profile.json").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--laws", "pape"), "did you mean paper"),
        (("--laws", "paper,paper"), 'names "paper" twice'),
        (("--laws", "paper", "--times", "0"), "not compared at 0 times"),
        (("--laws", "paper", "--times", "x"), "is not a cost relative to the baseline"),
        (("--times", "1,2"), "is not a number"),
        (("--profile", "p.json"), "add --laws"),
        (("--laws", "paper", "--out", "FULL"), "holds no comparison of laws"),
    ],
)
def test_invalid_comparisons_of_laws_are_rejected(capsys, tmp_path, arguments, words):
    (tmp_path / "notes.txt").write_text("mine")
    arguments = [tmp_path if one == "FULL" else one for one in arguments]
    assert words in refused(capsys, "compare", "--baseline", "resnet18", *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
