"""Baseline search end to end, on small images and a tiny skeleton."""

from __future__ import annotations

import json
import re

import optuna
import pytest

from cli.command import refused, run
from conftest import write_classes
from triscale.errors import Interrupted, SearchError
from triscale.families import get
from triscale.jobs.search import search_baseline
from triscale.jobs.studies.requests import BaselineSearchRequest
from triscale.network.latency import NAMES, Predictor, predict
from triscale.network.spec import Network
from triscale.progress import NO_PROGRESS, NullProgress
from triscale.search.baseline.explore import BaselineSearchResult, SearchPlan
from triscale.search.baseline.objective import SearchObjective
from triscale.search.baseline.options import Choices, Options
from triscale.search.baseline.space import make_space
from triscale.search.study.storage import read_storage
from triscale.training.changes import changed, find_recipe
from triscale.training.context import ExecutionContext

OPTIONS = ("--trials", 4, "--batch", 2, "--epochs", 1, "--finalists", 1, "--final-epochs", 2,
           "--set", "batch=16", "--set", "val_share=0.25")  # fmt: skip
FEW = Choices(
    options=(
        Options(
            operations=("mbconv",),
            expansions=(2, 3),
            se_ratios=(0.0,),
            skips=("identity",),
            widths=(1.0,),
            layers=(0, 1),
        ),
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("baseline") / "images", 40)


@pytest.fixture(scope="module")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("spaces") / "few.json"
    FEW.save(path)
    return path


def test_search_result_is_usable_and_second_call_reuses_it(capsys, folder, tiny_file, space_file, tmp_path):
    out = tmp_path / "search"
    arguments = ("search", "baseline", folder, "--skeleton", tiny_file, "--space", space_file, "--target", "0.15M",
                 "--out", out, *OPTIONS)  # fmt: skip
    result = run(capsys, *arguments)
    assert result.code == 0, result.err
    assert "best network few-" in result.out
    found = BaselineSearchResult.load(out / "found.json")
    assert len(found.evaluated) == 4
    assert found.evaluator == "training"
    assert len(found.finalists) == 1
    assert found.finalists[0].epochs == 2
    network = Network.load(out / "network.json")
    assert network == found.network
    assert network.classes == 3
    page = (out / "report.html").read_text()
    assert network.name in page
    assert "Pareto" in page
    before = {path: path.stat().st_mtime_ns for path in out.rglob("state-*")}
    again = run(capsys, *arguments, "--json")
    assert json.loads(again.out) == json.loads((out / "found.json").read_text())
    assert {path: path.stat().st_mtime_ns for path in out.rglob("state-*")} == before

    status = json.loads(run(capsys, "search", "status", out, "--json").out)
    assert status["finished"]
    assert status["done"] == 4
    resumed = run(capsys, "search", "resume", out)
    assert "best network few-" in resumed.out
    with read_storage(out / "finalists" / "study.sqlite") as storage:
        assert optuna.get_all_study_names(storage.rdb) == ["baseline from tiny, finalists"]
    (out / "report.html").unlink()
    assert run(capsys, "report", out).code == 0
    assert (out / "report.html").is_file()
    family = run(capsys, "family", "--baseline", out / "network.json", "--phis", "0..2", "--out", tmp_path / "family")
    assert family.code == 0
    assert len(list((tmp_path / "family").glob("few-*.json"))) == 3
    assert "<svg" in (tmp_path / "family" / "family.svg").read_text()
    assert "holds another family" in refused(
        capsys, "family", "--baseline", out / "network.json", "--phis", "0..1", "--out", tmp_path / "family"
    )
    assert "a different request" in refused(capsys, *arguments, "--strategy", "random")


def search_for(folder, tiny, **changes):
    return BaselineSearchRequest(
        images=str(folder),
        baseline=tiny,
        recipe=changed(find_recipe("small"), ("epochs=1", "batch=16", "val_share=0.25")),
        seeds=(0,),
        space="few",
        choices=FEW,
        **({"objective": SearchObjective(target=150e3), "strategy": "evolution", "plan": SearchPlan(trials=6, batch=2),
           "finalists": 0} | changes),
    )  # fmt: skip


def context(should_stop=lambda: False, progress=NO_PROGRESS):
    return ExecutionContext(should_stop=should_stop, progress=progress)


@pytest.mark.stress
def test_stopped_search_resumes_to_the_same_result(folder, tiny, tmp_path):
    search = search_for(folder, tiny)
    whole = search_baseline(search, tmp_path / "whole", context())

    class Counting(NullProgress):
        notes = 0

        def note(self, text):
            self.notes += "networks" in text

    reporter = Counting()
    with pytest.raises(Interrupted):
        search_baseline(search, tmp_path / "parts", context(lambda: reporter.notes >= 2, reporter))
    assert not (tmp_path / "parts" / "network.json").exists()
    assert search_baseline(search, tmp_path / "parts", context()) == whole


@pytest.mark.stress
def test_supernet_is_trained_once_and_its_ranking_checked(capsys, folder, tiny, tmp_path):
    plan = SearchPlan(trials=8, batch=4)
    search = search_for(folder, tiny, evaluator="supernet", supernet_epochs=2, checked=5, plan=plan, strategy="random")
    found = search_baseline(search, tmp_path / "search", context())
    assert found.ranking is not None
    assert found.ranking.networks == 5
    assert len(found.evaluated) == 8
    assert all(one.training_macs == 0 and one.epochs == 2 for one in found.evaluated)
    assert found.training_macs > 0
    assert any("shared weights" in sentence for sentence in found.limitations)
    assert not list((tmp_path / "search" / "trials").glob("*/checkpoints"))
    assert len(list((tmp_path / "search" / "checked" / "trials").glob("*/checkpoints"))) == 5
    if not found.ranking.trusted:
        assert "Train the supernet longer" in (tmp_path / "search" / "report.html").read_text()


@pytest.mark.stress
def test_latency_is_measured_once_per_network(folder, tiny, tmp_path):
    far_apart = Choices(options=(FEW.options[0].model_copy(update={"expansions": (1, 6), "layers": (0, 12)}),))
    search = search_for(folder, tiny, strategy="random", plan=SearchPlan(trials=3, batch=3),
                        objective=SearchObjective(cost="latency", target=1e-6))  # fmt: skip
    search = search.model_copy(update={"choices": far_apart})
    with pytest.raises(
        SearchError, match=r"has a latency of 1e-06 ms: the smallest takes .* ms and the largest"
    ) as refused:
        search_baseline(search, tmp_path / "search", context())
    assert not (tmp_path / "search").exists()
    low, high = (
        float(text) for text in re.findall(r"takes ([\d.]+) ms and the largest ([\d.]+) ms", str(refused.value))[0]
    )
    search = search.model_copy(update={"objective": SearchObjective(cost="latency", target=(low * high) ** 0.5)})
    found = search_baseline(search, tmp_path / "search", context())
    measured = json.loads((tmp_path / "search" / "times.json").read_text())["milliseconds"]
    assert {one.structure: one.cost for one in found.evaluated}.items() <= measured.items()
    assert search_baseline(search, tmp_path / "search", context()) == found


@pytest.mark.stress
def test_latency_is_predicted_with_profile(folder, tiny, tmp_path):
    predictor = Predictor(
        engine="onnxruntime", threads=1, processor="a phone", milliseconds=dict.fromkeys(NAMES, 0.01), error=0.05,
        error_90=0.1, held_out=10,
    )  # fmt: skip
    space = make_space("few", tiny.replace(classes=3), FEW)
    low, high = (predict(predictor, network) for network in (space.smallest(), space.largest()))
    objective = SearchObjective(cost="latency", target=(low + high) / 2)
    search = search_for(folder, tiny, strategy="random", plan=SearchPlan(trials=3, batch=3), objective=objective)
    search = search.model_copy(update={"predictor": predictor})
    found = search_baseline(search, tmp_path / "search", context())
    assert not (tmp_path / "search" / "times.json").exists()
    for evaluated in found.evaluated:
        assert evaluated.cost == pytest.approx(predict(predictor, found.space.network(evaluated.sample)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "1k"), "no network of the space few costs 1.00k MACs: the smallest has"),
        (("--target", "20MB"), "must be a single limit on MACs, parameters or latency"),
        (("--target", "5M params", "--cost", "macs"), "which limits params"),
        (("--target", "abc"), "cannot read the budget"),
        (("--target", "1M", "--space", "mnasnett"), 'there is no space "mnasnett"; give mnasnet'),
        (
            ("--target", "1M", "--space", "resnet"),
            "stage 0 of tiny has mbconv blocks, for which the space has no options",
        ),
        (("--target", "1M", "--strategy", "ppoo"), "ppoo"),
        (("--target", "1M", "--resolutions", "a"), "whole numbers of pixels"),
        (("--target", "1M", "--exponent", "1"), "less than or equal to 0"),
        (("--target", "1M", "--trials", "0"), "greater than or equal to 1"),
        (("--target", "1M", "--skeleton", "math:floor"), "does not support custom models such as floor"),
        (("--target", "1ms", "--storage", "postgresql://localhost/none"), "work on one machine only"),
    ],
)
def test_invalid_requests_are_rejected(capsys, folder, tiny_file, space_file, tmp_path, options, message):
    given = {"--skeleton": tiny_file, "--space": space_file, "--out": tmp_path / "new"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in given.items() for word in pair]
    assert message in refused(
        capsys, "search", "baseline", folder, *words, *(OPTIONS[2:] if "--trials" in given else OPTIONS)
    )
    assert not (tmp_path / "new" / "trials").exists()
    assert not (tmp_path / "new" / "baseline_search.json").exists()


