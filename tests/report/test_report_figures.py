import math
import re
import warnings
from xml.etree import ElementTree

import pytest

from report import report_samples as samples
from triscale.report.draw.format import shorten
from triscale.report.draw.palette import PALETTE
from triscale.report.run import cost_figures, curve_figures, run_view
from triscale.report.run import quality_figures as quality
from triscale.report.run import stage_figures as figures
from triscale.report.run.run_content import FamilyPoint

SVG = "{http://www.w3.org/2000/svg}"
NAMES = [samples.HOSTILE, "a & b", "$x^2$", "_hidden", "x" * 200, "日本語の名前", "قطة", "", 'it\'s "so"', "]]>"]


def marks(root):
    return [element for element in root.iter() if element.get("class") == "mark"]


def all_figures(names):
    digits = samples.digits()
    result = samples.metrics(names, 40 * len(names), 0.9)
    stages = tuple(
        (cost.replace(name=name), part) for (cost, part), name in zip(run_view.stages(digits), names * 7, strict=False)
    )
    points = [
        FamilyPoint(family=name, name=name, params=10**i, macs=10 ** (i + 1), top1=0.5 + i / 40)
        for i, name in enumerate(names[:12])
    ]
    plot_points = tuple(
        cost_figures.PlotPoint(name, 10**i, 0.5 + i / 40, 0.45 + i / 40, 0.55 + i / 40, name, number=i - 3)
        for i, name in enumerate(names[:6], 3)
    )
    rows = [row.replace(engine=name) for row, name in zip(digits.latency, names * 3, strict=False)]
    network = run_view.own_point(digits).replace(name=names[0])
    return [
        figures.families(points, network),
        figures.stage_bars(stages),
        curve_figures.loss_curve(digits.history),
        curve_figures.accuracy_curve(digits.history),
        figures.latency_bars(rows),
        quality.confusion_matrix(names, result.confusion),
        quality.reliability_diagram(result.reliability),
        cost_figures.accuracy_against_cost([cost_figures.Panel(names[0], plot_points)], points),
    ]


@pytest.fixture(scope="module")
def drawn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return all_figures(NAMES)


def test_svg_is_well_formed_with_names_as_text(drawn):
    for picture in drawn:
        root = ElementTree.fromstring(picture.svg)
        assert root.tag == f"{SVG}svg"
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg", "title", "desc", "g", "defs", "path", "text", "tspan", "use", "clipPath", "rect", "image", "circle",
        }  # fmt: skip
    texts = [element.text for element in ElementTree.fromstring(drawn[5].svg).iter(f"{SVG}text")]
    assert {"a & b", "$x^2$", "_hidden", "日本語の名前", "(no name)", "x" * 15 + "…", 'it\'s "so"', "]]>"} <= set(texts)
    assert [key.name for key in drawn[0].keys] == [shorten(name, 22) for name in NAMES] + [shorten(NAMES[0], 40)]


def test_ids_are_unique_and_references_resolve(drawn):
    found = []
    for picture in drawn:
        root = ElementTree.fromstring(picture.svg)
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        references = re.findall(r'url\(#([^)"]+)\)|href="#([^"]+)"', picture.svg)
        assert {first or second for first, second in references} <= ids
        assert all(name.startswith(f"{picture.name}-") for name in ids)
        found.extend(ids)
    assert len(found) == len(set(found))


def test_figures_have_accessible_descriptions(drawn):
    for picture in drawn:
        root = ElementTree.fromstring(picture.svg)
        # Interactive elements must be visible to screen readers, which skip the content of images.
        assert root.get("role") == ("group" if root.find(f".//{SVG}circle") is not None or marks(root) else "img")
        title, description = root.get("aria-labelledby").split()
        assert [root[0].get("id"), root[0].text] == [title, picture.title]
        assert [root[1].get("id"), root[1].text] == [description, picture.description]


def test_colors_are_attributes_with_a_class_for_other_color_schemes(drawn):
    for picture in drawn:
        assert " style=" not in picture.svg
        assert "var(" not in picture.svg
        for element in ElementTree.fromstring(picture.svg).iter():
            classes = set((element.get("class") or "").split()) - {"mark", "marks"}
            colors = {key: element.get(key) for key in ("fill", "stroke") if (element.get(key) or "").startswith("#")}
            assert classes == {f"{key}-{PALETTE[color]}" for key, color in colors.items()}, picture.name
    assert len(set(PALETTE.values())) == len(PALETTE)


def test_figures_are_deterministic(drawn):
    assert [picture.svg for picture in all_figures(NAMES)] == [picture.svg for picture in drawn]
    for picture in drawn:
        assert set(re.findall(r"https?://[^\"' <]*", picture.svg)) == {"http://www.w3.org/2000/svg"}
        assert "<!--" not in picture.svg


@pytest.mark.parametrize("num_classes", [1, 2, 20, 21, 100])
def test_confusion_matrix_supports_any_number_of_classes(num_classes):
    names = [f"class {index}" for index in range(num_classes)]
    result = samples.metrics(names, 20 * num_classes, 0.8)
    picture = quality.confusion_matrix(names, result.confusion)
    root = ElementTree.fromstring(picture.svg)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    labels = [text for text in texts if text.startswith("class")]
    assert len(labels) <= 2 * 34
    assert ("0" in texts or any(text.isdigit() for text in texts)) == (num_classes <= quality.NUMBERS_UP_TO)
    assert (root.find(f".//{SVG}image") is not None) == (num_classes > quality.NUMBERS_UP_TO)
    assert len(picture.svg) < 120_000


def test_curves_support_gaps_and_few_points():
    # A record refuses such values; the figure must not depend on that.
    full = samples.history(2)
    points = [full[0].model_copy(update={"train_loss": 2.0, "val_loss": None}),
              full[1].model_copy(update={"train_loss": math.nan, "val_loss": 0.001})]  # fmt: skip
    description = curve_figures.loss_curve(points).description
    assert "training ends at 2" in description
    assert "validation ends at 0.001" in description
    assert "<svg" in curve_figures.accuracy_curve([full[0].replace(val_top1=1.0)]).svg
    assert curve_figures.loss_curve([]) is None
    assert curve_figures.loss_curve([full[0].model_copy(update={"train_loss": math.inf, "val_loss": None})]) is None


def test_figures_support_degenerate_values():
    row = samples.measurement("x", 1, 1, (0, 0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.latency_bars([row, row])
        figures.families([FamilyPoint(family="f", name="f", params=1, macs=1)], None)
        cost, part = run_view.stages(samples.digits())[0]
        figures.stage_bars([(cost.replace(params=0, macs=0), part)])
        assert figures.stage_bars([]) is figures.latency_bars([row]) is figures.families([], None) is None
        quality.reliability_diagram([])
        quality.confusion_matrix(["a", "b"], [(0, 0), (0, 0)])
