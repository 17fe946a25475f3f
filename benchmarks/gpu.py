"""Everything that has to be checked and measured on a GPU, in one resumable call.

The parts run in order of their value, each in its own process: gradients of every family against the CPU, trainings
(resumed bitwise, without waiting for the device, with bad batches and little memory), process groups, throughput and
memory compared with timm and torchvision, fused chains, and ``triscale compare`` on CIFAR-10. Every figure is written
at once to ``gpu_PART.json`` in the folder of results.

A call ends in time (``--limit``), and the same call continues with what is missing. A row that fails is written with
its traceback, and the others go on; ``--retry`` computes the failed ones again. The exit code is 0 if everything is
done and passes, 1 if something failed, 3 if another call is needed, and 2 for a mistake in the options.

On a machine where the package is not installed: ``PYTHONPATH=src python benchmarks/gpu.py --images CIFAR10``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gpu_parts.rows import DeviceLostError, OutOfTimeError, Result, Rows, Setting, child_environment
from triscale.errors import UserError
from triscale.measurement.device import machine
from triscale.training.accelerator import device_name
from triscale.training.context import choose_device

PARTS = ("gradients", "training", "processes", "speed", "fused", "compare")
DONE, FAILED, MISTAKE, UNFINISHED, LOST = 0, 1, 2, 3, 4
START_SECONDS, GRACE_SECONDS = 20, 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are missing, and return the exit code."""
    started = time.time()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, xpu or mps")
    parser.add_argument("--limit", type=float, default=2400, help="seconds within which this call ends")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--images", default="cifar10", help="CIFAR-10: a folder, or the name in the cache")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--retry", action="store_true", help="compute failed rows again")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to test the campaign; also on a CPU")
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)  # this process computes one part until then
    given = parser.parse_args(arguments)
    try:
        setting = setting_of(given, given.deadline or started + given.limit)
        if given.deadline is not None:
            return compute(Rows(given.parts[0], setting))
        return campaign(given, setting)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE


def setting_of(given: argparse.Namespace, deadline: float) -> Setting:
    """Return how the campaign runs.

    Raises:
        UserError: There is no such device, or the options do not go together.
    """
    device = choose_device(given.device)
    if device.type == "cpu" and not given.tiny:
        raise UserError("there is no GPU here; give --tiny to test the campaign itself on the CPU")
    if given.limit <= 0:
        raise UserError(f"--limit {given.limit:g} is no time; give a number of seconds, such as 540")
    if given.tiny and given.out == Path(__file__).parent / "results":
        raise UserError("--tiny gives no results to keep; give another folder with --out")
    described = machine().model_dump(mode="json", exclude={"packages"})
    described |= {"accelerator": device_name(device), "torch": str(torch.__version__), "cuda": torch.version.cuda}
    return Setting(
        device=device,
        tiny=given.tiny,
        out=given.out.resolve(),
        deadline=deadline,
        images=given.images,
        machine=described,
    )


def campaign(given: argparse.Namespace, setting: Setting) -> int:
    """Run each part in its own process until all have ended or the time is up."""
    for part in given.parts:
        rows = Rows(part, setting)
        if given.retry and rows.failed:
            rows.forget_failed()
        while rows.status == "unfinished":
            if setting.seconds_left < START_SECONDS:
                break
            print(f"{part}: {setting.seconds_left:.0f} s are left", flush=True)
            code = in_own_process(part, given, setting)
            rows = Rows(part, setting)
            if code == UNFINISHED:
                break  # the next part may have rows that take less time
    return summarize([Rows(part, setting) for part in given.parts])


def in_own_process(part: str, given: argparse.Namespace, setting: Setting) -> int:
    """Compute a part in a new process, which is killed if it does not end in time; return its exit code."""
    command = [sys.executable, __file__, "--device", str(setting.device), "--out", str(setting.out)]
    command += ["--images", given.images, "--parts", part, "--deadline", repr(setting.deadline)]
    command += ["--tiny"] * setting.tiny
    environment = child_environment() | {"TORCHINDUCTOR_CACHE_DIR": str(setting.work / "compiled")}
    # Needed by deterministic matrix products on CUDA, before torch starts.
    environment.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
        try:
            code = process.wait(timeout=setting.seconds_left + GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = UNFINISHED
        errors.seek(0)
        text = errors.read()[-3000:]
    if code not in {DONE, UNFINISHED, LOST}:
        print(f"{part}: the process ended with {code}\n{text}", flush=True)
        mark_crash(Rows(part, setting), code, text)
    return code


def mark_crash(rows: Rows, code: int, text: str) -> None:
    """Record how a process ended that was computing a row; without a row the part itself failed."""
    rows.attempts = rows.attempts or {"start": 99}
    for key in [key for key, tried in rows.attempts.items() if tried > 1]:
        rows.rows[key] = {"error": f"the process ended with {code}", "traceback": text}
        del rows.attempts[key]
    if "start" in rows.rows:
        rows.status = "failed"
    rows.write()


def compute(rows: Rows) -> int:
    """Compute the rows of a part that are missing, in this process; return its exit code.

    It is 0 also if rows failed: 1 is that of a process that Python ends with an exception.
    """
    if rows.status == "unfinished":
        try:
            importlib.import_module(f"gpu_parts.{rows.part}").run(rows)
        except OutOfTimeError as error:
            print(f"{rows.part}: {error}", flush=True)
            return UNFINISHED
        except DeviceLostError as error:
            print(f"{rows.part}: the device does not answer, a new process continues ({error})", flush=True)
            return LOST
        rows.finish()
    return DONE


def summarize(parts: list[Rows]) -> int:
    """Print what each part has, and return the exit code of the campaign."""
    for rows in parts:
        unavailable = [key for key, row in rows.rows.items() if "unavailable" in row]
        counts = f"{len(rows.rows)} rows, {len(rows.failed)} failed, {len(unavailable)} unavailable"
        print(f"{rows.part:10} {rows.status:10} {counts}")
        for key in rows.failed:
            row: Result = rows.rows[key]
            print(f"  {key}: {row.get('error') or '; '.join(row['failed'])}"[:300])
        for key in unavailable:
            print(f"  {key}: {rows.rows[key]['unavailable']}"[:300])
    states = {rows.status for rows in parts}
    if "unfinished" in states:
        print("the same command continues")
        return UNFINISHED
    return FAILED if "failed" in states else DONE


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