def test_empty_space_is_rejected(capsys, folder, tiny_file, tmp_path):
    file = tmp_path / "empty.json"
    file.write_text(FEW.to_json().replace('"mbconv"', ""))
    line = refused(capsys, "search", "baseline", folder, "--skeleton", tiny_file, "--space", file, "--target", "1M",
                   "--out", tmp_path / "new", *OPTIONS)  # fmt: skip
    assert "empty space" in line


@pytest.mark.stress
@pytest.mark.parametrize(
    ("skeleton", "space"), [("efficientnetv2_b0", "efficientnet_v2"), ("mobilenet_v4_conv_small", "mobilenet_v4")]
)
def test_spaces_of_newer_blocks_are_searched(capsys, folder, tmp_path, skeleton, space):
    get(skeleton).replace(resolution=32).save(tmp_path / "skeleton.json")
    arguments = ("search", "baseline", folder, "--skeleton", tmp_path / "skeleton.json", "--space", space,
                 "--target", "6M", "--trials", 2, "--epochs", 1, "--batch", 2, "--finalists", 0,
                 "--set", "val_share=0.25", "--out", tmp_path / "found")  # fmt: skip
    result = run(capsys, *arguments)
    assert result.code == 0, result.err
    found = BaselineSearchResult.load(tmp_path / "found" / "found.json")
    assert found.space.find(found.network.replace(classes=found.space.skeleton.classes)) is not None
