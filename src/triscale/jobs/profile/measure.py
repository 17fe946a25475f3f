"""How long networks, runs and exported files take on this machine, one by one or in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from triscale.deploy.contract import Contract
from triscale.deploy.engines import ENGINES as FILE_ENGINES
from triscale.deploy.engines import Precision, engine_of
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize import get_quantizer
from triscale.errors import UserError
from triscale.families.find import find_network
from triscale.jobs.core.run import Run
from triscale.jobs.deploy.quantize import slow_blocks
from triscale.measure.latency import held_to_cores, measure_latency, torch_threads
from triscale.measure.peak import memory_now, peak_since
from triscale.measure.versus import in_turns, judge
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.results.latency import Measurement, PairedTiming
from triscale.training.context import ExecutionContext

Engine = str
"""A name of :data:`ENGINES`."""
ENGINES: dict[str, str] = {
    "torch": "torch",
    "compiled": "torch compiled",
    **{name: engine.title for name, engine in FILE_ENGINES.items()},
}
NOISE_IMAGES = 8
"""That int8 is calibrated with where only time matters."""
WITHIN = 0.02
"""The 95% interval of a median shall reach no farther than this share of it to each side."""

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be timed: a model to build, or a file that an engine runs.

    Attributes:
        name: how it is shown.
        resolution: side of its images in pixels.
        model: makes the module; None for a file alone.
        network: of the module; None for a custom model, which is traced.
        file: that engines of its kind run as it is; others need the model.
    """

    name: str
    resolution: int
    model: Callable[[], nn.Module] | None = None
    network: Network | None = None
    file: Path | None = None

    @property
    def precision(self) -> str | None:
        """Of a file without its model, as far as its name tells; else None."""
        if self.file is None or self.model is not None:
            return None
        return "int8" if ".int8." in self.file.name else "float32"


def find_subject(text: str) -> Subject:
    """Return what a user means: a run's folder, an exported file, a network's name or its JSON file.

    The weights of a network that is no run are random: they are no matter for time.

    Raises:
        UserError: none of these.
    """
    path = Path(text)
    if path.suffix in {engine.suffix for engine in FILE_ENGINES.values()}:
        if not path.exists():
            raise UserError(f"there is no {path}; make it with triscale export")
        side = engine_of(path).open(path, 1).side
        if side is None:
            raise UserError(
                f"{path} takes images of any size, so that there is none to measure it with; export it with a fixed "
                "size"
            )
        return Subject(path.name, side, file=path)
    if path.is_dir():
        return subject_of(Run.open(path))
    network: AnyNetwork = find_network(text)
    known = network if isinstance(network, Network) else None
    return Subject(network.name, network.resolution, model=lambda: build(network), network=known)


def subject_of(run: Run) -> Subject:
    """Return a run to be timed: its module, and its exported file where there is one."""
    network = run.spec.network if isinstance(run.spec.network, Network) else None
    file = run.onnx_file if run.onnx_file.is_file() else None
    return Subject(run.folder.name, run.spec.preprocessing.resolution, model=run.model, network=network, file=file)


def measure_one(
    subject: Subject,
    engines: Sequence[Engine],
    context: ExecutionContext,
    *,
    threads: int = 1,
    batch: int = 1,
    precision: Precision = "float32",
    within: float | None = WITHIN,
) -> tuple[Measurement, ...]:
    """Measure something in each of some engines, by the paper's protocol: one image on one core by default.

    Raises:
        UserError: an engine that is not installed, or does not run files.
    """
    found = []
    with held_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode():
        for number, engine in enumerate(engines):
            context.progress.begin(f"measure in {ENGINES[engine]}")
            before = memory_now()
            with ready(subject, engine, threads, batch, precision) as call:
                made = measure_latency(
                    call,
                    engine=ENGINES[engine],
                    batch=batch,
                    threads=threads,
                    resolution=subject.resolution,
                    within=within,
                    precision=subject.precision or precision,
                    cores=cores,
                )
                peak = peak_since(before, call)
            found.append(made.replace(peak_bytes=peak))
            context.progress.advance(number + 1)
    return tuple(found)


def measure_paired(
    subjects: Sequence[Subject],
    engines: Sequence[Engine],
    context: ExecutionContext,
    *,
    threads: int = 1,
    batch: int = 1,
    precision: Precision = "float32",
) -> PairedTiming:
    """Measure several things in turns, each in every engine; the first is what the others are compared with.

    Raises:
        UserError: an engine that is not installed, or does not run files.
    """
    pairs = [(subject, engine) for subject in subjects for engine in engines]
    with held_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode(), ExitStack() as stack:
        context.progress.begin("prepare", len(pairs))
        calls = []
        for number, (subject, engine) in enumerate(pairs):
            calls.append(stack.enter_context(ready(subject, engine, threads, batch, precision)))
            context.progress.advance(number + 1)
        context.progress.begin("measure in turns")
        times, counts = in_turns(calls, should_stop=context.should_stop)
    named = [
        (subject.name, ENGINES[engine], subject.precision or precision, subject.resolution) for subject, engine in pairs
    ]
    return judge(named, times, counts, batch=batch, threads=threads, cores=cores)


@contextmanager
def ready(
    subject: Subject, engine: Engine, threads: int, batch: int, precision: Precision = "float32"
) -> Iterator[Call]:
    """Make something ready to be called with a batch of noise in an engine.

    A model's file is written for the time of the block; int8 is calibrated with noise, which is no matter for time.

    Raises:
        UserError: the engine is not installed, does not run such a file, or does not compute in the precision.
    """
    shape = (batch, 3, subject.resolution, subject.resolution)
    images = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    if engine in ("torch", "compiled"):
        yield _torch_call(subject, images, precision, compiled=engine == "compiled")
        return
    chosen = FILE_ENGINES[engine]
    with tempfile.TemporaryDirectory() as folder:
        file = subject.file if precision != "int8" or subject.model is None else None
        if file is not None and not chosen.reads(file):
            file = None
        if file is None and subject.model is None:
            assert subject.file is not None
            kind = engine_of(subject.file).title
            raise UserError(f"{subject.name} is a file for {kind}, which {chosen.title} does not run")
        if file is None:
            file = Path(folder) / f"model{chosen.suffix}"
            exported = _exportable(subject)
            if precision == "int8":
                noise = np.random.default_rng(1).standard_normal((NOISE_IMAGES, *shape[1:]), dtype=np.float32)
                tool = get_quantizer(chosen)(exported, noise)
                tool.write(slow_blocks(tool, chosen, exported.side), file)
            else:
                chosen.write(exported, file)
        session = chosen.open(file, threads, precision)
        yield lambda: session(images)


def _torch_call(subject: Subject, images: np.ndarray, precision: Precision, *, compiled: bool) -> Call:
    if subject.model is None:
        raise UserError(f"{subject.name} is a file, which torch does not run; give --engines onnxruntime")
    if precision == "int8":
        raise UserError("torch computes in float32 or bfloat16 here; int8 is for onnxruntime, openvino and executorch")
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = subject.model().eval().to(kind).to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(images).to(kind).contiguous(memory_format=torch.channels_last)
    # For images of one size: a compiler that has seen two continues for all sizes, which did not end in ten minutes.
    called = torch.compile(model, dynamic=False) if compiled else model
    return lambda: called(tensor)


def _exportable(subject: Subject) -> Exportable:
    assert subject.model is not None
    model = subject.model().eval()
    preprocessing = Preprocessing(resolution=subject.resolution)
    return Exportable(model, Contract(network=subject.name, preprocessing=preprocessing, classes=()), subject.network)
