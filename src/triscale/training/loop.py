"""The training loop: read it from top to bottom.

A step is a pure function of recipe, seed, step number and state: the batch is one of (seed, epoch, step), dropout and
stochastic depth are drawn from (seed, step, shard). No random state is saved, and none is relied upon.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triscale.data.transforms import normalize
from triscale.errors import Interrupted, JobError
from triscale.network.contract import Preprocessing
from triscale.training.checkpoint import Checkpoints, Epoch, Manifest, Stored
from triscale.training.ema import Average
from triscale.training.evaluate import Batch, evaluate
from triscale.training.optim import make_optimizer, optimizer_state, restore_optimizer, set_learning_rate
from triscale.training.recipe import Recipe
from triscale.training.schedule import ema_decay, learning_rate

REPORT_SECONDS = 0.2
MOST_UNDONE_IN_A_ROW = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Where batches come from: a training epoch from any of its steps on, and the held-out images."""

    steps_per_epoch: int
    train: Callable[[int, int], Iterator[Batch]]
    val: Callable[[], Iterable[Batch]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a training stands; ``seconds_left`` is an estimate from the steps of this start."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    val_top1: float | None
    images_per_second: float
    seconds_left: float


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that a step changes."""

    model: nn.Module
    average: Average
    optimizer: torch.optim.Optimizer
    step: int = 0
    loss_sum: Tensor
    loss_count: int = 0
    history: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    best_file: Stored | None = None
    undone: int = 0
    undone_in_a_row: int = 0


def train(
    model: nn.Module,
    recipe: Recipe,
    feed: Feed,
    preprocessing: Preprocessing,
    checkpoints: Checkpoints,
    *,
    network_digest: str,
    seed: int,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[tuple[Epoch, ...]], None] = lambda history: None,
) -> Manifest:
    """Train to the end of the recipe, from the newest checkpoint if there is one.

    A checkpoint is committed after each epoch, and when ``should_stop`` answers true. The returned manifest names the
    file with the best averaged weights, by accuracy on the held-out images, then by their loss.

    Raises:
        Interrupted: ``should_stop`` answered true; everything is saved.
    """
    model = model.to(device).to(memory_format=torch.channels_last)
    average = Average(model)
    optimizer = make_optimizer(recipe, model)
    state = State(
        model=model, average=average, optimizer=optimizer, loss_sum=torch.zeros((), dtype=torch.float64, device=device)
    )
    saved = checkpoints.newest()
    if saved is not None:
        _restore(state, saved, checkpoints.load(saved.state_file))
        if saved.finished:
            return saved

    steps = feed.steps_per_epoch * recipe.epochs
    meter = _Meter(steps, recipe, on_progress)

    def save(finished: bool) -> Manifest:
        stored = checkpoints.store(f"state-{state.step:09d}.safetensors", _tensors(state))
        manifest = Manifest(
            recipe=recipe.digest,
            network=network_digest,
            seed=seed,
            step=state.step,
            finished=finished,
            history=tuple(state.history),
            best=state.best,
            state_file=stored,
            best_file=state.best_file,
        )
        checkpoints.commit(manifest)
        return manifest

    manifest = saved
    while state.step < steps:
        epoch, first = divmod(state.step, feed.steps_per_epoch)
        meter.start_epoch()
        rate = 0.0
        for batch in feed.train(epoch, first):
            if should_stop():
                save(finished=False)
                raise Interrupted(f"stopped after step {state.step} of {steps}; everything is saved")
            rate = learning_rate(recipe, state.step, feed.steps_per_epoch)
            _step(state, recipe, batch, preprocessing, rate=rate, seed=seed, device=device)
            meter.count(state, len(batch.labels))

        outcome = evaluate(average.model, feed.val(), preprocessing, device=device)
        finished_epoch = Epoch(
            epoch=epoch + 1,
            step=state.step,
            learning_rate=rate,
            train_loss=float(state.loss_sum) / max(1, state.loss_count),
            val_loss=outcome.loss,
            val_top1=outcome.top1,
            images_per_second=meter.images_per_second,
            seconds=meter.epoch_seconds,
            undone=state.undone,
        )
        state.history.append(finished_epoch)
        state.loss_sum.zero_()
        state.loss_count = state.undone = 0
        if state.best is None or (outcome.top1, -outcome.loss) > (state.best.val_top1, -state.best.val_loss):
            state.best = finished_epoch
            state.best_file = checkpoints.store(f"best-{state.step:09d}.safetensors", average.model.state_dict())
        manifest = save(finished=state.step == steps)
        on_epoch(tuple(state.history))
    assert manifest is not None
    return manifest


def seed_weights(seed: int) -> None:
    """Seed the drawing of a model's first weights, so that they are a function of the seed alone."""
    torch.manual_seed(_seed(seed, 0, 0))


def _step(
    state: State,
    recipe: Recipe,
    batch: Batch,
    preprocessing: Preprocessing,
    *,
    rate: float,
    seed: int,
    device: torch.device,
) -> None:
    """Take one step: all shards forward and backward, then optimizer and average.

    A step whose loss or gradient is not finite is undone whole: weights, average, optimizer and the statistics of
    batch norm stay as they were before it.

    Raises:
        JobError: too many steps in a row were not finite.
    """
    state.model.train()
    statistics = [buffer.clone() for buffer in state.model.buffers()]
    loss_before = state.loss_sum.clone()
    set_learning_rate(state.optimizer, rate)
    state.optimizer.zero_grad(set_to_none=True)
    count = len(batch.labels)
    labels = batch.labels.to(device, non_blocking=True)
    images = batch.images.to(device, non_blocking=True)
    reduced = device.type == "cuda" if recipe.precision == "auto" else recipe.precision == "bfloat16"
    for shard, (part, targets) in enumerate(zip(images.chunk(recipe.shards), labels.chunk(recipe.shards), strict=True)):
        torch.manual_seed(_seed(seed, state.step + 1, shard))
        inputs = normalize(part, preprocessing).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced):
            logits = state.model(inputs)
        loss = F.cross_entropy(logits.float(), targets, label_smoothing=recipe.label_smoothing, reduction="sum")
        torch.autograd.backward(loss / count)
        state.loss_sum += loss.detach()
    if _is_finite(state):
        state.optimizer.step()
        state.average.update(ema_decay(recipe, state.step) if recipe.ema_decay else 0.0)
        state.loss_count += count
        state.undone_in_a_row = 0
    else:
        for buffer, before in zip(state.model.buffers(), statistics, strict=True):
            buffer.copy_(before)
        state.loss_sum.copy_(loss_before)
        state.undone += 1
        state.undone_in_a_row += 1
        if state.undone_in_a_row == MOST_UNDONE_IN_A_ROW:
            raise JobError(
                f"the loss was not finite in {MOST_UNDONE_IN_A_ROW} steps in a row up to step {state.step + 1}; the "
                "last checkpoint is from before them; try a smaller learning rate in another Run"
            )
    state.step += 1


