"""Training steps on simulated GPUs: torch's fake tensors compute shapes, dtypes and devices without the hardware.

They refuse operands on different devices, and any read of a value, which on a GPU would wait for it. They compute no
values, and no backward pass; benchmarks/gpu.py compares those on a machine with a GPU. These tests start autograd's
threads for devices, after which a fork cannot train, so that they are not among the tests of training.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from sizes import stressed
from triscale.data.pipeline.loader import Batch
from triscale.errors import RecipeError
from triscale.families import FAMILIES, get
from triscale.jobs.training.memory import step_memory
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.nn.chain import FUSED_DEVICES, fused_on
from triscale.training import step as step_module
from triscale.training.accelerator import distributed_backend, has_fused_optimizer
from triscale.training.distributed.group import ALONE
from triscale.training.losses import _constant
from triscale.training.objective import Objective
from triscale.training.optim import make_optimizer, optimizer_state, restore_optimizer
from triscale.training.recipe import SMALL, AdamW, Recipe, RmsProp, Sgd
from triscale.training.recompute import is_out_of_memory
from triscale.training.state.state import State, new_state
from triscale.training.step import Stepper

SIDE, BATCH = 32, 8
DEVICES = ("cuda", "xpu", "mps")


@pytest.fixture
def simulated(monkeypatch):
    """Let torch's autocast and our questions about the hardware answer as a GPU would."""
    from triscale.data.images.transforms import _moments

    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)
    # Fake parameters cannot be swapped in place; they are created on the device, see `on`.
    monkeypatch.setattr(nn.Module, "to", lambda self, *args, **options: self)
    # The average is a deep copy of the model, which must stay in the same simulation.
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)
    for cached in (_moments, _constant):
        cached.cache_clear()
    yield
    for cached in (_moments, _constant):
        cached.cache_clear()


def on(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a model, changed in place, with parameters and buffers on a simulated device."""
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[name] = nn.Parameter(torch.empty(value.shape, device=device))
        for name, value in list(module._buffers.items()):
            module._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=device)
    return model


def stepper_on(monkeypatch, model: nn.Module, recipe: Recipe, device: torch.device, **objective) -> Stepper:
    state: State = new_state(on(model, device), recipe, device)

    def backward(loss: torch.Tensor) -> None:
        """Torch's backward engine asks the real driver for its streams, so gradients appear without it."""
        assert loss.requires_grad
        assert loss.device == device
        for parameter in state.model.parameters():
            parameter.grad = torch.empty_like(parameter)

    monkeypatch.setattr(torch.autograd, "backward", backward)
    return Stepper(
        state=state,
        forward=state.model,
        recipe=recipe,
        preprocessing=Preprocessing(resolution=SIDE),
        classes=3,
        objective=Objective(label_smoothing=recipe.label_smoothing, **objective),
        seed=0,
        device=device,
        group=ALONE,
        on_message=lambda message: None,
    )


def batch() -> Batch:
    images = torch.zeros(BATCH, 3, SIDE, SIDE, dtype=torch.uint8)
    return Batch(images, torch.zeros(BATCH, dtype=torch.long), torch.arange(BATCH))


def smallest(family: str) -> str:
    return min((member.network for member in FAMILIES[family]), key=lambda network: network.resolution).name


VARIED = ("EfficientNet", "EfficientNetV2", "MobileNetV3", "MobileNetV4", "RegNet")
"""Families that have, between them, every kind of block but those of ResNet."""
RECIPES = {
    "adamw": Recipe(batch=BATCH, optimizer=AdamW()),
    "sgd": Recipe(batch=BATCH, optimizer=Sgd()),
    "plain-sgd": Recipe(batch=BATCH, optimizer=Sgd(momentum=0.0)),
    "rmsprop": Recipe(batch=BATCH, optimizer=RmsProp()),
    "micro-batches": Recipe(batch=BATCH, micro_batches=4),
    "frozen-norms": Recipe(batch=BATCH, norm_statistics="frozen", layer_decay=0.8, head_epochs=1, ema_decay=0),
    "class-weights": Recipe(batch=BATCH),
}


@pytest.mark.parametrize("name", RECIPES)
def test_step_stays_on_device_and_reads_no_value(monkeypatch, simulated, tiny, name):
    monkeypatch.setattr(step_module, "_has_first_gradient", lambda state: False)  # only the first step may wait
    model = build(tiny.replace(classes=3, drop_path=0.0, dropout=0.0))
    weights = {"class_weights": (1.0, 2.0, 3.0), "offsets": (0.1, 0.2, 0.3)} if name == "class-weights" else {}
    with FakeTensorMode():
        stepper = stepper_on(monkeypatch, model, RECIPES[name], torch.device("cuda", 0), **weights)
        for number in range(3):
            stepper.take(batch(), BATCH, 0.1, only_head=number == 0, frozen_norms=name == "frozen-norms")
        state = stepper.state
        assert {value.device.type for value in state.model.state_dict().values()} == {"cuda"}
        assert {value.device.type for value in state.average.tensors} == {"cuda"}
        assert {value.device.type for value in optimizer_state(state.optimizer, state.model).values()} <= {"cuda"}


def test_simulation_notices_a_step_that_waits(monkeypatch, simulated, tiny):
    model = build(tiny.replace(classes=3, drop_path=0.0, dropout=0.0))
    with FakeTensorMode():
        stepper = stepper_on(monkeypatch, model, RECIPES["adamw"], torch.device("cuda", 0))
        with pytest.raises(DataDependentOutputException):  # the first step reads whether it is finite
            stepper.take(batch(), BATCH, 0.1)


@pytest.mark.parametrize("family", [*VARIED, *stressed(*(family for family in FAMILIES if family not in VARIED))])
def test_every_family_trains_in_bfloat16_on_simulated_gpu(monkeypatch, simulated, family):
    monkeypatch.setattr(step_module, "_has_first_gradient", lambda state: False)
    network = get(f"{smallest(family)}@{SIDE}").replace(classes=3)
    dtypes = set()
    with FakeTensorMode():
        stepper = stepper_on(monkeypatch, build(network), Recipe(batch=BATCH, drop_path=0.1), torch.device("cuda", 0))
        stem = next(module for module in stepper.state.model.modules() if isinstance(module, nn.Conv2d))
        stem.register_forward_hook(lambda module, given, result: dtypes.add((result.dtype, result.device.type)))
        stepper.take(batch(), BATCH, 0.1)
    assert dtypes == {(torch.bfloat16, "cuda")}


@pytest.mark.parametrize("device", DEVICES)
def test_state_has_dtypes_of_device(simulated, tiny, device):
    with FakeTensorMode():
        state = new_state(on(build(tiny), torch.device(device, 0)), Recipe(), torch.device(device, 0))
    assert state.tally.dtype == (torch.float32 if device == "mps" else torch.float64)


@pytest.mark.parametrize("device", DEVICES)
def test_optimizer_state_is_restored_to_device(simulated, tiny, device):
    with FakeTensorMode():
        model = on(build(tiny), torch.device(device, 0))
        optimizer = make_optimizer(Recipe(), model)
        assert has_fused_optimizer(torch.device(device))
        assert optimizer.defaults["fused"]
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)
        optimizer.step()
        saved = optimizer_state(optimizer, model)
        optimizer.state.clear()
        restore_optimizer(optimizer, model, {name: torch.empty(value.shape) for name, value in saved.items()})
        restored = optimizer_state(optimizer, model)
        assert {name: value.device for name, value in restored.items()} == {
            name: value.device for name, value in saved.items()
        }


