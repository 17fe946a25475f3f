import json
import re

import pytest

from report import report_samples as samples
from triscale.errors import RecordError
from triscale.report.comparison.comparison_content import ComparisonContent
from triscale.report.content import NamedValue
from triscale.report.printable import printable
from triscale.report.render import render_run
from triscale.report.run.run_content import ImageCard, RunContent
from triscale.results.metrics import ClassMetrics, Metrics

BAD = "bad\udce9 bell\x07"
GOOD = "bad\N{REPLACEMENT CHARACTER} bell\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("make", [samples.digits, samples.hostile, lambda: RunContent(title="bare")])
def test_content_round_trips_through_json(make, tmp_path):
    content = make()
    assert RunContent.from_json(content.to_json()) == content
    content.save(tmp_path / "report.json")
    assert RunContent.load(tmp_path / "report.json") == content


def test_images_are_base64_in_json():
    data = json.loads(samples.digits().to_json())
    assert data["maps"][0]["image"].startswith("iVBORw0KGgo")


def test_invalid_png_is_rejected():
    with pytest.raises(RecordError, match="expected a PNG image"):
        ComparisonContent.parse({"title": "x", "compared": None, "pictures": {"a.png": "/9j/4AAQ"}}, "the content")


def test_image_that_is_neither_png_nor_jpeg_is_rejected():
    card = json.loads(samples.digits().to_json())["maps"][0]
    with pytest.raises(RecordError, match="expected a PNG or JPEG image"):
        ImageCard.parse(card | {"image": "R0lGODlhAQABAAAAACw="}, "the card")
    with pytest.raises(RecordError, match="in base64"):
        ImageCard.parse(card | {"image": "not base64!"}, "the card")


def test_unprintable_characters_are_replaced():
    pair = printable(NamedValue(name="bad\udce9name", value="bell\x07, line\nkept"))
    assert pair == NamedValue(
        name="bad\N{REPLACEMENT CHARACTER}name", value="bell\N{REPLACEMENT CHARACTER}, line\nkept"
    )
    assert pair.name.encode()


def test_printable_replaces_nested_text_only():
    clean = samples.digits()
    assert printable(clean) is clean
    made = clean.maps[0].prediction.replace(file=BAD, truth=BAD)
    data = clean.data.replace(bad=(type(clean.data.bad[0])(path=BAD, reason=BAD),))
    latency = clean.latency[0].replace(machine=clean.latency[0].machine.replace(packages=((BAD, BAD),)))
    content = printable(
        clean.replace(maps=(clean.maps[0].replace(prediction=made),), data=data, latency=(latency,), warnings=(BAD,))
    )
    assert content.maps[0].prediction.file == content.data.bad[0].path == content.warnings[0] == GOOD
    assert content.latency[0].machine.packages == ((GOOD, GOOD),)
    assert content.metrics is clean.metrics
    assert printable({BAD: 1.5, "n": None}) == {GOOD: 1.5, "n": None}


def test_report_of_unprintable_text_is_written_and_drawn():
    clean = samples.digits()
    classes = tuple(row.replace(name=f"{BAD}{index}") for index, row in enumerate(clean.metrics.per_class))
    content = clean.replace(
        title=BAD,
        network=clean.network.replace(name="bell\x07"),
        metrics=clean.metrics.replace(per_class=classes),
        latency=tuple(row.replace(engine=BAD) for row in clean.latency),
    )
    text = render_run(content)
    assert text.encode().decode() == text
    assert "\x07" not in text
    assert text.count(GOOD) > 80


@pytest.mark.parametrize("confusion", [((1, 2),), ((1, 0), (0, 1), (0, 0)), ((1, 2), (3,))])
def test_confusion_matrix_of_wrong_shape_is_rejected(confusion):
    classes = tuple(ClassMetrics(name=name, count=1, precision=1, recall=1, f1=1) for name in "ab")
    fields = {"split": "test", "count": 2, "top1": 1, "top1_low": 1, "top1_high": 1, "top5": None, "loss": 0}
    fields |= {"mean_class_accuracy": 1, "calibration_error": 0, "reliability": ()}
    with pytest.raises(ValueError, match="2 rows and columns"):
        Metrics(per_class=classes, confusion=confusion, **fields)


def test_unknown_section_is_rejected():
    with pytest.raises(RecordError, match=r"did you mean .*metrics"):
        RunContent.parse({"title": "x", "metric": None}, "the content")


def test_a_class_without_test_images_has_dashes_in_the_report():
    content = samples.digits()
    others = content.metrics.per_class[1:]
    absent = ClassMetrics(name="absent", count=0, precision=None, recall=None, f1=None)
    confusion = content.metrics.confusion
    fields = {name: getattr(content.metrics, name) for name in type(content.metrics).model_fields}
    counted = [[0] * len(confusion), *map(list, confusion[1:])]
    html = render_run(
        content.replace(metrics=Metrics(**fields | {"per_class": (absent, *others), "confusion": counted}))
    )
    row = next(row for row in html.split("<tr>") if row.startswith('<th scope="row">') and ">absent<" in row[:90])
    cells = re.findall(r'<td class="n" data-value="([^"]*)">([^<]*)</td>', row)
    assert cells[:4] == [("0", "0"), *[("", "\N{EN DASH}")] * 3]
