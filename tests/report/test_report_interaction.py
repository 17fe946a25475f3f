"""The report of a run with mouse and keyboard in a real browser, and without JavaScript."""

from __future__ import annotations

import pytest

from report import report_samples as samples
from report.runs_samples import two_sets
from serve.browser import CHROMIUM, browsing
from triscale.report.render import render_run, render_runs

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")


CUT = """[...document.querySelectorAll(".drawing svg")].flatMap(drawing => {
  const frame = drawing.getBoundingClientRect();
  return [...drawing.querySelectorAll("text")].filter(item => {
    const box = item.getBoundingClientRect();
    return box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
      || box.bottom > frame.bottom + 1;
  }).map(item => [drawing.querySelector("title").textContent, item.textContent]);
})"""
"""The texts of figures that lie outside of them."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with browsing(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_run(samples.digits()), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser, page):
    browser.messages.clear()
    browser.open(page)
    yield browser
    assert browser.messages == []


def press(browser, key):
    for kind in ("keyDown", "keyUp"):
        browser.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)


def point_at(browser, selector):
    """Move the pointer to the middle of an element."""
    browser.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
    x, y = browser.evaluate(
        f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
        "return [box.left + box.width / 2, box.top + box.height / 2] })()"
    )
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


def network_maps(browser, selector):
    return browser.evaluate(
        f"[...document.querySelectorAll({selector!r})].filter(item => item.checkVisibility()"
        " && item.getBoundingClientRect().height > 0).length"
    )


def test_hovering_a_point_shows_tooltip(opened):
    point_at(opened, "#cost .mark:nth-of-type(3)")
    tooltip = opened.wait_for("document.querySelector('#cost .tip:not([hidden])')?.textContent")
    assert tooltip == "b1: 79.1% on ImageNet as published, 700M MACs, 7.79M parameters"
    box = opened.evaluate("(() => {const box = document.querySelector('#cost .tip').getBoundingClientRect();"
                          "return [box.left, box.right, innerWidth]})()")  # fmt: skip
    assert 0 <= box[0] < box[1] <= box[2]


def test_points_are_keyboard_accessible(opened):
    assert opened.evaluate("document.querySelectorAll('#cost .mark[tabindex=\"0\"]').length") == 1
    opened.evaluate("document.querySelector('#cost .mark[tabindex=\"0\"]').focus()")
    first = opened.evaluate("document.querySelector('#cost .tip').textContent")
    press(opened, "ArrowRight")
    second = opened.evaluate("document.querySelector('#cost .tip').textContent")
    assert first.startswith("digits_fit_3M: 98.3% of digits, 360 test images correct")
    assert second.startswith("b0: 77.1%")
    press(opened, "End")
    assert opened.evaluate("document.querySelector('#cost .tip').textContent").startswith("resnet50")
    press(opened, "Escape")
    assert opened.evaluate("document.querySelector('#cost .tip').hidden")


def test_hovering_a_curve_shows_its_values(opened):
    point_at(opened, "#training .mark:nth-of-type(7)")
    tooltip = opened.wait_for("document.querySelector('#training .tip:not([hidden])')?.textContent")
    epoch = samples.history()[6]
    assert tooltip == f"epoch 7: training {epoch.train_loss:#.3g}, validation {epoch.val_loss:#.3g}"
    assert opened.evaluate("document.querySelectorAll('#training .guide circle').length") == 2


def test_series_can_be_hidden_and_shown(opened):
    parts = '#cost svg [data-series="1"]'
    before = network_maps(opened, parts)
    assert before > 8
    opened.evaluate("document.querySelectorAll('#cost .legend button')[1].click()")
    assert network_maps(opened, parts) == 0
    assert (
        opened.evaluate("document.querySelectorAll('#cost .legend button')[1].getAttribute('aria-pressed')") == "false"
    )
    opened.evaluate("document.querySelectorAll('#cost .legend button')[1].click()")
    assert network_maps(opened, parts) == before


def test_class_table_sorts_by_column_headings(opened):
    column = "[...document.querySelectorAll('.class-table tbody tr')].map(row => Number(row.cells[3].dataset.value))"
    for way, reverse in (("descending", True), ("ascending", False)):
        opened.evaluate("document.querySelectorAll('.class-table .sort')[3].click()")
        result = opened.evaluate(column)
        assert result == sorted(result, reverse=reverse)
        assert opened.evaluate("document.querySelector('.class-table [aria-sort]').getAttribute('aria-sort')") == way
    opened.evaluate("document.querySelectorAll('.class-table .sort')[0].click()")
    names = opened.evaluate("[...document.querySelectorAll('.class-table tbody th')].map(cell => cell.textContent)")
    assert names == [str(number) for number in range(10)]


def test_class_link_opens_images_and_confusions(opened):
    assert network_maps(opened, ".class-card") == 1
    opened.evaluate("document.querySelector('.class-table a[href=\"#class-3\"]').focus()")
    press(opened, "Tab")  # a key, so that the focus is one of the keyboard
    opened.evaluate("document.querySelector('.class-table a[href=\"#class-3\"]').click()")
    assert network_maps(opened, ".class-card") == 1
    assert network_maps(opened, "#class-3 img") > 0
    assert network_maps(opened, "#class-3 h5") == 3
    assert opened.evaluate("document.activeElement.id") == "class-3"


@pytest.mark.parametrize("width", [390, 500, 1280])
@pytest.mark.parametrize("kind", ["run", "runs"])
def test_page_fits_phone_and_desktop(browser, page, tmp_path, width, kind):
    if kind == "runs":
        (tmp_path / "runs.html").write_text(render_runs(two_sets()), encoding="utf-8")
        page = (tmp_path / "runs.html").as_uri()
    browser.messages.clear()
    browser.open(page, width=width)
    assert browser.messages == []
    scroll, client = browser.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert scroll <= client
    assert (
        network_maps(browser, "main > section")
        == browser.evaluate("document.querySelectorAll('main > section').length")
        > 2
    )
    assert (
        network_maps(browser, ".drawing svg")
        == browser.evaluate("document.querySelectorAll('.drawing svg').length")
        > 0
    )
    assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")


def test_content_is_complete_without_javascript(browser, page):
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert network_maps(browser, ".class-card") == 10
        assert network_maps(browser, ".drawing svg") == 9
        assert browser.evaluate("document.querySelectorAll('button, .tip').length") == 0
        titles = browser.evaluate("[...document.querySelectorAll('#cost .mark title')].map(title => title.textContent)")
        assert len(titles) == 1 + len(samples.TOP1)
    finally:
        browser.ask("Emulation.setScriptExecutionDisabled", value=False)


def test_print_view_is_expanded(opened, page):
    opened.open(page, width=690)  # A4 less its margins
    opened.evaluate("document.querySelectorAll('#cost .legend button')[1].click()")
    opened.ask("Emulation.setEmulatedMedia", media="print")
    try:
        assert network_maps(opened, ".class-card") == 10
        assert network_maps(opened, "details .scroll") == opened.evaluate(
            "document.querySelectorAll('details .scroll').length"
        )
        assert network_maps(opened, '#cost svg [data-series="1"]') > 8
        assert network_maps(opened, ".tip, nav, .skip") == 0
        assert opened.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    finally:
        opened.ask("Emulation.setEmulatedMedia", media="")


def test_injected_script_is_blocked(browser, tmp_path):
    text = render_run(samples.digits()).replace("</main>", "<script>document.title = 'taken'</script></main>")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    browser.open((tmp_path / "report.html").as_uri())
    assert browser.evaluate("document.title") == samples.digits().title
    assert any("Content Security Policy" in line for line in browser.messages)
    browser.messages.clear()
