"""Baseline search in a table of accuracies: from the command line to the report, without training."""

from __future__ import annotations

import csv
import gzip
import json
import random
import statistics
from pathlib import Path

import pytest

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from search.test_accuracy_table import ACCEL, rows_of_space, write_table
from triscale.errors import Interrupted
from triscale.jobs.search import search_baseline
from triscale.jobs.studies.requests import BaselineSearchRequest
from triscale.network.spec import Network
from triscale.progress import NullProgress
from triscale.search.baseline.explore import BaselineSearchResult
from triscale.search.baseline.space import around
from triscale.search.baseline.strategies import STRATEGIES
from triscale.training.context import ExecutionContext

TARGET = 0.15e6


@pytest.fixture(scope="module")
def rows(tiny):
    rng = random.Random(3)
    return [row | {"accuracy": round(0.5 + 0.4 * rng.random(), 4)} for row in rows_of_space(around(tiny, "tiny"))]


@pytest.fixture(scope="module")
def table_file(rows, tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("tables") / "own.csv", rows)


@pytest.fixture
def arguments(tiny_file, tmp_path):
    return ("--skeleton", tiny_file, "--space", "tiny", "--target", "0.15M", "--out", tmp_path / "found")


def choices_of(network):
    return {
        f"block{number}_{name}": getattr(stage.block, name.rstrip("s"))
        for number, stage in enumerate(network.stages)
        for name in ("kernels", "expansions")
    }


def best_row(rows, tiny):
    """Return the row of the greatest reward, with MACs of networks that are made without a space."""

    def reward(row):
        stages = tuple(
            stage.replace(
                block=stage.block.replace(kernel=row[f"block{i}_kernels"], expansion=row[f"block{i}_expansions"])
            )
            for i, stage in enumerate(tiny.stages)
        )
        return row["accuracy"] * (ts.cost(tiny.replace(stages=stages)).macs / TARGET) ** -0.07

    return max(rows, key=reward)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_best_row_is_found_when_all_are_evaluated(capsys, table_file, rows, tiny, arguments, tmp_path, strategy):
    result = run(capsys, "search", "baseline", "--evaluator", f"table:{table_file}", *arguments,
                 "--trials", 16, "--batch", 3, "--strategy", strategy)  # fmt: skip
    assert result.code == 0, result.err
    found, best = BaselineSearchResult.load(tmp_path / "found" / "found.json"), best_row(rows, tiny)
    assert len(found.evaluated) == 16
    assert choices_of(found.network) == {name: value for name, value in best.items() if name != "accuracy"}
    assert found.evaluated[found.best].accuracy == best["accuracy"]
    by_choices = {tuple(row.values())[:-1]: row["accuracy"] for row in rows}
    for one in found.evaluated:
        chosen = choices_of(found.space.network(one.sample))
        assert one.accuracy == by_choices[tuple(chosen[name] for name in list(rows[0])[:-1])]


def test_everything_says_that_nothing_was_trained(capsys, table_file, arguments, tmp_path):
    command = ("search", "baseline", "--evaluator", f"table:{table_file}", *arguments, "--trials", 6)
    out = tmp_path / "found"
    result = run(capsys, *command)
    assert "nothing was trained" in " ".join(result.out.split())
    found = BaselineSearchResult.load(out / "found.json")
    assert found.table.file == "own.csv"
    assert len(found.table.sha256) == 64
    assert (found.evaluator, found.proxy, found.training_macs, found.finalists) == ("table", None, 0, ())
    assert all(one.epochs == one.training_macs == 0 for one in found.evaluated)
    assert any("nothing was trained: the accuracies of 6 of 16 networks" in line for line in found.limitations)
    assert Network.load(out / "network.json") == found.network
    assert not (out / "trials").exists()

    assert json.loads(run(capsys, *command, "--json").out) == json.loads((out / "found.json").read_text())
    page = (out / "report.html").read_text()
    assert found.table.sha256 in page
    assert page.count("nothing was trained") >= 2
    assert "accuracy in the table" in page
    assert "validation images" not in page
    (out / "report.html").unlink()
    assert run(capsys, "report", out).code == 0
    assert (out / "report.html").is_file()

    status = run(capsys, "search", "status", out).out
    assert "6 accuracies read from" in status
    assert "training runs" not in status
    assert json.loads(run(capsys, "search", "status", out, "--json").out)["done"] == 6
    assert run(capsys, "search", "export", out, tmp_path / "trials.csv").code == 0
    with (tmp_path / "trials.csv").open() as lines:
        assert {row["worker"] for row in csv.DictReader(lines)} == {"table own.csv"}
    assert f"best network {found.network.name}" in run(capsys, "search", "resume", out).out


