"""Accuracy against cost: every dataset has its own scale, and every point has a description."""

import math
import re
from xml.etree import ElementTree

import pytest

from report import report_samples as samples
from triscale.report.run.cost_figures import Panel, PlotPoint, accuracy_against_cost, own_color

SVG = "{http://www.w3.org/2000/svg}"
FAMILIES = samples.digits().families
OWN = PlotPoint("mine", 2_960_000, 0.978, 0.958, 0.988, "mine: 97.8% of digits")


def marks(picture):
    root = ElementTree.fromstring(picture.svg)
    result = [element for element in root.iter(f"{SVG}circle") if element.get("class") == "mark"]
    return [(float(mark.get("cx")), float(mark.get("cy")), mark.get("data-series"), mark[0].text) for mark in result]


@pytest.fixture(scope="module")
def picture():
    return accuracy_against_cost([Panel("digits, 360 test images", (OWN,))], FAMILIES)


def test_panels_share_logarithmic_cost_axis(picture):
    places = {text.split(":")[0]: x for x, _, _, text in marks(picture)}
    costs = {point.name: point.macs for point in FAMILIES if point.top1 is not None} | {"mine": OWN.macs}
    assert places.keys() == costs.keys()
    scale = (places["b7"] - places["0.25"]) / math.log(costs["b7"] / costs["0.25"])
    for name, macs in costs.items():
        assert places[name] - places["0.25"] == pytest.approx(scale * math.log(macs / costs["0.25"]), abs=0.2)


def test_measured_points_have_their_own_panel(picture):
    heights = {text.split(":")[0]: y for _, y, _, text in marks(picture)}
    published = [y for name, y in heights.items() if name != "mine"]
    # 97.8% on digits stands above all of ImageNet, but apart: between the two lie the lower axis and its title.
    assert heights["mine"] + 60 < min(published)
    shown = [element.text for element in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")]
    assert {"digits, 360 test images", "measured", "ImageNet", "as published: other images, another scale"} <= set(
        shown
    )


def test_measured_accuracy_does_not_move_published_points(picture):
    worse = OWN.__class__("mine", OWN.macs, 0.31, 0.29, 0.33, "mine")
    other = accuracy_against_cost([Panel("digits, 360 test images", (worse,))], FAMILIES)
    assert [mark for mark in marks(other) if mark[3].endswith("parameters")] == [
        mark for mark in marks(picture) if mark[3].endswith("parameters")
    ]


def test_points_have_name_accuracy_and_cost(picture):
    texts = [text for *_, text in marks(picture)]
    assert texts[0] == OWN.text
    assert "b3: 81.6% on ImageNet as published, 1.80G MACs, 12.2M parameters" in texts
    assert len(texts) == 1 + len(samples.TOP1)


def test_each_series_can_be_hidden(picture):
    root = ElementTree.fromstring(picture.svg)
    groups = {element.get("data-series") for element in root.iter(f"{SVG}g") if element.get("data-series")}
    assert groups == {str(key.number) for key in picture.keys} == {series for _, _, series, _ in marks(picture)}
    assert [key.name for key in picture.keys][:2] == ["mine", "efficientnet"]
    assert "triscale-series" not in picture.svg


def test_published_points_are_shown_without_result():
    picture = accuracy_against_cost([], FAMILIES)
    shown = [element.text for element in ElementTree.fromstring(picture.svg).iter(f"{SVG}text")]
    assert "as published" in shown
    assert not any(text and "another scale" in text for text in shown)
    assert accuracy_against_cost([], []) is None
    assert accuracy_against_cost([Panel("x", (PlotPoint("x", 0, 1, 1, 1, "x"),))], []) is None


def test_every_dataset_has_a_panel():
    panels = [
        Panel("cats", tuple(PlotPoint(f"c{n}", 10 ** (6 + n), 0.8, 0.7, 0.9, f"c{n}", number=n) for n in range(3))),
        Panel("dogs", (PlotPoint("d", 10**7, 0.2, 0.1, 0.3, "d", number=3),)),
    ]
    picture = accuracy_against_cost(panels, [])
    heights = {text: y for _, y, _, text in marks(picture)}
    assert heights["c0"] == heights["c1"] == heights["c2"] < heights["d"]
    assert len({own_color(number) for number in range(9)}) == 9
    assert len(re.findall("measured", picture.svg)) >= 2
