"""Predictions to files, from standard input, and exit codes for pipelines."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from cli.command import refused, run
from triscale.jobs.inference import predict as job


@pytest.fixture
def photos(trained_run, tmp_path):
    folder = shutil.copytree(trained_run.parent / "images" / "red", tmp_path / "photos")
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


def rows_of(file):
    if file.suffix == ".csv":
        return [(row["file"], row["class"], row["error"]) for row in csv.DictReader(file.open())]
    if file.suffix == ".jsonl":
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [(one["file"], one["classes"][0]["name"] if one["classes"] else "", one["error"] or "") for one in lines]
    table = parquet.read_table(file).to_pylist()
    return [(row["file"], row["class"] or "", row["error"] or "") for row in table]


def test_pipe_is_read_where_it_is_named(capsys, trained_run, photos, tmp_path):
    photo, pipe = sorted(photos.glob("0*.png"))[0], tmp_path / "pipe"
    expected = json.loads(run(capsys, "predict", trained_run, photo, "--json").out)[0]
    os.mkfifo(pipe)
    commands = (("predict", trained_run, pipe, "--json"), ("explain", trained_run, pipe, "--out", tmp_path / "maps"))
    for arguments in commands:
        writer = threading.Thread(target=lambda: pipe.write_bytes(photo.read_bytes()))
        writer.start()
        result = run(capsys, *arguments)
        writer.join()
        assert result.code == 0, result.err
        if arguments[0] == "predict":
            assert json.loads(result.out)[0]["classes"] == expected["classes"]
    writer = threading.Thread(target=lambda: pipe.write_bytes(bytes(100)))
    writer.start()
    result = run(capsys, "predict", trained_run, pipe)
    writer.join()
    assert (result.code, "not an image" in result.err) == (1, True)
    pipe.rename(photos / "pipe.png")  # in a folder it is not opened
    result = run(capsys, "predict", trained_run, photos)
    assert "pipe.png: not a regular file" in result.err


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_file_holds_every_image_once(capsys, trained_run, photos, tmp_path, suffix):
    out = tmp_path / f"predictions{suffix}"
    result = run(capsys, "predict", trained_run, photos, "--out", out)
    assert result.code == 0, result.err
    assert "31 predictions written" in result.out
    assert "broken.png" in result.err
    rows = rows_of(out)
    assert [file for file, _, _ in rows] == sorted(str(path) for path in photos.iterdir())
    printed = json.loads(run(capsys, "predict", trained_run, photos, "--json").out)
    assert [name for _, name, _ in rows] == [one["classes"][0]["name"] if one["classes"] else "" for one in printed]
    assert sum(bool(error) for _, _, error in rows) == 1


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_interrupted_file_is_continued(capsys, trained_run, photos, tmp_path, monkeypatch, suffix):
    out, whole = tmp_path / f"predictions{suffix}", tmp_path / f"whole{suffix}"
    assert run(capsys, "predict", trained_run, photos, "--out", whole).code == 0
    decoded = []

    def failing(file, *arguments):
        decoded.append(file)
        if len(decoded) == 9:
            raise KeyboardInterrupt
        return decode(file, *arguments)

    decode = job.decode
    monkeypatch.setattr(job, "decode", failing)
    assert run(capsys, "predict", trained_run, photos, "--out", out).code == 130
    part = out.with_name(out.name + ".part") if suffix == ".parquet" else out
    with part.open("a") as stream:
        stream.write('"cut in the mid')
    result = run(capsys, "predict", trained_run, photos, "--out", out)
    assert result.code == 0
    assert "23 predictions written" in result.out
    assert "8 were there already" in result.out
    assert rows_of(out) == rows_of(whole)
    assert not list(tmp_path.glob("*.part"))


def test_paths_are_read_from_standard_input(capsys, trained_run, photos, monkeypatch):
    files = sorted(photos.glob("00*.png"))[:3]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{file}\n" for file in files)))
    printed = json.loads(run(capsys, "predict", trained_run, "-", "--json").out)
    assert [one["file"] for one in printed] == [str(file) for file in files]


def test_exit_code_is_1_if_nothing_could_be_read(capsys, trained_run, photos, tmp_path):
    result = run(capsys, "predict", trained_run, photos / "broken.png")
    assert result.code == 1
    assert "none of the 1 files could be read" in result.err
    assert run(capsys, "predict", trained_run, photos / "broken.png", "--out", tmp_path / "a.csv").code == 1
    assert run(capsys, "predict", trained_run, photos / "broken.png", "--json").code == 1


def test_evaluation_fails_below_a_share(capsys, trained_run, tmp_path):
    folder = shutil.copytree(trained_run, tmp_path / "run")
    tensors = load_file(folder / "model.safetensors")
    tensors["head.classifier.weight"].zero_()  # every image gets the class with the highest bias: a third is right
    save_file(tensors, folder / "model.safetensors")
    assert json.loads(run(capsys, "evaluate", folder, "--json").out)["top1"] == pytest.approx(1 / 3)
    assert run(capsys, "evaluate", folder, "--fail-under", 0.33).code == 0
    result = run(capsys, "evaluate", folder, "--fail-under", 0.34)
    assert result.code == 1
    assert "top-1 accuracy 0.3333 is below 0.34" in result.err
    assert "share from 0 to 1" in refused(capsys, "evaluate", folder, "--fail-under", 95)


def test_wrong_files_are_rejected(capsys, trained_run, photos, tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "other.jsonl").write_text("text\n")
    arguments = ("predict", trained_run, photos)
    for name, message in (
        ("a.txt", ".csv, .jsonl, .parquet"),
        ("no/a.csv", "is not a folder"),
        ("other.csv", "not a table of 3 classes"),
        ("other.jsonl", "holds no predictions"),
    ):
        assert message in refused(capsys, *arguments, "--out", tmp_path / name)
    assert (tmp_path / "other.csv").read_text() == "a,b\n1,2\n"
    assert (tmp_path / "other.jsonl").read_text() == "text\n"


def test_files_beside_photos_are_ignored_and_counted(capsys, trained_run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((trained_run.parent / "images").rglob("*.png"))[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "notes.txt").write_text("two photos")
    (folder / "broken.png").write_bytes(b"no image")
    result = run(capsys, "predict", trained_run, folder, "--json")
    names = [Path(row["file"]).name for row in json.loads(result.out)]
    assert "notes.txt" not in names
    assert "broken.png" in names
    assert "files that are not images are ignored: 1" in result.err
    named = run(capsys, "predict", trained_run, folder, folder / "notes.txt", "--json")
    assert "notes.txt" in [Path(row["file"]).name for row in json.loads(named.out)]


def predicting(*arguments, **environment):
    """Start the command in a process of its own, so that it gets real signals and a real encoding."""
    command = [sys.executable, "-m", "triscale", "predict", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment)


@pytest.fixture
def many(trained_run, tmp_path):
    """A folder of 3,000 links to one image."""
    folder, image = tmp_path / "many", trained_run.parent / "images" / "red" / "000.png"
    folder.mkdir()
    for number in range(3000):
        (folder / f"{number:04d}.png").symlink_to(image)
    return folder


@pytest.mark.process
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_predictions_are_printed_at_once_and_survive_ctrl_c(trained_run, many, form):
    with predicting(trained_run, many, *form) as process:
        first = process.stdout.readline()  # long before the last image
        process.send_signal(signal.SIGINT)
        printed, err = (first + process.stdout.read()).decode(), process.stderr.read()
    assert process.returncode == 130, err
    assert printed.endswith("\n")
    files = [one["file"] for one in json.loads(printed)] if form else [line.split()[0] for line in printed.splitlines()]
    assert 0 < len(files) < 3000
    assert files == [str(many / f"{number:04d}.png") for number in range(len(files))]
    assert b"Traceback" not in err
    assert b"stopped after" in err


@pytest.mark.process
def test_file_is_whole_after_ctrl_c_and_continued(capsys, trained_run, many, tmp_path):
    out = tmp_path / "predictions.csv"
    with predicting(trained_run, many, "--out", out) as process:
        while not out.is_file() or out.stat().st_size < 2000:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert b"to continue: triscale predict" in err
    before = rows_of(out)
    assert 0 < len(before) < 3000
    for path in sorted(many.iterdir())[len(before) + 5 :]:
        path.unlink()
    result = run(capsys, "predict", trained_run, many, "--out", out)
    assert "5 predictions written" in result.out
    assert rows_of(out)[: len(before)] == before


@pytest.mark.process
def test_names_that_the_encoding_lacks_are_printed_with_question_marks(trained_run, tmp_path):
    folder = tmp_path / "Größe"
    folder.mkdir()
    shutil.copy(trained_run.parent / "images" / "red" / "000.png", folder / "größe.png")
    (folder / "kaputt-ü.png").write_bytes(b"no image")
    ascii_only = {"PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C"}
    with predicting(trained_run, folder, **ascii_only) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.decode("ascii").count("?") >= 2
    assert "unreadable: " in err.decode("ascii")
    with predicting(trained_run, folder, "--json", **ascii_only) as process:
        out, _ = process.communicate(timeout=120)
    assert [Path(one["file"]).name for one in json.loads(out)] == ["größe.png", "kaputt-ü.png"]


@pytest.mark.process
@pytest.mark.stress
@pytest.mark.skipif(sys.platform != "linux", reason="file names of other systems are text")
def test_name_that_is_no_utf8_is_printed_as_an_escape(trained_run, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    name = os.fsdecode(b"bad-\xff.png")
    shutil.copy(trained_run.parent / "images" / "red" / "000.png", folder / name)
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    with predicting(trained_run, folder, **strict) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "bad-\\udcff.png" in out.decode()
    with predicting(trained_run, folder, "--json", **strict) as process:
        out, _ = process.communicate(timeout=120)
    assert [Path(one["file"]).name for one in json.loads(out.decode())] == [name]