def test_a_stopped_search_resumes_to_the_same_result(capsys, table_file, arguments, tmp_path):
    command = ("search", "baseline", "--evaluator", f"table:{table_file}", *arguments, "--trials", 12, "--batch", 3,
               "--strategy", "evolution")  # fmt: skip
    whole = json.loads(run(capsys, *command, "--json").out)
    request = BaselineSearchRequest.load(tmp_path / "found" / "baseline_search.json")

    class Counting(NullProgress):
        notes = 0

        def note(self, text):
            self.notes += "networks" in text

    reporter, parts = Counting(), tmp_path / "parts"
    with pytest.raises(Interrupted):
        search_baseline(request, parts, ExecutionContext(should_stop=lambda: reporter.notes >= 2, progress=reporter))
    assert not (parts / "found.json").exists()
    status = json.loads(run(capsys, "search", "status", parts, "--json").out)
    assert (status["done"], status["finished"]) == (6, False)
    assert json.loads(run(capsys, "search", "resume", parts, "--json").out) == whole
    assert json.loads(run(capsys, "search", "status", parts, "--json").out)["done"] == 12


def test_a_search_does_not_resume_in_another_table(capsys, rows, arguments, tmp_path):
    file, out = write_table(tmp_path / "own.csv", rows), tmp_path / "found"
    command = ("search", "baseline", *arguments, "--trials", 4, "--evaluator")
    assert run(capsys, *command, f"table:{file}").code == 0
    before = (out / "found.json").read_bytes()
    write_table(file, [row | {"accuracy": 0.5} for row in rows])
    assert "began with the table" in refused(capsys, *command, f"table:{file}")
    assert "is another table" in refused(capsys, "search", "resume", out)
    file.unlink()
    assert "cannot read the table" in refused(capsys, "search", "resume", out)
    assert (out / "found.json").read_bytes() == before


def test_the_result_of_a_search_is_a_table(table_file, tiny_file, rows, tmp_path):
    common = {"trials": 10, "progress": False}
    first = ts.search_baseline(
        None, "0.15M", tmp_path / "first", skeleton=tiny_file, space="tiny", evaluator=f"table:{table_file}", **common
    )
    # Skeleton and space are those of the result.
    for folder in (tmp_path / "first", tmp_path / "first" / "found.json"):
        again = ts.search_baseline(
            None, "0.2M", tmp_path / f"again {folder.name}", evaluator=f"table:{folder}", strategy="random", **common
        )
        assert again.space == first.space
        assert again.table.file == "first/found.json"
        assert {one.structure: one.accuracy for one in again.evaluated} == {
            one.structure: one.accuracy for one in first.evaluated
        }


