"""Profiles of devices that Triscale does not run on: a folder of graphs goes there, times come back."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from triscale.deploy.graph import SharedWeights, timed_graph
from triscale.errors import RecordError, UserError
from triscale.jobs.profile.probes import Probe, all_probes, beside
from triscale.measure import runner
from triscale.measure.profile import fit_predictor
from triscale.network.latency import DeviceProfile, Timing
from triscale.record import Record

REFERENCE = "beside.onnx"


class ProbeTimes(Record):
    """What the runner wrote on the device: milliseconds of each graph, and of the one beside it, by file."""

    key: str
    processor: str
    system: str
    onnxruntime: str
    times: dict[str, tuple[float, float]] = Field(min_length=1)


class ProbePlan(Record):
    """What the runner is to time."""

    key: str
    threads: int
    beside: str
    probes: tuple[dict[str, str], ...]


def export_plan(folder: Path, threads: int, probes: Sequence[Probe] | None = None) -> int:
    """Write graphs, their plan and the runner into a new folder; returns the number of graphs.

    Raises:
        UserError: the folder is there already, and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; give a new folder with --export")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = all_probes() if probes is None else tuple(probes)
    shared = SharedWeights()
    for file, probe in [*_files(wanted).items(), (REFERENCE, beside())]:
        (folder / file).write_bytes(timed_graph(probe.node, probe.shape, shared).SerializeToString())
    shared.save(folder)
    plan = ProbePlan(
        key=_key(wanted),
        threads=threads,
        beside=REFERENCE,
        probes=tuple({"file": file, "role": probe.role} for file, probe in _files(wanted).items()),
    )
    shutil.copyfile(runner.__file__, folder / "runner.py")
    (folder / runner.PLAN).write_text(plan.to_json())
    return len(wanted)


def import_times(source: Path, out: Path, probes: Sequence[Probe] | None = None) -> DeviceProfile:
    """Make a profile of what the runner wrote.

    Args:
        source: the folder with plan and times.
        out: file of the profile.
        probes: what was exported.

    Raises:
        RecordError: there are no times, not all of them, or those of another version's graphs.
    """
    plan, times = (
        record.load(source / name) for record, name in ((ProbePlan, runner.PLAN), (ProbeTimes, runner.TIMES))
    )
    assert isinstance(plan, ProbePlan)
    assert isinstance(times, ProbeTimes)
    wanted = _files(all_probes() if probes is None else tuple(probes))
    if times.key != _key(tuple(wanted.values())):
        raise RecordError(f"{source} was exported by another version of Triscale; export and time it again")
    missing = len(wanted.keys() - times.times.keys())
    if missing:
        raise RecordError(f"{source / runner.TIMES} lacks {missing} of {len(wanted)} graphs; run runner.py there again")
    timings = tuple(
        Timing(
            name=probe.name,
            role=probe.role,
            figures=probe.figures,
            milliseconds=times.times[file][0],
            beside=times.times[file][1],
        )
        for file, probe in wanted.items()
    )
    made = DeviceProfile(
        engine="onnxruntime",
        threads=plan.threads,
        processor=times.processor,
        system=times.system,
        versions=(("onnxruntime", times.onnxruntime),),
        timings=timings,
    )
    made = made.replace(predictor=fit_predictor(made))
    made.save(out)
    return made


def _files(probes: Sequence[Probe]) -> dict[str, Probe]:
    return {f"{number:04d}.onnx": probe for number, probe in enumerate(probes)}


def _key(probes: Sequence[Probe]) -> str:
    names = json.dumps([(probe.role, probe.name) for probe in probes])
    return hashlib.sha256(names.encode()).hexdigest()
