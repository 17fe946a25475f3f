"""Steps and trainings on the device: resumed bitwise, without waiting, with bad batches, with little memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from gpu_parts.rows import Result, Rows, UnavailableError, failed_checks
from gpu_parts.tasks import BATCH, RECIPES, SIDE, batch_of, stepper_of, train_small
from training.processes import folder_digest
from triscale import get
from triscale.data.pipeline.loader import Batch
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.training.evaluate import evaluate
from triscale.training.recipe import Recipe
from triscale.training.recompute import MAX_CHECKPOINT_LEVEL
from triscale.training.state.state import to_tensors
from triscale.training.step import Stepper

MAX_LOGIT_DIFFERENCE = 2e-2
"""Relative; convolutions use tensor float 32 on NVIDIA GPUs by default, with 10 bits of mantissa."""
STOP_AFTER = 8  # steps of 12, in the second epoch


def run(rows: Rows) -> None:
    """Check the promises of training on the device."""
    device, tiny = rows.setting.device, rows.setting.tiny
    recipes = {name: RECIPES[name] for name in ("adamw",)} if tiny else RECIPES
    for name, recipe in recipes.items():
        rows.once(f"resume: {name}", lambda recipe=recipe: resume(recipe, device), seconds=60)
    for name, recipe in recipes.items():
        rows.once(f"never waits: {name}", lambda recipe=recipe: never_waits(recipe, device))
    for name, recipe in recipes.items():
        rows.once(f"bad batch: {name}", lambda recipe=recipe: bad_batch(recipe, device))
    rows.once("checkpointed activations", lambda: recomputed(device))
    rows.once("out of memory", lambda: out_of_memory(device), seconds=60)
    rows.once("evaluation", lambda: evaluation(device))


def resume(recipe: Recipe, device: torch.device) -> Result:
    """Train twice without a break and once with one, as torch comes and with deterministic algorithms."""
    result: Result = {}
    for kind in ("default", "deterministic"):
        with TemporaryDirectory() as name, deterministic(kind == "deterministic") as noted:
            folders = [Path(name) / which for which in ("whole", "again", "stopped")]
            losses = [train_small(folder, recipe, device) for folder in folders[:2]]
            stopped = train_small(folders[2], recipe, device, stop_after=STOP_AFTER)
            losses.append(train_small(folders[2], recipe, device))
            whole, again, resumed = (folder_digest(folder) for folder in folders)
        result[kind] = {
            "repeated bitwise": whole == again,
            "resumed bitwise": whole == resumed,
            "validation losses": losses,
            "operations without a deterministic form": sorted(set(noted)),
        }
        assert not stopped
    checks = {
        f"deterministic algorithms: {what}": result["deterministic"][what]
        for what in ("repeated bitwise", "resumed bitwise")
    }
    return result | failed_checks(checks)


@contextmanager
def deterministic(active: bool) -> Iterator[list[str]]:
    """Use deterministic algorithms; yields the operations that have none."""
    noted: list[str] = []
    torch.use_deterministic_algorithms(active, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield noted
        noted += [str(warning.message).split(".")[0] for warning in caught if "deterministic" in str(warning.message)]
    finally:
        torch.use_deterministic_algorithms(False)


def never_waits(recipe: Recipe, device: torch.device) -> Result:
    """Take steps while torch makes an error of everything that waits for the device."""
    if device.type != "cuda":
        raise UnavailableError("torch reports waiting on CUDA only; tests/nn/test_simulated_devices.py simulates it")
    stepper = stepper_of(recipe, device)
    batches = [batch_of((0, number), device=device) for number in range(6)]
    for batch in batches[:3]:  # the first step waits once, and constants are copied to the device
        stepper.take(batch, BATCH, 1e-3)
    torch.cuda.synchronize(device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[3:]:
            stepper.take(batch, BATCH, 1e-3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"steps": 3, "loss": stepper.state.loss} | failed_checks({"the loss is finite": stepper.state.loss < 1e6})


class Sometimes(nn.Module):
    """A model whose logits are not finite when asked."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.is_bad = model, False

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, or NaN."""
        logits: Tensor = self.model(images)
        return logits * float("nan") if self.is_bad else logits


def bad_batch(recipe: Recipe, device: torch.device) -> Result:
    """Take two steps, one with a loss that is not finite, and two more; the bad one must leave no trace."""
    stepper = stepper_of(recipe, device)
    bad = Sometimes(stepper.state.model)
    stepper.forward = bad
    batches = [batch_of((0, number), device=device) for number in range(5)]
    for batch in batches[:2]:
        stepper.take(batch, BATCH, 1e-3)
    before = snapshot(stepper)
    bad.is_bad = True
    stepper.take(batches[2], BATCH, 1e-3)
    bad.is_bad = False
    after = snapshot(stepper)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    skipped = stepper.state.tally[2].item()
    for batch in batches[3:]:
        stepper.take(batch, BATCH, 1e-3)
    finite = all(bool(value.isfinite().all()) for value in snapshot(stepper).values() if value.is_floating_point())
    checks = {"nothing changed": not changed, "one step is counted": skipped == 1, "later steps are finite": finite}
    return {"changed": changed[:5], "tensors": len(before)} | failed_checks(checks)


def snapshot(stepper: Stepper) -> dict[str, Tensor]:
    """Return copies of the tensors that a step changes, apart from the record of losses."""
    values = to_tensors(stepper.state).copied().values
    return {name: value for name, value in values.items() if not name.startswith("loss/")}


def recomputed(device: torch.device) -> Result:
    """Take the same step with all levels of activation checkpointing."""
    with deterministic(True):
        found = [after_steps(device, level) for level in range(MAX_CHECKPOINT_LEVEL + 1)]
    differences = [max(float((one - found[0][name]).abs().max()) for name, one in state.items()) for state in found]
    return {"largest difference by level": differences} | failed_checks({"bitwise the same": max(differences) == 0})


def after_steps(device: torch.device, level: int, notes: list[str] | None = None) -> dict[str, Tensor]:
    """Return the state after two steps at a level of activation checkpointing."""
    stepper = stepper_of(RECIPES["adamw"], device)
    stepper.checkpoint_level = level
    if notes is not None:
        stepper.on_message = notes.append
    for number in range(2):
        stepper.take(batch_of((0, number), device=device), BATCH, 1e-3)
    return {name: value.double() for name, value in snapshot(stepper).items()}


def out_of_memory(device: torch.device) -> Result:
    """Limit the memory so that a step fits only with activation checkpointing."""
    if device.type != "cuda":
        raise UnavailableError(
            "torch limits the memory of CUDA only; tests/training/test_memory_fallback.py does the CPU's"
        )
    side, number = 224, 32
    network = get(f"efficientnet_b0@{side}").replace(classes=10)
    images = torch.zeros(number, 3, side, side, dtype=torch.uint8).random_(generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.zeros(number, dtype=torch.int64), torch.arange(number))
    peaks, states, notes = [], [], []
    total = torch.cuda.get_device_properties(device).total_memory
    for limit in (None, None, "between"):
        stepper = stepper_of(Recipe(batch=number, precision="float32"), device, network)
        stepper.on_message = notes.append
        stepper.checkpoint_level = MAX_CHECKPOINT_LEVEL if len(states) == 1 else 0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        if limit:
            torch.cuda.set_per_process_memory_fraction(sum(peaks) / 2 / total, device)
        try:
            with deterministic(True):
                stepper.take(batch, number, 1e-3)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        peaks.append(torch.cuda.max_memory_reserved(device))
        states.append(snapshot(stepper))
        if limit:
            level = stepper.checkpoint_level
        del stepper
    same = all(torch.equal(value, states[2][name]) for name, value in states[0].items())
    checks = {"a note says so": bool(notes), "the level was raised": level > 0, "bitwise the same": same}
    return {"peak bytes": peaks, "notes": notes, "level": level} | failed_checks(checks)


def evaluation(device: torch.device) -> Result:
    """Evaluate the same model on the device and on the CPU."""
    network = get(f"efficientnet_b0@{SIDE}").replace(classes=10)
    torch.manual_seed(0)
    model = build(network)
    batches = [batch_of((0, number)) for number in range(3)]
    found = []
    for where in (torch.device("cpu"), device):
        moved = model.to(where).to(memory_format=torch.channels_last)
        found.append(evaluate(moved, batches, Preprocessing(resolution=SIDE), device=where).logits)
    scale = float(abs(found[0]).max())
    difference = float(abs(found[0] - found[1]).max()) / scale
    checks = {f"logits differ by at most {MAX_LOGIT_DIFFERENCE}": difference <= MAX_LOGIT_DIFFERENCE}
    return {"largest difference, relative": difference} | failed_checks(checks)
