import base64
import hashlib
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from report import report_samples as samples
from triscale.report.render import render_run
from triscale.report.run.run_content import RunContent

VOID = {"meta", "img", "br", "hr", "input"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "a", "header", "p", "span", "time", "h1", "h2", "h3", "strong",
    "dl", "div", "dt", "dd", "nav", "ol", "ul", "li", "main", "section", "table", "thead", "tbody", "tfoot", "tr", "th",
    "td", "code", "pre", "details", "summary", "figure", "figcaption", "img", "bdi", "footer",
    "svg", "desc", "g", "defs", "path", "text", "tspan", "use", "clippath", "rect", "image", "circle", "h4", "h5",
    "article", "script",
}  # fmt: skip
SECTIONS = {"budget", "cost", "network", "training", "results", "confidence", "robustness", "maps", "device", "repeat"}


class Page(HTMLParser):
    """Parses a page like a browser and checks that tags are closed in order."""

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
    return render_run(samples.digits())


def test_report_is_deterministic(digits):
    assert render_run(samples.digits()) == digits


def test_report_is_self_contained(digits):
    page = Page(digits)
    assert set(re.findall(r"https?://[^\"' <]*", digits)) == {"http://www.w3.org/2000/svg"}
    assert not page.tags & {"link", "iframe", "object", "base", "form"}
    assert "@import" not in digits
    assert "font-face" not in digits
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            allowed = ("data:image/png;base64,", "data:image/jpeg;base64,") if tag in ("img", "image") else "#"
            assert value.startswith(allowed), (tag, name)
    policy = [value for _, name, value in page.attributes if name == "content" and "default-src" in value]
    assert policy[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_content_security_policy_allows_only_own_script(digits):
    (script,) = re.findall(r"<script>(.*?)</script>", digits, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; base-uri" in digits
    assert digits.count("<script") == 1
    assert "unsafe-eval" not in digits
    assert re.findall(r"script-src[^;]*", digits) == [f"script-src 'sha256-{digest}'"]


def test_ids_and_anchors_match(digits):
    page = Page(digits)
    assert len(page.ids) == len(set(page.ids))
    anchors = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert anchors == SECTIONS | {"main"} | {f"class-{number}" for number in range(10)}
    assert anchors <= set(page.ids)


def test_hostile_text_is_escaped():
    text = render_run(samples.hostile())
    page = Page(text)
    assert page.tags <= TAGS
    assert not [item for item in page.attributes if item[1].startswith("on")]
    assert "<img src=x" not in text
    assert text.count("<script") == 1
    shown = "".join(page.text)
    assert shown.count(samples.HOSTILE + samples.HOSTILE_FILE) > 100
    described = next(value for tag, name, value in page.attributes if (tag, name) == ("img", "alt"))
    assert described.endswith(samples.HOSTILE_FILE)


def test_inline_svg_is_well_formed(digits):
    drawings = re.findall(r"<svg xmlns.*?</svg>", digits, flags=re.DOTALL)
    assert len(drawings) == 9
    for drawing in drawings:
        ElementTree.fromstring(drawing)


@pytest.mark.parametrize("left_out", [name for name in RunContent.model_fields if name != "title"])
@pytest.mark.stress
def test_every_section_is_optional(left_out):
    full = samples.digits()
    Page(render_run(full.replace(**{left_out: RunContent.model_fields[left_out].default})))


@pytest.mark.parametrize("only", [name for name in RunContent.model_fields if name != "title"])
def test_every_section_works_alone(only):
    Page(render_run(RunContent(title="one section", **{only: getattr(samples.digits(), only)})))


def test_confidence_section_shows_the_measured_figures(digits):
    section = digits.split('<section id="confidence"')[1].split("</section>")[0]
    for figure in ("0.620", "8.4%", "98.1%", "96.1%", "1.02", "4.7%", "0.911", "64.3%", "There is a note.", "fruit"):
        assert figure in section.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", ""), figure
    without = samples.digits().replace(metrics=None)
    assert "on validation images" in render_run(without)


def test_robustness_section_has_every_class_with_images_and_the_strengths(digits):
    section = digits.split('<section id="robustness"')[1].split("</section>")[0].replace("\N{NO-BREAK SPACE}", " ")
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>", section)
    assert rows == [*map(str, range(1, 10)), "All classes"]
    assert "On 200 of the 360 test images" in section
    assert "unit of blur 0.1, 0.2, 0.3, 0.4, 0.5." in section
    assert section.count("<title>") == 5 * 6  # the tooltips of its points


def test_empty_report_is_labeled():
    text = render_run(RunContent(title="bare"))
    assert "Nothing has been recorded yet." in text
    assert "<nav" not in text


@pytest.mark.parametrize("section", ["data", "metrics", "network", "cost", "fit", "deployed"])
def test_section_contents_are_optional(section):
    record = getattr(samples.digits(), section)
    optional = {name: info.default for name, info in type(record).model_fields.items() if not info.is_required()}
    metrics = {"per_class": (), "confusion": (), "reliability": (), "top5": None} if section == "metrics" else {}
    Page(render_run(RunContent(title="x", **{section: record.replace(**optional | metrics)})))


def test_two_and_hundred_classes_are_supported():
    for size, sample in ((2, "cat"), (100, "class 99")):
        names = ["cat", "dog"] if size == 2 else [f"class {index}" for index in range(size)]
        text = render_run(samples.digits().replace(metrics=samples.metrics(names, 40 * size, 0.85)))
        page = Page(text)
        assert sample in "".join(page.text)
        assert text.count('<article class="class-card"') == size
        assert len(text) < 500_000


def test_weakest_classes_and_misclassified_images_come_first(digits):
    table = digits.split("Sorted by F1")[1].split("</table>")[0]
    shares = [float(share) for share in re.findall(r"([\d.]+)%</td><td class=\"meter", table)]
    assert len(shares) == 10
    assert shares == sorted(shares)
    marks = re.findall(r'<li class="map (\w+)">', digits)
    assert marks == ["wrong"] * 2 + ["right"] * 10
    assert digits.count("✗ wrong") == 2


def test_requested_achieved_and_the_binding_limit_are_shown(digits):
    budget = digits.split('<section id="budget"')[1].split("</section>")[0]
    assert "<strong>2.96M MACs</strong> of 3.00M MACs requested" in budget
    assert budget.count("binding limit</span>") == 1
    fit = samples.fit()
    over = fit.replace(limits=(fit.limits[0].replace(achieved=3_600_000),))
    assert "over the limit" in render_run(RunContent(title="x", fit=over))


def test_each_class_has_its_confusions_and_its_most_confident_mistakes(digits):
    content = samples.digits()
    for number, metric in enumerate(content.metrics.per_class):
        card = digits.split(f'id="class-{number}"')[1].split("</article>")[0]
        row = content.metrics.confusion[number]
        wrong = sum(row) - row[number]
        assert f"{row[number]} of {metric.count} correct, {wrong} predicted as another class" in card
        assert card.count("<li>") == min(5, sum(count > 0 for count in row) - 1) + min(
            5, sum(other[number] > 0 for other in content.metrics.confusion) - 1
        )
        listed = re.findall(r'<bdi>(\d)</bdi> <span class="confidence">([\d.]+)', card)
        expected = [card for card in content.wrong if card.prediction.truth == metric.name]
        made = [card.prediction for card in expected]
        assert listed == [(one.predicted, f"{100 * one.confidence:.1f}") for one in made]
        assert card.count("<img") == sum((image.image is not None) + (image.overlay is not None) for image in expected)


def test_published_accuracies_are_labeled_as_imagenet(digits):
    cost = digits.split('<section id="cost"')[1].split("</section>")[0]
    assert cost.count("on ImageNet as published") == len(samples.TOP1)
    assert "ImageNet top-1, published" in cost
    assert "as published: other images, another scale" in cost
    assert "but not the axis of accuracy" in cost
    assert "resnet18" not in cost  # whose authors' figure is unknown to the table


def test_missing_latency_shows_measure_command():
    text = render_run(RunContent(title="x", measure="triscale measure runs/mine"))
    device = text.split('<section id="device"')[1].split("</section>")[0]
    assert "No latency has been measured yet" in device
    assert "triscale measure runs/mine" in device


def test_measurement_shows_device_and_noise(digits):
    device = digits.split('<section id="device"')[1].split("</section>")[0]
    assert "Measured on Intel Xeon." in device
    assert device.count("Noisy measurement") == 1
    assert "PyTorch: the quartiles lie far apart" in device
    assert "1.40 to 1.44" in device
    quiet = tuple(row.replace(noise=None) for row in samples.digits().latency)
    assert "Noisy measurement" not in render_run(samples.digits().replace(latency=quiet))


def test_export_without_engine_has_no_agreement():
    exported = samples.digits().exported.replace(agreement=None, max_error=None)
    device = (
        render_run(RunContent(title="x", exported=exported)).split('<section id="device"')[1].split("</section>")[0]
    )
    assert "not compared with the model" in device
    assert "Same prediction" not in device


def test_predicted_limit_is_labeled():
    full = samples.digits()
    text = render_run(RunContent(title="x", fit=full.fit, latency=full.latency))
    assert "28.4% used; predicted by the device profile, measured 1.42 ms in ONNX Runtime" in text
    assert "used; predicted by the device profile<" in render_run(RunContent(title="x", fit=full.fit))
