"""Make a device profile: time what it needs, keep it as it goes, fit the forecast."""

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
from triscale.jobs.profile.probes import Probe, all_probes, beside
from triscale.measure.latency import held_to_cores, torch_threads
from triscale.measure.processor import processor
from triscale.measure.profile import fit_predictor
from triscale.measure.runner import TOGETHER, Call, call_of, clock_of, seconds_of, time_with_reference
from triscale.network.latency import DeviceProfile, Timing
from triscale.nn.build import build_part
from triscale.training.context import ExecutionContext

Engine = Literal["onnxruntime", "torch"]
Timer = Callable[[Sequence[Probe]], list[tuple[float, float]]]
"""Gives each probe its milliseconds, and those of the network beside it."""


def make_profile(
    file: Path,
    engine: Engine,
    threads: int,
    context: ExecutionContext,
    *,
    probes: Sequence[Probe] | None = None,
    timer: Timer | None = None,
) -> DeviceProfile:
    """Time what a profile lacks, in an order random, and fit its forecast; the file is kept up to date.

    Args:
        file: of the profile; where it exists, only what it lacks is timed.
        engine: that computes.
        threads: that compute.
        context: Device, workers, progress and stop flag.
        probes: what to time; by default :func:`triscale.jobs.profile.probes.all_probes`.
        timer: times some of them; by default in the engine.

    Raises:
        UserError: the file is a profile of another engine, processor or number of threads.
        Interrupted: ``context.should_stop`` returned true; the same call resumes.
    """
    profile = _opened(file, engine, threads)
    wanted = list(all_probes() if probes is None else probes)
    random.Random(0).shuffle(wanted)
    known = {timing.name for timing in profile.timings}
    missing = [probe for probe in wanted if probe.name not in known]
    timing = EngineTimer(engine, threads) if timer is None else timer
    context.progress.begin("time", len(wanted))
    for start in range(0, len(missing), TOGETHER):
        if context.should_stop():
            raise Interrupted(f"stopped; {file} keeps what was timed, and the same command resumes")
        group = missing[start : start + TOGETHER]
        taken = tuple(
            Timing(name=probe.name, role=probe.role, figures=probe.figures, milliseconds=own, beside=other)
            for probe, (own, other) in zip(group, timing(group), strict=True)
        )
        profile = profile.replace(timings=(*profile.timings, *taken), predictor=None)
        profile.save(file)
        context.progress.advance(len(wanted) - len(missing) + start + len(group))
    if profile.predictor is None:
        profile = profile.replace(predictor=fit_predictor(profile))
        profile.save(file)
    return profile


class EngineTimer:
    """Times probes in an engine on this machine."""

    def __init__(self, engine: Engine, threads: int) -> None:
        self._engine, self._threads = engine, threads
        self._beside = self._ready(beside())

    def __call__(self, probes: Sequence[Probe]) -> list[tuple[float, float]]:
        """Return milliseconds of each probe, and of the network that all are timed beside."""
        with ExitStack() as stack:
            stack.enter_context(held_to_cores(self._threads))
            stack.enter_context(torch_threads(self._threads))
            stack.enter_context(torch.inference_mode())
            calls = [(self._ready(probe), seconds_of(probe.role)) for probe in probes]
            return time_with_reference(calls, self._beside, clock_of(self._threads))

    def _ready(self, probe: Probe) -> Call:
        if self._engine == "onnxruntime":
            return call_of(timed_graph(probe.node, probe.shape).SerializeToString(), self._threads)
        shape = (1, probe.shape.channels, probe.shape.side, probe.shape.side)
        images = torch.from_numpy(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
        tensor = images.contiguous(memory_format=torch.channels_last)
        module = build_part(probe.node).eval().to(memory_format=torch.channels_last)
        return lambda: module(tensor)


def _opened(file: Path, engine: Engine, threads: int) -> DeviceProfile:
    here = DeviceProfile(
        engine=engine,
        threads=threads,
        processor=processor(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=tuple((name, metadata.version(name)) for name in ("triscale", engine)),
    )
    if not file.is_file():
        if not file.parent.is_dir():
            raise UserError(f"there is no folder {file.parent} for {file.name}; give --out in one that exists")
        return here
    found = DeviceProfile.load(file)
    for name in ("engine", "threads", "processor"):
        old, new = getattr(found, name), getattr(here, name)
        if old != new:
            raise UserError(f"{file} is a profile with {name} {old}, not {new}; give another file with --out")
    return found
