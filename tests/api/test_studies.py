"""Searches, comparisons and measurements from Python give what the commands give."""

from __future__ import annotations

import json

import pytest

import triscale as ts
from cli.command import run as command
from conftest import write_classes
from triscale.search.coefficients.grid import Grid

FAST = {"epochs": 1, "seeds": (0,), "settings": {"batch": 16, "val_share": 0.25}, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("studies") / "images", 40)


@pytest.mark.stress
def test_coefficient_search_gives_a_law_for_a_fit(folder, tiny, tmp_path):
    grid = Grid(step=0.5, tolerance=0.3, number=2)
    result = ts.search_coefficients(folder, tiny, tmp_path / "search", grid=grid, **FAST)
    assert len(result.standings) == 2
    assert ts.fit_budget(tiny, tmp_path / "search", "300k").law == result.law
    again = ts.search_coefficients(folder, tiny, tmp_path / "search", grid=grid, **FAST)
    assert again.law == result.law
    with pytest.raises(ts.TriscaleError, match="different request"):
        ts.search_coefficients(folder, tiny, tmp_path / "search", grid=Grid(step=0.4, tolerance=0.3), **FAST)


@pytest.mark.stress
def test_comparison_equals_that_of_the_command(capsys, folder, tiny_file, tmp_path):
    result = ts.compare(folder, tiny_file, tmp_path / "api", times=2, **FAST)
    arguments = ("--times", 2, "--epochs", 1, "--seeds", 0, "--set", "batch=16", "--set", "val_share=0.25",
                 "--json")  # fmt: skip
    printed = command(capsys, "compare", folder, "--baseline", tiny_file, "--out", tmp_path / "cli", *arguments)
    assert json.loads(result.to_json())["outcomes"] == json.loads(printed.out)["outcomes"]
    assert (tmp_path / "api" / "report.html").is_file()


@pytest.mark.stress
def test_baseline_search_gives_a_network(folder, tiny, tmp_path):
    options = {"trials": 2, "batch": 2, "finalists": 0, "strategy": "random", "space": "tiny"}
    result = ts.search_baseline(folder, "200k", tmp_path / "search", skeleton=tiny, **options, **FAST)
    assert ts.cost(tmp_path / "search" / "network.json").macs == ts.cost(result.network).macs


def test_family_members_follow_the_law():
    result = ts.family("mobilenet_v2", "1.2,1.1,1.15", [0, 1])
    assert result.members[0].macs == ts.cost("mobilenet_v2").macs
    assert result == ts.family(ts.get("mobilenet_v2"), phis="0..1")


@pytest.mark.stress
def test_latency_is_measured(tiny, trained_run):
    (measurement,) = ts.measure(tiny, engines="torch", progress=False)
    assert measurement.median_ms > 0
    assert ts.measure(trained_run, engines=["torch"], progress=False)[0].engine == measurement.engine
    paired = ts.compare_latency([tiny, "resnet18@32"], engines="torch", progress=False)
    assert [one.name for one in paired.networks] == ["tiny", "resnet18@32"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, o: ts.search_coefficients(f, "resnet18", o, seeds=(1, 1)), "a seed twice"),
        (lambda f, o: ts.search_coefficients(f, "resnet18", o, workers=0), "0 workers"),
        (lambda f, o: ts.search_coefficients(f, "resnet18", o, method="best"), "method"),
        (lambda f, o: ts.search_baseline(f, "1GB", o), "single limit"),
        (lambda f, o: ts.search_baseline(f, "1M", o, space="none"), "there is no space"),
        (lambda f, o: ts.compare(f, "resnet18", o, share=3), "share"),
        (lambda f, o: ts.compare(f / "nothing", "resnet18@32", o), "nothing"),
        (lambda f, o: ts.family("resnet18", phis="x"), "phi"),
        (lambda f, o: ts.measure("resnet18", engines="tensorrt"), "there is no engine"),
        (lambda f, o: ts.measure("resnet18", threads=0), "0 threads"),
        (lambda f, o: ts.compare_latency(["resnet18"]), "two subjects"),
        (lambda f, o: ts.profile(o / "p.json", engine="onnx"), "onnx"),
    ],
)
def test_errors_are_sentences(folder, tmp_path, call, message):
    with pytest.raises(ts.TriscaleError, match=message) as caught:
        call(folder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
