"""``triscale compare`` on CIFAR-10 with several seeds: what a GPU is for, and every part of a training on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from gpu_parts.rows import OutOfTimeError, Result, Rows, Setting, UnavailableError, child_environment

SEEDS = (0, 1, 2, 3, 4)
MIN_SECONDS, GRACE_SECONDS = 120, 45
BASELINE = Path(__file__).parent.parent / "small20.json"


def run(rows: Rows) -> None:
    """Compare the four ways to scale at four times the cost, with more seeds from row to row."""
    for count in (1,) if rows.setting.tiny else (1, len(SEEDS)):
        name = f"{count} seeds"
        rows.once(name, lambda count=count: compare(SEEDS[:count], rows.setting), seconds=MIN_SECONDS)


def compare(seeds: tuple[int, ...], setting: Setting) -> Result:
    """Run the command until it ends or the time is up; the next call resumes it in the same folder."""
    if setting.images != "cifar10" and not Path(setting.images).is_dir():
        raise UnavailableError(f"there is no folder {setting.images}; give --images with the folder of CIFAR-10")
    options = ["--epochs", "1", "--share", "0.1"] if setting.tiny else ["--epochs", "12"]
    cores = os.cpu_count() or 1
    # One GPU serves several small trainings at once; each decodes its images in its own threads.
    workers = 1 if setting.device.type == "cpu" else max(1, min(4, cores // 4))
    arguments = [
        *(sys.executable, "-m", "triscale", "compare", setting.images, "--baseline", str(BASELINE)),
        *("--times", "4", "--seeds", ",".join(map(str, seeds)), "--device", setting.device.type),
        *("--workers", str(workers), "--threads", str(max(1, cores // workers) if workers > 1 else 1)),
        *("--out", str(setting.work / f"compare-{len(seeds)}"), "--json", *options),
    ]
    process = subprocess.Popen(
        arguments,
        env=child_environment() | {"TRISCALE_OFFLINE": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        output, errors = process.communicate(timeout=max(1.0, setting.seconds_left - GRACE_SECONDS))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)  # it saves
        try:
            process.communicate(timeout=GRACE_SECONDS - 10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        raise OutOfTimeError("the comparison is resumed by the next call") from None
    if process.returncode:
        sentence = " ".join(errors.split())
        if "No module named" in sentence or ("cifar10" in sentence and "TRISCALE_OFFLINE" in sentence):
            raise UnavailableError(sentence[-500:])
        raise RuntimeError(f"triscale compare ended with {process.returncode}: {errors[-3000:]}")
    compared = json.loads(output)
    macs = {each["way"]: each["macs"]["achieved"] for each in compared["comparison"]["contenders"]}
    shown = " ".join(arguments[2:]).replace(str(setting.out), "OUT").replace(str(BASELINE), BASELINE.name)
    return {
        "command": shown.replace(setting.images, Path(setting.images).name),
        "macs": macs,
        **{name: compared[name] for name in ("proxy", "outcomes", "limitations")},
    }