def test_chains_are_fused_only_where_they_are_known_to_be_faster(simulated, tiny):
    def saved_tensors(device: str) -> int:
        count = 0

        def record(value: torch.Tensor) -> torch.Tensor:
            nonlocal count
            count += 1
            return value

        model = on(build(tiny), torch.device(device)).train()
        with torch.autograd.graph.saved_tensors_hooks(record, lambda value: value):
            model(torch.empty(2, 3, SIDE, SIDE, device=device))
        return count

    assert FUSED_DEVICES == ("cpu", "meta")
    with FakeTensorMode():
        plain = saved_tensors("cuda")
        with fused_on("cuda"):
            fused = saved_tensors("cuda")
    assert fused < plain


def test_memory_estimate_knows_that_gpus_do_not_fuse():
    network = get("efficientnet_b0@64")
    cpu, cuda = (step_memory(network, 8, SMALL, torch.device(name)).activation_bytes for name in ("cpu", "cuda"))
    assert 1.2 * cpu < cuda


@pytest.mark.parametrize(
    ("device", "devices", "processes", "backend"),
    [
        ("cpu", 1, 4, "gloo"),
        ("cuda", 2, 2, "nccl"),
        ("cuda", 1, 2, "gloo"),  # NCCL refuses two processes on one GPU
        ("xpu", 2, 2, "xccl"),
        ("xpu", 1, 2, None),
        ("mps", 1, 2, None),
    ],
)
def test_backend_suits_device(monkeypatch, device, devices, processes, backend):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    monkeypatch.setattr("triscale.training.accelerator.device_count", lambda kind: devices)
    if backend is None:
        with pytest.raises(RecipeError, match="start one"):
            distributed_backend(torch.device(device))
    else:
        assert distributed_backend(torch.device(device)) == backend


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("any words"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_of_gpus_is_recognized(error):
    assert is_out_of_memory(error)
