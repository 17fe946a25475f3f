"""Try millions of inputs on everything that reads files and requests from outside.

Atheris (``pip install atheris``, Linux) changes valid inputs, guided by which code they reach. An input that makes a
reader raise what it may not, crash, take more than ten seconds or 4 GB fails; it is written to ``tests/fuzz/found`` and
belongs into a commit with its mend. The inputs are distributed over the targets of ``tests/fuzz/targets.py``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOUND = ROOT / "tests/fuzz/found"
MAX_FAULTS = 20
MAX_SECONDS_EACH, MAX_MEGABYTES, MAX_BYTES = 10, 4096, 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=float, default=1e7, help="number of inputs, over all targets (default 1e7)")
    parser.add_argument("--minutes", type=float, default=600, help="maximum time, over all targets (default 600)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_target(arguments.run, arguments.rest)
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from fuzz.targets import TARGETS  # noqa: PLC0415

    names = [arguments.target] if arguments.target else list(TARGETS)
    print(f"$ python benchmarks/fuzz.py {' '.join(sys.argv[1:])}")
    print(f"{'target':<24} {'inputs':>10} {'per second':>11} {'faults':>7}")
    total = faults = 0
    for number, name in enumerate(names):
        seconds = arguments.minutes * 60 / len(names)
        tried, took, found = fuzz(name, int(arguments.inputs / len(names)), seconds, arguments.seed + number)
        print(f"{name:<24} {tried:>10,} {tried / took:>11,.0f} {found:>7}", flush=True)
        total, faults = total + tried, faults + found
    print(f"{'all':<24} {total:>10,} {'':>11} {faults:>7}")


def fuzz(name: str, inputs: int, seconds: float, seed: int) -> tuple[int, float, int]:
    """Return how many inputs were tried, in how many seconds, and how many failed."""
    found = FOUND / name.replace(" ", "_")
    started, tried, faults = time.monotonic(), 0, 0
    with tempfile.TemporaryDirectory() as corpus:
        while tried < inputs and time.monotonic() - started < seconds and faults < MAX_FAULTS:
            found.mkdir(parents=True, exist_ok=True)
            limits = (f"-runs={inputs - tried}", f"-max_total_time={int(seconds - (time.monotonic() - started)) + 1}")
            options = (
                *limits, f"-seed={seed + faults}", f"-timeout={MAX_SECONDS_EACH}", f"-rss_limit_mb={MAX_MEGABYTES}",
                f"-max_len={MAX_BYTES}", f"-artifact_prefix={found}/", "-print_final_stats=1",
            )  # fmt: skip
            done = subprocess.run(
                [sys.executable, __file__, "--run", name, "--", *options, corpus],
                capture_output=True, text=True, errors="replace", check=False,
            )  # fmt: skip
            counted = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
            if counted is None:
                sys.exit(f"the fuzzer did not run:\n{done.stderr[-3000:]}")
            tried += int(counted[1])
            if done.returncode:
                faults += 1
                print("\n".join(done.stderr.splitlines()[-40:]), file=sys.stderr)
        if not any(found.iterdir()):
            found.rmdir()
    return tried, time.monotonic() - started, faults


def run_target(name: str, options: list[str]) -> None:
    """Try inputs on a target until one fails; called in a process of its own."""
    import atheris  # noqa: PLC0415

    sys.path.insert(0, str(ROOT / "tests"))
    with atheris.instrument_imports(include=["triscale"]):
        from fuzz.targets import TARGETS, accepts  # noqa: PLC0415

    target, corpus = TARGETS[name], Path(options[-1])
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *options], lambda content: accepts(target, content))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
