"""One, two or four processes give bitwise the same result; torch is the reference for its own order of sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sizes import figure
from training.processes import folder_digest, run_together
from triscale.data.pipeline.loader import Batch
from triscale.errors import Interrupted, RecipeError
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.training.context import ExecutionContext
from triscale.training.distributed.group import Group, join
from triscale.training.distributed.micro_batches import micro_batch_slices, micro_batches_of, tree_sum
from triscale.training.distributed.sync_norm import sync_batch_norm
from triscale.training.loop import seed_weights, train
from triscale.training.objective import Objective
from triscale.training.recipe import Recipe, Sgd
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.task import BatchSource, TrainingTask

CPU = torch.device("cpu")
STEPS, BATCH = 3, 18
VAL = 7  # batches, so that no number of processes divides them


def images_of(place: tuple[int, ...], count: int) -> Batch:
    rng = np.random.default_rng(place)
    labels = torch.from_numpy(rng.integers(0, 3, count))
    images = rng.integers(0, 200, (count, 3, 16, 16), dtype=np.uint8)
    images[np.arange(count), labels.numpy()] += 50
    return Batch(torch.from_numpy(images), labels, torch.arange(count))


def feed(recipe: Recipe, group: Group) -> BatchSource:
    """Batches that are a function of (epoch, step); each process gets its micro-batches."""
    mine = micro_batches_of(group.rank, group.size, recipe.micro_batches)
    parts = micro_batch_slices(BATCH, recipe.micro_batches)
    share = slice(parts[mine.start].start, parts[mine.stop - 1].stop)

    def batches(epoch: int, first: int):
        for step in range(first, STEPS):
            batch = images_of((epoch, step), BATCH)
            yield Batch(batch.images[share], batch.labels[share], batch.indices[share])

    return BatchSource(
        steps_per_epoch=STEPS,
        count=lambda step: BATCH,
        train=batches,
        val=lambda: (images_of((99, number), 5) for number in range(group.rank, VAL, group.size)),
        whole=lambda epoch: (images_of((epoch, step), BATCH) for step in range(STEPS)),
    )


def task(network, recipe: Recipe) -> TrainingTask:
    return TrainingTask(
        model=build(network),
        recipe=recipe,
        preprocessing=Preprocessing(resolution=16),
        classes=3,
        objective=Objective(label_smoothing=recipe.label_smoothing),
        network_digest="",
        seed=3,
    )


def train_together(folder, network, recipe: Recipe, *, stop_after: int | None = None):
    """Return the function that each process runs."""

    def work() -> object:
        with join(CPU) as group:
            calls = itertools.count(1)
            seed_weights(3)
            given = task(network, recipe)
            context = ExecutionContext(
                device=CPU, group=group, should_stop=lambda: stop_after is not None and next(calls) > stop_after
            )
            try:
                manifest = train(given, feed(recipe, group), Checkpoints(folder), context)
            except Interrupted:
                return "stopped"
            return [epoch.val_loss for epoch in manifest.history]

    return work


RECIPE = Recipe(epochs=2, batch=BATCH, micro_batches=4, warmup_epochs=1, mixup=0.2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("alone")
    losses = train_together(folder, tiny, RECIPE)()
    return folder_digest(folder), losses


@pytest.mark.parametrize("processes", [2, 4])
def test_result_is_bitwise_independent_of_processes(tmp_path, tiny, alone, processes):
    losses = run_together(processes, train_together(tmp_path, tiny, RECIPE))
    assert losses == [alone[1]] * processes
    assert folder_digest(tmp_path) == alone[0]
    figure(4, f"{processes} processes, bitwise as one", 1, 1)


@pytest.mark.parametrize("norms", ["frozen", "reestimated"])
def test_fine_tuning_batch_norm_matches_on_two_processes(tmp_path, tiny, norms):
    recipe = RECIPE.model_copy(update={"norm_statistics": norms, "head_epochs": 0.5, "layer_decay": 0.8})
    one = train_together(tmp_path / "one", tiny, recipe)()
    assert run_together(2, train_together(tmp_path / "two", tiny, recipe)) == [one] * 2
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two")


@pytest.mark.parametrize("numbers", [(1, 4, 2), (4, 2, 1)])
def test_number_of_processes_can_change_on_resume(tmp_path, tiny, alone, numbers):
    for processes, stop in zip(numbers, (2, 2, None), strict=True):
        results = run_together(processes, train_together(tmp_path, tiny, RECIPE, stop_after=stop))
        assert results == (["stopped"] * processes if stop else [alone[1]] * processes)
    assert folder_digest(tmp_path) == alone[0]
    figure(4, f"{numbers} processes in turn, bitwise as one", 1, 1)


def test_stop_request_stops_all_processes_at_same_step(tmp_path, tiny):
    def work() -> object:
        with join(CPU) as group:
            calls = itertools.count(1)
            given = task(tiny, RECIPE)
            context = ExecutionContext(device=CPU, group=group, should_stop=lambda: group.rank == 1 and next(calls) > 2)
            with pytest.raises(Interrupted, match="after step 2"):
                train(given, feed(RECIPE, group), Checkpoints(tmp_path), context)
            return "stopped"

    assert run_together(2, work) == ["stopped", "stopped"]
    assert Checkpoints(tmp_path).newest().step == 2


def test_fast_reduction_is_close_to_deterministic(tmp_path, tiny):
    weights = []
    for grad_reduction in ("deterministic", "fast"):
        recipe = Recipe(
            epochs=1,
            batch=BATCH,
            micro_batches=4,
            warmup_epochs=0,
            optimizer=Sgd(momentum=0.0),
            learning_rate=0.05,
            grad_reduction=grad_reduction,
        )
        folder = tmp_path / grad_reduction
        run_together(2, train_together(folder, tiny, recipe))
        checkpoints = Checkpoints(folder)
        weights.append(checkpoints.load(checkpoints.newest().state_file))
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=2e-3, atol=2e-4, equal_nan=True, msg=name)


def test_batch_norm_over_batch_matches_single_process(tmp_path, tiny):
    network = tiny.replace(drop_path=0.0, dropout=0.0)
    states = []
    for micro_batches, over in ((1, "micro_batch"), (3, "batch")):
        recipe = Recipe(
            epochs=1,
            batch=BATCH,
            micro_batches=micro_batches,
            norm_over=over,
            warmup_epochs=0,
            optimizer=Sgd(momentum=0.0),
            learning_rate=0.05,
        )
        folder = tmp_path / over
        results = run_together(micro_batches, train_together(folder, network, recipe))
        assert all(isinstance(result, list) for result in results), results
        checkpoints = Checkpoints(folder)
        states.append(checkpoints.load(checkpoints.newest().state_file))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], rtol=1e-3, atol=1e-4, equal_nan=True, msg=name)


def test_batch_norm_over_batch_needs_one_micro_batch_per_process():
    with pytest.raises(RecipeError, match="start 4 processes"):
        sync_batch_norm(nn.BatchNorm2d(3), Recipe(batch=8, micro_batches=4, norm_over="batch"), Group())


@given(st.integers(1, 64), st.integers(1, 6))
def test_micro_batches_are_assigned_once_or_rejected(micro_batches, log_processes):
    for processes in {2**log_processes, log_processes}:
        try:
            dealt = [number for rank in range(processes) for number in micro_batches_of(rank, processes, micro_batches)]
        except RecipeError:
            each, rest = divmod(micro_batches, processes)
            assert rest or (each > 1 and processes & (processes - 1))
        else:
            assert dealt == list(range(micro_batches))


@given(st.integers(1, 40), st.integers(0, 5))
def test_tree_sum_does_not_depend_on_process_split(micro_batches, log_processes):
    processes = 2**log_processes
    values = torch.from_numpy(np.random.default_rng(micro_batches).normal(size=(micro_batches, 7)).astype(np.float32))

    def leaf(first, last):
        return values[first].clone() if last - first == 1 else None

    whole = tree_sum(0, micro_batches, leaf)
    np.testing.assert_allclose(whole.double(), values.double().sum(0), atol=1e-5)
    if micro_batches % processes == 0:
        each = micro_batches // processes
        parts = [tree_sum(rank * each, (rank + 1) * each, leaf) for rank in range(processes)]

        def branch(first, last):
            return parts[first // each] if last - first == each else None

        assert torch.equal(tree_sum(0, micro_batches, branch), whole)


@given(st.integers(1, 500), st.integers(1, 20))
def test_micro_batches_cover_batch_evenly(count, micro_batches):
    slices = micro_batch_slices(count, micro_batches)
    assert [index for part in slices for index in range(count)[part]] == list(range(count))
    sizes = [len(range(count)[part]) for part in slices]
    assert max(sizes) - min(sizes) <= 1


def test_undistributable_micro_batches_are_rejected():
    with pytest.raises(RecipeError, match="--set micro_batches=2"):
        micro_batches_of(0, 2, 1)
