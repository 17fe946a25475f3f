"""The option --lite of all commands that accept a network name."""

import json

import pytest

from cli.command import refused, run
from conftest import write_classes
from triscale.families import get
from triscale.families.lite import lite
from triscale.jobs.core.run import RunFolder
from triscale.network.cost import cost
from triscale.network.spec import Network


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("lite") / "images", 12)


@pytest.mark.stress
def test_lite_network_is_fitted_to_budget_and_trained(capsys, folder, tiny, tiny_file, tmp_path):
    out = tmp_path / "run"
    options = ("--lite", "--budget", "200k", "--epochs", 1, "--set", "batch=16")
    predicted = json.loads(run(capsys, "fit", folder, "--baseline", tiny_file, *options, "--dry-run", "--json").out)
    assert run(capsys, "train", folder, "--network", tiny_file, *options, "--out", out).code == 0
    spec = RunFolder.open(out).spec
    assert spec.request.network == lite(tiny)
    assert lite(spec.network) == spec.network
    assert predicted["macs"] == cost(spec.network).macs <= 200_000
    assert spec.network.name.startswith("tiny_lite")


def test_weights_of_full_network_are_rejected_for_lite(capsys, folder, tiny_file, tmp_path):
    first = tmp_path / "first"
    options = ("--epochs", 1, "--set", "batch=16")
    assert run(capsys, "train", folder, "--network", tiny_file, *options, "--out", first).code == 0
    for network in ((), ("--network", tiny_file)):
        line = refused(capsys, "train", folder, *network, "--weights", first, "--lite", "--out", tmp_path / "second")
        assert "do not fit tiny_lite: stem.activation is relu6, expected silu" in line
        assert "leave out --network or --baseline, and --lite" in line


def test_show_and_scale_support_lite(capsys, tmp_path):
    shown = json.loads(run(capsys, "show", "efficientnet_b0", "--lite", "--json").out)
    assert (shown["cost"]["params"], shown["cost"]["macs"]) == (4_652_008, 385_187_552)
    assert "PublishedNetwork" not in run(capsys, "show", "efficientnet_b3", "--lite").out
    file = tmp_path / "network.json"
    assert run(capsys, "scale", "mnasnet_a1", "--lite", "--phi", 1, "--out", file).code == 0
    assert Network.load(file).stem == lite(get("mnasnet_a1")).stem
    made = run(capsys, "family", "--baseline", "mobilenet_v2", "--lite", "--phis", "0,1", "--json")
    assert json.loads(made.out)["members"][0]["network"]["head"]["width_rule"] == "fixed"
    compared = run(capsys, "compare", "--baseline", "efficientnet_b0", "--lite", "--json")
    assert json.loads(compared.out)["baseline"]["name"] == "efficientnet_b0_lite"


def test_network_without_lite_form_is_rejected(capsys, folder):
    assert "resnet18 has basic blocks" in refused(capsys, "show", "resnet18", "--lite")
    line = refused(capsys, "fit", folder, "--baseline", "resnet50", "--lite", "--budget", "1G")
    assert "leave out --lite" in line
