"""Coefficient search end to end, on small images and a tiny baseline."""

from __future__ import annotations

import json
import string

import pytest

from cli.command import refused, run
from conftest import write_classes
from triscale.data.pipeline.split import Split
from triscale.families import get
from triscale.jobs.studies.requests import CoefficientSearchRequest
from triscale.search.coefficients.grid import Candidates
from triscale.search.coefficients.result import CoefficientSearchResult

LETTERS = str.maketrans("", "", string.ascii_letters)
OPTIONS = ("--method", "grid", "--epochs", 1, "--seeds", 0, "--number", 3, "--tolerance", 0.2, "--step", 0.25,
           "--set", "batch=16", "--set", "val_share=0.25")  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("search") / "images", 40)


def test_found_law_is_usable_by_fit_and_second_call_reuses_it(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "search"
    arguments = ("search", "coefficients", folder, "--baseline", tiny_file, "--out", out, *OPTIONS)
    result = run(capsys, *arguments)
    assert result.code == 0, result.err
    assert "law alpha" in result.out
    found = CoefficientSearchResult.load(out / "coefficients.json")
    assert len(found.trials) == 3 == len(found.standings)
    assert all(1.5 < standing.ratio < 2.5 for standing in found.standings)
    split = Split.load(out / "split.json")
    assert not {sample.path for sample in split.test} & {sample.path for sample in (*split.train, *split.val)}
    for trial in (out / "trials").iterdir():
        assert not (trial / "predictions.csv").exists()  # nothing was tested
    before = {path: path.stat().st_mtime_ns for path in (out / "trials").rglob("state-*")}
    again = run(capsys, *arguments, "--json")
    assert json.loads(again.out) == json.loads((out / "coefficients.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in (out / "trials").rglob("state-*")} == before
    laws = [out / "law.json", out / "coefficients.json", out, str(found.law).translate(LETTERS).replace(" ", "")]
    scaled = [run(capsys, "scale", tiny_file, "--law", law, "--phi", 1, "--json") for law in laws]
    assert [one.code for one in scaled] == [0] * 4, scaled[-1].err
    assert len({one.out for one in scaled}) == 1
    assert "a different request" in refused(capsys, *arguments, "--share", 0.5)


def test_invalid_requests_are_rejected(capsys, folder, tiny_file, tmp_path):
    command = ("search", "coefficients", folder, "--baseline", tiny_file)
    assert "is inside the image folder" in refused(capsys, *command, "--out", folder / "search", *OPTIONS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    assert "holds no search" in refused(capsys, *command, "--out", tmp_path / "full", *OPTIONS)
    assert "--workers" in refused(capsys, *command, "--out", tmp_path / "new", *OPTIONS, "--workers", 0)
    line = refused(
        capsys, *command, "--out", tmp_path / "none", "--tolerance", 0, "--step", 0.5, "--set", "val_share=0.25"
    )
    assert "no candidate costs 2x the MACs" in line
    assert "allow a tolerance of" in line


@pytest.mark.stress
def test_share_keeps_class_proportions(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "search"
    arguments = ("search", "coefficients", folder, "--baseline", tiny_file, "--out", out, *OPTIONS, "--share", 0.5)
    result = run(capsys, *arguments)
    assert result.code == 0, result.err
    labels = [sample.label for sample in Split.load(out / "split.json").train]
    assert [labels.count(label) for label in range(3)] == [12, 12, 12]
    assert CoefficientSearchRequest.load(out / "search.json").share == 0.5


@pytest.mark.stress
def test_halving_continues_best_candidates_from_checkpoints(capsys, folder, tiny_file, tmp_path):
    out = tmp_path / "search"
    options = [*OPTIONS, "--set", "learning_rate=0.003"]
    options[options.index("grid")] = "halving"
    options[options.index("--epochs") + 1] = 3
    result = run(capsys, "search", "coefficients", folder, "--baseline", tiny_file, "--out", out, *options)
    assert result.code == 0, result.err
    found = CoefficientSearchResult.load(out / "coefficients.json")
    assert [(trial.start, trial.stop) for trial in found.trials] == [(0, 1)] * 3 + [(1, 3)]
    lengths = sorted(len((trial / "history.jsonl").read_text().splitlines()) for trial in (out / "trials").iterdir())
    assert lengths == [1, 1, 3]
    # The learning rate schedule spans all three epochs from the start, as in an uninterrupted training.
    rates = [
        json.loads((trial / "history.jsonl").read_text().splitlines()[0])["learning_rate"]
        for trial in (out / "trials").iterdir()
    ]
    assert len(set(rates)) == 1


@pytest.mark.stress
def test_candidates_can_be_matched_on_params_or_latency(capsys, folder, tiny_file, tmp_path):
    for cost, tolerance in (("params", 0.2), ("latency", 0.4)):
        out = tmp_path / cost
        options = [*OPTIONS, "--cost", cost]
        options[options.index("--tolerance") + 1] = tolerance
        result = run(capsys, "search", "coefficients", folder, "--baseline", tiny_file, "--out", out, *options)
        assert result.code == 0, result.err
        candidates = Candidates.load(out / "candidates.json")
        assert all(abs(candidate.ratio / 2 - 1) <= tolerance for candidate in candidates.candidates)
        if cost == "params":
            for candidate in candidates.candidates:
                assert candidate.ratio == pytest.approx(candidate.params / candidates.baseline_params)
        before = (out / "candidates.json").read_bytes()
        assert run(capsys, "search", "resume", out).code == 0
        assert (out / "candidates.json").read_bytes() == before


def test_baseline_of_fixed_resolution_is_rejected(capsys, folder, tmp_path):
    options = ("--out", tmp_path / "out", "--set", "val_share=0.25", "--gamma-to", 1.4)
    small = tmp_path / "small.json"
    get("mobilenet_v2").replace(name="small", resolution=16).save(small)
    line = refused(capsys, "search", "coefficients", folder, "--baseline", small, *options)
    assert "the resolution of small (16 px, in steps of 16) does not change for any gamma up to 1.4" in line
    assert "--gamma-to 1 to search depth and width alone" in line
