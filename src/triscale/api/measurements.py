"""Latency: the same jobs as the commands ``measure`` and ``profile``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from triscale.api.arguments import AnyNetworkLike, positive
from triscale.api.run import Run
from triscale.errors import UserError
from triscale.jobs.core.execution import execution
from triscale.jobs.profile.device_profile import Engine, make_profile
from triscale.jobs.profile.measure import Subject, choose_engines, find_subject, measure_one, measure_paired
from triscale.network.custom import CustomNetwork
from triscale.network.latency import Predictor
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.results.latency import Measurement, PairedTiming

Precision = Literal["float32", "bfloat16", "int8"]


def measure(
    subject: AnyNetworkLike | Run,
    *,
    engines: str | Sequence[str] | None = None,
    threads: int = 1,
    batch_size: int = 1,
    precision: Precision = "float32",
    progress: bool = True,
) -> tuple[Measurement, ...]:
    """Measure latency on this machine; by default with batch size 1 on one core, as in Table 4 of the paper.

    Args:
        subject: A run or its directory, an exported file, or a network (with random weights, which does not affect
            latency), its name or its file.
        engines: ``torch``, ``compiled`` (torch.compile), ``onnxruntime``, ``openvino``, ``executorch`` or ``litert``;
            by default the engine of the file, or torch and ONNX Runtime.
        threads: Threads of each engine, on as many cores.
        batch_size: Images at a time.
        precision: ``float32``, ``bfloat16`` (torch, OpenVINO) or ``int8`` (ONNX Runtime, OpenVINO, ExecuTorch).
        progress: Whether progress is shown on standard error.

    Returns:
        One measurement per engine: median and its 95% interval in milliseconds, quartiles, machine.

    Raises:
        UserError: The subject or an engine is unknown, or an engine is not installed.
        Interrupted: Ctrl-C or SIGTERM was received.

    Example:
        >>> measure("mobilenet_v2@32", engines="torch", progress=False)[0].median_ms > 0
        True
    """
    found, name = _subject(subject)
    chosen = choose_engines(_names(engines), name, alone=True)
    with execution(progress=progress) as context:
        return measure_one(
            found,
            chosen,
            context,
            threads=positive(threads, "threads"),
            batch=positive(batch_size, "images"),
            precision=precision,
        )


def compare_latency(
    subjects: Sequence[AnyNetworkLike | Run],
    *,
    engines: str | Sequence[str] | None = None,
    threads: int = 1,
    batch_size: int = 1,
    precision: Precision = "float32",
    progress: bool = True,
) -> PairedTiming:
    """Time several networks alternately, so that other load on the machine affects all alike.

    Args:
        subjects: What is timed, as for :func:`measure`; ratios are relative to the first.
        engines: Engines, as for :func:`measure`; by default ONNX Runtime.
        threads: Threads of each engine, on as many cores.
        batch_size: Images at a time.
        precision: ``float32``, ``bfloat16`` or ``int8``.
        progress: Whether progress is shown on standard error.

    Returns:
        The median of each and its ratio to the first, with a 95% interval.

    Raises:
        UserError: There are fewer than two subjects, or one is unknown.
        Interrupted: Ctrl-C or SIGTERM was received.

    Example:
        >>> small, large = compare_latency(["mobilenet_v2@32", "mobilenet_v2@128"], progress=False).networks
        >>> large.ratio > small.ratio
        True
    """
    if len(subjects) < 2:
        raise UserError(f"a comparison requires two subjects or more, given {len(subjects)}")
    found = [_subject(subject)[0] for subject in subjects]
    chosen = choose_engines(_names(engines), "", alone=False)
    with execution(progress=progress) as context:
        return measure_paired(
            found,
            chosen,
            context,
            threads=positive(threads, "threads"),
            batch=positive(batch_size, "images"),
            precision=precision,
        )


def profile(
    out: str | Path = "profile.json", *, engine: Engine = "onnxruntime", threads: int = 1, progress: bool = True
) -> Predictor:
    """Profile this device, so that a budget can limit latency. This takes about two minutes.

    Args:
        out: File of the profile, for ``profile=`` or ``--profile``; an interrupted profile is resumed.
        engine: ``onnxruntime`` or ``torch``.
        threads: Threads of the engine, on as many cores.
        progress: Whether progress is shown on standard error.

    Returns:
        A predictor of latency on this device.

    Raises:
        UserError: The file holds a profile of another device or engine.
        Interrupted: Ctrl-C or SIGTERM was received; the same call resumes.

    Example:
        >>> profile("profile.json")  # doctest: +SKIP
    """
    if engine not in get_args(Engine):
        raise UserError(f'the engine "{engine}" cannot be profiled; expected {" or ".join(get_args(Engine))}')
    with execution(progress=progress) as context:
        result = make_profile(Path(out), engine, positive(threads, "threads"), context)
    assert result.predictor is not None
    return result.predictor


def _subject(subject: AnyNetworkLike | Run) -> tuple[Subject, str]:
    match subject:
        case Network() | CustomNetwork():
            known = subject if isinstance(subject, Network) else None
            return Subject(subject.name, subject.input_shape, model=lambda: build(subject), network=known), ""
        case Run():
            return find_subject(str(subject.weights or subject.path)), ""
        case _:
            return find_subject(str(subject)), str(subject)


def _names(engines: str | Sequence[str] | None) -> Sequence[str] | None:
    return engines.split(",") if isinstance(engines, str) else engines
