"""Invalid input gives one clear sentence and exit code 2, and loses nothing."""

import json
import shutil
import subprocess
import sys
import time

import pytest

from cli.command import refused, run
from conftest import COLORS, write_classes, write_picture
from triscale.cli import main
from triscale.network.latency import DeviceProfile

SHORT = ("--epochs", 1, "--batch", 16)


def test_missing_image_folder_is_rejected(capsys, tmp_path):
    assert "nothing" in refused(capsys, "fit", tmp_path / "nothing", "--budget", "1M")


def test_folder_without_images_is_rejected(capsys, tmp_path):
    (tmp_path / "images").mkdir()
    assert "no image" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_images_without_class_folders_are_rejected(capsys, tmp_path):
    write_picture(tmp_path / "images" / "a.png", (1, 2, 3), 0)
    assert "folder" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_single_class_is_rejected(capsys, tmp_path):
    write_classes(tmp_path / "images", 5, colors={"red": COLORS["red"]})
    assert "one class" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_empty_class_is_rejected(capsys, images, tmp_path):
    (images / "yellow").mkdir()
    assert "yellow" in refused(capsys, "fit", images, "--budget", "1M", "--out", tmp_path / "run")


def test_class_missing_from_test_split_is_rejected(capsys, tmp_path):
    write_classes(tmp_path / "images" / "train", 5)
    write_classes(tmp_path / "images" / "test", 5, seed=1)
    shutil.rmtree(tmp_path / "images" / "test" / "green")
    assert "green" in refused(capsys, "fit", tmp_path / "images", "--budget", "1M", "--out", tmp_path / "run")


def test_unknown_network_suggests_nearest_name(capsys):
    assert "efficientnet_b0" in refused(capsys, "scale", "eficientnet_b0", "--phi", 1)
    assert "resnet50" in refused(capsys, "show", "resnet5")


def test_unknown_key_in_network_file_is_rejected(capsys, tiny, tmp_path):
    data = json.loads(tiny.to_json()) | {"resolutoin": 64}
    (tmp_path / "typo.json").write_text(json.dumps(data))
    line = refused(capsys, "show", tmp_path / "typo.json")
    assert 'unknown key "resolutoin"' in line
    assert "did you mean resolution" in line


def test_unknown_nested_key_in_network_file_is_rejected(capsys, tiny, tmp_path):
    data = json.loads(tiny.to_json())
    data["stages"][1]["block"]["se_raito"] = 0.5
    (tmp_path / "typo.json").write_text(json.dumps(data))
    line = refused(capsys, "show", tmp_path / "typo.json")
    assert "se_raito" in line
    assert "did you mean se_ratio" in line


@pytest.mark.parametrize("text", ["not json", "[1, 2]", '{"triscale": "law", "schema": 1}', '{"stem": 3}'])
def test_file_that_is_not_a_network_is_rejected(capsys, tmp_path, text):
    (tmp_path / "network.json").write_text(text)
    assert "network record" in refused(capsys, "show", tmp_path / "network.json")


def test_missing_network_file_is_rejected(capsys, tmp_path):
    assert "cannot read" in refused(capsys, "show", tmp_path / "network.json")


@pytest.mark.parametrize("budget", ["400", "lots", "20ms", "4B", "400m", "-5M", "5M,6M", ""])
def test_invalid_or_infeasible_budget_is_rejected(capsys, images, tmp_path, budget):
    line = refused(capsys, "fit", images, f"--budget={budget}", "--out", tmp_path / "run")
    assert "budget" in line
    assert not (tmp_path / "run" / "run.json").exists()


def test_too_small_budget_reports_minimum(capsys):
    line = refused(capsys, "scale", "efficientnet_b0", "--budget", "1k")
    least = line.split("at least ")[1].split(" MACs")[0]
    assert run(capsys, "scale", "efficientnet_b0", "--budget", least).code == 0


def test_missing_budget_is_rejected(capsys, images):
    assert "--budget" in refused(capsys, "fit", images)


def test_invalid_law_is_rejected(capsys):
    assert "alpha" in refused(capsys, "scale", "resnet50", "--phi", 1, "--law", "0.5,1,1")
    assert "three numbers" in refused(capsys, "scale", "resnet50", "--phi", 1, "--law", "1.2,1.1")


def test_phi_and_budget_are_mutually_exclusive(capsys):
    assert "exactly one" in refused(capsys, "scale", "resnet50", "--phi", 1, "--budget", "1G")


def test_unknown_option_and_command_suggest_nearest_name(capsys):
    assert "--phi" in refused(capsys, "scale", "resnet50", "--phy", 1)
    assert "scale" in refused(capsys, "scael", "resnet50")


