import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from report import report_samples as samples
from triscale.report.content import Content
from triscale.report.page import render

VOID = {"meta", "img", "br", "hr", "input"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "p", "span", "time", "h1", "h2", "h3", "strong",
    "dl", "div", "dt", "dd", "nav", "ol", "ul", "li", "main", "section", "table", "thead", "tbody", "tfoot", "tr", "th",
    "td", "code", "pre", "details", "summary", "figure", "figcaption", "img", "bdi", "footer",
    "svg", "desc", "g", "defs", "path", "text", "tspan", "use", "clippath", "rect", "image",
}  # fmt: skip
SECTIONS = {"budget", "network", "training", "results", "maps", "device", "repeat"}


class Page(HTMLParser):
    """Collects what a browser would make of a page, and insists that tags close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text, self.ids = [], set(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def digits():
    return render(samples.digits())


def test_a_page_is_the_same_each_time(digits):
    assert render(samples.digits()) == digits


def test_a_page_loads_nothing(digits):
    page = Page(digits)
    assert set(re.findall(r"https?://[^\"' <]*", digits)) == {"http://www.w3.org/2000/svg"}
    assert not page.tags & {"script", "link", "iframe", "object", "base", "form"}
    assert "@import" not in digits
    assert "font-face" not in digits
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/png;base64," if tag in ("img", "image") else "#"), (tag, name)
    policy = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
    assert policy[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_ids_and_anchors_match(digits):
    page = Page(digits)
    assert len(page.ids) == len(set(page.ids))
    anchors = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert anchors == SECTIONS | {"main"}
    assert anchors <= set(page.ids)


def test_hostile_text_stays_text():
    text = render(samples.hostile())
    page = Page(text)
    assert page.tags <= TAGS
    assert not [item for item in page.attributes if item[1].startswith("on")]
    assert "<img src=x" not in text
    assert "<script" not in text
    shown = "".join(page.text)
    assert shown.count(samples.HOSTILE + samples.HOSTILE_FILE) > 100
    described = next(value for tag, name, value in page.attributes if (tag, name) == ("img", "alt"))
    assert described.endswith(samples.HOSTILE_FILE)


def test_inline_svg_is_well_formed(digits):
    drawings = re.findall(r"<svg .*?</svg>", digits, flags=re.DOTALL)
    assert len(drawings) == 7
    for drawing in drawings:
        ElementTree.fromstring(drawing)


@pytest.mark.parametrize("left_out", [name for name in Content.model_fields if name != "title"])
def test_every_section_may_be_absent(left_out):
    full = samples.digits()
    Page(render(full.model_copy(update={left_out: Content.model_fields[left_out].default})))


@pytest.mark.parametrize("only", [name for name in Content.model_fields if name != "title"])
def test_every_section_may_be_the_only_one(only):
    Page(render(Content(title="one section", **{only: getattr(samples.digits(), only)})))


def test_a_bare_page_says_so():
    text = render(Content(title="bare"))
    assert "Nothing has been recorded yet." in text
    assert "<nav" not in text


@pytest.mark.parametrize("section", ["data", "metrics", "network"])
def test_parts_of_a_section_may_be_absent(section):
    record = getattr(samples.digits(), section)
    optional = {name: info.default for name, info in type(record).model_fields.items() if not info.is_required()}
    metrics = {"per_class": (), "confusion": ()} if section == "metrics" else {}
    Page(render(Content(title="x", **{section: record.model_copy(update=optional | metrics)})))


def test_two_and_a_hundred_classes():
    for size, sample in ((2, "cat"), (100, "class 99")):
        names = ["cat", "dog"] if size == 2 else [f"class {index}" for index in range(size)]
        text = render(samples.digits().model_copy(update={"metrics": samples.metrics(names, 40 * size, 0.85)}))
        page = Page(text)
        assert sample in "".join(page.text)
        assert ("The other 88 classes" in text) == (size == 100)
        assert len(text) < 400_000


def test_weakest_classes_and_wrong_images_come_first(digits):
    table = digits.split("weakest first")[1].split("</table>")[0]
    shares = [float(share) for share in re.findall(r"([\d.]+)\N{NO-BREAK SPACE}%</td><td class=\"meter", table)]
    assert len(shares) == 10
    assert shares == sorted(shares)
    marks = re.findall(r'<li class="map (\w+)">', digits)
    assert marks == ["wrong"] * 2 + ["right"] * 10
    assert digits.count("✗ wrong") == 2


def test_asked_achieved_and_the_binding_limit_are_shown(digits):
    budget = digits.split('<section id="budget"')[1].split("</section>")[0]
    assert "<strong>2.96M</strong> of 3M asked" in budget
    assert budget.count("binding limit</span>") == 1
    over = samples.digits().asked[0].model_copy(update={"used": 1.2})
    assert "over the limit" in render(Content(title="x", asked=(over,)))
