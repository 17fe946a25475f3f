"""Create a device profile: time the probes, save the timings as they are taken, fit a latency predictor."""

from __future__ import annotations

import platform
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from triscale.deploy.graph import timed_graph
from triscale.errors import Interrupted, UserError
from triscale.jobs.profile.probes import Probe, all_probes, reference_probe
from triscale.measurement.latency import pinned_to_cores, torch_threads
from triscale.measurement.processor import processor
from triscale.measurement.profile import fit_predictor
from triscale.measurement.runner import TOGETHER, Call, call_of, clock_of, seconds_of, time_with_reference
from triscale.network.latency import DeviceProfile, Timing
from triscale.nn.build import build_part
from triscale.training.context import ExecutionContext

Engine = Literal["onnxruntime", "torch"]
Timer = Callable[[Sequence[Probe]], list[tuple[float, float]]]
"""Returns, for each probe, its latency and that of the reference network in milliseconds."""


def make_profile(
    file: Path,
    engine: Engine,
    threads: int,
    context: ExecutionContext,
    *,
    probes: Sequence[Probe] | None = None,
    timer: Timer | None = None,
) -> DeviceProfile:
    """Time the probes that a profile lacks, in random order, and fit its latency predictor.

    The file is saved after each group of probes.

    Args:
        file: File of the profile; if it exists, only the missing probes are timed.
        engine: The engine that runs the probes.
        threads: Number of threads that compute.
        context: Progress and stop flag.
        probes: The probes; by default :func:`triscale.jobs.profile.probes.all_probes`.
        timer: Times a group of probes; by default :class:`EngineTimer`.

    Returns:
        The complete profile.

    Raises:
        UserError: The file is a profile of another engine, processor or number of threads.
        Interrupted: ``context.should_stop`` returned true; the same call resumes.
    """
    profile = _load_or_create(file, engine, threads)
    selected = list(all_probes() if probes is None else probes)
    # Random order, so that a slow drift of the device's speed does not correlate with the size of the probes.
    random.Random(0).shuffle(selected)
    known = {timing.name for timing in profile.timings}
    missing = [probe for probe in selected if probe.name not in known]
    time_group = EngineTimer(engine, threads) if timer is None else timer
    context.progress.begin("time", len(selected))
    for start in range(0, len(missing), TOGETHER):
        if context.should_stop():
            raise Interrupted(f"stopped; the timings are saved in {file}; run the same command again to resume")
        group = missing[start : start + TOGETHER]
        timings = tuple(
            Timing(name=probe.name, role=probe.role, figures=probe.figures, milliseconds=own, reference_ms=reference)
            for probe, (own, reference) in zip(group, time_group(group), strict=True)
        )
        profile = profile.replace(timings=(*profile.timings, *timings), predictor=None)
        profile.save(file)
        context.progress.advance(len(selected) - len(missing) + start + len(group))
    if profile.predictor is None:
        profile = profile.replace(predictor=fit_predictor(profile))
        profile.save(file)
    return profile


class EngineTimer:
    """Times probes with an engine on this machine."""

    def __init__(self, engine: Engine, threads: int) -> None:
        self._engine, self._threads = engine, threads
        self._reference = self._prepare(reference_probe())

    def __call__(self, probes: Sequence[Probe]) -> list[tuple[float, float]]:
        """Return, for each probe, its latency and that of the reference network in milliseconds."""
        with ExitStack() as stack:
            stack.enter_context(pinned_to_cores(self._threads))
            stack.enter_context(torch_threads(self._threads))
            stack.enter_context(torch.inference_mode())
            calls = [(self._prepare(probe), seconds_of(probe.role)) for probe in probes]
            return time_with_reference(calls, self._reference, clock_of(self._threads))

    def _prepare(self, probe: Probe) -> Call:
        if self._engine == "onnxruntime":
            return call_of(timed_graph(probe.node, probe.shape).SerializeToString(), self._threads)
        shape = (1, *probe.shape)
        images = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        tensor = images.contiguous(memory_format=torch.channels_last)
        module = build_part(probe.node).eval().to(memory_format=torch.channels_last)
        return lambda: module(tensor)


def _load_or_create(file: Path, engine: Engine, threads: int) -> DeviceProfile:
    here = DeviceProfile(
        engine=engine,
        threads=threads,
        processor=processor(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=tuple((name, metadata.version(name)) for name in ("triscale", engine)),
    )
    if not file.is_file():
        if not file.parent.is_dir():
            raise UserError(f"the folder {file.parent} does not exist; create it, or give another file with --out")
        return here
    saved = DeviceProfile.load(file)
    for name in ("engine", "threads", "processor"):
        old, new = getattr(saved, name), getattr(here, name)
        if old != new:
            raise UserError(f"{file} is a profile with {name} {old}, not {new}; give another file with --out")
    return saved