def test_unknown_recipe_and_device_are_rejected(capsys, images, tiny_file, tmp_path):
    common = ("train", images, "--network", tiny_file, "--out", tmp_path / "run")
    assert "small" in refused(capsys, *common, "--recipe", "smal")
    assert "tpu" in refused(capsys, *common, "--device", "tpu")


@pytest.mark.parametrize(
    "option", [("--epochs", 0), ("--batch", -1), ("--learning-rate", 0), ("--workers", -1), ("--threads", 0)]
)
def test_options_out_of_range_are_rejected(capsys, images, tiny_file, tmp_path, option):
    refused(capsys, "train", images, "--network", tiny_file, "--out", tmp_path / "run", *option)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--folds", "2.5"), ("--epochs", "1.5"), ("--seed", "0.7"), ("--batch", "16.01"), ("--channels", "-1.5")],
)
def test_fraction_of_a_whole_number_is_rejected(capsys, images, tiny_file, tmp_path, option, value):
    line = refused(capsys, "train", images, "--network", tiny_file, "--out", tmp_path / "run", option, value)
    assert line == f"triscale: {option} {value} is not a whole number; give one such as 3"
    assert not (tmp_path / "run").exists()


def test_fraction_of_a_whole_number_is_rejected_in_commands_of_groups(capsys, tmp_path):
    line = refused(
        capsys,
        "search",
        "coefficients",
        tmp_path / "images",
        "--baseline",
        "resnet18",
        "--number",
        "2.5",
        "--out",
        tmp_path / "study",
    )
    assert "--number 2.5 is not a whole number" in line


def test_messages_name_options_and_not_internal_words(capsys, images, tiny_file, tmp_path):
    common = ("train", images, "--network", tiny_file, "--out", tmp_path / "run")
    assert refused(capsys, *common, "--channels", 0) == (
        "triscale: --channels 0: give 1 for gray, 3 for RGB, or the number of channels that the files have"
    )
    line = refused(capsys, *common, "--set", "loss=bce")
    assert "\"loss\": unknown 'bce', expected one of 'cross_entropy', 'focal', 'asymmetric'" in line
    assert refused(capsys, *common, "--set", "loss=focal", "label_smoothing=0.1") == (
        "triscale: unexpected label_smoothing=0.1; give each field its own option: --set label_smoothing=0.1"
    )
    assert refused(capsys, *common, "more").startswith("triscale: unexpected more; ")


def test_missing_build_function_is_rejected(capsys):
    assert "cannot find" in refused(capsys, "show", "no_such_package.module:build")


