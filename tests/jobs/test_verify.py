"""A run is verified by training, evaluating and exporting it again; what was changed since is found."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from sizes import figure, size
from triscale.jobs.core.execution import execution
from triscale.jobs.core.run import RunFolder
from triscale.jobs.verification.stored import check_checkpoints, check_files, check_images, differences_of
from triscale.jobs.verification.verify import verify_run
from triscale.results.verification import Verification
from triscale.training.state.checkpoint import Checkpoints

FLIPS = size(60, 1000)
TRAINING = ("--epochs", 3, "--set", "batch=8", "--set", "min_steps=1")


@pytest.fixture(scope="module")
def whole(tiny_file, tmp_path_factory) -> Path:
    """A run with its own images and an exported file."""
    folder = tmp_path_factory.mktemp("verified")
    write_classes(folder / "images", 20)
    made = ts.train(folder / "images", network=tiny_file, epochs=3, batch_size=8, settings={"min_steps": 1},
                    out=folder / "run", progress=False)  # fmt: skip
    made.export(progress=False)
    return folder


@pytest.fixture
def made(whole, tmp_path) -> Path:
    """A copy of the run; its images are those of the original."""
    return shutil.copytree(whole / "run", tmp_path / "run")


def verified(folder: Path, **options) -> Verification:
    with execution(progress=False) as context:
        return verify_run(RunFolder(folder), context, **options)


def outcomes(found: Verification) -> dict[str, str]:
    return {check.name.partition(",")[0]: check.outcome for check in found.checks}


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("options", [{}, {"epochs": 2}, {"epochs": 9}, {"steps": 2, "epochs": 0}])
def test_run_as_it_was_made_passes_and_is_not_changed(made, options):
    before = contents(made)
    found = verified(made, **options)
    assert set(outcomes(found).values()) == {"passed"}, found
    assert found.differences == ()
    trained = [check.name for check in found.checks if check.name.startswith("training")]
    steps = RunFolder(made).spec.request.recipe.epochs and Checkpoints(made / "checkpoints").newest().step
    third = steps // 3
    expected = {
        (): [f"training, steps {2 * third + 1} to {steps}"],
        (2,): [f"training, steps 1 to {third}", f"training, steps {2 * third + 1} to {steps}"],
        (9,): [f"training, steps 1 to {steps}"],
        (2, 0): [f"training, steps {2 * third + 1} to {2 * third + 2}"],
    }
    assert trained == expected[tuple(options.values())]
    assert contents(made) == before


def flip_bit(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def test_every_flipped_bit_in_a_file_of_a_run_is_found(whole, made, tmp_path):
    """Files of the run, its checkpoints and its images."""
    images = shutil.copytree(whole / "images", tmp_path / "images")
    ts.Run.open(made, images=images, progress=False)
    folder, chance, found = RunFolder(made), random.Random(0), Counter()
    groups = {
        "files": [path for path in made.rglob("*") if path.is_file() and path.parent != folder.checkpoints],
        "checkpoints": list(folder.checkpoints.iterdir()),
        "images": sorted(images.rglob("*.png")),
    }
    groups["files"] = [path for path in groups["files"] if path.name != ".lock"]
    with execution(progress=False) as context:
        checks = {
            "files": lambda: check_files(folder),
            "checkpoints": lambda: check_checkpoints(folder),
            "images": lambda: check_images(folder, context),
        }
        assert {check().outcome for check in checks.values()} == {"passed"}
        for number in range(FLIPS):
            group = list(groups)[number % 3]
            path = chance.choice(groups[group])
            whole_file = path.read_bytes()
            flip_bit(path, chance)
            found[group] += checks[group]().outcome == "failed"
            path.write_bytes(whole_file)
    figure(13, "bits flipped in files, checkpoints and images of a run, found", found.total(), FLIPS)
    assert found.total() == FLIPS


def test_flipped_bit_in_a_training_that_did_not_replay_is_found_afterwards(images, tiny_file, tmp_path):
    """One bit of one weight in memory, in the second of three epochs."""
    steps = []

    def corrupt(optimizer, *rest):
        steps.append(0)
        if len(steps) == 8:
            optimizer.param_groups[0]["params"][0].detach().numpy().view(np.uint32)[5, 0, 1, 1] ^= 1 << 10

    hook = register_optimizer_step_post_hook(corrupt)
    try:
        ts.train(images, network=tiny_file, epochs=3, batch_size=8,
                 settings={"min_steps": 1, "replay_every": 0}, out=tmp_path / "run", progress=False)  # fmt: skip
    finally:
        hook.remove()
    assert verified(tmp_path / "run").passed  # the last epoch was trained as it should
    found = verified(tmp_path / "run", epochs=3)
    assert [check.name.partition(",")[0] for check in found.failed] == ["training"]
    assert "epoch 2 is the first that differs" in found.failed[0].detail


def test_changed_records_are_found(made):
    folder = RunFolder(made)
    spec = folder.spec
    spec.replace(request=spec.request.replace(recipe=spec.request.recipe.replace(label_smoothing=0.2))).save(
        folder.spec_file
    )
    found = outcomes(verified(made))
    assert found["files"] == found["recipe"] == found["training"] == "failed"
    spec.save(folder.spec_file)
    folder.spec_file.write_text(folder.spec_file.read_text().replace("seed", "sded"))
    found = verified(made)
    assert {check.name for check in found.failed} == {"files", "records"}


def test_changed_results_are_found(made):
    """Metrics, predictions and an exported file that somebody edited, with a manifest that fits them."""
    folder = RunFolder(made)
    metrics = json.loads(folder.metrics_file.read_text())
    metrics["loss"] += 1e-6
    folder.metrics_file.write_text(json.dumps(metrics))
    with folder.update():
        pass
    found = outcomes(verified(made, epochs=0))
    assert (found["files"], found["evaluation"], found["export model.onnx"]) == ("passed", "failed", "passed")
    content = folder.onnx_file.read_bytes()
    weights = folder.weights_file.read_bytes()
    folder.weights_file.write_bytes(weights[:-2] + bytes([weights[-2] ^ 64]) + weights[-1:])
    with folder.update():
        pass
    found = outcomes(verified(made, epochs=0))
    assert found["files"] == "passed"
    assert found["checkpoints"] == "failed"
    folder.weights_file.write_bytes(weights)
    folder.onnx_file.write_bytes(content[:100])
    found = outcomes(verified(made, epochs=0))
    assert (found["files"], found["export model.onnx"]) == ("failed", "failed")


def of_another_machine(folder: RunFolder, **changes) -> None:
    spec = folder.spec
    spec.replace(machine=spec.machine.replace(**changes)).save(folder.spec_file)
    folder.commit()


def test_run_of_another_machine_is_compared_within_a_tolerance(whole, tiny, tmp_path):
    """Trained with two threads, whose sums differ from one thread's by rounding, and verified as of another machine."""
    wide = tiny.replace(stages=tuple(stage.replace(width=96) for stage in tiny.stages), resolution=32)
    torch.set_num_threads(2)
    try:
        ts.train(whole / "images", network=wide, epochs=2, batch_size=12, settings={"min_steps": 1},
                 out=tmp_path / "run", progress=False)  # fmt: skip
    finally:
        torch.set_num_threads(1)
    folder = RunFolder(tmp_path / "run")
    assert folder.spec.machine.threads == 2
    found = verified(folder.folder)
    assert found.passed
    assert any("threads 1 instead of 2" in difference for difference in found.differences)
    assert outcomes(found)["versions and machine"] == outcomes(found)["training"] == "within tolerance"
    # The same bits as of this machine would be a failure.
    of_another_machine(folder, threads=1)
    found = verified(folder.folder)
    assert found.differences == ()
    assert outcomes(found)["training"] == "failed"


