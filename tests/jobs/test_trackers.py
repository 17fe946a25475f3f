"""Experiment trackers: what they record, how they resume, and that their failures leave the training alone."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import triscale as ts
from cli.command import refused
from conftest import write_classes
from training.processes import free_port
from triscale.cli.support.hints import hint_for
from triscale.jobs import fit as jobs_fit
from triscale.jobs.training.trackers.log import TRACKERS, TrainingLog
from triscale.jobs.training.trackers.mlflow import PATIENCE, _patience

OPTIONS = {"epochs": 3, "batch_size": 16, "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("tracked") / "images", 12)


@pytest.fixture(scope="module")
def untracked(folder, tiny) -> ts.Run:
    return ts.train(folder, tiny, out=folder.parent / "untracked", **OPTIONS)


@pytest.fixture(scope="module")
def database(tmp_path_factory) -> str:
    """A database of MLflow; creating its tables takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def client(database, tmp_path, monkeypatch):
    tracking = pytest.importorskip("mlflow.tracking", reason="needs the extra mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "flowers")
    monkeypatch.chdir(tmp_path)  # local artifacts lie in ./mlruns
    return tracking.MlflowClient()


@pytest.fixture
def offline(monkeypatch):
    pytest.importorskip("wandb.sdk", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "flowers")
    monkeypatch.setenv("WANDB_SILENT", "true")


def history(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def offline_records(run: Path) -> list:
    """Read the records of all offline runs of W&B: LevelDB's log format, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2 as messages

    found = []
    for file in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        data, position, parts = file.read_bytes(), 7, b""
        while position + 7 <= len(data):
            _, length, kind = struct.unpack_from("<IHB", data, position)
            if kind == 0 or 32768 - position % 32768 < 7:  # the rest of a block is padding
                position += 32768 - position % 32768
                continue
            parts += data[position + 7 : position + 7 + length]
            position += 7 + length
            if kind in (1, 4):  # a whole record, or its last part
                record = messages.Record()
                record.ParseFromString(parts)
                found.append(record)
                parts = b""
    return found


def items(entries) -> dict[str, object]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in entries}


def test_tensorboard_shows_every_epoch_parameters_and_results(folder, tiny, tmp_path, untracked, stop_after):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    stop_after()
    with pytest.raises(ts.Interrupted):
        ts.train(folder, tiny, out=out, log="tensorboard", **OPTIONS)
    for _ in range(2):  # it resumes, and runs once more after the end
        run = ts.train(folder, tiny, out=out, log="tensorboard", **OPTIONS)
    read = reader.EventAccumulator(str(out / "tensorboard"))
    read.Reload()
    shown = read.Scalars("accuracy/val_top1")
    assert [event.step for event in shown] == [epoch["step"] for epoch in history(out)]
    assert [event.value for event in shown] == pytest.approx([epoch["val_top1"] for epoch in history(out)])
    assert read.Scalars("test/top1")[0].value == pytest.approx(run.metrics.top1)
    (text,) = read.Tensors("parameters/text_summary")
    assert b"| recipe.optimizer.kind | adamw |" in text.tensor_proto.string_val[0]
    assert weights(out) == weights(untracked.path)


def test_pretrained_weights_are_epoch_0(folder, tiny, tmp_path, untracked):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    ts.train(folder, tiny, out=out, weights=untracked.path, log="tensorboard", **OPTIONS)
    read = reader.EventAccumulator(str(out / "tensorboard"))
    read.Reload()
    steps = [epoch["step"] for epoch in history(out)]
    assert [event.step for event in read.Scalars("accuracy/val_top1")] == steps
    assert steps[0] == 0
    assert [event.step for event in read.Scalars("loss/train")] == steps[1:]


def test_mlflow_records_parameters_metrics_and_report(client, folder, tiny, tmp_path, untracked):
    out = tmp_path / "tulips"
    for _ in range(2):
        run = ts.train(folder, tiny, out=out, log=["mlflow"], **OPTIONS)
    experiment = client.get_experiment_by_name("flowers").experiment_id
    (found,) = client.search_runs([experiment], "run_name = 'tulips'")
    expected = {
        "network": tiny.name, "macs": str(ts.cost(tiny).macs), "images": "images", "seed": "0", "num_classes": "3",
        "recipe.epochs": "3", "recipe.optimizer.kind": "adamw", "recipe.augmentation.flip": "True",
    }  # fmt: skip
    assert expected.items() <= found.data.params.items()
    curve = client.get_metric_history(found.info.run_id, "loss/val")
    assert [(point.step, point.value) for point in curve] == [(one["step"], one["val_loss"]) for one in history(out)]
    assert found.data.metrics["test/top1"] == run.metrics.top1
    assert len(client.get_metric_history(found.info.run_id, "test/top1")) == 1
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["report.html"]
    assert found.info.status == "FINISHED"
    assert weights(out) == weights(untracked.path)


def test_stopped_training_continues_its_mlflow_run(client, folder, tiny, tmp_path, stop_after):
    out = tmp_path / "resumed"
    stop_after()
    with pytest.raises(ts.Interrupted):
        ts.train(folder, tiny, out=out, log="mlflow", **OPTIONS)
    run_id = json.loads((out / "mlflow.json").read_text())["run_id"]
    assert client.get_run(run_id).info.status == "KILLED"
    assert len(client.get_metric_history(run_id, "loss/val")) == 1
    ts.train(folder, tiny, out=out, log="mlflow", **OPTIONS)
    steps = [point.step for point in client.get_metric_history(run_id, "loss/val")]
    assert steps == [epoch["step"] for epoch in history(out)]
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.stress
def test_wandb_records_offline_and_resumes(offline, folder, tiny, tmp_path, untracked, stop_after):
    out = tmp_path / "tulips"
    stop_after()
    with pytest.raises(ts.Interrupted):
        ts.train(folder, tiny, out=out, log="wandb", **OPTIONS)
    for _ in range(2):
        run = ts.train(folder, tiny, out=out, log="wandb", **OPTIONS)
    assert len(list(out.glob("wandb/offline-run-*"))) == 2  # a complete one is not begun again
    records = offline_records(out)
    begun = [record.run for record in records if record.HasField("run")]
    run_id = json.loads((out / "wandb.json").read_text())["run_id"]
    assert {(one.run_id, one.display_name, one.project) for one in begun} == {(run_id, "tulips", "flowers")}
    assert items(begun[0].config.update)["recipe.epochs"] == 3
    rows = [items(record.history.item) for record in records if record.HasField("history")]
    curve = [(row["_step"], row["loss/val"]) for row in rows if "loss/val" in row]
    assert curve == [(epoch["step"], epoch["val_loss"]) for epoch in history(out)]
    summary = [items(record.summary.update) for record in records if record.HasField("summary")]
    assert {key: value for one in summary for key, value in one.items()}["test/top1"] == run.metrics.top1
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [255, 0]
    assert not any(name.startswith("wandb/") for name in (out / "manifest.json").read_text().split('"'))
    assert weights(out) == weights(untracked.path)


@pytest.mark.process
@pytest.mark.stress
def test_only_the_first_process_records(folder, tiny_file, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    command = [
        *("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port()), "-m", "triscale"),
        "--",  # torch.distributed.run takes --log for the beginning of its own options
        *("train", folder, "--network", tiny_file, "--epochs", "2", "--batch", "16", "--set", "micro_batches=2"),
        *("--device", "cpu", "--threads", "1", "--out", out, "--log", "tensorboard"),
    ]
    subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=150)
    read = reader.EventAccumulator(str(out / "tensorboard"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss/val")] == [epoch["step"] for epoch in history(out)]


class Broken:
    """A tracker whose methods fail from a number of calls on."""

    def __init__(self, works: int) -> None:
        self.works, self.calls = works, []

    def __getattr__(self, name):
        def call(*arguments, **named):
            self.calls.append(name)
            if len(self.calls) > self.works:
                raise OSError(28, "No space left on device")
            return "somewhere"

        return call


@pytest.mark.parametrize("works", [1, 2, 4])
def test_failing_tracker_does_not_end_the_training(monkeypatch, folder, tiny, tmp_path, untracked, works):
    broken = Broken(works)
    monkeypatch.setitem(TRACKERS, "mlflow", lambda: broken)
    notes = []
    monkeypatch.setattr(jobs_fit, "TrainingLog", lambda names, note: TrainingLog(names, notes.append))
    run = ts.train(folder, tiny, out=tmp_path / "run", log="mlflow", **OPTIONS)
    assert weights(run.path) == weights(untracked.path)
    assert len(broken.calls) == works + 1  # not used any more
    assert [note for note in notes if "No space left" in note] == notes[1:]
    assert "the training continues without it" in notes[1]


def test_tracker_that_cannot_start_is_refused_before_training(monkeypatch, folder, tiny, tmp_path):
    monkeypatch.setitem(TRACKERS, "mlflow", lambda: Broken(0))
    with pytest.raises(ts.UserError, match=r"mlflow cannot be used.*No space left"):
        ts.train(folder, tiny, out=tmp_path / "run", log="mlflow", **OPTIONS)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(("name", "module"), [("mlflow", "mlflow"), ("wandb", "wandb"), ("tensorboard", "tensorboard")])
def test_missing_package_is_refused_before_anything_begins(
    monkeypatch, capsys, folder, tiny_file, tmp_path, name, module
):
    for known in [known for known in sys.modules if known.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, module, None)
    out = tmp_path / "run"
    line = refused(capsys, "train", folder, "--network", tiny_file, "--out", out, "--log", name)
    assert f"pip install 'triscale[{name}]'" in line
    assert not out.exists()


def test_folder_named_wandb_is_not_the_package(monkeypatch, tmp_path):
    for known in [known for known in sys.modules if known.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, known)
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(path for path in sys.path if "site-packages" not in path)])
    with pytest.raises(ts.UserError, match="is not installed"):
        TRACKERS["wandb"]()


def test_names_of_trackers(capsys, folder, tiny_file):
    given = ("train", folder, "--network", tiny_file, "--dry-run")
    assert 'no experiment tracker "mlfow"; did you mean mlflow?' in refused(capsys, *given, "--log", "mlfow")
    assert "the trackers are tensorboard, mlflow, wandb" in refused(capsys, *given, "--log", "tensorboard,neptune")
    assert "--log tensorboard" in refused(capsys, *given, "--tensorboard")
    assert hint_for("--report-to") == "--log tensorboard, mlflow or wandb"


def test_patience_with_a_server_is_limited_unless_the_environment_says(monkeypatch):
    first, second = PATIENCE
    monkeypatch.setenv(first, "9")
    monkeypatch.delenv(second, raising=False)
    with _patience():
        assert (os.environ[first], os.environ[second]) == ("9", PATIENCE[second])
    assert (os.environ[first], os.environ.get(second)) == ("9", None)
