import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from report import report_samples as samples
from report.test_report_browser import CHROMIUM, fits
from report.test_run_report import TAGS, Page
from search.surfaces import Surface
from triscale.families import get
from triscale.jobs.reports.search_report import collect_search_content, write_search_report
from triscale.report.render import render_search
from triscale.report.search.response_view import SHADING_STEPS, accuracy_at, leave_one_out_predictions, shading
from triscale.report.search.search_rows import learning_curves, octaves, standing_rows
from triscale.report.search.search_view import exhaustive_macs
from triscale.report.search.ternary import HEIGHT, lattice, position, shares
from triscale.report.search.triangle_figure import levels, triangle
from triscale.scaling.law import Scale
from triscale.search.coefficients.grid import Grid, find_candidates
from triscale.search.coefficients.methods import search_grid, search_halving
from triscale.search.coefficients.response import search_response
from triscale.search.coefficients.result import Response
from triscale.search.study.trial import Proxy

METHODS = {"grid": search_grid, "halving": search_halving, "response": search_response}
ALWAYS = {"surface", "standings", "trials", "limitations", "settings"}
OWN = {"grid": set(), "halving": {"rungs"}, "response": {"response"}}
CORNERS = {
    "width": (Scale(depth=1, width=math.sqrt(2), resolution=1), (0, 0)),
    "resolution": (Scale(depth=1, width=1, resolution=math.sqrt(2)), (1, 0)),
    "depth": (Scale(depth=2, width=1, resolution=1), (0.5, math.sqrt(3) / 2)),
    "all alike": (
        Scale(depth=2 ** (1 / 3), width=2 ** (1 / 6), resolution=2 ** (1 / 6)),
        (0.5, math.sqrt(3) / 6),
    ),
}


@pytest.fixture(scope="module")
def candidates():
    # At this tolerance the paper's triple, which costs 2.23 times B0, is a candidate.
    return find_candidates(get("efficientnet_b0"), Grid(tolerance=0.13, number=12))


@pytest.fixture(scope="module")
def found(candidates):
    proxy = Proxy(epochs=9, images=1000)
    return {name: search(candidates, proxy, Surface(candidates.baseline, 4).train) for name, search in METHODS.items()}


