"""The report of several runs: one table and one scale for each test set."""

import re
from xml.etree import ElementTree

import pytest

from report import report_samples as samples
from report.runs_samples import compared_run, hostile, two_sets
from report.test_report_browser import CHROMIUM, fits
from report.test_run_report import TAGS, Page
from triscale.report.render import render_runs
from triscale.report.runs.runs_content import RunsContent
from triscale.results.run_comparison import ComparedRuns, TestSet

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def text():
    return render_runs(two_sets())


def test_report_is_complete_and_self_contained(text):
    assert render_runs(two_sets()) == text
    page = Page(text)
    anchors = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert anchors == {"runs", "cost", "differences", "folders", "main"}
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r"https?://[^\"' <]*", text)) == {"http://www.w3.org/2000/svg"}


def test_each_test_set_has_table_and_panel(text):
    runs = text.split('<section id="runs"')[1].split("</section>")[0]
    tables = re.findall(r"<table.*?</table>", runs, flags=re.DOTALL)
    assert [("wide" in table, "deep" in table, "digits" in table) for table in tables] == [
        (True, True, False),
        (False, False, True),
    ]
    assert runs.count("comparable within this table only") == 2
    (drawing,) = re.findall(r"<svg xmlns.*?</svg>", text, flags=re.DOTALL)
    heights = {}
    for mark in ElementTree.fromstring(drawing).iter(f"{SVG}circle"):
        heights[mark[0].text.split(":")[0]] = float(mark.get("cy"))
    assert max(heights["wide"], heights["deep"]) + 60 < heights["digits"] < heights["b0"]


def test_rows_show_interval_difference_and_latency_or_command(text):
    runs = text.split('<section id="runs"')[1].split("</section>")[0]
    assert "79.0%</strong>" in runs
    assert ">2.0<" in runs
    assert ">1.0 to 3.0<" in runs
    assert runs.count(">not measured<") == 1
    assert "triscale measure runs/deep" in runs
    assert runs.count("noisy measurement") == 1


def test_single_table_does_not_mention_other_test_sets():
    both = two_sets().compared
    compared = both.replace(test_sets=both.test_sets[:1], runs=both.runs[:2], differences=())
    one = two_sets().replace(compared=compared, files=())
    text = render_runs(one)
    assert "Test set" not in text
    assert "within this table" not in text
    assert "All runs used the same settings." in text


def test_every_run_has_a_legend_entry():
    runs = tuple(
        compared_run(number, f"run {number}", 10**6 * (number + 1), 0.5 + number / 50, None) for number in range(14)
    )
    test_sets = (TestSet(name="photos", root="", count=100),)
    text = render_runs(RunsContent(title="many", compared=ComparedRuns(test_sets=test_sets, runs=runs, differences=())))
    legend = text.split('<ul class="legend"')[1].split("</ul>")[0]
    assert legend.count("<li") == 14


def test_hostile_text_is_escaped():
    page = Page(render_runs(hostile()))
    assert page.tags <= TAGS
    assert not [item for item in page.attributes if item[1].startswith("on")]
    assert "".join(page.text).count(samples.HOSTILE + samples.HOSTILE_FILE) > 20


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize("width", [390, 768, 1360])
@pytest.mark.parametrize("make", [two_sets, hostile])
def test_no_overflow_and_no_console_messages(tmp_path, make, width):
    fits(tmp_path, render_runs(make()), width)
