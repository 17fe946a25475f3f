"""Doubtful data from end to end: 16-bit files that use fewer bits, classes that a mirror exchanges, odd class names."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.command import run
from conftest import write_classes
from triscale.api.run import Run
from triscale.jobs.core.run import RunFolder
from triscale.serve.model import ServedModel

TRAIN = ("--epochs", 1, "--batch", 16, "--threads", 1, "--workers", 0)


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Bright and dark images of 12 bits in 16-bit files."""
    for offset, (name, top) in enumerate({"bright": 4000, "dark": 1500, "middle": 2500}.items()):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for number in range(8):
            values = np.random.default_rng(100 * offset + number).integers(top // 2, top, (20, 20))
            Image.fromarray(values.astype(np.uint16)).save(tmp_path / "deep" / name / f"{number}.png")
    return tmp_path / "deep"


def test_measured_bit_depth_is_used_wherever_images_are_read(capsys, deep, tiny_file, tmp_path):
    out = tmp_path / "run"
    result = run(capsys, "train", deep, "--network", tiny_file, "--out", out, *TRAIN)
    assert result.code == 0, result.err
    assert "read as 12-bit values" in result.err
    folder = RunFolder.open(out)
    assert folder.spec.preprocessing.bit_depth == 12
    assert run(capsys, "export", out).code == 0
    file = deep / "bright" / "0.png"
    expected, exported = (
        json.loads(run(capsys, "predict", source, file, "--json").out)[0] for source in (out, out / "model.onnx")
    )
    first = {item["name"]: item["probability"] for item in expected["classes"]}
    assert {item["name"]: item["probability"] for item in exported["classes"]} == pytest.approx(first, abs=1e-4)
    served = ServedModel(folder, 10**6).answer(file.read_bytes(), 3, with_map=False)
    assert {item.name: item.probability for item in served.classes} == pytest.approx(first, abs=1e-6)
    for image in (file, file.read_bytes(), Image.open(file)):
        answer = Run.open(out).predict(image, top=3)
        assert {item.name: item.probability for item in answer.classes} == pytest.approx(first, abs=1e-6)
    assert run(capsys, "explain", out, file, "--out", tmp_path / "maps").code == 0
    assert run(capsys, "features", out, deep, "--out", tmp_path / "f.npy").code == 0


def test_bit_depth_of_the_check_can_be_set(capsys, deep, tmp_path):
    result = run(capsys, "data", "check", deep, "--bit-depth", 10, "--out", tmp_path / "check")
    assert result.code == 0
    assert "those above 1023 become white" in result.err
    assert np.asarray(Image.open(tmp_path / "check" / "contact-sheet.png")).min() < 100
    assert run(capsys, "data", "check", deep, "--bit-depth", 11).code == 2


def test_check_reads_as_many_channels_as_asked_for(capsys, tmp_path):
    for offset, name in enumerate(("oak", "pine")):
        (tmp_path / "bands" / name).mkdir(parents=True)
        for number in range(10):
            values = np.random.default_rng(10 * offset + number).integers(0, 256, (20, 30, 5), dtype=np.uint8)
            np.save(tmp_path / "bands" / name / f"{number}.npy", values)
    result = run(capsys, "data", "check", tmp_path / "bands", "--channels", 5, "--out", tmp_path / "check")
    assert result.code == 0
    assert "20 NPY; " in result.out
    assert "read with 5 channels" in result.out
    assert json.loads((tmp_path / "check" / "check.json").read_text())["channels"] == 5
    refused = run(capsys, "data", "check", tmp_path / "bands")
    assert refused.code == 2
    assert "train on them with --channels 5" in re.sub(r"\s+", " ", refused.err + refused.out)
    assert run(capsys, "data", "check", tmp_path / "bands", "--channels", 0).code == 2


def test_left_and_right_are_not_mirrored_and_the_run_resumes(capsys, tiny_file, tmp_path):
    colors = {"arrow_left": (220, 40, 40), "arrow_right": (40, 220, 40), "stop": (40, 40, 220)}
    images, out = write_classes(tmp_path / "images", 8, colors=colors), tmp_path / "run"
    command = ("train", images, "--network", tiny_file, "--out", out, *TRAIN)
    result = run(capsys, *command)
    assert result.code == 0, result.err
    assert "images are not mirrored since class names speak of left and right" in result.err
    assert RunFolder.open(out).spec.request.recipe.augmentation.flip is False
    (out / "manifest.json").unlink()
    assert run(capsys, *command).code == 0  # the same request resumes the run
    refused = run(capsys, *command, "--flip")
    assert (refused.code, "recipe.augmentation.flip" in refused.err) == (2, True)
    mirrored = run(capsys, *command[:4], "--out", tmp_path / "other", *TRAIN, "--flip")
    assert mirrored.code == 0, mirrored.err
    assert "images are mirrored although class names speak of left and right" in mirrored.err
    assert "does not mirror images since" in run(capsys, "data", "check", images).out


def test_control_characters_in_class_names_end_nowhere_in_a_traceback(capsys, tiny_file, tmp_path):
    colors = {"two\nlines": (220, 40, 40), "tab\tand \x1b[31mred": (40, 220, 40), "bell\x07": (40, 40, 220)}
    images, out = write_classes(tmp_path / "images", 8, colors=colors), tmp_path / "run"
    check = run(capsys, "data", "check", images, "--out", tmp_path / "check")
    assert check.code == 0, check.err
    assert re.search(r"^two\\nlines +█", check.out, re.M)
    assert r"tab\tand \x1b[31mred" in check.out
    assert not re.search(r"[\t\x07]|\x1b\[31mred", check.out)
    assert run(capsys, "train", images, "--network", tiny_file, "--out", out, *TRAIN).code == 0
    assert run(capsys, "export", out).code == 0
    assert (out / "report.html").is_file()
    assert run(capsys, "predict", out, images, "--out", tmp_path / "p.csv").code == 0
    assert run(capsys, "explain", out, images / "bell\x07", "--out", tmp_path / "maps").code == 0
    served = ServedModel(RunFolder.open(out), 10**6)
    answer = served.answer(next(images.glob("two*/*")).read_bytes(), 3, with_map=True)
    assert {item.name for item in answer.classes} == set(colors)


def test_limit_on_pixels_can_be_set_wherever_images_are_read(capsys, trained_run, tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("L", (40, 30)).save(tmp_path / "images" / "image.png")
    for command, out in {"predict": "p.csv", "explain": "maps", "features": "f.npy"}.items():
        images = tmp_path / "images" / ("" if command == "features" else "image.png")
        assert run(capsys, command, trained_run, images, "--out", tmp_path / out).code == 0
        result = run(capsys, command, trained_run, images, "--out", tmp_path / f"limited-{out}", "--max-pixels", "1k")
        assert "raise the limit with --max-pixels" in result.err + result.out
        many = ("--out", tmp_path / out, "--max-pixels", "many")
        assert run(capsys, command, trained_run, images, *many).code == 2
        few = ("--out", tmp_path / f"small-{out}", "--max-file-size", 10)
        result = run(capsys, command, trained_run, images, *few)
        assert "more than the limit of 10; raise it with --max-file-size" in result.err + result.out
    frames = [Image.new("L", (40, 30), level) for level in (0, 100, 200)]
    frames[0].save(tmp_path / "images" / "image.gif", save_all=True, append_images=frames[1:])
    for command, suffix in {"predict": ".csv", "explain": "", "features": ".npy"}.items():
        given = (command, trained_run, tmp_path / "images" / "image.gif", "--out")
        result = run(capsys, *given, tmp_path / f"two{suffix}", "--max-frames", 2)
        assert "more than the limit of 2; raise it with --max-frames" in result.err + result.out
        assert run(capsys, *given, tmp_path / f"{command}-three{suffix}", "--max-frames", 3).code == 0