@pytest.mark.stress
def test_trainings_of_an_earlier_search_are_a_table(capsys, tiny_file, tmp_path):
    images, out = write_classes(tmp_path / "images", 40), tmp_path / "trained"
    trained = run(capsys, "search", "baseline", images, "--skeleton", tiny_file, "--space", "tiny", "--target", "0.15M",
                  "--out", out, "--trials", 4, "--epochs", 1, "--finalists", 0,
                  "--set", "batch=16", "--set", "val_share=0.25", "--json")  # fmt: skip
    result = run(capsys, "search", "baseline", "--evaluator", f"table:{out}", "--target", "0.15M", "--trials", 4,
                 "--strategy", "random", "--out", tmp_path / "replayed", "--json")  # fmt: skip
    assert result.code == 0, result.err

    def accuracies(text):
        return {one["structure"]: (one["accuracy"], one["error"]) for one in json.loads(text)["evaluated"]}

    assert accuracies(result.out) == accuracies(trained.out)


@pytest.mark.skipif(not ACCEL.is_file(), reason="the published table is not part of the repository")
def test_accel_nasbench_answers_with_its_own_rows(capsys, tmp_path):
    result = run(capsys, "search", "baseline", "--evaluator", f"table:{ACCEL}", "--target", "300M", "--trials", 30,
                 "--strategy", "evolution", "--out", tmp_path / "found", "--json")  # fmt: skip
    assert result.code == 0, result.err
    found = BaselineSearchResult.load(tmp_path / "found" / "found.json")
    with gzip.open(ACCEL, "rt") as lines:
        published = list(csv.DictReader(lines))
    assert len(found.evaluated) == 30
    for one in found.evaluated:
        stages = found.space.network(one.sample).stages
        accuracies = [
            float(row["top1"]) / 100
            for row in published
            if all(
                (int(row[f"block{i}_k"]), int(row[f"block{i}_e"]), int(row[f"block{i}_l"]), int(row[f"block{i}_se"]))
                == (stage.block.kernel, stage.block.expansion, stage.repeats, int(stage.block.se_ratio > 0))
                for i, stage in enumerate(stages)
            )
        ]
        assert one.accuracy == pytest.approx(statistics.mean(accuracies))
    assert "holds networks around efficientnet_b0, and the skeleton given is mobilenet_v2" in refused(
        capsys, "search", "baseline", "--evaluator", f"table:{ACCEL}", "--target", "300M", "--out", tmp_path / "new",
        "--skeleton", "mobilenet_v2",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [{"id": 1, "accuracy": 0.5}], "has no column block0_kernels and 3 others"),
        (lambda rows: [{k: v for k, v in row.items() if k != "block1_kernels"} for row in rows],
         "has no column block1_kernels; a table of the space tiny around tiny"),
        (lambda rows: [rows[0] | {"block1_kernels": 7}], 'line 2: block1_kernels is "7", and the space tiny has 3, 5'),
        (lambda rows: [rows[0] | {"block1_expansions": ""}], 'line 2: block1_expansions is ""'),
        (lambda rows: [row | {"block2_kernels": 3} for row in rows], "and tiny has the blocks 0 to 1"),
        (lambda rows: [{k: v for k, v in row.items() if k != "accuracy"} for row in rows],
         "has none of the columns accuracy (a share from 0 to 1) and accuracy_percent"),
        (lambda rows: [row | {"accuracy_percent": 50} for row in rows], "has both of the columns accuracy"),
        (lambda rows: [rows[0], rows[1] | {"accuracy": "nan"}], 'line 3: accuracy is "nan"; give a number from 0 to 1'),
        (lambda rows: [rows[0] | {"accuracy": ""}], 'line 2: accuracy is ""'),
        (lambda rows: [rows[0] | {"accuracy": 93.5}], "name the column accuracy_percent if it is in percent"),
        (lambda rows: rows[:15], "has 15 different networks, fewer than the 16 evaluations; give --trials 15"),
        (lambda rows: [{"arch": "0", "acc0": 1, "acc1": 1, "acc2": 1}], "is NAS-Bench-Macro"),
    ],
)  # fmt: skip
def test_unsuitable_tables_are_refused(capsys, rows, arguments, tmp_path, change, message):
    file = write_table(tmp_path / "own.csv", change(rows))
    assert message in refused(capsys, "search", "baseline", "--evaluator", f"table:{file}", *arguments, "--trials", 16)
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("own.csv", b"", "is empty"),
        ("own.csv", b"\n\n", "is empty"),
        ("own.csv", b"accuracy,accuracy\n0.5,0.5\n", "has two columns named accuracy"),
        ("own.csv", b"accuracy\n0.5,3\n", "has no column block0_kernels"),
        ("own.csv", b'block0_kernels,block0_expansions,block1_kernels,block1_expansions,accuracy\n3,3,3\n',
         "line 2 has 3 cells, and the header has 5"),
        ("own.csv", b"block0_kernels,block0_expansions,block1_kernels,block1_expansions,accuracy\n", "holds no rows"),
        ("own.csv", b'"accuracy\n', "give a CSV file"),
        ("own.csv", b"\xff\xfe", "give a CSV file in UTF-8"),
        ("own.csv.gz", b"accuracy\n", "give a CSV file in UTF-8"),
        ("own.csv.gz", gzip.compress(b"accuracy\n" * 99)[:-20], "give a CSV file in UTF-8"),
        ("own.txt", b"accuracy\n", "its name ends in none of .csv, .csv.gz, .json"),
        ("own.json", b"{}", "expected a found_baseline record"),
    ],
)  # fmt: skip
def test_other_files_are_refused(capsys, arguments, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in refused(
        capsys, "search", "baseline", "--evaluator", f"table:{tmp_path / name}", *arguments, "--trials", 1
    )
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--halving",), "--halving stops trainings early, and a search in a table trains nothing"),
        (("--dry-run",), "--dry-run estimates trainings, and a search in a table trains nothing"),
        (("--storage", "postgresql://localhost/none"), "--storage shares trainings between machines"),
        (("--target", "1k"), "no network of the space tiny costs 1.00k MACs"),
        (("--strategy", "random", "--search-seed", "-1"), "a seed is a whole number from 0"),
        (("--skeleton", "math:floor"), "does not support custom models such as floor"),
        (("--evaluator", "table:"), "names no file"),
        (("--evaluator", "table"), "names no file"),
        (("--evaluator", "table:none.csv"), "cannot read the table"),
        (("--evaluator", "tabel:own.csv"), 'there is no evaluator "tabel:own.csv"'),
        (("--evaluator", "trainning"), "did you mean training?"),
        (("--evaluator", "supernet"), "needs images to train on"),
    ],
)
def test_options_that_do_not_fit_a_table_are_refused(capsys, table_file, tiny_file, tmp_path, options, message):
    given = {"--skeleton": tiny_file, "--space": "tiny", "--target": "0.15M", "--out": tmp_path / "found",
             "--evaluator": f"table:{table_file}", "--trials": 8}  # fmt: skip
    pairs = [word for name, value in given.items() if name not in options for word in (name, value)]
    assert message in refused(capsys, "search", "baseline", *pairs, *options)
    assert not (tmp_path / "found").exists()


def test_images_are_refused_with_a_table(capsys, table_file, arguments, tmp_path):
    line = refused(capsys, "search", "baseline", tmp_path, "--evaluator", f"table:{table_file}", *arguments)
    assert "needs no images" in line
    assert "needs images to train on" in refused(capsys, "search", "baseline", *arguments)


def test_a_result_is_refused_for_another_baseline(capsys, table_file, arguments, tmp_path):
    assert run(capsys, "search", "baseline", "--evaluator", f"table:{table_file}", *arguments, "--trials", 4).code == 0
    again = ("search", "baseline", "--evaluator", f"table:{tmp_path / 'found'}", "--target", "0.15M", "--trials", 4,
             "--out", Path(tmp_path / "new"))  # fmt: skip
    assert "the skeleton given is mobilenet_v2" in refused(capsys, *again, "--skeleton", "mobilenet_v2")
    assert "whose choices differ from those of small" in refused(capsys, *again, "--space", "small")
