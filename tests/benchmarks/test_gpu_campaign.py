"""The campaign on a GPU, in its smallest form on the CPU: parts, resumption, failures and time limits."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import write_classes

ROOT = Path(__file__).parent.parent.parent
STRESS = ("gradients", "training", "processes", "speed")
CAMPAIGN = ROOT / "benchmarks" / "gpu.py"


@pytest.fixture(autouse=True)
def _benchmarks_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def setting_in(folder: Path, *, seconds: float = 3600, images: str = "cifar10", tiny: bool = True):
    from gpu_parts.rows import Setting

    machine = {"accelerator": None, "torch": str(torch.__version__)}
    return Setting(
        device=torch.device("cpu"),
        tiny=tiny,
        out=folder,
        deadline=time.time() + seconds,
        images=images,
        machine=machine,
    )


def rows_of(part: str, folder: Path, **options):
    from gpu_parts.rows import Rows

    return Rows(part, setting_in(folder, **options))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CAMPAIGN), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("part", ["fused", *(pytest.param(part, marks=pytest.mark.stress) for part in STRESS)])
def test_part_passes_on_the_cpu(tmp_path, part):
    rows = rows_of(part, tmp_path)
    importlib.import_module(f"gpu_parts.{part}").run(rows)
    rows.finish()
    assert rows.failed == []
    record = json.loads((tmp_path / f"gpu_{part}.json").read_text())
    assert record["status"] == "done"
    assert record["rows"].keys() == rows.rows.keys()


@pytest.mark.stress
@pytest.mark.process
def test_comparison_passes_on_the_cpu(tmp_path):
    images = write_classes(tmp_path / "images", 120)
    rows = rows_of("compare", tmp_path, images=str(images))
    importlib.import_module("gpu_parts.compare").run(rows)
    rows.finish()
    assert rows.failed == [], rows.rows
    assert rows.rows["1 seeds"]["macs"].keys() == {"baseline", "depth", "width", "resolution", "compound"}


def test_steps_and_collectives_pass_on_the_cpu(tmp_path):
    """The quick rows of the long parts."""
    processes, training = (importlib.import_module(f"gpu_parts.{part}") for part in ("processes", "training"))
    from gpu_parts.tasks import RECIPES

    cpu = torch.device("cpu")
    assert processes.collectives(cpu) == {"backend": "gloo", "failed": []}
    assert processes.one_process(cpu)["failed"] == []
    assert training.bad_batch(RECIPES["sgd, 4 micro-batches"], cpu)["failed"] == []
    assert training.evaluation(cpu)["failed"] == []
    speed = importlib.import_module("gpu_parts.speed")
    timed = speed.time_subject(speed.TINY, "eager", setting_in(tmp_path))
    assert timed["images per second"].keys() >= {"triscale", "triscale, fused chains", "torchvision"}


def test_wrong_gradients_are_noticed(monkeypatch):
    gradients = importlib.import_module("gpu_parts.gradients")
    exact = gradients.gradients_of

    def wrong(model, images, labels, device, dtype=torch.float32):
        found = exact(model, images, labels, device, dtype)
        if device.type == "cpu" and device.index == 0:  # the device under test
            found["frozen gradients"] = 1.05 * found["frozen gradients"]
        return found

    monkeypatch.setattr(gradients, "gradients_of", wrong)
    failed = gradients.compare_family("TinyNet", torch.device("cpu", 0), tiny=True)["failed"]
    assert {sentence.split(":")[0] for sentence in failed} >= {"float32", "bfloat16, channels_last"}
    assert all("frozen gradients" in sentence for sentence in failed)


def test_failed_row_is_recorded_and_others_go_on(tmp_path):
    rows = rows_of("speed", tmp_path)
    rows.once("first", lambda: 1 / 0)
    rows.once("second", lambda: {"figure": 2})
    rows.once("third", lambda: {"failed": ["a check"]})
    rows.finish()
    again = rows_of("speed", tmp_path)
    assert again.status == "failed"
    assert again.failed == ["first", "third"]
    assert "ZeroDivisionError" in again.rows["first"]["error"]
    assert "1 / 0" in again.rows["first"]["traceback"]
    assert again.once("second", lambda: pytest.fail("computed twice"))["figure"] == 2
    again.forget_failed()
    assert rows_of("speed", tmp_path).status == "unfinished"
    assert again.once("first", lambda: {"figure": 1})["figure"] == 1


def test_row_that_ends_the_process_is_tried_twice(tmp_path):
    class Crash(BaseException):
        pass

    def crash():
        raise Crash

    for _ in range(2):
        with pytest.raises(Crash):
            rows_of("speed", tmp_path).once("row", crash)
    rows = rows_of("speed", tmp_path)
    assert "ended 2 times" in rows.once("row", crash)["error"]
    rows.once("next", lambda: {"figure": 1})
    assert rows_of("speed", tmp_path).failed == ["row"]


def test_row_is_not_begun_without_time(tmp_path):
    from gpu_parts.rows import OutOfTimeError

    rows = rows_of("speed", tmp_path, seconds=20, tiny=False)
    with pytest.raises(OutOfTimeError, match="takes about 30 s"):
        rows.once("row", lambda: pytest.fail("begun"))
    assert rows.once("short row", lambda: {"figure": 1}, seconds=5)["figure"] == 1


def test_results_of_another_machine_are_not_continued(tmp_path):
    from gpu_parts.rows import Rows
    from triscale.errors import UserError

    setting = setting_in(tmp_path)
    Rows("speed", setting).write()
    setting.machine["accelerator"] = "NVIDIA H100"
    with pytest.raises(UserError, match="results of another device"):
        Rows("speed", setting)


@pytest.mark.process
def test_command_resumes_and_reports(tmp_path):
    options = ("--tiny", "--device", "cpu", "--out", tmp_path)
    stopped = run(*options, "--limit", 1)
    assert stopped.returncode == 3, stopped.stderr
    assert "the same command continues" in stopped.stdout
    done = run(*options, "--parts", "fused", "compare", "--images", tmp_path / "nothing")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "there is no folder" in done.stdout
    again = run(*options, "--parts", "fused", "compare", "--images", tmp_path / "nothing")
    assert again.returncode == 0
    assert "s are left" not in again.stdout  # nothing was computed again


@pytest.mark.process
def test_crash_of_a_part_is_recorded(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['triscale.nn.chain'] = None\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT / 'src'}")
    failed = run("--tiny", "--device", "cpu", "--out", tmp_path / "out", "--parts", "fused")
    assert failed.returncode == 1
    record = json.loads((tmp_path / "out" / "gpu_fused.json").read_text())
    assert record["status"] == "failed"
    assert "ended with 1" in record["rows"]["start"]["error"]
    assert "Traceback" in record["rows"]["start"]["traceback"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "cpu"), "--tiny"),
        (("--tiny", "--device", "tpu"), "no device"),
        (("--tiny", "--device", "cpu", "--limit", "0"), "--limit"),
        (("--tiny", "--device", "cpu"), "--out"),
    ],
)
def test_mistakes_are_explained(capsys, options, words):
    campaign = importlib.import_module("gpu")
    assert campaign.main(list(options)) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert shown.count("\n") == 1
