import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from report import report_samples as samples
from report.test_report_browser import CHROMIUM, fits
from report.test_run_report import TAGS, Page
from search.surfaces import Surface
from triscale.families import get
from triscale.jobs.reports.comparison_report import collect_comparison_content, write_comparison_report
from triscale.network.cost import count_network
from triscale.report.comparison.comparison_figures import against_cost
from triscale.report.comparison.comparison_view import published_gain, published_way, rows
from triscale.report.draw.files import standalone
from triscale.report.render import render, render_comparison
from triscale.results.explanation import ComparisonMaps, ImageMaps, NetworkMap
from triscale.search.compare.contenders import equal_cost
from triscale.search.compare.results import compare_trained
from triscale.search.study.trial import Proxy

SVG = "{http://www.w3.org/2000/svg}"
WAYS = ("baseline", "depth", "width", "resolution", "compound")


@pytest.fixture(scope="module")
def comparison():
    return equal_cost(get("efficientnet_b0"), 4.0)


@pytest.fixture(scope="module")
def compared(comparison):
    train = Surface(comparison.baseline, 1).train
    return compare_trained(comparison, Proxy(epochs=9, images=1000), train, images="photos", count=2000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    maps = tmp_path_factory.mktemp("comparison") / "maps"
    maps.mkdir()
    for number in range(2):
        for way in ("image", *WAYS):
            Image.new("RGB", (16, 16), (number * 90, 40, 90)).save(maps / f"{number}-{way}.png")
    return maps.parent


@pytest.fixture(scope="module")
def maps():
    def network_maps(number):
        return tuple(
            NetworkMap(
                way=way, predicted="cat" if way != "depth" else "dog", confidence=0.75, overlay=f"{number}-{way}.png"
            )
            for way in WAYS
        )

    rows = [
        ImageMaps(file=f"{n}.png", truth="cat", image=f"{n}-image.png", network_maps=network_maps(n)) for n in range(2)
    ]
    return ComparisonMaps(seed=0, images=tuple(rows))


@pytest.fixture(scope="module")
def content(compared, folder, maps):
    return collect_comparison_content(compared, folder, None, maps)


def test_rows_match_counts_and_measurements(comparison, content):
    results = content.compared.outcomes
    assert [contender.way for contender, _ in rows(content)] == [result.way for result in results] == list(WAYS)
    assert [contender for contender, _ in rows(content)] == list(comparison.contenders)
    for contender, result in rows(content):
        counts = count_network(contender.network)
        assert (contender.macs.achieved, contender.params) == (counts.macs, counts.params)
        assert result.accuracy == pytest.approx(np.mean(result.accuracies))
        assert result.gain == pytest.approx(result.accuracy - results[0].accuracy)
        assert result.low <= result.accuracy <= result.high
    assert content.compared.best == max(results[1:], key=lambda result: result.accuracy)


def test_paper_table_is_shown_for_its_baseline_only(content, compared, tmp_path):
    # Table 7 of the paper: B0 77.3, compound 81.1.
    assert [published_way(row) for row in content.published] == list(WAYS)
    assert [row.top1 for row in content.published] == [77.3, 79.0, 78.9, 79.1, 81.1]
    assert round(100 * published_gain(content, content.published[-1]), 1) == 3.8
    mnasnet = compared.comparison.baseline.replace(name="mnasnet_a1")
    other = compared.replace(comparison=compared.comparison.replace(baseline=mnasnet))
    assert collect_comparison_content(other, tmp_path).published == ()
    small = compared.comparison.baseline.replace(name="efficientnet_b0@32_phi-8")
    other = compared.replace(comparison=compared.comparison.replace(baseline=small))
    assert collect_comparison_content(other, tmp_path).published == content.published


def test_report_is_complete_and_self_contained(content):
    text = render_comparison(content)
    assert render_comparison(content) == text
    page = Page(text)
    anchors = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert anchors == {"methods", "network_maps", "published", "limitations", "settings", "main"}
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r"https?://[^\"' <]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not page.tags & {"script", "link", "iframe", "object", "base", "form"}
    sources = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert len(sources) == 2 * (1 + len(WAYS))
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert text.count('<td class="wrong">') == 2
    assert text.count('<td class="right">') == 2 * 4


def test_report_works_without_maps_and_published_rows(compared, tmp_path):
    content = collect_comparison_content(compared, tmp_path).replace(published=())
    page = Page(render_comparison(content))
    anchors = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert anchors == {"methods", "limitations", "settings", "main"}


def test_report_works_with_one_seed(comparison, tmp_path):
    train = Surface(comparison.baseline, 0).train
    one = compare_trained(comparison, Proxy(epochs=9, images=10, seeds=(3,)), train, images="photos", count=50)
    write_comparison_report(one, tmp_path)
    assert "one seed was used" in (tmp_path / "report.html").read_text().lower()


def test_saved_figure_is_complete(content):
    text = standalone(render(content).pictures[-1])
    root = ElementTree.fromstring(text)
    assert "var(" not in text
    assert root.get("font-family")
    width, height = float(root.get("width")), float(root.get("height"))
    assert [float(part) for part in root.get("viewBox").split()] == [0, 0, width, height]
    ground = next(child for child in root if child.tag == f"{SVG}rect")
    assert list(root).index(ground) == 2  # below all that is drawn, after title and description
    assert ground.attrib == {"width": "900", "height": "350", "fill": "#ffffff"}
    shown = [element.text for element in root.iter(f"{SVG}text")]
    assert shown.count("compound") == 2
    assert any(content.compared.comparison.baseline.name in line for line in shown if line)
    assert standalone(render(content).pictures[-1]) == text


def test_labels_never_overlap(content):
    same = tuple(result.replace(accuracy=0.5, low=0.49, high=0.51) for result in content.compared.outcomes)
    alike = content.replace(compared=content.compared.replace(outcomes=same))
    root = ElementTree.fromstring(against_cost(alike).svg)
    names = {"depth only", "width only", "resolution only", "compound"}
    heights = sorted(float(element.get("y")) for element in root.iter(f"{SVG}text") if element.text in names)
    assert len(heights) == 4
    assert all(below - above > 11 for above, below in pairwise(heights))


def test_hostile_text_is_escaped(content):
    bad = samples.HOSTILE + samples.HOSTILE_FILE
    images = tuple(
        row.replace(file=bad, truth=bad, network_maps=tuple(cell.replace(predicted=bad) for cell in row.network_maps))
        for row in content.maps.images
    )
    comparison = content.compared.comparison
    hostile = content.replace(
        title=bad, verdict=bad, source=bad, limitations=(bad,), next_commands=(bad,),
        compared=content.compared.replace(
            comparison=comparison.replace(baseline=comparison.baseline.replace(name=bad)),
        ),
        maps=content.maps.replace(images=images), settings=(samples.NamedValue(name=bad, value=bad),) * 2,
    )  # fmt: skip
    page = Page(render_comparison(hostile))
    assert page.tags <= TAGS
    assert not [item for item in page.attributes if item[1].startswith("on")]
    assert "".join(page.text).count(bad) > 20
    ElementTree.fromstring(standalone(render(hostile).pictures[-1]))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize("width", [390, 500, 1280])
def test_no_overflow_and_no_console_messages(tmp_path, content, width):
    fits(tmp_path, render_comparison(content), width)
