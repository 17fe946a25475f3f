"""Objects print in one line, and show tables and figures in notebooks."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import triscale as ts


class Strict(HTMLParser):
    """Checks that tags are balanced, and collects text and table cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.cells = [], 0
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.cells += tag == "td"

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_objects_have_a_short_form():
    network = ts.get("efficientnet_b0")
    assert repr(network) == "Network('efficientnet_b0', 224 px, 16 blocks, 1000 classes)"
    assert repr(ts.cost(network)) == "Cost(5.29M params, 386M MACs, 6.75M activations)"
    fit = repr(ts.fit_budget(network, budget="1G"))
    assert fit.startswith("Fit('efficientnet_b0_phi+1.1', phi 1.1")
    assert "of 1.00G MACs" in fit
    for value in (network, ts.cost(network), ts.Law(1.2, 1.1, 1.15), ts.Budget("400M")):
        assert len(repr(value)) < 120


def test_tables_show_every_stage_and_limit():
    network = ts.get("mobilenet_v2").replace(name="<b>")
    assert Strict(network._repr_html_()).cells == 5 * (len(network.stages) + 2)
    assert "<b>" not in network._repr_html_()
    assert Strict(ts.cost(network)._repr_html_()).cells == 6 * (len(network.stages) + 3)
    assert Strict(ts.fit_budget(network, budget="200M, 5M params")._repr_html_()).cells == 5 * 2


def test_run_shows_result_and_figures(trained_run):
    run = ts.Run.open(trained_run)
    page = run._repr_html_()
    Strict(page)
    assert f"top-1 {run.metrics.top1:.1%}" in page
    assert len(re.findall("<svg", page)) == 3
    assert "http" not in page.replace("http://www.w3.org", "")


def test_measurement_shows_interval_and_conditions(tiny):
    (measurement,) = ts.measure(tiny, engines="torch", progress=False)
    assert re.fullmatch(r"Measurement\(torch.*, float32, [\d.e-]+ ms.*, batch 1, 1 threads.*\)", repr(measurement))
    assert Strict(measurement._repr_html_()).cells == 6
