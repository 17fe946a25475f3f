"""Reports in previews of e-mail clients, which drop scripts, style sheets, CSS variables, or all of them."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import pytest
from PIL import Image

from report import report_samples as samples
from report.runs_samples import two_sets
from report.test_baseline_report import result as baseline_result
from report.test_comparison_report import compared, comparison  # noqa: F401 (fixtures)
from serve.browser import CHROMIUM, browsing
from triscale.jobs.reports.comparison_report import collect_comparison_content
from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.draw.palette import BLUE, ORANGE
from triscale.report.render import render
from triscale.report.stylesheet import stylesheet

SHAPES = ("path", "rect", "circle", "use", "text")
INHERITED = ("fill", "stroke")


def without_variables(page):
    """Drop every declaration with a CSS variable, as a program that does not know variables does."""
    return re.sub(r"[\w-]+:[^;{}\"]*var\([^;{}\"]*;?", "", page)


def without_styles(page):
    """Drop scripts, style sheets and the attributes that depend on them."""
    page = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r' (style|class)="[^"]*"', "", page)


CLIENTS = {"without variables": without_variables, "without styles": without_styles}


@pytest.fixture(scope="module")
def pages(compared, tmp_path_factory):  # noqa: F811 (a fixture)
    folder = tmp_path_factory.mktemp("nothing")
    contents = {
        "run": samples.digits(),
        "runs": two_sets(),
        "comparison": collect_comparison_content(compared, folder),
        "baseline": BaselineContent(title="a baseline", result=baseline_result()),
    }
    return {name: render(content).html for name, content in contents.items()}


def test_every_variable_has_a_fallback():
    css = re.sub(r"@supports[^{]*\{", "", stylesheet())
    for name, value in re.findall(r"(?<![\w-])([a-z][\w-]*):([^;{}]*var\([^;{}]*)", css):
        if name in INHERITED and re.fullmatch(r" var\(--[\w-]+\) ?", value):
            continue  # the element has the color as an attribute, or draws nothing without it
        assert re.search(rf"(?<![\w-]){name}: [^;{{}}]*; {name}:{re.escape(value)}", css), (name, value)


@pytest.mark.parametrize("name", ["run", "runs", "comparison", "baseline"])
def test_figures_carry_size_colors_and_font_as_attributes(pages, name):
    drawings = re.findall(r"<svg .*?</svg>", without_styles(pages[name]), flags=re.DOTALL)
    assert drawings
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        width, height = float(root.get("width")), float(root.get("height"))
        assert [float(part) for part in root.get("viewBox").split()] == [0, 0, width, height]
        assert not re.search(r"var\(|currentColor|url\((?!#)", drawing)
        assert_painted(root, {})


def assert_painted(element, given):
    """Check that no shape is painted in the default black: each has a color of its own or inherits one."""
    given = given | {key: element.get(key) for key in INHERITED if element.get(key)}
    tag = element.tag.rpartition("}")[2]
    if tag in ("defs", "clipPath"):
        return
    if tag in SHAPES:
        assert "fill" in given, ElementTree.tostring(element)[:200]
    if tag == "text":
        assert element.get("font-size")
    for child in element:
        assert_painted(child, given)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs chromium on the PATH")
    with browsing(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_keep_their_colors_in_strict_clients(browser, pages, tmp_path, client, scheme):
    (tmp_path / "report.html").write_text(CLIENTS[client](pages["comparison"]), encoding="utf-8")
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    try:
        browser.open((tmp_path / "report.html").as_uri(), width=900, height=1800)
        with Image.open(io.BytesIO(browser.screenshot())) as image:
            colors = {color: count for count, color in image.convert("RGB").getcolors(maxcolors=1 << 24)}
    finally:
        browser.ask("Emulation.setEmulatedMedia", features=[])
    assert colors.get(tuple(bytes.fromhex(ORANGE[1:])), 0) > 50
    assert sum(max(colors, key=colors.get)) > 3 * 240  # a light ground, since all inks are those of the light scheme


def test_style_sheet_still_replaces_colors_in_dark_scheme(browser, pages, tmp_path):
    (tmp_path / "report.html").write_text(pages["run"], encoding="utf-8")
    seen = {}
    for scheme in ("light", "dark"):
        browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        browser.open((tmp_path / "report.html").as_uri())
        seen[scheme] = browser.evaluate(
            "[...document.querySelectorAll('.drawing .stroke-blue')].map(item => getComputedStyle(item).stroke)[0]"
        )
    browser.ask("Emulation.setEmulatedMedia", features=[])
    assert seen == {"light": f"rgb{tuple(bytes.fromhex(BLUE[1:]))}", "dark": "rgb(106, 165, 238)"}