def test_differences_between_machines_are_named(made):
    before = RunFolder(made).spec.machine
    packages = dict(before.packages) | {"torch": "1.0", "onnx": "1.0"}
    now = before.replace(packages=tuple(packages.items()), processor="other", cores=99)
    assert [text.split()[0] for text in differences_of(before, now)] == ["torch", "processor"]
    assert differences_of(before, before) == ()


def test_unfinished_run_is_verified_as_far_as_it_is(images, tiny_file, tmp_path, stop_after):
    stop_after()
    with pytest.raises(ts.Interrupted):
        ts.train(images, network=tiny_file, epochs=3, batch_size=8, settings={"min_steps": 1},
                 out=tmp_path / "run", progress=False)  # fmt: skip
    found = verified(tmp_path / "run", epochs=3)
    assert found.passed
    assert outcomes(found)["training"] == "passed"
    assert outcomes(found)["files"] == outcomes(found)["evaluation"] == "not checked"


def test_images_that_moved_changed_or_are_gone(whole, made, tmp_path):
    moved = shutil.copytree(whole / "images", tmp_path / "moved")
    assert set(outcomes(verified(made, images=str(moved))).values()) == {"passed"}
    flip_bit(next(moved.rglob("*.png")), random.Random(1))
    found = verified(made, images=str(moved))
    assert [check.name for check in found.failed] == ["images"]
    assert outcomes(found)["training"] == outcomes(found)["evaluation"] == "not checked"
    ts.Run.open(made, images=shutil.copytree(whole / "images", tmp_path / "gone"), progress=False)
    shutil.rmtree(tmp_path / "gone")
    found = verified(made)
    assert found.passed
    names = {name for name, outcome in outcomes(found).items() if outcome == "not checked"}
    assert {"images", "training", "evaluation"} <= names


def test_weights_that_were_not_trained_are_verified(whole, tmp_path, capsys):
    weights = tmp_path / "mine.safetensors"
    shutil.copy(whole / "run" / "model.safetensors", weights)
    result = run(capsys, "weights", "run", whole / "run", whole / "images", "--out", tmp_path / "as-they-are")
    assert result.code == 0, result
    found = verified(tmp_path / "as-they-are")
    assert found.passed
    assert outcomes(found)["training"] == "not checked"
    assert outcomes(found)["evaluation"] == "passed"


def test_command_prints_the_checks_and_its_exit_code_tells(made, capsys, tmp_path):
    result = run(capsys, "verify", made, "--epochs", 0)
    assert result.code == 0
    assert "bit by bit" in result.out
    flip_bit(made / "model.safetensors", random.Random(0))
    result = run(capsys, "verify", made, "--epochs", 0, "--json")
    assert result.code == 1
    failed = {check["name"] for check in json.loads(result.out)["checks"] if check["outcome"] == "failed"}
    assert {"files", "checkpoints", "evaluation"} <= failed
    assert "Traceback" not in result.err
    assert "holds no run" in refused(capsys, "verify", tmp_path)
    assert "negative" in refused(capsys, "verify", made, "--steps", -1)


def test_run_in_use_is_refused_and_an_archive_is_verified(made, capsys):
    with RunFolder(made).lock():
        assert "is in use by process" in refused(capsys, "verify", made)
    made.chmod(0o555)
    try:
        assert verified(made, epochs=0).passed
    finally:
        made.chmod(0o755)


def test_python_gives_the_same(made):
    found = ts.Run.open(made).verify(steps=1, epochs=0, progress=False)
    assert found.passed
    assert Verification.from_json(found.to_json()) == found
