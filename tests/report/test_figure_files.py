"""Figures of studies as files: SVG, PDF and CSV."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import zlib
from xml.etree import ElementTree

import pytest

from report.test_baseline_report import result as baseline_result
from report.test_comparison_report import compared, comparison  # noqa: F401 (fixtures)
from report.test_search_report import METHODS, candidates, contents, found  # noqa: F401 (fixtures)
from triscale.jobs.reports.comparison_report import collect_comparison_content
from triscale.jobs.reports.figure_files import write_with_figures
from triscale.report.baseline.baseline_content import BaselineContent
from triscale.report.draw.figure_data import FigureData
from triscale.report.draw.files import figure_files, pdf, standalone
from triscale.report.draw.svg import draw
from triscale.report.render import render
from triscale.report.search.search_rows import standing_rows

SVG = "{http://www.w3.org/2000/svg}"
EXPECTED = {
    "grid": {"triangle", "standings"},
    "halving": {"triangle", "standings", "rungs", "behind"},
    "response": {"triangle", "standings", "forecast", "predicted"},
}


@pytest.fixture(scope="module")
def baseline():
    return BaselineContent(title="a baseline", result=baseline_result())


@pytest.fixture(scope="module")
def comparison_content(compared, tmp_path_factory):  # noqa: F811 (a fixture)
    return collect_comparison_content(compared, tmp_path_factory.mktemp("comparison"))


def rows_of(picture):
    return list(csv.DictReader(io.StringIO(picture.data.to_csv())))


def by_name(content):
    return {picture.name.removeprefix("figure-"): picture for picture in render(content).pictures}


@pytest.mark.parametrize("method", METHODS)
def test_every_figure_of_a_search_has_all_three_files(contents, method, tmp_path):  # noqa: F811
    write_with_figures(contents[method], tmp_path)
    written = {path.name for path in (tmp_path / "figures").iterdir()}
    assert written == {f"{name}.{kind}" for name in EXPECTED[method] for kind in ("svg", "pdf", "csv")}
    assert "<code>figures/</code>" in (tmp_path / "report.html").read_text()


def test_every_figure_of_comparison_and_baseline_search_has_all_three_files(comparison_content, baseline):
    for content, names in (
        (comparison_content, {"methods", "cost", "comparison"}),
        (baseline, {"pareto", "progress"}),
    ):
        pictures = by_name(content)
        assert set(pictures) == names
        for name, picture in pictures.items():
            assert set(figure_files(picture)) == {f"{name}.svg", f"{name}.pdf", f"{name}.csv"}


def test_svg_file_needs_nothing_but_svg_1_1(contents, comparison_content, baseline):  # noqa: F811
    for content in (contents["halving"], contents["response"], comparison_content, baseline):
        for picture in render(content).pictures:
            text = standalone(picture)
            root = ElementTree.fromstring(text)
            assert root.get("version") == "1.1"
            width, height = float(root.get("width")), float(root.get("height"))
            assert [float(part) for part in root.get("viewBox").split()] == [0, 0, width, height]
            assert "sans-serif" in root.get("font-family")
            assert "var(" not in text
            assert not re.search(r' (style|class|href)="', text)
            assert set(re.findall(r"https?://[^\"' <]*", text)) == {
                "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
            }  # fmt: skip
            ids = {element.get("id") for element in root.iter()}
            assert set(re.findall(r'(?:url\(|xlink:href=")#([^)"]+)', text)) <= ids
            ground = next(child for child in root if child.tag == f"{SVG}rect")
            assert (ground.get("fill"), float(ground.get("width"))) == ("#ffffff", width)
            assert all(element.get("fill") for element in root.iter(f"{SVG}text"))


def test_pdf_holds_text_in_embedded_font(comparison_content):
    content = pdf(by_name(comparison_content)["comparison"])
    assert content.startswith(b"%PDF")
    assert b"/FontFile2" in content  # TrueType, as pdf.fonttype 42 embeds it
    assert b"CreationDate" not in content
    streams = [zlib.decompress(part) for part in re.findall(rb"stream\n(x.*?)\nendstream", content, flags=re.DOTALL)]
    shown = b"".join(b"".join(re.findall(rb"\(((?:[^()\\]|\\.)*)\)", stream)) for stream in streams if b" Tf" in stream)
    text = shown.replace(b"\0", b"")  # two bytes for each character
    assert b"resolution only" in text
    assert b"accuracy on test images" in text


def test_csv_holds_the_values_of_the_records(contents, comparison_content, baseline):  # noqa: F811
    grid = contents["grid"]
    read = rows_of(by_name(grid)["standings"])
    for row, standing in zip(read, standing_rows(grid), strict=False):
        assert [float(row[name]) for name in ("alpha", "beta", "gamma")] == list(
            standing.standing.law.model_dump().values()
        )
        assert float(row["accuracy (share)"]) == standing.standing.accuracy
        assert [float(row[f"accuracy of training {number} (share)"]) for number in (1, 2, 3)] == list(standing.seeds)
        assert row["tied with the best"] == ("yes" if standing.standing.tied else "no")
    triangle = rows_of(by_name(contents["response"])["triangle"])
    assert {row["kind"] for row in triangle} == {"candidate", "the paper", "fitted response"}
    assert all(
        sum(float(row[f"share of {name}"]) for name in ("depth", "width", "resolution")) == pytest.approx(1)
        for row in triangle
    )
    for row, outcome in zip(
        rows_of(by_name(comparison_content)["methods"]), comparison_content.compared.outcomes, strict=True
    ):
        assert float(row["accuracy (share)"]) == outcome.accuracy
        assert float(row["95% interval, low (share)"]) == outcome.low
        assert [float(row[f"accuracy of seed {seed} (share)"]) for seed in (0, 1, 2)] == list(outcome.accuracies)
    front = [row["network"] for row in rows_of(by_name(baseline)["pareto"]) if row["on the Pareto front"] == "yes"]
    assert set(front) == {baseline.result.evaluated[number].network for number in baseline.result.front}


def test_rungs_and_forecast_hold_every_point(contents):  # noqa: F811
    rungs, behind = (rows_of(by_name(contents["halving"])[name]) for name in ("rungs", "behind"))
    assert len(rungs) == len(behind) > 10
    assert max(float(row["behind the best (percentage points)"]) for row in behind) == 0
    result = contents["response"].result
    forecast = rows_of(by_name(contents["response"])["forecast"])
    assert [row["kind"] for row in forecast].count("trained") == len(result.trials)
    assert {float(row["accuracy (share)"]) for row in forecast if row["kind"] == "predicted"} == {
        point.accuracy for point in result.forecast
    }


def test_names_in_csv_are_quoted():
    data = FigureData.of(("a, b", "c"), [('say "x"\nand more', None), (1.0 / 3, True)])
    assert list(csv.reader(io.StringIO(data.to_csv()))) == [
        ["a, b", "c"], ['say "x"\nand more', ""], [repr(1.0 / 3), "yes"],
    ]  # fmt: skip
    with pytest.raises(ValueError, match="2 values for the 1 columns"):
        FigureData.of(("a",), [(1, 2)])


DIGESTS = """
import hashlib
from triscale.report.draw.files import figure_files
from triscale.report.draw.svg import draw, plot_area
picture = draw(name="a", title="A", description="", width=200, height=150,
               paint=lambda figure: plot_area(figure, left=40, right=9, top=9, bottom=40).set_xlabel("epochs") and None)
print({name: hashlib.sha256(content).hexdigest() for name, content in figure_files(picture).items()})
"""


@pytest.mark.process
def test_files_have_same_bytes_in_every_process():
    printed = [
        subprocess.run(
            [sys.executable, "-c", DIGESTS], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert printed[0] == printed[1]
    assert "a.pdf" in printed[0]


def test_writing_again_gives_same_bytes(comparison_content, tmp_path):
    contents_of = []
    for _ in range(2):
        write_with_figures(comparison_content, tmp_path)
        contents_of.append({path.name: path.read_bytes() for path in sorted((tmp_path / "figures").iterdir())})
    assert contents_of[0] == contents_of[1]
    assert len(contents_of[0]) == 9


def test_figure_without_data_has_no_csv():
    plain = draw(name="figure-x", title="X", description="", width=80, height=60, paint=lambda figure: None)
    assert set(figure_files(plain)) == {"x.svg", "x.pdf"}
