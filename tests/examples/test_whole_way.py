"""The whole method end to end, as in the example script: search, coefficients, family, fit, transfer."""

import json

import pytest

from example_script import run_script
from triscale.network.cost import count_network
from triscale.network.spec import Network
from triscale.search.baseline.explore import BaselineSearchResult

pytestmark = pytest.mark.process


@pytest.mark.stress
def test_end_to_end_from_images_to_transferred_network(tmp_path):
    done = run_script("whole_way.sh", tmp_path / "way", timeout=900)
    assert done.returncode == 0, done.stderr
    way = tmp_path / "way"
    result = BaselineSearchResult.load(way / "baseline" / "found.json")
    network = Network.load(way / "baseline" / "network.json")
    assert result.network == network
    assert len(result.evaluated) == 6
    law = json.loads((way / "coefficients" / "law.json").read_text())
    family = json.loads((way / "family" / "family.json").read_text())
    assert [family["law"][name] for name in ("alpha", "beta", "gamma")] == [
        law[name] for name in ("alpha", "beta", "gamma")
    ]
    assert len(family["members"]) == 4
    fitted = Network.load(way / "run" / "network.json")
    assert count_network(fitted).macs <= 3e6
    for run in ("run", "transferred"):
        assert (way / run / "report.html").is_file()
        assert json.loads((way / run / "metrics.json").read_text())["top1"] > 0.2
    assert len(json.loads((way / "transferred" / "run.json").read_text())["classes"]) == 4
