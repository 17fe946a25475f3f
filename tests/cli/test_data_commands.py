"""Leaks on the command line, and the data commands."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
import warnings
from pathlib import Path

import pytest
from PIL import Image

from cli.command import refused, run
from conftest import COLORS, write_classes
from triscale.retry import RetryPolicy


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A folder with train and test, of which one test image is a training image re-encoded."""
    images = write_classes(tmp_path / "images" / "train", 12)
    write_classes(images.parent / "test", 5, seed=1)
    with Image.open(images / "red" / "004.png") as image:
        image.save(images.parent / "test" / "red" / "copy.jpg", quality=90)
    return images.parent


def test_leak_is_rejected_by_name(capsys, leaky, tiny_file, tmp_path):
    line = refused(capsys, "train", leaky, "--network", tiny_file, "--out", tmp_path / "run", "--epochs", 1)
    assert "test/red/copy.jpg = train/red/004.png (the same image re-encoded)" in line
    assert "--allow-leak" in line
    assert not (tmp_path / "run" / "run.json").exists()


def test_allowed_leak_is_recorded(capsys, leaky, tiny_file, tmp_path):
    options = ("--network", tiny_file, "--out", tmp_path / "run", "--epochs", 1)
    assert run(capsys, "train", leaky, *options, "--allow-leak").code == 0
    data = json.loads((tmp_path / "run" / "data.json").read_text())
    assert data["allow_leak"] is True
    assert [leak["path"] for leak in data["leaks"]] == ["test/red/copy.jpg"]
    assert "--allow-leak accepted" in (tmp_path / "run" / "report.html").read_text()


def test_check_summarizes_dataset(capsys, leaky):
    (leaky / "train" / "blue" / "again.png").write_bytes((leaky / "train" / "green" / "001.png").read_bytes())
    (leaky / "train" / "blue" / "broken.png").write_bytes(b"")
    result = run(capsys, "data", "check", leaky)
    assert result.code == 2
    assert "accept it with --allow-leak" in result.err
    for part in (
        "3 classes",
        "52 PNG, 1 JPEG",
        "all 24 x 24 px",
        "train/blue/broken.png: empty",
        "train/blue/again.png = train/green/001.png",
        "test/red/copy.jpg = train/red/004.png (re-encoded)",
        "1 image in more than one class",
        "fewer than 20 training images: green, red, blue",
    ):
        assert part in result.out, part
    assert all(len(line) <= 80 for line in result.out.splitlines())