@pytest.fixture(scope="module")
def contents(found, candidates, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nothing")
    return {name: collect_search_content(one, candidates, folder) for name, one in found.items()}


@pytest.mark.parametrize("name", CORNERS)
@pytest.mark.parametrize("sign", [1, -1])
def test_triangle_corners_and_center_have_expected_coordinates(name, sign):
    place, expected = CORNERS[name]
    turned = Scale(**{key: value**sign for key, value in place.model_dump().items()})
    assert position(shares(turned)) == pytest.approx(expected)


def test_share_is_distance_from_opposite_side():
    # Viviani: the distances of a point from the three sides of an equilateral triangle sum to its height.
    random = np.random.default_rng(0)
    for _ in range(50):
        depth, width, resolution = (float(value) for value in 2 ** random.uniform(0, 1, 3))
        of = shares(Scale(depth=depth, width=width, resolution=resolution))
        total = math.log2(depth * width**2 * resolution**2)
        assert of == pytest.approx([math.log2(depth) / total, 2 * math.log2(width) / total, 1 - of[0] - of[1]])
        x, y = position(of)
        from_sides = (y, HEIGHT * (1 - x) - y / 2, HEIGHT * x - y / 2)
        assert from_sides == pytest.approx([HEIGHT * share for share in of])


def test_unscaled_candidate_has_no_coordinates():
    assert shares(Scale(depth=1, width=1, resolution=1)) is None


def test_lattice_covers_triangle_evenly():
    points = list(lattice(4))
    assert len(set(points)) == len(points) == 15
    assert all(sum(of) == pytest.approx(1) and min(of) >= 0 for of in points)
    assert {(1, 0, 0), (0, 1, 0), (0, 0, 1)} <= set(points)


def test_points_are_drawn_at_corners(contents):
    content = contents["grid"]
    names = list(CORNERS)
    standings = tuple(
        standing.replace(tied=True, accuracy=0.9 - index / 10)
        for index, standing in enumerate(content.result.standings[: len(names)])
    )
    place = {standing.law: CORNERS[name][0] for standing, name in zip(standings, names, strict=True)}
    moved = content.candidates.replace(
        candidates=tuple(
            one.replace(realized=place.get(one.law, one.realized)) for one in content.candidates.candidates
        )
    )
    four = content.replace(result=content.result.replace(standings=standings), candidates=moved, reference=None)
    root = ElementTree.fromstring(triangle(four).svg)
    places = [
        (float(use.get("x")), -float(use.get("y"))) for use in root.iter("{http://www.w3.org/2000/svg}use")
    ]  # down to up
    # Drawn from the worst to the best, so that the best lie on top; keys of the legend follow.
    dots = dict(zip(reversed(CORNERS), places, strict=False))
    (left, base), (right, _) = dots["width"], dots["resolution"]
    side = right - left
    assert side > 300
    for name, (x, y) in dots.items():
        expected = CORNERS[name][1]
        assert ((x - left) / side, (y - base) / side) == pytest.approx(expected, abs=1e-3)


def test_color_levels_cover_all_candidates():
    for low, high in ((0.1, 0.9), (0.701, 0.702), (0.5, 0.5), (0.0, 0.003)):
        edges = levels([low, high], None)
        assert 2 <= len(edges) <= 8
        assert edges == sorted(set(edges))
        assert edges[0] <= low
        assert edges[-1] >= high


def test_response_follows_formula():
    power = Response(
        form="power", dimensions=("depth", "resolution"), coefficients=(0.1, 0.2, 0.3, 0.5, 2.0), networks=9, rms=0,
        leave_one_out_rms=0,
    )  # fmt: skip
    octaves = np.array([[0.0, 5.0, 0.0], [1.0, 5.0, 1.0]])
    expected = [1 - (0.1 + 0.2 + 0.3), 1 - (0.1 + 0.2 * 2**-0.5 + 0.3 * 2**-2.0)]
    assert accuracy_at(power, octaves) == pytest.approx(expected)
    quadratic = Response(
        form="quadratic", dimensions=("width",), coefficients=(-1.0, -0.5, 0.25), networks=9, rms=0, leave_one_out_rms=0
    )
    assert accuracy_at(quadratic, np.array([[3.0, 2.0, 3.0]])) == pytest.approx([1 - math.exp(-1 - 1 + 1)])


def test_shading_at_corners_scales_one_dimension(found, contents):
    content, response = contents["response"], found["response"].response
    by_share = dict(zip(lattice(SHADING_STEPS), shading(content), strict=True))
    grown = octaves(content.candidates)
    alone = {(1, 0, 0): [grown, 0, 0], (0, 1, 0): [0, grown / 2, 0]}
    for corner, multipliers in alone.items():
        assert by_share[corner] == pytest.approx(float(accuracy_at(response, np.array([multipliers]))[0]))
    assert 0.9 < grown < 1.1
    assert shading(contents["grid"]) is None


def test_left_out_error_matches_recorded_error(found, contents):
    pairs = np.array(leave_one_out_predictions(found["response"]))
    missed = math.sqrt(float(np.mean((pairs[:, 0] - pairs[:, 1]) ** 2)))
    assert missed == pytest.approx(found["response"].response.leave_one_out_rms)


def test_paper_coefficients_are_placed_by_rounded_network(contents):
    paper = contents["grid"].reference
    # 1.2 x 16 blocks become 23, one more in almost every stage; 1.15 x 224 px become 256.
    assert paper.realized.depth == pytest.approx(23 / 16)
    assert paper.realized.resolution == pytest.approx(256 / 224)
    assert paper.ratio == pytest.approx(2.23, abs=0.005)


def test_halving_and_response_cost_less_than_exhaustive_search(contents):
    everything = exhaustive_macs(contents["grid"])
    assert contents["grid"].result.training_macs == everything
    for name in ("halving", "response"):
        assert contents[name].result.training_macs < exhaustive_macs(contents[name]) == everything


def test_seeds_and_learning_curves_match_standings(contents):
    for row in standing_rows(contents["grid"]):
        assert len(row.seeds) == 3
        assert np.mean(row.seeds) == pytest.approx(row.standing.accuracy)
    halving = contents["halving"]
    assert [curve.points[-1] for curve in learning_curves(halving)] == [
        (standing.epochs, pytest.approx(standing.accuracy)) for standing in halving.result.standings
    ]


@pytest.mark.parametrize("method", METHODS)
def test_each_method_report_is_complete_and_self_contained(contents, method):
    text = render_search(contents[method])
    assert render_search(contents[method]) == text
    page = Page(text)
    anchors = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert anchors == ALWAYS | OWN[method] | {"main"}
    assert len(page.ids) == len(set(page.ids))
    assert anchors <= set(page.ids)
    assert set(re.findall(r"https?://[^\"' <]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not page.tags & {"script", "link", "iframe", "object", "base", "form"}
    for drawing in re.findall(r"<svg .*?</svg>", text, flags=re.DOTALL):
        ElementTree.fromstring(drawing)
    table = text.split('aria-label="Standings"')[1].split("</table>")[0]
    rows = standing_rows(contents[method])
    assert table.count("<tr>") == len(rows) + 1
    assert all(f"{row.candidate.nominal:.2f}" in table and f"{row.standing.ratio:.2f}" in table for row in rows)


def test_poor_response_fit_gives_no_law(found, candidates, tmp_path):
    unfit = found["response"].response.replace(fits=False, leave_one_out_rms=0.08)
    content = collect_search_content(found["response"].replace(response=unfit), candidates, tmp_path)
    text = render_search(content)
    assert "No scaling law was found" in text
    assert "an error of 8.0 points" in text
    fit = found["response"].replace(response=unfit.replace(fits=True))
    assert collect_search_content(fit, candidates, tmp_path).warnings == ()


def test_unmeasured_latency_is_not_reported(found, candidates, tmp_path):
    measured = candidates.replace(grid=candidates.grid.replace(cost="latency"), candidates=candidates.candidates[:3])
    few = search_grid(measured, Proxy(epochs=9, images=10), Surface(candidates.baseline, 4).train)
    content = collect_search_content(few, measured, tmp_path)
    assert octaves(content.candidates) is None
    assert shading(content) is None
    assert content.reference.ratio is None or content.reference.rank
    assert "2 times the latency of" in render_search(content)


def test_hostile_text_is_escaped(contents):
    bad = samples.HOSTILE + samples.HOSTILE_FILE
    content = contents["response"]
    trials = tuple(trial.replace(network=bad) for trial in content.result.trials)
    hostile = content.replace(
        title=bad, verdict=bad, warnings=(bad,), limitations=(bad,), repeat=(bad,), next_commands=(bad,),
        settings=tuple(samples.NamedValue(name=bad, value=bad) for _ in range(2)),
        result=content.result.replace(baseline=bad, trials=trials), reference=content.reference.replace(name=bad),
    )  # fmt: skip
    page = Page(render_search(hostile))
    assert page.tags <= TAGS | {"time"}
    assert not [item for item in page.attributes if item[1].startswith("on")]
    assert "".join(page.text).count(bad) > len(trials)


def test_one_and_many_candidates_are_supported(contents):
    content = contents["halving"]
    one = content.replace(result=content.result.replace(standings=content.result.standings[:1]))
    Page(render_search(one))
    grid = contents["grid"]
    many = grid.replace(result=grid.result.replace(standings=grid.result.standings[:1] * 60))
    text = render_search(many)
    Page(text)
    assert "35 more follow in the table" in text
    assert "The other 35 candidates" in text


def test_report_is_written_to_search_folder(found, candidates, tmp_path):
    path = write_search_report(found["grid"], candidates, tmp_path)
    assert path == tmp_path / "report.html"
    assert found["grid"].baseline in path.read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize("width", [390, 500, 1280])
def test_no_overflow_and_no_console_messages(tmp_path, contents, width):
    fits(tmp_path, render_search(contents["response"]), width)