def test_output_folder_with_other_files_is_rejected(capsys, images, tiny_file, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    line = refused(capsys, "train", images, "--network", tiny_file, "--out", tmp_path / "run")
    assert "thesis.txt" in line
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


def test_output_inside_image_folder_is_rejected(capsys, images, tiny_file):
    before = sorted(images.rglob("*"))
    line = refused(capsys, "train", images, "--network", tiny_file, "--out", images / "runs" / "one")
    assert "is inside the image folder" in line
    assert sorted(images.rglob("*")) == before


def test_run_commands_reject_other_folders(capsys, tmp_path):
    for command in ("evaluate", "measure", "export", "explain", "report"):
        assert "holds no run" in refused(capsys, command, tmp_path)
    assert "give" in refused(capsys, "predict", tmp_path / "nothing.onnx", tmp_path)


class TestOnARun:
    """Invalid commands do not change an existing run."""

    @pytest.fixture(scope="class")
    def images(self, tmp_path_factory):
        return write_classes(tmp_path_factory.mktemp("bad") / "images", 20)

    @pytest.fixture(scope="class")
    def trained(self, images, tiny_file):
        out = images.parent / "run"
        main(["train", str(images), "--network", str(tiny_file), "--out", str(out), *map(str, SHORT)])
        return out

    @pytest.fixture
    def made(self, trained, tmp_path):
        """A copy of the run of ``images``."""
        return shutil.copytree(trained, tmp_path / "run")

    @staticmethod
    def state(folder):
        return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

    def test_different_recipe_is_rejected(self, capsys, images, tiny_file, made):
        before = self.state(made)
        line = refused(capsys, "train", images, "--network", tiny_file, "--out", made, "--epochs", 2, "--batch", 16)
        assert "recipe.epochs: 1 in the run, 2 requested" in line
        assert self.state(made) == before

    def test_newer_schema_is_rejected(self, capsys, made):
        spec = json.loads((made / "run.json").read_text())
        (made / "run.json").write_text(json.dumps(spec | {"schema": 99}))
        line = refused(capsys, "evaluate", made)
        assert "schema 99" in line
        assert "newer Triscale" in line

    def test_locked_run_is_rejected(self, capsys, images, tiny_file, made):
        code = (
            "import sys, time, pathlib\nfrom triscale.jobs.core.run import RunFolder\n"
            f"with RunFolder(pathlib.Path({str(made)!r})).lock():\n"
            "    print('locked', flush=True)\n    time.sleep(60)\n"
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
            assert time.monotonic() < deadline, "the lock of a killed process is released"

    def test_unknown_split_is_rejected(self, capsys, made):
        assert "test" in refused(capsys, "evaluate", made, "--split", "tets")

    def test_invalid_onnx_file_is_rejected(self, capsys, tmp_path):
        file = tmp_path / "model.onnx"
        file.write_bytes(b"no model")
        assert "is not an ONNX file" in refused(capsys, "measure", file)

    def test_missing_images_are_rejected(self, capsys, images, tiny_file, made):
        path = images / "red" / "003.png"
        moved = path.rename(images.parent / "003.png")
        try:
            line = refused(capsys, "train", images, "--network", tiny_file, "--out", made, *SHORT)
        finally:
            moved.rename(path)
        assert "red/003.png" in line

    def test_predict_without_images_is_rejected(self, capsys, made, tmp_path):
        assert "no images" in refused(capsys, "predict", made)
        assert "does not exist" in refused(capsys, "predict", made, tmp_path / "nothing.png")
        assert "--top" in refused(capsys, "predict", made, made, "--top", 0)

    def test_changed_split_is_rejected(self, capsys, images, tiny_file, made):
        split = json.loads((made / "split.json").read_text())
        split["train"] = split["train"][1:]
        (made / "split.json").write_text(json.dumps(split))
        assert "changed" in refused(capsys, "train", images, "--network", tiny_file, "--out", made, *SHORT)


def test_latency_budget_without_profile_suggests_profile_command(capsys, images):
    for words in (("scale", "efficientnet_b0"), ("fit", images)):
        assert "triscale profile --out" in refused(capsys, *words, "--budget", "20ms")


def test_invalid_or_unfinished_profile_is_rejected(capsys, tmp_path, tiny_file):
    scale = ("scale", "efficientnet_b0", "--budget", "20ms", "--profile")
    assert "cannot read" in refused(capsys, *scale, tmp_path / "profile.json")
    assert "expected a profile record" in refused(capsys, *scale, tiny_file)
    unfinished = DeviceProfile(engine="onnxruntime", threads=1, processor="a processor")
    unfinished.save(tmp_path / "profile.json")
    assert "not finished" in refused(capsys, *scale, tmp_path / "profile.json")


def test_invalid_profile_options_are_rejected(capsys, tmp_path, images, predictor_file):
    assert "latency budget" in refused(capsys, "fit", images, "--budget", "1M", "--profile", predictor_file)
    assert "--profile" in refused(capsys, "scale", "resnet18", "--phi", 1, "--verify")
    elsewhere = ("scale", "resnet18", "--budget", "20ms", "--profile", predictor_file, "--verify")
    assert "belongs to a processor of nowhere" in refused(capsys, *elsewhere)
    line = refused(capsys, "scale", "resnet18", "--budget", "1us", "--profile", predictor_file)
    assert "at least" in line
    assert "ms" in line


def test_invalid_profile_command_options_are_rejected(capsys, tmp_path):
    out = ("profile", "--out", tmp_path / "profile.json")
    assert "onnxruntime or torch" in refused(capsys, *out, "--engine", "onnx")
    assert "--threads 0" in refused(capsys, *out, "--threads", 0)
    assert "does not exist" in refused(capsys, "profile", "--out", tmp_path / "nowhere" / "profile.json")
    assert "another engine" in refused(capsys, *out, "--export", tmp_path / "plan", "--engine", "torch")
    assert "cannot read" in refused(capsys, *out, "--import", tmp_path)
    assert not (tmp_path / "profile.json").exists()


def test_profile_of_another_device_is_accepted_with_warning(capsys, predictor_file):
    result = run(capsys, "scale", "resnet18", "--budget", "20ms", "--profile", predictor_file)
    assert result.code == 0
    assert "another device" in " ".join(result.out.split())
    data = json.loads(run(capsys, "scale", "resnet18", "--budget", "20ms", "--profile", predictor_file, "--json").out)
    assert data["latency"]["predicted_ms"] <= 20
    assert data["fit"]["limits"][0]["requested"] == 20_000