def test_check_lists_leaks_beside_other_problems_unless_they_are_allowed(capsys, leaky):
    for number in range(12):
        (leaky / "train" / "blue" / f"broken{number}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    for path in sorted((leaky / "train" / "green").iterdir())[1:]:
        path.unlink()
    shutil.copy(leaky / "train" / "red" / "004.png", leaky / "test" / "red" / "copy.jpg")
    result = run(capsys, "data", "check", leaky)
    words = " ".join(result.out.split())
    assert result.code == 2
    for problem in (
        "12 of 53 files",
        "too few images to split: green has 1",
        "1 test or validation image is a copy",
        "accept it with --allow-leak",
        "12 files unreadable",
    ):
        assert problem in words, problem
    assert "training skips unreadable files" not in words
    assert "(2 more, see above)" in result.err
    allowed = run(capsys, "data", "check", leaky, "--allow-leak")
    assert allowed.code == 2
    assert "(1 more, see above)" in allowed.err
    assert "--allow-leak" not in allowed.out
    assert "test/red/copy.jpg = train/red/004.png" in " ".join(allowed.out.split())


def test_check_accepts_leaks_on_request(capsys, leaky):
    (leaky / "train" / "blue" / "broken.png").write_bytes(b"")
    assert run(capsys, "data", "check", leaky).code == 2
    result = run(capsys, "data", "check", leaky, "--allow-leak")
    assert result.code == 0, result.err
    assert "1 file unreadable; training skips unreadable files" in " ".join(result.out.split())


def test_check_of_clean_dataset_finds_nothing(capsys, tmp_path):
    result = run(capsys, "data", "check", write_classes(tmp_path / "images", 20))
    assert "none; every file can be read" in result.out
    assert "copies   none" in result.out
    assert "warning" not in result.out
    assert "leaks" not in result.out


def test_check_writes_its_record_and_a_contact_sheet(capsys, leaky, tmp_path):
    printed = json.loads(run(capsys, "data", "check", leaky, "--out", tmp_path / "out" / "check", "--json").out)
    assert json.loads((tmp_path / "out" / "check" / "check.json").read_text()) == printed
    assert printed["splits"] == ["train", "test"]
    assert printed["classes"][2] == {"name": "red", "images": {"train": 12, "test": 6}}
    assert [leak["match"] for leak in printed["leaks"]] == ["reencoded"]
    with Image.open(tmp_path / "out" / "check" / "contact-sheet.png") as sheet:
        assert sheet.format == "PNG"
        colors = {color for _, color in sheet.convert("RGB").getcolors(1 << 24)}
        assert len(colors) > 1000
        assert sheet.height > 3 * 96


def test_contact_sheet_of_many_classes_with_long_names(capsys, tmp_path):
    colors = {f"{index:02d} " + "a very long name [with] brackets " * 3: COLORS["red"] for index in range(70)}
    result = run(capsys, "data", "check", write_classes(tmp_path / "set", 1, colors=colors), "--out", tmp_path / "out")
    assert result.code == 2
    assert "too few images to split" in result.err
    assert "(40 more classes)" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.height < 70 * 102


def test_check_rejects_what_fit_rejects(capsys, tmp_path):
    assert "there is no folder" in refused(capsys, "data", "check", tmp_path / "nothing")
    assert "only one class" in refused(
        capsys, "data", "check", write_classes(tmp_path / "one", 3, colors={"a": (9, 9, 9)})
    )


def test_check_never_writes_into_images_or_over_files(capsys, leaky, tmp_path):
    assert "is inside the image folder" in refused(capsys, "data", "check", leaky, "--out", leaky / "check")
    (tmp_path / "file").write_text("mine")
    assert "cannot write" in refused(capsys, "data", "check", leaky, "--out", tmp_path / "file")


def test_help_lists_data_commands(capsys):
    assert "check" in run(capsys, "data", "--help").out
    assert "--out" in run(capsys, "data", "check", "--help").out


@pytest.mark.stress
def test_training_accepts_manifest_like_folder(capsys, tmp_path, tiny_file):
    images = write_classes(tmp_path / "set", 12)
    files = sorted(path.relative_to(tmp_path) for path in images.rglob("*.png"))
    lines = ["path,label", *(f"{path},{path.parent.name}" for path in files)]
    (tmp_path / "set.csv").write_text("\n".join(lines))
    assert "3 classes" in run(capsys, "data", "check", tmp_path / "set.csv").out
    options = ("--baseline", tiny_file, "--budget", "300k", "--epochs", 1, "--json")
    result = run(capsys, "fit", tmp_path / "set.csv", *options, "--out", tmp_path / "run")
    assert result.code == 0, result.err
    assert json.loads(result.out)["count"] == 6
    (tmp_path / "set.csv").write_text("path,klass\n")
    assert "klass" in refused(capsys, "fit", tmp_path / "set.csv", *options, "--out", tmp_path / "other")


def test_pack_reports_result(capsys, leaky, tmp_path):
    (leaky / "train" / "blue" / "broken.png").write_bytes(b"")
    result = run(capsys, "data", "pack", leaky, "--out", tmp_path / "shards", "--shard-size", "60kB")
    assert result.code == 0, result.err
    words = [line.split() for line in result.out.splitlines()]
    assert words[0] == ["split", "shards", "images", "size"]
    assert [row[0] + " " + row[2] for row in words[1:3]] == ["train 36", "test 16"]
    assert int(words[1][1]) == len(list((tmp_path / "shards").glob("train-*.tar"))) > 1
    assert "train/blue/broken.png: empty" in result.out
    checked = [json.loads(run(capsys, "data", "check", root, "--json").out) for root in (leaky, tmp_path / "shards")]
    same = {"root": "", "warnings": [], "problems": []}
    assert checked[0] | same | {"bad": []} == checked[1] | same
    printed = json.loads(run(capsys, "data", "pack", leaky, "--out", tmp_path / "again", "--json").out)
    assert printed["classes"] == ["blue", "green", "red"]
    assert [part["shards"] for part in printed["splits"]] == [1, 1]


def test_pack_checks_options_before_reading(capsys, leaky, tmp_path):
    assert "256MB" in refused(capsys, "data", "pack", leaky, "--out", tmp_path / "out", "--shard-size", "big")
    assert "where nothing is written" in refused(capsys, "data", "pack", leaky, "--out", leaky / "shards")
    assert "exists already" in refused(capsys, "data", "pack", leaky, "--out", leaky.parent)
    assert "there is no folder" in refused(capsys, "data", "pack", tmp_path / "none", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.stress
def test_training_on_shards_gives_the_same_weights_and_predictions(capsys, images, tiny_file, tmp_path, workers):
    assert run(capsys, "data", "pack", images, "--out", tmp_path / "shards", "--shard-size", "40kB").code == 0
    for root in ("images", "shards"):
        options = ("--network", tiny_file, "--epochs", 2, "--batch", 16, "--workers", workers)
        result = run(capsys, "train", tmp_path / root, *options, "--out", tmp_path / f"run-{root}")
        assert result.code == 0, result.err
        assert run(capsys, "export", tmp_path / f"run-{root}").code == 0
        assert run(capsys, "explain", tmp_path / f"run-{root}").code == 0
    names = ["model.safetensors", "predictions.csv", "metrics.json"]
    names += [f"explain/{path.name}" for path in (tmp_path / "run-images" / "explain").iterdir()]
    assert len(names) > 10
    for name in names:
        one, other = ((tmp_path / f"run-{root}" / name).read_bytes() for root in ("images", "shards"))
        assert one == other, name


@pytest.mark.stress
def test_images_in_s3_are_checked_packed_and_trained_on(capsys, images, tiny_file, tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="needs s3fs")
    pytest.importorskip("moto.server", reason="needs moto[server]")
    from data import storage
    from triscale.data.sources import fetch

    monkeypatch.setattr(fetch, "RETRY_POLICY", RetryPolicy(attempts=2, timeout=5, pause=0.01))
    monkeypatch.setattr(fetch, "LISTING_TIMEOUT", 10.0)
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path / "cache"))
    with storage.running() as s3:
        for name, value in {**storage.ENVIRONMENT, "AWS_ENDPOINT_URL": s3.url}.items():
            monkeypatch.setenv(name, value)
        url = s3.upload("pictures", images, "a set/")
        checked = json.loads(run(capsys, "data", "check", url, "--out", tmp_path / "check", "--json").out)
        assert checked["root"] == url
        assert (tmp_path / "check" / "contact-sheet.png").is_file()
        assert run(capsys, "data", "pack", url, "--out", tmp_path / "shards").code == 0
        shards = s3.upload("shards", tmp_path / "shards", "x/")
        for number, root in enumerate((images, url, shards)):
            options = ("--network", tiny_file, "--epochs", 1, "--workers", number)
            result = run(capsys, "train", root, *options, "--out", tmp_path / f"run-{number}")
            assert result.code == 0, result.err
        assert len({(tmp_path / f"run-{number}" / "model.safetensors").read_bytes() for number in range(3)}) == 1
        assert run(capsys, "explain", tmp_path / "run-1").code == 0
        s3.down = True  # everything is on this machine
        assert run(capsys, "evaluate", tmp_path / "run-1").code == 0
        assert run(capsys, "evaluate", tmp_path / "run-2").code == 0
        assert "could not be downloaded" in refused(capsys, "data", "check", "s3://elsewhere/x")


@pytest.mark.process
@pytest.mark.stress
def test_training_survives_killed_data_workers(capsys, images, tiny_file, tmp_path):
    options = ("--network", tiny_file, "--epochs", 3, "--batch", 4, "--workers", 2)
    assert run(capsys, "train", images, *options, "--out", tmp_path / "quiet").code == 0
    killed = []

    def kill():
        for _ in range(600):
            workers = multiprocessing.active_children()
            if len(workers) == 2 and len(killed) < 2:
                os.kill(workers[0].pid, signal.SIGKILL)
                killed.append(workers[0].pid)
                time.sleep(0.3)
            time.sleep(0.01)
            if done.is_set():
                return

    done = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = run(capsys, "train", images, *options, "--out", tmp_path / "killed")
    finally:
        done.set()
        killer.join()
    assert result.code == 0, result.err
    assert killed
    for name in ("model.safetensors", "predictions.csv"):
        assert (tmp_path / "quiet" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
