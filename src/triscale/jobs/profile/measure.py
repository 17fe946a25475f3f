"""Measure the latency of networks, runs and exported files on this machine, separately or alternately."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from triscale.deploy.contract import Contract
from triscale.deploy.engines import DEFAULT_ENGINE, Precision, engine_of, precision_of
from triscale.deploy.engines import ENGINES as FILE_ENGINES
from triscale.deploy.exportable import Exportable
from triscale.deploy.quantize import get_quantizer
from triscale.errors import NetworkError, UserError, WeightsError, nearest
from triscale.families.find import find_network
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.quantize import slow_blocks
from triscale.measurement.latency import measure_latency, pinned_to_cores, torch_threads
from triscale.measurement.peak import memory_now, peak_since
from triscale.measurement.versus import paired_timing, time_alternately
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.network.input_size import ImageShape
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.results.latency import Measurement, PairedTiming
from triscale.training.context import ExecutionContext
from triscale.weights.load import contract_of
from triscale.weights.references import SUFFIXES

Engine = str
"""A name of :data:`ENGINES`."""
ENGINES: dict[str, str] = {
    "torch": "torch",
    "compiled": "torch compiled",
    **{name: engine.title for name, engine in FILE_ENGINES.items()},
}
NOISE_IMAGES = 8
"""Number of noise images that calibrate int8 if only the latency matters."""
WITHIN = 0.02
"""Relative half-width of the 95% interval of the median at which a measurement stops."""

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Subject:
    """The subject of a measurement: a model to build, or a file that an engine runs.

    Attributes:
        name: Name in the output.
        input_shape: Channels, height and width of an image.
        model: Builds the module; None for a file without a run.
        network: Network of the module; None for a custom model.
        file: Exported file, used by engines that can read it; other engines export the model.
    """

    name: str
    input_shape: ImageShape
    model: Callable[[], nn.Module] | None = None
    network: Network | None = None
    file: Path | None = None

    @property
    def precision(self) -> str | None:
        """Precision of a file without a model, judged by its name; None for a model."""
        if self.file is None or self.model is not None:
            return None
        return precision_of(self.file)


def find_subject(text: str) -> Subject:
    """Resolve a command-line argument: a run's folder, an exported file, a network's name or its JSON file, or weights.

    Everything but runs and exported files gets random weights, which does not affect latency.

    Raises:
        UserError: The argument is none of these.
    """
    path = Path(text)
    if path.suffix in {engine.suffix for engine in FILE_ENGINES.values()}:
        if not path.exists():
            raise UserError(f"{path} does not exist; create it with: triscale export")
        input_shape = engine_of(path).open(path, 1).input_shape
        if input_shape is None:
            raise UserError(
                f"{path} has a dynamic input size, so there is no resolution to measure; export it with a fixed size"
            )
        return Subject(path.name, input_shape, file=path)
    if path.is_dir():
        return subject_of(RunFolder.open(path))
    network: AnyNetwork = _network_of(text)
    known = network if isinstance(network, Network) else None
    return Subject(network.name, network.input_shape, model=lambda: build(network), network=known)


def _network_of(text: str) -> AnyNetwork:
    """Return the network of a name or a file: a network's, or else that of weights, which need not be there."""
    if Path(text).suffix in SUFFIXES:
        return contract_of(text).network
    try:
        return find_network(text)
    except NetworkError:
        with suppress(WeightsError):
            return contract_of(text).network
        raise


def choose_engines(requested: Sequence[str] | None, subject: str, *, alone: bool) -> tuple[Engine, ...]:
    """Return the requested engines, or the default ones.

    Args:
        requested: Names of engines; None for the engine of an exported file, or torch and ONNX Runtime.
        subject: What is measured.
        alone: Whether it is the only subject; several are compared in one engine by default.

    Raises:
        UserError: An engine is unknown or named twice, or there is none.
    """
    if requested is None:
        own = [name for name, engine in FILE_ENGINES.items() if subject.endswith(engine.suffix)]
        if own:
            return (own[0],)
        return ("torch", DEFAULT_ENGINE.name) if alone else (DEFAULT_ENGINE.name,)
    names = [name.strip() for name in requested if name.strip()]
    for name in names:
        if name not in ENGINES:
            raise UserError(
                f'there is no engine "{name}"{nearest(name, ENGINES)}; the engines are {", ".join(ENGINES)}'
            )
    if not names or len(set(names)) < len(names):
        raise UserError(f"engines {','.join(names)}: give each engine once; the engines are {', '.join(ENGINES)}")
    return tuple(names)