@torch.no_grad()
def _is_finite(state: State) -> bool:
    gradients = [parameter.grad for parameter in state.model.parameters() if parameter.grad is not None]
    norms = torch._foreach_norm(gradients)
    return bool(torch.stack([*norms, state.loss_sum.to(norms[0].dtype)]).isfinite().all())


def _seed(seed: int, step: int, shard: int) -> int:
    """Mix three numbers into a seed of 63 bits; step 0 is the drawing of the first weights."""
    return int(np.random.SeedSequence((seed, step, shard)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _tensors(state: State) -> dict[str, Tensor]:
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in state.average.model.state_dict().items()}
    tensors |= {f"optimizer/{name}": value for name, value in optimizer_state(state.optimizer, state.model).items()}
    return tensors | {"loss/sum": state.loss_sum, "loss/count": torch.tensor([state.loss_count, state.undone])}


def _restore(state: State, manifest: Manifest, tensors: dict[str, Tensor]) -> None:
    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(below("model/"))
    state.average.model.load_state_dict(below("average/"))
    restore_optimizer(state.optimizer, state.model, below("optimizer/"))
    state.loss_sum.copy_(tensors["loss/sum"])
    state.loss_count, state.undone = tensors["loss/count"].tolist()
    state.step, state.history = manifest.step, list(manifest.history)
    state.best, state.best_file = manifest.best, manifest.best_file


class _Meter:
    """Speed and time left, reported a few times a second."""

    def __init__(self, steps: int, recipe: Recipe, on_progress: Callable[[Progress], None]) -> None:
        self._steps, self._epochs, self._on_progress = steps, recipe.epochs, on_progress
        self._started = self._reported = time.perf_counter()
        self._taken = 0
        self.start_epoch()

    def start_epoch(self) -> None:
        self._epoch_started, self._images = time.perf_counter(), 0

    @property
    def epoch_seconds(self) -> float:
        return time.perf_counter() - self._epoch_started

    @property
    def images_per_second(self) -> float:
        return self._images / max(1e-9, self.epoch_seconds)

    def count(self, state: State, images: int) -> None:
        self._images += images
        self._taken += 1
        now = time.perf_counter()
        if now - self._reported < REPORT_SECONDS and state.step < self._steps:
            return
        self._reported = now
        self._on_progress(
            Progress(
                epoch=len(state.history) + 1,
                epochs=self._epochs,
                step=state.step,
                steps=self._steps,
                loss=float(state.loss_sum) / max(1, state.loss_count),
                val_top1=state.history[-1].val_top1 if state.history else None,
                images_per_second=self.images_per_second,
                seconds_left=(now - self._started) / self._taken * (self._steps - state.step),
            )
        )
