"""How long networks, Runs and exported files take on this machine, one by one or in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from triscale.deploy.engines import CONTRACT_KEY, OnnxSession, OpenVinoSession
from triscale.deploy.export import write_unchecked
from triscale.errors import UserError
from triscale.families.find import find_network
from triscale.jobs.run import Run
from triscale.jobs.watch import Watcher
from triscale.measure.latency import Measurement, held_to_cores, measure_latency, torch_threads
from triscale.measure.peak import memory_now, peak_since
from triscale.measure.versus import Versus, in_turns, judge
from triscale.network.custom import AnyNetwork
from triscale.nn.build import build

Engine = Literal["torch", "compiled", "onnxruntime", "openvino"]
ENGINES: dict[Engine, str] = {
    "torch": "torch",
    "compiled": "torch compiled",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
WITHIN = 0.02
"""The 95 % interval of a median shall reach no farther than this share of it to each side."""

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be timed: a model to build, or a file that an engine runs.

    Attributes:
        name: how it is shown.
        resolution: side of its images in pixels.
        model: makes the module; None for a file alone.
        file: that engines of files run; None where it has to be made of the module.
    """

    name: str
    resolution: int
    model: Callable[[], nn.Module] | None = None
    file: Path | None = None


def find_subject(text: str) -> Subject:
    """Return what a person means: a Run's folder, an ONNX file, a network's name or its JSON file.

    The weights of a network that is no Run are drawn by chance: they are no matter for time.

    Raises:
        UserError: none of these.
    """
    path = Path(text)
    if path.is_dir():
        return subject_of(Run.open(path))
    if path.suffix == ".onnx":
        session = OnnxSession(path)
        side = session.shape[-1]
        if not isinstance(side, int):
            contract = session.metadata.get(CONTRACT_KEY)
            hint = "" if contract else "; export it with a fixed size"
            raise UserError(f"{path} takes images of any size, so that there is none to measure it with{hint}")
        return Subject(path.name, side, file=path)
    network: AnyNetwork = find_network(text)
    return Subject(network.name, network.resolution, model=lambda: build(network))


def subject_of(run: Run) -> Subject:
    """Return a Run to be timed: its module, and its exported file where there is one."""
    file = run.onnx_file if run.onnx_file.is_file() else None
    return Subject(run.folder.name, run.spec.preprocessing.resolution, model=run.model, file=file)


def measure_one(
    subject: Subject,
    engines: Sequence[Engine],
    watcher: Watcher,
    *,
    threads: int = 1,
    batch: int = 1,
    within: float | None = WITHIN,
) -> tuple[Measurement, ...]:
    """Measure something in each of some engines, by the paper's protocol: one image on one core by default.

    Raises:
        UserError: an engine that is not installed, or does not run files.
    """
    found = []
    with held_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode():
        for number, engine in enumerate(engines):
            watcher.begin(f"measure in {ENGINES[engine]}")
            before = memory_now()
            with ready(subject, engine, threads, batch) as call:
                made = measure_latency(
                    call,
                    engine=ENGINES[engine],
                    batch=batch,
                    threads=threads,
                    resolution=subject.resolution,
                    within=within,
                    cores=cores,
                )
                peak = peak_since(before, call)
            found.append(made.model_copy(update={"peak_bytes": peak}))
            watcher.advance(number + 1)
    return tuple(found)


def measure_beside(
    subjects: Sequence[Subject],
    engines: Sequence[Engine],
    watcher: Watcher,
    *,
    threads: int = 1,
    batch: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> Versus:
    """Measure several things in turns, each in every engine; the first is what the others are compared with.

    Raises:
        UserError: an engine that is not installed, or does not run files.
    """
    pairs = [(subject, engine) for subject in subjects for engine in engines]
    with held_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode(), ExitStack() as stack:
        watcher.begin("prepare", len(pairs))
        calls = []
        for number, (subject, engine) in enumerate(pairs):
            calls.append(stack.enter_context(ready(subject, engine, threads, batch)))
            watcher.advance(number + 1)
        watcher.begin("measure in turns")
        times, counts = in_turns(calls, should_stop=should_stop)
    named = [(subject.name, ENGINES[engine], "float32", subject.resolution) for subject, engine in pairs]
    return judge(named, times, counts, batch=batch, threads=threads, cores=cores)


@contextmanager
def ready(subject: Subject, engine: Engine, threads: int, batch: int) -> Iterator[Call]:
    """Make something ready to be called with a batch of noise in an engine.

    Raises:
        UserError: the engine is not installed, or is one of torch's and the subject a file.
    """
    shape = (batch, 3, subject.resolution, subject.resolution)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    match engine:
        case "torch" | "compiled":
            if subject.model is None:
                raise UserError(f"{subject.name} is a file, which torch does not run; give --engines onnxruntime")
            model = subject.model().eval().to(memory_format=torch.channels_last)
            tensor = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
            called = torch.compile(model) if engine == "compiled" else model
            yield lambda: called(tensor)
        case "onnxruntime" | "openvino":
            make = OnnxSession if engine == "onnxruntime" else OpenVinoSession
            with tempfile.TemporaryDirectory() as folder:
                file = subject.file
                if file is None:
                    assert subject.model is not None
                    file = Path(folder) / "model.onnx"
                    write_unchecked(subject.model(), subject.resolution, file)
                session = make(file, threads)
            yield lambda: session(images)