def subject_of(run: RunFolder) -> Subject:
    """Return the subject of a run: its module, and its exported file if it exists."""
    network = run.spec.network if isinstance(run.spec.network, Network) else None
    file = run.onnx_file if run.onnx_file.is_file() else None
    return Subject(run.folder.name, run.spec.preprocessing.input_shape, model=run.model, network=network, file=file)


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
    """Measure the latency of a subject in several engines; by default with batch size 1 on one core, as in the paper.

    Args:
        subject: What to measure.
        engines: Names of :data:`ENGINES`.
        context: Progress.
        threads: Threads of each engine, on as many cores.
        batch: Images per call.
        precision: Precision of the computation.
        within: Relative half-width of the 95% interval at which a measurement stops; None for a fixed duration.

    Returns:
        One measurement per engine.

    Raises:
        UserError: An engine is not installed, or cannot run the file.
    """
    measurements = []
    with pinned_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode():
        for number, engine in enumerate(engines):
            context.progress.begin(f"measure in {ENGINES[engine]}")
            before = memory_now()
            with prepared_call(subject, engine, threads, batch, precision) as call:
                measurement = measure_latency(
                    call,
                    engine=ENGINES[engine],
                    batch=batch,
                    threads=threads,
                    input_shape=subject.input_shape,
                    within=within,
                    precision=subject.precision or precision,
                    cores=cores,
                )
                peak = peak_since(before, call)
            measurements.append(measurement.replace(peak_bytes=peak))
            context.progress.advance(number + 1)
    return tuple(measurements)


def measure_paired(
    subjects: Sequence[Subject],
    engines: Sequence[Engine],
    context: ExecutionContext,
    *,
    threads: int = 1,
    batch: int = 1,
    precision: Precision = "float32",
) -> PairedTiming:
    """Measure several subjects alternately, each in every engine, relative to the first.

    Raises:
        UserError: An engine is not installed, or cannot run a file.
    """
    pairs = [(subject, engine) for subject in subjects for engine in engines]
    with pinned_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode(), ExitStack() as stack:
        context.progress.begin("prepare", len(pairs))
        calls = []
        for number, (subject, engine) in enumerate(pairs):
            calls.append(stack.enter_context(prepared_call(subject, engine, threads, batch, precision)))
            context.progress.advance(number + 1)
        context.progress.begin("measure latency")
        times, counts = time_alternately(calls, should_stop=context.should_stop)
    named = [
        (subject.name, ENGINES[engine], subject.precision or precision, subject.input_shape)
        for subject, engine in pairs
    ]
    return paired_timing(named, times, counts, batch=batch, threads=threads, cores=cores)


@contextmanager
def prepared_call(
    subject: Subject, engine: Engine, threads: int, batch: int, precision: Precision = "float32"
) -> Iterator[Call]:
    """Provide a function that runs a subject in an engine on a batch of noise.

    If a model has to be exported, its file exists until the block ends. int8 is calibrated with noise, which does not
    affect latency.

    Raises:
        UserError: The engine is not installed, cannot run the file, or does not support the precision.
    """
    images = np.random.default_rng(0).standard_normal((batch, *subject.input_shape), dtype=np.float32)
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
            raise UserError(f"{subject.name} is a file for {kind}; {chosen.title} cannot run it")
        if file is None:
            file = Path(folder) / f"model{chosen.suffix}"
            exported = _exportable(subject)
            if precision == "int8":
                noise = np.random.default_rng(1).standard_normal((NOISE_IMAGES, *subject.input_shape), dtype=np.float32)
                quantizer = get_quantizer(chosen)(exported, noise)
                quantizer.write(slow_blocks(quantizer, chosen, exported.input_shape), file)
            else:
                chosen.write(exported, file)
        session = chosen.open(file, threads, precision)
        yield lambda: session(images)


def _torch_call(subject: Subject, images: np.ndarray, precision: Precision, *, compiled: bool) -> Call:
    if subject.model is None:
        raise UserError(f"torch cannot run the file {subject.name}; give --engines onnxruntime")
    if precision == "int8":
        raise UserError("torch supports float32 and bfloat16; int8 requires onnxruntime, openvino or executorch")
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    model = subject.model().eval().to(dtype).to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(images).to(dtype).contiguous(memory_format=torch.channels_last)
    # dynamic=False: after a second input size, torch.compile would compile for dynamic shapes, which takes more than
    # ten minutes.
    called = torch.compile(model, dynamic=False) if compiled else model
    return lambda: called(tensor)


def _exportable(subject: Subject) -> Exportable:
    assert subject.model is not None
    model = subject.model().eval()
    preprocessing = Preprocessing.usual(subject.input_shape)
    return Exportable(model, Contract(network=subject.name, preprocessing=preprocessing, classes=()), subject.network)
