import json

import pytest

from report import report_samples as samples
from triscale.errors import RecordError
from triscale.report.comparison.comparison_content import NetworkMapCell
from triscale.report.run.run_content import ClassMetric, Content, MapCard, MetricFacts, NamedValue


@pytest.mark.parametrize("make", [samples.digits, samples.hostile, lambda: Content(title="bare")])
def test_json_round_trip(make, tmp_path):
    content = make()
    assert Content.from_json(content.to_json()) == content
    content.save(tmp_path / "report.json")
    assert Content.load(tmp_path / "report.json") == content


def test_images_are_base64_in_json():
    data = json.loads(samples.digits().to_json())
    assert data["maps"][0]["image"].startswith("iVBORw0KGgo")


def test_what_is_no_png_is_refused():
    cell = {"way": "depth", "predicted": "cat", "confidence": 0.5}
    with pytest.raises(RecordError, match="expected a PNG image"):
        NetworkMapCell.parse(cell | {"overlay": "/9j/4AAQ"}, "the cell")


def test_what_is_neither_png_nor_jpeg_is_refused():
    card = json.loads(samples.digits().to_json())["maps"][0]
    with pytest.raises(RecordError, match="expected a PNG or JPEG image"):
        MapCard.parse(card | {"image": "R0lGODlhAQABAAAAACw="}, "the card")
    with pytest.raises(RecordError, match="in base64"):
        MapCard.parse(card | {"image": "not base64!"}, "the card")


def test_text_that_no_page_can_hold_is_replaced():
    pair = NamedValue(name="bad\udce9name", value="bell\x07, line\nkept")
    assert pair == NamedValue(
        name="bad\N{REPLACEMENT CHARACTER}name", value="bell\N{REPLACEMENT CHARACTER}, line\nkept"
    )
    assert pair.name.encode()


@pytest.mark.parametrize("confusion", [((1, 2),), ((1, 0), (0, 1), (0, 0)), ((1, 2), (3,))])
def test_a_confusion_of_another_shape_is_refused(confusion):
    classes = tuple(ClassMetric(name=name, count=1, precision=1, recall=1, f1=1) for name in "ab")
    with pytest.raises(ValueError, match="2 rows and columns"):
        MetricFacts(split="test", count=2, top1=1, top1_low=1, top1_high=1, per_class=classes, confusion=confusion)


def test_an_unknown_section_is_refused():
    with pytest.raises(RecordError, match="did you mean metrics"):
        Content.parse({"title": "x", "metric": None}, "the content")
