"""Every mistake gets one clear sentence and exit code 2, and nothing is lost."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from cli.command import refused, run
from conftest import COLORS, write_classes, write_picture
from triscale.network.latency import NAMES, DeviceProfile, Predictor

SHORT = ("--epochs", 1, "--batch", 16)


def test_no_folder(capsys, tmp_path):
    assert "nothing" in refused(capsys, "fit", tmp_path / "nothing", "--budget", "1M")


def test_no_images(capsys, tmp_path):
    (tmp_path / "images").mkdir()
    assert "no image" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_images_without_class_folders(capsys, tmp_path):
    write_picture(tmp_path / "images" / "a.png", (1, 2, 3), 0)
    assert "folder" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_one_class_only(capsys, tmp_path):
    write_classes(tmp_path / "images", 5, colors={"red": COLORS["red"]})
    assert "one class" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_an_empty_class(capsys, images, tmp_path):
    (images / "yellow").mkdir()
    assert "yellow" in refused(capsys, "fit", images, "--budget", "1M", "--out", tmp_path / "run")


def test_a_class_missing_from_the_test_split(capsys, tmp_path):
    write_classes(tmp_path / "images" / "train", 5)
    write_classes(tmp_path / "images" / "test", 5, seed=1)
    shutil.rmtree(tmp_path / "images" / "test" / "green")
    assert "green" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_an_unknown_network_names_the_nearest(capsys):
    assert "efficientnet_b0" in refused(capsys, "scale", "eficientnet_b0", "--phi", 1)
    assert "resnet50" in refused(capsys, "show", "resnet5")


def test_an_unknown_key_in_a_network_file(capsys, tiny, tmp_path):
    data = json.loads(tiny.to_json()) | {"resolutoin": 64}
    (tmp_path / "typo.json").write_text(json.dumps(data))
    line = refused(capsys, "show", tmp_path / "typo.json")
    assert 'unknown key "resolutoin"' in line
    assert "did you mean resolution" in line


def test_an_unknown_key_deep_in_a_network_file(capsys, tiny, tmp_path):
    data = json.loads(tiny.to_json())
    data["stages"][1]["block"]["se_raito"] = 0.5
    (tmp_path / "typo.json").write_text(json.dumps(data))
    line = refused(capsys, "show", tmp_path / "typo.json")
    assert "se_raito" in line
    assert "did you mean se_ratio" in line


@pytest.mark.parametrize("text", ["not json", "[1, 2]", '{"triscale": "law", "schema": 1}', '{"stem": 3}'])
def test_a_file_that_is_no_network(capsys, tmp_path, text):
    (tmp_path / "network.json").write_text(text)
    assert "network record" in refused(capsys, "show", tmp_path / "network.json")


def test_a_file_that_is_not_there(capsys, tmp_path):
    assert "cannot read" in refused(capsys, "show", tmp_path / "network.json")


@pytest.mark.parametrize("budget", ["400", "lots", "20ms", "4B", "400m", "-5M", "5M,6M", ""])
def test_a_budget_that_cannot_be_read_or_met(capsys, images, tmp_path, budget):
    line = refused(capsys, "fit", images, f"--budget={budget}", "--out", tmp_path / "run")
    assert "budget" in line
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_budget_too_small_names_one_that_can_be_met(capsys):
    line = refused(capsys, "scale", "efficientnet_b0", "--budget", "1k")
    least = line.split("at least ")[1].split(" MACs")[0]
    assert run(capsys, "scale", "efficientnet_b0", "--budget", least).code == 0


def test_no_budget(capsys, images):
    assert "--budget" in refused(capsys, "fit", images)


def test_a_law_that_is_none(capsys):
    assert "alpha" in refused(capsys, "scale", "resnet50", "--phi", 1, "--law", "0.5,1,1")
    assert "three numbers" in refused(capsys, "scale", "resnet50", "--phi", 1, "--law", "1.2,1.1")


def test_two_ways_of_scaling_at_once(capsys):
    assert "exactly one" in refused(capsys, "scale", "resnet50", "--phi", 1, "--budget", "1G")


def test_an_unknown_option_and_command(capsys):
    assert "--phi" in refused(capsys, "scale", "resnet50", "--phy", 1)
    assert "scale" in refused(capsys, "scael", "resnet50")


def test_an_unknown_recipe_and_device(capsys, images, tiny_file, tmp_path):
    common = ("train", images, "--network", tiny_file, "--out", tmp_path / "run")
    assert "small" in refused(capsys, *common, "--recipe", "smal")
    assert "tpu" in refused(capsys, *common, "--device", "tpu")


@pytest.mark.parametrize(
    "option", [("--epochs", 0), ("--batch", -1), ("--learning-rate", 0), ("--workers", -1), ("--threads", 0)]
)
def test_settings_out_of_range(capsys, images, tiny_file, tmp_path, option):
    refused(capsys, "train", images, "--network", tiny_file, "--out", tmp_path / "run", *option)


def test_a_function_that_is_not_there(capsys):
    assert "cannot find" in refused(capsys, "show", "no_such_package.module:build")


def test_a_folder_that_holds_something_else(capsys, images, tiny_file, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    line = refused(capsys, "train", images, "--network", tiny_file, "--out", tmp_path / "run")
    assert "thesis.txt" in line
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


def test_a_run_among_the_images(capsys, images, tiny_file):
    before = sorted(images.rglob("*"))
    line = refused(capsys, "train", images, "--network", tiny_file, "--out", images / "runs" / "one")
    assert "is inside the image folder" in line
    assert sorted(images.rglob("*")) == before


def test_a_run_s_commands_on_something_else(capsys, tmp_path):
    for command in ("evaluate", "measure", "export", "explain", "report"):
        assert "holds no run" in refused(capsys, command, tmp_path)
    assert "give" in refused(capsys, "predict", tmp_path / "nothing.onnx", tmp_path)


class TestOnARun:
    """Mistakes with an existing run leave it as it was."""

    @pytest.fixture
    def made(self, capsys, images, tiny_file, tmp_path):
        out = tmp_path / "run"
        assert run(capsys, "train", images, "--network", tiny_file, "--out", out, *SHORT).code == 0
        return out

    @staticmethod
    def state(folder):
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def test_another_recipe(self, capsys, images, tiny_file, made):
        before = self.state(made)
        line = refused(capsys, "train", images, "--network", tiny_file, "--out", made, "--epochs", 2, "--batch", 16)
        assert "recipe.epochs: 1 in the run, 2 requested" in line
        assert self.state(made) == before

    def test_a_newer_schema(self, capsys, made):
        spec = json.loads((made / "run.json").read_text())
        (made / "run.json").write_text(json.dumps(spec | {"schema": 99}))
        line = refused(capsys, "evaluate", made)
        assert "schema 99" in line
        assert "newer Triscale" in line

    def test_a_second_process(self, capsys, images, tiny_file, made):
        code = (
            "import sys, time, pathlib\nfrom triscale.jobs.core.run import Run\n"
            f"with Run(pathlib.Path({str(made)!r})).lock():\n    print('locked', flush=True)\n    time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
            try:
                assert other.stdout.readline() == "locked\n"
                line = refused(capsys, "train", images, "--network", tiny_file, "--out", made, *SHORT)
                assert f"process {other.pid}" in line
                assert "in use" in refused(capsys, "evaluate", made)
            finally:
                other.kill()
        deadline = time.monotonic() + 20
        while run(capsys, "evaluate", made).code != 0:
            assert time.monotonic() < deadline, "a killed owner leaves the run free"

    def test_an_unknown_part(self, capsys, made):
        assert "test" in refused(capsys, "evaluate", made, "--part", "tets")

    def test_an_engine_that_does_not_run_files(self, capsys, tmp_path):
        file = tmp_path / "model.onnx"
        file.write_bytes(b"no model")
        assert "is not an ONNX file" in refused(capsys, "measure", file)

    def test_images_that_are_gone(self, capsys, images, tiny_file, made):
        (images / "red" / "003.png").unlink()
        line = refused(capsys, "train", images, "--network", tiny_file, "--out", made, *SHORT)
        assert "red/003.png" in line

    def test_nothing_to_predict(self, capsys, made, tmp_path):
        assert "no images" in refused(capsys, "predict", made)
        assert "does not exist" in refused(capsys, "predict", made, tmp_path / "nothing.png")
        assert "--top" in refused(capsys, "predict", made, made, "--top", 0)

    def test_a_changed_split(self, capsys, images, tiny_file, made):
        split = json.loads((made / "split.json").read_text())
        split["train"] = split["train"][1:]
        (made / "split.json").write_text(json.dumps(split))
        assert "changed" in refused(capsys, "train", images, "--network", tiny_file, "--out", made, *SHORT)


def test_a_budget_of_time_without_a_profile_says_how_to_make_one(capsys, images):
    for words in (("scale", "efficientnet_b0"), ("fit", images)):
        assert "triscale profile --out" in refused(capsys, *words, "--budget", "20ms")


def test_a_profile_that_is_none_or_not_finished(capsys, tmp_path, tiny_file):
    scale = ("scale", "efficientnet_b0", "--budget", "20ms", "--profile")
    assert "cannot read" in refused(capsys, *scale, tmp_path / "profile.json")
    assert "expected a profile record" in refused(capsys, *scale, tiny_file)
    unfinished = DeviceProfile(engine="onnxruntime", threads=1, processor="a processor")
    unfinished.save(tmp_path / "profile.json")
    assert "not finished" in refused(capsys, *scale, tmp_path / "profile.json")


def test_wrong_uses_of_a_profile(capsys, tmp_path, images, predictor_file):
    assert "latency budget" in refused(capsys, "fit", images, "--budget", "1M", "--profile", predictor_file)
    assert "--profile" in refused(capsys, "scale", "resnet18", "--phi", 1, "--verify")
    elsewhere = ("scale", "resnet18", "--budget", "20ms", "--profile", predictor_file, "--verify")
    assert "belongs to a processor of nowhere" in refused(capsys, *elsewhere)
    line = refused(capsys, "scale", "resnet18", "--budget", "1us", "--profile", predictor_file)
    assert "at least" in line
    assert "ms" in line


def test_wrong_ways_to_make_a_profile(capsys, tmp_path):
    out = ("profile", "--out", tmp_path / "profile.json")
    assert "onnxruntime or torch" in refused(capsys, *out, "--engine", "onnx")
    assert "--threads 0" in refused(capsys, *out, "--threads", 0)
    assert "does not exist" in refused(capsys, "profile", "--out", tmp_path / "nowhere" / "profile.json")
    assert "another engine" in refused(capsys, *out, "--export", tmp_path / "plan", "--engine", "torch")
    assert "cannot read" in refused(capsys, *out, "--import", tmp_path)
    assert not (tmp_path / "profile.json").exists()


def test_a_profile_of_another_device_is_taken_with_a_note(capsys, predictor_file):
    seen = run(capsys, "scale", "resnet18", "--budget", "20ms", "--profile", predictor_file)
    assert seen.code == 0
    assert "another device" in " ".join(seen.out.split())
    data = json.loads(run(capsys, "scale", "resnet18", "--budget", "20ms", "--profile", predictor_file, "--json").out)
    assert data["latency"]["predicted_ms"] <= 20
    assert data["fit"]["limits"][0]["requested"] == 20_000


@pytest.fixture
def predictor_file(tmp_path):
    predictor = Predictor(
        engine="onnxruntime",
        threads=1,
        processor="a processor of nowhere",
        milliseconds=dict.fromkeys(NAMES, 0.01),
        error=0.05,
        error_90=0.1,
        held_out=10,
    )
    profile = DeviceProfile(engine="onnxruntime", threads=1, processor=predictor.processor, predictor=predictor)
    profile.save(tmp_path / "nowhere.json")
    return tmp_path / "nowhere.json"
