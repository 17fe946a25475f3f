"""Profiles of devices without Triscale: export a folder of ONNX graphs, time them on the device, import the times."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from triscale.deploy.graph import SharedWeights, timed_graph
from triscale.errors import RecordError, UserError
from triscale.jobs.profile.probes import Probe, all_probes, reference_probe
from triscale.measurement import runner
from triscale.measurement.profile import fit_predictor
from triscale.network.latency import DeviceProfile, Timing
from triscale.record import Record

REFERENCE = "reference.onnx"


class ProbeTimes(Record):
    """The runner's result: for each file, the latency of its graph and of the reference network in milliseconds."""

    key: str
    processor: str
    system: str
    onnxruntime: str
    times: dict[str, tuple[float, float]] = Field(min_length=1)


class ProbePlan(Record):
    """The graphs that the runner times on the device."""

    key: str
    threads: int
    reference: str
    probes: tuple[dict[str, str], ...]


def export_plan(folder: Path, threads: int, probes: Sequence[Probe] | None = None) -> int:
    """Write the graphs, their plan and the runner into a new folder; return the number of graphs.

    Raises:
        UserError: The folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; give a new folder with --export")
    folder.mkdir(parents=True, exist_ok=True)
    selected = all_probes() if probes is None else tuple(probes)
    shared = SharedWeights()
    for file, probe in [*_files(selected).items(), (REFERENCE, reference_probe())]:
        (folder / file).write_bytes(timed_graph(probe.node, probe.shape, shared).SerializeToString())
    shared.save(folder)
    plan = ProbePlan(
        key=_key(selected),
        threads=threads,
        reference=REFERENCE,
        probes=tuple({"file": file, "role": probe.role} for file, probe in _files(selected).items()),
    )
    shutil.copyfile(runner.__file__, folder / "runner.py")
    (folder / runner.PLAN).write_text(plan.to_json())
    return len(selected)


def import_times(source: Path, out: Path, probes: Sequence[Probe] | None = None) -> DeviceProfile:
    """Create a profile from the times that the runner wrote.

    Args:
        source: Folder with the plan and the times.
        out: File of the profile.
        probes: The exported probes; by default :func:`triscale.jobs.profile.probes.all_probes`.

    Returns:
        The profile.

    Raises:
        RecordError: Times are missing, or belong to graphs of another version of Triscale.
    """
    plan, times = (
        record.load(source / name) for record, name in ((ProbePlan, runner.PLAN), (ProbeTimes, runner.TIMES))
    )
    assert isinstance(plan, ProbePlan)
    assert isinstance(times, ProbeTimes)
    files = _files(all_probes() if probes is None else tuple(probes))
    if times.key != _key(tuple(files.values())):
        raise RecordError(f"{source} was exported by another version of Triscale; export and time it again")
    missing = len(files.keys() - times.times.keys())
    if missing:
        raise RecordError(
            f"{source / runner.TIMES} lacks the times of {missing} of {len(files)} graphs; run runner.py on the device "
            "again"
        )
    timings = tuple(
        Timing(
            name=probe.name,
            role=probe.role,
            figures=probe.figures,
            milliseconds=times.times[file][0],
            reference_ms=times.times[file][1],
        )
        for file, probe in files.items()
    )
    profile = DeviceProfile(
        engine="onnxruntime",
        threads=plan.threads,
        processor=times.processor,
        system=times.system,
        versions=(("onnxruntime", times.onnxruntime),),
        timings=timings,
    )
    profile = profile.replace(predictor=fit_predictor(profile))
    profile.save(out)
    return profile


def _files(probes: Sequence[Probe]) -> dict[str, Probe]:
    return {f"{number:04d}.onnx": probe for number, probe in enumerate(probes)}


def _key(probes: Sequence[Probe]) -> str:
    names = json.dumps([(probe.role, probe.name) for probe in probes])
    return hashlib.sha256(names.encode()).hexdigest()
