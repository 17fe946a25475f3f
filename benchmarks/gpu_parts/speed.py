"""Throughput and memory of a training step, compared with the networks of timm and torchvision.

A step is forward pass, cross-entropy, backward pass and SGD on random images on the device, in bfloat16 by autocast and
channels_last, so that only the network is timed. It runs as it is (``eager``), captured once as a CUDA graph
(``graph``), or with the forward and backward pass compiled (``compiled``). Networks are interleaved and run once per
round; a ratio is that of one round. The row ``own step`` is a whole step of Triscale's training: it also normalizes
images, averages weights, and undoes updates that are not finite.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from gpu_parts.rows import Result, Rows, Setting, UnavailableError
from gpu_parts.tasks import stepper_of
from steps import interleaved_seconds
from triscale import Network, get
from triscale.data.pipeline.loader import Batch
from triscale.nn.build import build
from triscale.nn.chain import fused_on
from triscale.training.accelerator import synchronize
from triscale.training.recipe import Recipe
from triscale.training.recompute import is_out_of_memory, release_memory

Step = Callable[[], None]
Make = Callable[[], nn.Module]
Context = Callable[[], AbstractContextManager[None]]
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """A network to time, by its name here, in timm and in torchvision.

    Attributes:
        name: Name here.
        timm: Name in timm.
        torchvision: Name in torchvision.
        side: Side of the images.
        batch: Images per step, halved until they fit.
    """

    name: str
    timm: str
    torchvision: str
    side: int
    batch: int


SUBJECTS = (
    Subject("efficientnet_b0", "efficientnet_b0", "efficientnet_b0", 224, 256),
    Subject("efficientnet_b4", "efficientnet_b4", "efficientnet_b4", 380, 64),
    Subject("efficientnetv2_s", "tf_efficientnetv2_s", "efficientnet_v2_s", 300, 128),
)
TINY = Subject("efficientnet_b0", "efficientnet_b0", "efficientnet_b0", 32, 2)


def run(rows: Rows) -> None:
    """Time the networks, the modes in order of what they cost."""
    setting, subjects = rows.setting, (TINY,) if rows.setting.tiny else SUBJECTS
    for mode, seconds in (("eager", 60), ("own step", 40), ("graph", 60)):
        for subject in subjects:
            key = f"{subject.name}, {mode}"
            rows.once(key, lambda s=subject, m=mode: time_subject(s, m, setting), seconds=seconds)
    for subject in subjects:
        # Each library by itself: compiling takes most of the time, and the next call continues after it.
        for library in ("triscale", "timm", "torchvision"):
            key = f"{subject.name}, compiled, {library}"
            rows.once(key, lambda s=subject, n=library: time_subject(s, "compiled", setting, n), seconds=200)


def time_subject(subject: Subject, mode: str, setting: Setting, library: str | None = None) -> Result:
    """Time one network in one mode, from its own module and those of the other libraries, or of one of them."""
    if mode == "graph" and setting.device.type != "cuda":
        raise UnavailableError("CUDA graphs need CUDA")
    batch = subject.batch
    while True:
        try:
            return {"side": subject.side, "batch": batch} | _time(subject, mode, batch, setting, library)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or batch < 4:
                raise
        batch //= 2
        release_memory(setting.device)


def _time(subject: Subject, mode: str, batch: int, setting: Setting, library: str | None) -> Result:
    device = setting.device
    if mode == "own step":
        steps: dict[str, Step] = {"triscale": own_step(subject, batch, device)}
    else:
        steps = {
            name: make_step(make(), subject.side, batch, device, mode, context, tiny=setting.tiny)
            for name, (make, context) in modules(subject, device).items()
            if (mode != "compiled" or name != "triscale, fused chains") and library in {None, name}
        }
    if not steps:
        raise UnavailableError(f"{library} is not installed")
    result: Result = {"missing": [name for name in ("timm",) if importlib.util.find_spec(name) is None]}
    seconds, peaks = interleaved(steps, device, rounds=2 if setting.tiny else 7, repeats=1 if setting.tiny else 10)
    first = next(iter(seconds))
    result["images per second"] = {name: spread([batch / value for value in times]) for name, times in seconds.items()}
    result["time relative to ours"] = {
        name: spread([one / ours for one, ours in zip(times, seconds[first], strict=True)])
        for name, times in seconds.items()
        if name != first
    }
    return result | {"peak bytes above the networks": peaks}


def network_of(subject: Subject) -> Network:
    """Return the published network, with its strides, for the side of the images."""
    return get(subject.name).replace(resolution=subject.side)


def modules(subject: Subject, device: torch.device) -> dict[str, tuple[Make, Context]]:
    """Return functions that build the networks, ours first, each with the context of its steps."""
    network = network_of(subject)
    found = {
        "triscale": (lambda: build(network), fused_on),
        "triscale, fused chains": (lambda: build(network), lambda: fused_on(device.type)),
        "torchvision": (getattr(torchvision.models, subject.torchvision), nullcontext),
    }
    if importlib.util.find_spec("timm"):
        import timm  # noqa: PLC0415 - the machine may lack it

        found["timm"] = (lambda: timm.create_model(subject.timm), nullcontext)
    return found


def make_step(
    model: nn.Module,
    side: int,
    batch: int,
    device: torch.device,
    mode: str,
    context: Context,
    *,
    tiny: bool,
) -> Step:
    """Return a function that takes one training step."""
    model = model.to(device).to(memory_format=torch.channels_last).train()
    images = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (batch,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, foreach=True)
    forward = model
    if mode == "compiled":
        forward = torch.compile(model, dynamic=False, fullgraph=True, backend="aot_eager" if tiny else "inductor")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with context(), torch.autocast(device.type, dtype=torch.bfloat16):
            logits = forward(images)
        torch.autograd.backward(F.cross_entropy(logits.float(), labels))
        optimizer.step()

    return captured(step) if mode == "graph" else step


def captured(step: Step) -> Step:
    """Return a step that replays the kernels of another one, recorded once."""
    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def own_step(subject: Subject, batch: int, device: torch.device) -> Step:
    """Return a whole step of Triscale's training on 8-bit images that are on the device already."""
    recipe = Recipe(batch=batch, precision="bfloat16")
    stepper = stepper_of(recipe, device, network_of(subject))
    images = torch.randint(0, 255, (batch, 3, subject.side, subject.side), dtype=torch.uint8, device=device)
    data = Batch(images, torch.randint(0, 1000, (batch,), device=device), torch.arange(batch))
    return lambda: stepper.take(data, batch, 1e-3)


def interleaved(
    steps: dict[str, Step], device: torch.device, *, rounds: int, repeats: int
) -> tuple[dict[str, list[float]], dict[str, int | None]]:
    """Return the seconds of a step of each network in each round, and the peak memory of its steps in bytes."""
    peaks: dict[str, int | None] = {}
    for name, step in steps.items():
        for _ in range(WARM_UP):
            step()
        synchronize(device)
        peaks[name] = None
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            step()
            synchronize(device)
            peaks[name] = torch.cuda.max_memory_allocated(device) - before
    seconds = interleaved_seconds(steps, rounds=rounds, repeats=repeats, wait=lambda: synchronize(device))
    return seconds, peaks


def spread(values: list[float]) -> dict[str, float]:
    """Return the median and the quartiles, in four digits."""
    low, median, high = (float(f"{value:.4g}") for value in statistics.quantiles(values, n=4, method="inclusive"))
    return {"median": median, "low": low, "high": high}
